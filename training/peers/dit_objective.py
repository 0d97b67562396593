"""What the diffusion transformer is trained on: flow matching of all tokens of a picture, at the same time of the flow.

Letters in shapes: B batch, N image tokens, C token channels.
"""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from jepa_app.checkpoint import save_network
from jepa_app.generation.flow import FlowMatching
from jepa_app.models.text import TextFeatures
from jepa_app.models.tokenizers.tokenizer import Tokenizer
from training.data.batches import Batch
from training.objectives.image_tokens import ImageTokenObjective, drop_texts
from training.objectives.jepa_t import check_times
from training.objectives.text_cache import TextCache
from training.peers.dit import Dit, DitPipeline
from training.settings import require_shares


@dataclass(frozen=True, kw_only=True)
class DitLoss:
    """`text_drop` is the probability of the null text; times are logit-normal (`FlowMatching`)."""

    text_drop: float = 0.1
    time_mean: float = FlowMatching.time_mean
    time_std: float = FlowMatching.time_std

    def __post_init__(self) -> None:
        require_shares(self, ["text_drop"], "loss.")
        check_times(self.time_mean, self.time_std)


class DitObjective(ImageTokenObjective[Dit]):
    """The flow-matching loss of a diffusion transformer."""

    def __init__(self, network: Dit, tokenizer: Tokenizer, text: TextCache, *, ema_decay: float, loss: DitLoss) -> None:
        super().__init__(network, tokenizer, text, num_places=network.config.num_places, ema_decay=ema_decay)
        self.settings = loss
        self.flow = FlowMatching(time_mean=loss.time_mean, time_std=loss.time_std)

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return "loss": the squared error of the velocity, averaged over pictures, tokens and channels."""
        tokens, text = self.inputs(batch)
        text = drop_texts(text, self.network.null_text, self.settings.text_drop, generator)
        return {"loss": _flow_loss(self.flow, self.network, text, tokens, generator)}

    @torch.no_grad()
    def validate(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Return the averaged network's loss of all tokens at once over four draws; it is not a loss of JEPA-T's."""
        tokens, text = self.inputs(batch)
        losses = [_flow_loss(FlowMatching(), self.ema.network, text, tokens, generator) for _ in range(4)]
        return {"joint_denoising_loss": float(torch.stack(losses).mean())}

    def finished(self) -> DitPipeline:
        """Return the averaged network as a sampler."""
        return DitPipeline(self.tokenizer, self.ema.network, self.text.encoder)

    def save(self, folder: Path) -> None:
        """Write the averaged network, in half precision, and the tokenizer: all that the evaluation loads."""
        save_network(folder / "tokenizer", self.tokenizer, self.tokenizer.config)
        save_network(folder / "dit", copy.deepcopy(self.ema.network).half(), self.network.config)


def _flow_loss(
    flow: FlowMatching, network: Dit, text: TextFeatures, tokens: Tensor, generator: torch.Generator
) -> Tensor:
    """The loss of tokens (B, N, C), all tokens of a picture at the same time of the flow."""
    shape = tokens.shape

    def predict(x: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        del condition  # the text, which has a mask too
        predicted: Tensor = network(x.view(shape), time, text)
        return predicted.flatten(1)

    return flow.loss(predict, text.tokens, tokens.flatten(1), generator).mean()

"""What the diffusion transformer is trained on: flow matching of all tokens of a picture, at one time for all of them.

Letters in shapes: B batch, N image tokens, C token channels.
"""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from jepa_app.checkpoint import save_network
from jepa_app.generation.flow import FlowMatching
from jepa_app.models.text import TextFeatures
from jepa_app.models.tokenizer import Tokenizer
from jepa_app.pixels import picture_grid
from training.data.batches import Batch
from training.objectives.ema import Ema
from training.objectives.jepa_t import PREVIEW_PROMPTS, check_times
from training.objectives.text_cache import TextCache
from training.peers.dit import Dit, DitPipeline


@dataclass(frozen=True, kw_only=True)
class DitLoss:
    """`text_drop` is the probability of the null text; times are logit-normal (`FlowMatching`)."""

    text_drop: float = 0.1
    time_mean: float = FlowMatching.time_mean
    time_std: float = FlowMatching.time_std

    def __post_init__(self) -> None:
        if not 0 <= self.text_drop <= 1:
            raise ValueError(f"loss.text_drop is {self.text_drop}; allowed: 0 to 1")
        check_times(self.time_mean, self.time_std)


class DitObjective(nn.Module):
    """Network, its moving average and everything needed to turn a batch into a loss."""

    def __init__(self, network: Dit, tokenizer: Tokenizer, text: TextCache, *, ema_decay: float, loss: DitLoss) -> None:
        super().__init__()
        self.network = network
        self.ema = Ema(network, ema_decay)
        self.tokenizer = tokenizer.eval().requires_grad_(False)
        self.text = text
        self.settings = loss
        self.flow = FlowMatching(time_mean=loss.time_mean, time_std=loss.time_std)

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return "loss": the squared error of the velocity, averaged over pictures, tokens and channels."""
        tokens, text = self._inputs(batch)
        drop = torch.rand(len(tokens), generator=generator, device=generator.device) < self.settings.text_drop
        return {"loss": _flow_loss(self.flow, self.network, self.network.drop_text(text, drop), tokens, generator)}

    def _inputs(self, batch: Batch) -> tuple[Tensor, TextFeatures]:
        device = self.network.null_text.device
        text = self.text.features(batch.captions).to(device, torch.float32)
        with torch.no_grad():
            return self.tokenizer.encode(batch.pixels.to(device)), text

    def after_step(self, step: int) -> None:
        """Let the moving average follow the network after step `step`, counted from 0."""
        self.ema.update(self.network, step)

    @torch.no_grad()
    def validate(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Return the averaged network's loss of all tokens at once over four draws; it is not one of JEPA-T's."""
        tokens, text = self._inputs(batch)
        losses = [_flow_loss(FlowMatching(), self.ema.network, text, tokens, generator) for _ in range(4)]
        return {"joint_denoising_loss": float(torch.stack(losses).mean())}

    def preview(self) -> Image.Image:
        """Sample one picture per prompt of `PREVIEW_PROMPTS` from the averaged network, in rows of six."""
        pipeline = DitPipeline(self.tokenizer, self.ema.network, self.text.encoder)
        generators = [torch.Generator().manual_seed(index) for index in range(len(PREVIEW_PROMPTS))]
        return picture_grid(pipeline(PREVIEW_PROMPTS, generator=generators).images, columns=6)

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

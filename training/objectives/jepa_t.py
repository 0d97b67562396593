"""What JEPA-T is trained on: denoising loss of tokens plus prediction loss of features.

paper word -> code: L_d `denoising_loss`, L_p `prediction_loss`, f-bar `target_encoder` (the context encoder of the
moving average), tau `ema_decay`.
Letters in shapes: B batch, N image tokens, T including those of the plan, M asked tokens, C token channels, D width.
"""

import copy
import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import smooth_l1_loss

from jepa_app.checkpoint import save_network
from jepa_app.generation.flow import Denoising, FlowMatching, make_denoising
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.generation.vocabulary import Vocabulary
from jepa_app.models.d_jepa import ContextEncoder
from jepa_app.models.jepa_t import JepaT
from jepa_app.models.text import TextFeatures
from jepa_app.models.tokenizers.tokenizer import Tokenizer
from training.data.batches import Batch
from training.objectives.asking import REVEALED_FRACTIONS, Asked, ask, denoising_loss, losses_when_revealed, take
from training.objectives.image_tokens import ImageTokenObjective, drop_texts
from training.objectives.text_cache import TextCache
from training.optimisation.compiling import TEXT_LENGTHS, compile_blocks, not_compiling
from training.settings import require_at_least, require_shares


def check_times(mean: float, std: float) -> None:
    """Refuse an impossible distribution of times.

    Raises:
        ValueError: the mean is not a number, or the standard deviation is below zero or not a number.
    """
    if not (math.isfinite(mean) and 0 <= std < math.inf):
        raise ValueError(f"loss.time_mean, time_std are {mean}, {std}; allowed: numbers, std >= 0")


@dataclass(frozen=True, kw_only=True)
class JepaTLoss:
    """Weights and shares of the JEPA-T objective.

    `text_drop` is the probability of the null text, `denoising_draws` how often each token's noise and time are drawn
    per picture, `prediction_weight` the weight of L_p relative to L_d: 1 in the published code, whose smooth L1 with
    beta 2 counts a quarter of a small squared error; 16 trained best here. The last three are the flow's
    (`FlowMatching`): the times at which it is learnt, and how much late times count; with a `min_denominator` of 1 the
    error is that of the clean token instead of the velocity.

    Where the network makes a plan, its few tokens have their own mean denoising loss, with `plan_weight` and
    `plan_draws`; a share `without_plan` of the batches teaches it to redo a part. `context_noise` is the greatest
    strength of the noise on the tokens that the context sees, in standard deviations.
    """

    prediction_weight: float = 16.0
    text_drop: float = 0.1
    denoising_draws: int = 2
    time_mean: float = FlowMatching.time_mean
    time_std: float = FlowMatching.time_std
    min_denominator: float = FlowMatching.min_denominator
    plan_weight: float = 1.0
    plan_draws: int = 8
    without_plan: float = 0.15
    context_noise: float = 0.0

    def __post_init__(self) -> None:
        require_shares(self, ["text_drop", "without_plan"], "loss.")
        least = {"denoising_draws": 1, "prediction_weight": 0, "plan_weight": 0, "plan_draws": 1, "context_noise": 0}
        require_at_least(self, least, "loss.")
        check_times(self.time_mean, self.time_std)
        if not 0 < self.min_denominator <= 1:
            raise ValueError(f"loss.min_denominator is {self.min_denominator}; allowed: above 0, up to 1")

    def denoising(self, name: str) -> Denoising:
        """Return the denoising process that a network's config names, with these settings if it is the flow."""
        process = make_denoising(name)
        if not isinstance(process, FlowMatching):
            return process
        return replace(process, time_mean=self.time_mean, time_std=self.time_std, min_denominator=self.min_denominator)


class JepaTObjective(ImageTokenObjective[JepaT]):
    """JEPA-T's denoising and prediction losses, with the network's denoising process.

    `in_bfloat16` computes with bfloat16 copies of the weights, which stay in float32 themselves. `compiled` lets torch
    compile the network's blocks for its training steps. The `vocabulary` of the captions is kept with the weights.
    """

    def __init__(
        self,
        network: JepaT,
        tokenizer: Tokenizer,
        text: TextCache,
        *,
        ema_decay: float,
        loss: JepaTLoss,
        in_bfloat16: bool = False,
        compiled: bool = False,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        super().__init__(network, tokenizer, text, num_places=network.config.num_places, ema_decay=ema_decay)
        self.settings = loss
        self.in_bfloat16 = in_bfloat16
        self.vocabulary = vocabulary or Vocabulary()
        if compiled:
            self.text_lengths = TEXT_LENGTHS
            for one in (self.network, self.ema.network):
                compile_blocks(one)
        self.denoising = loss.denoising(network.config.denoising)
        self.measured_denoising = make_denoising(network.config.denoising)  # the same for all loss settings

    @property
    def target_encoder(self) -> ContextEncoder:
        """The context encoder of the moving average."""
        return self.ema.network.d_jepa.backbone.context_encoder

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return "loss" and its parts, "denoising_loss" (L_d) and "prediction_loss" (L_p), as scalars.

        Loss = L_d + prediction_weight * L_p. L_p is the smooth L1 distance (beta 2) between the head's prediction and
        the target encoder's features of the whole picture, as in D-JEPA's code. With a plan, L_d is the sum of the
        picture's mean and `plan_weight` times the plan's, which is reported as "plan_loss".
        """
        if self.in_bfloat16 and self.network.null_text.dtype == torch.float32:
            with torch.autocast(self.device.type, enabled=False):
                return functional_call(self, self._bfloat16_weights(), (batch, generator))
        settings, (tokens, text) = self.settings, self.inputs(batch)
        text = text.to(self.device, self.network.null_text.dtype)
        text = drop_texts(text, self.network.null_text, settings.text_drop, generator)
        asked = ask(self.network, text, self._planned(tokens, generator), generator, settings.context_noise)
        picture, plan = asked.parted(self.network.config.num_tokens)
        losses = {"denoising_loss": self._denoising_loss(picture, settings.denoising_draws, generator)}
        loss = losses["denoising_loss"]
        if plan.positions.shape[1]:
            losses["plan_loss"] = self._denoising_loss(plan, settings.plan_draws, generator)
            loss = loss + settings.plan_weight * losses["plan_loss"]
        if settings.prediction_weight:
            losses["prediction_loss"] = self._prediction_loss(asked, text, tokens)
            loss = loss + settings.prediction_weight * losses["prediction_loss"]
        return {"loss": loss} | {name: part.detach() for name, part in losses.items()}

    def _bfloat16_weights(self) -> dict[str, Tensor]:
        """Copies of the weights to compute with; gradients arrive at the weights themselves, in float32."""
        encoder = "ema.network.d_jepa.backbone.context_encoder"
        networks: dict[str, nn.Module] = {"network": self.network, encoder: self.target_encoder}
        return {
            f"{path}.{name}": weight.bfloat16()
            for path, network in networks.items()
            for name, weight in network.named_parameters()
        }

    def _planned(self, tokens: Tensor, generator: torch.Generator) -> Tensor:
        """Drop the plan from the tokens (B, T, C) of some batches."""
        if not self.network.config.plan:
            return tokens
        left_out = float(torch.rand((), generator=generator, device=generator.device)) < self.settings.without_plan
        return tokens[:, : self.network.config.num_tokens] if left_out else tokens

    def _denoising_loss(self, asked: Asked, draws: int, generator: torch.Generator) -> Tensor:
        return denoising_loss(self.denoising, self.network, asked, generator, draws).mean()

    def _prediction_loss(self, asked: Asked, text: TextFeatures, tokens: Tensor) -> Tensor:
        predicted = self.network.d_jepa.prediction_head(asked.condition)
        with torch.no_grad():
            target = take(self.target_encoder.whole(self.network.prefix_of(text), tokens), asked.positions)
        return smooth_l1_loss(predicted.float(), target.float(), beta=2.0)

    @torch.no_grad()
    def validate(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Return the averaged network's denoising loss at fixed revealed fractions, their mean under "denoising_loss".

        At each fraction some tokens are revealed in one block and all others asked at once, whatever the backbone.
        """
        tokens, text = self.inputs(batch)
        with not_compiling():
            losses = losses_when_revealed(self.measured_denoising, self.ema.network, text, tokens, generator)
        figures = {f"denoising_loss@{fraction}": loss for fraction, loss in losses.items()}
        figures["denoising_loss"] = sum(figures.values()) / len(REVEALED_FRACTIONS)
        return figures

    def preview(self) -> Image.Image | None:
        """Sample one picture per prompt, as the network is written."""
        with not_compiling():
            return super().preview()

    def finished(self) -> JepaTPipeline:
        """Return the averaged network as a sampler."""
        return JepaTPipeline(self.tokenizer, self.ema.network, self.text.encoder, self.vocabulary)

    def save(self, folder: Path) -> None:
        """Write the averaged network, the one to sample from, in half precision: half the size, the same pictures."""
        self._save(folder, self.ema.network)

    def save_unaveraged(self, folder: Path) -> None:
        """Write the network itself in half precision: after a short run it draws better than its average."""
        self._save(folder, self.network)

    def _save(self, folder: Path, network: JepaT) -> None:
        save_network(folder, copy.deepcopy(network).half(), network.config)
        self.vocabulary.save(folder)

"""What JEPA-T is trained on: denoising loss of tokens plus prediction loss of features.

paper word -> code: L_d `denoising_loss`, L_p `prediction_loss`, f-bar `target_encoder` (the context encoder of the
moving average), tau `ema_decay`.
Letters in shapes: B batch, N image tokens, T including those of the plan, M asked tokens, C token channels, D width.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn.functional import smooth_l1_loss

from jepa_app.checkpoint import save_network
from jepa_app.generation.flow import Denoising, FlowMatching, make_denoising
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.masking import masked_count, subset_counts
from jepa_app.models.d_jepa import ContextEncoder
from jepa_app.models.jepa_t import JepaT
from jepa_app.models.text import TextFeatures
from jepa_app.models.tokenizer import Tokenizer
from jepa_app.plan import random_orders_and_blocks
from training.data.batches import Batch
from training.objectives.image_tokens import ImageTokenObjective, drop_texts
from training.objectives.text_cache import TextCache
from training.settings import require_at_least, require_shares

REVEALED_FRACTIONS = (0.0, 0.15, 0.3, 0.5, 0.75, 0.9)


class Asked(NamedTuple):
    """Conditions (B, M, D) of asked tokens, their clean values (B, M, C) and their positions (B, M)."""

    condition: Tensor
    clean: Tensor
    positions: Tensor

    def parted(self, num_tokens: int) -> tuple["Asked", "Asked"]:
        """Return the part for the picture, of `num_tokens`, and the part for the plan, which was asked first."""
        planned = int((self.positions[0] >= num_tokens).sum())
        return Asked(*(part[:, planned:] for part in self)), Asked(*(part[:, :planned] for part in self))


def take(tokens: Tensor, positions: Tensor) -> Tensor:
    """Return tokens (B, N, X) at positions (B, L): (B, L, X)."""
    return tokens.gather(1, positions[:, :, None].expand(-1, -1, tokens.shape[-1]))


def random_orders(batch_size: int, num_tokens: int, generator: torch.Generator) -> Tensor:
    """Draw one generation order per picture from one generator: (B, N) long."""
    return torch.rand(batch_size, num_tokens, generator=generator, device=generator.device).argsort(dim=1)


def ask_all_blocks(
    network: JepaT,
    text: TextFeatures,
    tokens: Tensor,
    generator: torch.Generator,
    plan: Sequence[int],
    context_noise: float = 0.0,
) -> Asked:
    """Cached backbone: reveal and ask for all tokens (B, T, C) under random orders and random block boundaries.

    Levels of `plan` come first; an empty `plan` leaves the plan out. The context sees the tokens with noise of a
    strength drawn for each picture, up to `context_noise` standard deviations, as sampled tokens are not perfect.
    """
    order, blocks = random_orders_and_blocks(len(tokens), network.config.num_tokens, plan, generator)
    clean = take(tokens, order)
    seen = clean
    if context_noise:
        strength = torch.rand(len(clean), 1, 1, generator=generator, device=generator.device)
        noise = torch.randn(clean.shape, generator=generator, device=generator.device)
        seen = clean + context_noise * strength * noise
    context = network.extend(network.start(text).at(blocks), seen, order)
    return Asked(network.predict(context.at(blocks), order), clean, order)


def ask_masked(
    network: JepaT,
    text: TextFeatures,
    tokens: Tensor,
    generator: torch.Generator,
    num_masked: int,
    num_asked: int | None = None,
) -> Asked:
    """Bidirectional backbone: reveal all but `num_masked` tokens and ask for `num_asked` of these (None: all).

    The tokens of a plan are revealed too.
    """
    num_asked = num_masked if num_asked is None else num_asked
    batch, num_tokens = len(tokens), network.config.num_tokens
    order = random_orders(batch, num_tokens, generator)
    known, asked = order.split([num_tokens - num_masked, num_masked], dim=1)
    asked = asked[:, :num_asked]
    plan = torch.arange(num_tokens, tokens.shape[1], device=order.device).expand(batch, -1)
    known = torch.cat([plan, known], dim=1)
    context = network.extend(network.start(text).at(torch.zeros_like(known)), take(tokens, known), known)
    return Asked(network.predict(context.at(torch.ones_like(asked)), asked), take(tokens, asked), asked)


def ask(
    network: JepaT, text: TextFeatures, tokens: Tensor, generator: torch.Generator, context_noise: float = 0.0
) -> Asked:
    """Reveal and ask for what the backbone is trained on; with tokens (B, N, C) alone there is no plan."""
    num_tokens = network.config.num_tokens
    if network.config.backbone == "cached":
        plan = network.config.plan if tokens.shape[1] > num_tokens else ()
        return ask_all_blocks(network, text, tokens, generator, plan, context_noise)
    if network.asks_all_masked:
        return ask_masked(network, text, tokens, generator, masked_count(num_tokens, generator))
    masked, asked = subset_counts(num_tokens, generator)
    return ask_masked(network, text, tokens, generator, masked, asked)


def denoising_loss(process: Denoising, network: JepaT, asked: Asked, generator: torch.Generator, draws: int) -> Tensor:
    """Return the losses (draws, B, M) of asked tokens, noise and time drawn `draws` times for each."""
    condition, clean = (tensor.flatten(0, 1).repeat(draws, 1) for tensor in (asked.condition, asked.clean))
    return process.loss(network.denoiser, condition, clean, generator).view(draws, *asked.positions.shape)


def losses_when_revealed(
    process: Denoising, network: JepaT, text: TextFeatures, tokens: Tensor, generator: torch.Generator
) -> dict[float, float]:
    """Return the mean denoising loss of a picture's tokens at each revealed fraction, all others asked at once.

    Tokens of the plan, if present in (B, T, C), are revealed at every fraction.
    """
    num_tokens, losses = network.config.num_tokens, {}
    for fraction in REVEALED_FRACTIONS:
        asked = ask_masked(network, text, tokens, generator, num_tokens - round(fraction * num_tokens))
        losses[fraction] = float(denoising_loss(process, network, asked, generator, draws=4).mean())
    return losses


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

    `in_bfloat16` computes with bfloat16 copies of the weights, which stay in float32 themselves.
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
    ) -> None:
        super().__init__(network, tokenizer, text, num_places=network.config.num_places, ema_decay=ema_decay)
        self.settings = loss
        self.in_bfloat16 = in_bfloat16
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
        networks = {"network": self.network, "ema.network": self.ema.network}
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
        losses = losses_when_revealed(self.measured_denoising, self.ema.network, text, tokens, generator)
        figures = {f"denoising_loss@{fraction}": loss for fraction, loss in losses.items()}
        figures["denoising_loss"] = sum(figures.values()) / len(REVEALED_FRACTIONS)
        return figures

    def finished(self) -> JepaTPipeline:
        """Return the averaged network as a sampler."""
        return JepaTPipeline(self.tokenizer, self.ema.network, self.text.encoder)

    def save(self, folder: Path) -> None:
        """Write the averaged network, the one to sample from, in half precision: half the size, the same pictures."""
        save_network(folder, copy.deepcopy(self.ema.network).half(), self.network.config)

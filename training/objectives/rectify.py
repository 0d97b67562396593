"""Few-step denoising: the denoiser is trained again on pairs of noise and what its own flow turned it into.

Source: rectified flow (arXiv 2209.03003), second round ("reflow"): the straight lines between
noises and their images under the first flow do not cross, so the new flow is straight and one to four steps follow it.
Only the denoiser changes; the conditions are those of the frozen network.
Letters in shapes: M tokens, C token channels, D width.
"""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from jepa_app.checkpoint import save_network
from jepa_app.generation.flow import FlowMatching
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.generation.vocabulary import Vocabulary
from jepa_app.masking import draw
from jepa_app.models.denoiser import Denoiser
from jepa_app.models.jepa_t import JepaT
from jepa_app.models.tokenizers.tokenizer import Tokenizer
from training.data.batches import Batch
from training.objectives.asking import ask, solve
from training.objectives.image_tokens import ImageTokenObjective, drop_texts
from training.objectives.text_cache import TextCache
from training.settings import require_at_least, require_shares

FEW_STEPS = (1, 2, 3, 4)


@dataclass(frozen=True, kw_only=True)
class RectifyLoss:
    """How the pairs are made and at which times they are trained on.

    `teacher_steps` evaluations make the pairs; a share `at_noise` of the tokens is trained at time 0, where a one-step
    sampler asks, the others at logit-normal times around `time_mean`; `text_drop` is the share of the null text.
    """

    teacher_steps: int = 8
    at_noise: float = 0.4
    time_mean: float = -0.8
    text_drop: float = 0.3

    def __post_init__(self) -> None:
        require_at_least(self, {"teacher_steps": 1}, "loss.")
        require_shares(self, ["at_noise", "text_drop"], "loss.")


class RectifyObjective(ImageTokenObjective[Denoiser]):
    """A frozen network with a denoiser to train; the first denoiser stays as the teacher.

    The network's `vocabulary` is kept with the weights.
    """

    def __init__(
        self,
        network: JepaT,
        tokenizer: Tokenizer,
        text: TextCache,
        *,
        ema_decay: float,
        loss: RectifyLoss,
        vocabulary: Vocabulary | None = None,
    ) -> None:
        if network.config.denoising != "flow":
            raise ValueError(f"denoising is {network.config.denoising!r}; allowed: flow; only it can be straightened")
        teacher = network.eval().requires_grad_(False)
        trained = copy.deepcopy(teacher.denoiser).requires_grad_(True)
        super().__init__(trained, tokenizer, text, num_places=network.config.num_places, ema_decay=ema_decay)
        self.teacher = teacher
        self.settings = loss
        self.flow = FlowMatching(time_mean=loss.time_mean)
        self.vocabulary = vocabulary or Vocabulary()

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return "loss": the squared error of the velocity on straight lines between noise and its image."""
        condition, noise, image = self._pairs(batch, generator)
        at_noise = draw(torch.rand, (len(noise),), generator) < self.settings.at_noise
        loss = self.flow.loss(self.network, condition, image, generator, noise=noise, at_noise=at_noise).mean()
        return {"loss": loss}

    @torch.no_grad()
    def _pairs(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Conditions (M, D) of all tokens of a batch, noise (M, C) and its image (M, C) under the teacher's flow."""
        tokens, text = self.inputs(batch)
        text = drop_texts(text, self.teacher.null_text, self.settings.text_drop, generator)
        asked = ask(self.teacher, text, tokens, generator)
        condition = asked.condition.flatten(0, 1)
        noise = draw(torch.randn, asked.clean.shape, generator).flatten(0, 1)
        steps = self.settings.teacher_steps
        return condition, noise, solve(self.flow, self.teacher.denoiser, condition, noise, generator, num_steps=steps)

    @torch.no_grad()
    def validate(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Return the root mean square distance from the teacher's images after few steps, of both denoisers."""
        condition, noise, image = self._pairs(batch, generator)
        figures = {}
        for name, denoiser in (("rectified", self.ema.network), ("teacher", self.teacher.denoiser)):
            for steps in FEW_STEPS:
                drawn = solve(self.flow, denoiser, condition, noise, generator, num_steps=steps)
                distance = (drawn - image).square().mean().sqrt()
                figures[f"{name}_distance@{steps}"] = float(distance)
        return figures

    def preview(self) -> None:
        """Return None: `validate` measures everything a picture would show."""

    def finished(self) -> JepaTPipeline:
        """Return the whole network with the averaged denoiser, as a sampler."""
        whole = copy.deepcopy(self.teacher)
        whole.denoiser.load_state_dict(self.ema.network.state_dict())
        return JepaTPipeline(self.tokenizer, whole, self.text.encoder, self.vocabulary)

    def save(self, folder: Path) -> None:
        """Write the whole network with the averaged denoiser, in half precision."""
        network = self.finished().network
        save_network(folder, network.half(), network.config)
        self.vocabulary.save(folder)

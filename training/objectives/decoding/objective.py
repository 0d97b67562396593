"""What the decoder that sees the whole picture is trained on: pictures from their tokens, also noisy or made again.

Letters in shapes: B batch, S side of the decoded picture, D features.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import l1_loss, relu

from jepa_app.checkpoint import save_network
from jepa_app.masking import draw
from jepa_app.models.ti_jepa import ImageEncoder
from jepa_app.models.tokenizers.decoder import Layers
from jepa_app.models.tokenizers.resizing import resize_pixels
from jepa_app.models.tokenizers.tokenizer import LinearTokenizer
from jepa_app.pixels import picture_grid, to_pil
from training.data.batches import Batch
from training.objectives.decoding.critic import Critic
from training.objectives.decoding.regenerator import Regenerator
from training.objectives.objective import Objective
from training.objectives.tokenizer import signal_to_noise
from training.settings import require_at_least, require_shares

CRITIC_LEARNS = 200  # steps until the critic's word has its full weight


@dataclass(frozen=True, kw_only=True)
class DecoderLoss:
    """Weights of the decoder's loss beside the absolute errors of colours, opacity and their gradients.

    In a share `regenerated` of the batches JEPA-T makes a part of the tokens again, each from true ones before it; in a
    share `repainted` it paints the whole picture again, which it must know. `token_noise` is the greatest strength of
    the noise on the tokens of a picture in the other batches, in standard deviations; a share `clean` of these pictures
    has none. Gradients across the borders of tiles count `seams` times
    more. `composites` weighs the same errors of composites on random colours, which show the fringes of edges;
    `features` the distance between features of TI-JEPA's picture encoder. The critic judges patches of composites from
    step `critic_from` on, with weight `critic`; it sees squares of `critic_side` pixels, as it is local anyway.
    """

    token_noise: float = 0.6
    clean: float = 0.2
    regenerated: float = 0.25
    repainted: float = 0.0
    seams: float = 8.0
    composites: float = 0.5
    features: float = 0.05
    critic: float = 0.1
    critic_from: int = 1000
    critic_side: int = 128

    def __post_init__(self) -> None:
        require_shares(self, ["clean", "regenerated", "repainted"], "loss.")
        if self.regenerated + self.repainted > 1:
            raise ValueError(
                f"loss.regenerated is {self.regenerated} and loss.repainted is {self.repainted}; "
                "allowed: 0 to 1 together"
            )
        free = ("token_noise", "seams", "composites", "features", "critic", "critic_from")
        least = dict.fromkeys(free, 0) | {"critic_side": 16}
        require_at_least(self, least, "loss.")


class DecodingNetwork(nn.Module):
    """A tokenizer whose decoder is trained, and the critic that is trained against it."""

    def __init__(self, tokenizer: LinearTokenizer) -> None:
        super().__init__()
        assert tokenizer.decoder is not None
        self.tokenizer = tokenizer
        self.critic = Critic()


class DecoderObjective(Objective[DecodingNetwork]):
    """The decoder learns to draw pictures from tokens; the components stay as they are, so tokens stay valid.

    `image_encoder` is TI-JEPA's, frozen; `sample` (B, 3, S, S) are pictures to preview; without a `regenerator` no
    tokens are made again.
    """

    steps: Tensor

    def __init__(
        self,
        network: DecodingNetwork,
        image_encoder: ImageEncoder,
        sample: Tensor,
        regenerator: Regenerator | None = None,
        *,
        ema_decay: float,
        loss: DecoderLoss,
    ) -> None:
        super().__init__(network, ema_decay)
        self.regenerator = regenerator
        self.image_encoder = image_encoder.eval().requires_grad_(False)
        self.sample = sample
        self.settings = loss
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return "loss" and its parts as scalars. The critic's own loss is part of it, with gradients of its own."""
        truth = self._truth(batch)
        tokens, tokenizer = self._tokens(batch, generator), self.network.tokenizer
        assert tokenizer.decoder is not None
        drawn = Layers(*(layer.float() for layer in tokenizer.decoder(tokens, tokenizer.decode_linear(tokens))))
        errors = partial(_errors, seams=self.settings.seams, tile=drawn.colours.shape[-1] // tokenizer.config.grid)
        parts = {name: errors(*layers) for name, *layers in zip(Layers._fields, drawn, truth, strict=True)}
        if self.settings.composites:
            colour = _colours(drawn, generator)
            composites = errors(composite(drawn, colour), composite(truth, colour))
            parts["composites"] = self.settings.composites * composites
        if self.settings.features:
            parts["features"] = self.settings.features * self._feature_loss(drawn.colours, truth.colours)
        loss = sum(parts.values(), torch.zeros((), device=self.device))
        late = int(self.steps) - self.settings.critic_from
        if self.settings.critic and late >= 0:
            against, parts["critic"] = self._critic_losses(drawn, truth, generator)
            weight = self.settings.critic * min(1, late / CRITIC_LEARNS)
            loss = loss + weight * against + parts["critic"]
        return {"loss": loss} | {name: part.detach() for name, part in parts.items()}

    def _truth(self, batch: Batch) -> Layers:
        assert batch.opacity is not None
        return Layers(batch.pixels.to(self.device), batch.opacity.to(self.device))

    def after_step(self, step: int) -> None:
        """Let the moving average follow, and count the step for the critic."""
        super().after_step(step)
        self.steps.fill_(step + 1)

    def move_to(self, device: torch.device) -> None:
        """Encode captions on the device to train on."""
        if self.regenerator is not None:
            self.regenerator.text.move_to(device)

    @torch.no_grad()
    def _tokens(self, batch: Batch, generator: torch.Generator) -> Tensor:
        tokenizer, settings = self.network.tokenizer, self.settings
        small = resize_pixels(batch.pixels.to(self.device), tokenizer.config.image_size)
        with torch.autocast(self.device.type, enabled=False):
            with_plan = tokenizer.encode(small)
        if self.regenerator is not None:
            chance = float(torch.rand((), generator=generator, device=generator.device))
            if chance < settings.regenerated:
                return self.regenerator.partly(with_plan, batch.captions, generator)
            if chance < settings.regenerated + settings.repainted:
                with torch.autocast(self.device.type, enabled=False):
                    return self.regenerator.wholly(with_plan, batch.captions, generator)
        tokens = with_plan[:, : tokenizer.config.num_tokens]
        noisy, strength = (draw(torch.rand, (len(tokens), 1, 1), generator) for _ in range(2))
        strength = settings.token_noise * strength * (noisy >= settings.clean)
        noise = draw(torch.randn, tokens.shape, generator)
        return tokens + strength * noise

    def _feature_loss(self, drawn: Tensor, real: Tensor) -> Tensor:
        side = self.image_encoder.config.image_size
        everywhere = torch.arange(self.image_encoder.config.num_patches, device=self.device)
        with torch.no_grad():
            target = self.image_encoder(resize_pixels(real, side), everywhere)
        return l1_loss(self.image_encoder(resize_pixels(drawn, side), everywhere), target)

    def _critic_losses(self, drawn: Layers, truth: Layers, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return what the critic holds against the drawn pictures, and the hinge loss that the critic learns from."""
        critic = self.network.critic
        colour = _colours(drawn, generator)
        side, whole = self.settings.critic_side, drawn.colours.shape[-1]
        room = max(1, whole - side + 1)
        top, left = torch.randint(room, (2,), generator=generator, device=generator.device).tolist()
        fake, real = (
            composite(layers, colour)[:, :, top : top + side, left : left + side] for layers in (drawn, truth)
        )
        frozen = {name: weight.detach() for name, weight in critic.named_parameters()}
        score, features = functional_call(critic, frozen, (fake,))
        with torch.no_grad():
            _, wanted = functional_call(critic, frozen, (real,))
        matching = sum((l1_loss(a, b) for a, b in zip(features, wanted, strict=True)), torch.zeros(()).to(self.device))
        against = -score.mean() + 2 * matching
        learnt = relu(1 - critic(real)[0]).mean() + relu(1 + critic(fake.detach())[0]).mean()
        return against, learnt

    @torch.no_grad()
    def validate(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Return signal-to-noise ratios in decibels at both sizes, and how well what is opaque is found (IoU)."""
        tokenizer = self.finished()
        truth = self._truth(batch)
        small = resize_pixels(truth.colours, tokenizer.config.image_size)
        tokens = tokenizer.encode(small)
        noise = torch.randn(tokens.shape, generator=generator, device=generator.device)
        drawn, disturbed = tokenizer.decode_layers(tokens), tokenizer.decode_layers(tokens + 0.4 * noise)
        return {
            "psnr": signal_to_noise(resize_pixels(drawn.colours, small.shape[-1]), small),
            "psnr_large": signal_to_noise(drawn.colours, truth.colours),
            "psnr_noisy": signal_to_noise(resize_pixels(disturbed.colours, small.shape[-1]), small),
            "opaque_iou": opaque_iou(drawn.opacity, truth.opacity),
        }

    def finished(self) -> LinearTokenizer:
        """Return the averaged tokenizer."""
        return self.ema.network.tokenizer

    @torch.no_grad()
    def preview(self) -> Image.Image:
        """Return twelve pictures above their reconstructions."""
        tokenizer, pixels = self.finished(), self.sample[:12].to(self.device)
        tokens = tokenizer.encode(resize_pixels(pixels, tokenizer.config.image_size))
        return picture_grid(to_pil(pixels) + to_pil(tokenizer.decode_layers(tokens).colours), columns=12)

    def save(self, folder: Path) -> None:
        """Write the averaged tokenizer."""
        tokenizer = self.finished()
        save_network(folder, tokenizer, tokenizer.config)


def composite(layers: Layers, colour: Tensor) -> Tensor:
    """Put pictures on white on a colour (B, 3, 1, 1) in [-1, 1] instead: (B, 3, S, S)."""
    return layers.colours + (1 - layers.opacity) * (colour - 1)


def opaque_iou(drawn: Tensor, truth: Tensor) -> float:
    """Return the intersection over union of the opaque pixels of opacities (B, 1, S, S), over all pictures."""
    ours, theirs = drawn > 0.5, truth > 0.5
    return float((ours & theirs).sum() / (ours | theirs).sum().clamp(min=1))


def _errors(drawn: Tensor, truth: Tensor, seams: float, tile: int) -> Tensor:
    """Mean absolute error of pixels (B, ., S, S), and of their differences along both axes.

    Differences across the borders of tiles, `tile` pixels wide, count `seams` times more.
    """
    error = drawn - truth
    loss = error.abs().mean()
    for axis in (-1, -2):
        steps = error.diff(dim=axis).abs().transpose(axis, -1)  # (B, ., S, S - 1)
        loss = loss + steps.mean() + seams * steps[..., tile - 1 :: tile].sum() / steps.numel()
    return loss


def _colours(layers: Layers, generator: torch.Generator) -> Tensor:
    """Draw a colour for each picture: (B, 3, 1, 1) in [-1, 1]."""
    return 2 * draw(torch.rand, (len(layers.colours), 3, 1, 1), generator) - 1

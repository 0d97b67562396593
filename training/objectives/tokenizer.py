"""What picture tokenizers are trained on: reconstruction of pictures through tokens and back.

Letters in shapes: B batch, S picture side.
"""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import l1_loss, mse_loss

from jepa_app.checkpoint import load_network, save_network
from jepa_app.config import TokenizerConfig
from jepa_app.masking import draw
from jepa_app.models.tokenizers.tokenizer import Tokenizer, VaeTokenizer, make_tokenizer
from jepa_app.pixels import picture_grid, to_pil
from training.data.batches import Batch
from training.objectives.objective import Objective

KL_WEIGHT = 1e-6  # weight for the VAE: just enough to keep the latents bounded (latent diffusion's choice)


def signal_to_noise(pictures: Tensor, references: Tensor) -> float:
    """Return the peak signal-to-noise ratio in decibels, from the mean error over all pictures in [-1, 1]."""
    return float(-10 * torch.log10(((pictures - references) / 2).square().mean()))


class TokenizerObjective(Objective[Tokenizer]):
    """Reconstruction by squared plus absolute error; for a VAE also the divergence from a normal distribution.

    In a linear tokenizer only the refiner learns: its components stay as fitted, so tokens made before stay valid.
    Its tokens get noise of a random strength up to `token_noise` for each picture, so that it also repairs the
    seams between tokens that were predicted, not encoded.
    """

    def __init__(self, tokenizer: Tokenizer, sample: Tensor, *, ema_decay: float, token_noise: float) -> None:
        super().__init__(tokenizer, ema_decay)
        self.sample = sample  # (B, 3, S, S): pictures that the scale of VAE latents is measured on
        self.token_noise = token_noise

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return "loss" and its parts as scalars."""
        pixels = batch.pixels.to(self.device)
        if isinstance(self.network, VaeTokenizer):
            posterior = self.network.vae.encode(pixels).latent_dist
            noise = draw(torch.randn, posterior.mean.shape, generator)
            rendered = self.network.vae.decode(posterior.mean + posterior.std * noise).sample
            divergence = posterior.kl().mean()
        else:
            tokens = self.network.encode(pixels)
            noise = draw(torch.randn, tokens.shape, generator)
            strength = draw(torch.rand, (len(tokens), 1, 1), generator)
            rendered = self.network.render(tokens + self.token_noise * strength * noise)
            divergence = pixels.new_zeros(())
        squared, absolute = mse_loss(rendered, pixels), l1_loss(rendered, pixels)
        loss = squared + absolute + KL_WEIGHT * divergence
        return {"loss": loss, "squared_error": squared.detach(), "absolute_error": absolute.detach()}

    @torch.no_grad()
    def validate(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Return the signal-to-noise ratio of reconstructions in decibels."""
        del generator
        pixels = batch.pixels.to(self.device)
        tokenizer = self.finished()
        return {"psnr": signal_to_noise(tokenizer.decode(tokenizer.encode(pixels)), pixels)}

    def finished(self) -> Tokenizer:
        """Return the averaged tokenizer; a VAE first measures the scale of its latents again."""
        tokenizer = self.ema.network
        if isinstance(tokenizer, VaeTokenizer):
            tokenizer.fit(part.to(self.device) for part in self.sample.split(64))
        return tokenizer

    @torch.no_grad()
    def preview(self) -> Image.Image:
        """Return twelve pictures above their reconstructions."""
        tokenizer = self.finished()
        pixels = self.sample[:12].to(self.device)
        return picture_grid(to_pil(pixels) + to_pil(tokenizer.decode(tokenizer.encode(pixels))), columns=12)

    def save(self, folder: Path) -> None:
        """Write the averaged tokenizer."""
        tokenizer = self.finished()
        save_network(folder, tokenizer, tokenizer.config)


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load a tokenizer from its weights folder.

    Raises:
        ValueError: the folder holds no tokenizer or a broken one.
    """
    return load_network(folder, TokenizerConfig, make_tokenizer)

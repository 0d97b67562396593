"""Tokens as a generator makes them, for pictures whose true tokens are known.

Letters in shapes: B batch, N tokens of the picture, T with those of its plan, C channels.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from jepa_app.generation.flow import make_denoising
from jepa_app.generation.picture import Picture, Shown
from jepa_app.generation.sampler import Sampler
from jepa_app.generation.settings import SamplingSettings
from jepa_app.masking import draw
from jepa_app.models.jepa_t import JepaT
from training.objectives.asking import ask, solve
from training.objectives.text_cache import TextCache

LEAST_KEPT = 0.25  # share of the tokens that are true at least, where only a part is made again
DENOISING_STEPS = 8  # for such a token
PAINTING_STEPS = 8  # for a whole picture
MOST_ERROR = 0.3  # mean squared error of the tokens (variance 1) of what counts as the true picture


class Regenerator(nn.Module):
    """A frozen JEPA-T that makes the tokens of pictures again, as a decoder gets them in use."""

    def __init__(self, network: JepaT, text: TextCache) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.text = text
        self.denoising = make_denoising(network.config.denoising)

    def partly(self, tokens: Tensor, captions: Sequence[str], generator: torch.Generator) -> Tensor:
        """Make the last tokens of a random order again, each from true ones before it.

        Returns the tokens (B, N, C) of pictures whose tokens with those of their plan are (B, T, C).
        """
        network, number = self.network, self.network.config.num_tokens
        text = self.text.features(captions).to(tokens.device, torch.float32)
        asked, _ = ask(network, text, tokens[:, : network.config.num_places], generator).parted(number)
        noise = draw(torch.randn, asked.clean.shape, generator).flatten(0, 1)
        drawn = solve(
            self.denoising,
            network.denoiser,
            asked.condition.flatten(0, 1),
            noise,
            generator,
            num_steps=DENOISING_STEPS,
            temperature=network.config.sampling_temperature,
        )
        kept = LEAST_KEPT + (1 - LEAST_KEPT) * draw(torch.rand, (len(tokens), 1), generator)
        first = number - asked.positions.shape[1]  # a bidirectional network is asked for the last ones alone
        places = torch.arange(first, number, device=tokens.device)
        again = places >= number * kept
        mixed = torch.where(again[:, :, None], drawn.view_as(asked.clean), asked.clean)
        return tokens[:, :number].scatter(1, asked.positions[:, :, None].expand_as(mixed), mixed)

    @torch.no_grad()
    def wholly(self, tokens: Tensor, captions: Sequence[str], generator: torch.Generator) -> Tensor:
        """Paint pictures again from their captions and true plans, as `partly`.

        A generator knows what it was trained on, so the picture is mostly the true one with the errors of sampling.
        Where it is another, by more than `MOST_ERROR`, the true tokens stay.
        """
        network, number = self.network, self.network.config.num_tokens
        settings = replace(SamplingSettings.suiting(network.config), steps=min(PAINTING_STEPS, number))
        tokens = tokens[:, : network.config.num_places].float()
        known = torch.arange(tokens.shape[1]) >= number
        text = self.text.features(captions).to(tokens.device, torch.float32)
        sampler = Sampler(network, self.denoising, num_slots=2 * len(tokens), prompt_length=text.mask.shape[1])
        seeds = (draw(torch.rand, (len(tokens), 1), generator) * 2**24).long().flatten().tolist()
        pictures = []
        for index, seed in enumerate(seeds):
            shown = Shown(tokens[index], known) if bool(known.any()) else None
            picture = Picture.begin(network, settings, torch.Generator().manual_seed(seed), shown)
            sampler.add_begun(picture, text.rows(slice(index, index + 1)))
            pictures.append(picture)
        while sampler.pictures:
            sampler.step()
        painted = torch.stack([picture.tokens[:number] for picture in pictures])
        true = tokens[:, :number]
        error = (painted - true).square().mean(dim=(1, 2), keepdim=True)  # (B, 1, 1)
        return torch.where(error <= MOST_ERROR, painted, true)

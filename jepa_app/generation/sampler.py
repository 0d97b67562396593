"""Progressive autoregressive unmasking: JEPA-T's generalised next-token sampling, many pictures at a time.

Each call of `Sampler` advances every picture by one of its own steps: prompts, lengths, steps and guidance may differ.
With the cached backbone the tokens of all pictures, laid end to end, share each forward pass. A step encodes the tokens
of the step before and asks for those of this one, so a picture costs one pass over its tokens. A bidirectional backbone
encodes its context again at every step, one picture after another.
Letters in shapes: B pictures, N image tokens, C token channels, D width, M asked tokens, G of them with guidance.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from jepa_app.generation.conditions import Conditions, PackedConditions, SeparateConditions, Start
from jepa_app.generation.flow import Denoising, Guidance, Predict, conditioned
from jepa_app.generation.picture import Picture, TokenStep
from jepa_app.generation.settings import SamplingSettings
from jepa_app.models.jepa_t import JepaT
from jepa_app.models.text import MAX_TOKENS, TextFeatures


class Sampler:
    """Pictures at different steps, advanced together; they join before any step and leave after any.

    Args:
        num_slots: slots to make room for, one per picture or two with guidance; more room is made when needed.
        prompt_length: the most text tokens of a prompt.
    """

    def __init__(
        self, network: JepaT, denoising: Denoising, *, num_slots: int = 4, prompt_length: int = MAX_TOKENS
    ) -> None:
        self.network = network
        self._denoising = denoising
        self._conditions: Conditions = (
            PackedConditions(network, num_slots=num_slots, prompt_length=prompt_length)
            if network.config.backbone == "cached"
            else SeparateConditions(network)
        )
        self._times: dict[int, Tensor] = {}  # embedded times for each number of denoising steps
        self._null: Start | None = None
        self.pictures: list[Picture] = []

    @torch.no_grad()
    def start(self, text: TextFeatures) -> list[Start]:
        """Encode prompts, from which any number of pictures can begin."""
        return self._conditions.start(text)

    @torch.no_grad()
    def add_begun(self, picture: Picture, text: TextFeatures, negative: TextFeatures | None = None) -> None:
        """Add a picture that begins with known tokens: its prompts are encoded together with these."""
        away = self.network.null_features(1) if negative is None else negative
        prompt, null = (self._conditions.start(one, picture)[0] for one in (text, away))
        self.add(picture, prompt, null)

    @property
    def null(self) -> Start:
        """The learned null text, encoded once."""
        if self._null is None:
            self._null = self.start(self.network.null_features(1))[0]
        return self._null

    def add(self, picture: Picture, prompt: Start, negative: Start | None = None) -> None:
        """Add a picture from the next step on; with `negative` None, guidance moves away from the null text."""
        null = (negative or self.null) if picture.is_guided else None
        self._conditions.add(picture, prompt, null)
        self.pictures.append(picture)
        self.pictures.sort(key=lambda one: not one.is_guided)  # the order that guidance needs

    def remove(self, picture: Picture) -> None:
        """Drop a picture that is not done."""
        self.pictures.remove(picture)
        self._conditions.remove(picture)

    @torch.no_grad()
    def step(self) -> list[tuple[Picture, TokenStep]]:
        """Advance every picture by one step; those that are done are removed."""
        pictures = list(self.pictures)
        if not pictures:
            return []
        condition, null = self._conditions.predict(pictures)
        clean = self._denoise(pictures, condition, null)
        lengths = [len(picture.asked) for picture in pictures]
        steps = [(picture, picture.reveal(part)) for picture, part in zip(pictures, clean.split(lengths), strict=True)]
        for picture in pictures:
            if picture.is_done:
                self.remove(picture)
        if self.pictures:
            self._conditions.extend(self.pictures)
        return steps

    def _denoise(self, pictures: list[Picture], condition: Tensor, null: Tensor | None) -> Tensor:
        """Denoise the asked tokens of all pictures (M, C), together for equal numbers of denoising steps."""
        steps = {picture.settings.denoising_steps for picture in pictures}
        if len(steps) == 1:
            return self._denoise_alike(pictures, condition, null)
        lengths = [len(picture.asked) for picture in pictures]
        prompts = dict(zip(pictures, condition.split(lengths), strict=True))
        guided = [picture for picture in pictures if picture.is_guided]
        nulls: dict[Picture, Tensor] = {}
        if null is not None:
            nulls = dict(zip(guided, null.split([len(picture.asked) for picture in guided]), strict=True))
        clean: dict[Picture, Tensor] = {}
        for number in steps:
            group = [picture for picture in pictures if picture.settings.denoising_steps == number]
            away = [nulls[picture] for picture in group if picture.is_guided]
            part = self._denoise_alike(
                group, torch.cat([prompts[picture] for picture in group]), torch.cat(away) if away else None
            )
            clean |= zip(group, part.split([len(picture.asked) for picture in group]), strict=True)
        return torch.cat([clean[picture] for picture in pictures])

    def _denoise_alike(self, pictures: list[Picture], condition: Tensor, null: Tensor | None) -> Tensor:
        noise = torch.cat([picture.noise[picture.asked] for picture in pictures])

        def column(values: Sequence[float], of: Sequence[Picture]) -> Tensor:
            rows = [value for value, picture in zip(values, of, strict=True) for _ in range(len(picture.asked))]
            return torch.tensor(rows, device=noise.device)[:, None]

        guidance = None
        if null is not None:
            guided = [picture for picture in pictures if picture.is_guided]
            guidance = Guidance(null_condition=null, scale=column([picture.scale for picture in guided], guided))
        temperature = column([picture.settings.temperature for picture in pictures], pictures)
        number = pictures[0].settings.denoising_steps
        predict = conditioned(self.network.denoiser, self._embedded_times(number), condition, guidance)

        def draw() -> Tensor:
            parts = [torch.randn(len(one.asked), noise.shape[1], generator=one.generator) for one in pictures]
            return torch.cat(parts).to(noise.device)

        predict = _in_float32(predict, condition.dtype)
        return self._denoising.sample(predict, noise, num_steps=number, temperature=temperature, draw=draw)

    def _embedded_times(self, number: int) -> Tensor:
        if number not in self._times:
            null_text = self.network.null_text
            times = torch.tensor(self._denoising.times(number), device=null_text.device, dtype=null_text.dtype)
            self._times[number] = self.network.denoiser.embed_times(times)
        return self._times[number]


def _in_float32(predict: Predict, dtype: torch.dtype) -> Predict:
    """Let the solver keep its state in float32 whatever type the network computes in."""
    if dtype == torch.float32:
        return predict
    return lambda x, index: predict(x.to(dtype), index).float()


def sample(
    network: JepaT,
    denoising: Denoising,
    text: TextFeatures,
    negative: TextFeatures | None,
    settings: SamplingSettings,
    generators: Sequence[torch.Generator],
) -> Iterator[list[TokenStep]]:
    """Sample pictures with the same settings; yield, after every step, the step of each picture, in order.

    Args:
        text: prompt features of B pictures.
        negative: features to move away from, 1 or B of them; None for the learned null text.
        generators: one CPU generator per picture; order and noise come from it alone, so a picture does not depend on
            the others in its batch.

    Raises:
        ValueError: the number of steps is not between 1 and N.
    """
    longest = max(one.mask.shape[1] for one in (text, negative) if one is not None)
    sampler = Sampler(network, denoising, num_slots=2 * len(text), prompt_length=longest)
    pictures = [Picture.begin(network, settings, generator) for generator in generators]
    prompts = sampler.start(text)
    away = sampler.start(negative) if negative is not None else [None]
    for index, picture in enumerate(pictures):
        sampler.add(picture, prompts[index], away[index if len(away) > 1 else 0])
    while sampler.pictures:
        steps = dict(sampler.step())
        yield [steps[picture] for picture in pictures]

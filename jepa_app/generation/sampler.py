"""Progressive autoregressive unmasking: JEPA-T's generalised next-token sampling, many pictures at a time.

Each call of `Sampler` advances every picture by one of its own steps: prompts, lengths, steps and guidance may differ.
With the cached backbone the tokens of all pictures, laid end to end, share each forward pass. A step encodes the tokens
of the step before and asks for those of this one, so a picture costs one pass over its tokens. A bidirectional backbone
encodes its context again at every step, one picture after another.
Letters in shapes: B pictures, N image tokens, C token channels, D width, K asked tokens of a picture, M of all.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from jepa_app.generation.conditions import Conditions, PackedConditions, SeparateConditions, Start
from jepa_app.generation.flow import Denoising, Guidance, Mixture, Predict, conditioned
from jepa_app.generation.picture import Picture, TokenStep
from jepa_app.generation.settings import SamplingSettings
from jepa_app.models.jepa_t import JepaT
from jepa_app.models.text import MAX_TOKENS, TextFeatures


class Sampler:
    """Pictures at different steps, advanced together; they join before any step and leave after any.

    Args:
        num_slots: slots to make room for, one for each text that a picture follows; more room is made when needed.
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
    def add_begun(
        self,
        picture: Picture,
        prompt: TextFeatures,
        negative: TextFeatures | None = None,
        thing: TextFeatures | None = None,
    ) -> None:
        """Add a picture that begins with known tokens: its texts, as in `add`, are encoded together with these."""
        away = self.network.null_features(1) if negative is None else negative
        first, null = (self._conditions.start(one, picture)[0] for one in (prompt, away))
        self.add(picture, first, null, None if thing is None else self._conditions.start(thing, picture)[0])

    @property
    def null(self) -> Start:
        """The learned null text, encoded once."""
        if self._null is None:
            self._null = self.start(self.network.null_features(1))[0]
        return self._null

    def add(self, picture: Picture, prompt: Start, negative: Start | None = None, thing: Start | None = None) -> None:
        """Add a picture from the next step on.

        With `negative` None, guidance moves away from the null text. `thing` is the prompt without its style, where the
        style is new to the thing; it takes the picture's `thing_share` in what the prompt predicts. A picture that has
        no plan does without it: the thing enters by the plan.
        """
        picture.is_mixed = thing is not None and picture.has_plan
        null = (negative or self.null) if picture.is_guided else None
        texts = [prompt, null, thing if picture.is_mixed else None]
        self._conditions.add(picture, [text for text in texts if text is not None])
        self.pictures.append(picture)
        self.pictures.sort(key=_fewest_texts_last)

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
        clean = self._denoise(pictures, self._conditions.predict(pictures))
        steps = [(picture, picture.reveal(part)) for picture, part in zip(pictures, clean, strict=True)]
        for picture in pictures:
            if picture.is_done:
                self.remove(picture)
        if self.pictures:
            self._conditions.extend(self.pictures)
        return steps

    def _denoise(self, pictures: Sequence[Picture], conditions: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        """Denoise the asked tokens (K, C) of each picture, together for equal numbers of denoising steps."""
        clean: dict[Picture, Tensor] = {}
        for number in {picture.settings.denoising_steps for picture in pictures}:
            alike = [index for index, one in enumerate(pictures) if one.settings.denoising_steps == number]
            group = [pictures[index] for index in alike]
            part = self._denoise_alike(group, [conditions[index] for index in alike], number)
            clean |= zip(group, part.split([len(picture.asked) for picture in group]), strict=True)
        return [clean[picture] for picture in pictures]

    def _denoise_alike(
        self, pictures: Sequence[Picture], conditions: Sequence[Sequence[Tensor]], number: int
    ) -> Tensor:
        noise = torch.cat([picture.noise[picture.asked] for picture in pictures])

        def column(values: Sequence[float], of: Sequence[Picture]) -> Tensor:
            rows = [value for value, picture in zip(values, of, strict=True) for _ in range(len(picture.asked))]
            return torch.tensor(rows, device=noise.device)[:, None]

        prompts, *others = (torch.cat(parts) for parts in _by_text(conditions))
        guidance, mixture = None, None
        if others:
            guided = [picture for picture in pictures if picture.is_guided]
            guidance = Guidance(null_condition=others[0], scale=column([one.scale for one in guided], guided))
        if len(others) > 1:
            mixed = [picture for picture in pictures if picture.is_mixed]
            mixture = Mixture(condition=others[1], share=column([one.thing_share for one in mixed], mixed))
        temperature = column([picture.settings.temperature for picture in pictures], pictures)
        predict = conditioned(self.network.denoiser, self._embedded_times(number), prompts, guidance, mixture)

        def draw() -> Tensor:
            parts = [torch.randn(len(one.asked), noise.shape[1], generator=one.generator) for one in pictures]
            return torch.cat(parts).to(noise.device)

        predict = _in_float32(predict, prompts.dtype)
        return self._denoising.sample(predict, noise, num_steps=number, temperature=temperature, draw=draw)

    def _embedded_times(self, number: int) -> Tensor:
        if number not in self._times:
            null_text = self.network.null_text
            times = torch.tensor(self._denoising.times(number), device=null_text.device, dtype=null_text.dtype)
            self._times[number] = self.network.denoiser.embed_times(times)
        return self._times[number]


def _fewest_texts_last(picture: Picture) -> tuple[bool, bool]:
    """The order of pictures in a step: guidance and mixtures are for the first ones."""
    return not picture.is_mixed, not picture.is_guided


def _by_text(conditions: Sequence[Sequence[Tensor]]) -> list[list[Tensor]]:
    """Conditions of all prompts, of the null texts and of the things alone; those with most texts come first."""
    most = len(conditions[0])
    return [[own[text] for own in conditions if len(own) > text] for text in range(most)]


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
    things: Sequence[TextFeatures | None] = (),
) -> Iterator[list[TokenStep]]:
    """Sample pictures with the same settings; yield, after every step, the step of each picture, in order.

    Args:
        text: prompt features of B pictures.
        negative: features to move away from, 1 or B of them; None for the learned null text.
        generators: one CPU generator per picture; order and noise come from it alone, so a picture does not depend on
            the others in its batch.
        things: for each picture, features (1, T, W) of its prompt without the style, or None; see `Sampler.add`.

    Raises:
        ValueError: the number of steps is not between 1 and N.
    """
    longest = max(one.mask.shape[1] for one in (text, negative, *things) if one is not None)
    num_slots = 2 * len(text) + len(things)
    sampler = Sampler(network, denoising, num_slots=num_slots, prompt_length=longest)
    pictures = [Picture.begin(network, settings, generator) for generator in generators]
    prompts = sampler.start(text)
    away = sampler.start(negative) if negative is not None else [None]
    alone = [None if one is None else sampler.start(one)[0] for one in things] or [None] * len(pictures)
    for index, picture in enumerate(pictures):
        sampler.add(picture, prompts[index], away[index if len(away) > 1 else 0], alone[index])
    while sampler.pictures:
        steps = dict(sampler.step())
        yield [steps[picture] for picture in pictures]

"""What is recorded only when a run is watched: the states of denoising, and what each position predicted and read.

The picture comes from the sampler itself; everything else is computed by the same network with the same context.
paper word -> code: f-bar (target encoder) `context_encoder.whole`, whose bundled weights are the moving average.
Letters in shapes: K evaluations of the denoiser, N image tokens, M positions, C token channels, D width, T text tokens.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from jepa_app.generation.flow import Denoising, Draw, Network, Predict
from jepa_app.generation.picture import Picture, TokenStep
from jepa_app.generation.sampler import Sampler
from jepa_app.generation.settings import SamplingSettings
from jepa_app.masking import block_ids
from jepa_app.models.context import Context
from jepa_app.models.jepa_t import JepaT
from jepa_app.models.text import TextFeatures


class RecordedDenoising:
    """A denoising process that records the inputs and outputs of the network in its solver.

    Attributes:
        states: (M, C) inputs of each evaluation in the last `sample`, then its result.
        answers: (M, C) outputs of each evaluation.
    """

    def __init__(self, process: Denoising) -> None:
        self._process = process
        self.states: list[Tensor] = []
        self.answers: list[Tensor] = []

    def loss(self, network: Network, condition: Tensor, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Same as the wrapped process."""
        return self._process.loss(network, condition, clean, generator)

    def times(self, num_steps: int) -> list[float]:
        """Same as the wrapped process."""
        return self._process.times(num_steps)

    def sample(
        self, predict: Predict, noise: Tensor, *, num_steps: int, temperature: float | Tensor = 1.0, draw: Draw
    ) -> Tensor:
        """Same as the wrapped process."""
        self.states, self.answers = [], []

        def recorded(x: Tensor, index: int) -> Tensor:
            answer = predict(x, index)
            self.states.append(x)
            self.answers.append(answer)
            return answer

        clean = self._process.sample(recorded, noise, num_steps=num_steps, temperature=temperature, draw=draw)
        self.states.append(clean)
        return clean


@dataclass(frozen=True, kw_only=True)
class Words:
    """Features of a prompt, of a negative prompt (None: the null text) and of a thing alone (as in `Sampler.add`)."""

    text: TextFeatures
    negative: TextFeatures | None
    thing: TextFeatures | None = None


class WatchedRun:
    """One picture, made as the studio makes it; `steps` makes it, and the recordings are available afterwards.

    Attributes:
        picture: the picture with its order, counts and tokens.
        guidance: the guidance scale of each step.
        random_states: the states of the picture's generator before each step.
    """

    def __init__(self, network: JepaT, process: Denoising, words: Words, settings: SamplingSettings, seed: int) -> None:
        self.picture = Picture.begin(network, settings, torch.Generator().manual_seed(seed))
        self.guidance: list[float] = []
        self.random_states: list[Tensor] = []
        self._denoising = RecordedDenoising(process)
        self._sampler = Sampler(network, self._denoising, num_slots=2, prompt_length=_longest(words))
        texts = (words.text, words.negative, words.thing)
        prompt, *others = (None if one is None else self._sampler.start(one)[0] for one in texts)
        assert prompt is not None
        self._sampler.add(self.picture, prompt, *others)
        self._states: list[Tensor] = []
        self._answers: list[Tensor] = []

    def steps(self) -> Iterator[TokenStep]:
        """Make the picture, step by step."""
        while not self.picture.is_done:
            self.guidance.append(self.picture.scale)
            self.random_states.append(self.picture.generator.get_state())
            ((_, step),) = self._sampler.step()
            self._states.append(torch.stack(self._denoising.states))
            self._answers.append(torch.stack(self._denoising.answers))
            yield step

    @property
    def states(self) -> Tensor:
        """Every token of the picture at each state of its own denoising, from noise to clean: (K + 1, N, C)."""
        return self._by_position(self._states)

    @property
    def answers(self) -> Tensor:
        """The output of the denoiser at each evaluation: (K, N, C)."""
        return self._by_position(self._answers)

    def _by_position(self, recorded: list[Tensor]) -> Tensor:
        by_position = torch.cat(recorded, dim=1)[:, self.picture.order.argsort()]  # recorded in the order of generation
        return by_position[:, : self.picture.num_tokens]


def finished_now(network: JepaT, process: Denoising, words: Words, run: WatchedRun, steps: Sequence[int]) -> Tensor:
    """Return the tokens (steps, N, C) that a finished picture would have had if each of these steps had been its last.

    The picture is resumed before the step, which then draws all of the picture that is masked, from the same noise.
    What was not planned by then is left out.
    """
    sampler = Sampler(network, process, num_slots=2 * len(steps), prompt_length=_longest(words))
    resumed = [_resumed(run, step) for step in steps]
    for one in resumed:
        sampler.add_begun(one, words.text, words.negative, words.thing)
    ended = dict(sampler.step())
    return torch.stack([ended[one].tokens for one in resumed])


def _resumed(run: WatchedRun, step: int) -> Picture:
    picture, done = run.picture, sum(run.picture.counts[:step])
    known = torch.zeros_like(picture.known).index_fill(0, picture.order[:done], True)
    left = picture.order[done:]
    order = torch.cat([picture.order[:done], left[left < picture.num_tokens]])
    generator = torch.Generator()
    generator.set_state(run.random_states[step])  # for diffusion, which draws from it while denoising
    return replace(
        picture,
        generator=generator,
        order=order,
        counts=(*picture.counts[:step], len(order) - done),
        begun=block_ids(picture.counts)[:done].to(known.device),
        known=known,
        tokens=torch.where(known[:, None], picture.tokens, 0),
        slots=[],
        index=step,
        done=done,
    )


def _longest(words: Words) -> int:
    return max(one.mask.shape[1] for one in (words.text, words.negative, words.thing) if one is not None)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What positions (M,) long received when predicted: conditions (M, D), and shares (M, T) of each text token.

    The shares are means over the fusion's heads.
    """

    positions: Tensor
    condition: Tensor
    shares: Tensor

    def first(self, count: int) -> "Look":
        """Return the first `count` positions."""
        return Look(positions=self.positions[:count], condition=self.condition[:count], shares=self.shares[:count])


def looks(network: JepaT, text: TextFeatures, picture: Picture) -> Iterator[tuple[Look, Look]]:
    """Yield, for each step of a finished picture, its look, and the look if it had asked for all masked tokens."""
    context, done = network.start(text), 0
    for step, count in enumerate(picture.counts):
        masked = picture.order[None, done:]  # (1, M)
        asked = masked[:, :count]
        everything = _look(network, context, masked, step)
        if network.asks_all_masked:  # as published, the step itself asked for all of them
            yield everything.first(count), everything
        else:
            yield _look(network, context, asked, step), everything
        tokens = picture.tokens[asked].to(network.null_text.dtype)
        context = network.extend(context.at(torch.full_like(asked, step)), tokens, asked)
        done += count


def _look(network: JepaT, context: Context, positions: Tensor, step: int) -> Look:
    assert context.prompt is not None
    keys, mask, _ = context.prompt
    assert isinstance(mask, Tensor)
    turn = context.at(torch.full_like(positions, step))
    unfused = network.unfused(turn, positions)
    shares = network.fusion.shares(unfused, keys, mask)[0].mean(dim=0)
    return Look(positions=positions[0], condition=network.fuse(turn, unfused)[0], shares=shares)


def foreseen(network: JepaT, look: Look, target: Tensor) -> Tensor:
    """Return the cosine similarities (M,) of predicted and actual features (training compares them by smooth L1).

    `target` (T, D) holds the features of the whole finished picture.
    """
    predicted = network.d_jepa.prediction_head(look.condition)
    return cosine_similarity(predicted.float(), target[look.positions].float(), dim=-1)


def target_features(network: JepaT, text: TextFeatures, picture: Picture) -> Tensor:
    """Return the features (T, D) of a finished picture as the target encoder computes them in training.

    They are (N, D) if the picture had too few steps for a plan.
    """
    tokens = picture.tokens[: len(picture.tokens) if picture.known.all() else picture.num_tokens]
    tokens = tokens.to(network.null_text.dtype)
    return network.d_jepa.backbone.context_encoder.whole(network.prefix_of(text), tokens[None])[0]

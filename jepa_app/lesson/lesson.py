"""One run explained step by step in pictures and numbers: what was known, predicted, denoised and read from the words.

Letters in shapes: N image tokens, C token channels, W words, S picture side in pixels.
"""

from collections.abc import Iterator, Sized
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from jepa_app.generation.picture import Picture
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.generation.settings import SamplingSettings
from jepa_app.lesson.watching import WatchedRun, Words, finished_now, foreseen, looks, target_features
from jepa_app.lesson.words import TypedWords, Word, typed_words
from jepa_app.pixels import to_pil

AT_ONCE = 8  # steps whose finished pictures are predicted together, and boards decoded together


@dataclass(frozen=True, kw_only=True)
class LessonStep:
    """One sampling step.

    Attributes:
        asked: row-major positions of the picture's tokens that this step drew; none if it planned.
        plan: how many tokens of the plan are known after this step, and how many it has.
        guidance: the guidance scale of this step.
        picture: the picture after the step, mid grey where not yet known; `plain` is the same without guidance.
        finished_now: the picture if this step had been the last and had drawn everything still masked.
        foreseen: for each position, the cosine similarity of its predicted features and those of the finished picture.
        attention: for each position, its share of attention on each word; the shares of a position sum to 1.

    In the last two, a known position keeps its value from the step that drew it. A position still masked after this
    step has the value it would have if this step drew everything.
    """

    asked: tuple[int, ...]
    plan: tuple[int, int]
    guidance: float
    picture: Image.Image
    plain: Image.Image
    finished_now: Image.Image
    foreseen: tuple[float, ...]
    attention: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """Everything that the lesson shows of one run.

    Attributes:
        grid: tokens along a side; `tokens` holds the numbers of each token, row by row.
        words: the words of the prompt, between the text encoder's two special tokens; attention is averaged over the
            `heads` of the fusion.
        times: times of the denoising states, from noise to clean: one per evaluation of the denoiser, and the end.
        noisy: one picture per state; each tile is its own token at that state, whichever step drew it.
        mixed_in: the thing that is new to its style, None if there is none, and `shares` of it in what the prompt
            predicts, in the plan and in the picture.
        guesses: one picture per evaluation: the clean tokens that the denoiser expected then. Empty if the denoiser
            predicts the noise instead (diffusion).
    """

    prompt: str
    seed: int
    settings: SamplingSettings
    grid: int
    tokens: tuple[tuple[float, ...], ...]
    words: tuple[Word, ...]
    heads: int
    steps: tuple[LessonStep, ...]
    times: tuple[float, ...]
    noisy: tuple[Image.Image, ...]
    guesses: tuple[Image.Image, ...]
    mixed_in: str | None = None
    shares: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LessonProgress:
    """The progress of a lesson: `done` of `total` pieces of work, and the picture so far."""

    done: int
    total: int
    picture: Image.Image


@torch.inference_mode()
def explain(
    pipeline: JepaTPipeline, prompt: str, *, negative_prompt: str | None = None, settings: SamplingSettings, seed: int
) -> Iterator[LessonProgress | Lesson]:
    """Make a picture as the studio does; yield the progress of its lesson and finally the lesson.

    Raises:
        ValueError: a prompt is empty or too long, there are more steps than tokens, the numbers overflowed, or the
            network does not attend to the words after its predictor.
    """
    if not pipeline.network.config.fuse_after_predictor:
        raise ValueError(
            "these weights have fuse_after_predictor off, but a lesson needs it; use weights that have it on"
        )
    read = pipeline.vocabulary.in_a_style(prompt, seed)
    words = Words(
        text=pipeline.encode_prompts([read]),
        negative=pipeline.encode_prompts([negative_prompt], by_keywords=False) if negative_prompt else None,
        thing=pipeline.thing_features(read),
    )
    typed = typed_words(pipeline.text_encoder, pipeline.vocabulary.caption_of(read))
    writing = _Writing(pipeline, words, typed, settings, seed)
    for part in (writing.run_it, writing.run_it_plainly, writing.finish_every_step, writing.look_at_every_step):
        yield from part()
    yield writing.lesson(prompt)


class _Writing:
    """A lesson in progress: four parts, each with as many pieces of work as the run has steps."""

    def __init__(
        self, pipeline: JepaTPipeline, words: Words, typed: TypedWords, settings: SamplingSettings, seed: int
    ) -> None:
        self.pipeline, self.words, self.typed, self.settings, self.seed = pipeline, words, typed, settings, seed
        self.run = self._watched(settings)
        self.asked: list[tuple[int, ...]] = []
        self.plan: list[tuple[int, int]] = []
        self.pictures: list[Image.Image] = []
        self.plain: list[Image.Image] = []
        self.finished: list[Image.Image] = []
        self.steps: list[LessonStep] = []

    def run_it(self) -> Iterator[LessonProgress]:
        """Make the run itself."""
        for step in self.run.steps():
            self.asked.append(step.painted)
            self.plan.append((step.planned, step.num_plan))
            self.pictures += self.pipeline.pictures(step.tokens[None], step.known[None])
            yield self._progress(0, self.pictures)

    def run_it_plainly(self) -> Iterator[LessonProgress]:
        """Make the run again without guidance; if it has no guidance, reuse it."""
        if self.settings.guidance == 1:
            self.plain = self.pictures
            return
        for step in self._watched(replace(self.settings, guidance=1.0)).steps():
            self.plain += self.pipeline.pictures(step.tokens[None], step.known[None])
            yield self._progress(1, self.plain)

    def finish_every_step(self) -> Iterator[LessonProgress]:
        """Make the picture that each step would have produced if it had been the last."""
        network, number = self.pipeline.network, self.settings.steps
        for first in range(0, number, AT_ONCE):
            some = range(first, min(first + AT_ONCE, number))
            tokens = finished_now(network, self.pipeline.denoising, self.words, self.run, some)
            self.finished += to_pil(self.pipeline.layers(tokens, self.pipeline.image_size).colours)
            yield self._progress(2, self.finished)

    def look_at_every_step(self) -> Iterator[LessonProgress]:
        """Measure how well each step predicted the features, and which words it read."""
        for similarity, attention in _told(self.pipeline, self.words, self.typed, self.run.picture):
            index = len(self.steps)
            self.steps.append(
                LessonStep(
                    asked=self.asked[index],
                    plan=self.plan[index],
                    guidance=self.run.guidance[index],
                    picture=self.pictures[index],
                    plain=self.plain[index],
                    finished_now=self.finished[index],
                    foreseen=tuple(similarity.tolist()),
                    attention=_rows(attention),
                )
            )
            yield self._progress(3, self.steps)

    def lesson(self, prompt: str) -> Lesson:
        """Return the whole lesson, once all parts are done."""
        config = self.pipeline.network.config
        tokens = self.run.picture.tokens[: config.num_tokens]
        is_flow = config.denoising == "flow"
        return Lesson(
            prompt=prompt,
            seed=self.seed,
            settings=self.settings,
            grid=self.pipeline.grid,
            tokens=_rows(tokens),
            words=self.typed.words,
            heads=config.fusion_heads,
            steps=tuple(self.steps),
            times=(*self.pipeline.denoising.times(self.settings.denoising_steps), 1.0 if is_flow else 0.0),
            noisy=tuple(_tiles(self.pipeline, state, tokens) for state in self.run.states),
            guesses=tuple(_tiles(self.pipeline, answer, tokens) for answer in self.run.answers) if is_flow else (),
            mixed_in=self.pipeline.thing_alone(prompt) if self.run.picture.is_mixed else None,
            shares=self.run.picture.thing_shares,
        )

    def _watched(self, settings: SamplingSettings) -> WatchedRun:
        return WatchedRun(self.pipeline.network, self.pipeline.denoising, self.words, settings, self.seed)

    def _progress(self, part: int, pieces: Sized) -> LessonProgress:
        number = self.settings.steps
        return LessonProgress(done=part * number + len(pieces), total=4 * number, picture=self.pictures[-1])


def _told(
    pipeline: JepaTPipeline, words: Words, typed: TypedWords, picture: Picture
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, for each step, how well each token's features were predicted (N,) and its attention to words (N, W)."""
    network, number = pipeline.network, len(picture.tokens)
    target = target_features(network, words.text, picture)
    similarity, attention = torch.zeros(number), torch.zeros(number, len(typed.words))
    for asked, masked in looks(network, words.text, picture):
        for look in (masked, asked):  # `asked` overwrites `masked`: it is what really happened
            positions = look.positions.cpu()
            similarity[positions] = foreseen(network, look, target).cpu()
            attention[positions] = typed.merge(look.shares.float().cpu())
        yield similarity[: picture.num_tokens].clone(), attention[: picture.num_tokens].clone()


def _tiles(pipeline: JepaTPipeline, state: Tensor, clean: Tensor) -> Image.Image:
    """Return one picture in which each tile is a token of `state` (N, C) decoded among the clean tokens (N, C)."""
    tokenizer, grid, number = pipeline.image_tokenizer, pipeline.grid, len(clean)
    side = pipeline.image_size // grid
    tiles = []
    for positions in torch.arange(number, device=clean.device).split(AT_ONCE * grid):
        boards = clean.repeat(len(positions), 1, 1).float()
        rows = torch.arange(len(positions), device=clean.device)
        boards[rows, positions] = state[positions].float()
        pixels = tokenizer.preview(boards).unflatten(-1, (grid, side)).unflatten(-3, (grid, side))
        tiles.append(pixels[rows, :, positions // grid, :, positions % grid])  # (boards, 3, side, side)
    board = torch.cat(tiles).unflatten(0, (grid, grid)).permute(2, 0, 3, 1, 4)  # (3, grid, side, grid, side)
    return to_pil(board.reshape(1, 3, pipeline.image_size, pipeline.image_size))[0]


def _rows(table: Tensor) -> tuple[tuple[float, ...], ...]:
    return tuple(map(tuple, table.tolist()))

"""One run told step by step: what was known, asked, predicted, denoised and read from the words; pictures and numbers.

Letters in shapes: N image tokens, C token channels, W words, S picture side in pixels.
"""

from collections.abc import Iterator
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

AT_ONCE = 8  # steps whose finished pictures are predicted together, and boards that are decoded together


@dataclass(frozen=True, kw_only=True)
class LessonStep:
    """One sampling step.

    Attributes:
        asked: row-major positions of the tokens that this step drew.
        guidance: the guidance scale of this step.
        picture: after the step, mid grey where not yet known; `plain` the same without guidance.
        finished_now: what the picture would have become if this step had been the last and drawn all that was masked.
        foreseen: of each position, the cosine between its predicted features and those of the finished picture.
        attention: of each position, its share of attention on each word; the shares of a position sum to 1.

    In the last two a position that is known keeps what was true in the step that drew it, and one that is still masked
    after this step has what it would have if this step drew everything.
    """

    asked: tuple[int, ...]
    guidance: float
    picture: Image.Image
    plain: Image.Image
    finished_now: Image.Image
    foreseen: tuple[float, ...]
    attention: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """All that is told of one run.

    Attributes:
        grid: tokens along a side; `tokens` holds the numbers of each, row by row.
        words: of the prompt, between the text encoder's two marks; `heads` of the fusion were averaged over.
        times: of the states of denoising, from noise to clean: one an evaluation of the denoiser, and the end.
        noisy: one picture a state; each tile is its own token at that state, in whichever step it was drawn.
        guesses: one picture an evaluation: the clean tokens that the denoiser then expected. None where it predicts
            the noise instead (diffusion).
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


@dataclass(frozen=True, kw_only=True)
class LessonProgress:
    """How far a lesson is: `done` of `total` pieces of work, and the picture so far."""

    done: int
    total: int
    picture: Image.Image


@torch.inference_mode()
def explain(
    pipeline: JepaTPipeline, prompt: str, *, negative_prompt: str | None = None, settings: SamplingSettings, seed: int
) -> Iterator[LessonProgress | Lesson]:
    """Make a picture as the studio does and yield how far its lesson is, at last the lesson.

    Raises:
        ValueError: a prompt is empty or too long, there are more steps than tokens, the numbers ran out of range, or
            the network does not attend to the words after its predictor.
    """
    network, process, number = pipeline.network, pipeline.denoising, settings.steps
    if not network.config.fuse_after_predictor:
        raise ValueError(
            "these weights have fuse_after_predictor off, and a lesson shows just that; use weights that have it on"
        )
    words = Words(
        text=pipeline.encode_prompts([prompt]),
        negative=pipeline.encode_prompts([negative_prompt]) if negative_prompt else None,
    )
    typed = typed_words(pipeline.text_encoder, prompt)
    total = 4 * number  # pieces: the run, the run without guidance, finished pictures, looks
    run = WatchedRun(network, process, words, settings, seed)
    asked: list[tuple[int, ...]] = []
    pictures: list[Image.Image] = []
    for step in run.steps():
        asked.append(tuple(step.revealed.tolist()))
        pictures += _pictures(pipeline, step.tokens[None], step.known[None])
        yield LessonProgress(done=len(pictures), total=total, picture=pictures[-1])
    plain = pictures
    if run.picture.is_guided:
        plain = []
        for step in WatchedRun(network, process, words, replace(settings, guidance=1.0), seed).steps():
            plain += _pictures(pipeline, step.tokens[None], step.known[None])
            yield LessonProgress(done=number + len(plain), total=total, picture=pictures[-1])

    finished: list[Image.Image] = []
    for first in range(0, number, AT_ONCE):
        some = range(first, min(first + AT_ONCE, number))
        tokens = finished_now(network, process, words, run, some)
        finished += _pictures(pipeline, tokens, torch.ones_like(tokens[..., 0], dtype=torch.bool))
        yield LessonProgress(done=2 * number + len(finished), total=total, picture=pictures[-1])

    steps: list[LessonStep] = []
    for similarity, attention in _told(pipeline, words, typed, run.picture):
        index = len(steps)
        steps.append(
            LessonStep(
                asked=asked[index],
                guidance=run.guidance[index],
                picture=pictures[index],
                plain=plain[index],
                finished_now=finished[index],
                foreseen=tuple(similarity.tolist()),
                attention=_rows(attention),
            )
        )
        yield LessonProgress(done=3 * number + len(steps), total=total, picture=pictures[-1])

    is_flow, tokens = network.config.denoising == "flow", run.picture.tokens
    yield Lesson(
        prompt=prompt,
        seed=seed,
        settings=settings,
        grid=pipeline.grid,
        tokens=_rows(tokens),
        words=typed.words,
        heads=network.config.fusion_heads,
        steps=tuple(steps),
        times=(*process.times(settings.denoising_steps), 1.0 if is_flow else 0.0),
        noisy=tuple(_tiles(pipeline, state, tokens) for state in run.states),
        guesses=tuple(_tiles(pipeline, answer, tokens) for answer in run.answers) if is_flow else (),
    )


def _told(
    pipeline: JepaTPipeline, words: Words, typed: TypedWords, picture: Picture
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield, for each step, how well each token's features were foreseen (N,) and its attention to words (N, W)."""
    network, number = pipeline.network, len(picture.order)
    target = target_features(network, words.text, picture)
    similarity, attention = torch.zeros(number), torch.zeros(number, len(typed.words))
    for asked, masked in looks(network, words.text, picture):
        for look in (masked, asked):  # the second writes over the first: what was asked is what was so
            positions = look.positions.cpu()
            similarity[positions] = foreseen(network, look, target).cpu()
            attention[positions] = typed.merge(look.shares.float().cpu())
        yield similarity.clone(), attention.clone()


def _pictures(pipeline: JepaTPipeline, tokens: Tensor, known: Tensor) -> list[Image.Image]:
    """Tokens (B, N, C) as pictures; known (B, N).

    Raises:
        ValueError: they ran out of the range of numbers.
    """
    pixels = pipeline.decode(tokens, known)
    if not torch.isfinite(pixels).all():
        raise ValueError("the picture ran out of the range of numbers; use less guidance or a lower temperature")
    return to_pil(pixels)


def _tiles(pipeline: JepaTPipeline, state: Tensor, clean: Tensor) -> Image.Image:
    """One picture of which each tile is a token of `state` (N, C) decoded amid the clean tokens (N, C)."""
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

"""Lessons of tiny real networks: the studio's own picture, real attention, and words as they were typed."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import cosine_similarity

from jepa_app.config import JepaTConfig
from jepa_app.generation.flow import make_denoising
from jepa_app.generation.picture import Picture
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.generation.sampler import Sampler
from jepa_app.generation.settings import SamplingSettings
from jepa_app.lesson.lesson import Lesson, LessonProgress, explain
from jepa_app.lesson.watching import WatchedRun, Words, finished_now, looks
from jepa_app.lesson.words import typed_words
from jepa_app.models.jepa_t import JepaT
from jepa_app.models.text import TextEncoder
from jepa_app.models.tokenizers.tokenizer import make_tokenizer
from jepa_app.pixels import to_pil
from jepa_app.studio.requests import Edit, GenerateRequest
from jepa_app.studio.studio import Studio
from tests.conftest import TINY_JEPA_T, TINY_TOKENIZER, awake
from tests.support.studio_server import loaded

PROMPT = "red apple, 🍎 twemoji style"
SETTINGS = SamplingSettings(steps=5, guidance=3.0)
BACKBONES = [replace(TINY_JEPA_T, backbone=kind) for kind in ("cached", "bidirectional", "bidirectional_subset")]
KINDS = [*BACKBONES, replace(TINY_JEPA_T, denoising="diffusion")]
BY_BACKBONE = pytest.mark.parametrize("config", BACKBONES, ids=lambda config: config.backbone)
BY_KIND = pytest.mark.parametrize("config", KINDS, ids=lambda config: f"{config.backbone} {config.denoising}")


def pipeline_of(config: JepaTConfig, encoder: TextEncoder) -> JepaTPipeline:
    torch.manual_seed(0)
    tokenizer = make_tokenizer(replace(TINY_TOKENIZER, reduction=2, refiner_width=4))  # as the bundled one enlarges
    tokenizer.fit([torch.rand(64, 3, 32, 32) * 2 - 1])
    assert tokenizer.refiner is not None
    awake(tokenizer.refiner)
    return JepaTPipeline(tokenizer, awake(JepaT(config)), encoder)


def lesson_of(pipeline: JepaTPipeline, settings: SamplingSettings = SETTINGS, prompt: str = PROMPT) -> Lesson:
    *_, last = explain(pipeline, prompt, settings=settings, seed=7)
    assert isinstance(last, Lesson)
    return last


def pixels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture).astype(int)


def same(one: Image.Image, other: Image.Image) -> bool:
    """Within 2/255, as pictures made in other company are."""
    return bool(abs(pixels(one) - pixels(other)).max() <= 2)


def centres(picture: Image.Image) -> np.ndarray:
    """The middle pixels of each tile, which its own token alone decides."""
    return pixels(picture).reshape(4, 8, 4, 8, 3)[:, 3:5, :, 3:5]


@BY_KIND
def test_the_pictures_are_those_of_the_pipeline(config: JepaTConfig, text_encoder: TextEncoder) -> None:
    pipeline = pipeline_of(config, text_encoder)
    lesson = lesson_of(pipeline)

    def streamed(scale: float) -> list[Image.Image]:
        steps = pipeline.stream(
            PROMPT, num_inference_steps=5, guidance_scale=scale, generator=torch.Generator().manual_seed(7)
        )
        return [to_pil(step.image)[0] for step in steps]

    for told, step in zip([step.picture for step in lesson.steps], streamed(3.0), strict=True):
        assert (pixels(told) == pixels(step)).all()
    for told, step in zip([step.plain for step in lesson.steps], streamed(1.0), strict=True):
        assert (pixels(told) == pixels(step)).all()
    assert not same(lesson.steps[-1].picture, lesson.steps[-1].plain)
    assert sorted(position for step in lesson.steps for position in step.asked) == list(range(16))
    scales = [step.guidance for step in lesson.steps]
    assert scales == sorted(scales)
    assert scales[-1] == 3


def test_the_studio_shows_the_lesson_of_its_own_run(tiny_weights: Path) -> None:
    studio = loaded(tiny_weights)
    request = GenerateRequest(prompt=PROMPT, negative_prompt="blue", steps=4, seed=5)
    *progress, lesson = studio.explain(request)
    assert isinstance(lesson, Lesson)
    frames = list(studio.generating.frames(request))
    for step, frame in zip(lesson.steps, frames, strict=True):
        assert step.asked == frame.revealed
        assert same(step.picture, frame.image)
    done = [part.done for part in progress if isinstance(part, LessonProgress)]
    assert done == sorted(set(done))
    assert done[-1] == progress[-1].total


def test_a_lesson_is_the_same_each_time(text_encoder: TextEncoder) -> None:
    pipeline = pipeline_of(TINY_JEPA_T, text_encoder)
    one, other = lesson_of(pipeline), lesson_of(pipeline)
    assert (one.tokens, one.words, one.times) == (other.tokens, other.words, other.times)
    for left, right in zip(one.steps, other.steps, strict=True):
        assert (left.foreseen, left.attention) == (right.foreseen, right.attention)
        assert left.finished_now.tobytes() == right.finished_now.tobytes()
    assert [left.tobytes() for left in one.noisy] == [right.tobytes() for right in other.noisy]


def test_without_guidance_both_sides_are_one_run(text_encoder: TextEncoder) -> None:
    lesson = lesson_of(pipeline_of(TINY_JEPA_T, text_encoder), replace(SETTINGS, guidance=1.0))
    assert all(step.picture is step.plain for step in lesson.steps)


# ---- what each position saw and read


@pytest.fixture
def fused() -> Iterator[tuple[JepaT, Tensor, Tensor, Tensor]]:
    """A network, features (2, 5, D), prompts (2, 6, W) and their mask (2, 1, 6), one prompt padded."""
    torch.manual_seed(0)
    network = awake(JepaT(TINY_JEPA_T)).eval()
    mask = torch.ones(2, 1, 6, dtype=torch.bool)
    mask[1, :, 4:] = False
    with torch.inference_mode():
        yield network, torch.randn(2, 5, 32), torch.randn(2, 6, 384), mask


def test_shares_are_what_the_fusion_mixes_its_values_by(fused: tuple[JepaT, Tensor, Tensor, Tensor]) -> None:
    network, x, prompt, mask = fused
    fusion = network.fusion
    keys = fusion.keep(prompt)
    shares = fusion.shares(x, keys, mask)
    assert shares.shape == (2, network.config.fusion_heads, 5, 6)
    torch.testing.assert_close(shares.sum(dim=-1), torch.ones(2, network.config.fusion_heads, 5))
    assert (shares[1, :, :, 4:] == 0).all()
    mixed = torch.einsum("bhlt,bthe->blhe", shares, keys.value).flatten(2)
    torch.testing.assert_close(x + fusion.out(mixed), fusion(x, keys, mask))


class WatchedSampler(Sampler):
    """Keeps the conditions that the tokens of each step were denoised with."""

    def __init__(self, network: JepaT) -> None:
        super().__init__(network, make_denoising(network.config.denoising))
        self.conditions: list[Tensor] = []

    def _denoise(self, pictures: Sequence[Picture], conditions: Sequence[Sequence[Tensor]]) -> list[Tensor]:
        self.conditions.append(conditions[0][0])
        return super()._denoise(pictures, conditions)


@BY_BACKBONE
@torch.inference_mode()
def test_looks_have_the_conditions_of_the_sampler(config: JepaTConfig, text_encoder: TextEncoder) -> None:
    network = pipeline_of(config, text_encoder).network
    text = text_encoder.encode([PROMPT])
    sampler = WatchedSampler(network)
    picture = Picture.begin(network, SETTINGS, torch.Generator().manual_seed(7))
    sampler.add(picture, sampler.start(text)[0])
    while sampler.pictures:
        sampler.step()
    told = list(looks(network, text, picture))
    for (asked, masked), condition, count in zip(told, sampler.conditions, picture.counts, strict=True):
        torch.testing.assert_close(asked.condition, condition, rtol=1e-4, atol=1e-5)
        assert len(asked.positions) == count
        assert (masked.positions[:count] == asked.positions).all()
    assert [len(masked.positions) for _, masked in told] == [sum(picture.counts[step:]) for step in range(5)]
    asked, masked = told[-1]
    torch.testing.assert_close(asked.condition, masked.condition)  # the last step asks for all that is left


@BY_KIND
@torch.inference_mode()
def test_if_a_step_were_the_last(config: JepaTConfig, text_encoder: TextEncoder) -> None:
    pipeline = pipeline_of(config, text_encoder)
    words = Words(text=text_encoder.encode([PROMPT]), negative=None)
    run = WatchedRun(pipeline.network, pipeline.denoising, words, SETTINGS, seed=7)
    steps = list(run.steps())
    ended = finished_now(pipeline.network, pipeline.denoising, words, run, range(5))
    for number, (step, tokens) in enumerate(zip(steps[:-1], ended[1:], strict=True), start=1):
        assert (tokens[step.known] == step.tokens[step.known]).all()
        # the last one is the picture itself; and untrained noise predictions hardly depend on what is known
        if number < len(ended) - 1 and config.denoising == "flow":
            assert not torch.allclose(tokens[~step.known], steps[-1].tokens[~step.known])
    whole = WatchedRun(pipeline.network, pipeline.denoising, words, replace(SETTINGS, steps=1), seed=7)
    torch.testing.assert_close(ended[0], next(whole.steps()).tokens, rtol=1e-4, atol=1e-4)  # one step, all at once
    torch.testing.assert_close(ended[-1], steps[-1].tokens, rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_the_target_is_the_one_of_training(text_encoder: TextEncoder) -> None:
    pipeline = pipeline_of(TINY_JEPA_T, text_encoder)
    network = pipeline.network
    lesson = lesson_of(pipeline)
    text, order = (
        text_encoder.encode([PROMPT]),
        torch.tensor([position for step in lesson.steps for position in step.asked]),
    )
    tokens = torch.tensor(lesson.tokens)[None]
    blocks = torch.tensor([index for index, step in enumerate(lesson.steps) for _ in step.asked])[None]
    # as training asks: all at once
    context = network.extend(network.start(text).at(blocks), tokens[:, order], order[None])
    predicted = network.d_jepa.prediction_head(network.predict(context.at(blocks), order[None]))[0]
    target = network.d_jepa.backbone.context_encoder.whole(text, tokens)[0, order]
    expected = cosine_similarity(predicted, target, dim=-1)
    torch.testing.assert_close(torch.tensor(lesson.steps[-1].foreseen)[order], expected, rtol=1e-3, atol=1e-4)


# ---- denoising


@torch.inference_mode()
def test_states_lead_from_the_pictures_noise_to_its_tokens(text_encoder: TextEncoder) -> None:
    pipeline = pipeline_of(TINY_JEPA_T, text_encoder)
    words = Words(text=text_encoder.encode([PROMPT]), negative=None)
    settings = replace(SETTINGS, temperature=0.5)
    run = WatchedRun(pipeline.network, pipeline.denoising, words, settings, seed=7)
    list(run.steps())
    assert run.states.shape == (6, 16, 12)
    torch.testing.assert_close(run.states[0], run.picture.noise * 0.5)
    torch.testing.assert_close(run.states[-1], run.picture.tokens)
    velocity = run.answers[0] - run.states[0]  # at time 0 the flow heads straight for the first guess
    first = pipeline.denoising.times(5)[1]
    torch.testing.assert_close(run.states[1], run.states[0] + first * velocity)
    lesson = lesson_of(pipeline, settings)
    assert lesson.times == (*pipeline.denoising.times(5), 1.0)
    assert (len(lesson.noisy), len(lesson.guesses)) == (6, 5)
    clean = to_pil(pipeline.image_tokenizer.preview(run.picture.tokens[None]))[0]
    assert same(lesson.noisy[-1], clean)
    noise = to_pil(pipeline.image_tokenizer.preview(run.states[:1]))[0]
    assert abs(centres(lesson.noisy[0]) - centres(noise)).max() <= 2  # at its edges a tile has another neighbour here


def test_diffusion_shows_no_guesses(text_encoder: TextEncoder) -> None:
    lesson = lesson_of(pipeline_of(replace(TINY_JEPA_T, denoising="diffusion"), text_encoder))
    assert lesson.guesses == ()
    assert (lesson.times[0], lesson.times[-1]) == (1.0, 0.0)


# ---- words


def test_pieces_are_merged_to_the_typed_words(text_encoder: TextEncoder) -> None:
    typed = typed_words(text_encoder, "  Twemoji,  a🍎b \ufe0f żółty ")
    assert [(word.text, word.kind) for word in typed.words] == [
        ("", "start"), ("Twemoji,", "word"), ("a🍎b", "word"), ("żółty", "word"), ("", "end"),
    ]  # fmt: skip
    pieces = text_encoder.tokenizer.convert_ids_to_tokens(
        text_encoder.tokenizer("Twemoji, a red apple b żółty")["input_ids"]
    )
    assert len(pieces) == len(typed.owners)
    merged: dict[int, str] = {}
    for owner, piece in zip(typed.owners.tolist(), pieces, strict=True):
        merged[owner] = merged.get(owner, "") + piece.removeprefix("##")
    assert merged == {0: "[CLS]", 1: "twemoji,", 2: "aredappleb", 3: "zołty", 4: "[SEP]"}
    shares = torch.rand(3, len(pieces))
    torch.testing.assert_close(typed.merge(shares).sum(dim=-1), shares.sum(dim=-1))
    assert typed.merge(shares)[1, 1] == shares[1, typed.owners == 1].sum()


def test_attention_on_words_adds_up(text_encoder: TextEncoder) -> None:
    lesson = lesson_of(pipeline_of(TINY_JEPA_T, text_encoder))
    assert [word.text for word in lesson.words] == ["", "red", "apple,", "🍎", "twemoji", "style", ""]
    for step in lesson.steps:
        shares = torch.tensor(step.attention)
        assert shares.shape == (16, 7)
        torch.testing.assert_close(shares.sum(dim=1), torch.ones(16))
        assert (shares > 0).all()
    first, last = lesson.steps[0], lesson.steps[-1]
    kept = list(first.asked)
    assert [first.attention[position] for position in kept] == [last.attention[position] for position in kept]
    assert first.attention != last.attention


# ---- mistakes, and many at a time


def test_what_cannot_be_told_is_refused(tiny_weights: Path, text_encoder: TextEncoder) -> None:
    studio = loaded(tiny_weights)
    with pytest.raises(ValueError, match="leave out the edit"):
        next(studio.explain(GenerateRequest(prompt="rose", edit=Edit(job="0", step=0))))
    with pytest.raises(ValueError, match="steps is 17; allowed: 1 to 16"):
        next(studio.explain(GenerateRequest(prompt="rose", steps=17)))
    with pytest.raises(ValueError, match="word pieces; allowed: up to 128"):
        next(studio.explain(GenerateRequest(prompt="rose " * 130)))
    with pytest.raises(ValueError, match="fuse_after_predictor"):
        lesson_of(pipeline_of(replace(TINY_JEPA_T, fuse_after_predictor=False), text_encoder))
    assert isinstance(list(studio.explain(GenerateRequest(prompt="rose", steps=1)))[-1], Lesson)  # the lock is free


def test_lessons_take_turns_and_pictures_go_on(tiny_weights: Path) -> None:
    studio: Studio = loaded(tiny_weights)
    request = GenerateRequest(prompt="rose", steps=4, seed=3)
    alone = list(studio.generating.frames(request))[-1].image
    first = studio.explain(request)
    next(first)
    second: list[object] = []
    waiting = threading.Thread(target=lambda: second.extend(studio.explain(request)))
    waiting.start()
    assert same(list(studio.generating.frames(request))[-1].image, alone)
    assert not second  # it waits while the first one is not closed
    first.close()
    waiting.join(60)
    assert isinstance(second[-1], Lesson)

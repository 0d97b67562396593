"""Prompts of a known thing: how they are read, who notices that it was never shown in a style, how it is drawn then."""

import io
import re
import shutil
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from jepa_app.checkpoint import write_manifest
from jepa_app.config import JepaTConfig
from jepa_app.datasets.painting import PaintTask
from jepa_app.datasets.rows import Row as PromptRow
from jepa_app.engines.prompts import Prompts, features_of
from jepa_app.engines.thread import ThreadEngine
from jepa_app.engines.waiting import EngineRequest
from jepa_app.generation.likeness import NearestThing, sentence_features
from jepa_app.generation.picture import Picture, Shown, TokenStep
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.generation.sampler import Sampler
from jepa_app.generation.settings import SamplingSettings
from jepa_app.generation.vocabulary import Vocabulary
from jepa_app.lesson.lesson import Lesson, explain
from jepa_app.matching.scoring import Scorer
from jepa_app.models.text import TextEncoder
from jepa_app.studio.frames import Finish
from jepa_app.studio.requests import Edit, GenerateRequest
from jepa_app.studio.studio import Studio, Unseen
from tests.conftest import TINY_JEPA_T, TINY_TOKENIZER, write_tiny_weights
from training.data.captions import CaptionOptions, Row
from training.data.keywords import keywords_of
from training.judging.weights import load_generators
from training.recipe_kinds.generators import vocabulary_of
from training.studies.mixing.new_pairs import mixed

SHOWN = {
    "noto": ["red apple", "cat"],
    "fluent 3d": ["red apple", "cherries"],
    "fluent": ["rose", "twelve o’clock", "A button (blood type)"],
}
VOCABULARY = Vocabulary(things={style: frozenset(things) for style, things in SHOWN.items()})
NEW, OLD = "cat, fluent 3d style", "cat, noto style"
STEPS = 9  # enough for the plan of one and four tokens
SETTINGS = SamplingSettings(steps=STEPS, denoising_steps=2)


@pytest.mark.parametrize(
    ("prompt", "thing"),
    [
        ("cat, fluent 3d style", "cat"),
        ("  A Cat,  Fluent 3D style ", "cat"),
        ("🍒, noto style", "cherries"),
        ("cherries noto style", "cherries"),
        ("noto style, cherries", "cherries"),
        ("cherries in the noto design", "cherries"),
        ("please draw a picture of a cat in Fluent 3D style", "cat"),
        ("noto emoji of cherries", "cherries"),
        ("fluent red apple", "red apple"),
        ("red apple, fluent style", "red apple"),
        ("cat, noto style", None),
        ("red apple, fluent 3d style", None),
        ("cat", None),
        ("cat, twemoji style", None),
        ("dog, noto style", None),
        ("a cat left of a rose, fluent style", None),
        ("cat, noto style, fluent style", None),
        ("an angry cat, fluent style", None),
        ("fluent 3d apple", None),
        ("cat, noto style, cat", None),
        ("cat, FLUENT 3D STYLE", "cat"),
        ("twelve o'clock, noto style", "twelve o’clock"),
        ("button (blood type), noto style", "A button (blood type)"),
        ("cherries,notO style", "cherries"),
        ("a cat, fluent 3d style.", "cat"),
        ("cherries, notı style", None),
        ("cat, FLUENT 3D STYLİ", None),
        ("noto style", None),
        ("", None),
    ],
)
def test_a_known_thing_is_new_to_a_known_style_only_if_it_was_never_shown_in_it(prompt: str, thing: str | None) -> None:
    assert VOCABULARY.thing_new_to_style(prompt) == thing
    assert Vocabulary().thing_new_to_style(prompt) is None


@pytest.mark.parametrize(
    ("prompt", "caption"),
    [
        ("please draw a picture of a CAT in the Noto design", "cat, noto style"),
        ("fluent 3d emoji of cherries", "cherries, fluent 3d style"),
        ("cat in fluent 3d", "cat, fluent 3d style"),  # also a new pair
        ("could you show me a red apple", "red apple"),
        ("🍎", "red apple"),
        ("button (blood type)", "A button (blood type)"),
        ("cat, twemoji style", "cat, twemoji style"),
        ("an angry cat, noto style", "an angry cat, noto style"),
        ("a cat left of a rose", "a cat left of a rose"),
        ("a cat in a noto box", "a cat in a noto box"),
        ("noto style", "noto style"),
        ("  please ", "  please "),
        ("", ""),
    ],
)
def test_a_thing_that_is_asked_for_in_a_sentence_is_read_as_its_caption(prompt: str, caption: str) -> None:
    assert VOCABULARY.caption_of(prompt) == caption
    assert VOCABULARY.caption_of(caption) == caption
    assert Vocabulary().caption_of(prompt) == prompt


def test_training_keeps_the_things_of_each_style(text_encoder: TextEncoder) -> None:
    rows = [
        Row(file="1.png", label="Red Apple", style="fluent3d"),
        Row(file="2.png", label="a cat", style="my Pixels"),
        Row(file="3.png", label="a plain thing"),
    ]
    vocabulary = vocabulary_of(rows, CaptionOptions(), text_encoder)
    assert dict(vocabulary.things) == {"fluent 3d": {"Red Apple"}, "my Pixels": {"a cat"}, "": {"a plain thing"}}
    assert vocabulary.thing_new_to_style("red apple, My pixels style") == "Red Apple"
    assert vocabulary.words is not None
    assert {"red", "apple", "cat", "plain"} <= vocabulary.words


KEYWORDS = Vocabulary(
    things={
        "noto": frozenset(["automobile", "taxi", "red heart", "smiling face with hearts", "pizza", "A button"]),
        "fluent 3d": frozenset(["automobile", "grinning cat", "pizza"]),
    },
    keywords={
        "car": ("automobile", "taxi"),
        "yellow": ("taxi",),
        "love": ("red heart", "smiling face with hearts"),
        "Slice": ("pizza",),
        "happy": ("grinning cat", "smiling face with hearts"),
        "pet": ("grinning cat", "a dog that was never shown"),
        "gone": ("a dog that was never shown",),
        "cup of tea": ("A button",),
    },
)


@pytest.mark.parametrize(
    ("prompt", "caption"),
    [
        ("car", "automobile"),
        ("please draw a CAR in the noto design", "automobile, noto style"),
        ("a yellow car", "taxi"),
        ("a slice of pizza, fluent 3d style", "pizza, fluent 3d style"),
        ("happy cat", "grinning cat"),
        ("happy love", "smiling face with hearts"),
        ("yellow pizza", None),  # a thing and something else
        ("happy automobile", None),
        ("love of pizza", None),
        ("pet, noto style", "grinning cat, noto style"),
        ("the cup of tea", "A button"),
        ("automobile", None),  # a thing itself
        ("red car", None),
        ("car and taxi", None),
        ("car left of a taxi", None),
        ("car, taxi", None),
        ("gone", None),
        ("of", None),
        ("noto style", None),
        ("", None),
    ],
)
def test_a_thing_is_found_by_its_keywords(prompt: str, caption: str | None) -> None:
    assert KEYWORDS.caption_by_keyword(prompt) == caption
    assert KEYWORDS.caption_of(prompt) == (caption or prompt)
    assert replace(KEYWORDS, keywords={}).caption_by_keyword("car") is None


def test_a_thing_alone_is_drawn_in_a_style_that_it_was_shown_in() -> None:
    seen = {seed: KEYWORDS.in_a_style("please draw a pizza", seed) for seed in range(20)}
    assert set(seen.values()) == {"pizza, noto style", "pizza, fluent 3d style"}
    assert {KEYWORDS.in_a_style("a pizza", seed) for seed in (3, 3, 3)} == {seen[3]}
    assert {KEYWORDS.in_a_style("taxi", seed) for seed in range(9)} == {"taxi, noto style"}
    for seed in range(20):  # of things that were shown in both
        assert KEYWORDS.in_a_style("car", seed) == seen[seed].replace("pizza", "automobile")
    for prompt in (
        "pizza, noto style",
        "taxi, fluent 3d style",
        "a pizza left of a taxi",
        "red pizza",
        "",
        "noto style",
    ):
        assert KEYWORDS.in_a_style(prompt, 1) == prompt


def test_without_a_style_all_draw_the_picture_of_the_style_that_the_seed_gives(
    pipeline: JepaTPipeline, weights: Path
) -> None:
    seed = next(seed for seed in range(99) if VOCABULARY.in_a_style("red apple", seed) != "red apple, noto style")
    styled = VOCABULARY.in_a_style("red apple", seed)
    pictures = [
        pipeline(prompt, num_inference_steps=2, generator=torch.Generator().manual_seed(seed), output_type="pt").images
        for prompt in (styled, "a red apple", "red apple, noto style")
    ]
    assert torch.equal(pictures[0], pictures[1])
    assert not torch.equal(pictures[0], pictures[2])
    engine = ThreadEngine(pipeline)
    try:
        settings = replace(pipeline.defaults, steps=2)
        asked = [EngineRequest(prompt=prompt, settings=settings, seed=seed) for prompt in (styled, "a red apple")]
        ends = [list(engine.submit(request))[-1].tokens for request in asked]
        assert torch.equal(*ends)
    finally:
        engine.close()
    *_, lesson = explain(pipeline, "a red apple", settings=settings, seed=seed)
    assert isinstance(lesson, Lesson)
    assert [word.text for word in lesson.words if word.kind == "word"] == styled.split()
    task = PaintTask(
        weights=str(weights), request=GenerateRequest(prompt="each has its own", steps=2), finish=Finish()
    ).load("cpu")
    made = [task.work([PromptRow(keys=(0,), words=words)], [None], [seed])[0] for words in (styled, "a red apple")]
    assert made[0]["image"] != made[1]["image"]  # which hold their prompts
    opened = [Image.open(io.BytesIO(one["image"])).tobytes() for one in made]
    assert opened[0] == opened[1]


def test_a_thing_found_by_its_keyword_may_be_new_to_a_style() -> None:
    assert KEYWORDS.thing_new_to_style("pet, noto style") == "grinning cat"
    assert KEYWORDS.thing_new_to_style("love, fluent 3d style") == "red heart"
    assert KEYWORDS.thing_new_to_style("car, noto style") is None


def test_a_keyword_means_the_thing_that_is_most_like_it(text_encoder: TextEncoder) -> None:
    tags = {
        "automobile": ["car", "drive"],
        "police car": ["car", "police"],
        "racing car": ["car"],
        "taxi": ["car", "taxi"],
    }
    rows = [
        Row(file=f"{label}, {style}.png", label=label, style=style, tags=tuple(words))
        for style in ("noto", "twemoji")
        for label, words in tags.items()
    ]
    found = keywords_of(rows, text_encoder)
    assert {word: set(labels) for word, labels in found.items()} == {
        "car": set(tags),
        "drive": {"automobile"},
        "police": {"police car"},
    }
    assert found["car"][0] == "automobile"
    assert keywords_of([Row(file="a.png", label="a cat")], text_encoder) == {}
    waters = ["water pistol", "water wave", "droplet", "non-potable water", "snowman without snow", "snowflake"]
    wet = [Row(file=f"{label}.png", label=label, tags=("water", "snow")) for label in waters]
    assert keywords_of(wet, text_encoder)["water"][0] == "non-potable water"
    assert keywords_of(wet, text_encoder)["snow"][0] == "snowflake"
    trees = [Row(file=f"{label}.png", label=label, tags=("palm",)) for label in ("coconut", "palm tree")]
    assert keywords_of(trees, text_encoder)["palm"][0] == "palm tree"
    assert keywords_of([Row(file="a.png", label="swan", tags=("ugly", "bird"))], text_encoder) == {"bird": ("swan",)}
    assert vocabulary_of(rows, CaptionOptions(), text_encoder).caption_of("car, noto style") == "automobile, noto style"


@pytest.fixture(scope="module")
def alike(text_encoder: TextEncoder, tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    """A vocabulary that also reads words of a like meaning."""
    names = "motorcycle,fire engine,headphone,dragon,cat,dog,sun,potato,red apple,green apple,black cat,pineapple"
    shown = frozenset(names.split(","))
    folder = tmp_path_factory.mktemp("alike")
    Vocabulary(things={"noto": shown, "fluent 3d": frozenset(["cat"])}, keywords={"kitty": ("cat",)}).save(folder)
    return Vocabulary.load(folder, text_encoder)


@pytest.mark.parametrize(
    ("prompt", "caption"),
    [
        ("motorbike", "motorcycle"),
        ("please draw a Motorbike in the noto design", "motorcycle, noto style"),
        ("fire truck, noto style", "fire engine, noto style"),
        ("a purple dragon", "dragon"),
        ("headphones", "headphone"),
        ("kitty", "cat"),
        ("cat", None),
        ("carrot", None),  # is like a potato, but not enough
        ("quantum physics", None),
        ("a motorbike and a fire truck", None),
        ("motorbike left of the sun", None),
        ("a motorbike on a blue background", None),
        ("two dragons", None),
        ("a dozen red apples", None),
        ("cat & dog", None),
        ("cat with dog", None),
        ("dog cat", None),
        ("dragon with pineapple", None),
        ("white cat", None),  # not the black one
        ("gray cat", None),
        ("lots of red apples", None),
        ("twelve red apples", None),
        ("blue apple", None),
        ("dark green apple", "green apple"),
        ("a motorbike!", "motorcycle"),
        ("3 dragons", None),
        ("dragons, suns", None),
        ("motorbike, twemoji style", None),
        ("noto style", None),
        ("", None),
        ("purple " * 12 + "dragon", None),
    ],
)
def test_a_thing_is_found_by_words_that_mean_nearly_the_same(
    alike: Vocabulary, prompt: str, caption: str | None
) -> None:
    assert alike.caption_by_keyword(prompt) == caption
    assert alike.caption_of(prompt) == (caption or prompt)
    assert alike.caption_of(prompt, by_keywords=False) == prompt
    assert replace(alike, nearest=None).caption_of("motorbike") == "motorbike"


def test_negative_prompts_are_not_compared_by_meaning(
    text_encoder: TextEncoder, alike: Vocabulary, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NearestThing, "__call__", lambda *_: pytest.fail("it takes time and is thrown away"))
    assert alike.caption_of("blurry", by_keywords=False) == "blurry"
    prepared = NearestThing(["motorcycle", "sun"], text_encoder)
    prepared.prepare()
    monkeypatch.undo()
    monkeypatch.setattr(
        "jepa_app.generation.likeness.sentence_features",
        lambda texts, encoder, whole=sentence_features: whole(texts, encoder) if len(texts) == 1 else [],
    )
    assert prepared("motorbike") == "motorcycle"


def test_things_by_the_ten_thousands_are_not_compared_by_meaning(
    tmp_path: Path, text_encoder: TextEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jepa_app.generation.vocabulary.MOST_THINGS", 2)
    for number, nearest in ((2, "motorcycle"), (3, "motorbike")):
        things = frozenset(["motorcycle", "sun", "moon"][:number])
        Vocabulary(things={"noto": things}).save(tmp_path)
        assert Vocabulary.load(tmp_path, text_encoder).caption_of("motorbike") == nearest
    assert Vocabulary.load(tmp_path / "nothing", text_encoder) == Vocabulary()


def test_one_s_own_captions_are_read_as_they_are(text_encoder: TextEncoder) -> None:
    rows = [Row(file="1.png", label="a red car"), Row(file="2.png", label="a cat")]
    own = vocabulary_of(rows, CaptionOptions(), text_encoder)
    known = own | KEYWORDS
    for prompt in ("a cat", "A Red Car.", "a red car"):
        assert known.caption_of(prompt) == known.in_a_style(prompt, 1) == prompt
        assert known.thing_new_to_style(prompt) is None
    assert known.caption_of("car, noto style") == "automobile, noto style"
    assert known.caption_of("a pizza") == "pizza"


def test_a_word_of_like_meaning_is_drawn_as_the_thing_and_measured_as_it_is(weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(weights, folder)
    Vocabulary(things={"noto": frozenset(["motorcycle"])}).save(folder / "jepa-t")
    write_manifest(folder)
    pipeline = JepaTPipeline.from_pretrained(folder)
    read, typed = (pipeline.encode_prompts([words]).tokens for words in ("motorcycle", "motorbike"))
    assert torch.equal(read, typed)
    negative = pipeline.encode_prompts(["motorbike"], by_keywords=False).tokens
    assert not torch.equal(read, negative)
    measured = next(iter(load_generators(folder, "cpu")))
    assert isinstance(measured, JepaTPipeline)
    assert torch.equal(measured.encode_prompts(["motorbike"]).tokens, negative)


def test_what_two_trainings_taught_is_known_to_both() -> None:
    other = Vocabulary(words=frozenset(["sun"]), things={"noto": frozenset(["sun"]), "blob": frozenset(["cat"])})
    both = VOCABULARY | other
    assert both.words == {"sun"}
    assert (both.things["noto"], both.things["blob"]) == ({"red apple", "cat", "sun"}, {"cat"})
    assert both.things.keys() == {*SHOWN, "blob"}
    assert (VOCABULARY | Vocabulary()) == VOCABULARY
    more = Vocabulary(keywords={"car": ("taxi", "bus"), "sun": ("sun",)})
    assert (KEYWORDS | more).keywords == {**KEYWORDS.keywords, "car": ("automobile", "taxi", "bus"), "sun": ("sun",)}
    assert (replace(other, things={}) | replace(other, words=frozenset(["moon"]))).words == {"sun", "moon"}


def test_things_lie_beside_the_weights_and_are_checked(tmp_path: Path) -> None:
    assert Vocabulary.load(tmp_path) == Vocabulary()
    for name, vocabulary in (("things.json", VOCABULARY), ("keywords.json", KEYWORDS)):
        vocabulary.save(tmp_path)
        assert Vocabulary.load(tmp_path) == vocabulary
        whole = (tmp_path / name).read_text()
        for broken in ("{", "[]", '{"noto": "cat"}', '{"noto": [1]}'):
            (tmp_path / name).write_text(broken)
            with pytest.raises(ValueError, match=re.escape(name)):
                Vocabulary.load(tmp_path)
        (tmp_path / name).write_text(whole)


def test_a_style_that_is_called_like_a_word_of_a_thing_is_not_taken_for_one() -> None:
    vocabulary = Vocabulary(things={"red": frozenset(["rose"]), "blue": frozenset(["apple", "red apple"])})
    assert vocabulary.thing_new_to_style("red apple") is None
    assert vocabulary.thing_new_to_style("apple, red style") == "apple"
    assert vocabulary.thing_new_to_style("rose, blue style") == "rose"


@pytest.mark.parametrize("shares", [(0.5,), (0.5, 3.0), (0.5, float("nan")), (0.5, "a")])
def test_shares_that_mean_nothing_are_refused(shares: tuple[object, ...]) -> None:
    with pytest.raises(ValueError, match=r"sampling_thing_shares is .*; allowed: "):
        JepaTConfig.from_dict({"sampling_thing_shares": list(shares)})


# --- drawing


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny weights with a plan that know what they were shown, as wide as a CPU needs to round alike in company."""
    tokenizer = replace(TINY_TOKENIZER, channels=48, plan=(1, 2))
    folder = write_tiny_weights(
        tmp_path_factory.mktemp("new_pairs"), tokenizer, replace(TINY_JEPA_T, channels=48, plan=(1, 2))
    )
    VOCABULARY.save(folder / "jepa-t")
    write_manifest(folder)
    return folder


@pytest.fixture(scope="module")
def pipeline(weights: Path) -> JepaTPipeline:
    return JepaTPipeline.from_pretrained(weights)


def drawn(pipeline: object, prompts: Sequence[str], guidance: float = 1.5) -> Tensor:
    assert callable(pipeline)
    images: Tensor = pipeline(
        prompts,
        num_inference_steps=STEPS,
        guidance_scale=guidance,
        temperature=0.8,
        denoising_steps=2,
        generator=[torch.Generator().manual_seed(number) for number in range(len(prompts))],
        output_type="pt",
    ).images
    return images


def plain(weights: Path) -> JepaTPipeline:
    """The same network without knowing what it was shown."""
    pipeline = JepaTPipeline.from_pretrained(weights)
    pipeline.vocabulary = Vocabulary()
    return pipeline


@pytest.mark.parametrize("guidance", [1.0, 1.5, 3.0])
def test_new_pairs_are_drawn_as_the_sum_of_what_each_text_predicts(
    pipeline: JepaTPipeline, weights: Path, guidance: float
) -> None:
    expected = drawn(mixed(plain(weights), *TINY_JEPA_T.sampling_thing_shares), [NEW, NEW], guidance)
    torch.testing.assert_close(drawn(pipeline, [NEW, NEW], guidance), expected, atol=1e-3, rtol=0)
    assert (drawn(plain(weights), [NEW, NEW], guidance) - expected).abs().max() > 1e-2


def test_other_prompts_are_drawn_as_before_also_beside_new_pairs(pipeline: JepaTPipeline, weights: Path) -> None:
    prompts = [OLD, NEW, "an old submarine", "dog, noto style"]
    together, without = drawn(pipeline, prompts), drawn(plain(weights), prompts)
    for row in (0, 2, 3):
        torch.testing.assert_close(together[row], without[row], atol=1e-3, rtol=0)
    assert (together[1] - without[1]).abs().max() > 1e-2


def test_pictures_with_one_two_and_three_texts_share_a_step(pipeline: JepaTPipeline) -> None:
    """They differ in guidance and numbers of denoising steps too, and join one after another."""
    network, features = pipeline.network, pipeline.encode_prompts
    asked = [
        ("cat", 1.0, 2, None),
        (NEW, 1.5, 2, "cat"),
        (OLD, 3.0, 3, None),
        (NEW, 1.0, 3, "cat"),
        (NEW, 4.0, 2, "cat"),
    ]

    def begun(number: int) -> Picture:
        settings = replace(SETTINGS, guidance=asked[number][1], denoising_steps=asked[number][2])
        return Picture.begin(network, settings, torch.Generator().manual_seed(number))

    def add(sampler: Sampler, picture: Picture, number: int) -> None:
        prompt, _, _, thing = asked[number]
        alone = sampler.start(features([thing]))[0] if thing else None
        sampler.add(picture, sampler.start(features([prompt]))[0], thing=alone)

    company, pictures = Sampler(network, pipeline.denoising), [begun(number) for number in range(len(asked))]
    for number, picture in enumerate(pictures):
        add(company, picture, number)
        company.step()
    while company.pictures:
        company.step()
    for number, picture in enumerate(pictures):
        alone, by_itself = Sampler(network, pipeline.denoising), begun(number)
        add(alone, by_itself, number)
        while alone.pictures:
            alone.step()
        torch.testing.assert_close(picture.tokens, by_itself.tokens, atol=1e-3, rtol=0)


def test_the_engine_a_resumed_run_a_lesson_and_a_data_set_make_the_same_picture(
    pipeline: JepaTPipeline, weights: Path
) -> None:
    *_, expected = pipeline.stream(
        NEW, num_inference_steps=STEPS, denoising_steps=5, generator=torch.Generator().manual_seed(3)
    )
    settings = replace(pipeline.defaults, steps=STEPS)
    engine = ThreadEngine(pipeline)
    try:
        request = EngineRequest(prompt=NEW, settings=settings, seed=3)
        steps = list(engine.submit(request))
        assert torch.equal(steps[-1].tokens, expected.tokens[0])
        for after in (1, 5):  # within the plan, and within the picture
            *_, last = engine.submit(replace(request, after=steps[after]))
            assert torch.equal(last.tokens, steps[-1].tokens)
    finally:
        engine.close()
    *_, lesson = explain(pipeline, NEW, settings=settings, seed=3)
    assert isinstance(lesson, Lesson)
    [picture] = pipeline.pictures(expected.tokens, expected.known)
    assert lesson.steps[-1].picture.tobytes() == picture.tobytes()
    assert (lesson.mixed_in, lesson.shares) == ("cat", TINY_JEPA_T.sampling_thing_shares)
    asked = GenerateRequest(prompt="every row has its own", seed=3, steps=STEPS)
    task = PaintTask(weights=str(weights), request=asked, finish=Finish())
    [made] = task.load("cpu").work([PromptRow(keys=(0,), words=NEW)], [None], [0])
    assert isinstance(made, dict)
    assert Image.open(io.BytesIO(made["image"])).tobytes() == picture.tobytes()


def test_a_negative_prompt_is_what_a_mixture_moves_away_from(pipeline: JepaTPipeline) -> None:
    def made(away: str | None) -> Tensor:
        *_, last = pipeline.stream(
            NEW,
            num_inference_steps=STEPS,
            denoising_steps=2,
            negative_prompt=away,
            generator=torch.Generator().manual_seed(1),
        )
        return last.tokens

    assert (made("red apple") - made(None)).abs().max() > 1e-2
    assert torch.equal(made(" "), made(None))


def test_without_a_plan_the_thing_is_not_mixed_in(pipeline: JepaTPipeline, weights: Path) -> None:
    """As with too few steps for one, and where a part is redone: the thing enters by the plan."""

    def made(by: JepaTPipeline, **asked: Any) -> TokenStep:
        engine = ThreadEngine(by)
        try:
            *_, last = engine.submit(EngineRequest(prompt=NEW, seed=3, **asked))
        finally:
            engine.close()
        return last

    short = replace(SETTINGS, steps=2)
    assert torch.equal(made(pipeline, settings=short).tokens, made(plain(weights), settings=short).tokens)
    whole = made(pipeline, settings=SETTINGS)
    known = whole.known.index_fill(0, torch.tensor([5, 6, *range(16, 21)]), False)
    shown = Shown(whole.tokens, known)
    redone = made(pipeline, settings=SETTINGS, shown=shown)
    assert not redone.known[16:].any()
    assert torch.equal(redone.tokens, made(plain(weights), settings=SETTINGS, shown=shown).tokens)
    planned = Shown(whole.tokens, whole.known.index_fill(0, torch.tensor([5, 6]), False))  # the rest of such a run
    other = made(plain(weights), settings=SETTINGS, shown=planned)
    assert not torch.equal(made(pipeline, settings=SETTINGS, shown=planned).tokens, other.tokens)


def test_however_it_is_said_the_same_thing_is_drawn(pipeline: JepaTPipeline, weights: Path) -> None:
    def made(by: JepaTPipeline, prompt: str, away: str | None = None) -> Tensor:
        asked = {"num_inference_steps": STEPS, "denoising_steps": 2, "negative_prompt": away}
        *_, last = by.stream(prompt, generator=torch.Generator().manual_seed(1), **asked)
        return last.tokens

    for said, caption in (("please draw a noto cat", OLD), ("a cat in fluent 3d style", NEW)):
        assert torch.equal(made(pipeline, said), made(pipeline, caption))
        assert not torch.equal(made(plain(weights), said), made(plain(weights), caption))
    assert torch.equal(made(pipeline, OLD, "some cherries"), made(pipeline, OLD, "cherries"))
    *_, lesson = explain(pipeline, "please draw a noto cat", settings=SETTINGS, seed=1)
    assert isinstance(lesson, Lesson)
    assert [word.text for word in lesson.words] == ["", "cat,", "noto", "style", ""]


def test_shares_of_zero_and_networks_without_a_plan_mix_nothing(pipeline: JepaTPipeline, weights: Path) -> None:
    assert pipeline.thing_alone(NEW) == "cat"
    for config in (
        replace(pipeline.network.config, sampling_thing_shares=(0.0, 0.0)),
        replace(pipeline.network.config, plan=()),
    ):
        other = plain(weights)
        other.vocabulary, other.network.config = VOCABULARY, config
        assert other.thing_alone(NEW) is None


def test_a_redone_part_keeps_the_style_that_the_first_seed_drew(weights: Path) -> None:
    pipeline = JepaTPipeline.from_pretrained(weights)
    pipeline.vocabulary = VOCABULARY
    engine = ThreadEngine(pipeline)
    studio = Studio(engine, Scorer.from_pretrained(weights), weights)
    asked: list[EngineRequest] = []
    submit = engine.submit
    engine.submit = lambda request, inbox=None: asked.append(request) or submit(request, inbox)  # type: ignore
    try:
        request = GenerateRequest(prompt="a red apple", steps=STEPS, seed=5)
        *_, last = studio.generating.frames(request)
        for edit in (Edit(job=last.job, step=3, redo=(1, 2)), Edit(job=last.job, step=3)):
            *_, after = studio.generating.frames(replace(request, seed=None, edit=edit))
            studio.generating.predicted(after.job, after.index - 1, None)
            *_, _ = studio.generating.frames(replace(request, seed=None, edit=replace(edit, job=after.job)))
    finally:
        studio.close()
    assert [one.style_seed for one in asked] == [5] * 7
    assert len({one.seed for one in asked}) > 1


def test_a_prompt_and_a_negative_prompt_of_the_same_words_are_read_each_in_its_way(weights: Path) -> None:
    pipeline = JepaTPipeline.from_pretrained(weights)
    pipeline.vocabulary = KEYWORDS
    words = "car, noto style"
    both = EngineRequest(prompt=words, negative_prompt=words, settings=SETTINGS, seed=1)
    for first in (both, replace(both, prompt="pizza"), replace(both, negative_prompt=None)):
        prompts = Prompts(pipeline)
        prompts.of(first)
        texts = features_of(prompts.of(both))
        assert torch.equal(texts["prompt"].tokens, pipeline.encode_prompts([words]).tokens)
        assert torch.equal(texts["negative"].tokens, pipeline.encode_prompts([words], by_keywords=False).tokens)


def test_a_served_studio_encodes_its_labels_before_it_is_asked(
    weights: Path, alike: Vocabulary, text_encoder: TextEncoder
) -> None:
    pipeline = JepaTPipeline.from_pretrained(weights)
    studio = Studio(ThreadEngine(pipeline), Scorer.from_pretrained(weights), weights)
    try:
        nearest = NearestThing(["motorcycle", "sun"], text_encoder)
        pipeline.vocabulary = replace(alike, nearest=nearest)
        studio.prepare()
        for thread in [one for one in threading.enumerate() if one.name == "labels"]:
            assert not thread.daemon  # which would be cut off in the middle of torch when the process ends
            thread.join()
        assert "_features" in vars(nearest)
    finally:
        studio.close()


def test_styles_that_were_never_shown_are_told() -> None:
    known = replace(VOCABULARY, words=frozenset(["cat"]))
    assert known.unknown_words("cat, fluent 3d style") == []
    assert known.unknown_words("cat, blob style") == ["blob"]
    assert replace(known, things={}).unknown_words("cat, blob style") == []


def test_the_studio_tells_what_is_new(weights: Path) -> None:
    pipeline = JepaTPipeline.from_pretrained(weights)
    pipeline.vocabulary = replace(VOCABULARY, words=frozenset(["cat", "apple"]))
    studio = Studio(ThreadEngine(pipeline), Scorer.from_pretrained(weights), weights)
    assert studio.unseen(NEW) == Unseen(thing="cat")
    assert studio.unseen("astronaut, noto style") == Unseen(words=("astronaut",))
    assert studio.unseen(OLD) == studio.unseen(None) == Unseen()

"""What a visitor sees first: a finished run, and which words of a prompt the model has never seen."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from jepa_app.__main__ import main
from jepa_app.checkpoint import EXAMPLE_FILE, write_manifest
from jepa_app.files.pictures import open_picture
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.generation.vocabulary import Vocabulary
from jepa_app.generation.wording import words_of
from jepa_app.matching.scoring import Scorer
from jepa_app.studio.example import EXAMPLE, read_example
from jepa_app.studio.export import weights_name
from jepa_app.studio.matches import Matching
from jepa_app.studio.requests import GenerateRequest
from jepa_app.studio.studio import DEFAULT_WEIGHTS, Studio
from jepa_app.ui import texts
from jepa_app.ui.match.tab import EXAMPLES
from tests.conftest import write_tiny_weights

KNOWN = Vocabulary(
    words=frozenset(words_of(["red apple, twemoji style", "a kitten’s ball", "cherries", "run", "jack-o-lantern"]))
)


@pytest.mark.parametrize(
    ("prompt", "unknown"),
    [
        ("red apple", []),
        ("Red APPLES, noto style", []),
        ("a picture of an astronaut with a kitten", ["astronaut"]),
        ("please draw me an apple in the twemoji design", []),
        ("could you show us a kitten, I would like to see one wearing a hat", ["one", "wearing", "hat"]),
        ("cherry", []),
        ("running kittens", []),
        ("a kitten's ball", []),
        ("🍎 42 3d", []),
        ("🚀", ["rocket"]),
        ("zebra, fluent 3d style, zebra", ["zebra"]),
        ("jack-o-lantern", []),
        ("", []),
    ],
)
def test_words_never_seen_are_named_once_and_whatever_their_ending(prompt: str, unknown: list[str]) -> None:
    assert KNOWN.unknown_words(prompt) == unknown


def test_words_lie_beside_the_weights_and_are_checked_like_them(tmp_path: Path) -> None:
    folder = write_tiny_weights(tmp_path)
    assert JepaTPipeline.from_pretrained(folder).vocabulary.words is None
    Vocabulary(words=frozenset(["apple", "été"])).save(folder / "jepa-t")
    with pytest.raises(ValueError, match="files missing from the manifest"):
        JepaTPipeline.from_pretrained(folder)
    write_manifest(folder)
    pipeline = JepaTPipeline.from_pretrained(folder)
    assert pipeline.vocabulary.words == {"apple", "été"}
    pipeline.save_pretrained(tmp_path / "again")
    assert JepaTPipeline.from_pretrained(tmp_path / "again").vocabulary.words == {"apple", "été"}
    for broken in ("[", "{}", "[1]"):
        (folder / "jepa-t" / "words.json").write_text(broken)
        with pytest.raises(ValueError, match=r"words\.json"):
            Vocabulary.load(folder / "jepa-t")


def test_a_finished_run_is_kept_beside_the_weights_and_shown_without_work(tmp_path: Path, capsys: Any) -> None:
    folder = write_tiny_weights(tmp_path)
    assert Studio.load(folder).example is None
    words = ["example", "red apple", "--weights", str(folder), "--seed", "5", "--json"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["file"] == str(folder / EXAMPLE_FILE)
    studio = Studio.load(folder)
    assert studio.example == EXAMPLE
    shown = studio.generating.kept_frames(EXAMPLE)
    request = GenerateRequest(prompt="red apple", seed=5, **studio.info()["sampling"])
    made = list(studio.generating.frames(request))
    assert [frame.image.tobytes() for frame in shown] == [frame.image.tobytes() for frame in made]
    assert [(frame.index, frame.total, frame.born, frame.request) for frame in shown] == [
        (frame.index, frame.total, frame.born, frame.request) for frame in made
    ]
    for number in range(70):  # more runs than are kept
        list(studio.generating.frames(GenerateRequest(prompt="cat", steps=1, seed=number)))
    assert len(studio.generating.kept_frames(EXAMPLE)) == len(made)
    assert studio.match_frames(EXAMPLE, [len(made) - 1])[0].caption == "red apple"


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("seconds", lambda _: "5"),
        ("seconds", lambda _: "[" * 100_000),
        ("seconds", lambda _: json.dumps([0.1] * 1000)),
        ("seconds", lambda _: '["a", "b"]'),
        ("seconds", lambda _: "[0.1]"),
        ("seconds", lambda _: f"[{10**400}, 1]"),
        ("request", lambda _: "[1]"),
        ("step", lambda step: step / 0.0),
        ("tokens", lambda tokens: tokens[1:].clone()),
        ("tokens", lambda tokens: tokens * float("nan")),
        ("step", lambda step: step[1:].clone()),
        ("step", lambda step: step + 9),
    ],
)
def test_a_run_that_no_such_weights_made_is_told(part: str, change: Callable[[Any], Any], tmp_path: Path) -> None:
    folder = write_tiny_weights(tmp_path)
    Studio.load(folder).write_example(GenerateRequest(prompt="rose", steps=2, seed=1))
    with safe_open(folder / EXAMPLE_FILE, "pt") as file:
        told, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    written = told | tensors
    written[part] = change(written[part])
    save_file({name: written[name] for name in tensors}, folder / EXAMPLE_FILE, {name: written[name] for name in told})
    with pytest.raises(ValueError, match=r"example\.safetensors is broken"):
        read_example(folder)


def test_a_run_of_other_weights_is_not_shown_and_a_broken_one_is_told(tmp_path: Path) -> None:
    folder = write_tiny_weights(tmp_path)
    Studio.load(folder).write_example(GenerateRequest(prompt="rose", steps=2, seed=1))
    assert read_example(folder) is not None
    Vocabulary(words=frozenset(["rose"])).save(folder / "jepa-t")
    write_manifest(folder)
    weights_name.cache_clear()  # a process loads weights once
    assert read_example(folder) is None
    (folder / EXAMPLE_FILE).write_bytes(b"not a run")
    with pytest.raises(ValueError, match=r"example\.safetensors is broken"):
        read_example(folder)


def test_unknown_words_need_known_ones(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    assert studio.unseen("astronaut").words == ()
    monkeypatch.setattr(studio._pipeline, "vocabulary", KNOWN)
    assert studio.unseen("red astronaut").words == ("astronaut",)


def test_the_trainer_keeps_what_its_captions_say(tmp_path: Path) -> None:
    from jepa_app.models.text import TextEncoder
    from jepa_app.models.tokenizers.tokenizer import make_tokenizer
    from tests.conftest import TINY_JEPA_T, TINY_TOKENIZER
    from tests.training.test_training import objective_of  # its tiny objective

    torch.manual_seed(0)
    objective = objective_of(TINY_JEPA_T, make_tokenizer(TINY_TOKENIZER), TextEncoder.load())
    objective.vocabulary = Vocabulary(words=frozenset(["apple", "cat"]), things={"noto": frozenset(["cat"])})
    objective.save(tmp_path / "weights")
    objective.save_unaveraged(tmp_path / "unaveraged")
    assert all(Vocabulary.load(tmp_path / kept) == objective.vocabulary for kept in ("weights", "unaveraged"))


@pytest.mark.parametrize(
    ("picture", "right", "wrong"),
    [
        ("red-apple", "red apple", {"green apple": "colour"}),
        ("blue-apple", "blue apple", {"red apple": "colour", "green apple": "colour"}),
        ("rose-left-of-cat", "a rose left of a cat", {"a rose right of a cat": "side"}),
        ("three-tulips", "three tulips", {"two tulips": "number"}),
    ],
)
def test_the_examples_of_the_match_tab_show_what_they_are_for(picture: str, right: str, wrong: dict[str, str]) -> None:
    scores = Matching(Scorer.from_pretrained(DEFAULT_WEIGHTS, "cpu")).score(
        open_picture(EXAMPLES / f"{picture}.webp"), texts.MATCH_EXAMPLES[picture]
    )
    assert scores[0].caption == right
    assert scores[0].probability > 0.9
    assert {one.caption: one.differs for one in scores if one.differs} == wrong
    assert all(one.probability < 0.1 and one.closer == right for one in scores if one.differs)

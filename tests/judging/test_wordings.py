"""Asking for the same things in other words: what is asked, and the study's command."""

import json
from pathlib import Path

import pytest

from jepa_app.checkpoint import load_network, save_network, write_manifest
from jepa_app.config import JepaTConfig
from jepa_app.models.jepa_t import JepaT
from jepa_app.models.text import TextEncoder
from tests.conftest import awake
from tests.support.drawn_corpus import write_corpus, write_exact_weights
from training.data.batches import CaptionedPictures
from training.data.captions import CaptionOptions, Row
from training.data.sentences import said_of
from training.recipe_kinds.generators import vocabulary_of
from training.studies import wordings

APPLE = Row(file="twemoji/a.webp", label="red apple", style="twemoji", hexcode="1F34E", tags=("fruit", "food"))


def test_each_wording_is_shown_by_what_it_asks_for_an_apple() -> None:
    assert {name: wording(APPLE) for name, wording in wordings.WORDINGS.items()} == wordings.SHOWN


def test_training_says_the_captions_and_never_the_sentences() -> None:
    rows = [Row(**{**vars(APPLE), "file": f"{number}.webp", "hexcode": f"{number}"}) for number in range(300)]
    all_said = said_of([APPLE, *rows], CaptionOptions(sentences=1))
    assert len(all_said) > 20  # every template is among them
    said = {name: caption in all_said for name, caption in wordings.SHOWN.items()}
    assert said == {
        "canonical": True,
        "styled": True,
        "sentence": False,
        "thing": True,
        "thing_sentence": False,
        "keyword": False,
    }


@pytest.mark.slow
def test_every_wording_is_judged_on_both_sides(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    weights = write_exact_weights(tmp_path / "weights")
    network = awake(load_network(weights / "jepa-t", JepaTConfig, JepaT))
    save_network(weights / "jepa-t", network, network.config)
    corpus = write_corpus(tmp_path)
    data = CaptionedPictures.load(corpus, 32, CaptionOptions())
    vocabulary_of([data.rows[index] for index in data.split.train], data.options, TextEncoder.load()).save(
        weights / "jepa-t"
    )
    write_manifest(weights)
    arguments = [str(weights), "--data", str(corpus), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert wordings.main([*arguments, "--set", "prompts=12", "--set", "steps=2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["setting"]["prompts"] == 12
    for name in wordings.WORDINGS:
        assert 0 <= document["figures"][f"concept_top5_left_out_{name}"] <= 1
        rows = (tmp_path / "out" / f"judged_{name}.csv").read_text().splitlines()[1:]
        assert len(rows) == 12
    assert "please draw a picture of" in (tmp_path / "out" / "judged_sentence.csv").read_text()
    assert document["figures"]["frechet_sentence"] != document["figures"]["frechet_canonical"]
    assert wordings.main([*arguments, "--set", "prompts=12", "--set", "steps=2", "--set", "read=true", "--json"]) == 0
    read = json.loads(capsys.readouterr().out)["figures"]
    for wording in ("styled", "sentence"):  # the studio reads them as the caption
        assert read[f"frechet_{wording}"] == read["frechet_canonical"] == document["figures"]["frechet_canonical"]

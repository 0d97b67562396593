"""Sums of predictions, of a weaker generator and under the thing alone, and the commands of the studies."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from jepa_app.checkpoint import load_config
from jepa_app.config import JepaTConfig
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.models.jepa_t import JepaT
from tests.conftest import awake
from tests.support.drawn_corpus import write_corpus, write_exact_weights
from training.studies.mixing import autoguidance, new_pairs
from training.studies.mixing.autoguidance import autoguided
from training.studies.mixing.new_pairs import mixed

PROMPTS = ["red apple, noto style", "cat, twemoji style"]
THINGS = ["red apple", "cat"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_exact_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def pipeline(weights: Path) -> JepaTPipeline:
    made = JepaTPipeline.from_pretrained(weights)
    awake(made.network)
    return made


def drawn(pipeline: Any, guidance: float, prompts: list[str] = PROMPTS) -> torch.Tensor:
    generators = [torch.Generator().manual_seed(seed) for seed in (3, 4)]
    made = pipeline(
        prompts,
        num_inference_steps=4,
        guidance_scale=guidance,
        temperature=0.8,
        guidance_schedule="constant",
        denoising_steps=3,
        generator=generators,
        output_type="pt",
    )
    images: torch.Tensor = made.images
    return images


@pytest.mark.parametrize("guidance", [1.0, 1.7])
def test_without_the_weaker_one_pictures_are_the_samplers_own(pipeline: JepaTPipeline, guidance: float) -> None:
    torch.manual_seed(1)
    weaker = awake(JepaT(pipeline.network.config))
    assert isinstance(weaker, JepaT)
    own = drawn(pipeline, guidance)
    torch.testing.assert_close(drawn(autoguided(pipeline, weaker, 1.0), guidance), own, atol=1e-4, rtol=0)
    assert (drawn(autoguided(pipeline, weaker, 1.5), guidance) - own).abs().max() > 1e-2


def test_a_network_does_not_move_away_from_itself(pipeline: JepaTPipeline) -> None:
    same = copy.deepcopy(pipeline.network)
    torch.testing.assert_close(drawn(autoguided(pipeline, same, 3.0), 1.0), drawn(pipeline, 1.0), atol=1e-3, rtol=0)


@pytest.mark.slow
def test_the_study_measures_every_pair_of_scales(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    corpus = write_corpus(tmp_path)
    settings = ("prompts=12", "steps=2", "weaker_scales=[1,2]", "text_scales=[1,1.5]")
    arguments = [str(weights), "--weaker", str(weights), "--data", str(corpus), "--out", str(tmp_path / "out")]
    arguments += ["--device", "cpu", *(part for setting in settings for part in ("--set", setting))]
    assert autoguidance.main([*arguments, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)["figures"]
    names = {f"concept_top5_left_out_weaker_{weaker}_text_{text}" for weaker in (1, 2) for text in (1, 1.5)}
    assert names <= set(figures)
    assert figures["frechet_weaker_2_text_1"] == pytest.approx(figures["frechet_weaker_1_text_1"], rel=1e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "weaker_scales=[]"], "weaker_scales is []"),
        (["--set", "text_scales=['a']"], "text_scales"),
    ],
)
def test_mistakes_are_told(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert autoguidance.main(["none", "--weaker", "none", "--data", "none", "--out", "none", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_generator_of_other_tokens_is_refused(pipeline: JepaTPipeline, tiny_weights: Path) -> None:
    other = load_config(tiny_weights / "jepa-t", JepaTConfig)
    assert other.channels != pipeline.network.config.channels
    with pytest.raises(ValueError, match="channels is 12; allowed: "):
        autoguidance.weaker_network(str(tiny_weights), pipeline)


def test_no_share_is_the_prompt_and_the_whole_share_the_thing(pipeline: JepaTPipeline) -> None:
    for share, asked in ((0, PROMPTS), (1, THINGS)):
        made = drawn(mixed(pipeline, share, share), 1.5)
        torch.testing.assert_close(made, drawn(pipeline, 1.5, asked), atol=1e-3, rtol=0)
    between = drawn(mixed(pipeline, 0.7, -0.5), 1.5)
    for asked in (PROMPTS, THINGS):
        assert (between - drawn(pipeline, 1.5, asked)).abs().max() > 1e-2


@pytest.mark.slow
def test_the_study_measures_things_and_designs(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    corpus = write_corpus(tmp_path)
    settings = ("prompts=12", "steps=2", "mixes=[[0,0,1.5],[1,-0.5,2]]")
    arguments = [str(weights), "--data", str(corpus), "--out", str(tmp_path / "out"), "--device", "cpu"]
    arguments += [part for setting in settings for part in ("--set", setting)]
    assert new_pairs.main([*arguments, "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)["figures"]
    assert 0 <= figures["design_plan_1_picture_-0.5_guidance_2"] <= 1
    assert figures["design_real"] > 0.5  # a picture of the training is the nearest to itself
    assert "concept_top5_left_out_plan_0_picture_0_guidance_1.5" in figures


def test_mixes_are_three_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    assert new_pairs.main(["none", "--data", "none", "--out", "none", "--set", "mixes=[[1,2]]"]) == 2
    assert "allowed: a list of one or more lists of three numbers" in capsys.readouterr().err

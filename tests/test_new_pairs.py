"""The thing alone beside the whole prompt: shares of none and of all, and the study's command."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from jepa_app.generation.pipeline import JepaTPipeline
from tests.conftest import awake
from tests.drawn_corpus import write_corpus, write_exact_weights
from training.studies.mixing import new_pairs
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


def drawn(pipeline: Any, prompts: list[str], guidance: float = 1.5) -> torch.Tensor:
    made = pipeline(
        prompts,
        num_inference_steps=4,
        guidance_scale=guidance,
        temperature=0.8,
        guidance_schedule="constant",
        denoising_steps=3,
        generator=[torch.Generator().manual_seed(seed) for seed in (3, 4)],
        output_type="pt",
    )
    images: torch.Tensor = made.images
    return images


def test_no_share_is_the_prompt_and_the_whole_share_the_thing(pipeline: JepaTPipeline) -> None:
    for share, asked in ((0, PROMPTS), (1, THINGS)):
        made = drawn(mixed(pipeline, share, share), PROMPTS)
        torch.testing.assert_close(made, drawn(pipeline, asked), atol=1e-3, rtol=0)
    between = drawn(mixed(pipeline, 0.7, -0.5), PROMPTS)
    for asked in (PROMPTS, THINGS):
        assert (between - drawn(pipeline, asked)).abs().max() > 1e-2


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

"""TI-JEPA through transformers: the same scores after every way of saving and loading."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

from jepa_app.matching.scoring import Scorer
from jepa_app.matching.transformers_face import TIJepaFaceConfig, TIJepaModel, TIJepaProcessor

CAPTIONS = ["red apple", "a very long caption about a cat, twemoji style"]


@pytest.fixture
def pictures() -> list[Image.Image]:
    noise = Image.effect_noise((50, 40), 80).convert("RGBA")
    noise.putalpha(128)
    return [noise, Image.new("RGB", (32, 32), "red"), Image.effect_noise((20, 64), 50)]


def test_it_scores_as_the_scorer_does(tiny_weights: Path, pictures: list[Image.Image]) -> None:
    scorer = Scorer.from_pretrained(tiny_weights, "cpu")
    expected = scorer.score(pictures, CAPTIONS)
    for source in (tiny_weights, str(tiny_weights / "ti-jepa")):
        inputs = TIJepaProcessor.from_pretrained(source)(images=pictures, text=CAPTIONS)
        assert inputs["pixel_values"].shape == (3, 3, 32, 32)
        scores = TIJepaModel.from_pretrained(source)(**inputs)
        torch.testing.assert_close(scores.energy, expected.energy)
        torch.testing.assert_close(scores.probability, expected.probability)
        assert scores.terms.shape == (3, 2, 3)


def test_it_comes_back_through_auto_model(tiny_weights: Path, pictures: list[Image.Image], tmp_path: Path) -> None:
    model = TIJepaModel.from_pretrained(tiny_weights)
    inputs = TIJepaProcessor.from_pretrained(tiny_weights)(images=pictures, text=CAPTIONS)
    model.save_pretrained(tmp_path)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), TIJepaFaceConfig)
    for again in (AutoModel.from_pretrained(tmp_path), TIJepaModel.from_pretrained(tmp_path)):
        assert isinstance(again, TIJepaModel)
        assert not again.training
        torch.testing.assert_close(again(**inputs).energy, model(**inputs).energy, atol=0, rtol=0)
    assert TIJepaProcessor.from_pretrained(tmp_path).image_size == 32


def test_weights_that_lack_a_tensor_are_refused(tiny_weights: Path, tmp_path: Path) -> None:
    TIJepaModel.from_pretrained(tiny_weights).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors.pop("network.null_text")
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"missing_keys.*network\.null_text"):
        AutoModel.from_pretrained(tmp_path)


def test_wrong_sources_and_inputs_are_refused(tiny_weights: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config\.json is missing"):
        TIJepaModel.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="weights of kind TokenizerConfig"):
        TIJepaModel.from_pretrained(tiny_weights / "tokenizer")
    processor = TIJepaProcessor.from_pretrained(tiny_weights)
    with pytest.raises(ValueError, match="0 captions"):
        processor(images=[Image.new("RGB", (8, 8))], text=[])
    with pytest.raises(ValueError, match="got 0 pictures"):
        processor(images=[], text=["x"])


def test_the_scorer_takes_pictures_as_they_are(tiny_weights: Path, pictures: list[Image.Image]) -> None:
    scorer = Scorer.from_pretrained(tiny_weights, "cpu")
    clear = Image.new("RGBA", (9, 9), (255, 0, 0, 0))  # transparency is white, not black
    scores = scorer.score([clear, Image.new("RGB", (9, 9), "white")], CAPTIONS)
    torch.testing.assert_close(scores.energy[0], scores.energy[1])
    assert not torch.allclose(scores.energy[0], scorer.score([Image.new("RGB", (9, 9))], CAPTIONS).energy[0])

"""The energy of a pair taken apart: what the maps add up to, and which changes they are the measure of."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from jepa_app.checkpoint import save_network, write_manifest
from jepa_app.config import TIJepaConfig
from jepa_app.matching.energies import pair_energies
from jepa_app.matching.features import null_caption, picture_features
from jepa_app.matching.maps import captions_without, match_maps, words_of
from jepa_app.matching.scoring import Scorer
from jepa_app.models.text import TextEncoder
from jepa_app.models.ti_jepa import TIJepa
from tests.conftest import TINY_TI_JEPA, awake
from training.objectives.calibration import choose_references, with_quantiles

CAPTION = "A red apple, (twemoji) style!"


def pictures(count: int) -> torch.Tensor:
    return 2 * torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(3)) - 1


def tiny(patch_size: int, references: bool) -> Scorer:
    torch.manual_seed(1)
    network = awake(TIJepa(replace(TINY_TI_JEPA, patch_size=patch_size))).eval().requires_grad_(False)
    assert isinstance(network, TIJepa)
    network.sentence_space.fit(torch.randn(50, 384))
    encoder = TextEncoder.load()
    if references:
        network = choose_references(network, pictures(3), encoder.encode(["red heart", "cat", "blue car"]))
        network.config = replace(network.config, energy_weights=(1.0, 2.0, 3.0, 0.5, 0.25, 0.75))
    return Scorer(network, encoder)


@pytest.fixture(scope="module", params=[(8, False), (4, True)], ids=["16 patches", "64 patches and references"])
def scorer(request: pytest.FixtureRequest) -> Scorer:
    """Tiny networks of both grids."""
    return tiny(*request.param)


def test_the_patches_add_up_to_the_energys_term(scorer: Scorer) -> None:
    pixels = pictures(1)
    maps = match_maps(scorer, pixels[0], CAPTION)
    energies = scorer.energies(pixels, [CAPTION])
    assert maps.grid**2 == len(maps.patch_energy) == scorer.network.config.num_patches
    assert maps.patch_energy.std() > 0
    torch.testing.assert_close(maps.patch_energy.mean(), energies.text_to_image[0, 0], atol=1e-5, rtol=1e-4)
    assert maps.energy == pytest.approx(float(scorer.score(pixels, [CAPTION]).energy), abs=1e-5)


def test_a_words_effect_is_what_dropping_it_changes(scorer: Scorer) -> None:
    pixels = pictures(1)
    maps = match_maps(scorer, pixels[0], CAPTION)
    without = captions_without(CAPTION)
    scores = scorer.score(pixels, [CAPTION, *without]).energy[0]
    assert maps.words == ("A", "red", "apple", "twemoji", "style")
    torch.testing.assert_close(maps.contribution, scores[1:] - scores[0], atol=2e-5, rtol=1e-4)
    terms = scorer.energies(pixels, [CAPTION, *without]).text_to_image[0]
    torch.testing.assert_close(maps.word_patch.mean(dim=1), terms[1:] - terms[0], atol=2e-5, rtol=1e-4)
    assert (maps.patch_error > 0).all()


def test_a_word_alone_is_measured_against_saying_nothing(scorer: Scorer) -> None:
    maps = match_maps(scorer, pictures(1)[0], "apple")
    torch.testing.assert_close(maps.word_patch[0], -maps.patch_energy, atol=1e-5, rtol=1e-4)
    picture = picture_features(scorer.network, pictures(1))
    nothing = pair_energies(scorer.network, picture, null_caption(scorer.network))
    torch.testing.assert_close(nothing.text_to_image, torch.zeros(1, 1), atol=1e-5, rtol=0)
    torch.testing.assert_close(nothing.text_to_hidden, torch.zeros(1, 1), atol=1e-5, rtol=0)
    mean_caption = torch.stack([sentence.square().mean() for sentence in picture.sentences]).mean()
    torch.testing.assert_close(nothing.image_to_text[0, 0], mean_caption)
    torch.testing.assert_close(maps.contribution, scorer.combine(nothing)[0] - maps.energy, atol=1e-5, rtol=1e-4)


def test_many_words_go_through_in_batches(scorer: Scorer) -> None:
    caption = " ".join(f"w{number}" for number in range(40))  # more than one batch; one batch's longest sets no other's
    maps = match_maps(scorer, pictures(1)[0], caption)
    alone = scorer.score(pictures(1), [captions_without(caption)[39]]).energy[0, 0]
    assert len(maps.contribution) == 40
    assert float(maps.contribution[39]) == pytest.approx(float(alone) - maps.energy, abs=5e-5)


@pytest.mark.parametrize(
    ("caption", "words", "first"),
    [
        ("red apple", ["red", "apple"], "apple"),
        ("  red,blue;  heart. ", ["red", "blue", "heart"], ",blue; heart."),
        ("mother-in-law's 🍎 3.5", ["mother-in-law's", "🍎", "3.5"], "🍎 3.5"),
        ("(cat)", ["cat"], ""),
        ("红苹果，蓝心", ["红苹果", "蓝心"], "，蓝心"),
    ],
)
def test_words_are_what_people_see_as_one(caption: str, words: list[str], first: str) -> None:
    assert [word.group() for word in words_of(caption)] == words
    assert captions_without(caption)[0] == first


@pytest.mark.parametrize("caption", ["?!", "", "a " * 127])
def test_a_caption_without_words_or_with_too_many_is_refused(scorer: Scorer, caption: str) -> None:
    with pytest.raises(ValueError, match="words; allowed: 1 to 126"):
        match_maps(scorer, pictures(1)[0], caption)


def test_percentiles_are_shares_of_the_measured_pairs() -> None:
    network = TIJepa(TINY_TI_JEPA)
    assert Scorer(network, TextEncoder.load()).standing(torch.zeros(1)) is None
    generator = torch.Generator().manual_seed(0)
    energies = torch.randn(40, 8, 8, 3, generator=generator)
    energies[:, range(8), range(8)] -= 2
    network.config = with_quantiles(network.config, energies)
    right = torch.eye(8, dtype=torch.bool).expand(40, -1, -1)
    combined = energies.mean(dim=-1)
    asked = torch.tensor([[-9.0, -2.0, -0.3, 0.0], [1.0, 9.0, -2.4, -1.7]])
    standing = Scorer(network, TextEncoder.load()).standing(asked)
    assert standing is not None
    for got, part in ((standing.better_than_mismatched, ~right), (standing.better_than_matched, right)):
        truth = (combined[part] > asked[..., None]).float().mean(dim=-1)
        torch.testing.assert_close(got, truth, atol=0.02, rtol=0)
        assert got[0, 0] == 1
        assert got[1, 1] == 0


def test_quantiles_are_kept_with_the_weights_and_checked(tmp_path: Path) -> None:
    config = replace(TINY_TI_JEPA, matched_quantiles=(-1.0, 0.5), mismatched_quantiles=(0.0, 1.0, 2.0))
    save_network(tmp_path / "ti-jepa", TIJepa(config), config)
    write_manifest(tmp_path)
    standing = Scorer.from_pretrained(tmp_path, "cpu").standing(torch.tensor([0.5, -1.0]))
    assert standing is not None
    assert standing.better_than_mismatched.tolist() == [0.75, 1.0]
    assert standing.better_than_matched.tolist() == [0.0, 1.0]
    for wrong in ({"matched_quantiles": (1.0, 0.0)}, {"matched_quantiles": (1.0,)}, {"mismatched_quantiles": ()}):
        with pytest.raises(ValueError, match="quantiles"):
            TIJepaConfig(**{"matched_quantiles": (0.0, 1.0), "mismatched_quantiles": (0.0, 1.0)} | wrong)

"""Foils: captions that differ in one thing, and energies against them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from jepa_app.checkpoint import save_network
from jepa_app.config import TIJepaConfig
from jepa_app.limits import MAX_PROMPT_CHARACTERS
from jepa_app.matching.combining import combined, match_probability
from jepa_app.matching.feature_cache import FeatureCache
from jepa_app.matching.features import CAPTIONS_AT_ONCE, encode_foils
from jepa_app.matching.foils import COLOURS, DIFFERENCES, Foil, foils, well_said_foils
from jepa_app.matching.maps import match_maps
from jepa_app.matching.scoring import Scorer, Scores
from jepa_app.matching.tables import listed_pairs, table_rows
from jepa_app.matching.transformers_face import TIJepaModel, TIJepaProcessor
from jepa_app.models.text import MAX_TOKENS, TextEncoder, TextFeatures
from jepa_app.models.ti_jepa import TIJepa
from jepa_app.studio.matches import Matching
from tests.conftest import TINY_TI_JEPA, awake
from training.objectives.calibration import choose_references, with_foil_curves, without_references

CAPTIONS = ["green apple, noto style", "heart", "two roses left of a black cat", "a rose above a cat", "RED and blue"]


def only(foil: Sequence[Foil], difference: str) -> list[str]:
    return [one.caption for one in foil if one.difference == difference]


def test_a_colour_becomes_every_other_colour() -> None:
    found = foils("Green apple, noto style")
    assert len(found) == len(COLOURS) - 1
    assert Foil("colour", "red apple, noto style") in found
    assert foils("a greenish apple") == []


def test_each_of_two_colours_becomes_every_other_and_both_are_exchanged() -> None:
    found = only(foils("a red rose and a blue car"), "colour")
    assert "a green rose and a blue car" in found
    assert "a red rose and a green car" in found
    assert "a blue rose and a red car" in found
    assert len(found) == len(set(found)) == 2 * (len(COLOURS) - 1) + 1


def test_sides_become_their_opposites_together() -> None:
    assert foils("a rose left of a cat") == [Foil("side", "a rose right of a cat")]
    assert foils("a rose on the left, a cat on the right") == [Foil("side", "a rose on the right, a cat on the left")]
    assert foils("a rose above a cat") == [Foil("side", "a rose below a cat")]
    assert foils("a lefthanded cat") == []


def test_numbers_become_the_others_and_people_are_shown_only_what_agrees() -> None:
    assert only(foils("two hearts"), "number") == ["one hearts", "three hearts"]
    assert well_said_foils("two hearts") == [Foil("number", "three hearts")]
    assert well_said_foils("one heart") == []
    assert only(foils("one red and two blue hearts"), "number") == [
        "one red and one blue hearts",
        "two red and two blue hearts",
        "three red and three blue hearts",
    ]


def test_the_longest_caption_has_few_foils() -> None:
    words = " ".join([*COLOURS, "one two three left of above on the left at the top"] * 9)[:MAX_PROMPT_CHARACTERS]
    assert 20 < len(foils(words)) <= 27


@pytest.fixture(scope="module", params=[0, 4], ids=["no references", "references"])
def scorer(request: pytest.FixtureRequest) -> Scorer:
    torch.manual_seed(1)
    config = replace(TINY_TI_JEPA, foils=True)
    network = awake(TIJepa(config)).eval().requires_grad_(False)
    assert isinstance(network, TIJepa)
    network.sentence_space.fit(torch.randn(50, 384))
    encoder = TextEncoder.load()
    if request.param:
        network = choose_references(network, pictures(4), encoder.encode(["dog", "sun", "red car", "blue"]))
    network.config = replace(
        network.config,
        energy_weights=tuple(0.5 + 0.25 * term for term in range(network.config.num_terms)),
        calibration_scale=3.0,
        calibration_offset=0.5,
        foil_weights=(3.0, 1.0, 2.0, 5.0, 0.5, 4.0),
        foil_offsets=(0.5, -0.25, 1.0),
    )
    return Scorer(network, encoder)


def pictures(count: int, seed: int = 3) -> torch.Tensor:
    return 2 * torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) - 1


def test_terms_are_energies_minus_the_least_of_the_foils(scorer: Scorer) -> None:
    pixels = pictures(3)
    found = scorer.energies(pixels, CAPTIONS)
    plain = Scorer(without_references(scorer.network), scorer.text_encoder)
    alone = plain.energies(pixels, CAPTIONS)
    against = found.compared[..., -2 * len(DIFFERENCES) :]
    assert against.shape == (3, len(CAPTIONS), 6)
    for column, caption in enumerate(CAPTIONS):
        for number, difference in enumerate(DIFFERENCES):
            others = only(foils(caption), difference)
            expected = torch.zeros(3, 2)
            if others:
                terms = plain.energies(pixels, others)
                least = torch.stack([terms.text_to_image, terms.image_to_text], dim=-1).amin(dim=1)
                own = torch.stack([alone.text_to_image[:, column], alone.image_to_text[:, column]], dim=-1)
                expected = own - least
            torch.testing.assert_close(against[:, column, 2 * number :][:, :2], expected, atol=2e-5, rtol=1e-3)
    assert against[:, 0].abs().sum() > 0
    assert (against[:, 1] == 0).all()  # a heart has no foils


def test_cached_features_alone_and_joined_give_the_same_energies(scorer: Scorer) -> None:
    pixels = pictures(3)
    expected = scorer.score(pixels, CAPTIONS).energy
    cache = FeatureCache(scorer)
    assert (cache.captions(["heart"]).foils is None) is not scorer.network.config.foils
    for _ in range(2):  # computed, then found
        order = [3, 0, 4, 1, 2]
        rows = torch.cat(list(table_rows(cache, pixels, [CAPTIONS[place] for place in order])))
        torch.testing.assert_close(rows, expected[:, order], atol=2e-5, rtol=1e-3)
    pairs = listed_pairs(cache, pixels, CAPTIONS, [2, 0, 1], [0, 2, 4])
    torch.testing.assert_close(pairs, expected[[2, 0, 1], [0, 2, 4]], atol=2e-5, rtol=1e-3)


def test_a_word_taken_away_takes_its_foils_along(scorer: Scorer) -> None:
    pixels, config = pictures(1), scorer.network.config
    parts = scorer.parts(scorer.energies(pixels, ["green apple above two cats"]))
    dropped = ["apple above two cats", "green above two cats", "green apple two cats", "green apple above cats"]
    base = scorer.parts(scorer.energies(pixels, [*dropped, "green apple above two"])).base[0]
    colour, side, number = (parts.penalties[0, 0] / config.calibration_scale).tolist()
    expected = base - parts.base[0] - torch.tensor([colour, 0.0, side, number, 0.0])
    maps = match_maps(scorer, pixels[0], "green apple above two cats")
    assert min(colour, side, number) > 0
    torch.testing.assert_close(maps.contribution, expected, atol=2e-5, rtol=1e-3)
    assert maps.energy == pytest.approx(float(scorer.score(pixels, ["green apple above two cats"]).energy), abs=1e-5)
    assert match_maps(scorer, pixels[0], "green").contribution.isfinite().all()  # nothing remains


@pytest.mark.parametrize(
    "caption", ["a rose RİGHT OF a cat", "cat on the rıght", "white and whıte cat", "pİnk and pink"]
)
def test_letters_that_only_look_like_those_of_a_word_are_none(scorer: Scorer, caption: str) -> None:
    assert scorer.score(pictures(1), [caption]).energy.isfinite().all()


def test_foils_longer_than_the_encoder_reads_lose_their_end(scorer: Scorer) -> None:
    caption = " ".join(["black\u00adberry"] * (MAX_TOKENS - 2))  # one piece each; other colours make it several
    assert scorer.text_encoder.num_pieces(caption) == MAX_TOKENS
    assert foils(caption)
    assert scorer.score(pictures(1), [caption]).energy.isfinite().all()


def test_foils_that_captions_share_are_encoded_once() -> None:
    asked: list[str] = []

    def encode(captions: Sequence[str]) -> TextFeatures:
        assert len(captions) <= CAPTIONS_AT_ONCE
        asked.extend(captions)
        return TextEncoder.load().encode(captions)

    made = encode_foils([f"{colour} apple" for colour in COLOURS] * 2, encode)
    assert made is not None
    assert sorted(asked) == sorted(f"{colour} apple" for colour in COLOURS)
    assert len(made.rows) == 2 * len(COLOURS) * (len(COLOURS) - 1)


def test_the_transformers_face_scores_the_same_and_refuses_half_of_the_inputs(scorer: Scorer, tmp_path: Path) -> None:
    save_network(tmp_path / "ti-jepa", scorer.network, scorer.network.config)
    model, processor = TIJepaModel.from_pretrained(tmp_path), TIJepaProcessor.from_pretrained(tmp_path)
    pixels = pictures(2)
    for captions in (CAPTIONS, ["heart"]):
        energy = model(**processor(pixels, captions)).energy
        torch.testing.assert_close(energy, scorer.score(pixels, captions).energy, atol=2e-5, rtol=1e-3)
    inputs = processor(pixels, CAPTIONS)
    del inputs["foil_mask"]
    with pytest.raises(ValueError, match="only some of the inputs foil_"):
        model(**inputs)


def test_weights_from_before_foils_have_none(tmp_path: Path) -> None:
    values = TINY_TI_JEPA.to_dict()
    del values["foils"]
    config = TIJepaConfig.from_dict(values)
    assert not config.foils
    scorer = Scorer(TIJepa(config), TextEncoder.load())
    assert scorer.energies(pictures(1), ["green apple"]).stacked().shape == (1, 1, 3)


def test_as_many_weights_as_terms() -> None:
    replace(TINY_TI_JEPA, foils=True, foil_weights=(1.0,) * 6, foil_offsets=(0.0,) * 3)
    for wrong in ({"foil_weights": (1.0,) * 6}, {"foil_offsets": (0.0,) * 3}, {"foil_weights": (-1.0,) * 6}):
        with pytest.raises(ValueError, match="foil_weights"):
            replace(TINY_TI_JEPA, foils=True, **wrong)
    with pytest.raises(ValueError, match="foil_weights"):
        replace(TINY_TI_JEPA, foil_weights=(1.0,) * 6, foil_offsets=(0.0,) * 3)
    with pytest.raises(ValueError, match="energy_weights"):
        replace(TINY_TI_JEPA, foils=True, energy_weights=(1.0,) * 6)


def test_the_probability_is_that_of_the_words_times_that_of_beating_the_foils(scorer: Scorer) -> None:
    config, pixels = scorer.network.config, pictures(3)
    terms, scores = scorer.energies(pixels, CAPTIONS).stacked().double(), scorer.score(pixels, CAPTIONS)
    weights = torch.tensor(config.energy_weights).double()
    base = terms[..., : len(weights)] @ (weights / weights.sum())
    expected = torch.sigmoid(0.5 - 3.0 * base)
    torch.testing.assert_close(scores.energy[:, 1].double(), base[:, 1], atol=1e-6, rtol=1e-6)  # a heart
    for column, caption in enumerate(CAPTIONS):
        for number, difference in enumerate(DIFFERENCES):
            if only(foils(caption), difference):
                against = terms[:, column, len(weights) + 2 * number :][:, :2]
                curve = torch.tensor(config.foil_weights).view(3, 2)[number].double()
                logit = config.foil_offsets[number] - against @ curve
                expected[:, column] *= torch.sigmoid(logit)
    torch.testing.assert_close(scores.probability.double(), expected, atol=1e-6, rtol=1e-5)
    order = scores.probability.flatten().argsort(descending=True)
    assert (scores.energy.flatten()[order].diff() >= 0).all()


def test_a_foil_that_fits_as_well_cannot_be_outweighed_by_the_other_words() -> None:
    config = TIJepaConfig(foils=True, calibration_scale=20.0, foil_weights=(50.0,) * 6, foil_offsets=(0.0,) * 3)
    terms = torch.zeros(2, 9)
    terms[:, :3] = -1.0  # the picture shows the thing beyond doubt
    terms[0, 3:5], terms[1, 3:5] = -0.1, 0.1  # the first caption says its colour, the second another one
    energy = combined(config, terms)
    right, wrong = match_probability(config, energy).tolist()
    assert right == pytest.approx(1, abs=1e-3)
    assert wrong == pytest.approx(0, abs=1e-3)
    assert combined(config, torch.full((1, 9), -1e4)).isfinite().all()


def test_curves_are_fitted_for_each_difference_and_stay_flat_without_cases() -> None:
    config = replace(TINY_TI_JEPA, foils=True)
    generator = torch.Generator().manual_seed(0)
    cases = [torch.randn(3, 9, generator=generator) for _ in range(60)]
    for pairs in cases:
        pairs[0, 5] -= 4  # text -> image against the opposite sides
    config = with_foil_curves(config, {"side": cases, "colour": cases[:3]})
    assert config.foil_weights[0:2] == config.foil_weights[4:6] == (0.0, 0.0)
    assert config.foil_weights[2] > 1
    terms = torch.stack(cases)
    flat = combined(config, torch.cat([terms[..., :5], torch.zeros(60, 3, 2), terms[..., 7:]], dim=-1))
    weights = torch.ones(3) / 3
    torch.testing.assert_close(flat, terms[..., :3] @ weights, atol=1e-5, rtol=1e-5)
    energy = combined(config, terms)
    assert (energy[:, :1] < energy[:, 1:]).float().mean() > (flat[:, :1] < flat[:, 1:]).float().mean() + 0.2


def test_all_near_misses_are_tried_but_those_that_cannot_be_read(
    scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def score(pixels: torch.Tensor, captions: list[str]) -> Scores:
        asked.extend(captions)
        return Scores(torch.ones(len(pixels), len(captions)), torch.zeros(len(pixels), len(captions)))

    monkeypatch.setattr(scorer, "score", score)
    monkeypatch.setattr(scorer, "probability", torch.zeros_like)
    captions = [f"red and blue thing {number}" for number in range(19)]
    long = " ".join(["black\u00adberry", *["a"] * (MAX_TOKENS - 3)])
    Matching(scorer).score(Image.new("RGB", (32, 32)), [*captions, long])
    tried = asked[20:]
    assert tried[:23] == [one.caption for one in well_said_foils(captions[0])]  # in whatever company
    assert len(tried) == 19 * 23
    assert {caption.rpartition(" ")[2] for caption in tried} == {str(number) for number in range(19)}

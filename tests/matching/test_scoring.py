"""The match score: every pair gets the same estimate, however it is batched; energies, calibration and errors."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from jepa_app.checkpoint import save_network
from jepa_app.config import JepaTConfig, TIJepaConfig
from jepa_app.matching.energies import pair_energies
from jepa_app.matching.features import (
    CAPTIONS_AT_ONCE,
    PICTURES_AT_ONCE,
    caption_features,
    picture_features,
    score_views,
)
from jepa_app.matching.scoring import Scorer, Scores
from jepa_app.models.text import TextEncoder, TextFeatures
from jepa_app.models.ti_jepa import TIJepa
from jepa_app.studio.matches import Matching
from training.data.batches import Batch
from training.objectives.calibration import (
    Anchors,
    calibrate,
    choose_references,
    fitted,
    grouped_terms,
    near_misses,
    terms_of,
    without_references,
)
from training.objectives.logistic import fit_logistic
from training.objectives.text_cache import TextCache

TINY = TIJepaConfig(
    image_size=16,
    patch_size=4,
    text_components=8,
    width=32,
    num_heads=2,
    image_depth=1,
    text_depth=1,
    predictor_width=32,
    num_summary_queries=2,
    num_score_masks=2,
)


@pytest.fixture(scope="module")
def network() -> TIJepa:
    """A tiny network none of whose layers starts at zero."""
    torch.manual_seed(0)
    network = TIJepa(TINY).eval().requires_grad_(False)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    network.sentence_space.fit(torch.randn(50, 384))
    return network


@pytest.fixture(scope="module")
def scorer(network: TIJepa) -> Scorer:
    return Scorer(network, TextEncoder.load())


@pytest.fixture
def pixels() -> torch.Tensor:
    return 2 * torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1)) - 1


CAPTIONS = ["red apple", "a very long caption about a cat that sits left of a rose, twemoji style", "heart"]


def _plain_energies(network: TIJepa, pixels: torch.Tensor, text: TextFeatures) -> torch.Tensor:
    """The three terms of one pair by their definition: error with the other side minus error without it."""
    whole = torch.arange(16)
    features = network.image_encoder(pixels[None], whole)
    target, sentence = network.image_targets(features)[0], network.sentence_space(text)[0]
    keys, null = network.caption_keys(text), network.caption_keys(network.null_features(1))

    def error(predicted: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
        return (predicted - wanted).square().mean()

    alone = [error(network.text_to_image(whole, words, None)[0], target) for words in (keys, null)]
    hidden, sentences = [], []
    for view in score_views(TINY):
        seen = network.image_encoder(pixels[None], view.visible)
        image = network.text_to_image.keep_image(seen, view.visible)
        errors = [
            error(network.text_to_image(view.asked, words, image)[0], target[view.asked]) for words in (keys, null)
        ]
        hidden.append(errors[0] - errors[1])
        sentences.append(network.image_to_text(seen, view.visible)[0])
    sentences.append(network.image_to_text(features, whole)[0])
    to_text = [error(predicted, sentence) - sentence.square().mean() for predicted in sentences]
    return torch.stack([alone[0] - alone[1], torch.stack(hidden).mean(), torch.stack(to_text).mean()])


def test_energies_are_errors_with_minus_errors_without_the_other_side(scorer: Scorer, pixels: torch.Tensor) -> None:
    energies = scorer.energies(pixels, CAPTIONS).stacked()
    assert energies.shape == (3, 3, 3)
    for row in range(3):
        for column, caption in enumerate(CAPTIONS):
            expected = _plain_energies(scorer.network, pixels[row], scorer.text_encoder.encode([caption]))
            torch.testing.assert_close(energies[row, column], expected, atol=2e-5, rtol=1e-4)


def test_a_pair_scores_the_same_alone_and_among_many(scorer: Scorer) -> None:
    pixels = 2 * torch.rand(PICTURES_AT_ONCE + 2, 3, 16, 16) - 1
    captions = [f"thing number {number}" for number in range(CAPTIONS_AT_ONCE)] + CAPTIONS
    many = scorer.score(pixels, captions)
    assert many.energy.shape == many.probability.shape == (len(pixels), len(captions))
    for row, column in ((0, 0), (PICTURES_AT_ONCE, CAPTIONS_AT_ONCE), (5, len(captions) - 2)):
        alone = scorer.score(pixels[row : row + 1], [captions[column]])
        torch.testing.assert_close(alone.energy[0, 0], many.energy[row, column], atol=2e-5, rtol=1e-4)


@pytest.fixture(scope="module")
def compared(network: TIJepa) -> Scorer:
    """The same network with four references."""
    encoder = TextEncoder.load()
    references = 2 * torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(2)) - 1
    return Scorer(choose_references(network, references, encoder.encode(["dog", "sun", "red car", "blue"])), encoder)


def test_comparisons_are_energies_minus_the_soft_least_of_the_references(
    scorer: Scorer, compared: Scorer, pixels: torch.Tensor
) -> None:
    def soft_least(energies: torch.Tensor, dim: int) -> torch.Tensor:
        return -0.01 * (-energies.double() / 0.01).exp().mean(dim=dim).log()

    references = 2 * torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(2)) - 1
    with_captions = scorer.energies(pixels, ["dog", "sun", "red car", "blue"])
    with_pictures = scorer.energies(references, CAPTIONS)
    plain, found = scorer.energies(pixels, CAPTIONS), compared.energies(pixels, CAPTIONS)
    torch.testing.assert_close(found.stacked()[..., :3], plain.stacked(), atol=2e-5, rtol=1e-4)
    expected = [
        plain.text_to_image - soft_least(with_captions.text_to_image, 1)[:, None],
        plain.image_to_text - soft_least(with_captions.image_to_text, 1)[:, None],
        plain.image_to_text - soft_least(with_pictures.image_to_text, 0),
    ]
    torch.testing.assert_close(found.compared.double(), torch.stack(expected, dim=-1), atol=1e-4, rtol=1e-3)


def test_a_compared_pair_scores_the_same_alone_and_after_saving(
    compared: Scorer, pixels: torch.Tensor, tmp_path: Path
) -> None:
    many = compared.energies(pixels, CAPTIONS).stacked()
    assert many.shape == (3, 3, 6)
    torch.testing.assert_close(
        compared.energies(pixels[1:2], CAPTIONS[2:]).stacked()[0, 0], many[1, 2], atol=2e-5, rtol=1e-4
    )
    save_network(tmp_path / "ti-jepa", compared.network, compared.network.config)
    loaded = Scorer.from_pretrained(tmp_path, device="cpu")
    torch.testing.assert_close(loaded.score(pixels, CAPTIONS).energy, compared.score(pixels, CAPTIONS).energy)
    bare = without_references(loaded.network)
    assert bare.config.num_references == 0
    assert Scorer(bare, compared.text_encoder).energies(pixels, CAPTIONS).stacked().shape == (3, 3, 3)


def test_weights_from_before_references_load_and_score(network: TIJepa, pixels: torch.Tensor, tmp_path: Path) -> None:
    save_network(tmp_path / "ti-jepa", network, network.config)
    path = tmp_path / "ti-jepa" / "config.json"
    values = json.loads(path.read_text())
    del values["num_references"], values["reference_temperature"]
    path.write_text(json.dumps(values))
    loaded = Scorer.from_pretrained(tmp_path, device="cpu")
    assert loaded.score(pixels, CAPTIONS).energy.shape == (3, 3)


def test_the_null_text_gains_nothing(network: TIJepa, pixels: torch.Tensor) -> None:
    energies = pair_energies(
        network, picture_features(network, pixels), caption_features(network, network.null_features(2))
    )
    torch.testing.assert_close(energies.text_to_image, torch.zeros(3, 2), atol=1e-6, rtol=0)
    torch.testing.assert_close(energies.text_to_hidden, torch.zeros(3, 2), atol=1e-6, rtol=0)


def test_masks_are_fixed_and_ask_only_for_hidden_patches() -> None:
    views = score_views(TINY)
    score_views.cache_clear()
    torch.manual_seed(123)
    for view, again in zip(views, score_views(TINY), strict=True):
        assert view.visible.tolist() == again.visible.tolist()
        assert view.asked.tolist() == again.asked.tolist()
        assert not set(view.asked.tolist()) & set(view.visible.tolist())


def test_probability_falls_with_energy(scorer: Scorer) -> None:
    probability = scorer.probability(torch.tensor([-2.0, 0.0, 2.0]))
    assert 1 > probability[0] > probability[1] > probability[2] > 0


def test_saved_weights_score_the_same(scorer: Scorer, pixels: torch.Tensor, tmp_path: Path) -> None:
    save_network(tmp_path / "ti-jepa", scorer.network, scorer.network.config)
    loaded = Scorer.from_pretrained(tmp_path, device="cpu")
    assert loaded.image_size == 16
    torch.testing.assert_close(loaded.score(pixels, CAPTIONS).energy, scorer.score(pixels, CAPTIONS).energy)


@pytest.mark.parametrize(
    ("shape", "captions", "message"),
    [
        ((1, 3, 16, 16), [], "0 captions"),
        ((0, 3, 16, 16), ["a"], "0 pictures"),
        ((1, 3, 16, 12), ["a"], "have shape"),
        ((1, 3, 16, 16), ["word " * 400], "word pieces"),
    ],
)
def test_bad_input_is_refused(scorer: Scorer, shape: tuple[int, ...], captions: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scorer.score(torch.zeros(shape), captions)


def test_pictures_that_are_not_finite_are_refused(scorer: Scorer) -> None:
    with pytest.raises(ValueError, match="not finite"):
        scorer.score(torch.full((1, 3, 16, 16), float("nan")), ["a"])


def test_missing_and_swapped_weights_are_refused(network: TIJepa, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config\.json is missing"):
        Scorer.from_pretrained(tmp_path)
    save_network(tmp_path / "ti-jepa", network, JepaTConfig())
    with pytest.raises(ValueError, match="kind JepaTConfig"):
        Scorer.from_pretrained(tmp_path)


def test_groups_hold_right_pairs_on_the_diagonal(scorer: Scorer) -> None:
    pixels, captions = torch.rand(35, 3, 16, 16), [f"thing number {number}" for number in range(35)]
    order = torch.randperm(35, generator=torch.Generator().manual_seed(0))
    terms = terms_of(scorer.network, TextCache(scorer.text_encoder))
    energies = grouped_terms(terms, pixels, captions, order)
    assert energies.shape == (2, 16, 16, 3)
    row = int(order[20])
    alone = terms(pixels[row, None], [captions[row]])
    torch.testing.assert_close(energies[1, 4, 4], alone[0, 0], atol=2e-5, rtol=1e-4)


def test_near_misses_are_the_wrong_pairs_of_one_kind() -> None:
    energies = torch.arange(2 * 3 * 3 * 2.0).view(2, 3, 3, 2)
    near = near_misses(energies, ["a", "a", "b", "c", "c", "c", "left over"])
    expected = [
        energies[0, 0, 1],
        energies[0, 1, 0],
        *(energies[1, i, j] for i in range(3) for j in range(3) if i != j),
    ]
    torch.testing.assert_close(near, torch.stack(expected))


def test_near_misses_move_the_weights_and_are_half_of_what_the_probability_is_against() -> None:
    generator = torch.Generator().manual_seed(0)
    energies = torch.randn(20, 16, 16, 3, generator=generator)
    energies[:, range(16), range(16), :2] -= 2  # two terms know random captions, the second near misses too
    near = torch.randn(500, 3, generator=generator) - torch.tensor([2.0, 0.0, 0.0])
    without, with_them = calibrate(TINY, energies), calibrate(TINY, energies, near)
    assert with_them.energy_weights[1] > without.energy_weights[1] + 0.1
    right = torch.eye(16, dtype=torch.bool).expand(20, -1, -1)
    scorer = Scorer(TIJepa(with_them), TextEncoder.load())
    probability = scorer.probability(energies @ torch.tensor(with_them.energy_weights))
    missed = scorer.probability(near @ torch.tensor(with_them.energy_weights))
    wrong = (float(probability[~right].mean()) + float(missed.mean())) / 2
    assert probability[right].mean() == pytest.approx(1 - wrong, abs=0.03)
    assert missed.mean() > probability[~right].mean()


@pytest.mark.parametrize("repeated", ["captions", "files"])
def test_pairs_that_match_elsewhere_do_not_count_as_wrong(repeated: str) -> None:
    captions = [f"class {n % 10}" if repeated == "captions" else f"caption {n}" for n in range(160)]
    files = [f"{n // 5}.jpg" if repeated == "files" else f"{n}.jpg" for n in range(160)]
    shown = captions if repeated == "captions" else files
    pixels = torch.arange(160.0).view(-1, 1, 1, 1).expand(-1, 3, 4, 4)

    def terms(pictures: torch.Tensor, asked: Sequence[str]) -> torch.Tensor:
        """A perfect matcher's, with a little noise."""
        seen = [shown[int(number)] for number in pictures[:, 0, 0, 0]]
        said = [shown[captions.index(caption)] for caption in asked]
        wrong = torch.tensor([[float(one != other) for other in said] for one in seen])
        return (wrong[..., None] + 0.05 * torch.randn(*wrong.shape, 3)).expand(-1, -1, TINY.num_terms).clone()

    heldout = Batch(pixels=pixels, opacity=pixels[:, :1], captions=captions, indices=torch.arange(160))
    anchors = Anchors(heldout=heldout, files=tuple(files), kinds=tuple(shown))
    config = fitted(TINY, terms, anchors)
    scorer = Scorer(TIJepa(config), TextEncoder.load())
    right = torch.cat([terms(pixels[n : n + 1], captions[n : n + 1]).flatten(0, 1) for n in range(160)])
    assert scorer.probability(right @ torch.tensor(config.energy_weights)).min() > 0.9
    assert fitted(TINY, terms, replace(anchors, files=("one.jpg",) * 160)) == TINY  # there is no wrong pair


def test_logistic_fit_finds_the_probability_it_was_drawn_from() -> None:
    generator = torch.Generator().manual_seed(0)
    matched = torch.randn(4000, 3, generator=generator) + torch.tensor([-1.0, 0.0, 0.5])
    mismatched = torch.randn(8000, 3, generator=generator)
    weights, offset = fit_logistic(matched, mismatched)
    # two unit Gaussians: the log odds are exactly x . (difference of means) + half of the difference of squares
    assert weights[0] == pytest.approx(1.0, abs=0.1)
    assert weights[1] == pytest.approx(0.0, abs=0.05)
    assert weights[2] == pytest.approx(
        0.0, abs=0.05
    )  # a term that is higher for right pairs is not used against itself
    assert offset == pytest.approx(-0.5, abs=0.1)


def test_calibration_keeps_the_network_and_tells_right_pairs_from_wrong() -> None:
    generator = torch.Generator().manual_seed(0)
    energies = torch.randn(20, 16, 16, 3, generator=generator)
    energies[:, range(16), range(16)] -= 3
    config = calibrate(TINY, energies)
    assert sum(config.energy_weights) == pytest.approx(1)
    assert config.width == TINY.width
    scorer = Scorer(TIJepa(config), TextEncoder.load())
    energy = energies @ torch.tensor(config.energy_weights)
    probability = scorer.probability(energy)
    right = torch.eye(16, dtype=torch.bool).expand(20, -1, -1)
    assert probability[right].mean() > 0.95
    assert probability[~right].mean() < 0.05


def test_near_misses_are_told_by_what_differs(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scorer is made to know one caption, so that the words do not depend on random weights."""
    asked: list[str] = []

    def score(pixels: torch.Tensor, captions: list[str]) -> Scores:
        asked.extend(captions)
        energy = torch.tensor([[-1.0 if caption == "red apple" else 1.0 for caption in captions]])
        return Scores(energy, torch.sigmoid(-4 * energy))

    monkeypatch.setattr(scorer, "score", score)
    monkeypatch.setattr(scorer, "probability", lambda energy: torch.sigmoid(-4 * energy))
    told = Matching(scorer).score(Image.new("RGB", (16, 16)), ["green apple", "red apple", "cat"])
    assert [(one.caption, one.differs, one.closer) for one in told] == [
        ("red apple", None, None),
        ("green apple", "colour", "red apple"),
        ("cat", None, None),
    ]
    assert asked.count("red apple") == 2  # once as given, once as what the green one might have been
    assert sum(one.share or 0 for one in told) == pytest.approx(1)
    assert told[0].share == max(one.share or 0 for one in told)

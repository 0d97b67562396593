"""The judge: real EfficientNet-Lite0 features of drawn pictures, look-up by concept, and the Frechet distance."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from training.judging.judge import ConceptGallery, Judge, frechet_distance, right_ranks

SHAPES = ("disc", "square", "triangle", "cross", "ring", "bars")
COLOURS = {"ruby": (200, 30, 40), "teal": (20, 140, 140), "mustard": (210, 170, 30), "violet": (120, 60, 180)}


def draw(shape: str, colour: tuple[int, int, int], size: int = 64) -> torch.Tensor:
    """One flat picture (3, S, S) in [-1, 1]: the concept is the shape, the style its colour."""
    scale = 4 * size
    picture = Image.new("RGB", (scale, scale), "white")
    pen = ImageDraw.Draw(picture)
    low, high, third = scale // 6, scale * 5 // 6, scale // 3
    if shape == "disc":
        pen.ellipse((low, low, high, high), fill=colour)
    elif shape == "square":
        pen.rectangle((low, low, high, high), fill=colour)
    elif shape == "triangle":
        pen.polygon(((scale // 2, low), (high, high), (low, high)), fill=colour)
    elif shape == "cross":
        pen.rectangle((third, low, 2 * third, high), fill=colour)
        pen.rectangle((low, third, high, 2 * third), fill=colour)
    elif shape == "ring":
        pen.ellipse((low, low, high, high), outline=colour, width=scale // 10)
    else:
        for left in range(low, high, scale // 5):
            pen.rectangle((left, low, left + scale // 10, high), fill=colour)
    levels = np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS), dtype=np.float32)
    return torch.from_numpy(levels / 127.5 - 1).permute(2, 0, 1)


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.load()


@pytest.fixture(scope="module")
def drawn(judge: Judge) -> tuple[np.ndarray, list[str], list[str]]:
    pairs = [(shape, style) for shape in SHAPES for style in COLOURS]
    pixels = torch.stack([draw(shape, COLOURS[style]) for shape, style in pairs])
    return judge.features(pixels), [shape for shape, _ in pairs], [style for _, style in pairs]


def test_features_are_finite_repeatable_and_independent_of_the_batch(judge: Judge) -> None:
    pixels = torch.stack([draw(shape, COLOURS["teal"]) for shape in SHAPES])
    features = judge.features(pixels)
    assert features.shape == (len(SHAPES), Judge.num_features)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    assert features.min() >= 0
    np.testing.assert_array_equal(features, judge.features(pixels))
    np.testing.assert_allclose(features[:1], judge.features(pixels[:1]), atol=1e-4)


def test_features_are_alike_at_other_picture_sizes(judge: Judge) -> None:
    small = judge.features(draw("ring", COLOURS["ruby"], 128)[None])
    large = judge.features(draw("ring", COLOURS["ruby"], 256)[None])
    other = judge.features(draw("bars", COLOURS["ruby"], 256)[None])
    assert np.linalg.norm(small - large) < 0.5 * np.linalg.norm(large - other)


def test_a_drawing_finds_its_shape_among_other_styles(drawn: tuple[np.ndarray, list[str], list[str]]) -> None:
    features, shapes, styles = drawn
    gallery = ConceptGallery(features, shapes, styles, styles)
    distances = gallery.distances(features, styles, shapes, styles)
    ranks = right_ranks(distances, gallery.ids(shapes))
    assert distances.shape == (24, 6)
    assert (ranks == 0).mean() > 0.8  # one in six by chance
    assert (right_ranks(gallery.distances(features, styles), gallery.ids(shapes)) == 0).all()  # each finds itself


def test_look_up_equals_a_plain_search_and_leaves_the_own_design_out() -> None:
    rng = np.random.default_rng(5)
    features = rng.gamma(1.0, size=(60, 12)).astype(np.float32)
    concepts = [f"concept {number}" for number in rng.integers(0, 7, 60)]
    styles = [f"style {number}" for number in rng.integers(0, 4, 60)]
    designs = ["one" if style in ("style 0", "style 1") else style for style in styles]
    gallery = ConceptGallery(features, concepts, styles, designs)
    everything = gallery.distances(features, styles)
    left_out = gallery.distances(features, styles, concepts, designs)
    directions = gallery._directions(features, styles)
    for picture in range(60):
        similarity = directions @ directions[picture]
        for column, concept in enumerate(gallery.concepts):
            members = np.array([name == concept for name in concepts])
            assert everything[picture, column] == pytest.approx(1 - similarity[members].max(), abs=1e-5)
            if concept == concepts[picture]:
                members &= np.array([design != designs[picture] for design in designs])
            expected = 1 - similarity[members].max() if members.any() else np.inf
            assert left_out[picture, column] == pytest.approx(expected, abs=1e-5)


def test_the_mean_of_a_style_does_not_count() -> None:
    rng = np.random.default_rng(1)
    shape = rng.gamma(2.0, size=(8, 16)).astype(np.float32)
    tint = 3 * rng.gamma(2.0, size=(2, 16)).astype(np.float32)
    roots = np.concatenate([shape + tint[0], shape + tint[1]])
    names = [str(number) for number in range(8)]
    styles = ["plain"] * 8 + ["tinted"] * 8
    gallery = ConceptGallery(np.square(roots), names * 2, styles, styles)
    nearest = gallery.distances(np.square(roots), styles, names * 2, styles)
    assert (right_ranks(nearest, gallery.ids(names * 2)) == 0).all()


def test_right_ranks_count_nearer_concepts_and_put_the_unreachable_last() -> None:
    distances = np.array([[0.1, 0.2, 0.3], [0.1, 0.2, np.inf], [0.5, 0.5, 0.4]], dtype=np.float32)
    np.testing.assert_array_equal(right_ranks(distances, np.array([1, 2, 0])), [1, 3, 1])


def test_a_gallery_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="a style and a design for each picture"):
        ConceptGallery(np.ones((2, 4), np.float32), ["a", "b"], ["s"], ["s", "s"])
    gallery = ConceptGallery(np.eye(3, dtype=np.float32), ["a", "b", "c"], ["s"] * 3, ["s"] * 3)
    with pytest.raises(ValueError, match=r"no picture of \['z'\]; it has 3 concepts"):
        gallery.ids(["a", "z"])


@pytest.mark.parametrize("count", [6, 40])  # fewer and more pictures than features
def test_frechet_distance_equals_the_formula_with_matrix_roots(count: int) -> None:
    rng = np.random.default_rng(3)
    first = rng.normal(size=(count, 10)) @ rng.normal(size=(10, 10))
    second = rng.normal(size=(count, 10)) @ rng.normal(size=(10, 10)) + 1
    one, two = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    variances, directions = np.linalg.eigh(one)
    root = directions * np.sqrt(np.maximum(variances, 0)) @ directions.T
    overlap = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ two @ root), 0)).sum()
    expected = np.square(first.mean(0) - second.mean(0)).sum() + np.trace(one) + np.trace(two) - 2 * overlap
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-5)


def test_frechet_distance_of_equal_and_of_shifted_sets() -> None:
    features = np.random.default_rng(4).normal(size=(30, 8)).astype(np.float32)
    assert frechet_distance(features, features) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(features, features + 2) == pytest.approx(4 * 8, rel=1e-5)
    with pytest.raises(ValueError, match="two pictures per set: got 1 and 30"):
        frechet_distance(features[:1], features)

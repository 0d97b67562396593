"""Pictures survive the way through tokens and back, and bad ones are refused."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from jepa_app.config import TokenizerConfig
from jepa_app.models.tokenizers.tokenizer import LinearTokenizer, Refiner, Tokenizer, make_tokenizer

PATCH = TokenizerConfig(kind="patch", image_size=16, patch_size=4, channels=48)
PCA = replace(PATCH, kind="pca", channels=12)
REFINED = replace(PCA, refiner_width=8)
VAE = TokenizerConfig(kind="vae", image_size=16, patch_size=4, channels=4, vae_channels=(16, 32, 32))
ENLARGING = replace(REFINED, reduction=2)
KINDS = {"patch": PATCH, "pca": PCA, "refined": REFINED, "enlarging": ENLARGING, "vae": VAE}
BY_KIND = pytest.mark.parametrize("config", KINDS.values(), ids=list(KINDS))


def pictures(count: int = 32, seed: int = 0) -> Tensor:
    """Smooth random pictures (count, 3, 16, 16) in [-1, 1]."""
    coarse = torch.rand(count, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=16, mode="bilinear")


def fitted(config: TokenizerConfig) -> Tokenizer:
    torch.manual_seed(0)
    tokenizer = make_tokenizer(config).eval()
    tokenizer.fit(pictures().split(8))
    return tokenizer


@pytest.mark.parametrize("config", [PATCH, replace(PCA, channels=48)], ids=["patch", "pca at full rank"])
@torch.no_grad()
def test_linear_tokens_lose_nothing_at_full_rank(config: TokenizerConfig) -> None:
    tokenizer = fitted(config)
    noise = torch.rand(4, 3, 16, 16) * 2 - 1  # not only pictures like those it was fitted on
    for pixels in (pictures(seed=1), noise):
        assert torch.allclose(tokenizer.decode(tokenizer.encode(pixels)), pixels, atol=1e-4)


@torch.no_grad()
def test_more_components_lose_less() -> None:
    errors = []
    for channels in (1, 3, 6, 12):
        tokenizer = fitted(replace(PCA, channels=channels))
        errors.append(float((tokenizer.decode(tokenizer.encode(pictures())) - pictures()).square().mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 2 * errors[-1]


@torch.no_grad()
def test_components_equal_a_singular_value_decomposition() -> None:
    patches = pictures().unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5).reshape(-1, 48)
    _, _, directions = torch.linalg.svd(patches - patches.mean(dim=0), full_matrices=False)
    cosines = (fitted(PCA).basis @ directions[:12].T).diagonal().abs()
    assert cosines.min() > 0.999


@BY_KIND
@torch.no_grad()
def test_shapes_and_scale(config: TokenizerConfig) -> None:
    tokenizer = fitted(config)
    tokens = tokenizer.encode(pictures())
    assert tokens.shape == (32, 16, config.channels)
    assert float(tokens.square().mean()) == pytest.approx(1, rel=0.01)
    decoded = tokenizer.decode(100 * tokens)
    assert decoded.shape == (32, 3, 16, 16)
    assert decoded.abs().max() <= 1


@torch.no_grad()
def test_a_token_is_its_square_of_the_picture() -> None:
    tokenizer = fitted(PATCH)
    pixels = pictures(2)
    tokens = tokenizer.encode(pixels)
    pixels[:, :, 8:12, 4:8] += 0.1  # third row, second column of patches
    changed = (tokenizer.encode(pixels) - tokens).abs().amax(dim=(0, 2)) > 1e-6
    assert changed.nonzero().flatten().tolist() == [2 * 4 + 1]


@torch.no_grad()
def test_the_refiner_adds_nothing_at_first_and_works_across_joins() -> None:
    refiner = Refiner(REFINED)
    pixels = pictures(2)
    assert not refiner(pixels).any()
    torch.nn.init.normal_(refiner.outside.weight)
    changed = pixels.clone()
    changed[:, :, :, 7] += 1
    touched = (refiner(changed) - refiner(pixels)).abs().amax(dim=(0, 1, 2)) > 0
    assert bool(touched[8:11].all())  # the next patch learns of it


@torch.no_grad()
def test_enlarging_keeps_the_tokens_of_the_reduced_picture() -> None:
    small = make_tokenizer(replace(PCA, image_size=8, patch_size=2)).eval()
    tokenizer = fitted(ENLARGING)
    assert isinstance(small, LinearTokenizer)
    assert isinstance(tokenizer, LinearTokenizer)
    small.take_over(tokenizer)
    reduced = torch.nn.functional.interpolate(pictures(seed=1), size=8, mode="bicubic", antialias=True)
    tokens = tokenizer.encode(pictures(seed=1))
    assert torch.allclose(tokens, small.encode(reduced), atol=1e-5)
    smooth = tokenizer.decode(tokens) - pictures(seed=1)
    flat = torch.nn.functional.interpolate(small.decode(tokens), scale_factor=2) - pictures(seed=1)
    assert smooth.square().mean() < 0.5 * flat.square().mean()  # even before the refiner has learnt anything
    assert tokenizer.refiner is not None
    torch.nn.init.normal_(tokenizer.refiner.outside.weight, std=0.01)
    assert torch.allclose(tokenizer.preview(tokens) - pictures(seed=1), smooth, atol=1e-6)  # does without the refiner
    assert (tokenizer.decode(tokens) - tokenizer.preview(tokens)).abs().max() > 0.01


def test_components_of_another_size_are_not_taken_over() -> None:
    tokenizer = make_tokenizer(ENLARGING)
    assert isinstance(tokenizer, LinearTokenizer)
    with pytest.raises(ValueError, match=r"\(12, 48\); allowed: \(12, 12\)"):
        tokenizer.take_over(make_tokenizer(PCA))
    with pytest.raises(ValueError, match="a VAE; allowed"):
        tokenizer.take_over(make_tokenizer(VAE))


@BY_KIND
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_pictures_that_hold_no_numbers_are_refused(config: TokenizerConfig, value: float) -> None:
    pixels = pictures(1)
    pixels[0, 1, 2, 3] = value
    with pytest.raises(ValueError, match="not finite"):
        make_tokenizer(config).encode(pixels)


@BY_KIND
@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (1, 4, 16, 16), (3, 16, 16), (1, 3, 16, 12)], ids=str)
def test_pictures_of_another_shape_are_refused(config: TokenizerConfig, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"allowed: \(B, 3, 16, 16\)"):
        make_tokenizer(config).encode(torch.zeros(shape))


@BY_KIND
def test_fitting_on_nothing_is_refused(config: TokenizerConfig) -> None:
    with pytest.raises(ValueError, match="no pictures to fit"):
        make_tokenizer(config).fit([])


@BY_KIND
@torch.no_grad()
def test_pictures_of_one_colour_give_finite_tokens(config: TokenizerConfig) -> None:
    tokenizer = make_tokenizer(config).eval()
    tokenizer.fit([torch.ones(4, 3, 16, 16)])
    tokens = tokenizer.encode(torch.ones(1, 3, 16, 16))
    assert bool(torch.isfinite(tokens).all())
    assert bool(torch.isfinite(tokenizer.decode(tokens)).all())

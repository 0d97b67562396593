"""Settings travel through JSON unchanged, and what they do not allow is refused with a message that helps."""

import json
from typing import Any

import pytest

from jepa_app.config import JepaTConfig, TIJepaConfig, TokenizerConfig
from jepa_app.config_base import Config

SETTINGS = [
    TokenizerConfig(kind="vae", image_size=32, patch_size=4, channels=4, vae_channels=(16, 32, 32)),
    JepaTConfig(backbone="bidirectional", denoising="diffusion", fuse_after_predictor=False),
    TIJepaConfig(energy_weights=(0.5, 1.0, 2.0), calibration_scale=3.0),
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: type(settings).__name__)
def test_settings_survive_json(settings: Config) -> None:
    assert type(settings).from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_unknown_keys_are_refused_and_the_allowed_ones_named() -> None:
    with pytest.raises(ValueError, match=r"unknown TokenizerConfig keys \['patchsize'\]; allowed: .*'patch_size'"):
        TokenizerConfig.from_dict({"patchsize": 8})


@pytest.mark.parametrize(
    "values",
    [{"width": "256"}, {"width": 256.0}, {"width": None}, {"num_heads": True}, {"fuse_before_loss": "yes"}],
    ids=str,
)
def test_values_of_another_type_are_refused(values: dict[str, Any]) -> None:
    (name,) = values
    with pytest.raises(ValueError, match=f"JepaTConfig: {name} is "):
        JepaTConfig.from_dict(values)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (JepaTConfig, {"styles": [1, 2]}),
        (JepaTConfig, {"width": 10**12}),
        (TIJepaConfig, {"image_size": 2**16}),
        (JepaTConfig, {"encoder_depth": 10**5}),
        (JepaTConfig, {"sampling_thing_shares": [0.5, None]}),
        (TokenizerConfig, {"decoder_layers": 10**5}),
        (TIJepaConfig, {"energy_weights": ["a", 1, 2]}),
        (TIJepaConfig, {"matched_quantiles": [1, float("nan")]}),
        (TIJepaConfig, {"calibration_scale": float("inf")}),
        (TIJepaConfig, {"calibration_scale": 10**400}),
    ],
)
def test_values_of_strangers_are_refused_before_they_are_used(kind: type[Config], values: dict[str, Any]) -> None:
    (name,) = values
    with pytest.raises(ValueError, match=f"{kind.__name__}: {name} is .*; allowed: ") as told:
        kind.from_dict(values)
    assert len(str(told.value)) < 200


def test_whole_numbers_are_taken_for_fractions() -> None:
    assert TIJepaConfig.from_dict({"calibration_scale": 2}).calibration_scale == 2


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (TokenizerConfig, {"kind": "vq"}, "allowed: patch, pca, vae"),
        (TokenizerConfig, {"image_size": 60}, "not a multiple of patch_size 8"),
        (TokenizerConfig, {"patch_size": 0}, "patch_size is 0"),
        (TokenizerConfig, {"channels": 193}, "192"),
        (TokenizerConfig, {"reduction": 3}, "a divisor of patch_size 8"),
        (TokenizerConfig, {"reduction": 2, "channels": 49}, "channels is 49; allowed: 1 to 48"),
        (TokenizerConfig, {"kind": "vae", "reduction": 2}, "1 for a VAE"),
        (TokenizerConfig, {"refiner_width": 8, "reduction": 8, "channels": 3}, "must be even"),
        (TokenizerConfig, {"refiner_depth": 0}, "refiner_depth is 0"),
        (TokenizerConfig, {"kind": "patch", "channels": 48}, "192 channels"),
        (TokenizerConfig, {"kind": "vae", "vae_channels": (32, 64)}, "2 VAE blocks reduce by 2"),
        (JepaTConfig, {"backbone": "diagonal"}, "allowed: .*cached"),
        (JepaTConfig, {"denoising": "vq"}, "allowed: .*flow"),
        (JepaTConfig, {"num_tokens": 60}, "not a square"),
        (JepaTConfig, {"num_tokens": -4}, "num_tokens is -4"),
        (JepaTConfig, {"width": 100}, "multiple of 4 x num_heads"),
        (JepaTConfig, {"num_heads": 0}, "num_heads is 0"),
        (JepaTConfig, {"fusion_heads": 3}, "fusion_heads"),
        (TIJepaConfig, {"num_heads": 0}, "num_heads is 0"),
        (TIJepaConfig, {"text_components": 500}, "1 to text_width"),
        (TIJepaConfig, {"num_score_masks": 0}, "1 or more"),
    ],
)
def test_values_that_fit_no_network_are_refused(kind: type[Config], values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind.from_dict(values)


def test_derived_sizes() -> None:
    settings = TokenizerConfig(image_size=64, patch_size=8, channels=48)
    assert (settings.patch_values, settings.grid, settings.num_tokens) == (192, 8, 64)
    enlarging = TokenizerConfig(image_size=128, patch_size=16, channels=48, reduction=2)
    assert (enlarging.patch_values, enlarging.grid, enlarging.num_tokens) == (192, 8, 64)
    assert JepaTConfig(num_tokens=256).grid == 16

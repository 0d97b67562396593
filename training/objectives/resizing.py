"""Start a TI-JEPA of small patches from one of large patches: a patch is read as if it were enlarged to the old size.

What the layers know about features, words and predictions stays; the first layer and the positions are resampled, as
for transformers of flexible patch size (FlexiViT, arXiv 2212.08013). Layers that only the new network has
keep their initial values, which pass their input through.
"""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from jepa_app.config import TIJepaConfig

POSITIONS = ("image_encoder.position", "text_to_image.position")
FIRST_LAYER = "image_encoder.patch_in.weight"


def resized_state(state: dict[str, Tensor], old: TIJepaConfig, fresh: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a complete state of the new network from the old one's state and the new one's initial values.

    Raises:
        ValueError: the old network has tensors that do not fit the new one.
    """
    result = dict(fresh)
    for name, value in state.items():
        if name.startswith("references."):
            continue
        if name in POSITIONS:
            value = _resample(value.T.unflatten(1, (old.grid, -1)), fresh[name].shape[0]).flatten(1).T
        elif name == FIRST_LAYER:
            value = _resize_patches(value, old.patch_size, fresh[name].shape[1])
        if name not in fresh or fresh[name].shape != value.shape:
            wanted = tuple(fresh[name].shape) if name in fresh else "no such tensor"
            raise ValueError(f"the initial weights have {name} of {tuple(value.shape)}; the network has {wanted}")
        result[name] = value
    return result


def _resample(grid: Tensor, places: int) -> Tensor:
    """Resample (D, grid, grid) to a square with this many positions."""
    side = round(places**0.5)
    return interpolate(grid[None].float(), size=(side, side), mode="bilinear", align_corners=False)[0]


def _resize_patches(weight: Tensor, old: int, inputs: int) -> Tensor:
    """Weights (D, inputs) that see a small patch as the old ones (D, 3 old old) see it enlarged."""
    new = round((inputs / 3) ** 0.5)
    pixels = torch.eye(new * new).view(new * new, 1, new, new)
    enlarged = interpolate(pixels, size=(old, old), mode="bilinear", align_corners=False)
    matrix = enlarged.flatten(1)  # (new new, old old)
    return (weight.float().unflatten(1, (3, old * old)) @ matrix.T).flatten(1)

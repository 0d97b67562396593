"""Command line for the mean of networks of one shape: `python -m training.soup DIR DIR --shares 0.7 0.3 --out DIR`.

Model soups (arXiv 2203.05482): networks that were trained on from the same weights lie in one basin, and their mean
often knows more than any of them, for the cost of one. It fits a run's network and the weights that it began with.
"""

import argparse
import functools
import math
import operator
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import save_torch_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from jepa_app.checkpoint import AUTO_MAP, MAX_SHARD_SIZE, replacing
from jepa_app.command_line import OneLineParser, telling_mistakes
from jepa_app.config_base import parse_json
from jepa_app.generation.vocabulary import Vocabulary

_OWN_KEYS = ("sampling_", "styles", AUTO_MAP)  # of a config that do not shape the network


@telling_mistakes
def main(arguments: Sequence[str] | None = None) -> int:
    """Write the mean of the given networks. Exit status: 0 for success, 2 for a user's mistake."""
    parser = OneLineParser(
        prog="python -m training.soup", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights", nargs="+", type=Path, metavar="DIR", help="weights folders of one shape")
    parser.add_argument("--shares", nargs="+", type=float, help="weight of each network, in order (default: equal)")
    parser.add_argument("--out", type=Path, required=True, help="folder of the mean; its config is the first one's")
    options = parser.parse_args(arguments)
    soup(options.weights, options.shares or [1.0] * len(options.weights), options.out)
    return 0


def soup(folders: Sequence[Path], shares: Sequence[float], out: Path) -> None:
    """Write the weighted mean of networks to `out`, with the config of the first folder and what any of them has seen.

    Shares are divided by their sum. Tensors keep the data type they have in the first folder.

    Raises:
        ValueError: fewer than two folders, a share for each is missing or is not above 0, a folder holds no weights,
            or the networks differ in shape.
    """
    if len(folders) < 2:
        raise ValueError("a mean needs two or more weights folders; pass another DIR")
    if len(shares) != len(folders):
        raise ValueError(f"{len(shares)} shares for {len(folders)} folders; pass one for each, in order")
    if not all(0 < share < math.inf for share in shares):
        raise ValueError(f"shares are {', '.join(f'{share:g}' for share in shares)}; allowed: numbers above 0")
    _require_same_shape(folders)
    first = _tensors(folders[0])
    total = {name: tensor.double() * shares[0] for name, tensor in first.items()}
    for folder, share in zip(folders[1:], shares[1:], strict=True):
        other = _tensors(folder)
        if {name: tensor.shape for name, tensor in other.items()} != {name: total[name].shape for name in total}:
            raise ValueError(
                f"the networks in {folders[0]} and {folder} have other tensors; pass networks of one shape"
            )
        for name, tensor in other.items():
            total[name] += tensor.double() * share
    mean = {name: (tensor / math.fsum(shares)).to(first[name].dtype) for name, tensor in total.items()}
    with replacing(out) as partial:
        for path in folders[0].iterdir():
            if path.is_file() and ".safetensors" not in path.name:
                shutil.copy2(path, partial)
        functools.reduce(operator.or_, map(Vocabulary.load, folders)).save(partial)
        save_torch_state_dict(mean, partial, max_shard_size=MAX_SHARD_SIZE)
        for path in partial.iterdir():
            path.chmod(0o644)


def _require_same_shape(folders: Sequence[Path]) -> None:
    shapes = [_shape(folder) for folder in folders]
    for folder, shape in zip(folders, shapes, strict=True):
        if differing := sorted(key for key in shapes[0] | shape if shapes[0].get(key) != shape.get(key)):
            raise ValueError(f"{folders[0]} and {folder} differ in {', '.join(differing)}; pass networks of one shape")


def _shape(folder: Path) -> dict[str, object]:
    """What a folder's config says of its network's shape."""
    path = folder / "config.json"
    try:
        config = dict[str, object](parse_json(path.read_text()).items())
    except FileNotFoundError:
        raise ValueError(f"no weights in {folder}: config.json is missing; pass the weights folder of a run") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is broken ({error}); restore the file") from error
    return {key: value for key, value in config.items() if not key.startswith(_OWN_KEYS)}


def _tensors(folder: Path) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    try:
        for path in sorted(folder.glob("*.safetensors")):
            tensors |= load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"the weights in {folder} cannot be loaded ({error}); restore the folder") from error
    if not tensors:
        raise ValueError(f"no tensors in {folder}; restore the folder")
    return tensors


if __name__ == "__main__":
    sys.exit(main())

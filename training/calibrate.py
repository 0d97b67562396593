"""Calibrate trained TI-JEPA weights again: `python -m training.calibrate RUN/weights --data DIR --out DIR`.

The network stays as it is; its references, the weights of its energy's terms and its probability are fitted again. A
contrastive peer (RUN/weights/peer) has no references.
With `--percentiles` these stay too, and only the quantiles that percentiles are read from are measured.
"""

import sys
from argparse import BooleanOptionalAction
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jepa_app.checkpoint import load_network, save_network
from jepa_app.command_line import OneLineParser, check_folder, telling_mistakes
from jepa_app.config import TIJepaConfig
from jepa_app.models.text import TextEncoder
from jepa_app.models.ti_jepa import TIJepa
from training.data.batches import CaptionedPictures
from training.objectives.calibration import Anchors, finish, fitted, measure_quantiles, without_references
from training.objectives.text_cache import TextCache
from training.peers.dual_encoder import DualEncoder, PeerConfig, PeerScorer
from training.recipe_kinds.matchers import TIJepaRecipe


@telling_mistakes
def main(arguments: Sequence[str] | None = None) -> int:
    """Calibrate and write; exit status: 0 for success, 2 for a user's mistake (reported on one line)."""
    recipe = TIJepaRecipe()
    parser = OneLineParser(prog="python -m training.calibrate", description=__doc__)
    parser.add_argument("weights", type=Path, help="folder of a config and tensors, such as weights/ti-jepa")
    parser.add_argument("--data", type=Path, required=True, help="folder of captioned pictures")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to; may be the same")
    parser.add_argument(
        "--references",
        type=int,
        default=recipe.references,
        help="how many pictures and captions to compare pairs with",
    )
    parser.add_argument(
        "--foils",
        action=BooleanOptionalAction,
        default=recipe.network.foils,
        help="compare captions with their foils",
    )
    parser.add_argument("--percentiles", action="store_true", help="measure only the percentiles and keep the rest")
    options = parser.parse_args(arguments)
    check_folder(options.out)
    if options.percentiles:
        measure_folder(options.weights, options.data, options.out)
    else:
        calibrate_folder(options.weights, options.data, options.out, options.references, foils=options.foils)
    return 0


def calibrate_folder(weights: Path, folder: Path, out: Path, references: int, *, foils: bool) -> None:
    """Load the weights, choose references, calibrate on the pictures of `folder`, and write to `out`.

    Raises:
        ValueError: the weights are missing or broken, the folder is not usable, or the number is below 0.
    """
    if references < 0:
        raise ValueError(f"references is {references}; allowed: 0 or more")
    if is_peer(weights):
        peer = PeerScorer(load_network(weights, PeerConfig, DualEncoder), TextEncoder.load())
        plain = replace(peer.network.config, foils=foils, foil_weights=(), foil_offsets=())
        peer.network.config = plain
        peer.network.config = fitted(plain, peer.terms, _anchors(plain, folder, 0))
        save_network(out, peer.network.half(), peer.network.config)
        return
    network = without_references(load_network(weights, TIJepaConfig, TIJepa))
    network.config = replace(network.config, foils=foils)
    network = finish(network, TextCache(TextEncoder.load()), _anchors(network.config, folder, references))
    save_network(out, network.half(), network.config)


def measure_folder(weights: Path, folder: Path, out: Path) -> None:
    """Load calibrated weights, measure the percentiles' quantiles on the pictures of `folder`, and write to `out`.

    Raises:
        ValueError: the weights are missing or broken, or the folder is not usable.
    """
    if is_peer(weights):
        raise ValueError(f"{weights} holds a contrastive peer, which has no percentiles; leave out --percentiles")
    network = load_network(weights, TIJepaConfig, TIJepa).eval().requires_grad_(False)
    network.config = measure_quantiles(network, TextCache(TextEncoder.load()), _anchors(network.config, folder, 0))
    save_network(out, network.half(), network.config)


def is_peer(weights: Path) -> bool:
    """Whether a folder holds the weights of a contrastive peer."""
    path = weights / "config.json"
    return path.is_file() and f'"{PeerConfig.__name__}"' in path.read_text(encoding="utf-8")


def _anchors(config: TIJepaConfig, folder: Path, references: int) -> Anchors:
    """The pictures of `folder` that training would use for references and calibration."""
    recipe = TIJepaRecipe()
    data = CaptionedPictures.load(folder, config.image_size)
    return Anchors.of(data, recipe.calibration_pictures, references, recipe.schedule.seed)


if __name__ == "__main__":
    sys.exit(main())

"""Which words of a caption help to predict which patches of a picture: the energy of one pair, broken down.

A word's effect is what changes when it is dropped: the caption is encoded again without it, because the text encoder
mixes every word into the features of all others. A caption without its only word is empty (`features.null_caption`). A
word takes its foils along: the caption without "red" need not beat other colours any more.

Letters in shapes: W words, N patches, D width, S picture side.
"""

import re
from dataclasses import dataclass

import torch
from torch import Tensor

from jepa_app.matching.energies import pair_energies
from jepa_app.matching.features import (
    CAPTIONS_AT_ONCE,
    PictureFeatures,
    alone,
    blocks,
    caption_features,
    null_caption,
    picture_features,
)
from jepa_app.matching.foils import DIFFERENCES, differences
from jepa_app.matching.scoring import Scorer
from jepa_app.models.text import MAX_TOKENS
from jepa_app.models.tokenizers.tokenizer import check_pixels

# What people see as one word: it includes hyphens and apostrophes but not punctuation or brackets.
WORD = re.compile(r"[^\s,;:.!?\"“”„«»()\[\]{}，。；：！？、（）]+(?:\.\d+)?")
MAX_WORDS = MAX_TOKENS - 2  # the encoder reads no more word pieces, and a word has at least one


@dataclass(frozen=True)
class MatchMaps:
    """The energy of one picture and one caption, broken down by words and patches.

    Attributes:
        words: the W words of the caption, as typed.
        grid: patches along one side; N = grid x grid, row by row.
        energy: of the whole caption, as `Scorer.score` returns it; lower is better.
        contribution: (W,) energy without the word minus energy with it; above zero where the word improves the match.
            Where foils count, it is the base's difference minus, as an energy, the penalty that the word takes along.
        patch_error: (N,) mean squared error of each patch's features (layer-normalised, so about 1 where nothing is
            known) predicted from the caption alone.
        patch_energy: (N,) this error minus the null text's; below zero where the caption helps. Its mean is the
            energy's term `text_to_image`.
        word_patch: (W, N) error of the patch without the word minus with it; above zero where the word helps.
    """

    words: tuple[str, ...]
    grid: int
    energy: float
    contribution: Tensor
    patch_error: Tensor
    patch_energy: Tensor
    word_patch: Tensor


def words_of(caption: str) -> list[re.Match[str]]:
    """Return the words of a caption with their positions, without the punctuation around them."""
    return list(WORD.finditer(caption))


def captions_without(caption: str) -> list[str]:
    """Return W captions, each without one of the W words; dropping an only word leaves an empty caption."""
    words = words_of(caption)
    if len(words) == 1:
        return [""]
    return [" ".join((caption[: word.start()] + caption[word.end() :]).split()) for word in words]


@torch.no_grad()
def match_maps(scorer: Scorer, pixels: Tensor, caption: str) -> MatchMaps:
    """Break down the energy of a picture (3, S, S) in [-1, 1] and a caption.

    Raises:
        ValueError: the caption has no words or too many, or the picture has the wrong size or is not finite.
    """
    words = tuple(word.group() for word in words_of(caption))
    if not 1 <= len(words) <= MAX_WORDS:
        raise ValueError(f"the caption {caption[:60]!r} has {len(words)} words; allowed: 1 to {MAX_WORDS}")
    check_pixels(pixels[None], scorer.image_size)
    network = scorer.network
    picture = picture_features(network, pixels[None].to(scorer.device, torch.float32))
    without = captions_without(caption)
    texts = [text for text in without if text]
    parts = [
        scorer.caption_features([caption]),
        *(caption_features(network, scorer.encode(texts[block])) for block in blocks(len(texts), CAPTIONS_AT_ONCE)),
    ]
    if len(words) == 1:
        parts.append(null_caption(network))
    found = [scorer.parts(pair_energies(network, picture, part)) for part in parts]
    whole, base = found[0], torch.cat([each.base[0] for each in found])  # (1 + W,)
    lost = torch.tensor([[each not in differences(text) for each in DIFFERENCES] for text in without])  # (W, 3)
    taken = (lost * whole.penalties[0]).sum(dim=1) / network.config.calibration_scale
    null = alone(network)  # (1, N, D)
    errors = torch.cat([_patch_errors(picture, null + part.gains) for part in parts]).cpu()  # (1 + W, N)
    null_error = _patch_errors(picture, null)[0].cpu()
    return MatchMaps(
        words=words,
        grid=network.config.grid,
        energy=float(scorer.join(whole)),
        contribution=base[1:] - base[0] - taken,
        patch_error=errors[0],
        patch_energy=errors[0] - null_error,
        word_patch=errors[1:] - errors[0],
    )


def _patch_errors(picture: PictureFeatures, predicted: Tensor) -> Tensor:
    """Return the mean squared errors (L, N) of the patches of one picture as predicted (L, N, D) from captions."""
    return (predicted - picture.targets).square().mean(dim=2)

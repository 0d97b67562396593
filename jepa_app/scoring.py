"""How well pictures and captions match: prediction errors of TI-JEPA as energies, and the probability read from them.

An energy has three terms, each a mean squared error that the pair leaves *minus* the error that remains without the
other side, so that a picture or a caption which is hard to predict for everything gains and loses nothing by it:
- `text_to_image`: the picture's features predicted from the caption alone, against the null text;
- `text_to_hidden`: hidden patches predicted from the caption and the visible patches, against the null text;
- `image_to_text`: the caption's sentence feature predicted from visible patches, against the mean caption (zero).
Every term is below zero where the other side helps. The same fixed masks serve every pair. The first and the last are
one matrix product for all pairs; only the second costs a predictor pass a pair.

Letters in shapes: M pictures, L captions, N patches, Q asked patches, D width, K sentence components, T text tokens,
S picture side.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from jepa_app.checkpoint import load_config, load_state, resolve_weights
from jepa_app.config import TIJepaConfig
from jepa_app.masking import multi_block_mask
from jepa_app.models.blocks import KeyValue
from jepa_app.models.text import TextEncoder, TextFeatures
from jepa_app.models.ti_jepa import CaptionKeys, Layers, TIJepa
from jepa_app.models.tokenizer import check_pixels

MASK_SEED = 2503_06380  # of the masks that every pair is scored with
MAX_ASKED = 16  # hidden patches asked for under one mask
PICTURES_AT_ONCE = 16
CAPTIONS_AT_ONCE = 32


@dataclass(frozen=True)
class Scores:
    """Energies (M, L), lower is better, and probabilities (M, L) in [0, 1] that picture and caption belong together."""

    energy: Tensor
    probability: Tensor


@dataclass(frozen=True)
class Energies:
    """The three terms of the energy, each (M, L); below zero where the pair predicts better than one side alone."""

    text_to_image: Tensor
    text_to_hidden: Tensor
    image_to_text: Tensor

    def stacked(self) -> Tensor:
        """Return the terms as (M, L, 3), in the order of the config's `energy_weights`."""
        return torch.stack([self.text_to_image, self.text_to_hidden, self.image_to_text], dim=-1)


@dataclass(frozen=True)
class View:
    """One fixed mask: the positions that stay visible (V,) and those asked for (Q,), both long."""

    visible: Tensor
    asked: Tensor


@dataclass(frozen=True)
class PictureFeatures:
    """What is computed once for each picture.

    Attributes:
        targets: (M, N, D) layer-normalised features of the whole picture.
        kept: keys and values of the visible patches, for each view.
        null_errors: (M,) error of the null text at the asked patches, for each view.
        sentences: (M, K) predicted sentence features, for each view and, last, for the whole picture.
    """

    targets: Tensor
    kept: tuple[Layers, ...]
    null_errors: tuple[Tensor, ...]
    sentences: tuple[Tensor, ...]


@dataclass(frozen=True)
class CaptionFeatures:
    """What is computed once for each caption.

    Attributes:
        keys: what the text-to-image predictor reads.
        pictures: (L, N, D) features that the caption alone predicts.
        sentences: (L, K) sentence features.
    """

    keys: CaptionKeys
    pictures: Tensor
    sentences: Tensor


@functools.cache
def score_views(config: TIJepaConfig) -> tuple[View, ...]:
    """Draw the fixed masks of the score: multi-block masks of I-JEPA, and up to `MAX_ASKED` hidden patches of each."""
    generator = torch.Generator().manual_seed(MASK_SEED)
    views = []
    for _ in range(config.num_score_masks):
        hidden = multi_block_mask(config.grid, generator)
        places = hidden.nonzero().flatten()
        asked = places[torch.randperm(len(places), generator=generator)[:MAX_ASKED]].sort().values
        views.append(View((~hidden).nonzero().flatten(), asked))
    return tuple(views)


@torch.no_grad()
def picture_features(network: TIJepa, pixels: Tensor) -> PictureFeatures:
    """Compute what pictures (M, 3, S, S) contribute to every pair that they take part in."""
    whole, features = network.whole(pixels)
    targets = network.image_targets(features)
    whole_sentences = network.image_to_text(features, whole)
    null = network.caption_keys(network.null_features(1))
    kept, null_errors, sentences = [], [], []
    for view in _views_on(network, pixels.device):
        features = network.image_encoder(pixels, view.visible)
        kept.append(network.text_to_image.keep_image(features, view.visible))
        predicted = network.text_to_image(view.asked, _expand_captions(null, len(pixels)), kept[-1])
        null_errors.append(_squared(predicted - targets[:, view.asked]))
        sentences.append(network.image_to_text(features, view.visible))
    return PictureFeatures(targets, tuple(kept), tuple(null_errors), (*sentences, whole_sentences))


@torch.no_grad()
def caption_features(network: TIJepa, text: TextFeatures) -> CaptionFeatures:
    """Compute what captions with token features (L, T, W) contribute to every pair that they take part in."""
    keys = network.caption_keys(text)
    whole = torch.arange(network.config.num_patches, device=text.mask.device)
    return CaptionFeatures(keys, network.text_to_image(whole, keys, None), network.sentence_space(text))


@torch.no_grad()
def pair_energies(network: TIJepa, pictures: PictureFeatures, captions: CaptionFeatures) -> Energies:
    """Return the energies (M, L) of all pairs; memory grows with M x L only by the result's three numbers a pair."""
    return Energies(
        _text_to_image(network, pictures, captions),
        _text_to_hidden(network, pictures, captions),
        _image_to_text(pictures, captions),
    )


def _text_to_image(network: TIJepa, pictures: PictureFeatures, captions: CaptionFeatures) -> Tensor:
    whole = torch.arange(network.config.num_patches, device=pictures.targets.device)
    null = network.text_to_image(whole, network.caption_keys(network.null_features(1)), None)  # (1, N, D)
    gained = (captions.pictures - null).flatten(1)  # (L, N D)
    own = _squared(captions.pictures) - _squared(null)  # (L,)
    # |p - t|^2 - |n - t|^2 = |p|^2 - |n|^2 - 2 (p - n) t, without a difference of large numbers
    return own - 2 * pictures.targets.flatten(1) @ gained.T / gained.shape[1]


def _image_to_text(pictures: PictureFeatures, captions: CaptionFeatures) -> Tensor:
    terms = [
        # |p - t|^2 - |t|^2, the mean caption being zero
        _squared(predicted)[:, None] - 2 * predicted @ captions.sentences.T / predicted.shape[1]
        for predicted in pictures.sentences
    ]
    return torch.stack(terms).mean(dim=0)


def _text_to_hidden(network: TIJepa, pictures: PictureFeatures, captions: CaptionFeatures) -> Tensor:
    num_pictures, num_captions = len(pictures.targets), len(captions.sentences)
    result = pictures.targets.new_zeros(num_pictures, num_captions)
    views = _views_on(network, result.device)
    for rows in _blocks(num_pictures, PICTURES_AT_ONCE):
        for columns in _blocks(num_captions, CAPTIONS_AT_ONCE):
            keys = _repeat_captions(captions.keys, columns, rows.stop - rows.start)
            for view, layers, null in zip(views, pictures.kept, pictures.null_errors, strict=True):
                image = _repeat_pictures(layers, rows, columns.stop - columns.start)
                predicted = network.text_to_image(view.asked, keys, image)  # (M' L', Q, D)
                predicted = predicted.unflatten(0, (rows.stop - rows.start, -1))
                errors = _squared(predicted - pictures.targets[rows, None, view.asked], keep=2)  # (M', L')
                result[rows, columns] += (errors - null[rows, None]) / len(views)
    return result


def _squared(difference: Tensor, keep: int = 1) -> Tensor:
    """Mean square over all but the first `keep` dimensions."""
    return difference.square().flatten(keep).mean(dim=keep)


def _blocks(length: int, size: int) -> Iterator[slice]:
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def _views_on(network: TIJepa, device: torch.device) -> tuple[View, ...]:
    return tuple(View(view.visible.to(device), view.asked.to(device)) for view in score_views(network.config))


def _expand_captions(keys: CaptionKeys, times: int) -> CaptionKeys:
    """Repeat one caption `times` times, without a copy."""
    layers = tuple(KeyValue(*(tensor.expand(times, -1, -1, -1) for tensor in kept)) for kept in keys.layers)
    return CaptionKeys(layers, keys.mask.expand(times, -1))


def _repeat_captions(keys: CaptionKeys, columns: slice, times: int) -> CaptionKeys:
    """Captions of a block, all of them `times` times over: (times * L', ...)."""
    layers = tuple(KeyValue(*(tensor[columns].repeat(times, 1, 1, 1) for tensor in kept)) for kept in keys.layers)
    return CaptionKeys(layers, keys.mask[columns].repeat(times, 1))


def _repeat_pictures(layers: Layers, rows: slice, times: int) -> Layers:
    """Pictures of a block, each `times` times in a row: (M' * times, ...)."""
    return tuple(KeyValue(*(tensor[rows].repeat_interleave(times, dim=0) for tensor in kept)) for kept in layers)


class Scorer:
    """A trained TI-JEPA with its text encoder and calibration."""

    def __init__(self, network: TIJepa, text_encoder: TextEncoder) -> None:
        self.network = network.eval().requires_grad_(False)
        self.text_encoder = text_encoder

    @classmethod
    def from_pretrained(cls, folder: Path | str, device: torch.device | str | None = None) -> "Scorer":
        """Load the part `ti-jepa` of a weights folder or hub id; `device` is a GPU if there is one unless given.

        Raises:
            ValueError: the weights are missing, broken or of another kind.
        """
        part = resolve_weights(folder) / "ti-jepa"
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        network = TIJepa(load_config(part, TIJepaConfig))
        load_state(part, network)
        return cls(network.to(chosen), TextEncoder.load(device=chosen))

    @property
    def image_size(self) -> int:
        """Side in pixels of the pictures to score."""
        return self.network.config.image_size

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.network.null_text.device

    def score(self, pixels: Tensor, captions: Sequence[str]) -> Scores:
        """Score every picture with every caption.

        Args:
            pixels: (M, 3, S, S) in [-1, 1].
            captions: L captions.

        Raises:
            ValueError: no picture, no caption, pictures of another size or not finite, an over-long caption.
        """
        energy = self.combine(self.energies(pixels, captions))
        return Scores(energy, self.probability(energy))

    def energies(self, pixels: Tensor, captions: Sequence[str]) -> Energies:
        """Return the three terms of the energy (M, L); arguments and errors as in `score`."""
        if not len(pixels) or not captions:
            raise ValueError(f"got {len(pixels)} pictures and {len(captions)} captions; allowed: at least one of each")
        check_pixels(pixels, self.image_size)
        words = [
            caption_features(self.network, self.text_encoder.encode(captions[block]).to(self.device, torch.float32))
            for block in _blocks(len(captions), CAPTIONS_AT_ONCE)
        ]
        rows = []
        for block in _blocks(len(pixels), PICTURES_AT_ONCE):
            pictures = picture_features(self.network, pixels[block].to(self.device, torch.float32))
            terms = [pair_energies(self.network, pictures, part).stacked().cpu() for part in words]
            rows.append(torch.cat(terms, dim=1))  # (M', L, 3)
        return Energies(*torch.cat(rows).unbind(dim=-1))

    def combine(self, energies: Energies) -> Tensor:
        """Return the weighted mean of the three terms: the energy (M, L)."""
        weights = torch.tensor(self.network.config.energy_weights)
        return energies.stacked() @ (weights / weights.sum())

    def probability(self, energy: Tensor) -> Tensor:
        """Return the calibrated probability that pairs of this energy belong together, against random captions."""
        config = self.network.config
        return torch.sigmoid(config.calibration_offset - config.calibration_scale * energy)

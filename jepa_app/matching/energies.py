"""Prediction errors of TI-JEPA as energies of pairs of pictures and captions.

An energy has three terms. Each is the mean squared error left by the pair *minus* the error left without the other
side, so a picture or caption that is hard to predict from anything neither gains nor loses by it:
- `text_to_image`: the picture's features predicted from the caption alone, against the null text;
- `text_to_hidden`: hidden patches predicted from the caption and the visible patches, against the null text;
- `image_to_text`: the caption's sentence feature predicted from visible patches, against the mean caption (zero).
Every term is below zero where the other side helps. All pairs use the same fixed masks. The first and last terms are a
matrix product for all pairs; only the second costs a predictor pass per pair. Weights with references have three more
terms: the first and last minus the least error that other captions or pictures would leave (`models/references.py`).

Letters in shapes: M pictures, L captions, N patches, Q asked patches, D width, K sentence components, T text tokens,
R references, S picture side.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from jepa_app.compute import on_all_cores
from jepa_app.config import TIJepaConfig
from jepa_app.masking import multi_block_mask
from jepa_app.models.attention import PartRead
from jepa_app.models.blocks import KeyValue
from jepa_app.models.pairs import PictureReads, Queries, predict_pairs, read_captions, read_pictures
from jepa_app.models.references import soft_least
from jepa_app.models.text import TextFeatures
from jepa_app.models.ti_jepa import CaptionKeys, Layers, TIJepa

MASK_SEED = 2503_06380  # for the masks that every pair is scored with
MAX_ASKED = 16  # hidden patches predicted under one mask
PICTURES_AT_ONCE = 16
CAPTIONS_AT_ONCE = 32
PAIRS_AT_ONCE = 64  # on a core: what a layer computes for them stays in its cache (measured: 16 and 512 take longer)
PAIRS_AT_ONCE_ON_GPU = 512


@dataclass(frozen=True)
class Energies:
    """The terms of the energy: three of shape (M, L), below zero where the pair predicts better than one side alone.

    If the weights have references, `compared` (M, L, 3, otherwise 0) holds the first term against other captions, and
    the last against other captions and against other pictures; below zero where the pair is better than these.
    """

    text_to_image: Tensor
    text_to_hidden: Tensor
    image_to_text: Tensor
    compared: Tensor

    def stacked(self) -> Tensor:
        """Return the terms as (M, L, 3 or 6), in the order of the config's `energy_weights`."""
        plain = torch.stack([self.text_to_image, self.text_to_hidden, self.image_to_text], dim=-1)
        return torch.cat([plain, self.compared], dim=-1)

    @classmethod
    def unstacked(cls, terms: Tensor) -> "Energies":
        """Return the energies with the given terms (M, L, 3 or 6)."""
        return cls(terms[..., 0], terms[..., 1], terms[..., 2], terms[..., 3:])


@dataclass(frozen=True)
class View:
    """One fixed mask: the visible positions (V,) and the positions to predict (Q,), both long."""

    visible: Tensor
    asked: Tensor


@dataclass(frozen=True)
class PictureFeatures:
    """What is computed once for each picture.

    Attributes:
        targets: (M, N, D) layer-normalised features of the whole picture.
        reads: what the text-to-image predictor reads from the visible patches, for each view.
        null_errors: (M,) errors of the null text at the asked patches, for each view.
        sentences: (M, K) predicted sentence features, for each view and finally for the whole picture.
        least: (M, 2) lowest energies text -> image and image -> text with reference captions; (M, 0) if there are none.
    """

    targets: Tensor
    reads: tuple[PictureReads, ...]
    null_errors: tuple[Tensor, ...]
    sentences: tuple[Tensor, ...]
    least: Tensor


@dataclass(frozen=True)
class CaptionFeatures:
    """What is computed once for each caption.

    Attributes:
        reads: (L, Q, H, E) what the text-to-image predictor's first layer reads, for each view.
        later: keys and values for its other layers, and the mask.
        gains: (L, N, D) features that the caption alone predicts, minus those that the null text does.
        own: (L,) mean square of the caption's prediction, minus that of the null text's.
        sentences: (L, K) sentence features.
        least: (L, 1) lowest energy image -> text with reference pictures; (L, 0) if there are none.
    """

    reads: tuple[PartRead, ...]
    later: CaptionKeys
    gains: Tensor
    own: Tensor
    sentences: Tensor
    least: Tensor


@functools.cache
def score_views(config: TIJepaConfig) -> tuple[View, ...]:
    """Draw the fixed masks for scoring: multi-block masks as in I-JEPA, each with up to `MAX_ASKED` hidden patches."""
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
    """Compute what pictures (M, 3, S, S) contribute to every pair that includes them."""
    whole, features = network.whole(pixels)
    targets = network.image_targets(features)
    whole_sentences = network.image_to_text(features, whole)
    null = network.caption_keys(network.null_features(1))
    reads, null_errors, sentences = [], [], []
    for view in _views_on(network, pixels.device):
        features = network.image_encoder(pixels, view.visible)
        kept = network.text_to_image.keep_image(features, view.visible)
        reads.append(read_pictures(Queries.at(network.text_to_image, view.asked), kept))
        predicted = network.text_to_image(view.asked, _expand_captions(null, len(pixels)), kept)
        null_errors.append(_squared(predicted - targets[:, view.asked]))
        sentences.append(network.image_to_text(features, view.visible))
    sentences.append(whole_sentences)
    least = targets.new_zeros(len(targets), 0)
    if network.references is not None:
        others = (
            _text_to_image(targets, *_gains(network, network.references.pictures)),
            _image_to_text(sentences, network.references.captions),
        )
        least = torch.stack([soft_least(energy, network.config.reference_temperature) for energy in others], dim=1)
    return PictureFeatures(targets, tuple(reads), tuple(null_errors), tuple(sentences), least)


@torch.no_grad()
def caption_features(network: TIJepa, text: TextFeatures) -> CaptionFeatures:
    """Compute what captions with token features (L, T, W) contribute to every pair that includes them."""
    return _caption_features(network, network.caption_keys(text), network.sentence_space(text))


@torch.no_grad()
def null_caption(network: TIJepa) -> CaptionFeatures:
    """Compute what an empty caption contributes: the null text, and the mean of all sentences (zero)."""
    null = network.null_features(1)
    return _caption_features(
        network, network.caption_keys(null), network.sentence_space.mean.new_zeros(1, network.config.text_components)
    )


@torch.no_grad()
def pair_energies(network: TIJepa, pictures: PictureFeatures, captions: CaptionFeatures) -> Energies:
    """Return the energies (M, L) of all pairs; memory grows with M x L only by six numbers per pair."""
    num_pictures, num_captions = len(pictures.targets), len(captions.sentences)
    everything = torch.arange(num_pictures * num_captions, device=pictures.targets.device)
    hidden = hidden_energies(network, pictures, captions, everything // num_captions, everything % num_captions)
    return replace(quick_energies(network, pictures, captions), text_to_hidden=hidden.view(num_pictures, num_captions))


@torch.no_grad()
def quick_energies(network: TIJepa, pictures: PictureFeatures, captions: CaptionFeatures) -> Energies:
    """Return the energies (M, L) of all pairs with zeros for `text_to_hidden`, the only costly term."""
    to_image = _text_to_image(pictures.targets, captions.gains, captions.own)
    to_text = _image_to_text(pictures.sentences, captions.sentences)
    compared = to_text.new_zeros(*to_text.shape, 0)
    if network.references is not None:
        to_captions = torch.stack([to_image, to_text], dim=-1) - pictures.least[:, None]
        compared = torch.cat([to_captions, to_text[..., None] - captions.least], dim=-1)
    return Energies(to_image, torch.zeros_like(to_text), to_text, compared)


@torch.no_grad()
def hidden_energies(
    network: TIJepa, pictures: PictureFeatures, captions: CaptionFeatures, rows: Tensor, columns: Tensor
) -> Tensor:
    """Return the term `text_to_hidden` (P,) for pairs of picture `rows` and caption `columns`, both (P,) long."""
    predictor, views = network.text_to_image, _views_on(network, rows.device)
    queries = [Queries.at(predictor, view.asked) for view in views]

    @torch.no_grad()  # which each thread has to say for itself
    def mean_over_views(block: slice) -> Tensor:
        of_pictures, of_captions = rows[block], columns[block]
        later = _rows_of_captions(captions.later, of_captions)
        terms = []
        for number, view in enumerate(views):
            reads = pictures.reads[number]
            read = PictureReads(_rows_of(reads.first, of_pictures), _chosen(reads.later, of_pictures))
            heard = _rows_of(captions.reads[number], of_captions)
            predicted = predict_pairs(predictor, queries[number], read, heard, later)  # (P', Q, D)
            errors = _squared(predicted - pictures.targets[of_pictures[:, None], view.asked])  # (P',)
            terms.append(errors - pictures.null_errors[number][of_pictures])
        return torch.stack(terms).mean(dim=0)

    at_once = PAIRS_AT_ONCE if rows.device.type == "cpu" else PAIRS_AT_ONCE_ON_GPU
    return torch.cat(on_all_cores(mean_over_views, list(blocks(len(rows), at_once)), rows.device))


def alone(network: TIJepa, keys: CaptionKeys | None = None) -> Tensor:
    """Return the features (L, N, D) that captions predict without a picture; None stands for the null text, L = 1."""
    keys = network.caption_keys(network.null_features(1)) if keys is None else keys
    return network.text_to_image(torch.arange(network.config.num_patches, device=keys.mask.device), keys, None)


def _caption_features(network: TIJepa, keys: CaptionKeys, sentences: Tensor) -> CaptionFeatures:
    least = sentences.new_zeros(len(sentences), 0)
    if network.references is not None:
        others = _sentence_gain(network.references.sentences, network.references.squares, sentences)  # (R, L)
        least = soft_least(others.T, network.config.reference_temperature)[:, None]
    views = _views_on(network, sentences.device)
    reads = tuple(read_captions(Queries.at(network.text_to_image, view.asked), keys) for view in views)
    later = CaptionKeys(keys.layers[1:], keys.mask)
    return CaptionFeatures(reads, later, *_gains(network, alone(network, keys)), sentences, least)


def _gains(network: TIJepa, predicted: Tensor) -> tuple[Tensor, Tensor]:
    """What predictions (L, N, D) from captions alone have more than the null text's: features, and mean square (L,)."""
    null = alone(network)
    return predicted - null, _squared(predicted) - _squared(null)


def _text_to_image(targets: Tensor, gains: Tensor, own: Tensor) -> Tensor:
    """Energies (M, L) of targets (M, N, D) given what L captions predict alone, as `_gains` returns it."""
    # |p - t|^2 - |n - t|^2 = |p|^2 - |n|^2 - 2 (p - n) t, without a difference of large numbers
    gains = gains.flatten(1)  # (L, N D)
    return own - 2 * targets.flatten(1) @ gains.T / gains.shape[1]


def _image_to_text(predictions: Sequence[Tensor], sentences: Tensor) -> Tensor:
    """Energies (M, L) of sentence features (L, K) given the predictions of pictures, (M, K) for each view."""
    every = torch.stack(list(predictions))  # (views, M, K)
    return _sentence_gain(every.mean(dim=0), every.square().mean(dim=(0, 2)), sentences)  # linear in a prediction


def _sentence_gain(predicted: Tensor, squares: Tensor, sentences: Tensor) -> Tensor:
    # |p - t|^2 - |t|^2, because the mean caption is zero
    return squares[:, None] - 2 * predicted @ sentences.T / predicted.shape[1]


def _squared(difference: Tensor) -> Tensor:
    """Mean square over all but the first dimension."""
    return difference.square().flatten(1).mean(dim=1)


def blocks(length: int, size: int) -> Iterator[slice]:
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def _views_on(network: TIJepa, device: torch.device) -> tuple[View, ...]:
    return tuple(View(view.visible.to(device), view.asked.to(device)) for view in score_views(network.config))


def _expand_captions(keys: CaptionKeys, times: int) -> CaptionKeys:
    """Repeat one caption `times` times without copying it."""
    layers = tuple(KeyValue(*(tensor.expand(times, -1, -1, -1) for tensor in kept)) for kept in keys.layers)
    return CaptionKeys(layers, keys.mask.expand(times, -1))


def _rows_of(read: PartRead, rows: Tensor) -> PartRead:
    return PartRead(read.values[rows], read.log_weight[rows])


def _rows_of_captions(keys: CaptionKeys, rows: Tensor) -> CaptionKeys:
    """Return the chosen captions, padded to their own longest one alone."""
    mask = keys.mask[rows]
    longest = int(mask.sum(dim=1).max())
    layers = tuple(KeyValue(kept.key[rows, :longest], kept.value[rows, :longest]) for kept in keys.layers)
    return CaptionKeys(layers, mask[:, :longest])


def _chosen(layers: Layers, rows: Tensor) -> Layers:
    return tuple(KeyValue(kept.key[rows], kept.value[rows]) for kept in layers)

"""What pictures and captions contribute to the energies of all pairs that include them, computed once for each.

Letters in shapes: M pictures, L captions, N patches, Q asked patches, D width, K sentence components, T text tokens,
W text width, R references, F foils, S picture side.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from jepa_app.config import TIJepaConfig
from jepa_app.masking import multi_block_mask
from jepa_app.matching.foils import DIFFERENCES, foils
from jepa_app.models.attention import PartRead
from jepa_app.models.blocks import KeyValue
from jepa_app.models.pairs import PictureReads, Queries, read_captions, read_pictures
from jepa_app.models.references import soft_least
from jepa_app.models.text import TextFeatures, join_features
from jepa_app.models.ti_jepa import CaptionKeys, TIJepa

MASK_SEED = 2503_06380  # for the masks that every pair is scored with
MAX_ASKED = 16  # hidden patches predicted under one mask
PICTURES_AT_ONCE = 16
CAPTIONS_AT_ONCE = 32

Encode = Callable[[Sequence[str]], TextFeatures]
"""Encodes captions to token features (L, T, W) where the network is."""


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
class FoilFeatures:
    """What the F foils of L captions contribute; gains in half precision, as there may be many.

    Attributes:
        owners: (F,) long, the number of the caption that each is a foil of.
        differences: (F,) long, the number of what it differs in, among `DIFFERENCES`.
        gains, own, sentences: as of captions, (F, N, D), (F,) and (F, K).
    """

    owners: Tensor
    differences: Tensor
    gains: Tensor
    own: Tensor
    sentences: Tensor


@dataclass(frozen=True)
class FoilText:
    """The F foils of captions: token features (U, T, W) of different texts, and `rows` (F,) long, the text of each.

    `owners` and `differences` are as in `FoilFeatures`.
    """

    text: TextFeatures
    owners: Tensor
    differences: Tensor
    rows: Tensor


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
        foils: of the captions' foils; None if the weights use none.
    """

    reads: tuple[PartRead, ...]
    later: CaptionKeys
    gains: Tensor
    own: Tensor
    sentences: Tensor
    least: Tensor
    foils: FoilFeatures | None = None


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
    for view in views_on(network, pixels.device):
        features = network.image_encoder(pixels, view.visible)
        kept = network.text_to_image.keep_image(features, view.visible)
        reads.append(read_pictures(Queries.at(network.text_to_image, view.asked), kept))
        predicted = network.text_to_image(view.asked, _expand_captions(null, len(pixels)), kept)
        null_errors.append(squared(predicted - targets[:, view.asked]))
        sentences.append(network.image_to_text(features, view.visible))
    sentences.append(whole_sentences)
    least = targets.new_zeros(len(targets), 0)
    if network.references is not None:
        others = (
            text_to_image(targets, *_gains(network, network.references.pictures)),
            image_to_text(sentences, network.references.captions),
        )
        least = torch.stack([soft_least(energy, network.config.reference_temperature) for energy in others], dim=1)
    return PictureFeatures(targets, tuple(reads), tuple(null_errors), tuple(sentences), least)


@torch.no_grad()
def caption_features(network: TIJepa, text: TextFeatures, foil_text: FoilText | None = None) -> CaptionFeatures:
    """Compute what captions with token features (L, T, W) contribute to every pair that includes them.

    Weights that use foils need those of the captions, as `encode_foils` makes them; without them the captions are
    treated as having none.
    """
    return _caption_features(network, network.caption_keys(text), network.sentence_space(text), foil_text)


def encode_captions(
    network: TIJepa, captions: Sequence[str], encode: Encode, encode_cut: Encode | None = None
) -> CaptionFeatures:
    """Encode captions, and their foils if the network uses them, and compute what they contribute.

    `encode_cut` encodes foils, which may have more word pieces than their captions; by default it is `encode`.

    Raises:
        ValueError: a caption has more word pieces than the encoder takes.
    """
    text = encode(captions)
    foil_text = encode_foils(captions, encode_cut or encode) if network.config.foils else None
    return caption_features(network, text, foil_text)


def encode_foils(captions: Sequence[str], encode: Encode) -> FoilText | None:
    """Encode the foils of captions, each text once and a few at a time; None if they have none."""
    made = [(number, foil) for number, caption in enumerate(captions) for foil in foils(caption)]
    if not made:
        return None
    texts = sorted({foil.caption for _, foil in made}, key=len)
    text = join_features([encode(texts[block]) for block in blocks(len(texts), CAPTIONS_AT_ONCE)])
    places = {caption: place for place, caption in enumerate(texts)}
    owners = torch.tensor([number for number, _ in made])
    differences = torch.tensor([DIFFERENCES.index(foil.difference) for _, foil in made])
    rows = torch.tensor([places[foil.caption] for _, foil in made])
    return FoilText(text, *(numbers.to(text.tokens.device) for numbers in (owners, differences, rows)))


@torch.no_grad()
def null_caption(network: TIJepa) -> CaptionFeatures:
    """Compute what an empty caption contributes: the null text, and the mean of all sentences (zero)."""
    null = network.null_features(1)
    zeros = network.sentence_space.mean.new_zeros(1, network.config.text_components)
    return _caption_features(network, network.caption_keys(null), zeros)


def alone(network: TIJepa, keys: CaptionKeys | None = None) -> Tensor:
    """Return the features (L, N, D) that captions predict without a picture; None stands for the null text, L = 1."""
    keys = network.caption_keys(network.null_features(1)) if keys is None else keys
    return network.text_to_image(torch.arange(network.config.num_patches, device=keys.mask.device), keys, None)


def _caption_features(
    network: TIJepa, keys: CaptionKeys, sentences: Tensor, foil_text: FoilText | None = None
) -> CaptionFeatures:
    least = sentences.new_zeros(len(sentences), 0)
    if network.references is not None:
        others = _sentence_gain(network.references.sentences, network.references.squares, sentences)  # (R, L)
        least = soft_least(others.T, network.config.reference_temperature)[:, None]
    views = views_on(network, sentences.device)
    reads = tuple(read_captions(Queries.at(network.text_to_image, view.asked), keys) for view in views)
    later = CaptionKeys(keys.layers[1:], keys.mask)
    found = _foil_features(network, foil_text) if network.config.foils else None
    return CaptionFeatures(reads, later, *_gains(network, alone(network, keys)), sentences, least, found)


def _foil_features(network: TIJepa, made: FoilText | None) -> FoilFeatures:
    """What foils contribute, computed a few at a time; None stands for no foils, F = 0."""
    if made is None:
        device, config = network.null_text.device, network.config
        none = torch.empty(0, dtype=torch.long, device=device)
        gains = torch.empty(0, config.num_patches, config.width, dtype=torch.half, device=device)
        own, sentences = (torch.empty(0, *shape, device=device) for shape in ((), (config.text_components,)))
        return FoilFeatures(none, none, gains, own, sentences)
    parts = []
    for block in blocks(len(made.text), CAPTIONS_AT_ONCE):
        mask = made.text.mask[block]
        longest = int(mask.sum(dim=1).max())
        text = TextFeatures(made.text.tokens[block, :longest], mask[:, :longest])
        gains, own = _gains(network, alone(network, network.caption_keys(text)))
        parts.append((gains.half(), own, network.sentence_space(text)))
    found = (torch.cat(part)[made.rows] for part in zip(*parts, strict=True))
    return FoilFeatures(made.owners, made.differences, *found)


def _gains(network: TIJepa, predicted: Tensor) -> tuple[Tensor, Tensor]:
    """What predictions (L, N, D) from captions alone have more than the null text's: features, and mean square (L,)."""
    null = alone(network)
    return predicted - null, squared(predicted) - squared(null)


def text_to_image(targets: Tensor, gains: Tensor, own: Tensor) -> Tensor:
    """Energies (M, L) of targets (M, N, D) given what L captions predict alone, as `_gains` returns it."""
    # |p - t|^2 - |n - t|^2 = |p|^2 - |n|^2 - 2 (p - n) t, without a difference of large numbers
    gains = gains.flatten(1)  # (L, N D)
    return own - 2 * targets.flatten(1) @ gains.T / gains.shape[1]


def image_to_text(predictions: Sequence[Tensor], sentences: Tensor) -> Tensor:
    """Energies (M, L) of sentence features (L, K) given the predictions of pictures, (M, K) for each view."""
    every = torch.stack(list(predictions))  # (views, M, K)
    return _sentence_gain(every.mean(dim=0), every.square().mean(dim=(0, 2)), sentences)  # linear in a prediction


def _sentence_gain(predicted: Tensor, squares: Tensor, sentences: Tensor) -> Tensor:
    # |p - t|^2 - |t|^2, because the mean caption is zero
    return squares[:, None] - 2 * predicted @ sentences.T / predicted.shape[1]


def squared(difference: Tensor) -> Tensor:
    """Mean square over all but the first dimension."""
    return difference.square().flatten(1).mean(dim=1)


def blocks(length: int, size: int) -> Iterator[slice]:
    for start in range(0, length, size):
        yield slice(start, min(start + size, length))


def views_on(network: TIJepa, device: torch.device) -> tuple[View, ...]:
    return tuple(View(view.visible.to(device), view.asked.to(device)) for view in score_views(network.config))


def _expand_captions(keys: CaptionKeys, times: int) -> CaptionKeys:
    """Repeat one caption `times` times without copying it."""
    layers = tuple(KeyValue(*(tensor.expand(times, -1, -1, -1) for tensor in kept)) for kept in keys.layers)
    return CaptionKeys(layers, keys.mask.expand(times, -1))

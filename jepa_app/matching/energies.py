"""Prediction errors of TI-JEPA as energies of pairs of pictures and captions.

An energy has three terms. Each is the mean squared error left by the pair *minus* the error left without the other
side, so a picture or caption that is hard to predict from anything neither gains nor loses by it:
- `text_to_image`: the picture's features predicted from the caption alone, against the null text;
- `text_to_hidden`: hidden patches predicted from the caption and the visible patches, against the null text;
- `image_to_text`: the caption's sentence feature predicted from visible patches, against the mean caption (zero).
Every term is below zero where the other side helps. All pairs use the same fixed masks. The first and last terms are a
matrix product for all pairs; only the second costs a predictor pass per pair. Weights with references have three more
terms: the first and last minus the least error that other captions or pictures would leave (`models/references.py`).
Weights that use foils have six more, two for each difference: the first and last minus the least energy of the
caption's own foils (`foils.py`), zero where it has none.

Letters in shapes: M pictures, L captions, N patches, Q asked patches, D width, K sentence components, T text tokens,
R references, F foils, S picture side.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from jepa_app.compute import on_all_cores
from jepa_app.matching.features import (
    CaptionFeatures,
    FoilFeatures,
    PictureFeatures,
    blocks,
    image_to_text,
    squared,
    text_to_image,
    views_on,
)
from jepa_app.matching.foils import DIFFERENCES
from jepa_app.models.attention import PartRead
from jepa_app.models.blocks import KeyValue
from jepa_app.models.pairs import PictureReads, Queries, predict_pairs
from jepa_app.models.ti_jepa import CaptionKeys, Layers, TIJepa

PAIRS_AT_ONCE = 64  # on a core: what a layer computes for them stays in its cache (measured: 16 and 512 take longer)
PAIRS_AT_ONCE_ON_GPU = 512
FOILS_AT_ONCE = 256


@dataclass(frozen=True)
class Energies:
    """The terms of the energy: three of shape (M, L), below zero where the pair predicts better than one side alone.

    `compared` (M, L, 0 to 9) holds terms that are below zero where the pair is better than others. If the weights have
    references: the first term against other captions, and the last against other captions and against other pictures.
    If they use foils: the first and the last against foils that differ in each of `DIFFERENCES`.
    """

    text_to_image: Tensor
    text_to_hidden: Tensor
    image_to_text: Tensor
    compared: Tensor

    def stacked(self) -> Tensor:
        """Return the terms as (M, L, 3 to 12): base terms, in the order of `energy_weights`, then those of foils."""
        plain = torch.stack([self.text_to_image, self.text_to_hidden, self.image_to_text], dim=-1)
        return torch.cat([plain, self.compared], dim=-1)

    @classmethod
    def unstacked(cls, terms: Tensor) -> "Energies":
        """Return the energies with the given terms (M, L, 3 to 12)."""
        return cls(terms[..., 0], terms[..., 1], terms[..., 2], terms[..., 3:])


@torch.no_grad()
def pair_energies(network: TIJepa, pictures: PictureFeatures, captions: CaptionFeatures) -> Energies:
    """Return the energies (M, L) of all pairs; memory grows with M x L only by twelve numbers per pair."""
    num_pictures, num_captions = len(pictures.targets), len(captions.sentences)
    everything = torch.arange(num_pictures * num_captions, device=pictures.targets.device)
    hidden = hidden_energies(network, pictures, captions, everything // num_captions, everything % num_captions)
    return replace(quick_energies(network, pictures, captions), text_to_hidden=hidden.view(num_pictures, num_captions))


@torch.no_grad()
def quick_energies(network: TIJepa, pictures: PictureFeatures, captions: CaptionFeatures) -> Energies:
    """Return the energies (M, L) of all pairs with zeros for `text_to_hidden`, the only costly term."""
    to_image = text_to_image(pictures.targets, captions.gains, captions.own)
    to_text = image_to_text(pictures.sentences, captions.sentences)
    compared = to_text.new_zeros(*to_text.shape, 0)
    if network.references is not None:
        to_captions = torch.stack([to_image, to_text], dim=-1) - pictures.least[:, None]
        compared = torch.cat([to_captions, to_text[..., None] - captions.least], dim=-1)
    if captions.foils is not None:
        compared = torch.cat([compared, _over_foils(pictures, captions.foils, (to_image, to_text))], dim=-1)
    return Energies(to_image, torch.zeros_like(to_text), to_text, compared)


@torch.no_grad()
def hidden_energies(
    network: TIJepa, pictures: PictureFeatures, captions: CaptionFeatures, rows: Tensor, columns: Tensor
) -> Tensor:
    """Return the term `text_to_hidden` (P,) for pairs of picture `rows` and caption `columns`, both (P,) long."""
    predictor, views = network.text_to_image, views_on(network, rows.device)
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
            errors = squared(predicted - pictures.targets[of_pictures[:, None], view.asked])  # (P',)
            terms.append(errors - pictures.null_errors[number][of_pictures])
        return torch.stack(terms).mean(dim=0)

    at_once = PAIRS_AT_ONCE if rows.device.type == "cpu" else PAIRS_AT_ONCE_ON_GPU
    return torch.cat(on_all_cores(mean_over_views, list(blocks(len(rows), at_once)), rows.device))


def _over_foils(pictures: PictureFeatures, foiled: FoilFeatures, energies: tuple[Tensor, Tensor]) -> Tensor:
    """Energies (M, L), text -> image and image -> text, minus the least of the captions' foils: (M, L, 6).

    Zero where a caption has no foil that differs so.
    """
    parts = [
        text_to_image(pictures.targets, foiled.gains[block].float(), foiled.own[block])
        for block in blocks(len(foiled.own), FOILS_AT_ONCE)
    ]
    to_image = torch.cat(parts, dim=1) if parts else energies[0][:, :0]  # (M, F)
    others = (to_image, image_to_text(pictures.sentences, foiled.sentences))
    found = [
        over_least(energy, other, foiled.owners, foiled.differences)
        for energy, other in zip(energies, others, strict=True)
    ]
    return torch.stack(found, dim=-1).flatten(2)


def over_least(energy: Tensor, other: Tensor, owners: Tensor, differences: Tensor) -> Tensor:
    """Energies (M, L) minus the least energy among the foils of each difference: (M, L, differences).

    Zero where a caption has no such foil. Energies of foils are (M, F), their `owners` and `differences` (F,).
    """
    num_pictures, num_captions = energy.shape
    place = (owners * len(DIFFERENCES) + differences).expand(num_pictures, -1)  # (M, F)
    least = energy.new_full((num_pictures, num_captions * len(DIFFERENCES)), torch.inf)
    least = least.scatter_reduce(1, place, other, "amin").view(num_pictures, num_captions, -1)
    return torch.where(least.isinf(), 0, energy[:, :, None] - least)


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

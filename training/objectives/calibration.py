"""From energies to a probability: the references that pairs are compared with, and logistic regressions on the terms.

Weights, scale and offset are fitted to tell right captions from a mix of wrong ones: half of them random, half of other
things of the same group. Curves of their own are fitted to tell them from foils: other colours, sides and numbers.

Letters in shapes: P matched pairs, M mismatched pairs, G pictures of a group, R references, E terms of an energy.
"""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor

from jepa_app.config import TIJepaConfig
from jepa_app.matching.combining import combined
from jepa_app.matching.energies import pair_energies
from jepa_app.matching.features import (
    CAPTIONS_AT_ONCE,
    PICTURES_AT_ONCE,
    alone,
    blocks,
    caption_features,
    encode_captions,
    picture_features,
)
from jepa_app.matching.foils import DIFFERENCES, Difference
from jepa_app.models.text import TextFeatures
from jepa_app.models.ti_jepa import TIJepa
from training.data.batches import Batch, CaptionedPictures
from training.data.hard_cases import Case, hard_cases
from training.data.selection import balanced_order, choose_pictures, fitting_and_measuring, kind_of
from training.objectives.logistic import fit_logistic
from training.objectives.text_cache import TextCache

GROUP = 16  # pictures compared with one another's captions: the number of pairs per picture grows with it
NUM_QUANTILES = 101  # of the energies of right and of wrong pairs: one per percent
HARD_KINDS: Mapping[Difference, tuple[str, ...]] = {
    "colour": ("attribute", "recoloured"),
    "side": ("sides",),
    "number": ("count",),
}
HARD_CASES = 100  # of each kind
FEWEST_HARD = 10  # to fit a curve
SURELY = 30.0  # an offset at which the probability is practically 1
FOIL_RIDGE = 1e-5  # terms against foils nearly do

ConfigT = TypeVar("ConfigT", bound=TIJepaConfig)
Terms = Callable[[Tensor, Sequence[str]], Tensor]
"""Computes the terms (M, L, E) of the energies of pictures (M, 3, S, S) and L captions."""


@dataclass(frozen=True, kw_only=True)
class Anchors:
    """The pictures that weights use as references and are calibrated on before they are written.

    `heldout` are pictures never trained on, in random order, `files` their names, and `kinds` what near misses among
    them have in common; `hard` are cases of other colours, sides and numbers; `references` is None if pairs are not
    compared with anything.
    """

    heldout: Batch
    files: tuple[str, ...]
    kinds: tuple[str, ...]
    hard: Mapping[Difference, tuple[Case, ...]] = field(default_factory=dict)
    references: Batch | None = None

    @classmethod
    def of(cls, data: CaptionedPictures, pictures: int, references: int, seed: int) -> "Anchors":
        """Take up to this many held-out pairs, of the half that is not measured, and this many training pictures."""
        fitting, _ = fitting_and_measuring(data.rows, data.split.heldout_pairs)
        heldout = balanced_order(data.rows, fitting, seed)[:pictures]
        chosen = choose_pictures(data.rows, data.split.train, references, seed)
        cases = hard_cases(data, fitting, HARD_CASES, seed)
        return cls(
            heldout=data.fixed(heldout),
            kinds=tuple(kind_of(data.rows[index]) for index in heldout.tolist()),
            files=tuple(data.rows[index].file for index in heldout.tolist()),
            hard={each: tuple(case for kind in kinds for case in cases[kind]) for each, kinds in HARD_KINDS.items()},
            references=data.fixed(chosen) if references and len(chosen) else None,
        )

    def by_kind(self) -> Tensor:
        """Return an order (B,) of the held-out pictures in which those of the same kind are neighbours."""
        return torch.tensor(sorted(range(len(self.kinds)), key=lambda place: self.kinds[place]))

    def matching(self, order: Tensor) -> Tensor:
        """Return which pairs of `grouped_terms` in this order match: (groups, G, G) bool, the diagonal among them.

        A caption may stand for several pictures, and a picture may have several captions.
        """
        found = []
        for group in _groups(order):
            captions, files = ([names[row] for row in group.tolist()] for names in (self.heldout.captions, self.files))
            found.append(_equal(captions) | _equal(files))
        return torch.stack(found)


@torch.no_grad()
def finish(network: TIJepa, text: TextCache, anchors: Anchors) -> TIJepa:
    """Return a calibrated copy of a trained network, rounded to half precision, with its references."""
    device = network.null_text.device
    network = copy.deepcopy(network).half().float().eval().requires_grad_(False)
    if (chosen := anchors.references) is not None:
        words = text.features(chosen.captions).to(device, torch.float32)
        network = choose_references(network, chosen.pixels.to(device), words).half().float()
    network.config = fitted(network.config, terms_of(network, text), anchors)
    return network


def terms_of(network: TIJepa, text: TextCache) -> Terms:
    """Return what computes the terms of pairs with a network, and captions' features from a cache."""
    device = network.null_text.device

    def terms(pixels: Tensor, captions: Sequence[str]) -> Tensor:
        words = encode_captions(network, captions, lambda texts: text.features(texts).to(device, torch.float32))
        return pair_energies(network, picture_features(network, pixels.to(device)), words).stacked()

    return terms


@torch.no_grad()
def fitted(config: ConfigT, terms: Terms, anchors: Anchors) -> ConfigT:
    """Return the config with weights, scale and offset fitted on the anchors; unchanged if they hold no wrong pair."""
    pixels, captions = anchors.heldout.pixels, anchors.heldout.captions
    as_drawn, order = torch.arange(len(captions)), anchors.by_kind()
    if len(captions) < 2 or bool((right_pairs := anchors.matching(as_drawn)).all()):
        return config
    energies = grouped_terms(terms, pixels, captions, as_drawn)
    grouped = grouped_terms(terms, pixels, captions, order)
    near = near_misses(grouped, [anchors.kinds[place] for place in order], anchors.matching(order))
    hard = {
        difference: [terms(batch.pixels, [*batch.captions, *wrong])[0].cpu() for batch, wrong in cases]
        for difference, cases in anchors.hard.items()
    }
    right = [pairs[:1] for found in hard.values() for pairs in found]
    config = calibrate(config, energies, near, torch.cat([near[:0], *right]), right_pairs)
    if config.foils:
        config = with_foil_curves(config, hard)
    return with_quantiles(config, energies, right_pairs)


@torch.no_grad()
def choose_references(network: TIJepa, pixels: Tensor, text: TextFeatures) -> TIJepa:
    """Return a copy of the network that compares every pair with these pictures (R, 3, S, S) and their R captions."""
    config = replace(network.config, num_references=len(pixels), energy_weights=(1.0, 1.0, 1.0))
    chosen = TIJepa(config).to(pixels.device)
    chosen.load_state_dict(network.state_dict(), strict=False)  # all but the references, which are filled in here
    captions = [caption_features(network, text.rows(block)) for block in blocks(len(text), CAPTIONS_AT_ONCE)]
    pictures = [picture_features(network, pixels[block]) for block in blocks(len(pixels), PICTURES_AT_ONCE)]
    sentences = torch.cat([torch.stack(each.sentences, dim=1) for each in pictures])  # (R, views, K)
    references = chosen.references
    assert references is not None
    references.pictures.copy_(torch.cat([each.gains for each in captions]) + alone(network))
    references.captions.copy_(torch.cat([each.sentences for each in captions]))
    references.sentences.copy_(sentences.mean(dim=1))
    references.squares.copy_(sentences.square().mean(dim=(1, 2)))
    return chosen.eval().requires_grad_(False)


def without_references(network: TIJepa) -> TIJepa:
    """Return a copy of the network without references and foils; the terms of its energy need new weights."""
    plain = replace(
        network.config, num_references=0, foils=False, energy_weights=(1.0, 1.0, 1.0), foil_weights=(), foil_offsets=()
    )
    bare = TIJepa(plain)
    bare.load_state_dict({name: value for name, value in network.state_dict().items() if "references." not in name})
    return bare.eval().requires_grad_(False)


@torch.no_grad()
def grouped_terms(terms: Terms, pixels: Tensor, captions: Sequence[str], order: Tensor) -> Tensor:
    """Return the terms of pictures with the captions of their group: (groups, G, G, E), right pairs on the diagonal.

    Args:
        terms: computes the terms of pairs.
        pixels: (B, 3, S, S).
        captions: B captions.
        order: (B,) long, a random order; groups of up to 16 are cut from it; a smaller last one is left out.
    """
    return torch.stack([terms(pixels[group], [captions[row] for row in group.tolist()]) for group in _groups(order)])


def _groups(order: Tensor) -> tuple[Tensor, ...]:
    size = min(GROUP, len(order))
    return order[: len(order) // size * size].split(size)


def _equal(names: Sequence[str]) -> Tensor:
    numbers = torch.tensor([names.index(name) for name in names])
    return numbers[:, None] == numbers


def calibrate(
    config: ConfigT,
    energies: Tensor,
    near: Tensor | None = None,
    right_too: Tensor | None = None,
    matching: Tensor | None = None,
) -> ConfigT:
    """Return the config with weights, scale and offset fitted to the base terms of energies, and without foils' curves.

    Args:
        config: settings of the network that gave the energies.
        energies: (groups, G, G, E) of pictures with the captions of random groups, right pairs on the diagonal.
        near: (P, E) of wrong pairs of one group; together they count as much as the random wrong pairs.
        right_too: (M, E) of more right pairs.
        matching: (groups, G, G), which pairs match; by default the diagonal alone.
    """
    base = energies.cpu()[..., : config.num_terms]
    right = _diagonal(energies)
    matched, mismatched = base[right], base[~(right if matching is None else matching)]
    wrong = mismatched
    if near is not None and len(near):
        times = max(1, round(len(mismatched) / len(near)))
        wrong = torch.cat([mismatched, near.cpu()[:, : config.num_terms].repeat(times, 1)])
    if right_too is not None:
        matched = torch.cat([matched, right_too.cpu()[:, : config.num_terms]])
    weights, _ = fit_logistic(matched, wrong)
    scale = sum(weights)
    shares = torch.tensor([weight / scale for weight in weights])
    (scale,), offset = fit_logistic((matched @ shares)[:, None], (wrong @ shares)[:, None])
    return replace(
        config,
        energy_weights=tuple(shares.tolist()),
        calibration_scale=scale,
        calibration_offset=offset,
        foil_weights=(),
        foil_offsets=(),
    )


def with_foil_curves(config: ConfigT, hard: Mapping[Difference, Sequence[Tensor]]) -> ConfigT:
    """Return the config with the curves that say how probably a caption beats its foils.

    Args:
        config: settings of the network that gave the terms.
        hard: for each difference the terms (1 + W, E) of pictures with the right caption, and with W captions that
            differ from it so. With fewer than `FEWEST_HARD` of them a curve stays flat: these foils change nothing.
    """
    weights, offsets = list[float](), list[float]()
    for number, difference in enumerate(DIFFERENCES):
        start = config.num_terms + number * config.terms_against_foils
        against = [pairs[:, start : start + config.terms_against_foils] for pairs in hard.get(difference, ())]
        found, offset = [0.0] * config.terms_against_foils, SURELY
        if len(against) >= FEWEST_HARD:
            right, wrong = torch.cat([pairs[:1] for pairs in against]), torch.cat([pairs[1:] for pairs in against])
            found, offset = fit_logistic(right, wrong, FOIL_RIDGE)
        weights += found
        offsets.append(offset)
    return replace(config, foil_weights=tuple(weights), foil_offsets=tuple(offsets))


def _diagonal(energies: Tensor) -> Tensor:
    return torch.eye(energies.shape[1], dtype=torch.bool).expand(len(energies), -1, -1)


def with_quantiles(config: ConfigT, energies: Tensor, matching: Tensor | None = None) -> ConfigT:
    """Return the config with the quantiles that percentiles are read from; energies and matching as for `calibrate`."""
    right = _diagonal(energies)
    wrong = ~(right if matching is None else matching)
    energy = combined(config, energies)
    levels = torch.linspace(0, 1, NUM_QUANTILES)
    matched, mismatched = (torch.quantile(part, levels).tolist() for part in (energy[right], energy[wrong]))
    return replace(config, matched_quantiles=tuple(matched), mismatched_quantiles=tuple(mismatched))


@torch.no_grad()
def measure_quantiles(network: TIJepa, text: TextCache, anchors: Anchors) -> TIJepaConfig:
    """Return the config of calibrated weights with the quantiles of the held-out pairs, and nothing else changed.

    Raises:
        ValueError: there are fewer than two held-out pictures with captions of their own.
    """
    captions = anchors.heldout.captions
    as_drawn = torch.arange(len(captions))
    if len(captions) < 2 or bool((right_pairs := anchors.matching(as_drawn)).all()):
        raise ValueError(f"{len(captions)} held-out pictures make no wrong pair; allowed: 2 or more with own captions")
    energies = grouped_terms(terms_of(network, text), anchors.heldout.pixels, captions, as_drawn)
    return with_quantiles(network.config, energies, right_pairs)


def near_misses(energies: Tensor, kinds: Sequence[str], matching: Tensor | None = None) -> Tensor:
    """Return the terms (P, E) of wrong pairs of one kind, from groups (groups, G, G, E) of rows of these kinds.

    `matching` (groups, G, G) says which pairs match; by default the diagonal alone.
    """
    numbers = {kind: number for number, kind in enumerate(dict.fromkeys(kinds))}
    size = energies.shape[1]
    labels = torch.tensor([numbers[kind] for kind in kinds])[: len(energies) * size].unflatten(0, (-1, size))
    same = labels[:, :, None] == labels[:, None]
    return energies.cpu()[same & ~(_diagonal(energies) if matching is None else matching)]

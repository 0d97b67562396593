"""From the terms of a pair to its energy and its probability.

The weighted mean of the base terms says how well a caption fits at all; a logistic curve turns it into a probability.
A caption that has foils is right only if it also beats these: for each difference, a logistic curve of its own says how
likely it is to do so, and the probabilities are multiplied. The energy is then whatever gives this product by the first
curve, so a caption without foils keeps its weighted mean, and the energy always falls as the probability rises.

Letters in shapes: ... any number of pairs, E base terms, K terms against the foils of one difference.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from jepa_app.config import TIJepaConfig
from jepa_app.matching.foils import DIFFERENCES


class Parts(NamedTuple):
    """The weighted mean of the base terms (...), and minus the log probabilities (..., 3) that foils are beaten."""

    base: Tensor
    penalties: Tensor


def parts_of(config: TIJepaConfig, terms: Tensor) -> Parts:
    """Return the parts of the energy of pairs with terms (..., E and, with foils, 3 K), on the CPU."""
    terms = terms.cpu()
    weights = torch.tensor(config.energy_weights)
    weights = weights[: config.num_terms]  # more than the terms, or fewer, if the weights were never calibrated
    base = terms[..., : len(weights)] @ (weights / weights.sum())
    if not config.foil_weights:
        return Parts(base, base.new_zeros(*base.shape, len(DIFFERENCES)))
    against = terms[..., config.num_terms :].unflatten(-1, (len(DIFFERENCES), -1))  # (..., 3, K)
    foil_weights = torch.tensor(config.foil_weights).view(len(DIFFERENCES), -1)
    logits = torch.tensor(config.foil_offsets) - (against * foil_weights).sum(dim=-1)  # (..., 3)
    has_foils = (against != 0).any(dim=-1)  # a foil that reads exactly like its caption counts as none
    return Parts(base, -torch.where(has_foils, logsigmoid(logits), 0))


def joined(config: TIJepaConfig, parts: Parts) -> Tensor:
    """Return the energy (...) with the given parts."""
    penalty, log_odds = parts.penalties.sum(dim=-1), config.calibration_offset - config.calibration_scale * parts.base
    # log odds of sigmoid(L) exp(-p) are -p - log(exp(-L) + 1 - exp(-p))
    missed = torch.logaddexp(-log_odds, torch.log(-torch.expm1(-penalty)))
    energy = (config.calibration_offset + penalty + missed) / config.calibration_scale
    return torch.where(penalty == 0, parts.base, energy)


def combined(config: TIJepaConfig, terms: Tensor) -> Tensor:
    """Return the energy (...) of pairs with terms (..., E and, with foils, 3 K), on the CPU."""
    return joined(config, parts_of(config, terms))


def match_probability(config: TIJepaConfig, energy: Tensor) -> Tensor:
    """Return the calibrated probabilities (...) in [0, 1] that pairs of these energies (...) belong together."""
    return torch.sigmoid(config.calibration_offset - config.calibration_scale * energy)

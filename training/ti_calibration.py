"""From energies to a probability: logistic regression of "these belong together" on the energy's terms.

Letters in shapes: P matched pairs, M mismatched pairs, G pictures of a group.
"""

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

from jepa_app.config import TIJepaConfig
from jepa_app.models.text import TextFeatures
from jepa_app.models.ti_jepa import TIJepa
from jepa_app.scoring import caption_features, pair_energies, picture_features

GROUP = 16  # pictures compared with one another's captions: the number of pairs grows with it
RIDGE = 1e-3  # on the coefficients of standardised terms, for terms that separate perfectly


@torch.no_grad()
def grouped_energies(network: TIJepa, pixels: Tensor, text: TextFeatures, order: Tensor) -> Tensor:
    """Return the energies of pictures with the captions of their group: (groups, G, G, 3), right pairs on the diagonal.

    Args:
        pixels: (B, 3, S, S) on the network's device.
        text: features of their captions, on the same device.
        order: (B,) long, a random order; groups of up to 16 are cut from it, a smaller last one is left out.
    """
    size = min(GROUP, len(order))
    groups = []
    for rows in order[: len(order) // size * size].split(size):
        captions = caption_features(network, TextFeatures(text.tokens[rows], text.mask[rows]))
        groups.append(pair_energies(network, picture_features(network, pixels[rows]), captions).stacked())
    return torch.stack(groups)


def calibrate(config: TIJepaConfig, energies: Tensor) -> TIJepaConfig:
    """Return the config with weights, scale and offset fitted to the energies of groups (groups, G, G, 3).

    Matched and mismatched pairs count half each, so the probability answers "this caption or a random one?".
    """
    right = torch.eye(energies.shape[1], dtype=torch.bool).expand(len(energies), -1, -1)
    weights, offset = fit_logistic(energies.cpu()[right], energies.cpu()[~right])
    scale = sum(weights)
    return replace(
        config,
        energy_weights=tuple(weight / scale for weight in weights),
        calibration_scale=scale,
        calibration_offset=offset,
    )


def fit_logistic(matched: Tensor, mismatched: Tensor) -> tuple[list[float], float]:
    """Fit P(match) = sigmoid(offset - weights . terms) with weights >= 0, both classes weighted equally.

    Args:
        matched: (P, 3) energy terms.
        mismatched: (M, 3).

    Returns:
        The weights of the terms and the offset.
    """
    terms = torch.cat([matched, mismatched]).double()
    truth = torch.cat([torch.ones(len(matched)), torch.zeros(len(mismatched))]).double()
    share = torch.where(truth == 1, 0.5 / len(matched), 0.5 / len(mismatched)).double()
    mean, deviation = terms.mean(dim=0), terms.std(dim=0).clamp(min=1e-9)
    standard = (terms - mean) / deviation
    raw = torch.zeros(terms.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([raw, bias], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> float:
        optimizer.zero_grad()
        coefficients = softplus(raw)
        logits = bias - standard @ coefficients
        loss = binary_cross_entropy_with_logits(logits, truth, weight=share, reduction="sum")
        loss = loss + RIDGE * coefficients.square().sum()
        loss.backward()
        return float(loss.detach())

    optimizer.step(closure)
    weights = softplus(raw.detach()) / deviation
    return weights.tolist(), float(bias.detach() + weights @ mean)

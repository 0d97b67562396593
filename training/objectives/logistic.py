"""Logistic regression with weights that are never negative, for energies that only ever count against a match."""

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, softplus

RIDGE = 1e-4  # on the coefficients of standardised terms, for terms that separate perfectly


def fit_logistic(matched: Tensor, mismatched: Tensor, ridge: float = RIDGE) -> tuple[list[float], float]:
    """Fit P(match) = sigmoid(offset - weights . terms) with weights >= 0, both classes weighted equally.

    Args:
        matched: (P, E) energy terms.
        mismatched: (M, E).
        ridge: weight of the squared coefficients of the standardised terms.

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
        loss = loss + ridge * coefficients.square().sum()
        loss.backward()
        return float(loss.detach())

    optimizer.step(closure)
    weights = softplus(raw.detach()) / deviation
    return weights.tolist(), float(bias.detach() + weights @ mean)

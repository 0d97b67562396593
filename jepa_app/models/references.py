"""What reference pictures and captions predict: the alternatives that a pair's energy is compared with.

An energy says how well two sides predict one another, but some pictures and captions have low energies with everything
similar. The difference from the lowest energy that the same picture or caption has among many others says how much
better this pair is than the alternatives. The references are fixed, so a pair never depends on its neighbours.

Letters in shapes: R references, N patches, D width, K components of a sentence.
"""

import math

import torch
from torch import Tensor, nn


class References(nn.Module):
    """Fixed references, kept with the weights.

    Attributes:
        pictures: (R, N, D) features that each reference caption alone predicts.
        captions: (R, K) sentence features of the reference captions.
        sentences: (R, K) sentence features predicted from the reference pictures, averaged over their views.
        squares: (R,) mean square of these predictions, averaged over the views.
    """

    pictures: Tensor
    captions: Tensor
    sentences: Tensor
    squares: Tensor

    def __init__(self, count: int, num_patches: int, width: int, components: int) -> None:
        super().__init__()
        self.register_buffer("pictures", torch.zeros(count, num_patches, width))
        self.register_buffer("captions", torch.zeros(count, components))
        self.register_buffer("sentences", torch.zeros(count, components))
        self.register_buffer("squares", torch.zeros(count))


def soft_least(energies: Tensor, temperature: float) -> Tensor:
    """Return the soft minimum (...) of energies (..., R): -temperature * log mean exp(-energy / temperature)."""
    count = energies.shape[-1]
    return -temperature * (torch.logsumexp(-energies / temperature, dim=-1) - math.log(count))

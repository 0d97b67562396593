"""Transformer blocks whose keys and values can be kept, with rotary positions on a grid.

Letters in shapes: B batch, L tokens, P kept tokens, Q queries, K keys, D width, H heads, E = D / H.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize

from jepa_app.models.attention import Visibility, attend
from jepa_app.plan import centres


class KeyValue(NamedTuple):
    """Keys and values of one layer, (B, L, H, E) each, keys already rotated by their position."""

    key: Tensor
    value: Tensor

    def append(self, later: "KeyValue") -> "KeyValue":
        """Return these keys and values followed by later ones."""
        return KeyValue(torch.cat([self.key, later.key], dim=1), torch.cat([self.value, later.value], dim=1))


class KeptKeys(Protocol):
    """Keys and values of one layer, to which more can be added: by concatenation, or in place in a slot."""

    @property
    def key(self) -> Tensor:
        """Keys (B, K, H, E)."""

    @property
    def value(self) -> Tensor:
        """Values (B, K, H, E)."""

    def append(self, later: KeyValue) -> "KeptKeys":
        """Return these keys and values with later ones added."""


class Rotary(NamedTuple):
    """Factors that turn each token's features, (B, L, 1, E) each: cosines, and sines with the sign for their half."""

    cos: Tensor
    sin: Tensor


class GridPositions(nn.Module):
    """Axial rotary positions of a square grid: half of the angles follow the row, half follow the column.

    Tokens of a plan, which come after the grid's, are placed at the centres of what they cover. Position -1 is for
    tokens without a place (buffer, text): they are not rotated.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, grid: int, head_width: int, plan: Sequence[int] = ()) -> None:
        super().__init__()
        quarter = head_width // 4
        frequency = torch.pi / 2 * torch.logspace(0, -1, quarter)  # wavelengths of 4 to 40 tokens
        angle = (centres(grid, plan)[:, :, None] * frequency).flatten(1)  # rows, then columns  (T, E / 2)
        angle = torch.cat([angle, torch.zeros(1, 2 * quarter)])  # index -1: no place  (T + 1, E / 2)
        self.register_buffer("cos", angle.cos().repeat(1, 2), persistent=False)  # (T + 1, E)
        self.register_buffer("sin", torch.cat([-angle.sin(), angle.sin()], dim=1), persistent=False)

    def forward(self, positions: Tensor) -> Rotary:
        """Return the rotary factors of positions (B, L) long."""
        return Rotary(self.cos[positions][:, :, None], self.sin[positions][:, :, None])


def turn(x: Tensor, rotary: Rotary) -> Tensor:
    """Rotate each pair of features of x (B, L, H, E) by its position's angles (RoFormer, arXiv 2104.09864)."""
    halves_swapped = x.roll(x.shape[-1] // 2, dims=-1)
    return torch.addcmul(x * rotary.cos.to(x.dtype), halves_swapped, rotary.sin.to(x.dtype))


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    """Scale x (..., E) to a mean square of 1, then by weight (..., E): as torch does, but faster on a CPU.

    The result has the type of x, under autocast too: attention kernels need queries and keys in the type of the values.
    """
    return (normalize(x, dim=-1, eps=1e-6) * (weight * x.shape[-1] ** 0.5)).to(x.dtype)


class Attention(nn.Module):
    """Multi-head attention with normalised queries and keys, in parts: project, then attend to any keys."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_width = width // num_heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.query_norm = nn.RMSNorm(self.head_width, eps=1e-6)
        self.key_norm = nn.RMSNorm(self.head_width, eps=1e-6)
        self.out = nn.Linear(width, width)

    def project(self, x: Tensor, rotary: Rotary) -> tuple[Tensor, KeyValue]:
        """Return queries (B, L, H, E) and the keys and values of tokens x (B, L, D)."""
        heads = self.query_key_value(x).unflatten(-1, (3, self.num_heads, self.head_width))  # (B, L, 3, H, E)
        weights = torch.stack([self.query_norm.weight, self.key_norm.weight])[:, None]  # (2, 1, E)
        both = Rotary(rotary.cos[:, :, None], rotary.sin[:, :, None])
        query, key = turn(rms_norm(heads[:, :, :2], weights), both).unbind(dim=2)  # (B, L, H, E)
        return query, KeyValue(key, heads[:, :, 2])

    def forward(self, query: Tensor, keys: KeptKeys, mask: Visibility) -> Tensor:
        """Attend with queries (B, Q, H, E) to keys (B, K, H, E) under mask (B, Q, K) or a packing: (B, Q, D)."""
        return self.out(attend(query, keys.key, keys.value, mask).flatten(2))


class FeedForward(nn.Module):
    """Two linear layers with GELU, four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, L, D) to (B, L, D)."""
        return self.narrow(gelu(self.widen(x), approximate="tanh"))


class Block(nn.Module):
    """Pre-norm transformer block that attends to kept keys and to its own tokens."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, num_heads)
        self.feed_forward_norm = nn.LayerNorm(width, eps=1e-6)
        self.feed_forward = FeedForward(width)

    def forward(
        self, x: Tensor, rotary: Rotary, kept: KeptKeys | None = None, mask: Visibility = None
    ) -> tuple[Tensor, KeptKeys]:
        """Process tokens x (B, L, D).

        Args:
            rotary: factors of the tokens' positions.
            kept: keys and values (B, P, H, E) of earlier tokens.
            mask: (B, L, P + L) bool over the kept keys followed by the block's own, or a packing.

        Returns:
            The tokens (B, L, D), and the kept keys and values followed by its own.
        """
        query, own = self.attention.project(self.attention_norm(x), rotary)
        keys: KeptKeys = own if kept is None else kept.append(own)
        return self.finish(x, self.attention(query, keys, mask)), keys

    def finish(self, x: Tensor, read: Tensor) -> Tensor:
        """Return tokens x (B, L, D) after they have read (B, L, D) from the keys."""
        x = x + read
        return x + self.feed_forward(self.feed_forward_norm(x))


class QueryBlock(Block):
    """Block for position queries, which attend to context features and to one another (ARPG, arXiv 2503.10568)."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__(width, num_heads)
        self.context_key_value = nn.Linear(width, 2 * width)
        self.context_key_norm = nn.RMSNorm(width // num_heads, eps=1e-6)

    def keep(self, features: Tensor, rotary: Rotary) -> KeyValue:
        """Return the keys and values of context features (B, L, D), for queries to attend to."""
        heads = self.context_key_value(features).unflatten(-1, (2, self.attention.num_heads, -1))
        key, value = heads.unbind(dim=2)
        return KeyValue(turn(rms_norm(key, self.context_key_norm.weight), rotary), value)


class CrossAttention(nn.Module):
    """Attention from image tokens to prompt tokens of another width, with a residual connection."""

    def __init__(self, width: int, prompt_width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.query = nn.Linear(width, width)
        self.query_norm = nn.RMSNorm(width // num_heads, eps=1e-6)
        self.key_value = nn.Linear(prompt_width, 2 * width)
        self.key_norm = nn.RMSNorm(width // num_heads, eps=1e-6)
        self.out = nn.Linear(width, width)

    def keep(self, prompt: Tensor) -> KeyValue:
        """Return keys and values (B, T, H, E) of prompt tokens (B, T, prompt width), once per prompt."""
        key, value = self.key_value(prompt).unflatten(-1, (2, self.num_heads, -1)).unbind(dim=2)
        return KeyValue(rms_norm(key, self.key_norm.weight), value)

    def forward(self, x: Tensor, prompt: KeptKeys, mask: Visibility) -> Tensor:
        """Add to x (B, L, D) what it reads from the prompt; mask (B, 1, T) is True on real prompt tokens."""
        return x + self.out(attend(self._queries(x), prompt.key, prompt.value, mask).flatten(2))

    def shares(self, x: Tensor, prompt: KeptKeys, mask: Tensor) -> Tensor:
        """Return the weights (B, H, L, T) with which `forward` mixes the prompt's values; each query's sum to 1."""
        scores = torch.einsum("blhe,bthe->bhlt", self._queries(x), prompt.key) / (x.shape[-1] // self.num_heads) ** 0.5
        return scores.masked_fill(~mask[:, None], float("-inf")).softmax(dim=-1)

    def _queries(self, x: Tensor) -> Tensor:
        return rms_norm(self.query(self.norm(x)).unflatten(-1, (self.num_heads, -1)), self.query_norm.weight)


def initialise(module: nn.Module) -> None:
    """Initialise the layers below a module.

    | layer | weight | bias |
    | Linear | normal, std 0.02 | 0 |
    | LayerNorm, RMSNorm | 1 | 0 |
    | out, narrow (end of a residual branch) | 0 | 0 |
    """
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Linear):
            if name.rsplit(".", 1)[-1] in ("out", "narrow"):
                nn.init.zeros_(layer.weight)
            else:
                nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)

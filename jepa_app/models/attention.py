"""The one door to attention kernels: xformers on CUDA in half precision, PyTorch's own elsewhere.

Letters in shapes: B batch, Q queries, K keys, H heads, E width of a head; packed: P queries end to end, R rows.
"""

import functools
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad, scaled_dot_product_attention

Backend = Literal["xformers", "sdpa"]
EVEN = 3.0  # padded queries per real one; up to this ratio padding costs a CPU less than separate calls
# With at least this many queries, and a multiple of this many keys, a CPU rounds each row of packed queries the same
# whatever the other rows are: those kernels that it would use for fewer queries or the last few keys round otherwise.
FEWEST_QUERIES, KEYS_AT_ONCE = 4, 16


@functools.cache
def xformers_installed() -> bool:
    """Tell whether the xformers package can be imported (without importing it, which takes seconds)."""
    return importlib.util.find_spec("xformers") is not None


def choose_backend(device: torch.device, dtype: torch.dtype, forced: Backend | None = None) -> Backend:
    """Return the attention backend for tensors of this device and type.

    Raises:
        ValueError: the forced backend cannot run there.
    """
    fits = device.type == "cuda" and dtype in (torch.float16, torch.bfloat16) and xformers_installed()
    if forced == "xformers" and not fits:
        raise ValueError(
            f"attention backend 'xformers' needs CUDA, float16 or bfloat16 and the xformers package; "
            f"got {device.type}, {dtype}; use 'sdpa' here"
        )
    if forced not in (None, "xformers", "sdpa"):
        raise ValueError(f"attention backend is {forced!r}; allowed: xformers, sdpa")
    return forced or ("xformers" if fits else "sdpa")


@dataclass(frozen=True)
class Packing:
    """Queries of several rows laid end to end, each row with its own slot of keys: nothing is padded.

    Attributes:
        query_lengths: queries of each row, 1 or more.
        key_lengths: keys of each row, counted from the start of its slot.
        rows: (P,) long, the row of each query.
        places: (P,) long, the index of each query within its row.
        mask: (R, 1, K), 0 on a row's keys and -inf elsewhere; K is the longest of `key_lengths`, rounded up with
            `rounded_up`; a slot without that much room is used as far as it goes.
    """

    query_lengths: tuple[int, ...]
    key_lengths: tuple[int, ...]
    rows: Tensor
    places: Tensor
    mask: Tensor

    @property
    def is_even(self) -> bool:
        """Whether one call for all rows, padded to the longest, is faster despite its padding (measured on a CPU)."""
        return max(self.query_lengths) * len(self.query_lengths) <= EVEN * sum(self.query_lengths)

    @classmethod
    def of(cls, query_lengths: Sequence[int], key_lengths: Sequence[int], like: Tensor) -> "Packing":
        """Lay out rows with these numbers of queries and keys, for tensors of the device and type of `like`."""
        rows = [row for row, length in enumerate(query_lengths) for _ in range(length)]
        places = [place for length in query_lengths for place in range(length)]
        both = torch.tensor([rows, places], device=like.device)
        keys = torch.tensor(key_lengths, device=like.device)[:, None]
        hidden = torch.arange(rounded_up(max(key_lengths)), device=like.device) >= keys
        mask = like.new_zeros(hidden.shape).masked_fill_(hidden, float("-inf"))
        return cls(tuple(query_lengths), tuple(key_lengths), both[0], both[1], mask[:, None])


def rounded_up(num_keys: int) -> int:
    """Return the number of keys that attention is computed over where there are so many."""
    return -(-num_keys // KEYS_AT_ONCE) * KEYS_AT_ONCE


Visibility = Tensor | Packing | None  # which keys a query may look at; None: all


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Visibility = None, *, backend: Backend | None = None
) -> Tensor:
    """Scaled dot-product attention.

    Args:
        query: (B, Q, H, E); with a packing (1, P, H, E).
        key, value: (B, K, H, E); with a packing (R, slot, H, E), of which each row uses its first `key_lengths`.
        mask: (B, Q or 1, K) bool, True where a query may look; a packing, where queries look at all keys of their row;
            None means everywhere. Every query needs at least one visible key.
        backend: forces a kernel; None chooses by device and type.

    Returns:
        The same shape as `query`.
    """
    chosen = choose_backend(query.device, query.dtype, backend)
    if isinstance(mask, Packing):
        if chosen == "xformers":
            return _packed_xformers(query, key, value, mask)
        return (padded_sdpa if mask.is_even or query.is_cuda else row_by_row_sdpa)(query, key, value, mask)
    return (_attend_xformers if chosen == "xformers" else _attend_sdpa)(query, key, value, mask)


class PartRead(NamedTuple):
    """What queries read from a part of their keys: values (B, Q, H, E), and log sums of exp(scores) (B, Q, H)."""

    values: Tensor
    log_weight: Tensor

    def joined(self, other: "PartRead") -> "PartRead":
        """Return what the same queries read from the keys of both parts together; exact, as in FlashAttention."""
        share = torch.sigmoid(self.log_weight - other.log_weight)[..., None]
        values = torch.lerp(other.values, self.values, share)
        return PartRead(values, torch.logaddexp(self.log_weight, other.log_weight))


def attend_part(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> PartRead:
    """Attend to a part of the keys, to be joined with other parts; shapes as in `attend`, mask (B, 1, K) or None.

    It uses plain products, because the kernels do not return the weight of a part.
    """
    query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))  # (B, H, L, E)
    scores = (query * query.shape[-1] ** -0.5) @ key.mT  # (B, H, Q, K)
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None], float("-inf"))
    log_weight = scores.logsumexp(dim=-1)  # (B, H, Q)
    values = (scores - log_weight[..., None]).exp() @ value  # (B, H, Q, E)
    return PartRead(values.transpose(1, 2).contiguous(), log_weight.transpose(1, 2).contiguous())


def _attend_sdpa(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))  # (B, H, L, E)
    if query.dtype == torch.bfloat16 and query.device.type == "cpu" and torch.is_grad_enabled():
        return _products(query, key, value, mask).transpose(1, 2)
    out = scaled_dot_product_attention(query, key, value, attn_mask=None if mask is None else mask[:, None])
    return out.transpose(1, 2)  # (B, Q, H, E)


def _products(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Attend (B, H, Q, E) by plain products: trained in bfloat16 on a CPU, three times as fast as torch's kernel."""
    scores = (query * query.shape[-1] ** -0.5) @ key.mT  # (B, H, Q, K)
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None], float("-inf"))
    return scores.softmax(dim=-1) @ value


def row_by_row_sdpa(query: Tensor, key: Tensor, value: Tensor, packing: Packing) -> Tensor:
    """Attend with packed queries by one call per row: hardly anything is padded, but rows do not share a call."""
    parts = zip(query[0].split(packing.query_lengths), key, value, packing.mask, packing.key_lengths, strict=False)
    return torch.cat([_one_row(q, k, v, mask, rounded_up(n)) for q, k, v, mask, n in parts])[None]


def _one_row(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, used: int) -> Tensor:
    missing = max(0, FEWEST_QUERIES - len(query))
    padded = pad(query, (0, 0, 0, 0, 0, missing)) if missing else query
    used = min(used, len(key))
    return _attend_sdpa(padded[None], key[None, :used], value[None, :used], mask[None, :, :used])[0, : len(query)]


def padded_sdpa(query: Tensor, key: Tensor, value: Tensor, packing: Packing) -> Tensor:
    """Attend with packed queries by one call, those of each row padded to the longest."""
    rows, longest = len(packing.query_lengths), max(FEWEST_QUERIES, *packing.query_lengths)
    mask = packing.mask[:, :, : key.shape[1]]
    key, value = key[:rows, : mask.shape[2]], value[:rows, : mask.shape[2]]
    if rows * longest == query.shape[1]:  # all rows have the same number of queries: end to end, they need no padding
        padded = query.view(rows, longest, *query.shape[2:])
        return _attend_sdpa(padded, key, value, mask).reshape_as(query)
    where = packing.rows * longest + packing.places
    padded = query.new_zeros(rows * longest, *query.shape[2:]).index_copy_(0, where, query[0])
    out = _attend_sdpa(padded.unflatten(0, (rows, longest)), key, value, mask)
    return out.flatten(0, 1).index_select(0, where)[None]


def _attend_xformers(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    from xformers.ops import memory_efficient_attention  # lazy: needs a GPU and seconds to import

    bias = None
    if mask is not None:
        batch, _, keys = mask.shape
        aligned = -(-keys // 8) * 8  # the kernel needs rows that start on a multiple of 8
        bias = query.new_zeros(batch, 1, query.shape[1], aligned)
        bias[..., :keys].masked_fill_(~mask[:, None], float("-inf"))
        bias = bias[..., :keys].expand(-1, query.shape[2], -1, -1)  # (B, H, Q, K)
    return memory_efficient_attention(query, key, value, attn_bias=bias)


def _packed_xformers(query: Tensor, key: Tensor, value: Tensor, packing: Packing) -> Tensor:
    from xformers.ops import memory_efficient_attention
    from xformers.ops.fmha.attn_bias import BlockDiagonalPaddedKeysMask

    rows, slot = len(packing.query_lengths), key.shape[1]
    bias = BlockDiagonalPaddedKeysMask.from_seqlens(
        packing.query_lengths, kv_padding=slot, kv_seqlen=packing.key_lengths
    ).to(query.device)
    key, value = key[:rows].flatten(0, 1)[None], value[:rows].flatten(0, 1)[None]  # (1, R slot, H, E): no copy
    return memory_efficient_attention(query, key, value, attn_bias=bias)

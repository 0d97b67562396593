"""The one door to attention kernels: xformers on CUDA in half precision, PyTorch's own elsewhere.

Letters in shapes: B batch, Q queries, K keys, H heads, E width of a head.
"""

import functools
import importlib.util
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

Backend = Literal["xformers", "sdpa"]


@functools.cache
def xformers_installed() -> bool:
    """Tell whether the xformers package can be imported (without importing it, which takes seconds)."""
    return importlib.util.find_spec("xformers") is not None


def choose_backend(device: torch.device, dtype: torch.dtype, forced: Backend | None = None) -> Backend:
    """Return the attention backend for tensors of this device and type.

    Raises:
        ValueError: a backend is forced that cannot run there.
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


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *, backend: Backend | None = None
) -> Tensor:
    """Scaled dot-product attention.

    Args:
        query: (B, Q, H, E).
        key, value: (B, K, H, E).
        mask: (B, Q, K) bool, True where a query may look; None for everywhere. Every query needs one visible key.
        backend: forces a kernel; None chooses by device and type.

    Returns:
        (B, Q, H, E).
    """
    if choose_backend(query.device, query.dtype, backend) == "xformers":
        return _attend_xformers(query, key, value, mask)
    query, key, value = (tensor.transpose(1, 2) for tensor in (query, key, value))  # (B, H, L, E)
    out = scaled_dot_product_attention(query, key, value, attn_mask=None if mask is None else mask[:, None])
    return out.transpose(1, 2)  # (B, Q, H, E)


def _attend_xformers(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    from xformers.ops import memory_efficient_attention  # lazy: needs a GPU and seconds to import

    bias = None
    if mask is not None:
        batch, queries, keys = mask.shape
        aligned = -(-keys // 8) * 8  # the kernel wants rows that start on a multiple of 8
        bias = query.new_zeros(batch, 1, queries, aligned)
        bias[..., :keys].masked_fill_(~mask[:, None], float("-inf"))
        bias = bias[..., :keys].expand(-1, query.shape[2], -1, -1)  # (B, H, Q, K)
    return memory_efficient_attention(query, key, value, attn_bias=bias)


def attend_packed(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_lengths: Sequence[int],
    key_lengths: Sequence[int],
    *,
    backend: Backend | None = None,
) -> Tensor:
    """Attention over sequences of different lengths laid end to end; none sees another, nothing is padded.

    Args:
        query: (sum of query_lengths, H, E).
        key, value: (sum of key_lengths, H, E).

    Returns:
        (sum of query_lengths, H, E).
    """
    query, key, value = query[None], key[None], value[None]
    if choose_backend(query.device, query.dtype, backend) == "xformers":
        from xformers.ops import memory_efficient_attention
        from xformers.ops.fmha.attn_bias import BlockDiagonalMask

        bias = BlockDiagonalMask.from_seqlens(list(query_lengths), list(key_lengths))
        return memory_efficient_attention(query, key, value, attn_bias=bias)[0]
    query_owner, key_owner = (
        torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).to(query.device)
        for lengths in (query_lengths, key_lengths)
    )
    return attend(query, key, value, (query_owner[:, None] == key_owner[None])[None], backend="sdpa")[0]

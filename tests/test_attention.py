"""The attention door: every kernel gives what the written-out softmax gives."""

import math

import pytest
import torch
from torch import Tensor

from jepa_app.models.attention import attend, attend_packed, choose_backend

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def heads(batch: int, length: int, seed: int, num_heads: int = 3, width: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, length, num_heads, width, generator=generator)


def written_out(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    logits = torch.einsum("bqhe,bkhe->bhqk", query, key) / math.sqrt(query.shape[-1])
    if mask is not None:
        logits = logits.masked_fill(~mask[:, None], -math.inf)
    return torch.einsum("bhqk,bkhe->bqhe", logits.softmax(dim=-1), value)


def some_mask(batch: int, queries: int, keys: int) -> Tensor:
    mask = torch.rand(batch, queries, keys, generator=torch.Generator().manual_seed(9)) < 0.5
    mask[:, :, 0] = True  # every query needs one visible key
    return mask


@pytest.mark.parametrize("masked", [False, True])
def test_sdpa_equals_the_written_out_softmax(masked: bool) -> None:
    query, key, value = heads(2, 5, 0), heads(2, 7, 1), heads(2, 7, 2)
    mask = some_mask(2, 5, 7) if masked else None
    assert torch.allclose(attend(query, key, value, mask), written_out(query, key, value, mask), atol=1e-6)


def test_hidden_keys_have_no_influence() -> None:
    query, key, value = heads(1, 4, 0), heads(1, 6, 1), heads(1, 6, 2)
    mask = torch.ones(1, 4, 6, dtype=torch.bool)
    mask[:, :, 4:] = False
    assert torch.allclose(attend(query, key, value, mask), attend(query, key[:, :4], value[:, :4]), atol=1e-6)


QUERY_LENGTHS, KEY_LENGTHS = (3, 1, 4), (5, 2, 6)


def test_packed_sequences_equal_each_alone() -> None:
    query, key, value = heads(1, 8, 0)[0], heads(1, 13, 1)[0], heads(1, 13, 2)[0]
    packed = attend_packed(query, key, value, QUERY_LENGTHS, KEY_LENGTHS)
    parts = zip(query.split(QUERY_LENGTHS), key.split(KEY_LENGTHS), value.split(KEY_LENGTHS), strict=True)
    alone = torch.cat([attend(q[None], k[None], v[None])[0] for q, k, v in parts])
    assert torch.allclose(packed, alone, atol=1e-6)


@pytest.mark.slow
def test_packed_sequences_equal_the_mask_that_xformers_means() -> None:
    bias = pytest.importorskip("xformers.ops.fmha.attn_bias", reason="xformers is not installed")
    query, key, value = heads(1, 8, 0), heads(1, 13, 1), heads(1, 13, 2)
    mask = bias.BlockDiagonalMask.from_seqlens(list(QUERY_LENGTHS), list(KEY_LENGTHS)).materialize((8, 13))
    packed = attend_packed(query[0], key[0], value[0], QUERY_LENGTHS, KEY_LENGTHS)
    assert torch.allclose(packed, attend(query, key, value, (mask == 0)[None])[0], atol=1e-6)


def test_the_backend_follows_device_and_type() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert choose_backend(CPU, dtype) == "sdpa"
    assert choose_backend(CUDA, torch.float32) == "sdpa"
    assert choose_backend(CUDA, torch.bfloat16, "sdpa") == "sdpa"


def test_half_precision_on_cuda_takes_xformers() -> None:
    pytest.importorskip("xformers", reason="xformers is not installed")
    assert choose_backend(CUDA, torch.bfloat16) == "xformers"


def test_forcing_a_kernel_where_it_cannot_run_is_refused() -> None:
    query = heads(1, 2, 0)
    with pytest.raises(ValueError, match=r"'xformers' needs CUDA.*got cpu, torch.float32; use 'sdpa'"):
        attend(query, query, query, backend="xformers")
    with pytest.raises(ValueError, match="use 'sdpa'"):
        attend_packed(query[0], query[0], query[0], [2], [2], backend="xformers")
    with pytest.raises(ValueError, match="'flash'; allowed: xformers, sdpa"):
        choose_backend(CPU, torch.float32, "flash")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_xformers_equals_sdpa_on_a_gpu(dtype: torch.dtype) -> None:
    pytest.importorskip("xformers", reason="xformers is not installed")
    query, key, value = (heads(2, n, n, width=64).to(CUDA, dtype) for n in (5, 13, 13))
    for mask in (None, some_mask(2, 5, 13).to(CUDA)):
        ours, theirs = (attend(query, key, value, mask, backend=backend) for backend in ("xformers", "sdpa"))
        assert torch.allclose(ours, theirs, atol=2e-2)
    packed = (query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1), [5, 5], [13, 13])
    ours, theirs = (attend_packed(*packed, backend=backend) for backend in ("xformers", "sdpa"))
    assert torch.allclose(ours, theirs, atol=2e-2)

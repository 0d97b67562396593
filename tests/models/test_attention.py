"""The attention door: every kernel gives what the written-out softmax gives."""

import math

import pytest
import torch
from torch import Tensor

from jepa_app.models.attention import Packing, attend, choose_backend

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


@pytest.mark.parametrize("masked", [False, True])
def test_attention_trained_in_bfloat16_is_that_of_float32(masked: bool) -> None:
    query, key, value = (heads(2, length, seed).requires_grad_() for seed, length in enumerate((5, 7, 7)))
    mask = some_mask(2, 5, 7) if masked else None
    expected = attend(query, key, value, mask)
    found = attend(query.bfloat16(), key.bfloat16(), value.bfloat16(), mask)
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found.float(), expected, atol=0.03)
    right, near = (torch.autograd.grad(out.float().square().sum(), query)[0] for out in (expected, found))
    assert torch.allclose(near, right, atol=0.1)


def test_hidden_keys_have_no_influence() -> None:
    query, key, value = heads(1, 4, 0), heads(1, 6, 1), heads(1, 6, 2)
    mask = torch.ones(1, 4, 6, dtype=torch.bool)
    mask[:, :, 4:] = False
    assert torch.allclose(attend(query, key, value, mask), attend(query, key[:, :4], value[:, :4]), atol=1e-6)


ALIKE, DIFFERENT, UNEVEN = (2,) * 4, (3, 1, 4, 2), (1, 1, 60, 1)  # queries of each row
KEY_LENGTHS, SLOT = (5, 2, 6, 3), 9  # keys of each row, in slots of this length


def packed(lengths: tuple[int, ...], device: torch.device = CPU, dtype: torch.dtype = torch.float32) -> tuple:
    """Queries end to end, keys and values in slots (one more than there are rows), and the packing."""
    query = heads(1, sum(lengths), 0, width=16).to(device, dtype)
    key, value = (heads(5, SLOT, seed, width=16).to(device, dtype) for seed in (1, 2))
    return query, key, value, Packing.of(lengths, KEY_LENGTHS, query)


@pytest.mark.parametrize("lengths", [ALIKE, DIFFERENT, UNEVEN])
def test_packed_rows_equal_each_alone(lengths: tuple[int, ...]) -> None:
    query, key, value, packing = packed(lengths)
    parts = zip(query[0].split(lengths), key, value, KEY_LENGTHS, strict=False)
    alone = torch.cat([written_out(q[None], k[None, :n], v[None, :n], None)[0] for q, k, v, n in parts])
    out = attend(query, key, value, packing)
    assert out.shape == query.shape
    assert torch.allclose(out[0], alone, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("lengths", [ALIKE, DIFFERENT])
def test_packed_rows_equal_the_mask_that_xformers_means(lengths: tuple[int, ...]) -> None:
    bias = pytest.importorskip("xformers.ops.fmha.attn_bias", reason="xformers is not installed")
    query, key, value, packing = packed(lengths)
    meant = bias.BlockDiagonalPaddedKeysMask.from_seqlens(lengths, kv_padding=SLOT, kv_seqlen=KEY_LENGTHS)
    mask = meant.materialize((sum(lengths), 4 * SLOT)) == 0
    flat_key, flat_value = key[:4].flatten(0, 1)[None], value[:4].flatten(0, 1)[None]
    expected = written_out(query, flat_key, flat_value, mask[None])
    assert torch.allclose(attend(query, key, value, packing), expected, atol=1e-6)


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
        attend(query, query, query, Packing.of([2], [2], query), backend="xformers")
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
    for lengths in (ALIKE, DIFFERENT, UNEVEN):
        ours, theirs = (attend(*packed(lengths, CUDA, dtype), backend=backend) for backend in ("xformers", "sdpa"))
        assert torch.allclose(ours, theirs, atol=2e-2)

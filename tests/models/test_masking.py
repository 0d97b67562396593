"""Orders, schedules, blocks and what sees what."""

import itertools
import math

import pytest
import torch

from jepa_app.masking import (
    NEVER,
    PREFIX_BLOCK,
    block_ids,
    block_mask,
    cosine_schedule,
    masked_count,
    multi_block_mask,
    random_blocks,
    random_orders,
    subset_counts,
    visible,
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("num_tokens", [1, 4, 16, 64, 256])
def test_every_schedule_reveals_all_tokens_and_at_least_one_a_step(num_tokens: int) -> None:
    for num_steps in range(1, num_tokens + 1):
        counts = cosine_schedule(num_tokens, num_steps)
        assert len(counts) == num_steps
        assert sum(counts) == num_tokens
        assert min(counts) >= 1


def test_the_schedule_follows_the_cosine() -> None:
    remaining = [64 - done for done in itertools.accumulate(cosine_schedule(64, 8))]
    assert remaining == [math.floor(64 * math.cos(math.pi / 2 * step / 8)) for step in range(1, 9)]


@pytest.mark.parametrize("num_steps", [-1, 0, 65])
def test_steps_out_of_range_are_refused(num_steps: int) -> None:
    with pytest.raises(ValueError, match=f"steps is {num_steps}; allowed: 1 to 64"):
        cosine_schedule(64, num_steps)


def test_block_ids_repeat_each_step_as_often_as_it_reveals() -> None:
    assert block_ids((1, 3, 2)).tolist() == [0, 1, 1, 1, 2, 2]


def test_an_order_depends_on_its_own_generator_only() -> None:
    both = random_orders(64, [seeded(1), seeded(2)])
    alone = random_orders(64, [seeded(2)])
    assert torch.equal(both[1], alone[0])
    assert not torch.equal(both[0], both[1])
    assert torch.equal(both.sort(dim=1).values, torch.arange(64).expand(2, -1))


def test_random_blocks_are_schedules_of_all_lengths() -> None:
    blocks = random_blocks(512, 16, seeded(0))
    for row in blocks:
        num_steps = int(row[-1]) + 1
        assert torch.equal(row, block_ids(cosine_schedule(16, num_steps)))
    assert set((blocks[:, -1] + 1).tolist()) == set(range(1, 17))


def test_visibility() -> None:
    queries = torch.tensor([[0, 1, 1, 2]])
    keys = torch.tensor([[PREFIX_BLOCK, NEVER, 0, 1, 1, 2]])
    own = visible(queries, keys, same_block=True)[0].int().tolist()
    assert own == [[1, 0, 1, 0, 0, 0], [1, 0, 1, 1, 1, 0], [1, 0, 1, 1, 1, 0], [1, 0, 1, 1, 1, 1]]
    earlier = visible(queries, keys, same_block=False)[0].int().tolist()
    assert earlier == [[1, 0, 0, 0, 0, 0], [1, 0, 1, 0, 0, 0], [1, 0, 1, 0, 0, 0], [1, 0, 1, 1, 1, 0]]


def test_mask_ratio_is_a_normal_cut_to_its_range() -> None:
    generator = seeded(0)
    counts = torch.tensor([masked_count(1000, generator) for _ in range(4000)]) / 1000
    assert 0.7 <= counts.min() < 0.72
    assert 0.98 < counts.max() <= 1
    # closed form of the truncated normal: mean + std * (density(low) - density(high)) / (mass between)
    normal = torch.distributions.Normal(0.0, 1.0)
    low, high = torch.tensor(-1.2), torch.tensor(0.0)
    density = (normal.log_prob(low).exp() - normal.log_prob(high).exp()) / (normal.cdf(high) - normal.cdf(low))
    assert float(counts.mean()) == pytest.approx(float(1 + 0.25 * density), abs=0.005)


def test_masked_count_hides_at_least_one_token() -> None:
    assert {masked_count(1, seeded(seed)) for seed in range(20)} == {1}


def test_block_masks_are_rectangles_of_the_asked_area() -> None:
    generator = seeded(0)
    for _ in range(200):
        mask = block_mask(16, generator).view(16, 16)
        height, width = int(mask.any(dim=1).sum()), int(mask.any(dim=0).sum())
        assert int(mask.sum()) == height * width
        assert 0.11 <= height * width / 256 <= 0.25  # 0.15 to 0.2, and the rounding of both sides
        assert 0.6 <= height / width <= 1.8


def test_a_block_never_exceeds_a_tiny_grid() -> None:
    assert block_mask(1, seeded(0)).tolist() == [True]


def test_multi_block_mask_is_a_reproducible_union_that_leaves_context() -> None:
    first, again = (multi_block_mask(8, seeded(3)) for _ in range(2))
    assert torch.equal(first, again)
    single = block_mask(8, seeded(3))
    assert bool((first | ~single).all())  # its first block lies inside
    assert single.sum() < first.sum() < 64


def test_subsets_cover_all_sizes() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [subset_counts(16, generator) for _ in range(2000)]
    assert all(1 <= asked <= masked <= 16 for masked, asked in drawn)
    assert {masked for masked, _ in drawn} == set(range(1, 17))
    assert {asked for masked, asked in drawn if masked == 16} == set(range(1, 17))

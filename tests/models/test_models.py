"""Blocks against a library's, and the networks' contract: training and sampling compute the same conditions."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from jepa_app.config import JepaTConfig
from jepa_app.masking import block_ids, cosine_schedule
from jepa_app.models.blocks import Attention, Block, CrossAttention, GridPositions, Rotary, initialise, rms_norm, turn
from jepa_app.models.context import Context
from jepa_app.models.denoiser import Denoiser, time_features
from jepa_app.models.jepa_t import JepaT
from jepa_app.models.slots import Prefix, Slots
from jepa_app.models.text import TextFeatures, join_features
from tests.conftest import TINY_JEPA_T, awake

KINDS = ("cached", "bidirectional", "bidirectional_subset")
BACKBONES = [replace(TINY_JEPA_T, backbone=kind) for kind in KINDS]
BY_BACKBONE = pytest.mark.parametrize("config", BACKBONES, ids=lambda config: config.backbone)
CACHED, BIDIRECTIONAL, _ = BACKBONES
LENGTHS = (5, 2, 3)  # real text tokens of the three prompts
N, C = TINY_JEPA_T.num_tokens, TINY_JEPA_T.channels


def network_of(config: JepaTConfig) -> JepaT:
    torch.manual_seed(0)
    network = JepaT(config)
    return awake(network).double().eval()


def some_text(padding: float = 0.0) -> TextFeatures:
    tokens = torch.randn(3, 5, 384, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mask = torch.arange(5) < torch.tensor(LENGTHS)[:, None]
    return TextFeatures(tokens + padding * ~mask[:, :, None], mask)


def some_tokens() -> tuple[Tensor, Tensor]:
    """Clean tokens (3, N, C) in generation order and that order (3, N)."""
    generator = torch.Generator().manual_seed(2)
    order = torch.stack([torch.randperm(N, generator=generator) for _ in range(3)])
    return torch.randn(3, N, C, generator=generator, dtype=torch.float64), order


def step_by_step(network: JepaT, text: TextFeatures, counts: tuple[int, ...]) -> Tensor:
    """Conditions (3, N, D) in generation order, asked for as the sampler does."""
    clean, order = some_tokens()
    context, done, conditions = network.start(text), 0, []
    for step, count in enumerate(counts):
        asked = order[:, done:] if network.asks_all_masked else order[:, done : done + count]
        now = torch.full(asked.shape, step)
        conditions.append(network.predict(context.at(now), asked)[:, :count])
        here = slice(done, done + count)
        context = network.extend(context.at(now[:, :count]), clean[:, here], order[:, here])
        done += count
    return torch.cat(conditions, dim=1)


# --- blocks


@pytest.fixture
def no_norm_of_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Queries and keys as torch's own layers have them, without a norm."""
    monkeypatch.setattr("jepa_app.models.blocks.rms_norm", lambda x, _: x)


def test_the_norm_of_queries_and_keys_equals_torch_s() -> None:
    x, weight = torch.randn(2, 3, 5, 16, dtype=torch.float64), torch.rand(16, dtype=torch.float64)
    assert torch.allclose(rms_norm(x, weight), torch.nn.functional.rms_norm(x, (16,), weight, 0.0), atol=1e-9)


def test_a_block_equals_torch_s_encoder_layer(no_norm_of_keys: None) -> None:
    width, num_heads = 16, 4
    theirs = nn.TransformerEncoderLayer(
        width, num_heads, 4 * width, 0.0, partial(gelu, approximate="tanh"), 1e-6, batch_first=True, norm_first=True
    )
    ours = Block(width, num_heads)
    pairs = {
        "attention_norm": theirs.norm1,
        "feed_forward_norm": theirs.norm2,
        "attention.out": theirs.self_attn.out_proj,
        "feed_forward.widen": theirs.linear1,
        "feed_forward.narrow": theirs.linear2,
    }
    awake(theirs)
    for name, layer in pairs.items():
        ours.get_submodule(name).load_state_dict(layer.state_dict())
    ours.attention.query_key_value.load_state_dict(
        {"weight": theirs.self_attn.in_proj_weight, "bias": theirs.self_attn.in_proj_bias}
    )
    x = torch.randn(2, 9, width)
    no_place = GridPositions(2, width // num_heads)(torch.full((2, 9), -1))
    mask = torch.rand(9, 9) < 0.5
    mask.fill_diagonal_(True)
    for visible in (None, mask):
        out, _ = ours(x, no_place, mask=None if visible is None else visible.expand(2, -1, -1))
        expected = theirs(x, src_mask=None if visible is None else ~visible)
        assert torch.allclose(out, expected, atol=1e-5)


def test_kept_keys_equal_one_pass_over_all_tokens() -> None:
    torch.manual_seed(0)
    block = awake(Block(16, 2)).double()
    x = torch.randn(2, 6, 16, dtype=torch.float64)
    rotary = GridPositions(3, 8).double()(torch.tensor([[0, 3, 1, 8, 2, 5]] * 2))
    first, second = (Rotary(rotary.cos[:, part], rotary.sin[:, part]) for part in (slice(0, 4), slice(4, 6)))
    causal = torch.tensor([[key < 4 or query >= 4 for key in range(6)] for query in range(6)]).expand(2, -1, -1)
    whole, _ = block(x, rotary, mask=causal)
    begin, kept = block(x[:, :4], first)
    end, kept = block(x[:, 4:], second, kept)
    assert torch.allclose(torch.cat([begin, end], dim=1), whole, atol=1e-12)
    assert kept.key.shape == (2, 6, 2, 8)


def test_rotary_attention_depends_on_distance_alone() -> None:
    positions = GridPositions(8, 16).double()
    query, key = torch.randn(2, 1, 1, 1, 16, dtype=torch.float64)

    def score(row_a: int, column_a: int, row_b: int, column_b: int) -> float:
        a, b = positions(torch.tensor([[8 * row_a + column_a]])), positions(torch.tensor([[8 * row_b + column_b]]))
        return float((turn(query, a) * turn(key, b)).sum())

    assert score(1, 2, 3, 5) == pytest.approx(score(4, 0, 6, 3))
    assert score(1, 2, 3, 5) != pytest.approx(score(1, 2, 3, 6))
    assert score(1, 2, 3, 5) != pytest.approx(score(3, 2, 1, 5))


def test_tokens_without_a_place_are_not_turned() -> None:
    x = torch.randn(1, 2, 3, 16)
    positions = GridPositions(4, 16)
    assert torch.equal(turn(x, positions(torch.tensor([[-1, -1]]))), x)
    turned = turn(x, positions(torch.tensor([[5, 6]])))
    assert not torch.allclose(turned, x)
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1))  # rotations keep lengths


def test_attention_normalises_queries_and_keys() -> None:
    torch.manual_seed(0)
    attention = Attention(16, 2)
    rotary = GridPositions(2, 8)(torch.tensor([[0, 1, 2]]))
    query, keys = attention.project(100 * torch.randn(1, 3, 16), rotary)
    for tensor in (query, keys.key):
        assert torch.allclose(tensor.square().mean(dim=-1), torch.ones(1, 3, 2), atol=1e-4)


def test_queries_keys_and_values_have_one_type_under_autocast() -> None:
    attention, cross = Attention(16, 2), CrossAttention(16, 12, 2)
    rotary = GridPositions(2, 8)(torch.tensor([[0, 1, 2]]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        query, keys = attention.project(torch.randn(1, 3, 16), rotary)
        prompt = cross.keep(torch.randn(1, 3, 12))
    assert {tensor.dtype for tensor in (query, *keys, *prompt)} == {torch.bfloat16}


def test_cross_attention_equals_torch_s(no_norm_of_keys: None) -> None:
    width, prompt_width, num_heads = 16, 12, 4
    ours = CrossAttention(width, prompt_width, num_heads)
    ours.norm = nn.Identity()
    awake(ours)
    theirs = nn.MultiheadAttention(width, num_heads, kdim=prompt_width, vdim=prompt_width, batch_first=True)
    key, value = ours.key_value.weight.chunk(2)
    biases = [ours.query.bias, *ours.key_value.bias.chunk(2)]
    names = {"q_proj_weight": ours.query.weight, "k_proj_weight": key, "v_proj_weight": value}
    names |= {"in_proj_bias": torch.cat(biases), "out_proj.weight": ours.out.weight, "out_proj.bias": ours.out.bias}
    theirs.load_state_dict(names)
    x, prompt = torch.randn(2, 5, width), torch.randn(2, 7, prompt_width)
    mask = torch.arange(7) < torch.tensor([[7], [3]])
    expected, _ = theirs(x, prompt, prompt, key_padding_mask=~mask)
    assert torch.allclose(ours(x, ours.keep(prompt), mask[:, None]), x + expected, atol=1e-5)


def test_blocks_start_as_the_identity() -> None:
    block = Block(16, 2)
    initialise(block)
    x = torch.randn(1, 3, 16)
    out, _ = block(x, GridPositions(2, 8)(torch.tensor([[0, 1, 2]])))
    assert torch.equal(out, x)


# --- denoiser


def test_the_denoiser_treats_tokens_alone_and_starts_at_zero() -> None:
    torch.manual_seed(0)
    denoiser = Denoiser(channels=C, condition_width=8, width=16, depth=2)
    x, time, condition = torch.randn(6, C), torch.rand(6), torch.randn(6, 8)
    assert torch.equal(denoiser(x, time, condition), torch.zeros(6, C))
    awake(denoiser)
    out = denoiser(x, time, condition)
    assert torch.allclose(denoiser(x[3:4], time[3:4], condition[3:4]), out[3:4], atol=1e-5)
    assert not torch.allclose(denoiser(x, time, -condition), out)
    assert not torch.allclose(denoiser(x, 1 - time, condition), out)


def test_time_features_tell_times_apart() -> None:
    features = time_features(torch.linspace(0, 1, 101))
    assert features.shape == (101, 256)
    assert float(features.abs().max()) <= 1
    distances = torch.cdist(features, features) + 100 * torch.eye(101)
    assert float(distances.min()) > 0.1


# --- networks


@BY_BACKBONE
def test_shapes(config: JepaTConfig) -> None:
    network = network_of(config)
    clean, order = some_tokens()
    first = torch.zeros(3, 4, dtype=torch.long)
    context = network.extend(network.start(some_text()).at(first), clean[:, :4], order[:, :4])
    asked = order[:, 4:]
    assert network.predict(context.at(torch.ones_like(asked)), asked).shape == (3, N - 4, config.width)


@pytest.mark.parametrize("num_steps", [1, 5, N])
def test_cached_conditions_of_one_call_equal_those_of_sampling(num_steps: int) -> None:
    network = network_of(CACHED)
    clean, order = some_tokens()
    counts = cosine_schedule(N, num_steps)
    blocks = block_ids(counts).expand(3, -1)
    context = network.extend(network.start(some_text()).at(blocks), clean, order)
    at_once = network.predict(context.at(blocks), order)
    assert torch.allclose(step_by_step(network, some_text(), counts), at_once, atol=1e-10)
    assert at_once.std(dim=(0, 1)).min() > 1e-3  # and they are not all the same


def test_a_condition_depends_on_tokens_of_earlier_steps_only() -> None:
    network = network_of(CACHED)
    clean, order = some_tokens()
    blocks = block_ids((4, 6, N - 10)).expand(3, -1)

    def conditions(changed: slice) -> Tensor:
        tokens = clean.clone()
        tokens[:, changed] += 1
        return network.predict(network.extend(network.start(some_text()).at(blocks), tokens, order).at(blocks), order)

    before = conditions(slice(0, 0))
    assert torch.equal(conditions(slice(10, N)), before)
    second = conditions(slice(4, 10))
    assert torch.equal(second[:, :10], before[:, :10])
    assert not torch.allclose(second[:, 10:], before[:, 10:], atol=1e-3)


@BY_BACKBONE
def test_padding_of_the_text_changes_nothing(config: JepaTConfig) -> None:
    network = network_of(config)
    counts = (3, 5, N - 8)
    expected = step_by_step(network, some_text(), counts)
    assert torch.allclose(step_by_step(network, some_text(padding=100.0), counts), expected, atol=1e-10)
    text = some_text()
    wider = join_features([text, TextFeatures(torch.ones(1, 9, 384).double(), torch.ones(1, 9, dtype=torch.bool))])
    padded = TextFeatures(wider.tokens[:3], wider.mask[:3])
    assert torch.allclose(step_by_step(network, padded, counts), expected, atol=1e-10)


@BY_BACKBONE
def test_pictures_of_a_batch_do_not_see_one_another(config: JepaTConfig) -> None:
    network = network_of(config)
    text, counts = some_text(), (6, N - 6)
    other = TextFeatures(torch.cat([text.tokens[:1], -text.tokens[1:]]), text.mask)
    first, second = (step_by_step(network, prompts, counts) for prompts in (text, other))
    assert torch.equal(first[0], second[0])
    assert not torch.allclose(first[1:], second[1:], atol=1e-3)


def test_what_is_kept_of_a_token_never_changes() -> None:
    network = network_of(CACHED)
    clean, order = some_tokens()
    short = network.extend(network.start(some_text()).at(block_ids((2, 4)).expand(3, -1)), clean[:, :6], order[:, :6])
    long = network.extend(short.at(torch.full((3, N - 6), 2)), clean[:, 6:], order[:, 6:])
    length = short.blocks.shape[1]
    assert long.blocks.shape[1] == length + N - 6
    for kept in ("encoder", "predictor"):
        for before, after in zip(getattr(short, kept), getattr(long, kept), strict=True):
            assert torch.equal(before.key, after.key[:, :length])
            assert torch.equal(before.value, after.value[:, :length])


def test_extending_encodes_the_new_tokens_only() -> None:
    network = network_of(CACHED)
    clean, order = some_tokens()
    context = network.start(some_text())
    encoded: list[int] = []
    encoder = network.d_jepa.backbone.context_encoder
    handle = encoder.register_forward_pre_hook(lambda _, arguments: encoded.append(arguments[0].shape[1]))
    for step, count in enumerate((3, 4, 5)):
        at = sum((3, 4, 5)[:step])
        now = torch.full((3, count), step)
        context = network.extend(context.at(now), clean[:, at : at + count], order[:, at : at + count])
        network.predict(context.at(torch.full((3, N - 12), 3)), order[:, 12:])
    handle.remove()
    assert encoded == [3, 4, 5]


# --- slots


def slots_of(network: JepaT, num_slots: int = 1) -> Slots:
    return Slots(network.config, num_slots=num_slots, prompt_length=5, device=torch.device("cpu"), dtype=torch.float64)


def prefixes(network: JepaT) -> list[Prefix]:
    context = network.start(some_text())
    return [Prefix.of(context, row) for row in range(3)]


@torch.no_grad()
@pytest.mark.parametrize("places", [{}, {"text_prefix": False, "fuse_before_predictor": True}], ids=["usual", "before"])
def test_slots_at_different_steps_equal_each_picture_alone(places: dict[str, bool]) -> None:
    network, (clean, order) = network_of(replace(CACHED, **places)), some_tokens()
    schedules = [(1, 3, 5, N - 9), (4, N - 4), (2, 2, 2, 2, N - 8)]  # tokens of each step, for each picture
    expected = [step_by_step(network, some_text(), counts)[row] for row, counts in enumerate(schedules)]
    slots, done, got = slots_of(network), [0, 0, 0], [[], [], []]
    inside: list[int] = []  # the picture in each slot
    for time, joins in enumerate([[0], [2], [1], [], [], []]):
        for row in joins:
            assert slots.add(prefixes(network)[row]) == len(inside)
            inside.append(row)
        steps = [time - [0, 2, 1][row] for row in inside]
        here = [slice(done[row], done[row] + schedules[row][step]) for row, step in zip(inside, steps, strict=True)]
        counts = [part.stop - part.start for part in here]
        positions = torch.cat([order[row, part] for row, part in zip(inside, here, strict=True)])[None]
        conditions = network.predict(slots.turn(counts), positions)[0].split(counts)
        for row, part, condition in zip(inside, here, conditions, strict=True):
            got[row].append(condition)
            done[row] = part.stop
        tokens = torch.cat([clean[row, part] for row, part in zip(inside, here, strict=True)])[None]
        network.extend(slots.turn(counts), tokens, positions)
        for row in [row for row in inside if done[row] == N]:
            slot = inside.index(row)
            moved = slots.remove(slot)
            inside[slot] = inside[moved]
            inside.pop()
    assert slots.used == 0
    for row in range(3):
        assert torch.allclose(torch.cat(got[row]), expected[row], atol=1e-10)


@torch.no_grad()
def test_a_slot_forgets_what_was_there_before() -> None:
    network, (clean, order) = network_of(CACHED), some_tokens()
    slots = slots_of(network)
    begin = prefixes(network)[0]

    def first_conditions() -> Tensor:
        return network.predict(slots.turn([2]), order[:1, :2])

    slots.add(begin)
    before = first_conditions()
    network.extend(slots.turn([N - 2]), clean[1:2, 2:], order[1:2, 2:])
    assert not torch.allclose(first_conditions(), before, atol=1e-3)
    slots.remove(0)
    slots.add(begin)
    assert torch.equal(first_conditions(), before)


@BY_BACKBONE
def test_dropped_text_is_the_null_text(config: JepaTConfig) -> None:
    network = network_of(config)
    dropped = network.drop_text(some_text(), torch.tensor([True, False, True]))
    null = network.null_features(3)
    counts = (3, N - 3)
    conditions = [step_by_step(network, text, counts) for text in (dropped, null, some_text())]
    assert torch.allclose(conditions[0][0::2], conditions[1][0::2], atol=1e-10)
    assert torch.allclose(conditions[0][1], conditions[2][1], atol=1e-10)
    assert not torch.allclose(conditions[0][0], conditions[2][0], atol=1e-3)


PLACES = ("text_prefix", "fuse_before_predictor", "fuse_after_predictor", "fuse_before_loss")
NOWHERE = dict.fromkeys(PLACES, False)


@BY_BACKBONE
def test_text_reaches_the_condition_through_each_place_and_no_other(config: JepaTConfig) -> None:
    counts = (3, N - 3)
    other = TextFeatures(some_text().tokens.flip(0), some_text().mask.flip(0))

    def moved(network: JepaT) -> float:
        one, two = (step_by_step(network, text, counts) for text in (some_text(), other))
        return float((one - two).detach()[[0, 2]].abs().min(dim=-1).values.min())

    network = network_of(config)
    network.config = replace(config, **NOWHERE)
    assert moved(network) == 0
    for place in PLACES:
        network.config = replace(config, **NOWHERE | {place: True})
        assert moved(network) > 1e-6, place


def test_the_target_encoder_sees_the_whole_picture_at_once() -> None:
    network = network_of(CACHED)
    encoder = network.d_jepa.backbone.context_encoder
    clean, _ = some_tokens()
    features = encoder.whole(some_text(), clean)
    assert features.shape == (3, N, CACHED.width)
    assert torch.allclose(encoder.whole(some_text(padding=9.0), clean), features, atol=1e-10)
    changed = clean.clone()
    changed[:, -1] += 1
    moved = (encoder.whole(some_text(), changed) - features).abs().amax(dim=(0, 2))
    assert moved.min() > 1e-6  # every token sees the last one


def test_positions_matter() -> None:
    network = network_of(CACHED)
    clean, order = some_tokens()
    now = torch.zeros_like(order)

    def conditions(places: Tensor) -> Tensor:
        context: Context = network.extend(network.start(some_text()).at(now[:, :4]), clean[:, :4], places[:, :4])
        return network.predict(context.at(now[:, 4:] + 1), places[:, 4:])

    assert not torch.allclose(conditions(order), conditions(order.roll(1, dims=1)), atol=1e-3)

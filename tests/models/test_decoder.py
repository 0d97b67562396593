"""The decoder that sees the whole picture: its layers, its sizes, and that it learns colours and opacity."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import interpolate

from jepa_app.config import TIJepaConfig, TokenizerConfig
from jepa_app.models.jepa_t import JepaT
from jepa_app.models.text import TextEncoder
from jepa_app.models.ti_jepa import TIJepa
from jepa_app.models.tokenizers.decoder import Layers
from jepa_app.models.tokenizers.resizing import enlarged, resize_pixels
from jepa_app.models.tokenizers.tokenizer import LinearTokenizer, make_tokenizer
from tests.conftest import TINY_JEPA_T, TINY_TI_JEPA, awake
from training.data.batches import Batch, CaptionedPictures
from training.data.captions import CaptionOptions
from training.objectives.decoding import regenerator
from training.objectives.decoding.objective import (
    CRITIC_LEARNS,
    DecoderLoss,
    DecoderObjective,
    DecodingNetwork,
    _errors,
    composite,
    opaque_iou,
)
from training.objectives.decoding.regenerator import Regenerator
from training.objectives.text_cache import TextCache

CONFIG = TokenizerConfig(
    image_size=16,
    patch_size=8,
    channels=48,
    reduction=2,
    decoder_width=16,
    decoder_depth=1,
    decoder_features=8,
    decoder_layers=1,
    decoded_size=32,
)


def tokenizer_of(config: TokenizerConfig = CONFIG) -> LinearTokenizer:
    torch.manual_seed(0)
    tokenizer = make_tokenizer(config)
    assert isinstance(tokenizer, LinearTokenizer)
    return tokenizer


@pytest.mark.parametrize(("before", "after"), [(8, 16), (16, 128), (64, 128), (64, 200)])
def test_enlarging_is_bicubic_interpolation(before: int, after: int) -> None:
    pixels = torch.rand(2, 3, before, before)
    wanted = interpolate(pixels, size=(after, after), mode="bicubic")
    torch.testing.assert_close(enlarged(pixels, after), wanted, atol=1e-5, rtol=0)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(enlarged(pixels, after), wanted, atol=1e-5, rtol=0)
    assert enlarged(pixels.half(), after).dtype == torch.float16


def test_what_was_enlarged_in_inference_can_be_trained_afterwards() -> None:
    with torch.inference_mode():
        enlarged(torch.rand(1, 1, 5, 5), 7)
    pixels = torch.rand(1, 1, 5, 5, requires_grad=True)
    enlarged(pixels, 7).square().sum().backward()
    assert pixels.grad is not None
    assert bool((pixels.grad != 0).all())


def test_an_untrained_decoder_gives_the_linear_decoding_half_opaque() -> None:
    tokenizer = tokenizer_of()
    tokens = torch.randn(2, 4, 48)
    with torch.no_grad():
        layers = tokenizer.decode_layers(tokens)
    assert layers.colours.shape == (2, 3, 32, 32)
    assert layers.opacity.shape == (2, 1, 32, 32)
    enlarged = resize_pixels(tokenizer.decode_linear(tokens), 32).clamp(-1, 1)
    torch.testing.assert_close(layers.colours, enlarged)
    assert bool((layers.opacity == 0.5).all())


@pytest.mark.parametrize(("side", "expected"), [(None, 32), (16, 16), (48, 48)])
def test_layers_come_in_the_size_that_is_asked_for(side: int | None, expected: int) -> None:
    for config in (CONFIG, TokenizerConfig(image_size=32, channels=48)):
        tokenizer = tokenizer_of(config)
        with torch.no_grad():
            layers = tokenizer.decode_layers(torch.randn(1, config.num_tokens, 48), side)
        assert layers.colours.shape == (1, 3, expected, expected)
        assert layers.opacity.shape == (1, 1, expected, expected)
        assert float(layers.opacity.max()) <= 1
    assert bool((layers.opacity == 1).all())  # without a decoder everything is opaque


@torch.no_grad()
def test_pictures_for_measuring_keep_their_size_and_see_their_neighbours() -> None:
    tokenizer = tokenizer_of()
    assert tokenizer.decoder is not None
    torch.nn.init.normal_(tokenizer.decoder.pixels_out.weight, std=0.1)
    for block in tokenizer.decoder.blocks:
        torch.nn.init.normal_(block.attention.out.weight, std=0.5)
    tokens = torch.randn(1, 4, 48)
    before = tokenizer.render(tokens)
    assert before.shape == (1, 3, 16, 16)
    moved = tokens.clone()
    moved[0, 0] += 1
    change = (tokenizer.render(moved) - before).abs()
    assert float(change[..., 13:, 13:].max()) > 1e-6  # the far corner


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"decoded_size": 40}, "decoded_size is 40; allowed: a multiple of 16"),
        ({"decoder_width": 20}, "decoder_width is 20; allowed: 0 or a multiple of 16"),
        ({"decoder_features": 7}, "decoder_features is 7; allowed: an even number"),
        ({"refiner_width": 4}, "refiner_width is 4; allowed beside a decoder: 0"),
        ({"decoder_depth": 0}, "decoder_depth is 0; allowed: 1 or more"),
        ({"kind": "vae", "reduction": 1, "channels": 4}, "decoder_width is 16; allowed for a VAE: 0"),
    ],
)
def test_impossible_decoders_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TokenizerConfig.from_dict(CONFIG.to_dict() | change)


def test_a_composite_has_no_white_fringe() -> None:
    opacity = torch.tensor([0.0, 0.25, 1.0]).view(1, 1, 1, 3).expand(1, 1, 3, 3)
    black = torch.full((1, 3, 1, 1), -1.0)
    red = torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1)
    on_white = opacity * red + (1 - opacity) * 1.0
    on_black = composite(Layers(on_white, opacity), black)
    torch.testing.assert_close(on_black, opacity * red + (1 - opacity) * black)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> CaptionedPictures:
    """Coloured squares on nothing."""
    folder = tmp_path_factory.mktemp("shapes")
    lines = []
    for index, colour in enumerate([(220, 30, 30), (30, 160, 60), (40, 60, 220), (240, 200, 20)] * 2):
        pixels = np.zeros((32, 32, 4), np.uint8)
        pixels[4 + index : 20 + index, 6:24] = (*colour, 255)
        Image.fromarray(pixels).save(folder / f"{index}.png")
        lines.append(f'{{"file": "{index}.png", "label": "square {index}", "style": "flat"}}\n')
    (folder / "captions.jsonl").write_text("".join(lines))
    return CaptionedPictures.load(folder, 32, CaptionOptions(), cache_dir=tmp_path_factory.mktemp("cache"))


def objective_of(shapes: CaptionedPictures, **loss: float) -> DecoderObjective:
    tokenizer = tokenizer_of()
    small = resize_pixels(shapes.fixed(range(8)).pixels, 16)
    tokenizer.fit([small])
    encoder = TIJepa(TIJepaConfig.from_dict(TINY_TI_JEPA.to_dict())).image_encoder
    sample = shapes.fixed(range(8)).pixels
    return DecoderObjective(DecodingNetwork(tokenizer), encoder, sample, ema_decay=0.5, loss=DecoderLoss(**loss))


def trained(objective: DecoderObjective, batch: Batch, steps: int) -> list[dict[str, float]]:
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(objective.network.parameters(), 3e-3)
    losses = []
    for step in range(steps):
        parts = objective(batch, generator)
        parts["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        objective.after_step(step)
        losses.append({name: float(part.detach()) for name, part in parts.items()})
    return losses


def test_colours_and_opacity_are_learnt_together(shapes: CaptionedPictures) -> None:
    objective = objective_of(shapes, critic=0, token_noise=0.1, features=0, seams=0, composites=0)
    batch = shapes.fixed(range(8))
    assert bool((batch.opacity[:, 0, 0, 0] == 0).all())
    assert bool((batch.opacity[:, 0, 14, 12] == 1).all())
    losses = trained(objective, batch, 120)
    assert losses[-1]["colours"] < 0.8 * losses[0]["colours"]
    assert losses[-1]["opacity"] < 0.3 * losses[0]["opacity"]
    figures = objective.validate(batch, torch.Generator().manual_seed(0))
    assert figures["opaque_iou"] > 0.85
    assert figures["psnr_large"] > 15
    assert objective.preview().height > objective.sample.shape[-1]


def test_the_critic_learns_only_from_its_own_loss_and_comes_late(shapes: CaptionedPictures) -> None:
    objective = objective_of(shapes, critic=0.1, critic_from=2, critic_side=16, features=0)
    batch, generator = shapes.fixed(range(8)), torch.Generator().manual_seed(0)
    assert "critic" not in objective(batch, generator)
    objective.after_step(1)
    parts = objective(batch, generator)
    assert float(parts["critic"]) > 0
    parts["loss"].backward()
    assert all(weight.grad is not None for weight in objective.network.critic.parameters())
    objective.network.zero_grad()
    objective.steps.fill_(2 + CRITIC_LEARNS)
    drawn = Layers(*(layer.clone() for layer in (batch.pixels * 0.5, batch.opacity)))
    against, _ = objective._critic_losses(drawn, Layers(batch.pixels, batch.opacity), generator)
    assert not against.requires_grad  # nothing of the critic, and the pictures were given


def test_jepa_t_makes_the_last_tokens_of_an_order_again(shapes: CaptionedPictures) -> None:
    torch.manual_seed(0)
    network = awake(JepaT(replace(TINY_JEPA_T, num_tokens=4, channels=48, plan=(1,))))
    assert isinstance(network, JepaT)
    making = Regenerator(network, TextCache(TextEncoder.load()))
    tokens = torch.randn(32, 5, 48)
    captions = [f"square {index}" for index in range(32)]
    made = making.partly(tokens, captions, torch.Generator().manual_seed(0))
    assert made.shape == (32, 4, 48)
    kept = (made == tokens[:, :4]).all(dim=2)
    assert bool((kept | (made != tokens[:, :4]).all(dim=2)).all())  # a token is true or new as a whole
    assert set(kept.sum(dim=1).tolist()) == {2, 3, 4}  # more than a quarter is true
    again = making.partly(tokens, captions, torch.Generator().manual_seed(0))
    assert torch.equal(made, again)
    others = making.partly(tokens, captions[::-1], torch.Generator().manual_seed(0))
    assert torch.equal(kept, (others == tokens[:, :4]).all(dim=2))
    assert not torch.equal(made, others)  # the caption has a say


@pytest.mark.parametrize("backbone", ["bidirectional", "bidirectional_subset"])
def test_a_network_that_is_asked_for_some_tokens_makes_the_last_ones_again(backbone: str) -> None:
    network = JepaT(replace(TINY_JEPA_T, num_tokens=16, channels=48, backbone=backbone))
    making = Regenerator(network, TextCache(TextEncoder.load()))
    tokens = torch.randn(8, 16, 48)
    for seed in range(6):
        made = making.partly(tokens, ["square"] * 8, torch.Generator().manual_seed(seed))
        kept = (made == tokens).all(dim=2).sum(dim=1)
        assert made.shape == tokens.shape
        assert int(kept.min()) >= 4
        assert int(kept.max()) <= 16


def test_a_decoder_learns_from_tokens_that_were_made_again(shapes: CaptionedPictures) -> None:
    network = JepaT(replace(TINY_JEPA_T, num_tokens=4, channels=48))
    objective = objective_of(shapes, regenerated=1, critic=0, features=0, seams=0)
    objective.regenerator = Regenerator(network, TextCache(TextEncoder.load()))
    batch = shapes.fixed(range(8))
    assert not torch.equal(
        objective._tokens(batch, torch.Generator()), objective_of(shapes)._tokens(batch, torch.Generator())
    )
    losses = trained(objective, batch, 40)
    assert losses[-1]["loss"] < 0.9 * losses[0]["loss"]


def test_jepa_t_paints_again_what_it_knows_and_keeps_what_it_does_not(
    shapes: CaptionedPictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network = awake(JepaT(replace(TINY_JEPA_T, num_tokens=4, channels=48, plan=(1,))))
    assert isinstance(network, JepaT)
    making = Regenerator(network, TextCache(TextEncoder.load()))
    tokens, captions = torch.randn(8, 5, 48), [f"square {index}" for index in range(8)]

    def painted(most: float) -> torch.Tensor:
        monkeypatch.setattr(regenerator, "MOST_ERROR", most)
        return making.wholly(tokens, captions, torch.Generator().manual_seed(0))

    new = painted(float("inf"))
    assert new.shape == (8, 4, 48)
    assert bool((new != tokens[:, :4]).all())
    assert torch.equal(new, painted(float("inf")))
    assert torch.equal(painted(0), tokens[:, :4])
    errors = (new - tokens[:, :4]).square().mean(dim=(1, 2))
    kept = (painted(float(errors.median())) == tokens[:, :4]).flatten(1).all(dim=1)
    assert torch.equal(kept, errors > errors.median())
    tokens[:, 4] += 1  # the plan has a say
    assert not torch.equal(new, painted(float("inf")))


def test_a_decoder_learns_from_pictures_that_were_painted_again(
    shapes: CaptionedPictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regenerator, "MOST_ERROR", float("inf"))
    network = JepaT(replace(TINY_JEPA_T, num_tokens=4, channels=48))  # without a plan
    objective = objective_of(shapes, regenerated=0, repainted=1, critic=0, features=0, seams=0)
    objective.regenerator = Regenerator(network, TextCache(TextEncoder.load()))
    batch = shapes.fixed(range(8))
    losses = trained(objective, batch, 40)
    assert losses[-1]["loss"] < 0.9 * losses[0]["loss"]


def test_composites_on_random_colours_count_by_their_weight(shapes: CaptionedPictures) -> None:
    batch = shapes.fixed(range(8))
    parts = [
        objective_of(shapes, composites=weight, critic=0, token_noise=0)(batch, torch.Generator().manual_seed(0))
        for weight in (0, 1, 3)
    ]
    assert "composites" not in parts[0]
    assert float(parts[2]["composites"]) == pytest.approx(3 * float(parts[1]["composites"]))
    more = 2 * float(parts[1]["composites"])
    assert float((parts[2]["loss"] - parts[1]["loss"]).detach()) == pytest.approx(more, rel=1e-4)


def test_a_step_at_the_border_of_tiles_counts_more() -> None:
    truth = torch.zeros(1, 1, 8, 8)
    losses = []
    for column in (3, 4):  # inside a tile of four pixels, and at its border
        drawn = truth.clone()
        drawn[..., column:] = 1
        losses.append([float(_errors(drawn, truth, seams, tile=4)) for seams in (0, 5)])
    plain = 1 / 7  # seven differences along a row
    assert losses[0] == pytest.approx([5 / 8 + plain, 5 / 8 + plain])
    assert losses[1] == pytest.approx([4 / 8 + plain, 4 / 8 + 6 * plain])
    assert float(_errors(drawn.mT, truth, 5, tile=4)) == pytest.approx(losses[1][1])


def test_a_named_background_is_part_of_the_picture(shapes: CaptionedPictures) -> None:
    coloured = shapes.coloured(0, "blue")
    assert bool((coloured.opacity == 1).all())
    assert bool((shapes.coloured(0, "white").opacity == 1).all())
    assert bool((shapes.fixed([0]).opacity[0, 0, 0] == 0).all())


def test_opaque_iou_counts_pixels() -> None:
    drawn, truth = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    drawn[0, 0, 0], truth[0, 0, :, 0] = 1, 1
    assert opaque_iou(drawn, truth) == pytest.approx(1 / 3)
    assert opaque_iou(truth, truth) == 1


def test_a_tokenizer_takes_over_a_decoder_of_the_same_shape() -> None:
    first, second, other = tokenizer_of(), tokenizer_of(), tokenizer_of(replace(CONFIG, decoder_width=32))
    assert first.decoder is not None
    assert second.decoder is not None
    torch.nn.init.normal_(first.decoder.pixels_out.weight)
    second.take_over(first)
    other.take_over(first)
    assert torch.equal(second.decoder.pixels_out.weight, first.decoder.pixels_out.weight)
    assert other.decoder is not None
    assert not other.decoder.pixels_out.weight.any()


def test_the_trainer_trains_a_decoder(shapes: CaptionedPictures, tmp_path: Path) -> None:
    del shapes
    from training.recipes import make_recipe

    with pytest.raises(ValueError, match=r"network.decoder_width is 0"):
        make_recipe("decoder", ["network.decoder_width=0"])
    recipe = make_recipe("decoder", ["network.decoded_size=128"])
    assert recipe.image_size() == 128

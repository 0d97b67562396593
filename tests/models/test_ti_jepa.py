"""TI-JEPA: what its features may and may not depend on, and that its objective learns without collapsing."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from jepa_app.config import TIJepaConfig
from jepa_app.models.text import TextFeatures
from jepa_app.models.ti_jepa import SentenceSpace, TIJepa
from training.data.batches import Batch
from training.objectives.calibration import Anchors
from training.objectives.matching import effective_rank, first_of, jitter
from training.objectives.ti_jepa import TIJepaLoss, TIJepaObjective
from training.optimisation.muon import make_optimizers

TINY = TIJepaConfig(
    image_size=16,
    patch_size=4,
    text_width=24,
    text_components=8,
    width=32,
    num_heads=2,
    image_depth=1,
    text_depth=1,
    predictor_width=32,
    num_summary_queries=2,
    num_score_masks=2,
)
COLOURS = {"red": (1, -1, -1), "green": (-1, 1, -1), "blue": (-1, -1, 1), "black": (-1, -1, -1)}
SHAPES = {"disc": (0, 0), "bar": (0, 8), "dot": (8, 0), "leaf": (8, 8)}  # a corner each


class WordFeatures:
    """Stands where the text cache stands: one fixed random vector a word."""

    def features(self, captions: list[str]) -> TextFeatures:
        tokens = [torch.stack([_vector(word) for word in caption.split()]) for caption in captions]
        mask = nn.utils.rnn.pad_sequence([torch.ones(len(words), dtype=torch.bool) for words in tokens], True)
        return TextFeatures(nn.utils.rnn.pad_sequence(tokens, True), mask)


def _vector(word: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(int.from_bytes(word.encode()[:7]))
    return torch.randn(TINY.text_width, generator=generator)


def _pictures() -> Batch:
    """Sixteen pictures, every colour in every corner, in an order where neighbours share no word."""
    pixels, captions = [], []
    for shift in range(4):
        for place, (shape, (top, left)) in enumerate(SHAPES.items()):
            colour = list(COLOURS)[(place + shift) % 4]
            picture = torch.ones(3, 16, 16)
            picture[:, top : top + 8, left : left + 8] = torch.tensor(COLOURS[colour])[:, None, None]
            pixels.append(picture)
            captions.append(f"{colour} {shape}")
    return Batch(pixels=torch.stack(pixels), captions=captions, indices=torch.arange(16))


def _network(seed: int = 0) -> TIJepa:
    """A tiny network none of whose layers starts at zero, so that every input would show."""
    torch.manual_seed(seed)
    network = TIJepa(TINY).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network


def _objective(**settings: float) -> TIJepaObjective:
    torch.manual_seed(0)
    loss = replace(TIJepaLoss(asked=6, jitter=0.0, image_to_text_weight=1.0), **settings)
    captions = _pictures().captions
    files = tuple(f"{number}.png" for number in range(len(captions)))
    anchors = Anchors(heldout=_pictures(), files=files, kinds=tuple(caption.split()[1] for caption in captions))
    objective = TIJepaObjective(TIJepa(TINY), WordFeatures(), anchors, ema_decay=0.98, loss=loss)
    objective.fit_sentences(_pictures().captions)
    return objective


def test_hidden_pixels_are_removed_before_the_encoder() -> None:
    network, pixels, visible = _network(), torch.rand(2, 3, 16, 16), torch.tensor([0, 1, 6])
    changed = pixels.clone()
    changed[:, :, 4:] = 0.5  # all but the first row of patches
    changed[:, :, 4:8, 8:12] = pixels[:, :, 4:8, 8:12]  # but patch 6
    torch.testing.assert_close(network.image_encoder(pixels, visible), network.image_encoder(changed, visible))
    assert not torch.allclose(network.whole(pixels)[1][:, :2], network.whole(changed)[1][:, :2])


def test_picture_targets_are_normalised_token_by_token() -> None:
    network, pixels = _network(), torch.rand(3, 3, 16, 16)
    targets = network.image_targets(network.whole(pixels)[1])
    torch.testing.assert_close(targets.mean(dim=-1), torch.zeros(3, 16), atol=1e-5, rtol=0)
    torch.testing.assert_close(targets.var(dim=-1, correction=0), torch.ones(3, 16), atol=1e-3, rtol=0)
    alone = network.image_targets(network.whole(pixels[:1])[1])
    torch.testing.assert_close(alone, targets[:1], atol=1e-5, rtol=1e-5)


def test_padding_changes_no_prediction() -> None:
    network, text = _network(), WordFeatures().features(["red disc", "blue bar"])
    padded = TextFeatures(
        nn.functional.pad(text.tokens, (0, 0, 0, 3), value=7.0), nn.functional.pad(text.mask, (0, 3), value=False)
    )
    asked = torch.arange(16)
    predictions = [network.text_to_image(asked, network.caption_keys(words), None) for words in (text, padded)]
    torch.testing.assert_close(*predictions, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(network.sentence_space(text), network.sentence_space(padded))


def test_dropped_text_is_the_null_text() -> None:
    network, text = _network(), WordFeatures().features(["red disc", "blue bar"])
    dropped = network.drop_text(text, torch.tensor([True, False]))
    asked = torch.tensor([3, 5])
    predicted = network.text_to_image(asked, network.caption_keys(dropped), None)
    null = network.text_to_image(asked, network.caption_keys(network.null_features(1)), None)
    kept = network.text_to_image(asked, network.caption_keys(text), None)
    torch.testing.assert_close(predicted[:1], null, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(predicted[1:], kept[1:], atol=1e-5, rtol=1e-5)


def test_sentence_space_is_centred_and_uncorrelated() -> None:
    generator = torch.Generator().manual_seed(0)
    sentences = torch.randn(500, 24, generator=generator) @ torch.randn(24, 24, generator=generator) + 3
    space = SentenceSpace(24, 8)
    space.fit(sentences)
    components = space(TextFeatures(sentences[:, None], torch.ones(500, 1, dtype=torch.bool)))
    covariance = components.T @ components / 500
    torch.testing.assert_close(components.mean(dim=0), torch.zeros(8), atol=1e-4, rtol=0)
    assert covariance.diagonal().mean() == pytest.approx(1, abs=1e-3)
    assert (covariance - covariance.diagonal().diag()).abs().max() < 1e-3
    assert covariance.diagonal().tolist() == sorted(covariance.diagonal().tolist(), reverse=True)


def test_sentence_space_refuses_a_single_caption() -> None:
    with pytest.raises(ValueError, match="got 1 captions"):
        SentenceSpace(24, 8).fit(torch.ones(1, 24))


def test_gradients_reach_the_network_and_not_its_average() -> None:
    objective = _objective()
    for _ in range(2):  # the predictors' last layers start at zero and let nothing through at first
        losses = objective(_pictures(), torch.Generator().manual_seed(1))
        losses["loss"].backward()
        with torch.no_grad():
            for parameter in objective.network.parameters():
                if parameter.grad is not None:
                    parameter -= 0.01 * parameter.grad
    without = [name for name, parameter in objective.network.named_parameters() if parameter.grad is None]
    assert without == []
    assert all(parameter.grad is None for parameter in objective.ema.parameters())
    expected = (losses["text_to_image"] + losses["text_to_hidden"]) / 2
    expected += (10 * losses["image_to_text"] + 6 * losses["whole_to_text"]) / 16  # 0.4 of 16 are seen whole
    assert float(losses["loss"].detach()) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize(("share", "absent"), [(0.0, {"whole_to_text"}), (1.0, {"text_to_hidden", "image_to_text"})])
def test_all_pictures_may_be_whole_or_none(share: float, absent: set[str]) -> None:
    losses = _objective(whole_share=share)(_pictures(), torch.Generator().manual_seed(1))
    assert {"text_to_image", "text_to_hidden", "image_to_text", "whole_to_text"} - set(losses) == absent
    assert torch.isfinite(losses["loss"])


def test_targets_follow_the_average_or_the_network_as_asked() -> None:
    losses: dict[tuple[bool, float], float] = {}
    for averaged in (True, False):
        for strength in (1.0, 3.0):
            objective = _objective(averaged_targets=averaged)
            objective.network = _network()
            with torch.no_grad():
                objective.network.image_encoder.position.mul_(strength)  # the average knows nothing of it
            loss = objective(_pictures(), torch.Generator().manual_seed(1))
            losses[averaged, strength] = float(loss["text_to_image"])  # from the caption alone
    assert losses[True, 1.0] == losses[True, 3.0]
    assert losses[False, 1.0] != losses[False, 3.0]


@pytest.mark.parametrize(
    "settings", [{"whole_share": 1.5}, {"text_drop": -0.1}, {"asked": 0}, {"asked_hidden": 0}, {"jitter": 2.0}]
)
def test_impossible_losses_are_refused(settings: dict) -> None:
    with pytest.raises(ValueError, match=f"loss.{next(iter(settings))} is"):
        TIJepaLoss(**settings)


def test_one_generator_state_gives_one_loss() -> None:
    objective = _objective(jitter=0.1)
    objective.network = _network()  # a fresh one predicts zero whatever is drawn
    first, again, other = (
        float(objective(_pictures(), torch.Generator().manual_seed(seed))["loss"].detach()) for seed in (3, 3, 4)
    )
    assert first == again != other


@pytest.mark.slow
def test_learns_to_rank_captions_in_every_term_and_does_not_collapse() -> None:
    objective = _objective()
    optimizers = make_optimizers(objective.network, matrix_lr=1e-2, other_lr=1e-2, weight_decay=0.0)
    generator = torch.Generator()
    fresh = objective.validate(_pictures(), generator)
    for step in range(70):
        generator.manual_seed(step)
        objective(_pictures(), generator)["loss"].backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        objective.after_step(step)
    figures = objective.validate(_pictures(), generator)
    for term in ("text_to_image", "text_to_hidden", "image_to_text"):
        assert fresh[f"first_of_10_{term}"] < 0.5, term
        assert figures[f"first_of_10_{term}"] > 0.7, term  # one in ten by chance
        assert figures[f"gain_{term}"] < -0.2, term
    assert figures["image_rank"] > fresh["image_rank"]
    assert figures["image_std"] > 0.5 * fresh["image_std"]
    assert figures["sentence_rank"] > 4


def test_jitter_moves_the_picture_and_keeps_its_background() -> None:
    pixels = torch.ones(4, 3, 16, 16)
    pixels[:, :, 6:10, 6:10] = -1
    moved = jitter(pixels, 0.2, torch.Generator().manual_seed(0))
    assert not torch.allclose(moved, pixels)
    assert moved.abs().max() <= 1
    torch.testing.assert_close(moved[:, :, 0], torch.ones(4, 3, 16))
    assert moved.amin(dim=(1, 2, 3)).max() < 0  # the square is still there
    torch.testing.assert_close(jitter(pixels, 0.0, torch.Generator()), pixels)


def test_effective_rank_counts_directions() -> None:
    line = torch.arange(10.0)[:, None] * torch.ones(10, 4)
    assert effective_rank(line) == pytest.approx(1, abs=1e-3)
    assert effective_rank(torch.cat([torch.eye(4), -torch.eye(4)])) == pytest.approx(4, abs=1e-3)


def test_first_of_counts_rows_won_against_the_next_columns() -> None:
    energy = torch.tensor([[0.0, 1, 2], [0, 1, 2], [0, 1, 2]])
    assert first_of(energy, 2) == pytest.approx(2 / 3)  # row 2 meets column 0 and loses; row 1 meets column 2
    assert first_of(energy, 3) == pytest.approx(1 / 3)
    assert first_of(torch.zeros(3, 3), 10) == 0  # ties are lost


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patch_size": 5}, "not a multiple"),
        ({"predictor_width": 30}, "predictor_width 30"),
        ({"text_components": 25}, "text_components is 25"),
        ({"num_score_masks": 0}, "num_score_masks is 0"),
        ({"energy_weights": (1.0, -1.0, 1.0)}, "energy_weights"),
    ],
)
def test_impossible_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(TINY, **settings)

"""The contrastive peers: their losses against a second writing, what they see, and that they save and load whole."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from jepa_app.config import TIJepaConfig
from jepa_app.matching.foils import DIFFERENCES, foils
from jepa_app.models.text import TextEncoder, TextFeatures
from training.data.batches import Batch
from training.judging.weights import load_matchers
from training.objectives.calibration import Anchors
from training.objectives.text_cache import TextCache
from training.optimisation.muon import make_optimizers
from training.peers.dual_encoder import DualEncoder, PeerConfig, PeerScorer
from training.peers.dual_encoder_objective import PeerObjective, sigmoid_loss, softmax_loss

TINY = PeerConfig(
    image_size=16,
    patch_size=4,
    text_components=8,
    width=32,
    num_heads=2,
    image_depth=1,
    text_depth=1,
    predictor_width=32,
    predictor_depth=1,
    num_summary_queries=2,
)
COLOURS = {"red": (1, -1, -1), "green": (-1, 1, -1), "blue": (-1, -1, 1), "black": (-1, -1, -1), "white": (1, 1, 1)}


def _pictures() -> Batch:
    pixels = torch.stack([torch.tensor(colour)[:, None, None].expand(3, 16, 16) for colour in COLOURS.values()])
    return Batch(pixels=pixels.float(), captions=[f"{name} square" for name in COLOURS], indices=torch.arange(5))


def _objective(loss: str, *, foils: bool = False) -> PeerObjective:
    torch.manual_seed(0)
    network = DualEncoder(PeerConfig(**{**TINY.to_dict(), "loss": loss, "foils": foils}))
    anchors = Anchors(heldout=_pictures(), files=tuple("abcde"), kinds=("square",) * 5)
    return PeerObjective(network, TextCache(TextEncoder.load()), anchors, ema_decay=0.9, shift=0.0)


def test_losses_equal_their_definitions() -> None:
    logits = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    rows, columns = logits.softmax(dim=1), logits.softmax(dim=0)
    expected = -sum(rows[i, i].log() + columns[i, i].log() for i in range(4)) / 8
    torch.testing.assert_close(softmax_loss(logits), expected)
    pairs = [torch.sigmoid(logits[i, j] if i == j else -logits[i, j]).log() for i in range(4) for j in range(4)]
    torch.testing.assert_close(sigmoid_loss(logits), -sum(pairs) / 4)


@pytest.mark.parametrize("foils", [False, True], ids=["cosine", "foils"])
@pytest.mark.parametrize("loss", ["softmax", "sigmoid"])
def test_a_peer_learns_saves_and_is_found_by_the_evaluation(loss: str, foils: bool, tmp_path: Path) -> None:
    objective = _objective(loss, foils=foils)
    optimizers = make_optimizers(objective.network, matrix_lr=1e-2, other_lr=1e-2, weight_decay=0.0)
    first = None
    for step in range(30):
        value = objective(_pictures(), torch.Generator().manual_seed(step))["loss"]
        first = float(value.detach()) if first is None else first
        value.backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        objective.after_step(step)
    assert float(value.detach()) < 0.5 * first
    assert objective.validate(_pictures(), torch.Generator())["first_of_10"] == 1
    objective.save(tmp_path)
    (scorer,) = load_matchers(tmp_path, "cpu")
    assert isinstance(scorer, PeerScorer)
    scores = scorer.score(_pictures().pixels, _pictures().captions)
    assert scores.energy.argmin(dim=1).tolist() == [0, 1, 2, 3, 4]
    assert scores.probability.diagonal().mean() > 0.8 > 0.2 > scores.probability[~torch.eye(5, dtype=torch.bool)].mean()
    alone = scorer.score(_pictures().pixels[2:3], _pictures().captions[3:4])
    torch.testing.assert_close(alone.energy[0, 0], scores.energy[2, 3], atol=1e-5, rtol=1e-4)


def test_a_peer_compares_captions_with_their_foils() -> None:
    scorer = PeerScorer(_objective("softmax", foils=True).network, TextEncoder.load())
    pixels, captions = _pictures().pixels, ["two red squares", "a square", "a square above a red cat"]
    terms = scorer.terms(pixels, captions)
    assert terms.shape == (5, 3, 4)
    scorer.network.config = replace(scorer.network.config, foils=False)
    torch.testing.assert_close(terms[..., 0], scorer.score(pixels, captions).energy, atol=1e-6, rtol=1e-5)
    for column, caption in enumerate(captions):
        for number, difference in enumerate(DIFFERENCES):
            others = [foil.caption for foil in foils(caption) if foil.difference == difference]
            expected = torch.zeros(5)
            if others:
                expected = terms[:, column, 0] - scorer.score(pixels, others).energy.amin(dim=1)
            torch.testing.assert_close(terms[:, column, 1 + number], expected, atol=1e-6, rtol=1e-5)


def test_padding_changes_no_caption() -> None:
    network = _objective("softmax").network
    text = TextEncoder.load().encode(["red square", "a much longer caption of a blue square"])
    alone = network.captions(TextFeatures(text.tokens[:1, :4], text.mask[:1, :4]))
    torch.testing.assert_close(network.captions(text)[:1], alone, atol=1e-5, rtol=1e-4)


def test_an_unknown_loss_is_refused() -> None:
    with pytest.raises(ValueError, match="loss is 'triplet'"):
        PeerConfig(**{**TIJepaConfig().to_dict(), "loss": "triplet"})

"""Straightening the flow of a tiny trained denoiser: few steps reach what many did."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from jepa_app.checkpoint import load_config, load_state
from jepa_app.config import JepaTConfig
from jepa_app.generation.flow import FlowMatching
from jepa_app.models.jepa_t import JepaT
from jepa_app.models.text import TextEncoder
from jepa_app.models.tokenizers.tokenizer import make_tokenizer
from tests.conftest import TINY_JEPA_T, TINY_TOKENIZER, awake
from training.data.batches import Batch
from training.objectives.rectify import RectifyLoss, RectifyObjective
from training.objectives.text_cache import TextCache
from training.optimisation.muon import make_optimizers


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def batch() -> Batch:
    pixels = torch.rand(6, 3, 32, 32, generator=seeded()) * 2 - 1
    return Batch(
        pixels=pixels, captions=["red apple", "blue heart", "cat", "rose", "sun", "house"], indices=torch.arange(6)
    )


def objective_of(text_encoder: TextEncoder, config: JepaTConfig = TINY_JEPA_T) -> RectifyObjective:
    torch.manual_seed(0)
    tokenizer = make_tokenizer(TINY_TOKENIZER)
    tokenizer.fit([torch.rand(64, 3, 32, 32) * 2 - 1])
    network = awake(JepaT(config))
    return RectifyObjective(network, tokenizer, TextCache(text_encoder), ema_decay=0.8, loss=RectifyLoss())


def test_a_straightened_flow_needs_fewer_steps(text_encoder: TextEncoder, batch: Batch) -> None:
    objective = objective_of(text_encoder)
    before = objective.validate(batch, seeded(9))
    assert before["teacher_distance@1"] > before["teacher_distance@4"] > 0
    assert before["rectified_distance@1"] == before["teacher_distance@1"]
    optimizers = make_optimizers(objective.network, matrix_lr=5e-3, other_lr=5e-3, weight_decay=0)
    for step in range(60):
        objective(batch, seeded(step))["loss"].backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        objective.after_step(step)
    after = objective.validate(batch, seeded(9))
    for steps in (1, 2):
        assert after[f"rectified_distance@{steps}"] < 0.7 * after[f"teacher_distance@{steps}"]
        assert after[f"teacher_distance@{steps}"] == before[f"teacher_distance@{steps}"]


def test_only_the_denoiser_changes_and_the_whole_network_is_saved(
    text_encoder: TextEncoder, batch: Batch, tmp_path: Path
) -> None:
    objective = objective_of(text_encoder)
    objective(batch, seeded())["loss"].backward()
    assert all(parameter.grad is None for parameter in objective.teacher.parameters())
    with torch.no_grad():
        for parameter in objective.ema.network.parameters():
            parameter.add_(0.5)
    objective.save(tmp_path / "jepa-t")
    saved = JepaT(load_config(tmp_path / "jepa-t", JepaTConfig))
    load_state(tmp_path / "jepa-t", saved)
    for name, value in saved.state_dict().items():
        expected = objective.teacher.state_dict()[name] + (0.5 if name.startswith("d_jepa.denoiser") else 0)
        assert torch.allclose(value, expected, atol=2e-3), name


def test_a_diffusion_cannot_be_straightened(text_encoder: TextEncoder) -> None:
    with pytest.raises(ValueError, match="denoising is 'diffusion'; allowed: flow"):
        objective_of(text_encoder, replace(TINY_JEPA_T, denoising="diffusion"))


@pytest.mark.parametrize(
    ("values", "message"),
    [({"teacher_steps": 0}, "teacher_steps is 0"), ({"at_noise": 1.5}, "at_noise is 1.5"), ({"text_drop": -1}, "drop")],
)
def test_losses_that_make_no_sense_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RectifyLoss(**values)


def test_the_loss_takes_the_given_noise_and_time_zero() -> None:
    clean, noise = torch.full((4, 1), 3.0), torch.full((4, 1), -1.0)
    seen: list[torch.Tensor] = []

    def network(x: torch.Tensor, time: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        seen.extend([x, time])
        return clean + condition

    at_noise = torch.tensor([True, True, False, False])
    loss = FlowMatching().loss(network, torch.ones(4, 1), clean, seeded(), noise=noise, at_noise=at_noise)
    x, time = seen
    assert time[:2].tolist() == [0, 0]
    assert bool((time[2:] > 0).all())
    assert torch.allclose(x, time[:, None] * clean + (1 - time[:, None]) * noise)
    assert torch.allclose(loss[:2], torch.ones(2))

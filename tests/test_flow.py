"""Denoising processes against closed forms, with networks that are known to be optimal."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from jepa_app.flow import Denoising, FlowMatching, GaussianDiffusion, Guidance, guided, make_denoising

MEAN, STD = 1.5, 0.4
TOKENS = 4000
CONDITION = torch.zeros(TOKENS, 1)


def drawing(seed: int = 0, tokens: int = TOKENS) -> Callable[[], Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(tokens, 1, generator=generator)


def best_flow(x: Tensor, time: Tensor, condition: Tensor) -> Tensor:
    """Posterior mean of x_1 given x_t = t x_1 + (1 - t) noise, for x_1 ~ N(MEAN, STD^2)."""
    t = time[:, None]
    return MEAN + t * STD**2 / (t**2 * STD**2 + (1 - t) ** 2) * (x - t * MEAN)


def best_diffusion(x: Tensor, time: Tensor, condition: Tensor) -> Tensor:
    """Posterior mean of the noise given x_t = sqrt(s) x + sqrt(1 - s) noise, for x ~ N(MEAN, STD^2)."""
    signal = GaussianDiffusion().signal(time)[:, None]
    return (1 - signal).sqrt() / (signal * STD**2 + 1 - signal) * (x - signal.sqrt() * MEAN)


PROCESSES = [
    pytest.param(FlowMatching(), best_flow, id="flow"),
    pytest.param(GaussianDiffusion(), best_diffusion, id="diffusion"),
]


@pytest.mark.parametrize("num_steps", [1, 3, 20])
def test_euler_reaches_the_point_that_the_network_names(num_steps: int) -> None:
    clean = torch.randn(5, 3)
    noise = torch.randn(5, 3)
    out = FlowMatching().sample(lambda *_: clean, torch.zeros(5, 1), lambda: noise, num_steps=num_steps)
    assert torch.allclose(out, clean, atol=1e-6)


def test_euler_converges_to_the_flow_of_a_gaussian() -> None:
    # the exact flow of straight paths from N(0, 1) to N(m, s^2) keeps quantiles: x_1 = m + s x_0
    noise = drawing()()
    exact = MEAN + STD * noise
    errors = []
    for num_steps in (50, 100, 200):
        out = FlowMatching().sample(best_flow, CONDITION, lambda: noise, num_steps=num_steps)
        errors.append(float((out - exact).abs().mean()))
    assert errors[-1] < 0.01
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.2)  # Euler's error is of first order
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.2)


def test_diffusion_recovers_a_gaussian() -> None:
    out = GaussianDiffusion().sample(best_diffusion, CONDITION, drawing(), num_steps=100)
    assert float(out.mean()) == pytest.approx(MEAN, abs=0.03)
    assert float(out.std()) == pytest.approx(STD, rel=0.1)


def test_the_signal_falls_from_one_to_noise() -> None:
    signal = GaussianDiffusion().signal(torch.linspace(0, 1, 101))
    assert float(signal[0]) == 1
    assert bool((signal.diff() <= 0).all())
    assert float(signal[-1]) == pytest.approx(1e-3)


@pytest.mark.parametrize(("process", "best"), PROCESSES)
def test_the_loss_is_least_for_the_best_network(process: Denoising, best: Callable) -> None:
    clean = MEAN + STD * torch.randn(TOKENS, 1, generator=torch.Generator().manual_seed(5))

    def loss(network: Callable) -> float:
        return float(process.loss(network, CONDITION, clean, torch.Generator().manual_seed(0)).mean())

    least = loss(best)
    for shift in (-0.2, 0.2):
        assert least < loss(lambda x, t, z, shift=shift: best(x, t, z) + shift)
    for scale in (0.9, 1.1):
        assert least < loss(lambda x, t, z, scale=scale: best(x, t, z) * scale)


def test_the_flow_loss_is_the_error_of_the_velocity() -> None:
    clean = torch.full((TOKENS, 1), 2.0)
    seen = {}

    def network(x: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        seen["time"] = time
        return clean + 0.5

    loss = FlowMatching().loss(network, CONDITION, clean, torch.Generator().manual_seed(0))
    assert torch.allclose(loss, (0.5 / (1 - seen["time"]).clamp(min=0.05)) ** 2)
    normal = torch.logit(seen["time"])
    assert float(normal.mean()) == pytest.approx(-0.4, abs=0.05)
    assert float(normal.std()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("process", "best"), PROCESSES)
def test_guidance_of_one_changes_nothing(process: Denoising, best: Callable) -> None:
    def network(x: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        return best(x, time, condition) + condition

    plain = process.sample(network, CONDITION, drawing(), num_steps=5)
    null = Guidance(null_condition=CONDITION + 7, scale=1.0)
    assert torch.allclose(process.sample(network, CONDITION, drawing(), num_steps=5, guidance=null), plain, atol=1e-5)
    away = Guidance(null_condition=CONDITION + 7, scale=2.0)
    assert not torch.allclose(process.sample(network, CONDITION, drawing(), num_steps=5, guidance=away), plain)


@pytest.mark.parametrize(("scale", "expected"), [(0.0, 7.0), (1.0, 3.0), (2.5, -3.0)])
def test_the_guidance_formula(scale: float, expected: float) -> None:
    guidance = Guidance(null_condition=torch.full((2, 1), 7.0), scale=scale)
    out = guided(lambda *arguments: arguments[2], torch.zeros(2, 1), torch.zeros(2), torch.full((2, 1), 3.0), guidance)
    assert out.tolist() == [[expected], [expected]]


@pytest.mark.parametrize(("process", "best"), PROCESSES)
def test_temperature_scales_the_spread(process: Denoising, best: Callable) -> None:
    cold, cool, warm = (
        float(process.sample(best, CONDITION, drawing(), num_steps=50, temperature=temperature).std())
        for temperature in (0.0, 0.5, 1.0)
    )
    assert cold < cool < warm


def test_a_flow_of_temperature_zero_ignores_the_noise() -> None:
    first, second = (
        FlowMatching().sample(best_flow, CONDITION, drawing(seed), num_steps=10, temperature=0.0) for seed in (1, 2)
    )
    assert torch.equal(first, second)


def test_unknown_processes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'euler'; allowed: .*diffusion.*flow"):
        make_denoising("euler")

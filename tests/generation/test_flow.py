"""Denoising processes against closed forms, with networks that are known to be optimal."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from jepa_app.generation.flow import (
    STEERED_ROWS,
    Denoising,
    FlowMatching,
    GaussianDiffusion,
    Guidance,
    Predict,
    Solver,
    conditioned,
    make_denoising,
)
from jepa_app.models.denoiser import Denoiser
from tests.conftest import awake

MEAN, STD = 1.5, 0.4
TOKENS = 4000
CONDITION = torch.zeros(TOKENS, 1)


def at_times(process: Denoising, num_steps: int, network: Callable) -> Predict:
    """The network (x, time, condition) as a solver asks for it."""
    times = process.times(num_steps)
    assert len(times) == num_steps
    return lambda x, index: network(x, torch.full((len(x),), times[index]), CONDITION)


def solve(
    process: Denoising, network: Callable, draw: Callable[[], Tensor], num_steps: int, temperature: float = 1.0
) -> Tensor:
    predict = at_times(process, num_steps, network)
    return process.sample(predict, draw(), num_steps=num_steps, temperature=temperature, draw=draw)


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


SOLVERS: dict[Solver, tuple[int, int]] = {"euler": (1, 1), "midpoint": (2, 2), "heun": (2, 2), "multistep": (1, 2)}
EVALUATIONS = {"euler": 12, "midpoint": 12, "heun": 11, "multistep": 12}  # of the network, allowed for the solver


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("shift", [0.5, 1.0, 3.0])
def test_solvers_reach_the_point_that_the_network_names(solver: Solver, shift: float) -> None:
    clean, noise = torch.randn(5, 3), torch.randn(5, 3)
    process = FlowMatching(solver=solver, shift=shift)
    out = solve(process, lambda *_: clean, lambda: noise, EVALUATIONS[solver])
    assert torch.allclose(out, clean, atol=1e-5)


@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers_have_their_order(solver: Solver) -> None:
    # the exact flow of straight paths from N(0, 1) to N(m, s^2) keeps quantiles: x_1 = m + s x_0
    noise = drawing()()
    exact, errors = MEAN + STD * noise, []
    intervals = (20, 40, 80)
    for number in intervals:
        evaluations = {"midpoint": 2 * number, "heun": 2 * number - 1}.get(solver, number)
        out = solve(FlowMatching(solver=solver, shift=1.0), best_flow, lambda: noise, evaluations)
        errors.append(float((out - exact).abs().mean()))
    order = SOLVERS[solver][1]
    assert math.log2(errors[1] / errors[2]) > order - 0.35
    if order == 1:  # and the lower bound would tell a method of higher order
        assert math.log2(errors[1] / errors[2]) < 1.35
    assert errors[-1] < 0.02 / order**3


def test_a_shift_moves_the_times_towards_the_noise() -> None:
    even, shifted = FlowMatching(solver="euler", shift=1.0).times(4), FlowMatching(solver="euler", shift=3.0).times(4)
    assert even == [0.0, 0.25, 0.5, 0.75]
    assert shifted == pytest.approx([0.0, 0.1, 0.25, 0.5])


@pytest.mark.parametrize(("solver", "num_steps"), [("midpoint", 5), ("heun", 4)])
def test_evaluations_that_a_solver_cannot_use_are_refused(solver: Solver, num_steps: int) -> None:
    with pytest.raises(ValueError, match=f"denoising_steps is {num_steps}; allowed with {solver}: an"):
        FlowMatching(solver=solver).times(num_steps)


def test_diffusion_recovers_a_gaussian() -> None:
    out = solve(GaussianDiffusion(), best_diffusion, drawing(), 100)
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


class Echo:
    """A network that answers with its embedded condition plus its embedded time, whatever the token."""

    def condition_in(self, condition: Tensor) -> Tensor:
        return condition

    def steer(self, embedded: Tensor) -> list[tuple[Tensor, ...]]:
        return [(embedded,)]

    def denoise(self, x: Tensor, steering: list[tuple[Tensor, ...]]) -> Tensor:
        return steering[0][0] + 0 * x


@pytest.mark.parametrize(("scale", "expected"), [(0.0, 7.0), (1.0, 3.0), (2.5, -3.0)])
def test_the_guidance_formula(scale: float, expected: float) -> None:
    guidance = Guidance(null_condition=torch.full((2, 1), 7.0), scale=torch.full((2, 1), scale))
    predict = conditioned(Echo(), torch.zeros(3, 1), torch.full((2, 1), 3.0), guidance)
    assert predict(torch.zeros(2, 1), 2).tolist() == [[expected], [expected]]


def test_each_token_has_its_own_guidance_and_some_have_none() -> None:
    guidance = Guidance(null_condition=torch.tensor([[7.0], [8.0]]), scale=torch.tensor([[2.0], [0.0]]))
    predict = conditioned(Echo(), torch.zeros(1, 1), torch.tensor([[3.0], [4.0], [5.0]]), guidance)
    assert predict(torch.zeros(3, 1), 0).tolist() == [[-1.0], [8.0], [5.0]]


@pytest.mark.parametrize("tokens", [5, STEERED_ROWS // 2, STEERED_ROWS + 1])
def test_steering_of_many_times_at_once_equals_each_time_alone(tokens: int) -> None:
    torch.manual_seed(0)
    denoiser = awake(Denoiser(channels=3, condition_width=4, width=8, depth=2))
    condition, x, times = torch.randn(tokens, 4), torch.randn(tokens, 3), torch.tensor([0.1, 0.5, 0.9])
    predict = conditioned(denoiser, denoiser.embed_times(times), condition)
    for index in (0, 1, 2, 1):
        expected = denoiser(x, times[index].expand(tokens), condition)
        assert torch.allclose(predict(x, index), expected, atol=1e-5)


@pytest.mark.parametrize(("process", "best"), PROCESSES)
def test_temperature_scales_the_spread(process: Denoising, best: Callable) -> None:
    cold, cool, warm = (float(solve(process, best, drawing(), 50, t).std()) for t in (0.0, 0.5, 1.0))
    assert cold < cool < warm


def test_a_flow_of_temperature_zero_ignores_the_noise() -> None:
    first, second = (solve(FlowMatching(), best_flow, drawing(seed), 10, 0.0) for seed in (1, 2))
    assert torch.equal(first, second)


def test_unknown_processes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'euler'; allowed: .*diffusion.*flow"):
        make_denoising("euler")


def test_a_denominator_of_one_makes_the_error_that_of_the_clean_token() -> None:
    clean = torch.randn(50, 3, generator=torch.Generator().manual_seed(1))

    def network(x: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        return clean + 2

    seeded = torch.Generator().manual_seed(0)
    loss = FlowMatching(min_denominator=1.0).loss(network, torch.zeros(50, 1), clean, seeded)
    assert torch.allclose(loss, torch.full((50,), 4.0))


def test_times_are_uniform_within_a_hundredth_at_the_right_spread() -> None:
    share = torch.linspace(0.001, 0.999, 999, dtype=torch.float64)
    below = torch.special.ndtr(torch.logit(share) / 1.702)  # P(sigmoid(1.702 normal) < share)
    assert float((below - share).abs().max()) < 0.01

"""Training: optimizers, moving averages, losses that fall, exact resume, and the command line."""

import itertools
import json
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from jepa_app.checkpoint import load_config, load_network, load_state, save_network, sha256, verify_manifest
from jepa_app.config import JepaTConfig, TIJepaConfig, TokenizerConfig
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.models.jepa_t import JepaT
from jepa_app.models.text import TextEncoder, TextFeatures, _loaded
from jepa_app.models.tokenizers.tokenizer import LinearTokenizer, make_tokenizer
from tests.conftest import TINY_JEPA_T, TINY_TI_JEPA, TINY_TOKENIZER, awake
from tests.support.limits import largest_file
from training.bundle import main as bundle
from training.data.ahead import ahead
from training.data.batches import Batch, CaptionedPictures
from training.drawings.rendering import Drawing, render, svg_document
from training.loop import TrainStep, train
from training.objectives.asking import ask, ask_all_blocks, ask_masked
from training.objectives.jepa_t import JepaTLoss, JepaTObjective
from training.objectives.text_cache import TextCache
from training.objectives.tokenizer import load_tokenizer, signal_to_noise
from training.optimisation.compiling import compile_blocks
from training.optimisation.ema import Ema
from training.optimisation.muon import COEFFICIENTS, Muon, make_optimizers, orthogonalise
from training.optimisation.schedule import Schedule
from training.peers.dual_encoder import PeerConfig
from training.recipe_kinds.generators import JepaTRecipe
from training.recipe_kinds.matchers import PeerRecipe, TIJepaRecipe
from training.recipe_kinds.tokenizers import TokenizerRecipe
from training.recipes import RECIPES, Recipe, make_recipe
from training.train import main

EMOJI = Path(__file__).parents[1] / "fixtures" / "emoji"
STYLES = ("noto", "twemoji", "fxemoji")
SCHEDULE = Schedule(steps=6, batch_size=4, warmup=2, validate_steps=6, validate_pictures=4)


@pytest.fixture(scope="module")
def drawings() -> list[tuple[str, Image.Image]]:
    """Real emoji and their captions."""
    found = []
    for style in STYLES:
        icons = json.loads((EMOJI / style / "icons.json").read_text())
        for name, icon in icons["icons"].items():
            width, height = (icon.get(side) or icons.get(side, 16) for side in ("width", "height"))
            document = svg_document(icon["body"], 0, 0, width, height)
            picture = render(Drawing(data=document, is_svg=True), 32)
            found.append((f"{name.replace('-', ' ')}, {style} style", picture))
    return found


@pytest.fixture(scope="module")
def folder(drawings: list[tuple[str, Image.Image]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real emoji as a Hugging Face imagefolder."""
    out = tmp_path_factory.mktemp("pictures")
    with (out / "metadata.jsonl").open("w") as lines:
        for index, (caption, picture) in enumerate(drawings):
            picture.save(out / f"{index}.png")
            lines.write(json.dumps({"file_name": f"{index}.png", "text": caption}) + "\n")
    return out


@pytest.fixture(scope="module", autouse=True)
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what data loading caches out of the home folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def data(folder: Path) -> CaptionedPictures:
    return CaptionedPictures.load(folder, 32)


@pytest.fixture(scope="module")
def tokenizer(data: CaptionedPictures) -> LinearTokenizer:
    tokenizer = make_tokenizer(TINY_TOKENIZER)
    tokenizer.fit([data.fixed(data.split.train).pixels])
    assert isinstance(tokenizer, LinearTokenizer)
    return tokenizer


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# --- optimizers


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 6, 10), (2, 6, 20), (2, 20, 6)], ids=str)
def test_orthogonalise_keeps_directions_and_levels_strengths(shape: tuple[int, ...]) -> None:
    matrices = torch.randn(shape, generator=seeded(), dtype=torch.float64)
    out = orthogonalise(matrices, torch.float64)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    inside = left.mT @ out @ right.mT  # diagonal if the singular vectors are kept
    diagonal = inside.diagonal(dim1=1, dim2=2)
    assert torch.allclose(inside, torch.diag_embed(diagonal), atol=1e-10)
    assert diagonal.min() > 0.3
    assert diagonal.max() < 1.3


def test_wide_matrices_are_levelled_by_the_same_iterations() -> None:
    wide = torch.randn(3, 8, 40, generator=seeded()) * torch.logspace(0, -4, 40)
    expected = orthogonalise(wide.double(), torch.float64)
    assert torch.allclose(orthogonalise(wide, torch.float32).double(), expected, atol=1e-4)
    a, b, c = COEFFICIENTS
    x = wide.double() / wide.double().norm(dim=(1, 2), keepdim=True)
    for _ in range(5):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    assert torch.allclose(expected, x, atol=1e-9)


def test_muon_steps_like_torch_s() -> None:
    start = {"square": torch.randn(16, 16), "wide": torch.randn(8, 24), "tall": torch.randn(24, 8)}
    gradients = [{name: torch.randn_like(matrix) for name, matrix in start.items()} for _ in range(4)]
    results = []
    for kind in (Muon, torch.optim.Muon):
        matrices = {name: nn.Parameter(matrix.clone()) for name, matrix in start.items()}
        options = {} if kind is Muon else {"adjust_lr_fn": "match_rms_adamw"}
        optimizer = kind(matrices.values(), lr=0.1, weight_decay=0.1, momentum=0.95, **options)
        for step in gradients:
            for name, matrix in matrices.items():
                matrix.grad = step[name].clone()
            optimizer.step()
        results.append(matrices)
    for name, matrix in start.items():
        ours, theirs = (result[name].detach() - matrix for result in results)
        assert float((ours - theirs).norm() / theirs.norm()) < 0.03  # theirs works in bfloat16


def test_matrices_go_to_muon_and_the_rest_to_adamw() -> None:
    network = JepaT(TINY_JEPA_T)
    muon, adam = make_optimizers(network, matrix_lr=1e-3, other_lr=2e-3, weight_decay=0.1)
    assert isinstance(muon, Muon)
    parts = [{id(p) for group in optimizer.param_groups for p in group["params"]} for optimizer in (muon, adam)]
    assert parts[0] == {id(layer.weight) for layer in network.modules() if isinstance(layer, nn.Linear)}
    assert parts[0] | parts[1] == {id(parameter) for parameter in network.parameters()}
    assert not parts[0] & parts[1]


def test_without_muon_adamw_trains_the_matrices_at_their_own_rate() -> None:
    network = JepaT(TINY_JEPA_T)
    first, second = make_optimizers(network, matrix_lr=1e-3, other_lr=2e-3, weight_decay=0.1, muon=False)
    assert type(first) is type(second) is torch.optim.AdamW
    rates = [[group[key] for key in ("lr", "weight_decay")] for one in (first, second) for group in one.param_groups]
    assert rates == [[1e-3, 0.1], [2e-3, 0.0]]
    with_muon = make_optimizers(network, matrix_lr=1e-3, other_lr=2e-3, weight_decay=0.1)
    assert [len(one.param_groups[0]["params"]) for one in (first, second)] == [
        len(one.param_groups[0]["params"]) for one in with_muon
    ]


def test_a_network_without_parameters_cannot_be_trained() -> None:
    with pytest.raises(ValueError, match=r"nothing to train; set schedule.steps=0"):
        make_optimizers(nn.Identity(), matrix_lr=1, other_lr=1, weight_decay=0)


def test_the_moving_average() -> None:
    network = nn.Linear(2, 2, bias=False)
    ema = Ema(network, decay=0.9)
    expected = network.weight.detach().clone()
    for step in range(120):
        with torch.no_grad():
            network.weight.add_(0.1)
        ema.update(network, step)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * network.weight.detach()
        assert torch.allclose(ema.network.weight, expected, atol=1e-5)
    assert (ema.decay_at(0), ema.decay_at(119)) == (0.1, 0.9)
    assert not ema.train().network.training
    assert not any(parameter.requires_grad for parameter in ema.parameters())
    with pytest.raises(ValueError, match=r"ema_decay is 1.0; allowed: 0 to below 1"):
        Ema(network, decay=1.0)


def test_the_learning_rate_rises_holds_and_falls() -> None:
    schedule = Schedule(steps=1000, warmup=100, decay=0.3)
    rates = [schedule.rate_at(step, schedule.progress_at(step, seconds=9e9)) for step in range(1000)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[49] == pytest.approx(0.5)
    assert rates[99:701] == [1.0] * 602
    assert rates[850] == pytest.approx(0.5)
    assert min(rates[99:]) == rates[-1] == 0.02
    assert rates[700:] == sorted(rates[700:], reverse=True)


def test_with_minutes_the_clock_decides() -> None:
    schedule = Schedule(steps=10, minutes=2, warmup=1, decay=0.5)
    assert [schedule.progress_at(500, seconds) for seconds in (0.0, 30.0, 60.0, 120.0, 500.0)] == [0, 0.25, 0.5, 1, 1]
    assert [schedule.rate_at(500, progress) for progress in (0.0, 0.5, 0.75, 1.0)] == [1, 1, 0.5, 0.02]


# --- objectives


def objective_of(
    config: JepaTConfig, tokenizer: LinearTokenizer, encoder: TextEncoder, **loss: float
) -> JepaTObjective:
    torch.manual_seed(0)
    return JepaTObjective(JepaT(config), tokenizer, TextCache(encoder), ema_decay=0.9, loss=JepaTLoss(**loss))


@pytest.mark.parametrize(
    "backbone", ["cached", "bidirectional", pytest.param("bidirectional_subset", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("denoising", ["flow", "diffusion"])
def test_losses_fall_on_a_tiny_batch(
    backbone: str, denoising: str, data: CaptionedPictures, tokenizer: LinearTokenizer, text_encoder: TextEncoder
) -> None:
    config = replace(TINY_JEPA_T, backbone=backbone, denoising=denoising)
    objective = objective_of(config, tokenizer, text_encoder, denoising_draws=4, prediction_weight=2.0)
    optimizers = make_optimizers(objective.network, matrix_lr=5e-3, other_lr=5e-3, weight_decay=0)
    batch = data.batch(0, 4, 0)
    history: dict[str, list[float]] = {}
    for step in range(30):
        losses = objective(batch, seeded(step % 5))  # the first five and the last five see the same noise
        losses["loss"].backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        objective.after_step(step)
        for name, value in losses.items():
            history.setdefault(name, []).append(float(value.detach()))
    assert set(history) == {"loss", "denoising_loss", "prediction_loss"}
    assert np.isfinite(list(history.values())).all()
    assert history["loss"][0] == pytest.approx(history["denoising_loss"][0] + 2 * history["prediction_loss"][0])
    for name in ("denoising_loss", "prediction_loss"):
        assert np.mean(history[name][-5:]) < 0.85 * np.mean(history[name][:5]), name
    figures = objective.validate(batch, seeded())
    assert figures["denoising_loss"] == pytest.approx(np.mean([v for k, v in figures.items() if "@" in k]))
    assert np.isfinite(list(figures.values())).all()


def test_the_loss_is_a_pure_function_of_batch_and_seed(
    data: CaptionedPictures, tokenizer: LinearTokenizer, text_encoder: TextEncoder
) -> None:
    objective = objective_of(TINY_JEPA_T, tokenizer, text_encoder)
    awake(objective.network)
    first, again, other = (objective(data.batch(0, 4, 0), seeded(seed))["loss"].item() for seed in (1, 1, 2))
    assert first == again != other


def test_without_prediction_weight_the_loss_is_the_denoising_loss(
    data: CaptionedPictures, tokenizer: LinearTokenizer, text_encoder: TextEncoder
) -> None:
    losses = objective_of(TINY_JEPA_T, tokenizer, text_encoder, prediction_weight=0.0)(data.batch(0, 4, 0), seeded())
    assert set(losses) == {"loss", "denoising_loss"}
    assert losses["loss"] == losses["denoising_loss"]


def test_the_flow_s_settings_change_what_is_learnt_and_not_what_is_measured(
    data: CaptionedPictures, tokenizer: LinearTokenizer, text_encoder: TextEncoder
) -> None:
    batch = data.batch(0, 4, 0)
    losses, measured = [], []
    for settings in ({}, {"time_mean": 0.0, "time_std": 1.702}, {"min_denominator": 1.0}):
        objective = objective_of(TINY_JEPA_T, tokenizer, text_encoder, **settings)
        losses.append(float(objective(batch, seeded())["denoising_loss"]))
        measured.append(objective.validate(batch, seeded()))
    assert len(set(losses)) == 3
    assert measured[0] == measured[1] == measured[2]
    with pytest.raises(ValueError, match="min_denominator is 0"):
        JepaTLoss(min_denominator=0.0)
    with pytest.raises(ValueError, match="time_std are 0, -1"):
        JepaTLoss(time_mean=0, time_std=-1)


def test_every_parameter_learns(data: CaptionedPictures, tokenizer: LinearTokenizer, text_encoder: TextEncoder) -> None:
    for backbone in ("cached", "bidirectional", "bidirectional_subset"):
        config = replace(TINY_JEPA_T, backbone=backbone)
        objective = objective_of(config, tokenizer, text_encoder, text_drop=0.5)
        awake(objective.network)
        for seed in range(3):  # in one alone all texts may be dropped, or no token be revealed
            objective(data.batch(0, 4, 0), seeded(seed))["loss"].backward()
        still = [
            name
            for name, parameter in objective.network.named_parameters()
            if parameter.grad is None or not parameter.grad.abs().sum() > 0
        ]
        assert still == []
        assert all(parameter.grad is None for parameter in objective.ema.parameters())


def features(seed: int = 1) -> TextFeatures:
    return TextFeatures(torch.randn(2, 3, 384, generator=seeded(seed)).double(), torch.ones(2, 3, dtype=torch.bool))


def test_training_asks_for_every_token_once_with_its_own_clean_value() -> None:
    network = awake(JepaT(TINY_JEPA_T)).double()
    tokens = torch.randn(2, 16, 12, generator=seeded(), dtype=torch.float64)
    asked = ask_all_blocks(network, features(), tokens, seeded(4), ())
    assert torch.equal(asked.positions.sort(dim=1).values, torch.arange(16).expand(2, -1))
    for picture in range(2):
        assert torch.equal(asked.clean[picture], tokens[picture, asked.positions[picture]])


@pytest.mark.parametrize("num_masked", [16, 5])
def test_the_published_form_is_asked_as_the_sampler_asks(num_masked: int) -> None:
    config = replace(TINY_JEPA_T, backbone="bidirectional")
    network = awake(JepaT(config)).double()
    tokens = torch.randn(2, 16, 12, generator=seeded(), dtype=torch.float64)
    asked = ask_masked(network, features(), tokens, seeded(4), num_masked)
    assert asked.positions.shape == (2, num_masked)
    # the sampler reveals the other tokens in several steps, numbers them by step and asks under the current one
    order = torch.rand(2, 16, generator=seeded(4)).argsort(dim=1)
    known = order[:, : 16 - num_masked]
    context = network.start(features())
    for step, part in enumerate(known.split(4, dim=1)):
        clean = tokens.gather(1, part[:, :, None].expand(-1, -1, 12))
        context = network.extend(context.at(torch.full_like(part, step)), clean, part)
    expected = network.predict(context.at(torch.full_like(asked.positions, 9)), asked.positions)
    assert torch.allclose(asked.condition, expected, atol=1e-10)


# --- recipes


def test_settings_are_parsed_by_type() -> None:
    recipe = make_recipe(
        "jepa_t",
        ["schedule.batch_size=96", "schedule.clip=2", "network.fuse_before_loss=False", "tokenizer=a=b", "init="],
    )
    assert isinstance(recipe, JepaTRecipe)
    assert (recipe.schedule.batch_size, recipe.schedule.clip) == (96, 2.0)
    assert isinstance(recipe.schedule.clip, float)
    assert recipe.network.fuse_before_loss is False
    assert (recipe.tokenizer, recipe.init) == ("a=b", "")
    vae = make_recipe("tokenizer_vae", ["network.vae_channels=[16, 16]", "network.patch_size=2"])
    assert vae.network.vae_channels == (16, 16)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("schedule.batch_size", "has no '='; write --set key=value"),
        ("schedule.batchsize=3", "'batchsize' is unknown; allowed: steps, minutes, compiled, batch_size"),
        ("speed=3", "'speed' is unknown; allowed: schedule"),
        ("schedule=3", "is a group; write schedule.KEY=value"),
        ("ema_decay.x=3", "is not a group"),
        ("schedule.batch_size=many", "is 'many'; allowed: int, such as 16"),
        ("schedule.batch_size=1.5", "is '1.5'; allowed: int"),
        ("schedule.batch_size=true", "is 'true'; allowed: int"),
        ("schedule.matrix_lr=true", "is 'true'; allowed: float"),
        ("schedule.batch_size=0", "schedule.batch_size is 0; allowed: 1 or more"),
        ("schedule.warmup=0", "schedule.warmup is 0; allowed: 1 or more"),
        ("schedule.clip=0", "schedule.clip is 0.0; allowed: above 0"),
        ("schedule.validate_steps=0", "schedule.validate_steps is 0"),
        ("schedule.matrix_lr=NaN", "schedule.matrix_lr is nan"),
        ("schedule.steps=-1", "schedule.steps is -1; allowed: 0 or more"),
        ("network.fuse_before_loss=maybe", "is 'maybe'; allowed: bool"),
        ("network.num_heads=0", "num_heads is 0"),
        ("network.backbone=linear", "backbone is 'linear'; allowed"),
        ("captions.drops=2", "drops"),
        ("loss.text_drop=1.5", "text_drop is 1.5; allowed: 0 to 1"),
        ("loss.denoising_draws=0", "denoising_draws is 0; allowed: 1 or more"),
        ("loss.prediction_weight=-1", "prediction_weight is -1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(setting: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_recipe("jepa_t", [setting])


def test_a_vae_takes_no_components_over() -> None:
    with pytest.raises(ValueError, match="init is 'weights/tokenizer'; allowed for a VAE: none"):
        make_recipe("tokenizer_vae", ["init=weights/tokenizer"])


def test_unknown_recipes_are_refused() -> None:
    with pytest.raises(ValueError, match="recipe is 'gan'; allowed: clip, dit, decoder, jepa_t, "):
        make_recipe("gan")
    assert all(make_recipe(name) for name in RECIPES)


# --- the loop


def write_tokenizer(tokenizer: LinearTokenizer, out: Path) -> str:
    save_network(out, tokenizer, tokenizer.config)
    return str(out)


def recipe_of(family: str, steps: int, tokenizer: LinearTokenizer, out: Path) -> Recipe:
    schedule = replace(SCHEDULE, steps=steps, decay=0.0)
    if family.startswith("jepa_t"):
        network = TINY_JEPA_T if family == "jepa_t" else replace(TINY_JEPA_T, backbone="bidirectional")
        return JepaTRecipe(schedule=schedule, network=network, tokenizer=write_tokenizer(tokenizer, out / "tokenizer"))
    if family == "ti_jepa":
        few = {"fitted_captions": 30, "calibration_pictures": 4, "references": 3}
        return TIJepaRecipe(schedule=schedule, network=TINY_TI_JEPA, **few)
    if family == "clip":
        network = PeerConfig(**TINY_TI_JEPA.to_dict())
        return PeerRecipe(schedule=schedule, network=network, calibration_pictures=4)
    if family == "tokenizer_enlarging":
        small = make_tokenizer(replace(TINY_TOKENIZER, image_size=16, patch_size=4))
        network = replace(TINY_TOKENIZER, refiner_width=4, reduction=2)
        init = write_tokenizer(small, out / "small") if isinstance(small, LinearTokenizer) else ""
        return TokenizerRecipe(schedule=schedule, network=network, token_noise=0.5, init=init)
    if family == "tokenizer_refined":
        return TokenizerRecipe(schedule=schedule, network=replace(TINY_TOKENIZER, refiner_width=4))
    vae = TokenizerConfig(kind="vae", image_size=32, patch_size=4, channels=4, vae_channels=(16, 16, 16))
    return TokenizerRecipe(schedule=schedule, network=vae)


def run(recipe: Recipe, data: CaptionedPictures, out: Path, *, resume: bool = False) -> list[TrainStep]:
    torch.manual_seed(0)
    return list(train(recipe.build(data), data, recipe.schedule, out, resume=resume))


def state_of(out: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint: networks, moving averages and optimizers."""
    found: dict[str, Tensor] = {}

    def collect(name: str, value: object) -> None:
        if isinstance(value, Tensor):
            found[name] = value
        elif isinstance(value, dict | list):
            items = value.items() if isinstance(value, dict) else enumerate(value)
            for key, item in items:
                collect(f"{name}/{key}", item)

    from safetensors.torch import load_file

    for path in sorted((out / "checkpoint").iterdir()):
        if path.suffix == ".safetensors":
            collect(path.name, load_file(path))
        elif path.name.startswith("optimizer"):
            collect(path.name, torch.load(path, weights_only=True))
    return found


def test_a_run_by_the_clock_ends_cooled_down_and_goes_on_where_it_stopped(
    data: CaptionedPictures, tokenizer: LinearTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = itertools.count()
    # a clock of the test's own, so that no step of a busy machine takes half of the run
    monkeypatch.setattr("training.loop.time", SimpleNamespace(monotonic=lambda: next(ticks) / 40))
    recipe = recipe_of("jepa_t", 1, tokenizer, tmp_path)
    recipe = replace(recipe, schedule=replace(recipe.schedule, minutes=2 / 60, decay=1.0, warmup=1))
    torch.manual_seed(0)
    objective = recipe.build(data)
    stopped = list(train(objective, data, recipe.schedule, tmp_path / "run", resume=False, stopping=lambda: True))
    assert len(stopped) == 1
    assert 0 < stopped[0].progress < 1
    kept = json.loads((tmp_path / "run" / "checkpoint" / "step.json").read_text())
    assert 0 < kept["seconds"] < 2
    steps = run(recipe, data, tmp_path / "run", resume=True)
    assert steps[0].step == 2
    assert steps[0].progress > stopped[0].progress
    assert [step.progress for step in steps] == sorted(step.progress for step in steps)
    assert steps[-1].progress == 1
    assert steps[-1].saved
    assert len(steps) > 10
    assert steps[-1].rate < 0.1 < 0.9 < steps[0].rate
    assert all(0 <= step.waiting < 1 for step in steps)
    both = [load_network(tmp_path / "run" / name, JepaTConfig, JepaT) for name in ("weights", "unaveraged")]
    assert not torch.equal(*(network.null_text for network in both))


@pytest.mark.slow  # compiles C++
@pytest.mark.filterwarnings("ignore")  # inside torch
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles with g++ on a CPU")
def test_compiled_blocks_train_as_they_are_written(
    data: CaptionedPictures, tokenizer: LinearTokenizer, tmp_path: Path
) -> None:
    recipe = recipe_of("jepa_t", 1, tokenizer, tmp_path)
    assert isinstance(recipe, JepaTRecipe)
    recipe = replace(recipe, network=replace(recipe.network, encoder_depth=1, predictor_depth=1))
    compiled = replace(recipe, schedule=replace(recipe.schedule, compiled=True))
    plain = run(recipe, data, tmp_path / "plain")
    for before, now in zip(plain, run(compiled, data, tmp_path / "compiled"), strict=True):
        assert now.losses == pytest.approx(before.losses, rel=0.02)
    assert state_of(tmp_path / "compiled").keys() == state_of(tmp_path / "plain").keys()


@pytest.mark.filterwarnings("ignore")  # inside torch
def test_every_shape_and_the_prediction_head_are_compiled() -> None:
    seen: list[tuple[int, ...]] = []

    def counting(module: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        seen.append(tuple(inputs[0].shape))
        return module.forward

    network = JepaT(replace(TINY_JEPA_T, encoder_depth=1, predictor_depth=1)).eval()
    compile_blocks(network, backend=counting)
    with torch.no_grad():
        for length in range(1, 21):
            network.start(TextFeatures(torch.randn(1, length, 384), torch.ones(1, length, dtype=torch.bool)))
        assert len(seen) >= 20
        seen.clear()
        network.d_jepa.prediction_head(torch.randn(1, 3, TINY_JEPA_T.width))
    assert len(seen) == 1


@pytest.mark.parametrize("depth", [0, 2])
def test_batches_made_ahead_come_in_order_and_tell_their_errors(depth: int) -> None:
    def make(number: int) -> int:
        if number == 8:
            raise ValueError("the eighth")
        return number * number

    with ahead(make, 5, depth) as items:
        assert [next(items) for _ in range(3)] == [25, 36, 49]
        with pytest.raises(ValueError, match="the eighth"):
            next(items)


FAMILIES = [
    "jepa_t",
    pytest.param("jepa_t_bidirectional", marks=pytest.mark.slow),
    "ti_jepa",
    "clip",
    "tokenizer_enlarging",
    "tokenizer_refined",
    pytest.param("tokenizer_vae", marks=pytest.mark.slow),  # diffusers takes seconds to import
]


@pytest.mark.parametrize("family", FAMILIES)
def test_resuming_is_exact(family: str, data: CaptionedPictures, tokenizer: LinearTokenizer, tmp_path: Path) -> None:
    straight = run(recipe_of(family, 6, tokenizer, tmp_path), data, tmp_path / "straight")
    first = run(recipe_of(family, 3, tokenizer, tmp_path), data, tmp_path / "halves")
    second = run(recipe_of(family, 6, tokenizer, tmp_path), data, tmp_path / "halves", resume=True)
    assert [step.step for step in straight] == [step.step for step in first + second] == [1, 2, 3, 4, 5, 6]
    assert [step.losses for step in straight] == [step.losses for step in first + second]
    assert straight[-1].validation == second[-1].validation
    expected, found = state_of(tmp_path / "straight"), state_of(tmp_path / "halves")
    assert any("optimizer" in name for name in expected)
    assert any("ema" in name for name in expected)
    assert expected.keys() == found.keys()
    assert [name for name, tensor in expected.items() if not torch.equal(tensor, found[name])] == []
    unaveraged = {"unaveraged"} if family.startswith("jepa_t") else set()
    assert {path.name for path in (tmp_path / "halves").iterdir()} == {"checkpoint", "weights", *unaveraged}


def test_a_run_is_neither_overwritten_nor_resumed_from_nothing(
    data: CaptionedPictures, tokenizer: LinearTokenizer, tmp_path: Path
) -> None:
    recipe = recipe_of("jepa_t", 1, tokenizer, tmp_path)
    with pytest.raises(ValueError, match=r"no checkpoint in .*; leave out --resume"):
        run(recipe, data, tmp_path / "run", resume=True)
    run(recipe, data, tmp_path / "run")
    with pytest.raises(ValueError, match="already holds a run; add --resume to continue it"):
        run(recipe, data, tmp_path / "run")
    assert isinstance(recipe, JepaTRecipe)
    wider = replace(recipe, network=replace(recipe.network, width=64))
    with pytest.raises(ValueError, match=r"cannot be loaded .*; resume with the recipe"):
        run(wider, data, tmp_path / "run", resume=True)


@pytest.mark.slow
def test_a_disk_that_fills_while_saving_leaves_the_previous_checkpoint(
    data: CaptionedPictures, tokenizer: LinearTokenizer, tmp_path: Path
) -> None:
    run(recipe_of("jepa_t", 2, tokenizer, tmp_path), data, tmp_path / "run")
    before = state_of(tmp_path / "run")
    with largest_file(100_000), pytest.raises(OSError, match="its previous contents are untouched"):
        run(recipe_of("jepa_t", 4, tokenizer, tmp_path), data, tmp_path / "run", resume=True)
    after = state_of(tmp_path / "run")
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["checkpoint", "unaveraged", "weights"]
    steps = run(recipe_of("jepa_t", 4, tokenizer, tmp_path), data, tmp_path / "run", resume=True)
    assert [step.step for step in steps] == [3, 4]


def test_a_loss_that_is_no_number_stops_the_run_before_it_is_saved(
    data: CaptionedPictures, tokenizer: LinearTokenizer, tmp_path: Path
) -> None:
    recipe = recipe_of("jepa_t", 3, tokenizer, tmp_path)
    objective = recipe.build(data)
    with torch.no_grad():
        objective.network.null_text.fill_(torch.nan)
        objective.network.d_jepa.denoiser.token_out.bias.fill_(torch.nan)
    with pytest.raises(ValueError, match="the loss is nan; resume from the last checkpoint"):
        list(train(objective, data, recipe.schedule, tmp_path / "run", resume=False))
    assert not (tmp_path / "run").exists()


def test_a_gradient_that_is_no_number_does_not_reach_the_weights(
    data: CaptionedPictures, tokenizer: LinearTokenizer, tmp_path: Path
) -> None:
    recipe = recipe_of("jepa_t", 3, tokenizer, tmp_path)
    recipe = replace(recipe, schedule=replace(recipe.schedule, checkpoint_minutes=0))
    objective = recipe.build(data)
    weight = objective.network.null_text
    steps = itertools.count()
    weight.register_hook(lambda gradient: gradient * (torch.inf if next(steps) else 1))
    with pytest.raises(ValueError, match=r"the norm of the gradient is .*; resume from the last checkpoint"):
        list(train(objective, data, recipe.schedule, tmp_path / "run", resume=False))
    assert json.loads((tmp_path / "run" / "checkpoint" / "step.json").read_text())["step"] == 1
    assert weight.isfinite().all()
    assert all(tensor.isfinite().all() for tensor in state_of(tmp_path / "run").values())


def test_a_resumed_run_has_the_settings_that_it_is_given(
    data: CaptionedPictures, tokenizer: LinearTokenizer, tmp_path: Path
) -> None:
    def state_after(weight_decay: float) -> dict[str, torch.Tensor]:
        out = tmp_path / str(weight_decay)
        shutil.copytree(tmp_path / "run", out)
        recipe = recipe_of("jepa_t", 3, tokenizer, tmp_path)
        recipe = replace(recipe, schedule=replace(recipe.schedule, weight_decay=weight_decay))
        run(recipe, data, out, resume=True)
        return state_of(out)

    recipe = recipe_of("jepa_t", 2, tokenizer, tmp_path)
    run(recipe, data, tmp_path / "run")
    same, other = state_after(recipe.schedule.weight_decay), state_after(0.9)
    assert any(not torch.equal(tensor, other[name]) for name, tensor in same.items())


@pytest.mark.parametrize("muon", [True, False])
def test_a_run_is_not_resumed_with_other_optimizers(
    data: CaptionedPictures, tokenizer: LinearTokenizer, tmp_path: Path, *, muon: bool
) -> None:
    recipe = recipe_of("jepa_t", 2, tokenizer, tmp_path)
    run(replace(recipe, schedule=replace(recipe.schedule, muon=muon)), data, tmp_path / "run")
    other = replace(recipe, schedule=replace(recipe.schedule, steps=3, muon=not muon))
    with pytest.raises(ValueError, match=r"checkpoint cannot be loaded .*; resume with the recipe"):
        run(other, data, tmp_path / "run", resume=True)


def test_signal_to_noise() -> None:
    black, grey = torch.full((1, 3, 4, 4), -1.0), torch.full((1, 3, 4, 4), -0.8)
    assert signal_to_noise(black, grey) == pytest.approx(20)  # a tenth of the range everywhere


# --- the command line


def tiny(config: JepaTConfig | TIJepaConfig, *names: str) -> list[str]:
    values = config.to_dict()
    return [word for name in names for word in ("--set", f"network.{name}={json.dumps(values[name])}")]


QUICK = ["--set", "schedule.batch_size=4", "--set", "schedule.warmup=2", "--set", "schedule.validate_pictures=4"]


def test_from_pictures_to_a_sampled_picture(folder: Path, tiny_weights: Path, tmp_path: Path) -> None:
    where = ["--data", str(folder)]
    sizes = ["--set", "network.image_size=32", "--set", "network.channels=12"]
    assert main(["tokenizer", *where, "--out", str(tmp_path / "tokenizer"), *sizes]) == 0
    network = tiny(
        TINY_JEPA_T, "width", "num_heads", "encoder_depth", "predictor_depth", "denoiser_width", "denoiser_depth"
    )
    command = ["jepa_t", *where, "--out", str(tmp_path / "run"), *network, *QUICK]
    command += ["--set", f"tokenizer={tmp_path / 'tokenizer' / 'weights'}"]
    assert main([*command, "--steps", "2"]) == 0
    assert main([*command, "--steps", "3", "--resume"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 3]
    assert rows[-1]["saved"]
    assert np.isfinite(rows[-1]["validation"]["train/denoising_loss"])
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["schedule"]["steps"] == 3
    with Image.open(tmp_path / "run" / "samples" / "0000003.png") as grid:
        assert grid.size == (6 * 34 - 2, 2 * 34 - 2)
    parts = [f"--jepa-t={tmp_path / 'run' / 'weights'}", f"--tokenizer={tmp_path / 'tokenizer' / 'weights'}"]
    assert bundle([*parts, f"--ti-jepa={tiny_weights / 'ti-jepa'}", f"--out={tmp_path / 'weights'}"]) == 0
    before = sha256(tmp_path / "weights" / "manifest.json")
    narrow = replace(TINY_TOKENIZER, channels=TINY_TOKENIZER.channels - 1)
    save_network(tmp_path / "narrow", make_tokenizer(narrow), narrow)
    assert bundle([f"--tokenizer={tmp_path / 'narrow'}", f"--out={tmp_path / 'weights'}"]) == 2  # it does not fit
    other = [*parts, f"--jepa-t={tmp_path / 'run' / 'unaveraged'}", f"--out={tmp_path / 'weights'}"]
    assert bundle([*other, f"--keywords={tmp_path / 'nowhere'}"]) == 2
    verify_manifest(tmp_path / "weights")
    assert sha256(tmp_path / "weights" / "manifest.json") == before
    pipeline = JepaTPipeline.from_pretrained(tmp_path / "weights")
    (picture,) = pipeline("red apple, noto style", num_inference_steps=4, generator=seeded()).images
    assert picture.size == (32, 32)
    assert load_config(tmp_path / "run" / "weights", JepaTConfig).width == TINY_JEPA_T.width
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_state(tmp_path / "run" / "weights", JepaT(TINY_JEPA_T))  # another number of buffer tokens


def test_minutes_mean_nothing_to_what_is_fitted_at_once(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tokenizer", "--data", str(folder), "--out", str(tmp_path / "out"), "--minutes", "1"]) == 2
    assert "--minutes is for recipes that train" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_another_text_encoder_needs_no_packaged_one(
    folder: Path, tiny_weights: Path, text_encoder: TextEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder's captions are long enough to be looked at."""
    kept = tmp_path / "encoder"
    text_encoder.tokenizer.save_pretrained(kept)  # type: ignore[attr-defined]
    text_encoder.model.save_pretrained(kept)  # type: ignore[operator]

    def missing() -> Path:
        raise ImportError("no such package")

    monkeypatch.setattr("jepa_app.models.text._packaged_model", missing)
    _loaded.cache_clear()
    try:
        network = tiny(TINY_JEPA_T, "width", "num_heads", "encoder_depth", "predictor_depth", "denoiser_width")
        command = ["jepa_t", "--data", str(folder), "--out", str(tmp_path / "run"), *network, *QUICK, "--steps", "1"]
        command += ["--set", f"tokenizer={tiny_weights / 'tokenizer'}", "--set", f"text_encoder={kept}"]
        assert main(command) == 0
    finally:
        _loaded.cache_clear()


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_run_is_saved_and_goes_on(
    number: signal.Signals, folder: Path, tiny_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = tiny(TINY_JEPA_T, "width", "num_heads", "encoder_depth", "predictor_depth", "denoiser_width")
    command = ["jepa_t", "--data", str(folder), *network, *QUICK, "--set", f"tokenizer={tiny_weights / 'tokenizer'}"]
    usual = signal.getsignal(number)
    writes = tmp_path / "cut" / "log.jsonl"

    def interrupt() -> None:  # once the run is under way
        while not (writes.is_file() and writes.stat().st_size):
            time.sleep(0.01)
        signal.raise_signal(number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    validating = ["--set", "schedule.validate_steps=2", "--set", "schedule.validate_pictures=0"]
    assert main([*command, *validating, "--out", str(tmp_path / "cut"), "--steps", "100000"]) == 1
    thread.join()
    assert signal.getsignal(number) == usual
    told = re.search(r"interrupted and saved after step (\d+) of 100000; add --resume", capsys.readouterr().err)
    assert told is not None
    done = int(told[1])
    assert json.loads((tmp_path / "cut" / "checkpoint" / "step.json").read_text())["step"] == done
    assert main([*command, "--out", str(tmp_path / "cut"), "--steps", str(done + 1), "--resume"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "{tmp}/none", "--out", "{tmp}/out"], "no folder"),
        (["--data", "{tmp}", "--out", "{tmp}/out"], "no captioned pictures"),
        (["--data", "{data}", "--out", "{tmp}/out", "--set", "speed=3"], "'speed' is unknown"),
        (["--data", "{data}", "--out", "{tmp}/out", "--set", "schedule.steps"], "has no '='"),
        (["--data", "{data}", "--out", "{tmp}/out", "--set", "tokenizer={tmp}/none"], "no weights in"),
        (["--data", "{data}", "--out", "{tmp}/out", "--set", "init={tmp}/none"], "no weights in"),
        (["--data", "{data}", "--out", "{tmp}/out", "--steps", "0"], "schedule.steps is 0; allowed: 1 or more"),
        (["--data", "{data}", "--out", "{tmp}/out", "--resume"], "no checkpoint in"),
        (["--data", "{data}", "--out", "{data}/metadata.jsonl"], "is a file; choose a folder"),
        (["--data", "{data}", "--out", "/proc/out"], "cannot write /proc/out"),
        (["--data", "{data}", "--out", "{tmp}/out", "--set", "init=weights/ti-jepa"], "were they swapped?"),
        (["--data", "{data}", "--out", "{tmp}/out", "--set", "init=weights"], "config.json is missing"),
    ],
)
def test_mistakes_end_with_one_line_and_status_two(
    arguments: list[str],
    message: str,
    folder: Path,
    tiny_weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [word.format(tmp=tmp_path, data=folder) for word in arguments]
    status = main(["jepa_t", *QUICK, "--set", f"tokenizer={tiny_weights / 'tokenizer'}", *words])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert status == 2
    assert len(lines) == 1
    assert message in lines[0]
    assert not (tmp_path / "out").exists()


def test_a_refused_run_leaves_the_recipe_of_the_earlier_one(folder: Path, tiny_weights: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "recipe.json").write_text("{}")
    where = ["--data", str(folder), "--out", str(tmp_path), "--set", f"tokenizer={tiny_weights / 'tokenizer'}"]
    assert main(["jepa_t", *where, "--steps", "2"]) == 2
    assert (tmp_path / "recipe.json").read_text() == "{}"


def test_batches_hold_what_the_folder_says(data: CaptionedPictures, drawings: list[tuple[str, Image.Image]]) -> None:
    batch: Batch = data.fixed(np.arange(len(drawings)))
    assert sorted(batch.captions) == sorted(caption for caption, _ in drawings)


# --- a plan


PLANNED_TOKENIZER = replace(TINY_TOKENIZER, plan=(1, 2))
PLANNED_NETWORK = replace(TINY_JEPA_T, plan=(1, 2))


@pytest.fixture(scope="module")
def text_cache(text_encoder: TextEncoder) -> TextCache:
    return TextCache(text_encoder)


def planned_objective(data: CaptionedPictures, text: TextCache, **loss: float) -> JepaTObjective:
    tokenizer = make_tokenizer(PLANNED_TOKENIZER)
    tokenizer.fit([data.fixed(data.split.train).pixels])
    torch.manual_seed(0)
    return JepaTObjective(JepaT(PLANNED_NETWORK), tokenizer, text, ema_decay=0.9, loss=JepaTLoss(**loss))


def test_the_plan_has_a_loss_of_its_own(data: CaptionedPictures, text_cache: TextCache) -> None:
    batch = data.batch(0, 4, seed=0)
    plain = planned_objective(data, text_cache, without_plan=0.0, prediction_weight=0.0)(batch, seeded())
    heavy = planned_objective(data, text_cache, without_plan=0.0, prediction_weight=0.0, plan_weight=3.0)(
        batch, seeded()
    )
    assert float(plain["loss"].detach()) == pytest.approx(float(plain["denoising_loss"] + plain["plan_loss"]), rel=1e-5)
    assert float(heavy["loss"].detach()) == pytest.approx(
        float(plain["denoising_loss"] + 3 * plain["plan_loss"]), rel=1e-5
    )
    none = planned_objective(data, text_cache, without_plan=1.0)(batch, seeded())
    assert "plan_loss" not in none
    some = planned_objective(data, text_cache, without_plan=0.5)
    with_plan = sum("plan_loss" in some(batch, seeded(seed)) for seed in range(40))
    assert 8 < with_plan < 32


def test_noise_on_the_context_changes_what_is_seen_and_not_what_is_asked(
    data: CaptionedPictures, text_cache: TextCache
) -> None:
    objective = planned_objective(data, text_cache)
    network = awake(objective.network)
    tokens, text = objective.inputs(data.batch(0, 3, seed=0))
    clean, noisy = (ask(network, text, tokens, seeded(), strength) for strength in (0.0, 0.4))
    assert torch.equal(clean.positions, noisy.positions)
    assert torch.equal(clean.clean, noisy.clean)
    assert not torch.allclose(clean.condition, noisy.condition, atol=1e-3)


@pytest.mark.slow
def test_a_network_learns_to_plan_and_to_paint(data: CaptionedPictures, text_cache: TextCache) -> None:
    objective = planned_objective(data, text_cache, text_drop=0.0, context_noise=0.2, without_plan=0.0)
    optimizers = make_optimizers(objective.network, matrix_lr=5e-3, other_lr=5e-3, weight_decay=0.0)
    batch, losses = data.batch(0, 4, seed=0), []
    for step in range(60):
        found = objective(batch, seeded(step % 5))
        losses.append((float(found["denoising_loss"]), float(found["plan_loss"])))
        found["loss"].backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    first, last = np.mean(losses[:5], axis=0), np.mean(losses[-5:], axis=0)
    assert (last < 0.8 * first).all()
    figures = objective.validate(batch, seeded())
    assert np.isfinite(list(figures.values())).all()


def test_a_run_keeps_the_sampling_settings_of_the_weights_it_began_with(
    data: CaptionedPictures, tiny_weights: Path, tmp_path: Path
) -> None:
    found = replace(TINY_JEPA_T, sampling_steps=9, sampling_guidance=1.5, sampling_temperature=0.5)
    save_network(tmp_path / "old", awake(JepaT(found)), found)
    recipe = JepaTRecipe(
        schedule=SCHEDULE,
        network=replace(TINY_JEPA_T, sampling_guidance=2.0),
        tokenizer=str(tiny_weights / "tokenizer"),
        init=str(tmp_path / "old"),
    )
    config = recipe.build(data).network.config
    assert (config.sampling_steps, config.sampling_guidance, config.sampling_temperature) == (9, 2.0, 0.5)


def test_a_plan_is_fitted_to_a_tokenizer_and_followed_by_the_recipes(
    folder: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    sizes = ["--set", "network.image_size=32", "--set", "network.channels=12", "--set", "network.plan=[1,2]"]
    old = tiny_weights / "tokenizer"
    command = ["tokenizer", "--data", str(folder), "--out", str(tmp_path / "tokenizer"), *sizes]
    assert main([*command, "--set", f"init={old}"]) == 0
    before, after = (load_tokenizer(path) for path in (old, tmp_path / "tokenizer" / "weights"))
    pixels = torch.rand(2, 3, 32, 32) * 2 - 1
    assert after.encode(pixels).shape[1] == 21
    assert torch.equal(before.encode(pixels), after.encode(pixels)[:, :16])
    where = ["--data", str(folder), "--set", f"tokenizer={tmp_path / 'tokenizer' / 'weights'}", *QUICK, "--steps", "1"]
    network = tiny(TINY_JEPA_T, "width", "num_heads", "encoder_depth", "predictor_depth", "denoiser_width")
    for recipe, settings, plan in (
        ("jepa_t", (), (1, 2)),
        ("jepa_t", ("--set", "plans=false"), ()),
        ("jepa_t_bidirectional", (), ()),
    ):
        out = tmp_path / f"{recipe}{len(settings)}"
        assert main([recipe, *where, "--out", str(out), *network, *settings]) == 0
        assert load_config(out / "weights", JepaTConfig).plan == plan
        parts = [f"--jepa-t={out / 'weights'}", f"--tokenizer={tmp_path / 'tokenizer' / 'weights'}"]
        assert bundle([*parts, f"--ti-jepa={tiny_weights / 'ti-jepa'}", f"--out={out / 'whole'}"]) == 0
        pipeline = JepaTPipeline.from_pretrained(out / "whole")
        steps = list(pipeline.stream("red apple", num_inference_steps=9, generator=seeded()))
        assert torch.isfinite(steps[-1].image).all()
        assert steps[2].known[0, :16].any() == (plan == ())


# --- bfloat16


def test_a_step_in_bfloat16_has_nearly_the_gradients_of_float32(data: CaptionedPictures, text_cache: TextCache) -> None:
    objective = planned_objective(data, text_cache, without_plan=0.0, context_noise=0.2)
    awake(objective.network)
    awake(objective.ema.network)
    batch, gradients, losses = data.batch(0, 4, seed=0), [], []
    for in_bfloat16 in (False, True):
        objective.in_bfloat16 = in_bfloat16
        objective.zero_grad()
        found = objective(batch, seeded())
        found["loss"].backward()
        parts = [parameter.grad for parameter in objective.network.parameters() if parameter.grad is not None]
        assert all(part.dtype == torch.float32 for part in parts)
        gradients.append(torch.cat([part.flatten() for part in parts]))
        losses.append(float(found["loss"].detach()))
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert float(torch.nn.functional.cosine_similarity(*gradients, dim=0)) > 0.99
    assert all(parameter.dtype == torch.float32 for parameter in objective.parameters())


def test_the_precision_of_a_step_is_chosen_by_what_the_cpu_has(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_units in (False, True):
        monkeypatch.setattr("training.optimisation.schedule.multiplies_bfloat16", lambda _, has=has_units: has)
        assert Schedule().in_bfloat16 == (has_units and not torch.cuda.is_available())
    assert Schedule(precision="bfloat16").in_bfloat16
    assert not Schedule(precision="float32").in_bfloat16
    with pytest.raises(ValueError, match=r"schedule\.precision is 'half'; allowed: auto, float32, bfloat16"):
        Schedule(precision="half")

"""Training by several processes: they learn what one process learns, stop together and speak with one voice."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from jepa_app.masking import SharedGenerator, draw
from tests.support.several_processes import recipes
from tests.training.test_training import drawings, folder  # noqa: F401
from training.data.batches import CaptionedPictures
from training.data.captions import CaptionOptions
from training.objectives.ti_jepa import places_seen_whole
from training.optimisation.processes import own_part

ROOT = Path(__file__).parents[2]
TINY = [
    *(f"network.{name}=32" for name in ("width", "denoiser_width")),
    *(f"network.{name}=1" for name in ("encoder_depth", "predictor_depth", "denoiser_depth")),
    "network.num_heads=2",
    "schedule.batch_size=4",
    "schedule.warmup=2",
    "schedule.decay=0",
    "schedule.validate_pictures=0",
    "schedule.precision=float32",
]
LONG = 240  # seconds until a test gives up; a busy machine needs long to start


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the processes find: one thread each, and a cache of their own."""
    return os.environ | {"OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def launch(module: str, arguments: list[str], environment: dict[str, str], processes: int = 2) -> None:
    """Run a module to its end, in several processes that torch's launcher starts."""
    launcher = ["torch.distributed.run", f"--nproc_per_node={processes}", "--rdzv_backend=c10d"]
    launcher += [f"--rdzv_endpoint=127.0.0.1:{free_port()}", "-m"]
    command = [sys.executable, "-m", *(launcher if processes > 1 else []), module, *arguments]
    done = subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LONG)
    assert done.returncode == 0, done.stderr


def start(arguments: list[str], environment: dict[str, str]) -> list[subprocess.Popen[str]]:
    """Start two processes of the trainer without a launcher, whose report would hide their exit status."""
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "training.train", *arguments],
            cwd=ROOT,
            env=environment | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


def finish(started: list[subprocess.Popen[str]]) -> list[str]:
    """Return what the processes wrote once they have ended; none is left behind."""
    try:
        return ["".join(process.communicate(timeout=LONG)) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()


def training(data: Path, weights: Path, out: Path, *settings: str) -> list[str]:
    command = ["jepa_t", "--data", str(data), "--out", str(out)]
    return command + [
        word for setting in (*TINY, f"tokenizer={weights / 'tokenizer'}", *settings) for word in ("--set", setting)
    ]


def rows_of(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


# --- whose pictures are whose


def test_processes_draw_the_numbers_of_one() -> None:
    def drawn(place: int, places: int) -> list[torch.Tensor]:
        generator = SharedGenerator.of(torch.device("cpu"), place, places).manual_seed(3)
        rows = 12 // places
        pictures, batch = draw(torch.randn, (rows, 5), generator), torch.rand((), generator=generator)
        return [pictures, batch, draw(torch.rand, (rows,), generator)]

    whole = drawn(0, 1)
    parts = [drawn(place, 3) for place in range(3)]
    assert torch.equal(torch.cat([part[0] for part in parts]), whole[0])
    assert all(torch.equal(part[1], whole[1]) for part in parts)
    assert torch.equal(torch.cat([part[2] for part in parts]), whole[2])
    plain = torch.Generator().manual_seed(3)
    assert torch.equal(draw(torch.randn, (12, 5), plain), whole[0])


def test_parts_make_up_the_batch(folder: Path, tmp_path: Path) -> None:  # noqa: F811
    options = CaptionOptions(scenes=0.3, counts=0.2, backgrounds=0.3)
    data = CaptionedPictures.load(folder, 32, options, cache_dir=tmp_path)
    whole = data.batch(5, 12, 1)
    parts = [data.batch(5, 12, 1, part=slice(4 * place, 4 * place + 4)) for place in range(3)]
    assert [caption for part in parts for caption in part.captions] == whole.captions
    for name in ("pixels", "indices", "opacity"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.4, 1.0])
def test_pictures_seen_whole_are_spread_over_the_processes(share: float) -> None:
    def places(place: int, places: int) -> tuple[torch.Tensor, float]:
        return places_seen_whole(24 // places, share, SharedGenerator.of(torch.device("cpu"), place, places))

    whole, part = places(0, 1)
    assert int(whole.sum()) == round(24 * share) == round(24 * part)
    for processes in (2, 3, 24):
        owned = [places(place, processes) for place in range(processes)]
        assert torch.equal(torch.cat([own for own, _ in owned]), whole)
        assert {found for _, found in owned} == {part}
        counts = [int(own.sum()) for own, _ in owned]
        assert max(counts) - min(counts) <= 1


def test_one_process_has_the_whole_batch() -> None:
    assert own_part(7) == slice(0, 7)


# --- two processes


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(
    folder: Path,  # noqa: F811
    tiny_weights: Path,
    tmp_path: Path,
    environment: dict[str, str],
) -> None:
    losses = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        arguments = [f"--data={folder}", f"--weights={tiny_weights}", f"--out={out}"]
        launch("tests.support.several_processes", arguments, environment, processes)
        losses.append(json.loads((out / "losses.json").read_text()))
    one, two = losses
    assert one.keys() == two.keys() == recipes(tiny_weights).keys()
    for name, steps in one.items():
        for step, (expected, found) in enumerate(zip(steps, two[name], strict=True)):
            # sums are rounded in another order, and Muon makes the smallest directions as large as the others
            assert found == pytest.approx(expected, rel=5e-3 if step else 3e-5), name
        assert len({figures["loss"] for figures in steps}) == len(steps)


@pytest.mark.slow
def test_resuming_is_exact_and_another_number_of_processes_may_go_on(
    folder: Path,  # noqa: F811
    tiny_weights: Path,
    tmp_path: Path,
    environment: dict[str, str],
) -> None:
    def run(out: str, steps: int, processes: int = 2, *, resume: bool = False) -> list[dict[str, object]]:
        settings = ["schedule.checkpoint_minutes=0", "schedule.validate_steps=2"]  # every step is saved and logged
        arguments = [*training(folder, tiny_weights, tmp_path / out, *settings), f"--steps={steps}"]
        launch("training.train", arguments + ["--resume"] * resume, environment, processes)
        return rows_of(tmp_path / out)

    straight = run("straight", 4)
    run("halves", 2)
    shutil.copytree(tmp_path / "halves", tmp_path / "fewer")
    halves, fewer = run("halves", 4, resume=True), run("fewer", 4, 1, resume=True)
    assert [row["step"] for row in straight] == [1, 2, 3, 4]
    assert [row["losses"] for row in halves] == [row["losses"] for row in straight]
    expected, found = (load_file(tmp_path / out / "checkpoint" / "model.safetensors") for out in ("straight", "halves"))
    assert [name for name, tensor in expected.items() if not torch.equal(tensor, found[name])] == []
    for row, other in zip(straight, fewer, strict=True):
        assert other["losses"] == pytest.approx(row["losses"], rel=1e-3)
    names = {path.name for path in (tmp_path / "straight").iterdir()}
    assert names == {"checkpoint", "weights", "unaveraged", "recipe.json", "log.jsonl", "samples", "tensorboard"}
    assert len(list((tmp_path / "straight" / "tensorboard").iterdir())) == 1
    assert sorted(path.stem for path in (tmp_path / "straight" / "samples").iterdir()) == ["0000002", "0000004"]
    assert [path.name for path in (tmp_path / "straight" / "checkpoint").glob("random*")] == ["random_states_0.pkl"]


def started_and_under_way(arguments: list[str], out: Path, environment: dict[str, str]) -> list[subprocess.Popen[str]]:
    started = start([*arguments, "--steps=100000"], environment)
    deadline = time.monotonic() + LONG
    while not (out / "log.jsonl").is_file() or not rows_of(out):
        assert all(process.poll() is None for process in started), finish(started)
        assert time.monotonic() < deadline, finish(started)
        time.sleep(0.05)
    return started


@pytest.mark.slow
@pytest.mark.parametrize("told", [[1], [0, 1, 0, 1]], ids=["one", "all, twice"])
def test_all_stop_after_the_same_step(
    told: list[int],
    folder: Path,  # noqa: F811
    tiny_weights: Path,
    tmp_path: Path,
    environment: dict[str, str],
) -> None:
    arguments = training(folder, tiny_weights, tmp_path / "run", "schedule.validate_steps=100000")
    started = started_and_under_way(arguments, tmp_path / "run", environment)
    for rank in told:
        started[rank].send_signal(signal.SIGTERM)
    main, other = finish(started)
    assert [process.returncode for process in started] == [1, 1], main + other
    (step,) = re.findall(r"interrupted and saved after step (\d+) of 100000; add --resume to continue", main)
    assert json.loads((tmp_path / "run" / "checkpoint" / "step.json").read_text())["step"] == int(step)
    rows = rows_of(tmp_path / "run")
    assert rows[-1]["step"] == int(step)
    assert rows[-1]["saved"]
    assert "step/s" in main
    assert spoken(other) == []


def spoken(text: str) -> list[str]:
    """Lines of a process that are the trainer's own: torch's and its friends' begin with a mark."""
    noise = re.compile(r"WARNING\[XFORMERS\]|^  |Loading weights|^$|^\[(W|rank)")
    return [line for line in re.split(r"[\r\n]+", text) if not noise.search(line)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "schedule.batch_size=5"], "schedule.batch_size is 5; allowed with 2 processes: a multiple of 2"),
        (["--steps=many"], "argument --steps: invalid int value: 'many'; see python -m training.train --help"),
        (["--resume"], "no checkpoint in"),
    ],
)
def test_a_mistake_is_told_once_and_ends_all(
    words: list[str],
    message: str,
    folder: Path,  # noqa: F811
    tiny_weights: Path,
    tmp_path: Path,
    environment: dict[str, str],
) -> None:
    started = start([*training(folder, tiny_weights, tmp_path / "run"), *words], environment)
    main, other = finish(started)
    assert [process.returncode for process in started] == [2, 2], main + other
    (line,) = spoken(main)
    assert line.startswith("error: ")
    assert message in line
    assert spoken(other) == []
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_process_that_dies_ends_the_other(
    folder: Path,  # noqa: F811
    tiny_weights: Path,
    tmp_path: Path,
    environment: dict[str, str],
) -> None:
    arguments = training(folder, tiny_weights, tmp_path / "run", "schedule.validate_steps=100000")
    started = started_and_under_way(arguments, tmp_path / "run", environment)
    started[1].kill()
    finish(started)  # which gives up after a while
    assert [process.returncode for process in started] == [1, -signal.SIGKILL]

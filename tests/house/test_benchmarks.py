"""The benchmarks run on tiny networks and print what the design names; their figures are those of this machine."""

import json
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from tests.benchmarks import attention, hostile, matching, page, serving, soak
from tests.benchmarks.measure import in_turn, matrix_rate, operations, ratio
from tests.support.drawn_corpus import write_corpus

ROOT = Path(__file__).parents[2]


def test_operations_of_a_matrix_product_are_counted() -> None:
    assert operations(lambda: torch.ones(3, 5) @ torch.ones(5, 7)) == 2 * 3 * 5 * 7
    assert matrix_rate(torch.float32, size=64) > 1e6


def test_work_is_timed_in_turn_and_the_first_round_does_not_count() -> None:
    called: list[str] = []
    taken = in_turn({"a": lambda: called.append("a"), "b": lambda: called.append("b")}, rounds=2)
    assert called == ["a", "b"] * 3
    assert {name: len(times) for name, times in taken.items()} == {"a": 2, "b": 2}
    assert ratio([4.0, 9.0, 2.0], [2.0, 3.0, 2.0]) == 2.0


@pytest.mark.slow
def test_the_command_measures_one_picture_and_prints_one_json_document(tiny_weights: Path) -> None:
    command = [sys.executable, "-m", "tests.benchmarks.sampling", "--json", "--rounds", "1", "--weights", tiny_weights]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)
    document = json.loads(done.stdout)
    assert set(document) == {"figures", "setting"}
    assert document["setting"]["torch"] == torch.__version__
    figures = document["figures"]
    names = {"latency_speedup", "first_frame_ms", "preview_overhead", "token_passes", "matrix_rate_share"}
    assert names <= set(figures)
    assert figures["token_passes"] == pytest.approx(2 - 1 / 16)  # one pass each, but for the last step's token
    assert figures["token_passes_published"] == pytest.approx(16)
    assert figures["operations"] < figures["operations_published"] / 10
    assert 0 < figures["matrix_rate_share"] < 1


@pytest.mark.slow
def test_many_requests(tiny_weights: Path) -> None:
    figures, _ = serving.measure(Namespace(weights=tiny_weights, rounds=1, requests=32))
    assert {"concurrent_8_speedup", "cancel_steps", "rss_growth_mb"} <= set(figures)
    assert figures["cancel_steps"] <= 1


@pytest.mark.slow
def test_many_runs_leave_nothing_behind(tiny_weights: Path) -> None:
    figures, _ = page.measure(Namespace(weights=tiny_weights, runs=70))
    assert figures["files_left"] == 0
    assert figures["growth_mb"] < 30
    assert figures["threads_end"] <= figures["threads_settled"]
    assert figures["runs_kept"] == 64  # and not the first six
    assert (figures["files_of_generate_image"], figures["files_of_an_upload"]) == (1, 1)  # for an hour


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # archives with two entries of one name are meant
def test_an_attack_is_refused_in_words(tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostile, "SETTLING", 1.0)
    asked = Namespace(weights=tiny_weights, tries=300, minutes=5, seed=0, clients=3)
    figures, facts = hostile.measure(asked)
    assert (figures["tried"], figures["unclear"], figures["crashed"]) == (300, 0, 0), facts
    assert figures["accepted"] > 10
    assert figures["peak_mb"] < 1500


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # streams that are cut off leave their sockets to the collector
def test_clients_at_once_get_their_own_and_leave_nothing(tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "SETTLING", 15.0)
    figures, facts = soak.measure(Namespace(weights=tiny_weights, requests=120, clients=6, seed=0))
    assert (figures["mixed_up"], figures["lost"], figures["files_more"]) == (0, 0, 0), facts
    assert figures["right"] > 20
    assert figures["settled_mb"] < 1000


def test_a_table_of_pairs(tiny_weights: Path) -> None:
    asked = Namespace(weights=tiny_weights, pictures=3, captions=40, best=2, data="", threads=0)
    figures, facts = matching.measure(asked)
    assert figures["quick_pair_us"] < figures["pair_us"]
    assert figures["table_seconds"] > 0
    assert figures["kept_features_mb"] > 0
    assert {name: facts[name] for name in ("pictures", "captions", "best")} == {
        "pictures": 3,
        "captions": 40,
        "best": 2,
    }


def test_a_table_of_real_pairs_tells_what_a_quick_look_loses(tiny_weights: Path, tmp_path: Path) -> None:
    folder = write_corpus(tmp_path)
    asked = Namespace(weights=tiny_weights, pictures=6, captions=6, best=6, data=folder, threads=0, checked=3)
    figures, _ = matching.measure(asked)
    assert figures["whole_pairs"] == 36
    assert (figures["lost_first_captions"], figures["lost_first_pictures"]) == (0, 0)
    assert figures["recall_at_1_whole"] == figures["recall_at_1_quick"]
    asked.best = 1
    figures, _ = matching.measure(asked)
    assert 6 <= figures["whole_pairs"] <= 12


def test_attention_kernels() -> None:
    figures, _ = attention.measure(Namespace(rounds=1))
    assert all(value > 0 for value in figures.values())
    assert {f"us_{batch}_door" for batch in attention.STEPS} <= set(figures)

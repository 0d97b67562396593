"""The evaluation: figures read off known tables, and the whole command on tiny weights and a small drawn corpus."""

import csv
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image

from jepa_app.checkpoint import load_config, load_state, write_manifest
from jepa_app.config import TIJepaConfig
from jepa_app.hub.card import card_text, read_figures
from jepa_app.models.ti_jepa import TIJepa
from tests.support.drawn_corpus import SIZE, draw, write_corpus, write_exact_weights
from training import calibrate
from training import evaluate as evaluate_command
from training.data.batches import CaptionedPictures
from training.data.captions import Row
from training.data.decoded import default_cache_dir
from training.data.selection import balanced_order, choose_pictures, fitting_and_measuring
from training.judging.match_figures import (
    calibration_error,
    group_figures,
    match_auc,
    matrix_figures,
    wrong_choices,
)
from training.judging.picture_figures import ConceptExam, Indices, rank_figures
from training.judging.report import JudgedPictures, _joined, markdown, save_evidence
from training.judging.trials import sides_of


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 concepts in four styles, 12 of them on the held-out side."""
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the smallest networks that fit together."""
    return write_exact_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def command(weights: Path, corpus: Path, *more: str) -> list[str]:
    small = [part for key in ("prompts=12", "matches=20", "concepts=3", "steps=2") for part in ("--set", key)]
    return [str(weights), "--data", str(corpus), "--device", "cpu", *small, *more]


@pytest.mark.slow
def test_the_command_measures_both_models_and_keeps_its_evidence(
    weights: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate_command.main(command(weights, corpus, "--json", "--out", str(tmp_path))) == 0
    document = json.loads(capsys.readouterr().out)
    figures, setting = document["figures"], document["setting"]
    for suffix in ("", "_heldout_concepts"):
        for kind in ("", "_other_designs", "_reconstruction", "_real"):
            assert 0 <= figures[f"concept_top1{suffix}{kind}"] <= figures[f"concept_top5{suffix}{kind}"] <= 1
        # raw patches lose nothing, so a reconstruction is judged as its picture is
        assert figures[f"concept_top1{suffix}_reconstruction"] == figures[f"concept_top1{suffix}_real"]
        names = ("match_auc_nonsense", "match_wins_nonsense", "match_auc_sides", "concept_recall_at_1_t2i")
        for name in (*names, "recall_at_1_t2i", "recall_at_5_i2t", "match_auc_random", "caption_top1_of_10", "ece"):
            assert 0 <= figures[name + suffix] <= 1
    assert figures["concept_top1_real"] > figures["concept_top1"]  # untrained
    assert figures["frechet"] > 2 * figures["frechet_real"]
    assert figures["frechet_reconstruction"] == pytest.approx(figures["frechet_real"], rel=1e-2)
    assert {"match_auc_same_group", "match_auc_attribute"} <= set(figures)
    assert setting["prompts"] == 12
    assert setting["concepts"] == 40
    assert setting["frechet_pictures"] == 12

    curve = document["curves"]["reliability"]
    assert sum(point["pairs"] for point in curve) == 2 * setting["matches"]
    assert sum(point["share"] * point["pairs"] for point in curve) == pytest.approx(setting["matches"])
    gap = sum(abs(point["probability"] - point["share"]) * point["pairs"] for point in curve) / (2 * setting["matches"])
    assert gap == pytest.approx(figures["ece"])

    points = [
        {"probability": p, "share": s, "pairs": n} for p, s, n in ((0, 0, 30), (0.5, 1, 10), (1, 1, 10), (1, 0, 1))
    ]
    assert _joined(points) == [(0, 0), (pytest.approx(16 / 21), pytest.approx(20 / 21))]
    drawn = (tmp_path / "reliability.svg").read_text()
    assert ET.fromstring(drawn).tag.endswith("svg")
    assert all(drawn.count(f">{side}<") == 1 for side in ("as said", "trained", "held-out concepts"))

    assert json.loads((tmp_path / "figures.json").read_text()) == document
    card = card_text(weights, "me/weights", read_figures(tmp_path / "figures.json"))
    assert f"| ece | {figures['ece']:.4g} | " in card
    assert {"type": "concept_top1", "value": figures["concept_top1"], "name": "concept top1"} in [
        metric for result in ModelCard(card).data.to_dict()["model-index"][0]["results"] for metric in result["metrics"]
    ]
    with (tmp_path / "judged.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 12
    assert all(line["prompt"].endswith(" style") and line["nearest"] for line in lines)
    ranks = np.array([int(line["rank"]) for line in lines])
    assert (ranks == 1).mean() == figures["concept_top1"]
    with Image.open(tmp_path / "grid.png") as sheet:
        assert sheet.size == (12 * SIZE + 11 * 2, SIZE)

    (cached,) = default_cache_dir().glob("*-judge.npy")
    assert np.load(cached).shape == (160, 1280)
    table = markdown(figures, setting)
    shown = f"{figures['concept_top1']:.3f} | {figures['concept_top1_other_designs']:.3f}"
    assert f"| right concept first | trained | {shown} |" in table
    assert f"| generated | {figures['frechet']:.0f} |" in table
    assert f"| AUC, random captions | {figures['match_auc_random']:.3f} |" in table


@pytest.mark.slow
def test_groups_limit_what_is_measured_but_not_what_the_judge_knows(
    weights: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = command(weights, corpus, "--json", "--out", str(tmp_path), "--set", 'groups=["group 1"]')
    assert evaluate_command.main(asked) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["setting"]["concepts"] == 40
    assert document["setting"]["matches"] == 14  # of 28 trained concepts
    with (tmp_path / "judged.csv").open(newline="") as file:
        prompts = [line["prompt"] for line in csv.DictReader(file)]
    assert len(prompts) == 12
    assert all(prompt.startswith("blue thing ") for prompt in prompts)


def test_sides_may_be_limited_to_groups_and_subgroups(corpus: Path) -> None:
    data = CaptionedPictures.load(corpus, SIZE)
    everything, one, both = (sides_of(data, groups) for groups in ((), ("group 1",), ("group 0", "things")))
    assert list(everything) == list(one) == list(both) == ["", "_heldout_concepts"]
    for suffix, side in everything.items():
        assert one[suffix].tolist() == [index for index in side.tolist() if data.rows[index].group == "group 1"]
        assert both[suffix].tolist() == side.tolist()
    with pytest.raises(ValueError, match="groups has flags; allowed: group 0, group 1, things"):
        sides_of(data, ("group 1", "flags"))


def test_figures_of_an_absent_model_or_of_nameless_concepts_are_absent(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only = tmp_path / "weights"
    for part in ("tokenizer", "jepa-t"):
        (only / part).mkdir(parents=True)
        for file in (weights / part).iterdir():
            (only / part / file.name).write_bytes(file.read_bytes())
    write_manifest(only)
    plain = tmp_path / "pictures"
    plain.mkdir()
    entries = []
    for number in range(30):
        draw(number, "black").convert("RGB").save(plain / f"{number:02}.png")
        entries.append(json.dumps({"file_name": f"{number:02}.png", "text": f"polygon {number}"}))
    (plain / "metadata.jsonl").write_text("\n".join(entries))
    assert evaluate_command.main(command(only, plain, "--out", str(tmp_path / "out"))) == 0
    shown = capsys.readouterr().out
    assert "Frechet distance, n = 12" in shown
    assert "concept" not in shown
    document = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert set(document["figures"]) == {"frechet", "frechet_real", "frechet_reconstruction"}
    assert document["setting"]["concepts"] == 0
    assert (tmp_path / "out" / "judged.csv").read_text().splitlines()[0] == "prompt,seed"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "--data", "."], "error: .*nowhere"),
        (["{weights}", "--data", "nowhere"], "error: there is no folder nowhere"),
        (["{empty}", "--data", "{corpus}"], "holds none of jepa-t, dit, ti-jepa, peer; train one"),
        (["{weights}", "--data", "{corpus}", "--set", "prompts=3"], "prompts is 3; allowed: 10 or more"),
        (["{weights}", "--data", "{corpus}", "--set", "prompts=many"], "prompts is 'many'"),
        (["{weights}", "--data", "{corpus}", "--set", "speed=9"], "'speed' is unknown; allowed: steps, guidance"),
        (["{weights}", "--data", "{corpus}", "--set", 'groups=["flags"]'], "groups has flags; allowed: group 0"),
        (["{weights}", "--data", "{corpus}", "--device", "abacus"], "device is 'abacus'"),
    ],
)
def test_a_users_mistake_is_one_line_and_status_2(
    arguments: list[str], message: str, weights: Path, corpus: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    places = {"weights": str(weights), "corpus": str(corpus), "empty": str(tmp_path)}
    assert evaluate_command.main([argument.format(**places) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert re.search(message, error.splitlines()[-1])


def test_a_missing_argument_is_one_line_and_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        evaluate_command.main(["weights"])
    assert leaving.value.code == 2
    assert capsys.readouterr().err.startswith("error: the following arguments are required: --data")


def test_matrix_figures_of_a_perfect_a_useless_and_a_shifted_matcher() -> None:
    count = 20
    perfect = matrix_figures(1 - np.eye(count), np.eye(count), seed=0)
    assert perfect == {
        "recall_at_1_i2t": 1, "recall_at_5_i2t": 1, "recall_at_1_t2i": 1, "recall_at_5_t2i": 1,
        "caption_top1_of_10": 1, "match_auc_random": 1, "ece": 0,
    }  # fmt: skip
    useless = matrix_figures(np.zeros((count, count)), np.full((count, count), 0.5), seed=0)
    assert useless["recall_at_5_t2i"] == 0  # ties never count for the model
    assert useless["caption_top1_of_10"] == 0
    assert useless["match_auc_random"] == 0.5
    assert useless["ece"] == 0  # half of the pairs do match
    # a picture with low energies for all captions ranks its captions well and is found by every caption
    shifted = 1 - np.eye(count)
    shifted[3] -= 10
    figures = matrix_figures(shifted, np.eye(count), seed=0)
    assert figures["recall_at_1_i2t"] == 1
    assert figures["recall_at_1_t2i"] == pytest.approx(1 / count)
    assert figures["match_auc_random"] < 1


def test_near_misses_are_of_the_same_group_and_style() -> None:
    rows = [
        Row(file=str(place), label=f"thing {place}", style=f"s{place % 2}", group=f"g{place // 6}")
        for place in range(12)
    ]
    energy = np.full((12, 12), 9.0)
    for place in range(12):
        for other in range(12):
            if place % 2 == other % 2 and place // 6 == other // 6 and place != other:
                energy[place, other] = 0.0  # only the near captions beat the right one
    np.fill_diagonal(energy, 1.0)
    probability = np.where(energy == 9, 0.0, 1.0)  # certain of the right captions, and of the near ones too
    assert group_figures(energy, probability, rows, 0) == {"match_auc_same_group": 0.0, "ece_same_group": 0.5}
    probability = np.where(energy == 0, 0.0, 1.0)
    assert group_figures(energy, probability, rows, 0)["ece_same_group"] == 0
    assert group_figures(energy[:5, :5], probability[:5, :5], rows[:5], 0) == {}
    assert group_figures(energy, probability, [Row(file=row.file, label=row.label) for row in rows], 0) == {}


@pytest.mark.slow
def test_trained_weights_get_references_anew_and_keep_their_network(
    weights: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    part, out = str(weights / "ti-jepa"), tmp_path / "ti-jepa"
    arguments = ["--data", str(corpus), "--out", str(out)]
    assert calibrate.main([part, *arguments, "--references", "5"]) == 0
    config = load_config(out, TIJepaConfig)
    assert config.num_references == 5
    network, before = TIJepa(config), TIJepa(load_config(Path(part), TIJepaConfig))
    load_state(out, network)
    load_state(Path(part), before)
    assert network.references.captions.abs().sum() > 0
    after = network.state_dict()
    for name, value in before.state_dict().items():
        torch.testing.assert_close(after[name], value.half().float(), msg=name)
    assert calibrate.main([str(out), *arguments, "--references", "0"]) == 0  # and back
    assert load_config(out, TIJepaConfig).num_references == 0
    assert calibrate.main([part, *arguments, "--references", "-1"]) == 2
    assert capsys.readouterr().err.endswith("error: references is -1; allowed: 0 or more\n")


def test_match_auc_equals_counting_all_pairs() -> None:
    rng = np.random.default_rng(0)
    matched, mismatched = rng.integers(0, 8, 30) / 1.0, rng.integers(2, 11, 50) / 1.0
    pairs = [(a < b) + 0.5 * (a == b) for a in matched for b in mismatched]
    assert match_auc(matched, mismatched) == pytest.approx(np.mean(pairs))


def test_calibration_error_of_known_probabilities() -> None:
    assert calibration_error(np.full(80, 0.8), np.full(20, 0.8)) == pytest.approx(0)
    assert calibration_error(np.full(50, 0.9), np.full(50, 0.9)) == pytest.approx(0.4)
    assert calibration_error(np.array([1.0]), np.array([1.0])) == pytest.approx(0.5)
    # over- and underconfidence in different bins do not cancel
    assert calibration_error(np.array([0.7, 0.7]), np.array([0.3, 0.3])) == pytest.approx(0.3)


def test_wrong_choices_are_other_captions_without_repetition() -> None:
    wrong = wrong_choices(30, 9, seed=1)
    assert wrong.shape == (30, 9)
    assert all(len({place, *others}) == 10 for place, others in enumerate(wrong.tolist()))
    assert set(wrong.ravel().tolist()) == set(range(30))
    np.testing.assert_array_equal(wrong, wrong_choices(30, 9, seed=1))


def test_choices_are_balanced_over_styles_and_have_distinct_labels() -> None:
    rows = [Row(file=f"{n}", label=f"label {n % 40}", style="rare" if n >= 110 else "usual") for n in range(120)]
    indices: Indices = np.arange(120, dtype=np.int64)
    order = balanced_order(rows, indices, seed=3)
    assert sorted(order.tolist()) == list(range(120))
    assert sum(rows[index].style == "rare" for index in order[:20].tolist()) == 10
    chosen = choose_pictures(rows, indices, 25, seed=3)
    assert len({rows[index].label for index in chosen.tolist()}) == 25


def test_pictures_with_several_captions_are_chosen_once_and_lie_in_one_half() -> None:
    rows = [Row(file=f"{n // 5}.jpg", label=f"caption {n}") for n in range(200)]
    rows += [Row(file=f"class {n}.jpg", label=f"class {n % 10}") for n in range(100)]
    rows += [Row(file="0.jpg", label="class 1"), Row(file="class 3.jpg", label="caption 11")]
    indices: Indices = np.arange(len(rows), dtype=np.int64)
    chosen = [rows[index] for index in choose_pictures(rows, indices, 100, seed=3).tolist()]
    assert len({row.label for row in chosen}) == len({row.file for row in chosen}) == len(chosen) >= 45
    halves = [[rows[index] for index in half.tolist()] for half in fitting_and_measuring(rows, indices)]
    assert min(map(len, halves)) > 60
    for name in ("label", "file"):
        first, second = ({getattr(row, name) for row in half} for half in halves)
        assert not first & second
    alone = fitting_and_measuring(rows, indices[:100])[0]
    assert set(alone.tolist()) - {0, 1, 2, 3, 4} <= {
        *fitting_and_measuring(rows, indices)[0].tolist(),
        10,
        11,
        12,
        13,
        14,
    }


def test_an_exam_leaves_the_own_design_out(corpus: Path) -> None:
    data = CaptionedPictures.load(corpus, SIZE)
    rng = np.random.default_rng(0)
    features = rng.gamma(1.0, size=(len(data.rows), 32)).astype(np.float32)  # no two pictures are alike
    exam = ConceptExam(data, features)
    indices: Indices = np.arange(40, dtype=np.int64)
    ranks, nearest = exam.look_up(features[:40], indices, leave_out=False)
    assert rank_figures(ranks, "_x") == {"concept_top1_x": 1, "concept_top5_x": 1, "concept_median_rank_x": 1}
    assert nearest == [data.rows[index].label for index in range(40)]
    ranks, nearest = exam.look_up(features[:40], indices, leave_out=True)
    assert (ranks == 0).mean() < 0.5


def test_tables_show_only_what_was_measured() -> None:
    assert markdown({}, {}) == ""
    table = markdown({"match_auc_random": 0.75, "match_auc_random_heldout_pairs": 0.5, "ece": 0.1}, {})
    assert table.splitlines() == [
        "| match | trained | held-out pairs |",
        "| --- | --- | --- |",
        "| AUC, random captions | 0.750 | 0.500 |",
        "| calibration error | 0.100 |  |",
    ]


def test_evidence_is_written_for_pictures_nobody_judged(tmp_path: Path) -> None:
    judged = JudgedPictures(suffix="_x", prompts=["a, b"], seeds=[4], pixels=torch.zeros(1, 3, 8, 8))
    save_evidence(judged, tmp_path)
    assert (tmp_path / "judged_x.csv").read_text().splitlines() == ["prompt,seed", '"a, b",4']
    assert (tmp_path / "grid_x.png").is_file()

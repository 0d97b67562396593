"""Memory, classes and sweeps: their figures on known tables, and each command on tiny weights and a drawn corpus."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from jepa_app.checkpoint import load_config, save_network, write_manifest
from jepa_app.config import TIJepaConfig
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.matching.scoring import Scorer
from jepa_app.models.jepa_t import JepaT
from jepa_app.models.ti_jepa import TIJepa
from tests.conftest import awake
from tests.support.drawn_corpus import SIZE, write_corpus, write_exact_weights
from training.data.batches import CaptionedPictures
from training.data.captions import Row
from training.judging.charts import chart, heat_panel, line_panel
from training.judging.judge import inception_score, precision_and_recall
from training.judging.neighbours import TrainingPictures
from training.settings import replace_settings
from training.studies import best_of, classes, memory, sweep, text_paths

SVG = "{http://www.w3.org/2000/svg}"


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
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache-of-trials"))


def command(weights: Path, corpus: Path, out: Path, *settings: str) -> list[str]:
    given = [part for setting in ("prompts=12", "steps=2", *settings) for part in ("--set", setting)]
    return [str(weights), "--data", str(corpus), "--out", str(out), "--device", "cpu", "--json", *given]


def figures_of(printed: str) -> dict[str, float]:
    figures: dict[str, float] = json.loads(printed)["figures"]
    return figures


@pytest.mark.slow
def test_copies_are_found_out_and_random_pictures_are_new(
    weights: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert memory.main(command(weights, corpus, tmp_path, "shown=5")) == 0
    figures = figures_of(capsys.readouterr().out)
    assert figures["memorised_copies"] == 1  # raw patches lose nothing
    assert figures["nearest_pixels_copies"] == pytest.approx(0, abs=1e-3)
    assert figures["nearest_features_copies"] == pytest.approx(0, abs=1e-3)
    for measure in ("features", "pixels"):
        assert figures[f"memorised_{measure}_heldout_concepts_real"] == pytest.approx(0.05, abs=0.02)
    for side in ("", "_heldout_concepts"):
        assert figures[f"memorised{side}"] == 0  # an untrained network remembers nothing
        assert figures[f"nearest_pixels{side}"] > 10 * figures["nearest_pixels_copies"]
    assert "nearest_concept" in figures
    assert not [name for name in figures if name.startswith("nearest_concept_heldout_concepts")]
    assert json.loads((tmp_path / "figures.json").read_text())["setting"]["shown"] == 5
    with Image.open(tmp_path / "nearest_heldout_concepts.png") as sheet:
        assert sheet.height == 30 + 5 * (memory.SIDE + memory.LABEL)
    lines = ElementTree.parse(tmp_path / "distances.svg").iter(f"{SVG}polyline")
    assert len(list(lines)) == 2 * 3  # trained, held-out concepts and real, by two measures
    assert f"| memorised | {figures['memorised']:.3f} |" in memory.markdown(figures)


def test_the_nearest_training_picture_equals_a_plain_search(corpus: Path) -> None:
    data = CaptionedPictures.load(corpus, SIZE)
    features = np.random.default_rng(0).gamma(1.0, size=(len(data.rows), 32)).astype(np.float32)
    train, asked = data.split.train, data.split.heldout_concepts[:6]
    pixels = data.fixed(asked).pixels
    found = TrainingPictures(data, features).nearest(pixels, features[asked])
    mean = np.sqrt(features[train]).mean(axis=0)
    blocks = pixels.unflatten(3, (16, 2)).mean(dim=4).unflatten(2, (16, 2)).mean(dim=3).numpy()
    known = data.fixed(train).pixels.unflatten(3, (16, 2)).mean(dim=4).unflatten(2, (16, 2)).mean(dim=3).numpy()
    for place, row in enumerate(asked.tolist()):
        one, others = np.sqrt(features[row]) - mean, np.sqrt(features[train]) - mean
        cosine = others @ one / np.linalg.norm(others, axis=1) / np.linalg.norm(one)
        assert found["features"].rows[place].tolist() == train[np.argsort(-cosine)[:3]].tolist()
        assert found["features"].closest[place] == pytest.approx(1 - cosine.max(), abs=1e-5)
        differences = np.sqrt(np.square(known - blocks[place]).mean(axis=(1, 2, 3)))
        assert found["pixels"].closest[place] == pytest.approx(differences.min(), abs=1e-4)


def test_siblings_of_a_design_count_as_the_prompted_style() -> None:
    rows = [
        Row(file=f"{style}/{code}", label=code, style=style, hexcode=code)
        for code in ("1F34E", "1F34F")
        for style in ("fluent", "fluentflat", "noto")
    ]
    asked, found = np.array([0, 0, 0, 0]), np.array([1, 2, 3, 5])
    figures = memory.shown_figures(rows, asked, found, "")
    assert figures == {"nearest_concept": 0.5, "nearest_design": 0.5, "nearest_both": 0.25}
    assert memory.shown_figures(rows, asked, found, "_heldout_concepts") == {"nearest_design_heldout_concepts": 0.5}


@pytest.mark.slow
def test_classes_are_measured_with_and_without_guidance(
    weights: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert classes.main(command(weights, corpus, tmp_path, "guidance=2.5")) == 0
    figures = figures_of(capsys.readouterr().out)
    for kind in ("_guidance_1", "_guidance_2.5", "_reconstruction", "_real"):
        assert 1 - 1e-9 <= figures[f"inception_score{kind}"] <= 12
        assert 0 <= figures[f"concept_top5_other_designs{kind}"] <= 1
    for name in ("inception_score", "frechet", "precision", "recall"):
        assert figures[f"{name}_reconstruction"] == pytest.approx(figures[f"{name}_real"], rel=1e-2)
    assert figures["frechet_guidance_1"] > 2 * figures["frechet_real"]  # untrained
    assert figures["inception_score_guidance_1"] < figures["inception_score_real"]
    assert (tmp_path / "grid_guidance_1.png").is_file()
    prompts = (tmp_path / "judged_guidance_2.5.csv").read_text().splitlines()[1:]
    assert len({re.sub(", .*", "", prompt) for prompt in prompts}) == 12  # no label twice
    assert f"| guidance 2.5 | {figures['inception_score_guidance_2.5']:.2f} |" in classes.markdown(figures, 12)


@pytest.mark.slow
def test_choosing_by_energy_chooses_the_lowest_of_the_same_pictures(
    weights: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = shutil.copytree(weights, tmp_path / "weights")
    config = load_config(weights / "ti-jepa", TIJepaConfig)
    save_network(weights / "ti-jepa", awake(TIJepa(config)), config)  # a fresh one finds all pairs alike
    write_manifest(weights)
    assert best_of.main(command(weights, corpus, tmp_path, "counts=[1,3]")) == 0
    figures = figures_of(capsys.readouterr().out)
    assert figures["energy_best_of_3"] < figures["energy_best_of_1"] < figures["energy_worst_of_3"]
    choices = [figures[f"concept_median_rank_{kind}"] for kind in ("best_of_3", "best_of_1", "worst_of_3")]
    assert figures["concept_median_rank_judges_choice_of_3"] <= min(choices)
    rows = (tmp_path / "judged_best_of_3.csv").read_text().splitlines()[1:]
    pairs = [(row.rsplit(",", 1)[0].strip('"'), int(row.rsplit(",", 1)[1])) for row in rows]
    assert len(pairs) == 12
    pipeline, scorer = JepaTPipeline.from_pretrained(weights), Scorer.from_pretrained(weights, "cpu")
    prompt, seed = pairs[0]
    row = seed % best_of.BETWEEN_CANDIDATES  # the same prompt under all its seeds, one after the other
    seeds = [row + best_of.BETWEEN_CANDIDATES * number for number in range(3)]
    pictures = [
        pipeline(prompt, num_inference_steps=2, generator=torch.Generator().manual_seed(one)).images[0] for one in seeds
    ]
    assert seeds[int(scorer.score(pictures, [prompt]).energy[:, 0].argmin())] == seed
    assert f"| best of 3 | {figures['concept_top5_best_of_3']:.3f} |" in best_of.markdown(figures)


@pytest.mark.parametrize("counts", ["[]", "[0,4]", "[1.5]"])
def test_impossible_counts_are_refused(counts: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert best_of.main(["none", "--data", "none", "--out", "none", "--set", f"counts={counts}"]) == 2
    assert "counts is [" in capsys.readouterr().err


def test_words_go_by_the_open_ways_alone(weights: Path) -> None:
    pipeline = JepaTPipeline.from_pretrained(weights)
    network, text = pipeline.network, pipeline.encode_prompts(["red apple", "a blue car on a road"])
    awake(network)
    positions = torch.arange(network.config.num_tokens).expand(2, -1)
    blocks = torch.zeros_like(positions)

    def conditions(told: JepaT) -> torch.Tensor:
        with torch.no_grad():
            return told.predict(told.start(text).at(blocks), positions)

    ways = text_paths.ways_of(network)
    assert ways == ["prefix", "cross-attention", "before the losses"]
    rows = {name: conditions(text_paths.PartlyTold(network, some)) for name, some in text_paths.rows_of(ways).items()}
    assert torch.equal(rows["all ways"], conditions(network))
    with torch.no_grad():
        null = network.start(network.null_features(2))
        assert torch.equal(rows["no text"], network.predict(null.at(blocks), positions))
    assert len(rows) == 8
    distances = torch.pdist(torch.stack([one.flatten() for one in rows.values()]))
    assert distances.min() > 1e-4  # every way carries something


def test_ways_are_those_of_the_network(weights: Path) -> None:
    network = JepaTPipeline.from_pretrained(weights).network
    network.config = replace(network.config, text_prefix=False, fuse_before_loss=False)
    assert text_paths.ways_of(network) == ["cross-attention"]
    assert text_paths.rows_of(["cross-attention"]) == {"all ways": ("cross-attention",), "no text": ()}
    assert list(text_paths.rows_of(["a", "b"])) == ["all ways", "a alone", "b alone", "no text"]
    assert text_paths.rows_of(["a", "b", "c"])["without b"] == ("a", "c")


@pytest.mark.slow
def test_what_the_ways_of_words_are_worth(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights = write_exact_weights(tmp_path / "weights")
    pipeline = JepaTPipeline.from_pretrained(weights)
    torch.nn.init.zeros_(awake(pipeline.network).injection.weight)  # so that words that go there alone go nowhere
    save_network(weights / "jepa-t", pipeline.network, pipeline.network.config)
    write_manifest(weights)
    assert text_paths.main(command(weights, corpus, tmp_path)) == 0
    figures = figures_of(capsys.readouterr().out)
    kinds = {"loss", "loss_at_0", "frechet", "concept_top1", "concept_top5", "concept_median_rank"}
    assert kinds <= {name.partition(", ")[0] for name in figures}
    assert figures["loss, before the losses alone"] == figures["loss, no text"] != figures["loss, prefix alone"]
    assert figures["frechet, before the losses alone"] == figures["frechet, no text"]
    assert figures["loss, without before the losses"] == figures["loss, all ways"]
    with Image.open(tmp_path / "grid_no_text.png") as none, Image.open(tmp_path / "grid_all_ways.png") as told:
        assert none.size == told.size
        assert none.tobytes() != told.tobytes()
    first = (tmp_path / "judged_all_ways.csv").read_text().splitlines()[1].rpartition(",")
    generator = torch.Generator().manual_seed(int(first[2]))
    picture = pipeline(first[0].strip('"'), num_inference_steps=2, generator=generator).images[0]
    with Image.open(tmp_path / "grid_all_ways.png") as told:
        difference = np.abs(np.asarray(told.crop((0, 0, SIZE, SIZE)), int) - np.asarray(picture, int))
    assert difference.max() <= 1


def test_the_ways_of_other_generators_are_refused(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert text_paths.main(command(tmp_path / "none", corpus, tmp_path)) == 2
    assert "error: " in capsys.readouterr().err


def test_inception_scores_of_known_probabilities() -> None:
    assert inception_score(np.eye(8)) == pytest.approx(8)  # certain and all different
    assert inception_score(np.tile(np.eye(8)[:1], (8, 1))) == pytest.approx(1)  # certain and all alike
    assert inception_score(np.full((8, 8), 1 / 8)) == pytest.approx(1)  # never certain
    mixed = np.array([[0.9, 0.1], [0.3, 0.7]])
    mean = mixed.mean(axis=0)
    expected = np.exp(np.mean([np.sum(row * np.log(row / mean)) for row in mixed]))
    assert inception_score(mixed) == pytest.approx(expected)


def test_the_temperature_is_the_one_that_tells_concepts_best() -> None:
    rng = np.random.default_rng(0)
    distances = rng.uniform(0.2, 1, size=(400, 6)).astype(np.float32)
    shares = np.exp(-distances / 0.1)
    right = np.array([rng.choice(6, p=share / share.sum()) for share in shares])  # drawn at temperature 0.1
    distances[:9, 0] = np.inf  # concepts that no picture is left of
    assert classes.best_temperature(distances, right) == pytest.approx(0.1, rel=0.2)
    np.testing.assert_allclose(np.exp(classes.log_softmax(distances, 0.1)).sum(axis=1), 1)
    np.testing.assert_allclose(
        np.exp(classes.log_softmax(distances, 0.1))[9:], (shares / shares.sum(1)[:, None])[9:], 1e-4
    )


def test_precision_and_recall_tell_narrow_from_strange_pictures() -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(size=(200, 4)).astype(np.float32)
    narrow = 0.1 * rng.normal(size=(200, 4)).astype(np.float32)
    precision, recall = precision_and_recall(real, narrow)
    assert precision == 1  # all among the real ones
    assert recall < 0.1  # and nearly none of these among them
    assert precision_and_recall(real, real + 50) == (0, 0)
    distances = np.linalg.norm(real[:, None].astype(np.float64) - narrow[None], axis=2)
    own = np.linalg.norm(narrow[:, None].astype(np.float64) - narrow[None], axis=2)
    assert recall == np.mean((distances <= np.sort(own, axis=1)[:, 3]).any(axis=1))
    with pytest.raises(ValueError, match="5 pictures per set: got 200 and 4"):
        precision_and_recall(real, narrow[:4])


@pytest.mark.slow
def test_a_sweep_fills_its_table_and_goes_on_where_it_stopped(
    weights: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = ("guidances=[1,3]", "temperatures=[0.9]", "step_counts=[1,2]")
    arguments = [*command(weights, corpus, tmp_path, *values), "--over", "guidance,temperature"]
    assert sweep.main(arguments) == 0
    figures = figures_of(capsys.readouterr().out)
    assert {"frechet_guidance_1_temperature_0.9", "concept_top5_guidance_3_temperature_0.9"} <= set(figures)
    texts = [text.text for text in ElementTree.parse(tmp_path / "guidance-temperature.svg").iter(f"{SVG}text")]
    assert f"{figures['frechet_guidance_3_temperature_0.9']:.0f}" in texts

    kept = json.loads((tmp_path / "cells.json").read_text())
    assert [cell["setting"]["guidance"] for cell in kept] == [1, 3]
    kept[0]["figures"]["frechet"] = -1.0  # a cell that is done is not made again
    (tmp_path / "cells.json").write_text(json.dumps(kept[:1]))
    assert sweep.main(arguments) == 0
    again = figures_of(capsys.readouterr().out)
    assert again == figures | {"frechet_guidance_1_temperature_0.9": -1.0}

    assert sweep.main([word for word in arguments[:-1] if word != "--json"] + ["steps"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("| steps | Frechet distance |")
    assert [line.split(" | ")[0] for line in shown[2:]] == ["| 1", "| 2"]
    assert len(json.loads((tmp_path / "cells.json").read_text())) == 4
    (tmp_path / "cells.json").write_text("[{}]")
    assert sweep.main(arguments) == 2
    assert "remove it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "over", "message"),
    [
        ([], "colour", "--over is 'colour'; allowed: one or two of guidance, temperature, steps"),
        ([], "steps,steps", "--over is 'steps,steps'"),
        (["step_counts=[4,99]"], "steps", "steps is 99; allowed: 1 to 16"),
        (["step_counts=[1.5]"], "steps", r"step_counts is \[1.5\]; allowed: a list of one or more whole numbers"),
        (["guidances=[]"], "guidance", r"guidances is \[\]"),
        (["temperatures=[1,9]"], "temperature", "temperature is 9.0; allowed: 0 to 2"),
        (["prompts=2"], "steps", "prompts is 2; allowed: 10 or more"),
        (["guidance_schedule=cosine"], "steps", "guidance_schedule is 'cosine'; allowed: constant or linear"),
    ],
)
def test_a_sweep_refuses_before_it_begins(settings: list[str], over: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sweep.cells_of(replace_settings(sweep.Settings(), settings), sweep.axes_of(over), num_tokens=16)


def test_the_best_cell_is_darkest_and_names_are_escaped() -> None:
    panel = heat_panel(
        "a < b", ("down", ["1", "2"]), ("across", ["x & y"]), [[5.0], [3.0]], shown=".1f", less_is_better=True
    )
    root = ElementTree.fromstring(chart([panel, line_panel("l", "n", {"one": [(1, 2), (4, 8)]}, logarithmic=True)]))
    cells = [cell.get("fill") for cell in root.iter(f"{SVG}rect")][1:]
    assert cells == ["rgb(255,255,255)", "rgb(49,46,129)"]
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert {"a < b", "x & y", "5.0", "3.0"} <= set(texts)
    (line,) = root.iter(f"{SVG}polyline")
    assert line.get("points") == "56.0,264.0 364.0,56.0"

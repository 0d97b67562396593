"""The command line: what it writes, prints and refuses."""

import csv
import json
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from PIL import Image

from jepa_app.__main__ import main
from jepa_app.command_line import check_address
from jepa_app.studio import score_csv
from jepa_app.studio.export import read_settings
from jepa_app.studio.requests import GenerateRequest
from jepa_app.studio.studio import Studio
from tests.support.studio_server import loaded

ROOT = Path(__file__).parents[2]
GENERATE_KEYS = ["prompt", "seed", "steps", "guidance", "temperature", "file", "seconds", "first_frame_seconds"]
GENERATE_KEYS += ["weights", "device", "attention"]


@pytest.fixture
def weights(tiny_weights: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The tiny weights, loaded once for all tests instead of once a command."""
    monkeypatch.setattr(Studio, "load", lambda folder, _device: loaded(Path(folder)))
    return str(tiny_weights)


def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_generate_writes_the_picture_of_its_seed(weights: str, tmp_path: Path, capsys: Any) -> None:
    out, run = tmp_path / "apple.png", tmp_path / "apple.webp"
    words = ["generate", "red apple, noto style", "--weights", weights, "--steps", "4", "--guidance", "2"]
    assert main([*words, "--seed", "7", "--out", str(out), "--run", str(run), "--json"]) == 0
    record = printed(capsys)
    assert list(record) == GENERATE_KEYS
    assert (record["prompt"], record["seed"], record["steps"], record["guidance"]) == (words[1], 7, 4, 2.0)
    assert (record["file"], record["weights"], record["device"]) == (str(out), weights, "cpu")
    assert 0 < record["first_frame_seconds"] <= record["seconds"]
    request = GenerateRequest(prompt=words[1], steps=4, guidance=2.0, seed=7)
    with Image.open(out) as picture, Image.open(run) as animation:
        assert picture.tobytes() == loaded(Path(weights)).generate_image(request).tobytes()
        assert (animation.n_frames, animation.size) == (4, (32, 32))
    assert read_settings(out) == request  # the picture says how it is made again


def test_generate_without_json_prints_one_line_for_people(weights: str, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "a.jpg"
    assert main(["generate", "red apple", "--weights", weights, "--steps", "1", "--out", str(out)]) == 0
    text = capsys.readouterr().out
    assert text.count("\n") == 1
    assert text.startswith(f"{out}  seed ")


def test_generate_takes_a_file_of_prompts(weights: str, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "prompts.txt").write_text("\ufeffred apple\n\n 😀 \nкот\n", encoding="utf-8")
    out = tmp_path / "made" / "here"
    words = ["generate", "--weights", weights, "--prompts", str(tmp_path / "prompts.txt"), "--out-dir", str(out)]
    assert main([*words, "--steps", "2", "--seed", "2147483647", "--json"]) == 0
    records = printed(capsys)
    assert [(record["prompt"], record["seed"]) for record in records] == [
        ("red apple", 2147483647),
        ("😀", 0),
        ("кот", 1),
    ]
    assert sorted(path.name for path in out.iterdir()) == ["0000.png", "0001.png", "0002.png", "run.json"]
    assert json.loads((out / "run.json").read_text(encoding="utf-8")) == records
    (tmp_path / "prompts.txt").write_text("rose\n", encoding="utf-8")
    assert main([*words, "--steps", "1", "--json"]) == 0  # what an earlier run wrote is replaced, and the rest is kept
    told = json.loads((out / "run.json").read_text(encoding="utf-8"))
    assert [record["prompt"] for record in told] == ["rose", "😀", "кот"]
    (tmp_path / "prompts.txt").write_text("rose\ncat\ndog\n", encoding="utf-8")
    assert main([*words, "--steps", "1", "--json"]) == 0


def test_score_ranks_captions(weights: str, tmp_path: Path, capsys: Any) -> None:
    picture = tmp_path / "red.png"
    Image.new("RGB", (50, 40), "red").save(picture)
    assert main(["score", str(picture), "red apple", "blue car", "--weights", weights, "--json"]) == 0
    rows = printed(capsys)
    assert [list(row) for row in rows] == [["caption", "energy", "probability"]] * 2
    assert rows[0]["energy"] <= rows[1]["energy"]
    assert main(["score", str(picture), "red apple", "blue car", "--weights", weights]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "lower energy is better" in lines[0]
    assert lines[1].endswith(rows[0]["caption"])


def test_score_fills_a_table(weights: str, tmp_path: Path, capsys: Any) -> None:
    for colour in ("red", "blue"):
        Image.new("RGB", (50, 40), colour).save(tmp_path / f"{colour}.png")
    captions = [f"caption {number}" for number in range(23)]  # more than are scored at once
    pairs = [("red.png", caption) for caption in captions] + [("blue.png", "sea, and sky"), ("red.png", "rose")]
    table, out = tmp_path / "pairs.csv", tmp_path / "scores.csv"
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([("picture", "caption"), *pairs])
    assert main(["score", "--csv", str(table), "--out", str(out), "--weights", weights, "--json"]) == 0
    with out.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["picture", "caption", "energy", "probability"]
    assert [(row["picture"], row["caption"]) for row in rows] == pairs
    assert [float(row["energy"]) for row in rows] == [row["energy"] for row in printed(capsys)]


def test_bad_rows_are_told_and_the_others_written(weights: str, tmp_path: Path, capsys: Any) -> None:
    Image.new("RGB", (9, 9)).save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_text("no picture")
    table, out = tmp_path / "pairs.csv", tmp_path / "scores.csv"
    rows = ["good.png,sky", "bad.png,sea", "none.png,sea", "good.png,", f"good.png,{'a ' * 200}", "good.png,sea"]
    table.write_text("\n".join(["picture,caption", *rows]))
    assert main(["score", "--csv", str(table), "--out", str(out), "--weights", weights]) == 2
    told = capsys.readouterr().err.splitlines()
    for line, words in zip(
        told,
        ("row 3, picture 'bad.png': bad.png is not a readable picture",
         "row 4, picture 'none.png': there is no picture file at",
         "row 5, picture 'good.png': it lacks", "row 6, picture 'good.png': a prompt has 202 word pieces",
         "4 of 6 rows were left out"),
        strict=True,
    ):  # fmt: skip
        assert words in line
    with out.open(newline="", encoding="utf-8-sig") as file:
        assert [row["caption"] for row in csv.DictReader(file)] == ["sky", "sea"]


def test_a_long_table_is_scored_in_parts(weights: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_csv, "ROWS_AT_ONCE", 4)
    for number in range(3):
        Image.new("RGB", (9, 9), (90 * number, 0, 0)).save(tmp_path / f"{number}.png")
    pairs = [(f"{number % 3}.png", f"caption {number % 5}") for number in range(11)]
    table, out = tmp_path / "pairs.csv", tmp_path / "scores.csv"
    table.write_text("picture,caption\n" + "\n".join(map(",".join, pairs)) + "\n")
    assert main(["score", "--csv", str(table), "--out", str(out), "--weights", weights]) == 0
    with out.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert [(row["picture"], row["caption"]) for row in rows] == pairs
    assert main(["score", str(tmp_path / "1.png"), "caption 4", "--weights", weights]) == 0
    studio = loaded(Path(weights))
    for row in rows:
        energy, _ = studio.matching.score_matrix([Image.open(tmp_path / row["picture"])], [row["caption"]])
        assert float(row["energy"]) == pytest.approx(energy[0][0], abs=5e-5)


def test_info_tells_what_runs(weights: str, capsys: Any) -> None:
    assert main(["info", "--weights", weights, "--json"]) == 0
    facts = printed(capsys)
    assert (facts["weights"], facts["device"]) == (weights, "cpu")
    assert main(["info", "--weights", weights]) == 0
    assert "attention" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["generate", "--out", "{tmp}/a.png"], "give either a prompt"),
        (["generate", "apple", "--prompts", "{tmp}/p.txt", "--out-dir", "{tmp}"], "give either a prompt"),
        (["generate", "apple"], "--out is missing"),
        (["generate", "apple", "--out", "{tmp}/a.tiff"], "must end in .png or .jpg"),
        (["generate", "apple", "--out", "{tmp}/none/a.png"], "does not exist"),
        (["generate", "apple", "--out", "{tmp}/a.png", "--run", "{tmp}/a.gif"], "must end in .webp"),
        (["generate", "", "--out", "{tmp}/a.png"], "prompt is empty"),
        (["generate", "a" * 10_000, "--out", "{tmp}/a.png"], "at most 1,000"),
        (["generate", "apple", "--out", "{tmp}/a.png", "--steps", "0"], "steps is 0"),
        (["generate", "apple", "--out", "{tmp}/a.png", "--steps", "many"], "invalid int value: 'many'"),
        (["generate", "apple", "--out", "{tmp}/a.png", "--steps", "17"], "steps is 17; allowed: 1 to 16"),
        (["generate", "apple", "--out", "{tmp}/a.png", "--guidance", "nan"], "guidance is nan"),
        (["generate", "apple", "--out", "{tmp}/a.png", "--seed", "-5"], "seed is -5"),
        (["generate", "--prompts", "{tmp}/none.txt", "--out-dir", "{tmp}/o"], "there is no text file at"),
        (["generate", "--prompts", "{tmp}/empty.txt", "--out-dir", "{tmp}/o"], "contains no prompts"),
        (["generate", "--prompts", "{tmp}/bytes.txt", "--out-dir", "{tmp}/o"], "is not UTF-8 text"),
        (["generate", "--prompts", "{tmp}/empty.txt", "--out", "{tmp}/a.png"], "give --out-dir"),
        (["score"], "give a picture and at least one caption"),
        (["score", "{tmp}/none.png", "apple"], "there is no picture file at"),
        (["score", "{tmp}/empty.txt", "apple"], "empty.txt is empty"),
        (["score", "{tmp}/bytes.txt", "apple"], "is not a readable picture"),
        (["score", "{tmp}/red.png"], "at least one caption"),
        (["score", "{tmp}/red.png", " "], "caption 1 is empty"),
        (["score", "{tmp}/red.png", *["apple"] * 21], "got 21 captions"),
        (["score", "--csv", "{tmp}/empty.txt"], "give --csv PAIRS --out SCORES"),
        (["score", "--csv", "{tmp}/empty.txt", "--out", "{tmp}/s.csv"], "its first line must be 'picture,caption'"),
        (["info", "--weights", "{tmp}"], "config.json is missing|manifest"),
        (["info", "--nonsense"], "unrecognized arguments: --nonsense"),
        (["paint"], "invalid choice: 'paint'"),
        ([], "required"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(
    arguments: list[str], told: str, weights: str, tmp_path: Path, capsys: Any
) -> None:
    Image.new("RGB", (9, 9), "red").save(tmp_path / "red.png")
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe\xff")
    words = [word.replace("{tmp}", str(tmp_path)) for word in arguments]
    if words and words[0] in ("generate", "score"):
        words += ["--weights", weights]
    try:
        status = main(words)
    except SystemExit as leaving:  # argparse leaves by itself
        status = leaving.code  # type: ignore[assignment]
    heard = capsys.readouterr()
    assert status == 2
    assert heard.out == ""
    assert heard.err.startswith("error: ")
    assert heard.err.count("\n") == 1
    assert any(part in heard.err for part in told.split("|"))
    assert not list(tmp_path.glob("a.*"))


@pytest.mark.slow
def test_the_module_runs_by_itself(tiny_weights: Path, tmp_path: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "jepa_app", *words, "--weights", str(tiny_weights)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)

    out = tmp_path / "a.png"
    done = run("generate", "red apple", "--steps", "2", "--seed", "1", "--out", str(out), "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["file"] == str(out)
    wrong = run("score", str(out), "a " * 400)
    assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (2, "", 1)


@pytest.mark.slow
def test_the_app_serves_the_page(tiny_weights: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        refused = start_app("--weights", str(tiny_weights), "--port", str(port))  # the port is taken
        told = refused.communicate(timeout=300)[1]
        assert (refused.returncode, told.startswith("error: ")) == (2, True)
    app = start_app("--weights", str(tiny_weights), "--port", str(port))
    try:
        assert "JEPA studio" in fetch(f"http://127.0.0.1:{port}/")
    finally:
        app.terminate()
        app.communicate(timeout=60)


@pytest.mark.slow
def test_the_app_refuses_missing_weights_in_one_line(tmp_path: Path) -> None:
    refused = start_app("--weights", str(tmp_path))
    told = refused.communicate(timeout=300)[1]
    assert (refused.returncode, told.count("\n")) == (2, 1)
    assert told.startswith("error: ")


def start_app(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "app.py", *words]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def fetch(address: str) -> str:
    """The page, once the server is up."""
    deadline = time.monotonic() + 300
    while True:
        try:
            with urlopen(address, timeout=60) as answer:
                return answer.read().decode()
        except URLError:
            assert time.monotonic() < deadline
            time.sleep(1)


def test_no_table_is_destroyed(weights: str, tmp_path: Path, capsys: Any) -> None:
    Image.new("RGB", (9, 9), "red").save(tmp_path / "red.png")
    table = tmp_path / "pairs.csv"
    table.write_text("picture,caption\nred.png,sky\n")
    for out in (table, tmp_path / "." / "pairs.csv"):
        assert main(["score", "--csv", str(table), "--out", str(out), "--weights", weights]) == 2
        assert "is the table to be read" in capsys.readouterr().err
    assert table.read_text() == "picture,caption\nred.png,sky\n"
    out = tmp_path / "scores.csv"
    out.write_text("kept")
    table.write_text('picture,caption\nred.png,"sky\nred.png,sea\nred.png,rose\n')
    assert main(["score", "--csv", str(table), "--out", str(out), "--weights", weights]) == 2
    assert "row 2 has a quote that is not closed" in capsys.readouterr().err
    assert out.read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pairs.csv", "red.png", "scores.csv"]


def test_tables_of_other_systems_are_scored(weights: str, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "imgs").mkdir()
    for name in ("imgs/red.png", "cafe\u0301.png"):
        Image.new("RGB", (9, 9), "red").save(tmp_path / name)
    long = "x" * 300 + ".png"
    table, out = tmp_path / "pairs.csv", tmp_path / "scores.csv"
    rows = ["imgs\\red.png,=1+1", "caf\u00e9.png,-sea", f"{long},sky"]
    table.write_text("picture,caption\n" + "\n".join(rows))
    assert main(["score", "--csv", str(table), "--out", str(out), "--weights", weights]) == 2
    assert "1 of 3 rows were left out" in capsys.readouterr().err
    assert out.read_bytes().startswith(b"\xef\xbb\xbf")
    with out.open(newline="", encoding="utf-8-sig") as file:
        scored = list(csv.DictReader(file))
    assert [row["caption"] for row in scored] == ["'=1+1", "'-sea"]
    again = tmp_path / "again.csv"
    assert main(["score", "--csv", str(out), "--out", str(again), "--weights", weights]) == 0
    assert again.read_bytes() == out.read_bytes()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["generate", "rose", "--out", "{tmp}/a.webp", "--run", "{tmp}/./a.webp"], "--out and --run both name"),
        (["generate", "--prompts", "{tmp}/p.txt", "--out-dir", "{tmp}/o", "--seed", "2147483648"], "0 to 2147483647"),
        (["generate", "--prompts", "{tmp}/p.txt", "--out-dir", "{tmp}/o", "--seed", "-1"], "seed is -1"),
        (["generate", "rose", "--out", "{tmp}/a.png", "--weights", ""], "--weights is empty"),
        (["generate", "rose", "--out", "{tmp}/a.png", "--device", "meta"], "device is 'meta'; allowed: auto, cpu"),
        (["generate", "rose", "--out", "{tmp}/a.png", "--device", "mps"], "device is 'mps'; allowed: auto, cpu"),
        (["generate", "--prompts", "{tmp}/p.txt", "--out-dir", "{tmp}/p.txt"], "is a file; choose a folder"),
        (["generate", "--prompts", "{tmp}/p.txt", "--out-dir", "/proc/out"], "cannot write /proc/out"),
        (["generate", "--prompts", "{tmp}/p.txt", "--out-dir", "{tmp}/strange"], "0001.png is not from an earlier run"),
        (["generate", "--prompts", "{tmp}/p.txt", "--out-dir", "{tmp}/other"], "run.json is not from an earlier run"),
        (
            ["generate", "--prompts", "{tmp}/long.txt", "--out-dir", "{tmp}/o"],
            "long.txt, prompt 2: a prompt has 152",
        ),
        (["generate", "--prompts", "{tmp}/p.txt", "--out-dir", "{tmp}/o", "--steps", "0"], "error: steps is 0"),
    ],
)
def test_mistakes_are_told_before_work_begins(words: list[str], told: str, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "p.txt").write_text("rose\ncat\n")
    (tmp_path / "long.txt").write_text(f"rose\n\n{'猫' * 150}\n", encoding="utf-8")
    for kept in ("strange/0001.png", "other/run.json"):
        (tmp_path / kept).parent.mkdir()
        (tmp_path / kept).write_text('{"a": 1}')
    assert main([word.replace("{tmp}", str(tmp_path)) for word in words]) == 2
    captured = capsys.readouterr()
    assert told in captured.err
    assert captured.err.count("\n") == 1


def test_addresses_that_cannot_be_listened_on_are_told() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for host, number, told in (
            (None, 99999, "--port is 99999; allowed: 1 to 65535"),
            (None, -1, "--port is -1"),
            (None, port, f"--port {port} cannot be listened on"),
            ("192.0.2.7", None, "cannot be listened on"),
            ("no such host", None, "is not an address of this machine"),
        ):
            with pytest.raises(ValueError, match=re.escape(told)):
                check_address(host, number)
    check_address(None, None)
    check_address("0.0.0.0", None)
    check_address("localhost", None)

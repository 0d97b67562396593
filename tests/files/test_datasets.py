"""Data sets: what is read from shards of every kind, what is written for every row, and how a run goes on."""

import csv
import fcntl
import io
import json
import os
import random
import struct
import subprocess
import sys
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from jepa_app.__main__ import main
from jepa_app.datasets.painting import PaintTask
from jepa_app.datasets.rows import Row, grouped
from jepa_app.datasets.scoring import ScoreTask
from jepa_app.datasets.working import ahead
from jepa_app.matching.scoring import Scorer
from jepa_app.studio.export import read_settings
from jepa_app.studio.requests import GenerateRequest
from tests.conftest import write_tiny_weights
from tests.support.studio_server import loaded

ROOT = Path(__file__).parents[2]
COLOURS = ("red", "green", "blue", "yellow", "white", "black")
BOMB_SIDE = 60_000

Run = Callable[..., Any]


def png(number: int, side: int = 40) -> bytes:
    values = np.random.default_rng(number).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def bomb() -> bytes:
    """A small PNG that says it is 60,000 pixels wide and high."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", BOMB_SIDE, BOMB_SIDE, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def rows(first: int, number: int) -> list[dict[str, Any]]:
    return [
        {"id": k, "image": {"bytes": png(k), "path": None}, "caption": f"{COLOURS[k % 6]} thing {k}"}
        for k in range(first, first + number)
    ]


def write_table(path: Path, values: list[dict[str, Any]], group: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(values), path, row_group_size=group)
    return path


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def run(tiny_weights: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command and returns its report, or what it says on standard error if it is refused.

    The models are loaded once for all tests.
    """
    for task in (ScoreTask, PaintTask):
        monkeypatch.setattr(task, "load", cache(task.load))

    def command(*words: str | Path, refused: bool = False) -> Any:
        chosen = [] if "--weights" in words else ["--weights", str(tiny_weights)]
        status = main([*map(str, words), *chosen, "--json"])
        told = capsys.readouterr()
        assert status == (2 if refused else 0), told.err
        if refused:
            [mistake] = [line for line in told.err.splitlines() if line.startswith("error: ")]
            return mistake
        return json.loads(told.out)

    return command


def test_scores_of_a_table_are_the_scorers_own(run: Run, tiny_weights: Path, tmp_path: Path) -> None:
    values = rows(0, 20)
    write_table(tmp_path / "a.parquet", [{**row, "note": "x", "width": 40.0, "tags": [1]} for row in values])
    report = run("score", "--dataset", tmp_path / "a.parquet", "--out", tmp_path / "out")
    assert (report["rows"], report["errors"], report["workers"], report["problems"]) == (20, 0, 1, [])
    assert report["rows_a_second"] > 0
    table = pq.read_table(tmp_path / "out" / "a.parquet")
    assert table.column_names == ["id", "note", "width", "caption", "energy", "probability", "error"]
    assert table["id"].to_pylist() == list(range(20))
    assert table["caption"].to_pylist() == [row["caption"] for row in values]
    assert table["error"].null_count == 20
    pictures = [Image.open(io.BytesIO(row["image"]["bytes"])) for row in values]
    scores = Scorer.from_pretrained(tiny_weights, "cpu").score(pictures, [row["caption"] for row in values])
    np.testing.assert_allclose(table["energy"].to_numpy(), scores.energy.diagonal(), atol=1e-4)
    np.testing.assert_allclose(table["probability"].to_numpy(), scores.probability.diagonal(), atol=1e-4)


def test_every_kind_of_shard_gives_the_same_numbers(run: Run, tmp_path: Path) -> None:
    values = rows(0, 10)
    pictures = [row["image"]["bytes"] for row in values]
    captions = [row["caption"] for row in values]
    write_table(tmp_path / "in" / "structs.parquet", values)
    plain = [
        {"key": k, "img": data, "text": words} for k, (data, words) in enumerate(zip(pictures, captions, strict=True))
    ]
    write_table(tmp_path / "in" / "bytes.parquet", plain)
    for number, data in enumerate(pictures):
        (tmp_path / "in" / f"{number}.png").write_bytes(data)
    named = [{"picture": f"{k}.png", "text": words} for k, words in enumerate(captions)]
    write_table(tmp_path / "in" / "paths.parquet", named)
    files: dict[str, bytes] = {}
    for number, (data, words) in enumerate(zip(pictures, captions, strict=True)):
        is_json = number % 2
        said = json.dumps({"caption": words, "width": 40}) if is_json else words
        files |= {f"sub/{number:03d}.png": data, f"sub/{number:03d}.{'json' if is_json else 'txt'}": said.encode()}
    write_tar(tmp_path / "in" / "plain.tar", files)
    write_tar(tmp_path / "in" / "packed.tar.gz", files)
    for name in ("lines", "table"):
        folder = tmp_path / "in" / name
        folder.mkdir()
        for number, data in enumerate(pictures):
            (folder / f"{number}.png").write_bytes(data)
        if name == "lines":
            lines = [json.dumps({"file_name": f"{k}.png", "text": words, "n": k}) for k, words in enumerate(captions)]
            (folder / "metadata.jsonl").write_text("\n".join(lines) + "\n")
            continue
        with (folder / "metadata.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("file_name", "text"), *((f"{k}.png", w) for k, w in enumerate(captions))])
    inputs = [f"{tmp_path}/in/*.parquet", f"{tmp_path}/in/*.tar*", tmp_path / "in" / "lines", tmp_path / "in" / "table"]
    report = run("score", "--dataset", *inputs, "--out", tmp_path / "out")
    assert (report["rows"], report["errors"], report["shards"]) == (70, 0, 7)
    tables = {path.stem: pq.read_table(path) for path in sorted((tmp_path / "out").iterdir())}
    assert sorted(tables) == ["bytes", "lines", "packed", "paths", "plain", "structs", "table"]
    for table in tables.values():
        assert table["energy"].to_pylist() == tables["structs"]["energy"].to_pylist()
        assert table["caption"].to_pylist() == captions
    assert tables["plain"]["key"].to_pylist()[:2] == ["sub/000", "sub/001"]
    assert tables["paths"]["picture"].to_pylist()[:2] == ["0.png", "1.png"]
    assert tables["lines"].schema.field("n").type == pa.int64()
    assert tables["table"]["file_name"].to_pylist()[:2] == ["0.png", "1.png"]


def test_keys_keep_their_types(run: Run, tmp_path: Path) -> None:
    moments = pa.array([1_700_000_000_123_456_789, None], pa.timestamp("ns"))
    keys = {
        "when": moments,
        "price": pa.array([1, 2], pa.int32()).cast(pa.decimal128(12, 2)),
        "kept": pa.array([True, None]),
        "half": pa.array([0.5, None], pa.float32()),
        "long": pa.array(["a", None], pa.large_string()),
        "day": pa.array([19_000, 1], pa.int32()).cast(pa.date32()),
    }
    others = {"kind": pa.array(["new", "old"]).dictionary_encode(), "raw": pa.array([b"1", b"2"])}
    words = pa.Array.from_buffers(pa.string(), 2, pa.array([b"sky", b"\xff"]).buffers())
    columns = {"image": pa.array([png(1), png(2)]), "caption": words, **keys, **others}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet", store_schema=True)
    report = run("score", "--dataset", tmp_path / "a.parquet", "--out", tmp_path / "out")
    assert (report["rows"], report["errors"]) == (2, 1)
    table = pq.read_table(tmp_path / "out" / "a.parquet")
    for name, column in keys.items():
        assert table[name].combine_chunks() == column
    assert table["kind"].to_pylist() == ["new", "old"]
    assert "raw" not in table.column_names
    assert "not UTF-8" in table["error"][1].as_py()


def test_a_bad_row_is_a_row_with_an_error(run: Run, tmp_path: Path) -> None:
    good = rows(0, 3)
    bad: list[tuple[Any, Any, str]] = [
        ({"bytes": bomb(), "path": None}, "sky", "too many pixels"),
        ({"bytes": b"no picture", "path": None}, "sky", "not a readable picture"),
        ({"bytes": png(1)[:200], "path": None}, "sky", "damaged"),
        ({"bytes": None, "path": "missing.png"}, "sky", "there is no picture file"),
        ({"bytes": None, "path": None}, "sky", "the row has no picture"),
        (None, "sky", "the row has no picture"),
        ({"bytes": png(1), "path": None}, None, "the row has no caption"),
        ({"bytes": png(1), "path": None}, "  ", "the caption is empty"),
        ({"bytes": png(1), "path": None}, "a " * 400, "word pieces"),
        ({"bytes": png(1), "path": None}, "x" * 1001, "1,001 characters"),
    ]
    mixed = [{"image": image, "caption": words, "id": 100 + k} for k, (image, words, _) in enumerate(bad)]
    write_table(tmp_path / "bad.parquet", [*good[:1], *mixed, *good[1:]])
    write_table(tmp_path / "good.parquet", good)
    report = run("score", "--dataset", f"{tmp_path}/*.parquet", "--out", tmp_path / "out")
    assert (report["rows"], report["errors"]) == (len(bad) + 6, len(bad))
    table = pq.read_table(tmp_path / "out" / "bad.parquet").to_pylist()
    assert [row["id"] for row in table] == [0, *range(100, 100 + len(bad)), 1, 2]
    for row, (_, words, told) in zip(table[1:-2], bad, strict=True):
        assert told in row["error"]
        assert (row["caption"], row["energy"], row["probability"]) == (words, None, None)
    alone = pq.read_table(tmp_path / "out" / "good.parquet")["energy"].to_pylist()
    assert [table[0]["energy"], *(row["energy"] for row in table[-2:])] == alone


def test_bad_rows_of_lines_and_archives(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a.png").write_bytes(png(1))
    lines = ['{"file_name": "a.png", "text": "sky", "n": 1}', "{broken", "[1]", '{"file_name": "b.png", "text": "sky"}']
    lines += ['{"file_name": "a.png", "text": 7, "n": 2.5}', '{"text": "sky", "n": "many"}']
    lines += ['{"file_name": "a.png", "text": "half \\ud800"}']
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    files = {"1.png": png(1), "1.txt": b"sky", "2.txt": b"sky", "3.png": png(1), "4.png": png(1), "4.txt": b"\xff"}
    files |= {"5.png": png(1), "5.json": b"{", "6.jpg": bomb(), "6.txt": b"sky", ".hidden": b"", "readme": b""}
    write_tar(tmp_path / "shard.tar", files)
    report = run("score", "--dataset", folder, tmp_path / "shard.tar", "--out", tmp_path / "out")
    assert (report["rows"], report["errors"]) == (7 + 6, 6 + 5)
    of_lines = pq.read_table(tmp_path / "out" / "folder.parquet")
    told = ["", "line 2 is not JSON", "line 3 is no JSON object", "no picture file at", "of type int", "no file_name"]
    for error, part in zip(of_lines["error"].to_pylist(), [*told, "half a character"], strict=True):
        assert part in (error or "")
    assert of_lines["n"].to_pylist() == ["1", None, None, None, "2.5", "many", None]
    assert of_lines["caption"].to_pylist()[-1] == "half ?"
    errors = pq.read_table(tmp_path / "out" / "shard.parquet")["error"].to_pylist()
    for error, part in zip(errors, ["", "no picture", "no caption", "4.txt", "5.json", "too many pixels"], strict=True):
        assert part in (error or "")


@pytest.mark.parametrize("damage", ["a flipped byte", "cut in a header", "cut before a header", "a packed one cut"])
def test_an_archive_that_ends_in_the_middle_has_no_output(run: Run, tmp_path: Path, damage: str) -> None:
    files = {f"{number}.{kind}": data for number in range(6) for kind, data in (("png", png(number)), ("txt", b"sky"))}
    path = write_tar(tmp_path / ("shard.tar.gz" if "packed" in damage else "shard.tar"), files)
    data = bytearray(path.read_bytes())
    header = data.find(b"2.txt\0") if "packed" not in damage else len(data) * 3 // 4
    if damage == "a flipped byte":
        data[header + 5] ^= 1
    else:
        del data[header + (100 if "in a" in damage else 0) :]
    path.write_bytes(data)
    told = run("score", "--dataset", path, "--out", tmp_path / "out", refused=True)
    assert "is damaged" in told
    assert not contents(tmp_path / "out")


def test_other_files_of_a_row_do_not_replace_its_own(run: Run, tmp_path: Path) -> None:
    files = {"1.jpg": png(1), "1.mask.png": png(2), "1.txt": b"red apple", "1.ocr.txt": b"STOP"}
    files |= {"2.mask.png": png(2), "2.png": png(1), "2.ocr.txt": b"STOP", "2.json": b'{"caption": "red apple"}'}
    files |= {"3.json": b'{"caption": "STOP"}', "3.txt": b"red apple", "3.image.png": png(1), "3.mask.png": png(2)}
    write_tar(tmp_path / "shard.tar", files)
    assert run("score", "--dataset", tmp_path / "shard.tar", "--out", tmp_path / "out")["errors"] == 0
    table = pq.read_table(tmp_path / "out" / "shard.parquet")
    assert table["caption"].to_pylist() == ["red apple"] * 3
    assert len(set(table["energy"].to_pylist())) == 1


def test_an_input_that_has_grown_does_not_lie_there_twice(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ScoreTask, "__init__", with_parts(ScoreTask.__init__, 16))
    write_table(tmp_path / "a.parquet", rows(0, 12))
    write_table(tmp_path / "a-b.parquet", rows(0, 3))
    inputs = [tmp_path / "a.parquet", tmp_path / "a-b.parquet"]
    run("score", "--dataset", *inputs, "--out", tmp_path / "out")
    write_table(tmp_path / "a.parquet", rows(0, 40), group=8)
    told = run("score", "--dataset", *inputs, "--out", tmp_path / "out", refused=True)
    assert "out/a.parquet holds rows of an earlier a.parquet; choose another folder or remove the file" in told
    (tmp_path / "out" / "a.parquet").unlink()
    assert run("score", "--dataset", *inputs, "--out", tmp_path / "out")["shards"] == 4


def test_outputs_of_earlier_runs_are_no_inputs(run: Run, tmp_path: Path) -> None:
    write_table(tmp_path / "in" / "a.parquet", rows(0, 3))
    words = ("score", "--dataset", tmp_path / "**" / "*.parquet", "--out", tmp_path / "in" / "out")
    assert run(*words)["rows"] == 3
    before = contents(tmp_path)
    assert run(*words)["shards_before"] == 1
    assert contents(tmp_path) == before
    told = run("score", "--dataset", tmp_path / "in" / "out" / "*", "--out", tmp_path / "in" / "out", refused=True)
    assert "nothing but outputs of earlier runs" in told


def test_long_files_are_cut_into_parts(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScoreTask, "__init__", with_parts(ScoreTask.__init__, 16))
    write_table(tmp_path / "a.parquet", rows(0, 40), group=8)
    report = run("score", "--dataset", tmp_path / "a.parquet", "--out", tmp_path / "out")
    names = [f"a-{number:05d}-of-00003.parquet" for number in range(3)]
    assert (report["rows"], report["shards"], sorted(contents(tmp_path / "out"))) == (40, 3, names)
    ids = [pq.read_table(tmp_path / "out" / name)["id"].to_pylist() for name in names]
    assert ids == [list(range(16)), list(range(16, 32)), list(range(32, 40))]


def with_parts(init: Callable[..., None], most: int) -> Callable[..., None]:
    return lambda self, **settings: init(self, **{**settings, "rows_a_part": most})


@pytest.mark.parametrize(
    ("borders", "most", "parts"),
    [
        ([0], 10, [(0, 0)]),
        ([0, 4], 10, [(0, 4)]),
        ([0, 40], 10, [(0, 40)]),
        ([0, 5, 10, 15], 10, [(0, 10), (10, 15)]),
        ([0, 20, 25, 25, 50], 10, [(0, 20), (20, 25), (25, 50)]),
    ],
)
def test_parts_end_at_borders(borders: list[int], most: int, parts: list[tuple[int, int]]) -> None:
    cut = grouped(borders, most)
    assert [(part.start, part.stop) for part in cut] == parts
    assert all(one.stop == other.start for one, other in pairwise(cut))


def test_reading_ahead_keeps_the_order_and_the_errors() -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise ValueError("damaged")

    seen: list[int] = []
    with pytest.raises(ValueError, match="damaged"):
        seen.extend(ahead(items(), 2))
    assert seen == [0, 1, 2, 3, 4]


def test_a_run_goes_on_with_what_is_missing(run: Run, tmp_path: Path) -> None:
    for number in range(3):
        write_table(tmp_path / "in" / f"{number}.parquet", rows(10 * number, 5))
    words = ("score", "--dataset", f"{tmp_path}/in/*.parquet", "--out", tmp_path / "out")
    run(*words)
    whole = contents(tmp_path / "out")
    kept = (tmp_path / "out" / "0.parquet").stat()
    (tmp_path / "out" / "1.parquet").unlink()
    (tmp_path / "out" / "1.4711.partial").write_bytes(b"half")  # from a run that was killed
    report = run(*words)
    assert (report["rows"], report["shards"], report["shards_before"]) == (5, 3, 2)
    assert contents(tmp_path / "out") == whole
    assert (tmp_path / "out" / "0.parquet").stat().st_ino == kept.st_ino
    report = run(*words)
    assert (report["rows"], report["shards_before"], report["workers"]) == (0, 3, 0)


def test_outputs_of_something_else_are_never_replaced(run: Run, tmp_path: Path) -> None:
    source = write_table(tmp_path / "in" / "a.parquet", [{**row, "text": "sky"} for row in rows(0, 5)])
    words = ("score", "--dataset", source, "--out", tmp_path / "out")
    run(*words)
    whole = contents(tmp_path / "out")
    assert "made with another caption_column" in run(*words, "--caption-column", "text", refused=True)
    other = write_tiny_weights(tmp_path / "others")
    assert "made with another weights" in run(*words, "--weights", other, refused=True)
    facts = source.stat()
    os.utime(source, ns=(facts.st_atime_ns, facts.st_mtime_ns + 10**9))
    assert "made with another changed" in run(*words, refused=True)
    assert contents(tmp_path / "out") == whole
    for strange in (b"kept", b""):
        (tmp_path / "out" / "a.parquet").write_bytes(strange)
        assert "is not from an earlier run" in run(*words, refused=True)
        assert (tmp_path / "out" / "a.parquet").read_bytes() == strange
    write_table(tmp_path / "out" / "a.parquet", [{"a": 1}])
    assert "is not from an earlier run" in run(*words, refused=True)
    assert "replaced by its own output" in run("score", "--dataset", source, "--out", source.parent, refused=True)


def test_two_runs_do_not_share_a_folder(run: Run, tmp_path: Path) -> None:
    source = write_table(tmp_path / "a.parquet", rows(0, 2))
    (tmp_path / "out").mkdir()
    held = os.open(tmp_path / "out", os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    words = ("score", "--dataset", source, "--out", tmp_path / "out")
    assert "another run is writing" in run(*words, refused=True)
    os.close(held)
    assert run(*words)["rows"] == 2


def test_empty_shards_have_outputs(run: Run, tmp_path: Path) -> None:
    schema = pa.schema([("id", pa.int64()), ("image", pa.binary()), ("caption", pa.string())])
    pq.write_table(schema.empty_table(), tmp_path / "a.parquet")
    write_tar(tmp_path / "b.tar", {})
    report = run("score", "--dataset", tmp_path / "a.parquet", tmp_path / "b.tar", "--out", tmp_path / "out")
    assert (report["rows"], report["shards"]) == (0, 2)
    table = pq.read_table(tmp_path / "out" / "a.parquet")
    assert (table.num_rows, table.schema.field("id").type) == (0, pa.int64())
    assert pq.read_table(tmp_path / "out" / "b.parquet").num_rows == 0


def test_a_damaged_shard_costs_only_itself(run: Run, tmp_path: Path) -> None:
    files = {f"{k}.{kind}": png(k, 100) if kind == "png" else b"sky" for k in range(9) for kind in ("png", "txt")}
    whole = write_tar(tmp_path / "in" / "a.tar", files).read_bytes()
    write_tar(tmp_path / "in" / "b.tar", files)
    (tmp_path / "in" / "a.tar").write_bytes(whole[: len(whole) // 2])
    words = ("score", "--dataset", f"{tmp_path}/in/*.tar", "--out", tmp_path / "out")
    told = run(*words, refused=True)
    assert "1 of 2 shards have no output" in told
    assert "a.tar is damaged" in told
    assert list(contents(tmp_path / "out")) == ["b.parquet"]
    (tmp_path / "in" / "a.tar").write_bytes(whole)
    assert (run(*words)["shards_before"], list(contents(tmp_path / "out"))) == (1, ["a.parquet", "b.parquet"])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["score", "--dataset", "{tmp}/none*.parquet"], "there is no such file"),
        (["score", "--dataset", "{tmp}/odd.parquet"], "has no column caption or text; it has: a, b"),
        (["score", "--dataset", "{tmp}/odd.parquet", "--caption-column", "b"], "has no column image or picture or img"),
        (["score", "--dataset", "{tmp}/odd.parquet", "--caption-column", "a"], "a is of type int64; allowed: text"),
        (
            ["score", "--dataset", "{tmp}/odd.parquet", "--caption-column", "b", "--image-column", "a"],
            "a is of type int64; allowed: bytes, a struct of bytes and path",
        ),
        (["score", "--dataset", "{tmp}/lists.parquet"], "allowed: bytes, a struct of bytes and path"),
        (["score", "--dataset", "{tmp}/paths.parquet"], "allowed: bytes, a struct of bytes and path"),
        (["score", "--dataset", "{tmp}/no.parquet"], "cannot be read as parquet"),
        (["score", "--dataset", "{tmp}/no.tar"], "cannot be read as a tar archive"),
        (["score", "--dataset", "{tmp}/p.txt"], "is of no kind that can be read here"),
        (["generate", "--dataset", "{tmp}/no.tar"], "is of no kind that can be read here"),
        (["score", "--dataset", "{tmp}/empty"], "holds no metadata.jsonl or metadata.csv"),
        (["generate", "--dataset", "{tmp}/empty"], "but that is a folder"),
        (["generate", "--dataset", "{tmp}/odd.parquet"], "has no column prompt or caption or text"),
        (["generate", "--dataset", "{tmp}/p.txt", "{tmp}/p.jsonl"], "would both be written to"),
        (["generate", "--dataset", "{tmp}/p.txt", "--steps", "40"], "steps is 40; allowed: 1 to 16"),
        (["generate", "--dataset", "{tmp}/p.txt", "--size", "999"], "size is 999"),
        (["generate", "--dataset", "{tmp}/p.txt", "--transparent"], "leave out transparent"),
        (["generate", "--dataset", "{tmp}/p.txt", "--negative-prompt", "a " * 400], "word pieces"),
        (["generate", "--dataset", "{tmp}/p.txt", "--prompts", "{tmp}/p.txt"], "takes the place of --prompts"),
        (["score", "--dataset", "{tmp}/odd.parquet", "--workers", "2"], "--workers works only with --ray"),
        (["score", "--dataset", "{tmp}/odd.parquet", "--ray", "--workers", "0"], "--workers is 0"),
        (["score", "x.png", "sky", "--image-column", "a"], "--image-column works only with --dataset"),
    ],
)
def test_mistakes_are_told_before_work_begins(run: Run, words: list[str], told: str, tmp_path: Path) -> None:
    write_table(tmp_path / "odd.parquet", [{"a": 1, "b": "x"}])
    for name, kind in (("lists", [("bytes", pa.list_(pa.uint8()))]), ("paths", [("path", pa.int64())])):
        schema = pa.schema([("image", pa.struct(kind)), ("caption", pa.string())])
        pq.write_table(schema.empty_table(), tmp_path / f"{name}.parquet")
    for name in ("no.parquet", "no.tar"):
        (tmp_path / name).write_bytes(b"this is something else")
    (tmp_path / "p.txt").write_text("rose\n")
    (tmp_path / "p.jsonl").write_text('{"prompt": "rose"}\n')
    (tmp_path / "empty").mkdir()
    words = [word.replace("{tmp}", str(tmp_path)) for word in words]
    out = ["--out", str(tmp_path / "out")] if "--dataset" in words else []
    assert told in run(*words, *out, refused=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("package", "words"), [("ray", ["--ray"]), ("pyarrow", [])])
def test_what_is_not_installed_is_named(
    run: Run, package: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_table(tmp_path / "a.parquet", rows(0, 2))
    monkeypatch.setitem(sys.modules, package, None)
    told = run("score", "--dataset", source, "--out", tmp_path / "out", *words, refused=True)
    assert f"needs {package}, which is not installed; install it with pip install" in told


@pytest.mark.slow
def test_no_other_command_imports_what_only_data_sets_need() -> None:
    code = "import sys, jepa_app.__main__; print([name for name in ('pyarrow', 'ray') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_pictures_are_those_of_single_runs(run: Run, tiny_weights: Path, tmp_path: Path) -> None:
    prompts = ["red apple", "blue car", "rose"]
    (tmp_path / "lines.jsonl").write_text(
        "".join(json.dumps({"id": k, "prompt": p}) + "\n" for k, p in enumerate(prompts))
    )
    (tmp_path / "list.txt").write_text("\n\n".join(prompts))
    write_table(tmp_path / "table.parquet", [{"id": k, "caption": p} for k, p in enumerate(prompts)])
    (tmp_path / "csv.csv").write_text("id;text\n" + "".join(f"{k};{p}\n" for k, p in enumerate(prompts)))
    inputs = [tmp_path / name for name in ("lines.jsonl", "list.txt", "table.parquet", "csv.csv")]
    asked = ["--steps", "4", "--seed", "7", "--guidance", "2", "--out", tmp_path / "out"]
    report = run("generate", "--dataset", *inputs, *asked)
    assert (report["rows"], report["errors"], report["shards"]) == (12, 0, 4)
    tables = {path.stem: pq.read_table(path) for path in (tmp_path / "out").iterdir()}
    pictures = tables["table"]["image"].to_pylist()
    assert all(table["image"].to_pylist() == pictures for table in tables.values())
    assert tables["table"].column_names == ["id", "caption", "image", "seed", "settings", "error"]
    assert tables["list"]["line"].to_pylist() == [1, 3, 5]
    for number, data in enumerate(pictures):
        request = GenerateRequest(prompt=prompts[number], steps=4, guidance=2.0, seed=7 + number)
        assert read_settings(data) == request
        alone = np.asarray(loaded(tiny_weights).generate_image(request), dtype=int)
        np.testing.assert_allclose(np.asarray(Image.open(io.BytesIO(data)), dtype=int), alone, atol=2)
        assert json.loads(tables["table"]["settings"][number].as_py())["seed"] == 7 + number
    scored = run("score", "--dataset", f"{tmp_path}/out/table.parquet", "--out", tmp_path / "scores")
    assert (scored["rows"], scored["errors"]) == (3, 0)
    names = ["id", "seed", "settings", "caption", "energy", "probability", "error"]
    assert pq.read_table(tmp_path / "scores" / "table.parquet").column_names == names


def test_parts_of_prompts_go_on_with_the_seeds(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "p.txt").write_text("".join(f"thing {k}\n" for k in range(7)))
    words = ("generate", "--dataset", tmp_path / "p.txt", "--steps", "1", "--negative-prompt", "blue", "--size", "16")
    run(*words, "--out", tmp_path / "whole")
    monkeypatch.setattr(PaintTask, "__init__", with_parts(PaintTask.__init__, 3))
    run(*words, "--out", tmp_path / "parts")
    whole = pq.read_table(tmp_path / "whole" / "p.parquet")
    parts = pa.concat_tables([pq.read_table(path) for path in sorted((tmp_path / "parts").iterdir())])
    assert whole["seed"].to_pylist() == parts["seed"].to_pylist() == list(range(7))
    for one, other in zip(whole["image"].to_pylist(), parts["image"].to_pylist(), strict=True):
        pixels = [np.asarray(Image.open(io.BytesIO(data)), dtype=int) for data in (one, other)]
        assert pixels[0].shape == (16, 16, 3)
        np.testing.assert_allclose(*pixels, atol=2)


def test_bad_prompts_are_rows_with_errors(run: Run, tmp_path: Path) -> None:
    prompts = ["rose", None, " ", "a " * 400, "x" * 1001, "cat"]
    write_table(tmp_path / "p.parquet", [{"prompt": prompt} for prompt in prompts])
    report = run("generate", "--dataset", tmp_path / "p.parquet", "--steps", "1", "--out", tmp_path / "out")
    assert (report["rows"], report["errors"]) == (6, 4)
    table = pq.read_table(tmp_path / "out" / "p.parquet").to_pylist()
    for row, told in zip(table, ["", "no prompt", "is empty", "word pieces", "1,001 characters", ""], strict=True):
        assert told in (row["error"] or "")
        assert (row["image"] is None) == bool(told)
    assert [row["seed"] for row in table] == [0, None, None, None, None, 5]


def start(*words: str | Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "jepa_app", *map(str, words)]
    surroundings = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_a_killed_run_ends_with_the_same_files(tiny_weights: Path, tmp_path: Path) -> None:
    for number in range(4):
        write_table(tmp_path / "in" / f"{number}.parquet", rows(100 * number, 100))
    words = ["score", "--dataset", f"{tmp_path}/in/*.parquet", "--weights", tiny_weights, "--json", "--out"]
    whole = json.loads(start(*words, tmp_path / "whole").communicate(timeout=300)[0])
    assert whole["rows"] == 400
    for _ in range(2):
        run = start(*words, tmp_path / "killed")
        while run.poll() is None and not any((tmp_path / "killed").glob("*.partial")):
            time.sleep(0.01)
        time.sleep(random.uniform(0, whole["seconds"] / 2))
        run.kill()
        run.communicate(timeout=60)
    shards_before = len(list((tmp_path / "killed").glob("*.parquet")))
    last = start(*words, tmp_path / "killed")
    assert json.loads(last.communicate(timeout=300)[0])["shards_before"] == shards_before
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("command", ["score", "generate"])
def test_workers_of_a_cluster_write_the_same_files(command: str, tiny_weights: Path, tmp_path: Path) -> None:
    for number in range(4):
        write_table(tmp_path / "in" / f"{number}.parquet", rows(100 * number, 20))
    broken = {**rows(0, 1)[0], "image": {"bytes": b"no", "path": None}, "caption": "x " * 400}
    write_table(tmp_path / "in" / "bad.parquet", [*rows(0, 2), broken])
    words = [command, "--dataset", f"{tmp_path}/in/*.parquet", "--weights", tiny_weights, "--json", "--device", "cpu"]
    alone = start(*words, "--out", tmp_path / "alone")
    assert json.loads(alone.communicate(timeout=300)[0])["workers"] == 1
    together = start(*words, "--out", tmp_path / "together", "--ray", "--workers", "2")
    told, said = together.communicate(timeout=300)
    assert together.returncode == 0, said
    assert "Warning" not in said
    report = json.loads(told)
    assert (report["workers"], report["rows"], report["errors"]) == (2, 83, 1)
    assert "83/83" in said
    assert contents(tmp_path / "together") == contents(tmp_path / "alone")


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_told(tiny_weights: Path, tmp_path: Path) -> None:
    source = write_table(tmp_path / "a.parquet", rows(0, 2))
    words = ["score", "--dataset", source, "--weights", tiny_weights, "--out", tmp_path / "out"]
    for address, part in (
        ("127.0.0.1:1", "there is no Ray cluster at 127.0.0.1:1"),
        ("here", "allowed: HOST:PORT"),
        ("ray://127.0.0.1:1", "allowed: HOST:PORT"),
    ):
        run = start(*words, "--ray", address)
        told, said = run.communicate(timeout=300)
        assert (run.returncode, told, said.count("\n")) == (2, "", 1)
        assert part in said


class FatalTask(ScoreTask):
    """Scores, but one of the rows ends the process, as a decoder that crashes would."""

    def load(self, device: str) -> Any:
        return FatalModel(super().load(device))


class FatalModel:
    def __init__(self, model: Any) -> None:
        self.work, self._prepare = model.work, model.prepare

    def prepare(self, row: Row) -> Any:
        if row.keys[0].as_py() == 4:
            os.abort()
        return self._prepare(row)


@pytest.mark.slow
def test_a_row_that_kills_its_worker_costs_only_its_shard(tiny_weights: Path, tmp_path: Path) -> None:
    for number in range(3):
        write_table(tmp_path / "in" / f"{number}.parquet", rows(3 * number, 3))
    code = f"""
from pathlib import Path
from jepa_app.datasets.running import run_task
from tests.files.test_datasets import FatalTask
task = FatalTask(weights={str(tiny_weights)!r})
print(run_task(task, [{str(tmp_path / "in" / "*.parquet")!r}], Path({str(tmp_path / "out")!r}), "cpu", "local", 1))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert "rows=6" in done.stdout, done.stderr
    assert "1.parquet: its worker died 3 times" in done.stdout
    assert sorted(path.name for path in (tmp_path / "out").glob("*.parquet")) == ["0.parquet", "2.parquet"]

"""Which files are read, in which parts, and which file each part is written to."""

import os
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

from jepa_app.datasets.archives import Archive
from jepa_app.datasets.lines import Lines
from jepa_app.datasets.rows import Source, Wanted
from jepa_app.datasets.tables import Table
from jepa_app.datasets.writing import origin_of, refuse_left_over

METADATA = ("metadata.jsonl", "metadata.csv")  # of an imagefolder
ARCHIVES = (".tar", ".tar.gz", ".tgz")
LINES = (".jsonl", ".csv", ".txt")


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A part of an input file, which one worker reads from its beginning to its end, and the file that it fills.

    `origin` says which input this was: file, size in bytes, time of the last change and rows. It is kept in the output.
    """

    source: Source
    part: range
    target: Path
    origin: dict[str, Any]

    @property
    def num_rows(self) -> int | None:
        """Number of rows; None if it is not known."""
        return None if self.source.num_rows is None else len(self.part)


def find_shards(patterns: list[str], wanted: Wanted, out: Path, most: int) -> list[Shard]:
    """Return the parts, of about `most` rows, of all files that the patterns name, in the order of their names.

    The outputs are named after the inputs and lie as deep in `out` as the inputs below the folder that they share.
    Outputs of earlier runs in `out` are no inputs, even if a pattern names them.

    Raises:
        ValueError: a pattern names no file, a file cannot be read or lacks a column, two inputs have one output, or
            an output is there of an input as it was before.
    """
    # without "..", through which outputs would leave the folder; links keep their names
    named = {Path(os.path.abspath(path)) for pattern in patterns for path in _files(pattern, wanted)}  # noqa: PTH100
    paths = sorted(path for path in named if not (path.is_relative_to(out.absolute()) and origin_of(path) is not None))
    if not paths:
        raise ValueError(f"--dataset names nothing but outputs of earlier runs in {out}; name the inputs")
    base = Path(os.path.commonpath([_stem(path).parent for path in paths]))
    shards: dict[Path, Shard] = {}
    for path in paths:
        source = _source(path, wanted)
        facts, parts = path.stat(), source.parts(most)
        for number, part in enumerate(parts):
            stem = _stem(path).relative_to(base)
            ending = f"-{number:05d}-of-{len(parts):05d}" if len(parts) > 1 else ""
            target = out / stem.with_name(f"{stem.name}{ending}.parquet")
            if target in shards:
                raise ValueError(f"{shards[target].source.path} and {path} would both be written to {target}")
            if target.absolute() == path:
                raise ValueError(f"{path} would be replaced by its own output; choose another folder for --out")
            origin = {
                "file": stem.with_name(path.name).as_posix(),
                "bytes": facts.st_size,
                "changed": facts.st_mtime_ns,
                "rows": [part.start, part.stop],
            }
            shards[target] = Shard(source=source, part=part, target=target, origin=origin)
    origins = {
        out / _stem(path).relative_to(base): _stem(path).relative_to(base).with_name(path.name) for path in paths
    }
    refuse_left_over(shards, {stem: name.as_posix() for stem, name in origins.items()})
    return list(shards.values())


def _files(pattern: str, wanted: Wanted) -> list[Path]:
    """The input files that a pattern names; a folder of pictures stands for its metadata."""
    found = [Path(name) for name in sorted(glob(pattern, recursive=True))]  # noqa: PTH207  # it may be absolute
    found = found or [Path(pattern)]
    files: list[Path] = []
    for path in found:
        if path.is_dir() and wanted.with_pictures:
            inside = sorted(one for name in METADATA for one in path.rglob(name))
            if not inside:
                raise ValueError(
                    f"the folder {path} holds no {' or '.join(METADATA)}; name its shards with a pattern, for example "
                    f"'{path / '*.parquet'}'"
                )
            files += inside
        elif path.is_file():
            files.append(path)
        else:
            kind = "that is a folder" if path.is_dir() else "there is no such file"
            raise ValueError(f"--dataset is {pattern!r}, but {kind}; name files, for example 'shards/*.parquet'")
    return files


def _source(path: Path, wanted: Wanted) -> Source:
    name = path.name.lower()
    if name.endswith(".parquet"):
        return Table.find(path, wanted)
    if name.endswith(LINES) and not (wanted.with_pictures and name.endswith(".txt")):
        return Lines.find(path, wanted)
    if name.endswith(ARCHIVES) and wanted.with_pictures:
        return Archive.find(path, wanted)
    allowed = (
        ".parquet, .tar or folders with metadata.jsonl" if wanted.with_pictures else ".parquet, .jsonl, .csv, .txt"
    )
    raise ValueError(f"{path} is of no kind that can be read here; allowed: {allowed}")


def _stem(path: Path) -> Path:
    """The path without its ending; of the metadata of an imagefolder, its folder."""
    if path.name in METADATA:
        return path.parent
    ending = next((one for one in (".parquet", *ARCHIVES, *LINES) if path.name.lower().endswith(one)), "")
    return path.with_name(path.name[: len(path.name) - len(ending)] or path.name)

"""The layout of Hugging Face's imagefolder: pictures, and metadata.jsonl or metadata.csv files that caption them.

It is read here and not by `datasets`, which lets names of files and folders ("train", "test", "[v1]") decide what is
read. All mistakes are collected and told together.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jepa_app.config_base import parse_json
from jepa_app.files.names import find_file
from training.data.captions import Row

CAPTION_COLUMNS = ("text", "caption")
NAMES = ("metadata.jsonl", "metadata.csv")
MOST_MISTAKES = 10  # that are told


class Entry(NamedTuple):
    """One line of a metadata file: where it stands, the folder that its name is relative to, and its values."""

    where: str
    folder: Path
    values: dict[str, Any]


def imagefolder_rows(folder: Path) -> tuple[tuple[Row, ...], tuple[Path, ...]]:
    """Return the rows and pictures of an imagefolder and its subfolders; both are empty if it has no metadata.

    Raises:
        ValueError: metadata cannot be read, a line lacks a caption or a picture, or a picture is missing; the message
            names all of them, with file and line, up to ten.
    """
    rows, paths = [], []
    mistakes: list[str] = []
    for entry in _entries(folder, mistakes):
        name, caption = entry.values.get("file_name"), _caption(entry.values)
        if not is_text(name):
            mistakes.append(f"{entry.where} has no file_name")
        elif not is_text(caption):
            columns = " or ".join(CAPTION_COLUMNS)
            mistakes.append(f"{entry.where} ({name}) has no text in the column {columns}: got {caption!r}")
        elif (path := find_file(entry.folder, str(name))) is None:
            mistakes.append(f"{entry.where} names the picture {name}, which is not there")
        else:
            group = entry.values.get("group")
            file = path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name
            rows.append(Row(file=file, label=str(caption).strip(), group="" if group is None else str(group).strip()))
            paths.append(path)
    refuse_mistakes(folder, mistakes)
    return tuple(rows), tuple(paths)


def refuse_mistakes(folder: Path, mistakes: list[str]) -> None:
    """Refuse a folder with mistakes.

    Raises:
        ValueError: there are any; the message tells the first ten and counts the others.
    """
    if mistakes:
        rest = len(mistakes) - MOST_MISTAKES
        more = f"; and {rest} more" if rest > 0 else ""
        raise ValueError(
            f"{folder} cannot be used: {'; '.join(mistakes[:MOST_MISTAKES])}{more}; mend or drop the lines"
        )


def is_text(value: object) -> bool:
    """Whether a value is text that is not blank."""
    return isinstance(value, str) and bool(value.strip())


def _caption(values: dict[str, Any]) -> object:
    return next((values[column] for column in CAPTION_COLUMNS if values.get(column) is not None), None)


def _entries(folder: Path, mistakes: list[str]) -> Iterator[Entry]:
    for path in sorted(path for name in NAMES for path in folder.rglob(name)):
        where = path.relative_to(folder).as_posix()
        try:
            text = path.read_text(encoding="utf-8-sig")
            lines = _json_lines(text) if path.suffix == ".jsonl" else _csv_lines(text)
            for number, values in lines:
                yield Entry(f"{where} line {number}", path.parent, values)
        except UnicodeDecodeError as error:
            mistakes.append(f"{where} is not UTF-8 text ({error.reason}); save it as UTF-8")
        except (ValueError, csv.Error) as error:
            mistakes.append(f"{where} {error}")


def _json_lines(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.split("\n"), start=1):  # U+2028 and the like are part of a caption
        if line.strip():
            try:
                values = parse_json(line)
            except ValueError as error:
                raise ValueError(f"line {number} is not JSON: {error}") from error
            if not isinstance(values, dict):
                raise ValueError(
                    f'line {number} is no object such as {{"file_name": "0001.png", "text": "a red apple"}}'
                )
            yield number, values


def _csv_lines(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    lines = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)  # U+2028 and the like end no line
    for values in lines:
        if any(cell.strip() for cell in values.pop(None, ())):
            raise ValueError(
                f"line {lines.line_num} has more cells than the first line; "
                f"put quotes around text that holds {delimiter!r}"
            )
        yield lines.line_num, {str(name).strip(): value for name, value in values.items()}

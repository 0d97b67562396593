"""Folders of captioned pictures: the corpus layout (captions.jsonl) and Hugging Face's imagefolder (metadata.jsonl)."""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from jepa_app.config_base import parse_json
from jepa_app.files.names import find_file
from jepa_app.files.pictures import BROKEN_DATA, without_ballast
from jepa_app.pixels import upright_rgba
from training.data.captions import Row
from training.data.imagefolder import imagefolder_rows, is_text, refuse_mistakes

_LAYOUTS = (
    "pictures with a metadata.jsonl beside them, one line per picture such as "
    '{"file_name": "0001.png", "text": "a red apple"}, or a corpus made by python -m training.corpus build --out DIR'
)


@dataclass(frozen=True, kw_only=True)
class CaptionedFolder:
    """The rows of a folder; `paths[i]` is the picture of `rows[i]` and exists."""

    rows: tuple[Row, ...]
    paths: tuple[Path, ...]

    def fingerprint(self) -> str:
        """A short text that changes when a picture is added, removed, renamed or rewritten."""
        digest = hashlib.sha256()
        for row, path in zip(self.rows, self.paths, strict=True):
            stat = path.stat()
            digest.update(f"{row.file}|{stat.st_size}|{stat.st_mtime_ns}\n".encode())
        return digest.hexdigest()[:16]


def read_folder(folder: Path | str) -> CaptionedFolder:
    """The rows and pictures of a folder in either layout.

    Raises:
        ValueError: the folder is missing or has no pictures or captions, a line is malformed, or a picture is missing.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}; expected {_LAYOUTS}")
    if (folder / "captions.jsonl").is_file():
        rows = _corpus_rows(folder / "captions.jsonl")
        paths = _corpus_paths(folder, rows)
    else:
        rows, paths = imagefolder_rows(folder)
    if not rows:
        raise ValueError(f"{folder} has no captioned pictures; expected {_LAYOUTS}")
    return CaptionedFolder(rows=rows, paths=paths)


def _corpus_paths(folder: Path, rows: Sequence[Row]) -> tuple[Path, ...]:
    found = [(row.file, find_file(folder, row.file)) for row in rows]
    missing = [name for name, path in found if path is None]
    refuse_mistakes(folder, [f"captions.jsonl names the picture {name}, which is not there" for name in missing])
    return tuple(path for _, path in found if path is not None)


def open_square(path: Path, size: int) -> Image.Image:
    """A picture as RGBA at `size` x `size` pixels: upright, cropped to its central square, reduced with Lanczos.

    Raises:
        ValueError: the file is not a picture that Pillow reads, is cut short, or is absurdly large.
    """
    try:
        with Image.open(io.BytesIO(without_ballast(path.read_bytes()))) as opened:
            opened.load()
            picture = upright_rgba(opened)
    except (*BROKEN_DATA, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot read the picture {path}: {error}; replace it or drop its line") from error
    if picture.size == (size, size):
        return picture
    return ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)


def corpus_lines(captions: Path) -> list[tuple[int, str]]:
    """The lines of a captions.jsonl that are not blank, with their numbers from 1.

    Raises:
        ValueError: the file is not UTF-8 text.
    """
    try:
        text = captions.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{captions} is not UTF-8 text ({error.reason}); save it as UTF-8") from error
    lines = enumerate(text.split("\n"), start=1)  # U+2028 and the like are part of a caption
    return [(number, line) for number, line in lines if line.strip()]


def _corpus_rows(captions: Path) -> tuple[Row, ...]:
    rows = []
    for number, line in corpus_lines(captions):
        try:
            entry = parse_json(line)
        except ValueError as error:
            raise ValueError(f"{captions} line {number} is not JSON: {error}") from error
        if not isinstance(entry, dict) or not all(is_text(entry.get(key)) for key in ("file", "label")):
            raise ValueError(f"{captions} line {number} needs a file and a label; got {line[:80]!r}")
        for key in ("style", "group", "subgroup", "hexcode"):
            if not isinstance(entry.get(key) or "", str):
                raise ValueError(f"{captions} line {number}: {key} is {entry[key]!r}; allowed: text")
        tags = entry.get("tags") or ()
        if not isinstance(tags, list | tuple) or not all(isinstance(tag, str) for tag in tags):
            raise ValueError(f"{captions} line {number}: tags is {tags!r}; allowed: a list of words")
        rows.append(
            Row(
                file=entry["file"],
                label=entry["label"],
                tags=tuple(tags),
                style=entry.get("style") or "",
                group=entry.get("group") or "",
                subgroup=entry.get("subgroup") or "",
                hexcode=entry.get("hexcode"),
            )
        )
    return tuple(rows)

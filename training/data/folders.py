"""Folders of captioned pictures: the corpus layout (captions.jsonl) and Hugging Face's imagefolder (metadata.jsonl)."""

import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageOps

from training.data.captions import Row

CAPTION_COLUMNS = ("text", "caption")
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
        paths = tuple(folder / row.file for row in rows)
    else:
        rows, paths = _imagefolder_rows(folder)
    if not rows:
        raise ValueError(f"{folder} has no captioned pictures; expected {_LAYOUTS}")
    for row, path in zip(rows, paths, strict=True):
        if not path.is_file():
            raise ValueError(f"{folder} names the picture {row.file}, which is not there; restore it or drop its line")
    return CaptionedFolder(rows=rows, paths=paths)


def open_square(path: Path, size: int) -> Image.Image:
    """A picture as RGBA at `size` x `size` pixels: upright, cropped to its central square, reduced with Lanczos.

    Raises:
        ValueError: the file is not a picture that Pillow reads, is cut short, or is absurdly large.
    """
    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened).convert("RGBA")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"cannot read the picture {path}: {error}; replace it or drop its line") from error
    if picture.size == (size, size):
        return picture
    return ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)


def _corpus_rows(captions: Path) -> tuple[Row, ...]:
    rows = []
    for number, line in enumerate(captions.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{captions} line {number} is not JSON: {error}") from error
        if not isinstance(entry, dict) or not all(_is_text(entry.get(key)) for key in ("file", "label")):
            raise ValueError(f"{captions} line {number} needs a file and a label; got {line[:80]!r}")
        rows.append(
            Row(
                file=entry["file"],
                label=entry["label"],
                tags=tuple(entry.get("tags") or ()),
                style=entry.get("style") or "",
                group=entry.get("group") or "",
                subgroup=entry.get("subgroup") or "",
                hexcode=entry.get("hexcode"),
            )
        )
    return tuple(rows)


def _imagefolder_rows(folder: Path) -> tuple[tuple[Row, ...], tuple[Path, ...]]:
    # datasets takes seconds to import and the corpus layout does not need it
    from datasets import Image as ImageFeature
    from datasets import load_dataset
    from datasets.data_files import EmptyDatasetError
    from datasets.exceptions import DatasetGenerationError, DatasetNotFoundError

    try:
        # the table is read once, here: a lasting cache of it would only grow
        with tempfile.TemporaryDirectory() as cache:
            table = load_dataset("imagefolder", data_dir=str(folder), split="train", cache_dir=cache)
    except (EmptyDatasetError, DatasetNotFoundError, FileNotFoundError) as error:
        raise ValueError(f"{folder} has no captioned pictures; expected {_LAYOUTS}") from error
    except (DatasetGenerationError, ValueError) as error:
        raise ValueError(f"{folder} is not an imagefolder: {error.__cause__ or error}; expected {_LAYOUTS}") from error
    column = next((name for name in CAPTION_COLUMNS if name in table.column_names), None)
    if column is None or "image" not in table.column_names:
        raise ValueError(
            f"{folder} has no caption column: got {', '.join(table.column_names)}; "
            f"allowed: {' or '.join(CAPTION_COLUMNS)}; expected {_LAYOUTS}"
        )
    table = table.cast_column("image", ImageFeature(decode=False))
    groups = table["group"] if "group" in table.column_names else [None] * len(table)
    rows, paths = [], []
    for picture, caption, group in zip(table["image"], table[column], groups, strict=True):
        path = Path(picture["path"])
        if not _is_text(caption):
            raise ValueError(
                f"{path} has no text in the column {column!r}: got {caption!r}; write one or drop its line"
            )
        name = path.relative_to(folder.resolve()) if path.is_relative_to(folder.resolve()) else Path(path.name)
        rows.append(Row(file=name.as_posix(), label=caption.strip(), group=group if _is_text(group) else ""))
        paths.append(path)
    return tuple(rows), tuple(paths)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())

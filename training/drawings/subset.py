"""A part of a corpus as a folder of its own: some styles, some groups; pictures are linked where possible."""

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from training.data.folders import corpus_lines, read_folder
from training.data.selection import is_of

ATTRIBUTION = "ATTRIBUTION.txt"
_GENDERS = ("man", "woman", "men", "women")


def select(
    data: Path, out: Path, *, styles: Collection[str] = (), groups: Collection[str] = (), variants: bool = True
) -> int:
    """Put the pictures of some styles and groups (all if none are named) into a new folder; return how many.

    `groups` also takes subgroups, such as "person-role". Without `variants`, a label that only adds gender, hair,
    direction or who is together to another one of the corpus is left out (`is_variant`).

    Raises:
        ValueError: `data` is not a corpus or names a picture outside of it, `out` already exists, or a style or group
            is not in the corpus.
    """
    captions = data / "captions.jsonl"
    if not captions.is_file():
        raise ValueError(
            f"{data} is not a corpus: it has no captions.jsonl; make one with python -m training.corpus build"
        )
    if out.exists():
        raise ValueError(f"{out} already exists; give a new folder")
    folder = read_folder(data)  # every line is sound, and its picture exists
    rows = folder.rows
    _check("styles", styles, {row.style for row in rows})
    _check("groups", groups, {row.group for row in rows} | {row.subgroup for row in rows})
    labels = {row.label for row in rows}
    chosen = [
        (path, line)
        for row, path, (_, line) in zip(rows, folder.paths, corpus_lines(captions), strict=True)
        if (not styles or row.style in styles)
        and is_of(row, groups)
        and (variants or not is_variant(row.label, labels))
    ]
    if not chosen:
        raise ValueError(f"{data} has no pictures in both {', '.join(styles)} and {', '.join(groups)}")
    for path, _ in chosen:
        if not path.is_relative_to(data) or ".." in path.relative_to(data).parts:
            raise ValueError(f"{captions} names the picture {path}, which is outside of {data}; drop its line")
    out.mkdir(parents=True)
    for path, _ in chosen:
        target = out / path.relative_to(data)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():  # a picture may have several captions
            _link(path, target)
    if (data / ATTRIBUTION).is_file():
        shutil.copyfile(data / ATTRIBUTION, out / ATTRIBUTION)
    (out / "captions.jsonl").write_text("".join(f"{line}\n" for _, line in chosen), encoding="utf-8")
    return len(chosen)


def is_variant(label: str, labels: Collection[str]) -> bool:
    """Whether a label is another one with gender, hair, direction or the people of a family added.

    "woman astronaut" is one where "astronaut" is a label, "man running" where "person running" is, "family: man, boy"
    where "family" is; "woman", "mermaid" and "keycap: 1" are none.
    """
    base = label.partition(":")[0]
    if base != label and base in labels:
        return True
    gender, _, rest = label.partition(" ")
    return gender in _GENDERS and any(other in labels for other in (rest, f"person {rest}", f"people {rest}"))


def _check(what: str, asked: Collection[str], known: Collection[str]) -> None:
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise ValueError(f"--{what} has {', '.join(unknown)}; allowed: {', '.join(sorted(known))}")


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copyfile(source, target)

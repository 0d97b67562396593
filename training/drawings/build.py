"""Builds the emoji corpus from its public packages (the command is `python -m training.corpus build`).

Eleven open emoji designs, one folder each, as square WebP pictures with alpha, and captions.jsonl with words,
provenance and licence of every picture. A build can be stopped at any point; the same command continues it.
"""

import json
import multiprocessing
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from jepa_app.files.whole_files import writing_whole
from jepa_app.styles import STYLES
from training.drawings.concepts import (
    NEEDED_REFERENCES,
    Concept,
    join_by_code,
    join_by_name,
    read_concepts,
    with_package_names,
)
from training.drawings.rendering import RENDER_SIZE, Drawing, render_to
from training.drawings.sources import SOURCES, WORDS, Artwork, Package, StyleSource, fetch, read_archive

# Nothing above imports torch: every rendering process imports this module.

CAPTIONS = "captions.jsonl"
DROPPED = "dropped.jsonl"
STATE = "build.json"


@dataclass(frozen=True, kw_only=True)
class PlannedPicture:
    """A picture to render: the drawing `name` of `source` for `concept`, found by code point or by name."""

    source: StyleSource
    concept: Concept
    name: str
    drawing: Drawing
    by_code: bool

    @property
    def file(self) -> str:
        """The picture's path in the corpus: "twemoji/1f34e.webp"."""
        return f"{self.source.style}/{self.concept.hexcode.lower()}.webp"

    def line(self) -> dict[str, object]:
        """The picture's entry in captions.jsonl."""
        return {
            "file": self.file,
            "style": self.source.style,
            "label": self.concept.label,
            "tags": list(self.concept.tags),
            "group": self.concept.group,
            "subgroup": self.concept.subgroup,
            "hexcode": self.concept.hexcode,
            "source_package": self.source.package.spec,
            "source_name": self.name,
            "licence": STYLES[self.source.style].licence,
        }


def build(
    out: Path, size: int, sources: Sequence[StyleSource] = SOURCES, words: Package = WORDS, packages: Path | None = None
) -> int:
    """Build the corpus of `sources` in `out` and return its number of pictures.

    Pictures that are already there are kept. Archives are kept in `packages` (by default a folder in `out`).

    Raises:
        ValueError: the size is impossible, too few styles are joined by code point, `out` holds another corpus, npm or
            a download fails, or a drawing cannot be rendered.
    """
    if not 16 <= size <= RENDER_SIZE:
        raise ValueError(f"size is {size}; allowed: 16 to {RENDER_SIZE}, the side of the pictures in pixels")
    _check_references(sources)
    _claim_folder(out, size, sources)
    plan = plan_pictures(sources, words, packages or out / "packages")
    missing = [picture for picture in plan if not (out / picture.file).is_file()]
    if not missing and _files_in(out / CAPTIONS) | _files_in(out / DROPPED) == {picture.file for picture in plan}:
        return len(_files_in(out / CAPTIONS))
    styles = [STYLES[source.style] for source in sources]
    owed = dict.fromkeys(f"{style.attribution} ({style.licence})\n" for style in styles)
    _write_whole(out / "ATTRIBUTION.txt", "".join(owed))
    _render(missing, out, size)
    wrong = _wrong_joins(plan, out, size)
    lines = [picture.line() for picture in plan]
    _write_lines(out / DROPPED, [{**lines[position], "nearer_concepts": rank} for position, rank in wrong.items()])
    kept = [line for position, line in enumerate(lines) if position not in wrong]
    _write_lines(out / CAPTIONS, kept)  # last: its presence says that the corpus is complete
    return len(kept)


def plan_pictures(sources: Sequence[StyleSource], words: Package, packages: Path) -> list[PlannedPicture]:
    """All pictures of a corpus, in the order of the sources and of Unicode.

    Raises:
        ValueError: npm or a download fails.
    """
    concepts = read_concepts(read_archive(fetch(words, packages), lambda path: path.endswith(".json")))
    artworks: list[tuple[StyleSource, Artwork]] = [
        (source, source.read(read_archive(fetch(source.package, packages), source.wanted)))
        for source in tqdm(sources, desc="fetching packages", disable=None)
    ]
    named_concepts = with_package_names(concepts, [art.keys for source, art in artworks if source.by_code])
    plan = []
    for source, art in artworks:
        if source.by_code:
            joined = join_by_code(concepts, {code: names[0] for code, names in art.keys.items()})
        else:
            joined = join_by_name(named_concepts, art.drawings)
        plan += [
            PlannedPicture(
                source=source,
                concept=concept,
                name=joined[concept.hexcode],
                drawing=art.drawings[joined[concept.hexcode]],
                by_code=source.by_code,
            )
            for concept in concepts
            if concept.hexcode in joined
        ]
    return plan


def _check_references(sources: Sequence[StyleSource]) -> None:
    named = [source.style for source in sources if not source.by_code]
    if named and len(sources) - len(named) < NEEDED_REFERENCES:
        keyed = ", ".join(source.style for source in SOURCES if source.by_code)
        raise ValueError(
            f"{', '.join(named)} cannot be built alone: pictures joined by name are checked against "
            f"{NEEDED_REFERENCES} styles joined by code point; add some of {keyed}"
        )


def _claim_folder(out: Path, size: int, sources: Sequence[StyleSource]) -> None:
    """Record what is built here, so that pictures of different sizes or package versions are never mixed."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; give a folder for the corpus")
    out.mkdir(parents=True, exist_ok=True)
    packages = {source.style: source.package.spec for source in sources}
    state = out / STATE
    if state.is_file():
        found = json.loads(state.read_text())
        if found["size"] != size or any(packages.get(style, spec) != spec for style, spec in found["packages"].items()):
            raise ValueError(
                f"{out} holds pictures of {found['size']} pixels from {', '.join(found['packages'].values())}; "
                "give another folder"
            )
        packages = {**found["packages"], **packages}
    _write_whole(state, json.dumps({"size": size, "packages": packages}, indent=2) + "\n")


def _render(pictures: Sequence[PlannedPicture], out: Path, size: int) -> None:
    for style in {picture.source.style for picture in pictures}:
        (out / style).mkdir(exist_ok=True)
    # resvg holds the interpreter lock, so threads would not help; spawned, because forking a threaded process can hang
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        jobs = [pool.submit(render_to, picture.drawing, size, out / picture.file) for picture in pictures]
        try:
            for job in tqdm(as_completed(jobs), total=len(jobs), desc="rendering pictures", disable=None):
                job.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _wrong_joins(plan: Sequence[PlannedPicture], out: Path, size: int) -> dict[int, int]:
    # imports torch and the judge's weights, which the rendering processes must not load
    from training.drawings.concept_check import JoinedPicture, wrong_joins

    return wrong_joins(
        [
            JoinedPicture(
                path=out / picture.file,
                concept=picture.concept.hexcode,
                style=picture.source.style,
                by_code=picture.by_code,
            )
            for picture in plan
        ],
        size,
    )


def _files_in(lines: Path) -> set[str]:
    if not lines.is_file():
        return set()
    return {json.loads(line)["file"] for line in lines.read_text(encoding="utf-8").splitlines()}


def _write_lines(path: Path, lines: Sequence[dict[str, object]]) -> None:
    _write_whole(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


def _write_whole(path: Path, text: str) -> None:
    with writing_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")

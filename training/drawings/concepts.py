"""Which drawing of a package shows which concept: by code point where the package says so, otherwise by name.

A concept is known under several names: its Unicode label, what code-point-keyed packages call their drawing of it,
its short codes, and its formal Unicode character name ("aubergine" for the eggplant). Names are compared without
hyphens, and each drawing goes to the concept that knows it under its best name.
"""

import json
import re
import unicodedata
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from training.data.split import concept_of

NEEDED_REFERENCES = 3
"""Pictures joined by code point that a concept must have before a name join is checked against them."""

_COMPONENTS = "component"
_SKIPPED_SUBGROUPS = frozenset({"country-flag", "subdivision-flag"})
# Drawn as a revolver before 2016: the sets joined by name still show one under the toy's name.
_CHANGED_MEANING = frozenset({"1F52B"})
_SHORTCODES = ("cldr", "emojibase", "joypixels", "github", "iamcal", "emojibase-legacy")


@dataclass(frozen=True, kw_only=True)
class Concept:
    """One emoji without skin tone: `names` are the normalised names that drawings of it may have, best first."""

    hexcode: str
    label: str
    tags: tuple[str, ...]
    group: str
    subgroup: str
    names: tuple[str, ...]


def read_concepts(files: Mapping[str, bytes]) -> list[Concept]:
    """The concepts of the package emojibase-data, without skin tones, components and flags of places.

    `files` maps paths inside the package to their contents.
    """
    words = json.loads(files["meta/groups.json"])
    codes = [json.loads(files[f"en/shortcodes/{name}.json"]) for name in _SHORTCODES]
    concepts = []
    for entry in json.loads(files["en/data.json"]):
        if "group" not in entry:
            continue
        group, subgroup = words["groups"][str(entry["group"])], words["subgroups"][str(entry["subgroup"])]
        if group == _COMPONENTS or subgroup in _SKIPPED_SUBGROUPS:
            continue
        names = [entry["label"]]
        for table in codes:
            found = table.get(entry["hexcode"], ())
            names += [found] if isinstance(found, str) else found
        concepts.append(
            Concept(
                hexcode=entry["hexcode"],
                label=entry["label"],
                tags=tuple(entry.get("tags", ())),
                group=group,
                subgroup=subgroup,
                names=_distinct([*names, *_formal_names(entry["hexcode"])]),
            )
        )
    return concepts


def with_package_names(concepts: Iterable[Concept], keyed: Sequence[Mapping[str, Sequence[str]]]) -> list[Concept]:
    """The concepts, each also known under the names that code-point-keyed packages give its drawing.

    `keyed` maps concept code points to names, one mapping per package.
    """
    result = []
    for concept in concepts:
        code = concept_of(concept.hexcode)
        found = [name for names in keyed for name in names.get(code, ())]
        label, *others = concept.names
        names = _distinct([label, *found, *others])
        result.append(Concept(**{**vars(concept), "names": names}))
    return result


def join_by_code(concepts: Iterable[Concept], keys: Mapping[str, str]) -> dict[str, str]:
    """Concept hexcode -> drawing, for a package that maps code points to drawings."""
    return {c.hexcode: keys[concept_of(c.hexcode)] for c in concepts if concept_of(c.hexcode) in keys}


def join_by_name(concepts: Sequence[Concept], drawings: Mapping[str, Hashable]) -> dict[str, str]:
    """Concept hexcode -> drawing, for a package that only names its drawings.

    `drawings` maps names to what is drawn. A numbered drawing ("guard-1" beside "guard-2") also answers to its name
    without the number 1. Each drawing is used once, for the concept that lists its name earliest.
    """
    exact: dict[str, str] = {}
    numbered: dict[str, str] = {}
    for drawing in drawings:
        exact.setdefault(normalised(drawing), drawing)
        if re.fullmatch(r".*[a-z]-1", drawing):
            numbered.setdefault(normalised(drawing[:-2]), drawing)
    claims = sorted(
        (by_number, rank, order, by_name[name])
        for order, concept in enumerate(concepts)
        if concept_of(concept.hexcode) not in _CHANGED_MEANING
        for rank, name in enumerate(concept.names)
        for by_number, by_name in enumerate((exact, numbered))
        if name in by_name
    )
    joined: dict[str, str] = {}
    given: set[Hashable] = set()
    for _, _, order, drawing in claims:
        hexcode = concepts[order].hexcode
        if hexcode not in joined and drawings[drawing] not in given:
            joined[hexcode] = drawing
            given.add(drawings[drawing])
    return joined


def normalised(name: str) -> str:
    """A name as it is compared: ASCII letters and digits in lower case, nothing else."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "", plain)


def _formal_names(hexcode: str) -> list[str]:
    parts = concept_of(hexcode).split("-")
    name = unicodedata.name(chr(int(parts[0], 16)), "") if len(parts) == 1 else ""
    return [name] if name else []


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for name in map(normalised, names) if name))

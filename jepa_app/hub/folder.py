"""The folder that is pushed: weights, the openings that let other libraries load them, their code, and their card."""

import json
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from jepa_app.checkpoint import (
    AUTO_MAP,
    EXAMPLE_FILE,
    PARTS,
    replacing,
    verify_manifest,
    weight_files,
    write_manifest,
)
from jepa_app.config_base import parse_json
from jepa_app.files.whole_files import write_whole
from jepa_app.hub.card import CARD, card_text
from jepa_app.hub.code import needed_files

OPENINGS = Path(__file__).parent
CODE = "code"
COPIES = {
    "pipeline.py": "pipeline.py",
    "opening.py": "opening.py",
    f"{CODE}/opening.py": "opening.py",
    "ti-jepa/opening.py": "opening.py",
}
"""File in a weights folder -> opening; transformers looks at the top of a repository, or beside a local config."""


def write_openings(weights: Path) -> None:
    """Let diffusers and transformers open a weights folder that has all parts, and write its manifest anew.

    The code is not copied: in a clone of this project it lies beside the folder.
    """
    for name, opening in COPIES.items():
        (weights / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(OPENINGS / opening, weights / name)
    index = {
        "_class_name": ["pipeline", "JepaTDiffusionPipeline"],
        "_diffusers_version": metadata.version("diffusers"),
        CODE: ["opening", "Opening"],
    }
    write_whole(weights / "model_index.json", json.dumps(index, indent=2) + "\n")
    config = weights / "ti-jepa" / "config.json"
    settings = parse_json(config.read_text(encoding="utf-8"))
    settings[AUTO_MAP] = {"AutoConfig": "opening.TIJepaFaceConfig"}
    write_whole(config, json.dumps(settings, indent=2) + "\n")
    write_manifest(weights)


def write_hub_folder(weights: Path, target: Path, repository: str, figures: Mapping[str, Any] | None = None) -> None:
    """Write a folder with everything that is pushed; what was in it before is replaced.

    `figures` is the document that `training.evaluate` writes.

    Raises:
        ValueError: the folder holds no weights or broken ones, or its README.md or the figures are broken.
    """
    verify_manifest(weights)
    missing = [part for part in PARTS if not (weights / part / "config.json").is_file()]
    if missing:
        raise ValueError(f"{weights} has no {' and no '.join(missing)}; put the parts together with training.bundle")
    card = card_text(weights, repository, figures)
    with replacing(target) as partial:
        for name in (*weight_files(weights), *((EXAMPLE_FILE,) if (weights / EXAMPLE_FILE).is_file() else ())):
            (partial / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(weights / name, partial / name)
        for name, file in needed_files().items():
            (partial / CODE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, partial / CODE / name)
        write_openings(partial)
        (partial / CARD).write_text(card, encoding="utf-8")

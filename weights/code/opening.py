"""Opens the weights beside which a copy of this file lies: with the code that lies there too, or the installed one.

diffusers and transformers copy it into a cache of theirs and run it from there. So it finds the code by the folder or
hub id that they pass on, and it imports nothing of `jepa_app` at its top.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download

PACKAGE = "jepa_app"


class Opening:
    """What diffusers calls for its component `code`."""

    @classmethod
    def from_pretrained(cls, folder: str, **options: Any) -> Any:  # noqa: ARG003  # diffusers' options do not apply
        """Return the `JepaTPipeline` of the weights folder in which `folder`, its folder `code`, lies."""
        use_code(Path(folder))
        weights = importlib.import_module(f"{PACKAGE}.checkpoint").completed(Path(folder).parent)
        return importlib.import_module(f"{PACKAGE}.generation.pipeline").JepaTPipeline.from_pretrained(weights)


class TIJepaFaceConfig:
    """What transformers calls for the configuration of `ti-jepa`; it stands for the class of the same name."""

    @classmethod
    def register_for_auto_class(cls, auto_class: str = "AutoConfig") -> None:
        """Do nothing: the real class has registered itself, its model and its processor."""

    @classmethod
    def from_pretrained(cls, source: str, **options: Any) -> Any:
        """Return the configuration at a folder or hub id."""
        folder = Path(source)
        if not folder.is_dir():
            wanted = {
                name: options[name]
                for name in ("revision", "token", "cache_dir", "local_files_only")
                if name in options
            }
            folder = Path(snapshot_download(source, allow_patterns="code/*", **wanted))
        use_code(folder)
        face = importlib.import_module(f"{PACKAGE}.matching.transformers_face")
        return face.TIJepaFaceConfig.from_pretrained(source, **options)


def use_code(folder: Path) -> None:
    """Make the package importable: the installed one, or the one in or near a folder.

    Raises:
        ImportError: it is not there.
    """
    if PACKAGE in sys.modules or importlib.util.find_spec(PACKAGE) is not None:
        return
    folder = folder.resolve()
    # in the weights folder, as it is pushed; or beside the weights folder, as in a clone of the project
    places = (folder, folder / "code", folder.parent / "code", folder.parent, folder.parent.parent)
    starts = [start for place in places if (start := place / PACKAGE / "__init__.py").is_file()]
    if not starts:
        raise ImportError(
            f"the code of these weights is not in {folder}: get the whole repository, or pip install jepa-studio"
        )
    inside = [str(starts[0].parent)]
    spec = importlib.util.spec_from_file_location(PACKAGE, starts[0], submodule_search_locations=inside)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[PACKAGE])

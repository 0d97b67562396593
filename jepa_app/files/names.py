"""Files whose names were written on another system."""

import unicodedata
from pathlib import Path


def find_file(folder: Path, name: str) -> Path | None:
    """Return the file of this name in a folder, whichever system wrote the name; None if there is none.

    Windows writes backslashes, and macOS takes letters with accents apart.
    """
    forms = dict.fromkeys([name, name.replace("\\", "/")])
    for form in [*forms]:
        forms |= dict.fromkeys(unicodedata.normalize(kind, form) for kind in ("NFC", "NFD"))
    try:
        return next((folder / form for form in forms if (folder / form).is_file()), None)
    except (OSError, ValueError):  # a name that is too long, or that holds a zero byte
        return None

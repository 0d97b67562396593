"""Pictures decoded once to uint8 RGBA and kept in one file, which later runs map into memory."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from jepa_app.files.whole_files import writing_whole
from training.data.folders import open_square

AT_ONCE = 256


def default_cache_dir() -> Path:
    """Where decoded pictures are kept: `jepa` in `XDG_CACHE_HOME`, or in `.cache` of the home folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "jepa"


def decode(path: Path, size: int) -> NDArray[np.uint8]:
    """Read a picture as uint8 RGBA (4, S, S).

    Raises:
        ValueError: the file is not a picture that can be read.
    """
    return np.asarray(open_square(path, size)).transpose(2, 0, 1)  # (4, S, S)


def decode_all(paths: Sequence[Path], size: int, target: Path) -> None:
    """Decode all pictures into one .npy file; the file appears under its name only when it is complete."""
    target.parent.mkdir(parents=True, exist_ok=True)
    # written, not mapped: on a full disk a write fails with an error, but a mapped page kills the process
    with writing_whole(target) as partial, partial.open("wb") as file, ThreadPoolExecutor(os.cpu_count()) as pool:
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(paths), 4, size, size)}
        np.lib.format.write_array_header_1_0(file, header)
        with tqdm(total=len(paths), desc="decoding pictures", disable=None) as bar:
            for first in range(0, len(paths), AT_ONCE):  # or a slow disk would fill the memory
                for picture in pool.map(lambda path: decode(path, size), paths[first : first + AT_ONCE]):
                    file.write(picture.tobytes())
                    bar.update()

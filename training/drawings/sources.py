"""The public npm packages that the corpus is made of: pinned versions, checksums, and how each stores its drawings."""

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from training.data.split import concept_of
from training.drawings.rendering import Drawing, svg_document

DOWNLOAD_SECONDS = 600


@dataclass(frozen=True, kw_only=True)
class Package:
    """One version of an npm package; `integrity` is the SHA-512 of its archive as npm writes it."""

    name: str
    version: str
    integrity: str

    @property
    def spec(self) -> str:
        """The package as npm names it: "openmoji@17.0.0"."""
        return f"{self.name}@{self.version}"

    @property
    def archive(self) -> str:
        """The file name that `npm pack` gives the archive."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"


@dataclass(frozen=True, kw_only=True)
class Artwork:
    """The drawings of a package by name, and for code-point-keyed packages the names of each concept's drawing.

    The first name of a concept is its drawing, the others are further names for it.
    """

    drawings: Mapping[str, Drawing]
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StyleSource:
    """Where the drawings of a style come from; `wanted` selects the files of the archive that `read` understands.

    `by_code`: the package says which code points its drawings have; otherwise they are joined by name.
    """

    style: str
    package: Package
    by_code: bool
    wanted: Callable[[str], bool]
    read: Callable[[Mapping[str, bytes]], Artwork]


def fetch(package: Package, folder: Path) -> Path:
    """The verified archive of a package in `folder`, downloaded by `npm pack` unless it is already there.

    Raises:
        ValueError: npm is missing, the download failed, or the archive is not the pinned one.
    """
    archive = folder / package.archive
    if archive.is_file() and integrity_of(archive) == package.integrity:
        return archive
    npm = shutil.which("npm")
    if npm is None:
        raise ValueError(f"npm is needed to download {package.spec} and was not found; install Node.js with npm")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        command = [npm, "pack", package.spec, "--loglevel=error", "--pack-destination", temporary]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False)
        except subprocess.TimeoutExpired as error:
            raise ValueError(f"downloading {package.spec} took over {DOWNLOAD_SECONDS} s; try again later") from error
        downloaded = Path(temporary) / package.archive
        if done.returncode or not downloaded.is_file():
            reason = next((line for line in done.stderr.splitlines() if line.strip()), "npm gave no reason")
            raise ValueError(f"npm could not download {package.spec}: {reason}; check the network and try again")
        found = integrity_of(downloaded)
        if found != package.integrity:
            raise ValueError(f"the download of {package.spec} is corrupt: got {found}, expected {package.integrity}")
        downloaded.replace(archive)
    return archive


def integrity_of(archive: Path) -> str:
    """The SHA-512 of a file as npm writes it, "sha512-" and base64."""
    return "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()


def read_archive(archive: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """The wanted files of a package, by their path inside it."""
    files = {}
    with tarfile.open(archive, "r:gz") as members:
        for member in members:
            path = member.name.split("/", 1)[-1]
            if member.isfile() and wanted(path):
                content = members.extractfile(member)
                assert content is not None, "a regular file has content"
                files[path] = content.read()
    return files


def read_iconify(files: Mapping[str, bytes]) -> Artwork:
    """An icon set of Iconify: icons.json with bodies and aliases, chars.json from code points to names."""
    icons = json.loads(files["icons.json"])
    aliases: dict[str, dict] = icons.get("aliases", {})
    drawings: dict[str, Drawing] = {}
    aliases_of: dict[str, list[str]] = {}
    for name in (*icons["icons"], *aliases):
        original, mirrored = name, False
        while original in aliases:
            mirrored ^= bool(aliases[original].get("hFlip"))
            original = aliases[original]["parent"]
        shape = {**icons, **icons["icons"][original]}
        data = svg_document(
            shape["body"], shape.get("left", 0), shape.get("top", 0), shape.get("width", 16), shape.get("height", 16)
        )
        drawings[name] = Drawing(data=data, is_svg=True, mirrored=mirrored)
        if not mirrored and name != original:
            aliases_of.setdefault(original, []).append(name)
    keys = {
        concept_of(code): (name, *aliases_of.get(name, ()))
        for code, name in json.loads(files["chars.json"]).items()
        if name in drawings
    }
    return Artwork(drawings=drawings, keys=keys)


def read_files(files: Mapping[str, bytes]) -> Artwork:
    """A package with one file per drawing, named by its code points ("color/svg/1F34E.svg")."""
    drawings = {path: Drawing(data=data, is_svg=path.endswith(".svg")) for path, data in files.items()}
    return Artwork(drawings=drawings, keys={concept_of(Path(path).stem): (path,) for path in files})


def iconify(style: str, package: Package, *, by_code: bool) -> StyleSource:
    """A style whose package is an icon set of Iconify."""
    wanted = frozenset({"icons.json", "chars.json"})
    return StyleSource(style=style, package=package, by_code=by_code, wanted=wanted.__contains__, read=read_iconify)


def files_by_code(style: str, package: Package, folder: str, suffix: str) -> StyleSource:
    """A style whose package has one file per drawing in `folder`, named by its code points."""

    def wanted(path: str) -> bool:
        return path.startswith(folder) and path.endswith(suffix)

    return StyleSource(style=style, package=package, by_code=True, wanted=wanted, read=read_files)


def _pinned(name: str, version: str, integrity: str) -> Package:
    return Package(name=name, version=version, integrity=integrity)


WORDS = _pinned(
    "emojibase-data",
    "17.0.0",
    "sha512-Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
)
"""Labels, keywords and groups of all concepts (MIT)."""

SOURCES = (
    iconify(
        "noto",
        _pinned(
            "@iconify-json/noto",
            "1.2.9",
            "sha512-DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
        ),
        by_code=True,
    ),
    iconify(
        "twemoji",
        _pinned(
            "@iconify-json/twemoji",
            "1.2.5",
            "sha512-uKpuIEV0v6K5BW3Mjdyl+XKFVAbbcPxAgifKvEMtZoUZB5+YiY5zaMm2uNNCxyXzAWU9yNLlj41WU6/mvgALsw==",
        ),
        by_code=True,
    ),
    files_by_code(
        "openmoji",
        _pinned(
            "openmoji",
            "17.0.0",
            "sha512-EBnYrNGdcdw+OSXmENeNE1yBNRu6tOraTmoOyUbJkTmvT/+XETp8RZLSJFzD3lrPc5N9CzsyPnRTk0Vp4UaI9w==",
        ),
        folder="color/svg/",
        suffix=".svg",
    ),
    files_by_code(
        "fluent3d",
        _pinned(
            "@lobehub/fluent-emoji-3d",
            "1.1.0",
            "sha512-Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
        ),
        folder="assets/",
        suffix=".webp",
    ),
    iconify(
        "fluentflat",
        _pinned(
            "@iconify-json/fluent-emoji-flat",
            "1.2.6",
            "sha512-RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
        ),
        by_code=True,
    ),
    iconify(
        "fluent",
        _pinned(
            "@iconify-json/fluent-emoji",
            "1.2.7",
            "sha512-D8G6bKAyIsyxP1rzZtIWr/gg/fO4Rg1+DyCWlfqKK4h8W+4Em/Y0P6QYgJUQTlUcagzJvSyg+9OBv4hz4Hc/QA==",
        ),
        by_code=False,
    ),
    iconify(
        "blob",
        _pinned(
            "@iconify-json/noto-v1",
            "1.2.5",
            "sha512-/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMuVA==",
        ),
        by_code=False,
    ),
    iconify(
        "emojione2",
        _pinned(
            "@iconify-json/emojione",
            "1.2.3",
            "sha512-T9+T3HIbJNLKKsmxYKlaYhvnHYkz/HNYTV7SHCXVZPfeUi4FqskY70YeN8yYAZT8cCv7w5vJxS4Q1m8zb9CMMg==",
        ),
        by_code=False,
    ),
    iconify(
        "emojione1",
        _pinned(
            "@iconify-json/emojione-v1",
            "1.2.3",
            "sha512-UjI2VQEXVtGlPBvQuxEizro7QCgBcJDOYwKUupquvvZ8UV4xOlvm45IU82JYWegiAWLerY79gFLMZ26U6Ms+ww==",
        ),
        by_code=False,
    ),
    iconify(
        "fxemoji",
        _pinned(
            "@iconify-json/fxemoji",
            "1.2.2",
            "sha512-UAasRaxzFUKfIGSmLwnoarsssA4LX0VLLuEmplIqM6ZNQqIQRtav8tZ4H1neTlBreXuMQyAifr5jP4kn78DpiQ==",
        ),
        by_code=False,
    ),
    iconify(
        "streamline",
        _pinned(
            "@iconify-json/streamline-emojis",
            "1.2.4",
            "sha512-iNr9T9XuZVTyQPJO8ZlLxBzPkpi7qMl+z1l0C31vpEMqhPMelth3n7CeWQYtixdetDPdI81yeG4ROqjWpYJE6A==",
        ),
        by_code=False,
    ),
)
"""One source per style, those joined by code point first."""

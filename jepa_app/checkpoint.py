"""Weights on disk: folders with `config.json` and safetensors shards, and a manifest of checksums above them.

Everything is strict: unknown settings, missing or surplus tensors, wrong shapes, broken files and mismatched checksums
are refused with a message that says what was found, what was expected and what to do.
"""

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from huggingface_hub import load_torch_model, save_torch_model, snapshot_download
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # HTTPError is another library's
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError
from torch import nn

from jepa_app.config import TokenizerConfig
from jepa_app.config_base import Config, parse_json

MAX_SHARD_SIZE = "9MB"  # git and the hub take files below 10 MB most readily
MANIFEST = "manifest.json"
EXAMPLE_FILE = "example.safetensors"  # the run that the page shows first
PARTS = ("tokenizer", "jepa-t", "ti-jepa")
AUTO_MAP = "auto_map"  # the key by which transformers finds the code of weights; it is no setting of a network

ConfigT = TypeVar("ConfigT", bound=Config)
NetworkT = TypeVar("NetworkT", bound=nn.Module)


def save_network(folder: Path, network: nn.Module, config: Config) -> None:
    """Write a network and its config; the folder changes only once everything is written.

    Raises:
        OSError: the disk is full or cannot be written; the folder's previous contents are untouched.
    """
    with replacing(folder) as partial:
        text = json.dumps({"config": type(config).__name__, **config.to_dict()}, indent=2)
        (partial / "config.json").write_text(text + "\n")
        save_torch_model(network, partial, max_shard_size=MAX_SHARD_SIZE)
        for path in partial.iterdir():
            path.chmod(0o644)  # safetensors writes files that only their owner can read


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of `folder` when the block ends without an error.

    Raises:
        OSError: the disk is full or cannot be written; the folder's previous contents are untouched.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    old = partial.with_name(partial.name + "-old")
    try:
        yield partial
        partial.chmod(0o755)
        if folder.exists():
            folder.replace(old)
        partial.replace(folder)
    except SafetensorError as error:  # safetensors turns disk errors into this
        raise OSError(f"cannot write {folder}: {error}; its previous contents are untouched") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if old.exists() and not folder.exists():
            old.replace(folder)
        shutil.rmtree(old, ignore_errors=True)


def load_config(folder: Path, config_class: type[ConfigT]) -> ConfigT:
    """Read the config of a weights folder.

    Raises:
        ValueError: the config is missing, broken, or belongs to another kind of network.
    """
    path = folder / "config.json"
    try:
        values = parse_json(path.read_text())
    except FileNotFoundError:
        raise ValueError(f"no weights in {folder}: config.json is missing; restore or train the weights") from None
    except ValueError as error:
        raise ValueError(f"{path} is broken ({error}); restore the file") from error
    kind = values.pop("config", None) if isinstance(values, dict) else None
    if kind != config_class.__name__:
        raise ValueError(
            f"{folder} contains weights of kind {kind}; expected: {config_class.__name__}; were they swapped?"
        )
    values.pop(AUTO_MAP, None)
    return config_class.from_dict(values)


def load_state(folder: Path, network: nn.Module) -> None:
    """Load the tensors of a weights folder into a network, strictly.

    Raises:
        ValueError: files are missing or broken, or their tensors do not match the network.
    """
    try:
        load_torch_model(network, folder, strict=True, safe=True)
    except (FileNotFoundError, SafetensorError, RuntimeError, ValueError, KeyError, json.JSONDecodeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"the weights in {folder} cannot be loaded ({reason}); restore the folder") from error


def load_network(folder: Path, config_class: type[ConfigT], build: Callable[[ConfigT], NetworkT]) -> NetworkT:
    """Build the network that a weights folder describes and load its tensors, strictly.

    Raises:
        ValueError: as `load_config` and `load_state`.
    """
    config = load_config(folder, config_class)
    held = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    _check_size(folder, config.least_parameters(), held)  # before the memory is filled with them
    size = sys.maxsize  # more than can be counted
    with suppress(RuntimeError, OverflowError), torch.device("meta"):
        size = sum(one.numel() for one in build(config).state_dict().values())
    _check_size(folder, size, held)
    network = build(config)
    load_state(folder, network)
    return network


def _check_size(folder: Path, parameters: int, held: int) -> None:
    if parameters > held:
        reason = f"its config describes {parameters:,} parameters and more, its files hold {held:,} bytes"
        raise ValueError(f"the weights in {folder} cannot be loaded ({reason}); restore the folder")


def resolve_weights(
    source: Path | str,
    revision: str | None = None,
    parts: Sequence[str] = PARTS,
    beside: Sequence[str] = (MANIFEST, EXAMPLE_FILE),
) -> Path:
    """Return the local folder of the weights at a folder path, a hub id, or a hub id with a revision, `ID@REVISION`.

    A revision is a branch, a tag or a commit. Of a repository on the hub, only the files in `parts` and those named in
    `beside` are downloaded, each once.

    Raises:
        ValueError: the source is no folder, and cannot be downloaded: the message says why.
    """
    if Path(source).is_dir():
        if revision is not None:
            raise ValueError(f"{source} is a folder, which has no revision {revision!r}; leave the revision out")
        return Path(source)
    name, at, asked = str(source).partition("@")
    if at and (revision is not None or not asked):
        raise ValueError(f"no weights at {str(source)!r} with revision {revision!r}; give one revision, as ID@REVISION")
    with telling_hub_mistakes(f"no weights at {str(source)!r}: it is no folder, and"):
        return _downloaded(name, asked or revision, parts, beside)


def completed(folder: Path) -> Path:
    """Return a weights folder after fetching what it lacks, if another program downloaded a part of it from the hub.

    Raises:
        ValueError: as `resolve_weights`.
    """
    if (folder / MANIFEST).exists() or folder.parent.name != "snapshots":
        return folder
    repository = folder.parent.parent  # in the hub's cache: models--OWNER--NAME/snapshots/COMMIT
    name = repository.name.removeprefix("models--").replace("--", "/")
    with telling_hub_mistakes(f"the weights in {folder} are not complete, and"):
        return _downloaded(name, folder.name, PARTS, (MANIFEST,), repository.parent)


def _downloaded(
    name: str, revision: str | None, parts: Sequence[str], beside: Sequence[str], cache: Path | None = None
) -> Path:
    wanted = [*beside, *(f"{part}/*.{ending}" for part in parts for ending in ("json", "safetensors"))]
    deeper = ["*/*/*"]  # the patterns' "*" takes in folders of folders
    return Path(
        snapshot_download(name, revision=revision, allow_patterns=wanted, ignore_patterns=deeper, cache_dir=cache)
    )


@contextmanager
def telling_hub_mistakes(what: str) -> Iterator[None]:
    """Turn whatever keeps the hub from doing its work into a user's mistake; `what` failed begins the message.

    Raises:
        ValueError: the message says what was refused, and what to do.
    """
    try:
        yield
    except (HfHubHTTPError, HTTPError, ImportError, OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"{what} {_reason(error)}") from error


def _reason(error: BaseException) -> str:
    """Say why the hub did not do its work, and what to do."""
    if isinstance(error, LocalEntryNotFoundError | RuntimeError) and error.__cause__ is not None:
        return _reason(error.__cause__)  # it only adds which file failed, or that nothing was downloaded earlier
    reasons: tuple[tuple[type[BaseException], str], ...] = (
        (HFValidationError, "it is no hub id, such as owner/name"),
        (GatedRepoError, "the repository is gated; ask for access on its page, then run hf auth login"),
        (RepositoryNotFoundError, "the hub has no such repository, or it is private; check the name or hf auth login"),
        (RevisionNotFoundError, "the repository has no such revision; name a branch, a tag or a commit"),
        (OfflineModeIsEnabled, "the hub must not be asked while HF_HUB_OFFLINE is set; unset it"),
    )
    for kind, reason in reasons:
        if isinstance(error, kind):
            return reason
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status in (401, 403):
            return f"the hub refused the token (status {status}); run hf auth login, with a token that may do this"
        return f"the hub answered with status {status}; try again later"
    if isinstance(error, HTTPError):
        return "the hub cannot be reached; check the connection"
    return f"the hub cannot be used ({' '.join(str(error).split())[:300]})"  # a full disk, an unusable proxy


def write_manifest(weights: Path) -> None:
    """Write the SHA-256 of every weight file into the manifest."""
    names = {name: sha256(weights / name) for name in weight_files(weights)}
    partial = weights / f".{MANIFEST}.partial"
    partial.write_text(json.dumps({"sha256": names}, indent=2) + "\n")
    partial.replace(weights / MANIFEST)


def verify_manifest(weights: Path) -> None:
    """Check every weight file against the manifest.

    Raises:
        ValueError: the manifest or a file is missing, or a checksum differs.
    """
    try:
        expected = dict[str, str](parse_json((weights / MANIFEST).read_text())["sha256"].items())
    except FileNotFoundError:
        raise ValueError(f"{weights / MANIFEST} is missing; restore the weights folder") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{weights / MANIFEST} is broken ({error}); restore the file") from error
    for name, checksum in expected.items():
        path = weights / name
        if not path.is_file():
            raise ValueError(f"the weight file {path} is missing; restore it")
        if sha256(path) != checksum:
            raise ValueError(f"the weight file {path} is corrupt: its SHA-256 differs from the manifest; restore it")
    surplus = sorted(set(weight_files(weights)) - set(expected))
    if surplus:
        raise ValueError(f"the weights folder {weights} has files missing from the manifest: {surplus}; remove them")


def weight_files(weights: Path) -> list[str]:
    """Return the names, relative to the weights folder, of all config and tensor files in its parts."""
    return sorted(
        path.relative_to(weights).as_posix()
        for part in PARTS
        for path in (weights / part).glob("*")
        if path.suffix in (".json", ".safetensors")
    )


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class TakesTokens(Protocol):
    """The config of a network that generates tokens."""

    @property
    def num_places(self) -> int:
        """Number of tokens in one picture and its plan."""

    @property
    def channels(self) -> int:
        """Number of values in one token."""


def check_fit(folder: Path, tokenizer: TokenizerConfig, network: TakesTokens) -> None:
    """Refuse a tokenizer and a network that do not fit together. A network may leave the tokenizer's plan out.

    Raises:
        ValueError: they differ in the number of tokens or of channels.
    """
    fits = network.num_places in (tokenizer.num_places, tokenizer.num_tokens)
    if not fits or tokenizer.channels != network.channels:
        raise ValueError(
            f"{folder}: the tokenizer makes {tokenizer.num_places} tokens of {tokenizer.channels} channels, the "
            f"network takes {network.num_places} of {network.channels}; use the tokenizer that the network was "
            "trained with"
        )

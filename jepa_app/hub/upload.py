"""Pushes weights to a repository of the hub."""

import shutil
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from jepa_app.checkpoint import PARTS, telling_hub_mistakes
from jepa_app.hub.folder import CODE, write_hub_folder


@dataclass(frozen=True, kw_only=True)
class Pushed:
    """What is pushed: `files`, their sizes in bytes by name; the text of the `card`; and where it lies, if anywhere."""

    files: dict[str, int]
    card: str
    url: str | None = None


def check_repository(repository: str) -> None:
    """Refuse a name that the hub would refuse, before any work is done.

    Raises:
        ValueError: it is not OWNER/NAME.
    """
    try:
        validate_repo_id(repository)
        owned = repository.count("/") == 1
    except HFValidationError:
        owned = False
    if not owned:
        raise ValueError(
            f"the repository is {repository!r}; allowed: OWNER/NAME, of letters, digits, '-', '_' and '.', "
            "such as me/my-weights"
        )


def push(
    weights: Path,
    repository: str,
    figures: Mapping[str, Any] | None = None,
    *,
    private: bool = False,
    revision: str | None = None,
    dry_run: bool = False,
    out: Path | None = None,
) -> Pushed:
    """Write the folder to push, to `out` if that is given, and upload it unless it is a dry run.

    The repository is made if it is missing, and so is its branch `revision`. Parts and code that lie there already are
    replaced as wholes: a shard of earlier weights would make them unusable.

    Raises:
        ValueError: the weights are broken, the name is not allowed, `out` is not empty, or the hub refuses.
    """
    check_repository(repository)
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is not an empty folder; choose a new one")
    if not dry_run:  # before anything is written
        if get_token() is None:
            raise ValueError(f"cannot push to {repository!r}: nobody is logged in; run hf auth login, or set HF_TOKEN")
        _refuse_public(repository, private)
    with TemporaryDirectory() as temporary, ExitStack() as written:
        folder = out or Path(temporary) / "weights"
        written.callback(shutil.rmtree, folder, ignore_errors=True)  # so that the same command can be tried again
        write_hub_folder(weights, folder, repository, figures)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
        card = (folder / "README.md").read_text(encoding="utf-8")
        if dry_run:
            written.pop_all()
            return Pushed(files=files, card=card)
        with telling_hub_mistakes(f"cannot push to {repository!r}:"):
            url = _upload(folder, repository, private, revision)
        written.pop_all()
    return Pushed(files=files, card=card, url=url)


def _refuse_public(repository: str, private: bool) -> None:
    """Refuse to push in private to a repository that everybody can read: the hub would leave it as it is."""
    is_private: bool | None = True
    with telling_hub_mistakes(f"cannot push to {repository!r}:"), suppress(RepositoryNotFoundError):
        is_private = HfApi().model_info(repository).private if private else True
    if not is_private:
        raise ValueError(f"{repository} is there and public; leave out --private, or make it private on its page")


def _upload(folder: Path, repository: str, private: bool, revision: str | None) -> str:
    hub = HfApi()
    hub.create_repo(repository, private=private or None, exist_ok=True)
    if revision is not None and revision != constants.DEFAULT_REVISION:
        hub.create_branch(repository, branch=revision, exist_ok=True)
    commit = hub.upload_folder(
        repo_id=repository,
        folder_path=folder,
        revision=revision,
        commit_message="Weights, their code and their card",
        delete_patterns=[f"{part}/*" for part in (*PARTS, CODE)],
    )
    return commit.commit_url

"""Command line that puts trained parts together: `python -m training.bundle --jepa-t RUN/weights --out weights`."""

import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from jepa_app.checkpoint import PARTS, check_fit, load_config, replacing, verify_manifest
from jepa_app.command_line import OneLineParser, telling_mistakes
from jepa_app.config import JepaTConfig, TIJepaConfig, TokenizerConfig
from jepa_app.generation.vocabulary import Vocabulary
from jepa_app.hub.folder import write_openings
from jepa_app.models.text import TextEncoder
from training.data.folders import read_folder
from training.data.keywords import keywords_of
from training.data.split import split_rows


@telling_mistakes
def main(arguments: Sequence[str] | None = None) -> int:
    """Copy the given parts into the weights folder and write its manifest.

    Exit status: 0 for success, 2 for a user's mistake.
    """
    parser = OneLineParser(prog="python -m training.bundle", description=__doc__)
    for part in PARTS:
        parser.add_argument(f"--{part}", type=Path, metavar="DIR", help=f"new weights for {part}")
    parser.add_argument("--out", type=Path, default=Path("weights"), help="weights folder; its other parts are kept")
    parser.add_argument(
        "--keywords", type=Path, metavar="DATA", help="a folder of captioned pictures, whose keywords name its things"
    )
    options = vars(parser.parse_args(arguments))
    bundle({part: options[part.replace("-", "_")] for part in PARTS}, options["out"], options["keywords"])
    return 0


def bundle(parts: dict[str, Path | None], out: Path, data: Path | None = None) -> None:
    """Replace parts of a weights folder, let other libraries open it, and write the manifest of all parts.

    With a folder of captioned pictures, the generator's keywords are those of its training pictures; a training keeps
    them too.

    Raises:
        ValueError: a given folder holds no weights or those of another part, a part is neither given nor there already,
            the tokenizer and the generator do not fit together, or the pictures cannot be read. Nothing is replaced
            then.
        OSError: the disk is full or cannot be written; while parts are copied, all are as they were.
    """
    for part, source in parts.items():
        if source is not None and not (source / "config.json").is_file():
            raise ValueError(f"no weights in {source}: config.json is missing; pass the weights folder of a run")
        if source is None and not (out / part / "config.json").is_file():
            raise ValueError(f"{out} has no {part} yet; pass --{part} DIR")
    found = {part: source or out / part for part, source in parts.items()}
    tokenizer, generator = load_config(found["tokenizer"], TokenizerConfig), load_config(found["jepa-t"], JepaTConfig)
    load_config(found["ti-jepa"], TIJepaConfig)
    check_fit(out, tokenizer, generator)
    known = None if data is None else _with_keywords(Vocabulary.load(found["jepa-t"]), data)
    with ExitStack() as stack:  # all are copied before the first is replaced
        for part, source in parts.items():
            if source is not None:
                partial = stack.enter_context(replacing(out / part))
                for path in source.iterdir():
                    shutil.copy2(path, partial)
    if known is not None:
        known.save(out / "jepa-t")
    write_openings(out)
    verify_manifest(out)


def _with_keywords(vocabulary: Vocabulary, data: Path) -> Vocabulary:
    rows = read_folder(data).rows
    shown = [rows[index] for index in split_rows(rows).train]
    return replace(vocabulary, keywords=keywords_of([row for row in shown if row.style], TextEncoder.load()))


if __name__ == "__main__":
    sys.exit(main())

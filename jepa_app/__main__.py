"""The command line, `python -m jepa_app generate|score|example|info`; it runs the same code as the studio."""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from PIL import Image

from jepa_app.command_line import OneLineParser, check_folder, check_weights_name, telling_mistakes
from jepa_app.files.pictures import open_picture
from jepa_app.files.whole_files import own_files, write_whole, writing_whole
from jepa_app.limits import text_lines
from jepa_app.studio.export import animation, png_settings, run_settings
from jepa_app.studio.frames import Finish, Frame
from jepa_app.studio.requests import MAX_SEED, GenerateRequest
from jepa_app.studio.score_csv import score_csv, score_record
from jepa_app.studio.studio import DEFAULT_WEIGHTS, Studio

RUN_FILE = "run.json"
PICTURE_TYPES = (".png", ".jpg", ".jpeg", ".webp")
TRANSPARENT_TYPES = (".png", ".webp")
SUITED = ("steps", "guidance", "temperature")  # by default, what suits the weights


@telling_mistakes
def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status: 0 for success, 2 for a user's mistake (reported on one line)."""
    options = build_parser().parse_args(arguments)
    options.run(options)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    parser = OneLineParser(prog="python -m jepa_app", description="Pictures from words, and words for pictures.")
    commands = parser.add_subparsers(required=True, metavar="generate|score|example|info", parser_class=OneLineParser)
    shared = OneLineParser(add_help=False)
    shared.add_argument(
        "--weights", default=DEFAULT_WEIGHTS, help="weights folder or hub id (default: the bundled weights)"
    )
    shared.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    shared.add_argument("--json", action="store_true", help="print a single JSON document")

    generate = commands.add_parser("generate", parents=[shared], help="make a picture from a prompt")
    generate.set_defaults(run=run_generate)
    generate.add_argument("prompt", nargs="?", help='what the picture should show, for example "red apple, noto style"')
    generate.add_argument("--out", type=Path, help="picture file to write: .png, .jpg or .webp")
    generate.add_argument("--prompts", type=Path, help="text file with one prompt per line, instead of PROMPT")
    generate.add_argument("--out-dir", type=Path, help="folder for 0000.png, 0001.png, ... and run.json")
    generate.add_argument("--run", dest="run_file", type=Path, help="also write all steps as an animated .webp")
    generate.add_argument("--negative-prompt", default="", help="what the picture should not show")
    for name, kind, allowed in (
        ("steps", int, "1 to 64"),
        ("guidance", float, "0 to 20"),
        ("temperature", float, "0 to 2"),
    ):
        generate.add_argument(f"--{name}", type=kind, help=f"{allowed} (default: what suits the weights)")
    generate.add_argument("--size", type=int, help="side of the picture in pixels, 16 to 256 (default: the largest)")
    generate.add_argument("--transparent", action="store_true", help="leave the background out: .png or .webp")
    generate.add_argument("--seed", type=int, help="with --prompts, picture k uses seed + k (default: random)")

    score = commands.add_parser("score", parents=[shared], help="score how well captions fit a picture")
    score.set_defaults(run=run_score)
    score.add_argument("picture", nargs="?", type=Path, help="picture file")
    score.add_argument("captions", nargs="*", metavar="caption", help="caption to score")
    score.add_argument("--csv", type=Path, help="CSV table with the columns picture and caption, instead of PICTURE")
    score.add_argument("--out", type=Path, help="CSV table to write: picture, caption, energy, probability")

    example = commands.add_parser("example", parents=[shared], help="choose the run that the page shows first")
    example.set_defaults(run=run_example)
    example.add_argument("prompt", help="what its picture should show; its run is kept beside the weights")
    example.add_argument("--seed", type=int, help="the seed of the run (default: random)")

    info = commands.add_parser("info", parents=[shared], help="show weights, device, attention backend and versions")
    info.set_defaults(run=run_info)
    return parser


def run_generate(options: argparse.Namespace) -> None:
    """`generate`: write one prompt's picture to --out, or the pictures of a file of prompts to --out-dir."""
    if (options.prompt is None) == (options.prompts is None):
        raise ValueError('give either a prompt ("red apple, noto style") or --prompts FILE')
    if options.prompts is not None:
        _generate_many(options)
        return
    if options.out is None:
        raise ValueError("--out is missing; name the picture file to write, for example --out apple.png")
    _check_target(options.out, TRANSPARENT_TYPES if options.transparent else PICTURE_TYPES)
    if options.run_file is not None:
        _check_target(options.run_file, (".webp",))
        if options.run_file.resolve() == options.out.resolve():
            raise ValueError(f"--out and --run both name {options.out}; give two files")
    request = _request(options, options.prompt, options.seed)
    studio = _load(options)
    request = _suited(options, request, studio)
    finish = _finish(options, studio)
    frames = list(studio.generating.frames(request))
    record = _keep(studio, request, frames, finish, options.out, options.run_file)
    _report(options, record, f"{record['file']}  seed {record['seed']}  {record['seconds']:.1f} s")


def run_score(options: argparse.Namespace) -> None:
    """`score`: score captions for one picture, or a table of pairs."""
    if options.csv is not None:
        if options.picture is not None or options.out is None:
            raise ValueError("--csv reads the pairs from a table: give --csv PAIRS --out SCORES, and no picture")
        _score_table(options)
        return
    if options.out is not None:
        raise ValueError("--out works only with --csv; for one picture, redirect the output of --json to a file")
    if options.picture is None or not options.captions:
        raise ValueError('give a picture and at least one caption: score apple.png "red apple" "blue car"')
    picture = open_picture(options.picture)
    scores = [score_record(score) for score in _load(options).matching.score(picture, options.captions)]
    # never shown as certain: at most 99.9 %
    lines = [f"{row['energy']:9.4f}  {min(row['probability'], 0.999):6.1%}  {row['caption']}" for row in scores]
    _report(options, scores, "\n".join(["   energy  probable  caption (lower energy is better)", *lines]))


def run_example(options: argparse.Namespace) -> None:
    """`example`: make a picture and keep its run beside the weights, for the page to show first."""
    request = GenerateRequest(prompt=options.prompt, seed=options.seed)
    studio = _load(options)
    suited = replace(request, **{name: getattr(studio.defaults, name) for name in SUITED})
    file = str(studio.write_example(suited))
    _report(options, {"prompt": options.prompt, "file": file}, file)


def run_info(options: argparse.Namespace) -> None:
    """`info`: what runs on this machine."""
    facts = _load(options).info()
    _report(options, facts, "\n".join(f"{name:<11} {_plain(value)}" for name, value in facts.items()))


def _generate_many(options: argparse.Namespace) -> None:
    if options.out is not None or options.run_file is not None or options.out_dir is None:
        raise ValueError("--prompts writes into a folder: give --out-dir DIR, and leave out --out and --run")
    prompts = text_lines(_read_text(options.prompts))
    if not prompts:
        raise ValueError(f"{options.prompts} contains no prompts; write one per line")
    if options.seed is not None and not 0 <= options.seed <= MAX_SEED:
        raise ValueError(f"seed is {options.seed}; allowed: a whole number from 0 to {MAX_SEED}")
    requests = []
    for number, prompt in enumerate(prompts):
        seed = None if options.seed is None else (options.seed + number) % (MAX_SEED + 1)
        requests.append(_request(options, prompt, seed))  # all are checked before the first one runs
    check_folder(options.out_dir)
    pictures = [options.out_dir / f"{number:04d}.png" for number in range(len(prompts))]
    kept = own_files(options.out_dir / RUN_FILE, pictures)
    studio, records = _load(options), []
    finish = _finish(options, studio)
    options.out_dir.mkdir(parents=True, exist_ok=True)
    requests = [_suited(options, request, studio) for request in requests]
    for number, group in groupby(studio.generating.each(requests), key=itemgetter(0)):
        request, frames = requests[number], [frame for _, frame in group]
        record = _keep(studio, request, frames, finish, pictures[number], None)
        records.append(record)
        kept[pictures[number].name] = record
        with _writing(options.out_dir):  # after every picture, so that an interrupted run keeps its record
            write_whole(options.out_dir / RUN_FILE, json.dumps([kept[name] for name in sorted(kept)], indent=1) + "\n")
        print(f"{number + 1}/{len(requests)}  {record['file']}  {request.prompt}", file=sys.stderr)
    _report(options, records, f"{len(records)} pictures and run.json in {options.out_dir}")


def _finish(options: argparse.Namespace, studio: Studio) -> Finish:
    """What finished pictures are to be like, checked before any work is done."""
    finish = Finish(size=options.size, transparent=options.transparent)
    studio.check_finish(finish)
    return finish


def _keep(
    studio: Studio,
    request: GenerateRequest,
    frames: list[Frame],
    finish: Finish,
    out: Path,
    run_file: Path | None,
) -> dict[str, Any]:
    last, facts = frames[-1], studio.info()
    settings = run_settings(request, last.seed, facts["weights"])
    with _writing(out):
        kept: dict[str, Any] = {"pnginfo": png_settings(settings)} if out.suffix.lower() == ".png" else {}
        with writing_whole(out) as partial:
            finish.of(last).save(partial, Image.registered_extensions()[out.suffix.lower()], **kept)
    if run_file is not None:
        with _writing(run_file):
            write_whole(run_file, animation([frame.image for frame in frames], "webp"))
    return {
        "prompt": request.prompt,
        "seed": last.seed,
        "steps": last.total,
        "guidance": request.guidance,
        "temperature": request.temperature,
        "file": str(out),
        "seconds": round(last.seconds, 3),
        "first_frame_seconds": round(frames[0].seconds, 3),
        **{name: facts[name] for name in ("weights", "device", "attention")},
    }


def _score_table(options: argparse.Namespace) -> None:
    """Score a table of pairs; rows that cannot be scored are reported and left out.

    Raises:
        ValueError: the table cannot be read, or some rows were left out.
    """
    _check_target(options.out, (".csv",))
    if not options.csv.is_file():
        raise ValueError(f"there is no text file at {options.csv}; check the path")
    records: list[dict[str, Any]] = []
    written = left_out = 0
    with _writing(options.out):
        for part in score_csv(options.csv, options.out, lambda: _load(options).matching):
            for problem in part.problems:
                print(f"error: {problem.name}: {' '.join(problem.reason.split())}", file=sys.stderr)
            written, left_out = written + len(part.rows), left_out + len(part.problems)
            if options.json:  # nothing else needs a long table in memory
                records += part.rows
    _report(options, records, f"{written} pairs in {options.out}")
    if left_out:
        raise ValueError(f"{left_out} of {written + left_out} rows were left out; the other rows are in {options.out}")


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"there is no text file at {path}; check the path")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as wrong:
        raise ValueError(f"{path} is not UTF-8 text ({wrong.reason}); save it as UTF-8") from wrong


def _check_target(path: Path, endings: tuple[str, ...]) -> None:
    """Refuse a file that cannot be written, before any work is done."""
    if path.suffix.lower() not in endings:
        raise ValueError(f"{path} must end in {' or '.join(endings)}")
    if not path.parent.is_dir():
        raise ValueError(f"the folder {path.parent} does not exist; create it first")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as failure:
        raise ValueError(f"cannot write {path}: {failure.strerror or failure}") from failure


def _request(options: argparse.Namespace, prompt: str, seed: int | None) -> GenerateRequest:
    asked = {name: getattr(options, name) for name in SUITED if getattr(options, name) is not None}
    return GenerateRequest(prompt=prompt, negative_prompt=options.negative_prompt, seed=seed, **asked)


def _suited(options: argparse.Namespace, request: GenerateRequest, studio: Studio) -> GenerateRequest:
    """Take what was not asked for from the settings that suit the weights."""
    missing = {name: getattr(studio.defaults, name) for name in SUITED if getattr(options, name) is None}
    return replace(request, **missing)


def _load(options: argparse.Namespace) -> Studio:
    check_weights_name(options.weights)
    return Studio.load(options.weights, options.device)


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    return ", ".join(value) if isinstance(value, list) else str(value)


def _report(options: argparse.Namespace, document: Any, text: str) -> None:
    """Print the result: a single document with --json, plain text otherwise."""
    print(json.dumps(document, indent=1) if options.json else text)


if __name__ == "__main__":
    sys.exit(main())

"""`generate`: pictures from a prompt, a file of prompts, or a data set of any length."""

import argparse
import json
import sys
from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from PIL import Image

from jepa_app.checkpoint import load_config, resolve_weights
from jepa_app.command_line import check_folder
from jepa_app.commands.datasets import (
    add_dataset_options,
    check_dataset_options,
    refuse_dataset_options,
    run_dataset,
    weights_place,
)
from jepa_app.commands.options import SUITED, check_target, load_studio, report, writing
from jepa_app.config import JepaTConfig, TokenizerConfig
from jepa_app.files.whole_files import own_files, write_whole, writing_whole
from jepa_app.generation.settings import SamplingSettings
from jepa_app.limits import text_lines
from jepa_app.masking import cosine_schedule
from jepa_app.models.text import TextEncoder
from jepa_app.studio.export import animation, png_settings, run_settings
from jepa_app.studio.frames import Finish, Frame
from jepa_app.studio.requests import MAX_SEED, GenerateRequest
from jepa_app.studio.studio import Studio

RUN_FILE = "run.json"
PICTURE_TYPES = (".png", ".jpg", ".jpeg", ".webp")
TRANSPARENT_TYPES = (".png", ".webp")


def add_generate(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add the command and its options."""
    generate = commands.add_parser("generate", parents=[shared], help="make a picture from a prompt")
    generate.set_defaults(run=run_generate)
    generate.add_argument(
        "prompt", nargs="?", help='what the picture should show, for example "red apple, twemoji style"'
    )
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
    generate.add_argument(
        "--seed", type=int, help="with --prompts, picture k uses seed + k (default: random); with --dataset, 0"
    )
    add_dataset_options(generate, "files of prompts: .parquet, .jsonl, .csv, .txt", with_pictures=False)


def run_generate(options: argparse.Namespace) -> None:
    """`generate`: write one prompt's picture, the pictures of a file of prompts, or those of a data set."""
    if options.dataset is not None:
        _generate_dataset(options)
        return
    refuse_dataset_options(options)
    if (options.prompt is None) == (options.prompts is None):
        raise ValueError('give either a prompt ("red apple, twemoji style") or --prompts FILE')
    if options.prompts is not None:
        _generate_many(options)
        return
    if options.out is None:
        raise ValueError("--out is missing; name the picture file to write, for example --out apple.png")
    check_target(options.out, TRANSPARENT_TYPES if options.transparent else PICTURE_TYPES)
    if options.run_file is not None:
        check_target(options.run_file, (".webp",))
        if options.run_file.resolve() == options.out.resolve():
            raise ValueError(f"--out and --run both name {options.out}; give two files")
    request = _request(options, options.prompt, options.seed)
    studio = load_studio(options)
    request = _suited(options, request, studio)
    finish = _finish(options, studio)
    frames = list(studio.generating.frames(request))
    record = _keep(studio, request, frames, finish, options.out, options.run_file)
    report(options, record, f"{record['file']}  seed {record['seed']}  {record['seconds']:.1f} s")


def _generate_many(options: argparse.Namespace) -> None:
    if options.out is not None or options.run_file is not None or options.out_dir is None:
        raise ValueError("--prompts writes into a folder: give --out-dir DIR, and leave out --out and --run")
    prompts = text_lines(_read_text(options.prompts))
    if not prompts:
        raise ValueError(f"{options.prompts} contains no prompts; write one per line")
    if options.seed is not None and not 0 <= options.seed <= MAX_SEED:
        raise ValueError(f"seed is {options.seed}; allowed: a whole number from 0 to {MAX_SEED}")
    encoder, requests = TextEncoder.load(), []
    _request(options, "the lines have the prompts", options.seed)
    encoder.check(options.negative_prompt)
    for number, prompt in enumerate(prompts):  # all are checked before the first one runs
        seed = None if options.seed is None else (options.seed + number) % (MAX_SEED + 1)
        try:
            requests.append(_request(options, prompt, seed))
            encoder.check(prompt)
        except ValueError as wrong:
            raise ValueError(f"{options.prompts}, prompt {number + 1}: {wrong}") from wrong
    check_folder(options.out_dir)
    pictures = [options.out_dir / f"{number:04d}.png" for number in range(len(prompts))]
    kept = own_files(options.out_dir / RUN_FILE, pictures)
    studio, records = load_studio(options), []
    finish = _finish(options, studio)
    options.out_dir.mkdir(parents=True, exist_ok=True)
    requests = [_suited(options, request, studio) for request in requests]
    for number, group in groupby(studio.generating.each(requests), key=itemgetter(0)):
        request, frames = requests[number], [frame for _, frame in group]
        record = _keep(studio, request, frames, finish, pictures[number], None)
        records.append(record)
        kept[pictures[number].name] = record
        with writing(options.out_dir):  # after every picture, so that an interrupted run keeps its record
            write_whole(options.out_dir / RUN_FILE, json.dumps([kept[name] for name in sorted(kept)], indent=1) + "\n")
        print(f"{number + 1}/{len(requests)}  {record['file']}  {request.prompt}", file=sys.stderr)
    report(options, records, f"{len(records)} pictures and run.json in {options.out_dir}")


def _generate_dataset(options: argparse.Namespace) -> None:
    others = {"prompt": "PROMPT", "prompts": "--prompts", "out_dir": "--out-dir", "run_file": "--run"}
    check_dataset_options(options, others)
    request = _request(options, "the rows have the prompts", options.seed or 0)
    from jepa_app.datasets.painting import PaintTask  # needs pyarrow, which nothing else does

    folder = resolve_weights(options.weights)
    config, tokenizer = load_config(folder / "jepa-t", JepaTConfig), load_config(folder / "tokenizer", TokenizerConfig)
    suiting = SamplingSettings.suiting(config)
    missing = {name: getattr(suiting, name) for name in SUITED if getattr(options, name) is None}
    request = replace(request, **missing)
    cosine_schedule(config.num_tokens, request.steps)  # refuses more steps than tokens
    if request.negative_prompt.strip():
        TextEncoder.load().check(request.negative_prompt.strip())
    finish = Finish(size=options.size, transparent=options.transparent)
    finish.check(tokenizer.decoded_side, knows_opacity=tokenizer.decoder_width > 0)
    task = PaintTask(
        weights=weights_place(options.weights), request=request, finish=finish, prompt_column=options.caption_column
    )
    run_dataset(options, task)


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
    with writing(out):
        kept: dict[str, Any] = {"pnginfo": png_settings(settings)} if out.suffix.lower() == ".png" else {}
        with writing_whole(out) as partial:
            finish.of(last).save(partial, Image.registered_extensions()[out.suffix.lower()], **kept)
    if run_file is not None:
        with writing(run_file):
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


def _read_text(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"there is no text file at {path}; check the path")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as wrong:
        raise ValueError(f"{path} is not UTF-8 text ({wrong.reason}); save it as UTF-8") from wrong


def _request(options: argparse.Namespace, prompt: str, seed: int | None) -> GenerateRequest:
    asked = {name: getattr(options, name) for name in SUITED if getattr(options, name) is not None}
    return GenerateRequest(prompt=prompt, negative_prompt=options.negative_prompt, seed=seed, **asked)


def _suited(options: argparse.Namespace, request: GenerateRequest, studio: Studio) -> GenerateRequest:
    """Take what was not asked for from the settings that suit the weights."""
    missing = {name: getattr(studio.defaults, name) for name in SUITED if getattr(options, name) is None}
    return replace(request, **missing)

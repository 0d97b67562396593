"""Exports of a run: pictures with their settings inside, animations and videos, as bytes and never as files."""

import hashlib
import io
import json
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from jepa_app.config_base import parse_json
from jepa_app.files.pictures import open_base64, read_text
from jepa_app.studio.requests import MAX_FRAMES, GenerateRequest

PARAMETERS = "parameters"  # the PNG text chunk that holds the settings as JSON
REQUEST_KEYS = ("prompt", "negative_prompt", "steps", "guidance", "temperature", "seed")
TYPES = {"webp": "image/webp", "gif": "image/gif", "mp4": "video/mp4"}
STEP_MILLISECONDS, LAST_MILLISECONDS = 120, 2000  # how long each step and the finished picture are shown
MAX_SIDE = 1024  # of an encoded frame
MAX_PIXELS = 64 * MAX_SIDE**2  # of all frames once they are as large as the largest
VIDEO_SIDE = 512  # smaller videos are enlarged here, because players blur them when they enlarge them
VIDEO_RATE = 25
VIDEO_SECONDS = 60  # time limit for ffmpeg


def run_settings(request: GenerateRequest, seed: int, weights: str | Path) -> dict[str, Any]:
    """Return what is needed to make a picture again: the request, the seed used and the name of the weights.

    A picture with a starting picture is marked as `edited`: these settings alone make a different one.
    """
    settings = {key: getattr(request, key) for key in REQUEST_KEYS}
    edited = {} if request.edit is None else {"edited": True}
    return settings | {"seed": seed, "weights": weights_name(weights)} | edited


@cache
def weights_name(weights: str | Path) -> str:
    """Return the hub id, or a folder's name and the first digits of its manifest's SHA-256.

    Pictures are shared, and a full path would show strangers how this machine's disk is organised.
    """
    folder = Path(weights)
    if not folder.is_dir():
        return str(weights)
    manifest = folder / "manifest.json"
    name = folder.resolve().name
    return f"{name}@{hashlib.sha256(manifest.read_bytes()).hexdigest()[:8]}" if manifest.is_file() else name


def png_settings(settings: dict[str, Any]) -> PngInfo:
    """Return the settings as `pnginfo` for Pillow's PNG writer; the page writes the same chunk in the browser."""
    info = PngInfo()
    info.add_text(PARAMETERS, json.dumps(settings))  # ASCII, because the PNG standard stores this chunk as Latin-1
    return info


def read_settings(source: str | Path | bytes, name: str | None = None) -> GenerateRequest:
    """Return the request that made a picture, from the settings inside its file.

    Raises:
        ValueError: the file is not a readable picture, contains no settings, or its settings are not allowed.
    """
    name = name or ("the picture" if isinstance(source, bytes) else Path(source).name)
    text = read_text(source, PARAMETERS, name)
    if text is None:
        raise ValueError(f"{name} contains no settings; use a PNG picture saved here with its settings inside")
    try:
        settings = parse_json(text)
    except ValueError as wrong:
        raise ValueError(
            f"the settings in {name} cannot be read as JSON; use a PNG picture that was saved here"
        ) from wrong
    if not isinstance(settings, dict) or "prompt" not in settings:
        raise ValueError(f"the settings in {name} contain no prompt; use a PNG picture that was saved here")
    try:
        return GenerateRequest(**{key: settings[key] for key in REQUEST_KEYS if key in settings})
    except ValueError as mistake:
        raise ValueError(f"the settings in {name} are not allowed: {mistake}") from mistake


def animation_kinds() -> tuple[str, ...]:
    """Return the kinds of `animation` that this machine can write; videos need ffmpeg on the PATH."""
    return ("webp", "gif", "mp4") if shutil.which("ffmpeg") else ("webp", "gif")


def animation(frames: Sequence[Image.Image], kind: str) -> bytes:
    """Return all frames, with the last one shown longer, as the bytes of a webp, gif or mp4 file.

    Raises:
        ValueError: there is no frame, the kind is not available here, or ffmpeg failed.
    """
    if not frames:
        raise ValueError("there are no steps to write; generate a picture first")
    if kind not in animation_kinds():
        raise ValueError(f"kind is {kind!r}; allowed here: {', '.join(animation_kinds())}")
    side = max(frame.width for frame in frames)  # a finished picture is larger than one in the making
    frames = [frame if frame.width == side else _enlarged(frame, side) for frame in frames]
    return _video(frames) if kind == "mp4" else _animated_picture(frames, kind)


def open_frames(frames: object) -> list[Image.Image]:
    """Open the steps of a run as the browser sends them back: base64 text, one small picture per step.

    Raises:
        ValueError: there are too many, one is not a picture, or they are too large or differ in shape. Squares may
            differ in size: a finished picture is larger than one in the making, and a run may go on from it.
    """
    if not isinstance(frames, list) or not all(isinstance(frame, str) for frame in frames):
        raise ValueError("the steps are not a list of base64 texts; send one picture per step as base64")
    if len(frames) > MAX_FRAMES:
        raise ValueError(f"got {len(frames)} steps; at most {MAX_FRAMES} are allowed")
    pictures: list[Image.Image] = []
    for number, frame in enumerate(frames, start=1):
        picture = open_base64(frame, f"step {number}", MAX_SIDE)
        if len(frames) * picture.width * picture.height > MAX_PIXELS:
            raise ValueError(
                f"step {number} is {picture.width} x {picture.height}, too large for {len(frames)} steps; "
                f"at most {MAX_PIXELS // 10**6} million pixels are allowed in all"
            )
        if pictures and picture.size != pictures[0].size and not (_is_square(picture) and _is_square(pictures[0])):
            raise ValueError(
                f"step {number} is {picture.width} x {picture.height}; all steps must have the same size or be squares"
            )
        pictures.append(picture)
    return pictures


def _is_square(picture: Image.Image) -> bool:
    return picture.width == picture.height


def _enlarged(frame: Image.Image, side: int) -> Image.Image:
    return frame.resize((side, side * frame.height // frame.width), Image.Resampling.BICUBIC)


def _animated_picture(frames: Sequence[Image.Image], kind: str) -> bytes:
    buffer = io.BytesIO()
    durations = [STEP_MILLISECONDS] * (len(frames) - 1) + [LAST_MILLISECONDS]
    options: dict[str, Any] = {"quality": 90, "method": 0} if kind == "webp" else {}
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:], duration=durations, loop=0, **options)
    return buffer.getvalue()


def _video(frames: Sequence[Image.Image]) -> bytes:
    """Encode the frames through ffmpeg's standard input and output, without touching the disk."""
    width, height = frames[0].size
    side = max(VIDEO_SIDE, width) // 2 * 2  # the usual codecs need even sides
    held = (LAST_MILLISECONDS - STEP_MILLISECONDS) / 1000
    shown = f"scale={side}:-2:flags=bicubic,tpad=stop_mode=clone:stop_duration={held}"
    command = ["ffmpeg", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}"]
    command += ["-r", f"1000/{STEP_MILLISECONDS}", "-i", "pipe:0"]
    command += ["-vf", shown, "-r", str(VIDEO_RATE), "-pix_fmt", "yuv420p"]
    command += ["-movflags", "frag_keyframe+empty_moov", "-f", "mp4", "pipe:1"]  # a pipe cannot be rewound
    try:
        data = b"".join(frame.convert("RGB").tobytes() for frame in frames)
        done = subprocess.run(command, input=data, capture_output=True, timeout=VIDEO_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError) as failure:
        told = (getattr(failure, "stderr", None) or b"").decode(errors="replace").strip()
        raise ValueError(f"ffmpeg failed ({told or failure}); animated WebP works without ffmpeg") from failure
    return done.stdout

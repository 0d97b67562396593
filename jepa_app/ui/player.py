"""The player: shows a generation as it arrives, one small delta a step, and scrubs through it without traffic."""

import base64
import io
import threading
from typing import Any

import gradio as gr

from jepa_app.export import TYPES, animation, animation_kinds, open_frames, run_settings
from jepa_app.requests import GenerateRequest
from jepa_app.studio import Frame
from jepa_app.ui.fragment import fragment

LOSSLESS_SIDE = 128  # up to this size a frame is PNG (0.5 ms, 4 KB at 64 px); above, only the last one (256 px: 35 KB)


def make_player() -> gr.HTML:
    """A stage with a timeline, fed with the deltas of `delta`.

    `player.js` collects the frames in the browser, and the server keeps none. Events: `reuse` (use this seed again)
    and `match` (send this picture to the Match tab).
    """
    encoding = threading.Lock()

    def encode(run: object) -> dict[str, str]:
        # one at a time: an export is no reason to slow down the pictures in the making
        with encoding:
            return encoded_run(run)

    return fragment("player", "player_keep.js", server_functions=[encode], kinds=list(animation_kinds()))


def encoded_run(run: object) -> dict[str, str]:
    """The frames of a run as one file: {"kind", "frames"} in, {"type", "data"} as base64 or {"error"} out."""
    try:
        if not isinstance(run, dict):
            raise ValueError("this is no run; send its kind and its frames")
        kind = str(run.get("kind"))
        made = animation(open_frames(run.get("frames")), kind)
    except ValueError as mistake:
        return {"error": str(mistake)}  # shown through textContent, so nothing is escaped
    return {"type": TYPES[kind], "data": base64.b64encode(made).decode("ascii")}


def delta(request: GenerateRequest, weights: str, frame: Frame) -> dict[str, Any]:
    """One step as the browser gets it; keys that do not change cost nothing on the way (Gradio sends differences)."""
    lossless = frame.image.width <= LOSSLESS_SIDE or frame.index == frame.total - 1
    return {
        "job": frame.job,
        "i": frame.index,
        "n": frame.total,
        "prompt": request.prompt,
        "seed": frame.seed,
        "settings": run_settings(request, frame.seed, weights),
        "grid": frame.grid,
        "seconds": round(frame.seconds, 3),
        "revealed": list(frame.revealed),
        "type": "image/png" if lossless else "image/jpeg",
        "frame": encoded(frame, lossless),
    }


def encoded(frame: Frame, lossless: bool) -> str:
    """A frame's picture as base64: PNG, or JPEG where it need not be exact."""
    buffer = io.BytesIO()
    if lossless:
        frame.image.save(buffer, "PNG", compress_level=1)
    else:
        frame.image.save(buffer, "JPEG", quality=90, subsampling=0)
    return base64.b64encode(buffer.getvalue()).decode("ascii")

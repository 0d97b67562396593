"""The player: shows a generation as it arrives, one small delta a step, and scrubs through it without traffic."""

import base64
import io
from pathlib import Path
from typing import Any

import gradio as gr

from jepa_app.studio import Frame
from jepa_app.ui import texts

HERE = Path(__file__).parent
LOSSLESS_SIDE = 128  # up to this size a frame is PNG (0.5 ms, 4 KB at 64 px); above, only the last one (256 px: 35 KB)


def make_player() -> gr.HTML:
    """A stage with a timeline, fed with the deltas of `delta`.

    The template is static, so a delta redraws nothing by itself: `player.js` collects the frames in the browser, and
    the server keeps none. Events: `reuse` (use this seed again) and `match` (send this picture to the Match tab).
    A subclass of gr.HTML would be no better: Gradio writes a stub file beside the source of every subclass.
    """
    return gr.HTML(
        html_template=(HERE / "player.html").read_text(encoding="utf-8"),
        js_on_load=(HERE / "player.js").read_text(encoding="utf-8"),
        apply_default_css=False,
        elem_id="player",
        words=texts.PLAYER,
    )


def delta(job: str, prompt: str, frame: Frame) -> dict[str, Any]:
    """One step as the browser gets it; keys that do not change cost nothing on the way (Gradio sends differences)."""
    lossless = frame.image.width <= LOSSLESS_SIDE or frame.index == frame.total - 1
    return {
        "job": job,
        "i": frame.index,
        "n": frame.total,
        "prompt": prompt,
        "seed": frame.seed,
        "grid": frame.grid,
        "seconds": round(frame.seconds, 3),
        "revealed": list(frame.revealed),
        "type": "image/png" if lossless else "image/jpeg",
        "frame": _encoded(frame, lossless),
    }


def _encoded(frame: Frame, lossless: bool) -> str:
    buffer = io.BytesIO()
    if lossless:
        frame.image.save(buffer, "PNG", compress_level=1)
    else:
        frame.image.save(buffer, "JPEG", quality=90, subsampling=0)
    return base64.b64encode(buffer.getvalue()).decode("ascii")

"""The player: shows a run as it arrives, one small delta per step, and scrubs through it without network traffic."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from PIL import Image

from jepa_app.engines.turns import Turns, Visitor
from jepa_app.studio.export import TYPES, animation, animation_kinds, open_frames, run_settings
from jepa_app.studio.frames import Frame, Waiting
from jepa_app.studio.requests import MAX_FRAMES
from jepa_app.studio.studio import CaptionScore, Choice
from jepa_app.ui import texts
from jepa_app.ui.encoding import LOSSLESS_SIDE, jpeg, png
from jepa_app.ui.errors import answering
from jepa_app.ui.fragment import fragment


@dataclass(frozen=True, kw_only=True)
class KeptRuns:
    """What the player requests from kept runs, by job and by step counted from 0."""

    frames: Callable[[str, Sequence[int]], list[Frame]]
    predicted: Callable[[str, int, Visitor], Image.Image]
    match: Callable[[str, Sequence[int]], list[CaptionScore]]


def make_player(kept: KeptRuns, weights: str, example: str | None = None) -> gr.HTML:
    """Return a stage with a timeline, fed by the values of `delta`; `weights` are named in the settings of a run.

    A visitor without a run of their own first sees the kept run `example`.

    `player.js` collects the frames in the browser. Events: `reuse` (use this seed again), `match` (send this picture to
    the Match tab), `edit` (continue the run named in the value's "edit") and `resume` (continue a lost run).
    """
    exports, looks = Turns("exports"), Turns("requests for kept runs")

    @answering
    def encode(run: object, visitor: Visitor) -> dict[str, Any]:
        # one at a time, so that exports do not slow down picture generation
        with exports.taken(visitor):
            return encoded_run(run)

    @answering
    def missing(asked: object, visitor: Visitor) -> dict[str, Any]:
        job, steps = _job(asked), _steps(asked)
        with looks.taken(visitor):
            return {"deltas": [delta(weights, frame) for frame in kept.frames(job, steps)]}

    @answering
    def predict(asked: object, visitor: Visitor) -> dict[str, Any]:
        job, steps = _job(asked), _steps(asked) or [0]
        if len(steps) > 1:
            raise ValueError(f"steps has {len(steps)} numbers; allowed: one")
        return {"source": f"data:image/png;base64,{png(kept.predicted(job, steps[0], visitor))}"}

    @answering
    def energies(asked: object, visitor: Visitor) -> dict[str, Any]:
        job, steps = _job(asked), _steps(asked)
        with looks.taken(visitor):
            scores = kept.match(job, steps)
        return {"scores": [{"energy": score.energy, "probability": score.probability} for score in scores]}

    return fragment(
        "player/player",
        "steer.js",
        "watch.js",
        "keep.js",
        server_functions=[encode, missing, predict, energies],
        kinds=list(animation_kinds()),
        verdicts=texts.VERDICTS,
        example=example,
    )


def _job(asked: object) -> str:
    if not isinstance(asked, dict) or not isinstance(asked.get("job"), str):
        raise ValueError("the request names no run; send its job and its steps")
    return str(asked["job"])


def _steps(asked: object) -> list[int]:
    """Return the steps asked for, each once."""
    steps = asked.get("steps") if isinstance(asked, dict) else None
    if isinstance(steps, list) and len(steps) > MAX_FRAMES:
        raise ValueError(f"steps has {len(steps):,} numbers; at most {MAX_FRAMES} are allowed")
    if not isinstance(steps, list) or not all(isinstance(step, int) and step >= 0 for step in steps):
        raise ValueError("steps is not a list of step numbers; allowed: whole numbers from 0")
    return list(dict.fromkeys(steps))


def encoded_run(run: object) -> dict[str, str]:
    """Return the frames of a run as one file: {"kind", "frames"} in, {"type", "data"} with base64 out.

    Raises:
        ValueError: the value is not a run, or as `export.animation`.
    """
    if not isinstance(run, dict):
        raise ValueError("the request is not a run; send its kind and its frames")
    kind = str(run.get("kind"))
    made = animation(open_frames(run.get("frames")), kind)
    return {"type": TYPES[kind], "data": base64.b64encode(made).decode("ascii")}


def delta(weights: str, frame: Frame | Waiting | Choice) -> dict[str, Any]:
    """Return one step as it is sent to the browser; unchanged keys cost nothing, because Gradio sends differences."""
    if isinstance(frame, Waiting):
        return {"waiting": {"ahead": frame.ahead, "seconds": frame.seconds}}
    if isinstance(frame, Choice):
        return delta(weights, frame.frames[0]) | {
            "choice": [_candidate(*pair) for pair in zip(frame.frames, frame.scores, strict=True)]
        }
    request = frame.request
    lossless = frame.image.width <= LOSSLESS_SIDE or frame.index == frame.total - 1
    return {
        "job": frame.job,
        "i": frame.index,
        "n": frame.total,
        "prompt": "" if request is None else request.prompt,
        "seed": frame.seed,
        "settings": None if request is None else run_settings(request, frame.seed, weights),
        "grid": frame.grid,
        "plan": [frame.planned, frame.num_plan],
        "seconds": round(frame.seconds, 3),
        "revealed": list(frame.revealed),
        "born": list(frame.born),
        "type": "image/png" if lossless else "image/jpeg",
        "frame": png(frame.image) if lossless else jpeg(frame.image),
        **({} if frame.cutout is None else {"cutout": png(frame.cutout)}),
    }


def _candidate(frame: Frame, score: CaptionScore) -> dict[str, Any]:
    return {
        "job": frame.job,
        "seed": frame.seed,
        "frame": png(frame.image),
        "energy": score.energy,
        "probability": score.probability,
    }

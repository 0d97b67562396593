"""What comes back: settings from a picture, the page's address or the browser's history, and pictures to begin with."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import gradio as gr

from jepa_app.files.pictures import decode_base64, open_picture
from jepa_app.studio.export import REQUEST_KEYS, read_settings
from jepa_app.studio.frames import Frame
from jepa_app.studio.requests import GenerateRequest
from jepa_app.ui.errors import answering
from jepa_app.ui.fragment import fragment
from jepa_app.ui.player.player import delta

# Settings as the values of the controls, in their order; what is missing keeps the control's own. Then the accordion.
VALUES = """const values = %s.map((key, place) => (key in settings ? settings[key] : controls[place]));
  const negative = settings.negative_prompt ? { __type__: 'update', open: true } : { __type__: 'update' };"""
FILL = "(settings, ...controls) => { %s return [...values, negative]; }"
PICK = "(item, ...controls) => { const settings = item.settings; %s return [item, ...values, negative]; }"
TELL_LINK = "(...values) => { document.dispatchEvent(new CustomEvent('jepa:link', { detail: values })); }"
KeepPicture = Callable[..., tuple[Frame, tuple[int, ...]]]  # (picture, with_room=)
NUMBERS: dict[str, Callable[[str], float]] = {"steps": int, "seed": int, "guidance": float, "temperature": float}


def make_recall(max_steps: int, keep_picture: KeepPicture, weights: str) -> gr.HTML:
    """What comes from elsewhere: settings inside pictures and links, and pictures to begin with.

    Events: `fill` (its value holds settings) and `link`.
    """

    @answering
    def read_picture(upload: object) -> dict[str, Any]:
        return picture_settings(upload, max_steps)

    @answering
    def begin_with(upload: object) -> dict[str, Any]:
        data, name = _uploaded(upload)
        with_room = isinstance(upload, dict) and bool(upload.get("room"))
        frame, around = keep_picture(open_picture(data, name), with_room=with_room)
        return {"delta": delta(weights, frame), "around": list(around)}

    def read_link(asked: object) -> dict[str, Any]:
        return link_settings(asked, max_steps)

    return fragment("generate/recall", server_functions=[read_picture, begin_with, read_link])


def make_history() -> gr.HTML:
    """The strip of finished runs that the browser keeps. Event: `pick` (its value is the run)."""
    return fragment("generate/history")


def wire_recall(
    recall: gr.HTML, history: gr.HTML, player: gr.HTML, controls: list[gr.components.Component], negative: gr.Accordion
) -> None:
    """Write settings into the controls, all in the browser; a run from the history is shown by the player as well."""
    values = VALUES % list(REQUEST_KEYS)
    recall.fill(None, [recall, *controls], [*controls, negative], js=FILL % values, api_visibility="private")
    recall.link(None, [player, *controls], None, js=TELL_LINK, api_visibility="private")
    history.pick(None, [history, *controls], [player, *controls, negative], js=PICK % values, api_visibility="private")


def picture_settings(upload: object, max_steps: int) -> dict[str, Any]:
    """The settings inside a picture: {"name", "data"} as base64 in, {"settings"} out.

    Raises:
        ValueError: this is no picture, it holds no settings, or they are not allowed.
    """
    data, name = _uploaded(upload)
    request = read_settings(data, name)
    if request.steps > max_steps:
        raise ValueError(f"{name} was made in {request.steps} steps; this model takes at most {max_steps}")
    return {"settings": asdict(request)}


def _uploaded(upload: object) -> tuple[bytes, str]:
    if not isinstance(upload, dict):
        raise ValueError("this is no picture; send its name and its bytes as base64")
    name = str(upload.get("name") or "the picture")
    return decode_base64(str(upload.get("data") or ""), name), name


def link_settings(asked: object, max_steps: int) -> dict[str, Any]:
    """The settings in a page's address that are allowed, each checked by itself, and the names of the others.

    Names that begin with two underscores are Gradio's own.
    """
    settings: dict[str, Any] = {}
    ignored: list[str] = []
    for name, text in asked.items() if isinstance(asked, dict) else ():
        try:
            if name.startswith("__"):
                continue
            if name not in REQUEST_KEYS:
                raise ValueError(f"there is no setting {name}")
            value = NUMBERS[name](text) if name in NUMBERS else text
            alone: dict[str, Any] = {"prompt": "-", name: value}
            GenerateRequest(**alone)
            if name == "steps" and value > max_steps:
                raise ValueError(f"at most {max_steps} steps")
        except (ValueError, TypeError):
            ignored.append(name)
        else:
            settings[name] = value
    return {"settings": settings, "ignored": ignored}

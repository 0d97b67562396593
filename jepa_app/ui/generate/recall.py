"""What can be recalled: settings from a picture, the page's address or the browser's history, and starting pictures."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import gradio as gr

from jepa_app.engines.turns import Visitor
from jepa_app.files.pictures import decode_base64, open_picture
from jepa_app.studio.export import REQUEST_KEYS, read_settings
from jepa_app.studio.frames import Frame
from jepa_app.studio.requests import GenerateRequest
from jepa_app.ui.errors import answering
from jepa_app.ui.fragment import fragment
from jepa_app.ui.player.player import delta

# Settings as values of the controls, in their order; a missing setting keeps the control's value. Then the accordion.
VALUES = """const values = %s.map((key, place) => (key in settings ? settings[key] : controls[place]));
  const negative = settings.negative_prompt ? { __type__: 'update', open: true } : { __type__: 'update' };"""
FILL = "(settings, ...controls) => { %s return [...values, negative]; }"
PICK = "(item, ...controls) => { const settings = item.settings; %s return [item, ...values, negative]; }"
TELL_LINK = "(...values) => { document.dispatchEvent(new CustomEvent('jepa:link', { detail: values })); }"
KeepPicture = Callable[..., tuple[Frame, tuple[int, ...]]]  # (picture, client, with_room=)
NUMBERS: dict[str, Callable[[str], float]] = {"steps": int, "seed": int, "guidance": float, "temperature": float}


def make_recall(max_steps: int, keep_picture: KeepPicture, weights: str) -> gr.HTML:
    """Return the controls that read settings from pictures and links, and that take starting pictures.

    Events: `fill` (its value contains settings) and `link`.
    """

    @answering
    def read_picture(upload: object, _: Visitor) -> dict[str, Any]:
        return picture_settings(upload, max_steps)

    @answering
    def begin_with(upload: object, visitor: Visitor) -> dict[str, Any]:
        data, name = _uploaded(upload)
        with_room = isinstance(upload, dict) and bool(upload.get("room"))
        frame, around = keep_picture(open_picture(data, name), visitor, with_room=with_room)
        return {"delta": delta(weights, frame), "around": list(around)}

    def read_link(asked: object) -> dict[str, Any]:
        return link_settings(asked, max_steps)

    return fragment("generate/recall", server_functions=[read_picture, begin_with, read_link])


def make_history() -> gr.HTML:
    """Return the strip of finished runs that the browser keeps. Event: `pick` (its value is the run)."""
    return fragment("generate/history")


def wire_recall(
    recall: gr.HTML, history: gr.HTML, player: gr.HTML, controls: list[gr.components.Component], negative: gr.Accordion
) -> None:
    """Write settings into the controls, all in the browser; the player also shows a run picked from the history."""
    values = VALUES % list(REQUEST_KEYS)
    recall.fill(None, [recall, *controls], [*controls, negative], js=FILL % values, api_visibility="private")
    recall.link(None, [player, *controls], None, js=TELL_LINK, api_visibility="private")
    history.pick(None, [history, *controls], [player, *controls, negative], js=PICK % values, api_visibility="private")


def picture_settings(upload: object, max_steps: int) -> dict[str, Any]:
    """Return the settings inside a picture: {"name", "data"} with base64 in, {"settings"} out.

    Raises:
        ValueError: the upload is not a picture, contains no settings, or its settings are not allowed.
    """
    data, name = _uploaded(upload)
    request = read_settings(data, name)
    if request.steps > max_steps:
        raise ValueError(f"{name} was made in {request.steps} steps; this model allows at most {max_steps}")
    return {"settings": asdict(request)}


def _uploaded(upload: object) -> tuple[bytes, str]:
    if not isinstance(upload, dict):
        raise ValueError("the upload is not a picture; send its name and its bytes as base64")
    name = str(upload.get("name") or "the picture")
    return decode_base64(str(upload.get("data") or ""), name), name


def link_settings(asked: object, max_steps: int) -> dict[str, Any]:
    """Return the allowed settings in a page's address, each checked separately, and the names of the others.

    Names that start with two underscores belong to Gradio.
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

"""The runs of the Generate tab: requests to the studio, streams to the player, and how they end."""

from collections.abc import Callable, Generator, Hashable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from PIL import Image

from jepa_app.studio.frames import Finish, Frame, Waiting
from jepa_app.studio.requests import Edit, GenerateRequest
from jepa_app.studio.studio import Choice, Unseen
from jepa_app.ui.errors import shown_to_user
from jepa_app.ui.generate.recall import KeepPicture
from jepa_app.ui.player.player import KeptRuns, delta
from jepa_app.ui.serving.visitors import visitor_of
from jepa_app.ui.streams import at_end
from jepa_app.ui.tools import no_tool

# Tells the player that a run starts or ends, and updates the Stop button.
TELL_PLAYER = """() => {
  document.dispatchEvent(new CustomEvent('jepa:run', { detail: '%s' }));
  return { __type__: 'update', interactive: %s };
}"""
# A run is continued with the player's value; if the prompt box is empty, it keeps its own prompt.
START_OF_EDIT = "(last, prompt, ...rest) => [last.edit, prompt || last.prompt, ...rest]"
START, END = TELL_PLAYER % ("start", "true"), TELL_PLAYER % ("end", "false")


@dataclass(frozen=True, kw_only=True)
class GenerateControls:
    """The input components of a request, in the order of the handlers' arguments."""

    prompt: gr.Textbox
    negative_prompt: gr.Textbox
    steps: gr.Slider
    guidance: gr.Slider
    temperature: gr.Slider
    seed: gr.Number
    best_of: gr.Radio

    def all(self) -> list[gr.components.Component]:
        """The components of one request as an event's `inputs`."""
        return [self.prompt, self.negative_prompt, self.steps, self.guidance, self.temperature, self.seed]


@dataclass(frozen=True, kw_only=True)
class GenerateWork:
    """What the tab needs from the studio."""

    watch: Callable[[GenerateRequest, Hashable], Generator[Frame | Waiting, None, None]]
    resume: Callable[[str, Hashable], Generator[Frame | Waiting, None, None]]
    best_of: Callable[[GenerateRequest, int, Hashable], Generator[Frame | Waiting | Choice, None, None]]
    image: Callable[[GenerateRequest, Finish, Hashable], Image.Image]
    keep_picture: KeepPicture
    kept: KeptRuns
    unseen: Callable[[str], Unseen]
    example: str | None


@dataclass(frozen=True, kw_only=True)
class _Handlers:
    """The functions that the tab's events call; endpoints take over their names, arguments and docstrings."""

    generate: Callable[..., Iterator[dict[str, Any]]]
    edit: Callable[..., Iterator[dict[str, Any]]]
    resume: Callable[..., Iterator[dict[str, Any]]]
    generate_image: Callable[..., Image.Image]


def _handlers(work: GenerateWork, weights: str) -> _Handlers:
    @no_tool
    def generate(
        visitor: gr.Request,
        prompt: str,
        negative_prompt: str | None,
        steps: int,
        guidance: float,
        temperature: float,
        seed: int | None = None,
        best_of: int = 1,
    ) -> Iterator[dict[str, Any]]:
        """Stream a picture for a prompt: one small delta per step, with the picture so far as base64.

        With `best_of` above 1, that many seeds are tried, and the last delta shows the best match with the prompt.
        """
        with shown_to_user():
            request = _request(prompt, negative_prompt, steps, guidance, temperature, seed)
            if best_of == 1:
                yield from _deltas(weights, work.watch(request, visitor_of(visitor)))
            else:
                for change in _deltas(weights, work.best_of(request, best_of, visitor_of(visitor))):
                    yield change | {"of": best_of}

    @no_tool
    def edit(
        visitor: gr.Request,
        start: dict[str, Any],
        prompt: str,
        negative_prompt: str | None,
        steps: int,
        guidance: float,
        temperature: float,
        seed: int | None = None,
    ) -> Iterator[dict[str, Any]]:
        """Stream a picture that starts from a kept run, given in `start` as {"job", "step", "redo", "ring"}.

        `redo` lists the positions to redo; if it is empty, the run continues from the step. `ring` says whether their
        neighbours are redone too.
        """
        with shown_to_user():
            request = _request(prompt, negative_prompt, steps, guidance, temperature, seed)
            yield from _deltas(weights, work.watch(replace(request, edit=_edit(start)), visitor_of(visitor)))

    @no_tool
    def resume(visitor: gr.Request, job: str) -> Iterator[dict[str, Any]]:
        """Stream the missing steps of a kept run that was stopped or lost."""
        with shown_to_user():
            yield from _deltas(weights, work.resume(str(job), visitor_of(visitor)))

    def generate_image(
        visitor: gr.Request,
        prompt: str,
        negative_prompt: str | None,
        steps: int,
        guidance: float,
        temperature: float,
        seed: int | None = None,
        size: int | None = None,
        transparent: bool = False,
    ) -> Image.Image:
        """Make a picture for a prompt and return it as one PNG file with its settings and seed inside.

        Args:
            prompt: what the picture should show, in a few words, optionally with a style: "red apple, twemoji style"
            negative_prompt: what the picture should not show
            steps: 1 to 64, at most one per token of the picture; more steps predict fewer tokens at a time
            guidance: 0 to 20, how closely the picture follows the prompt; 1 is the plain model
            temperature: 0 to 2; lower values give calmer, more similar pictures
            seed: a whole number that gives the same picture every time; leave it out for a random seed
            size: 16 to 256, the width and height in pixels; leave it out for the largest
            transparent: true for a transparent background instead of a white one
        """
        with shown_to_user():
            finish = Finish(size=_whole(size), transparent=bool(transparent))
            request = _request(prompt, negative_prompt, steps, guidance, temperature, seed)
            return work.image(request, finish, visitor_of(visitor))

    return _Handlers(generate=generate, edit=edit, resume=resume, generate_image=generate_image)


def wire_runs(
    work: GenerateWork, weights: str, controls: GenerateControls, player: gr.HTML, run: gr.Button, stop: gr.Button
) -> None:
    """Wire the streams: a new run, a run that starts from a kept one, a resumed run; and what ends them."""
    handlers = _handlers(work, weights)
    inputs = controls.all()
    streaming: dict[str, Any] = {
        "outputs": [player],
        "preprocess": False,  # the request checks itself; components would refuse with messages of their own
        "show_progress": "hidden",
        "concurrency_limit": None,  # the engine admits requests, makes them wait or refuses them
    }
    asked = [run.click, controls.prompt.submit]
    gr.on(asked, None, outputs=[stop], js=START, api_visibility="private")
    for goes_on in (player.edit, player.resume):
        goes_on(None, outputs=[stop], js=START, api_visibility="private")
    running = [
        gr.on(asked, handlers.generate, inputs=[*inputs, controls.best_of], api_name="generate", **streaming),
        player.edit(handlers.edit, inputs=[player, *inputs], js=START_OF_EDIT, api_name="edit", **streaming),
        player.resume(handlers.resume, inputs=[player], js="(last) => [last.job]", api_name="resume", **streaming),
    ]
    for stream in running:
        at_end(stream, END, [stop])
    stop.click(None, cancels=running, api_visibility="private")
    gr.Button(visible=False).click(
        handlers.generate_image,
        inputs=[
            *inputs,
            gr.Number(None, label="size", visible=False),
            gr.Checkbox(False, label="transparent", visible=False),
        ],
        outputs=[gr.Image(visible=False, format="png", image_mode="RGBA")],
        preprocess=False,
        api_name="generate_image",
        concurrency_limit=None,
    )


def _deltas(weights: str, frames: Generator[Frame | Waiting | Choice, None, None]) -> Iterator[dict[str, Any]]:
    with closing(frames):
        for frame in frames:
            yield delta(weights, frame)


def _edit(start: object) -> Edit:
    if not isinstance(start, dict):
        raise ValueError('start names no run; send {"job": id, "step": number, "redo": [positions]}')
    redo = start.get("redo") or []
    return Edit(
        job=start.get("job", ""),
        step=start.get("step", 0),
        redo=tuple(redo) if isinstance(redo, list) else redo,
        ring=bool(start.get("ring", True)),
    )


def _request(
    prompt: str, negative_prompt: str | None, steps: int, guidance: float, temperature: float, seed: int | None
) -> GenerateRequest:
    return GenerateRequest(
        prompt=prompt,
        negative_prompt="" if negative_prompt is None else negative_prompt,  # a box that was never opened contains None
        steps=_whole(steps),
        guidance=guidance,
        temperature=temperature,
        seed=_whole(seed),
    )


def _whole(number: Any) -> Any:
    """Return 4.0 as 4: agents do not distinguish whole numbers from others."""
    return int(number) if isinstance(number, float) and number.is_integer() else number

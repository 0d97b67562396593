"""The runs of the Generate tab: what it asks the studio for, streamed to the player, and what ends them."""

from collections.abc import Callable, Generator, Hashable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import gradio as gr
from PIL import Image

from jepa_app.studio.frames import Frame, Waiting
from jepa_app.studio.requests import Edit, GenerateRequest
from jepa_app.studio.studio import Choice
from jepa_app.ui.errors import shown_to_user
from jepa_app.ui.generate.recall import KeepPicture
from jepa_app.ui.player.player import KeptRuns, delta
from jepa_app.ui.streams import at_end
from jepa_app.ui.tools import no_tool

# Tells the player that a run starts or ends, and makes the Stop button follow.
TELL_PLAYER = """() => {
  document.dispatchEvent(new CustomEvent('jepa:run', { detail: '%s' }));
  return { __type__: 'update', interactive: %s };
}"""
# A run that goes on is asked for with the player's value; without words in the box it keeps its own.
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
    """What the tab asks the studio for."""

    watch: Callable[[GenerateRequest, Hashable], Generator[Frame | Waiting, None, None]]
    resume: Callable[[str, Hashable], Generator[Frame | Waiting, None, None]]
    best_of: Callable[[GenerateRequest, int, Hashable], Generator[Frame | Choice, None, None]]
    image: Callable[[GenerateRequest], Image.Image]
    keep_picture: KeepPicture
    kept: KeptRuns


@dataclass(frozen=True, kw_only=True)
class _Handlers:
    """What the tab's events call; their names, arguments and docstrings are those of the endpoints."""

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
        """Stream a picture for a prompt: one small delta a step, with the picture so far as base64.

        With `best_of` above 1 so many seeds are tried, and the last delta is of the picture that fits the prompt best.
        """
        with shown_to_user():
            request = _request(prompt, negative_prompt, steps, guidance, temperature, seed)
            if best_of == 1:
                yield from _deltas(weights, work.watch(request, visitor.session_hash))
            else:
                for change in _deltas(weights, work.best_of(request, best_of, visitor.session_hash)):
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
        """Stream a picture that begins with a kept run, named by `start` as {"job", "step", "redo", "ring"}.

        `redo` are the positions to make anew (none: the run goes on from the step), `ring` whether those around them
        are made anew too.
        """
        with shown_to_user():
            request = _request(prompt, negative_prompt, steps, guidance, temperature, seed)
            yield from _deltas(weights, work.watch(replace(request, edit=_edit(start)), visitor.session_hash))

    @no_tool
    def resume(visitor: gr.Request, job: str) -> Iterator[dict[str, Any]]:
        """Stream the steps that a kept run, stopped or lost on the way, does not have yet."""
        with shown_to_user():
            yield from _deltas(weights, work.resume(str(job), visitor.session_hash))

    def generate_image(
        prompt: str,
        negative_prompt: str | None,
        steps: int,
        guidance: float,
        temperature: float,
        seed: int | None = None,
    ) -> Image.Image:
        """Make a picture for a prompt and return it as one PNG, with its settings and its seed inside the file.

        Args:
            prompt: what to see, a few words and perhaps a style, e.g. "red apple, twemoji style"
            negative_prompt: what to keep out
            steps: at most as many as the picture has tokens, 1 to 64; more predict fewer tokens at a time
            guidance: 0 to 20, how strictly the words are followed; 1 is the plain model
            temperature: 0 to 2; lower is calmer and more alike
            seed: a whole number gives the same picture every time; leave it out for a random one
        """
        with shown_to_user():
            return work.image(_request(prompt, negative_prompt, steps, guidance, temperature, seed))

    return _Handlers(generate=generate, edit=edit, resume=resume, generate_image=generate_image)


def wire_runs(
    work: GenerateWork, weights: str, controls: GenerateControls, player: gr.HTML, run: gr.Button, stop: gr.Button
) -> None:
    """The streams: a new run, one that begins with a kept one, one that was lost; and what ends them."""
    handlers = _handlers(work, weights)
    inputs = controls.all()
    streaming: dict[str, Any] = {
        "outputs": [player],
        "preprocess": False,  # the request checks itself; components would refuse with words of their own
        "show_progress": "hidden",
        "concurrency_limit": None,  # the engine lets in, makes wait and refuses
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
        inputs=inputs,
        outputs=[gr.Image(visible=False, format="png")],
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
        negative_prompt="" if negative_prompt is None else negative_prompt,  # a box never opened holds None
        steps=_whole(steps),
        guidance=guidance,
        temperature=temperature,
        seed=_whole(seed),
    )


def _whole(number: Any) -> Any:
    """4.0 as 4: agents know of numbers only that they are numbers."""
    return int(number) if isinstance(number, float) and number.is_integer() else number

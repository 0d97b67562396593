"""What all streams of the page have in common."""

from collections.abc import Sequence

from gradio.blocks import Block
from gradio.events import Dependency

_SET_STOP = "() => ({ __type__: 'update', interactive: %s })"
RUNNING, READY = _SET_STOP % "true", _SET_STOP % "false"  # they enable and disable a Stop button along with its stream


def ready_and_telling(event: str) -> str:
    """Return a script that disables a Stop button and tells the page, by an event, that its stream is over."""
    return f"() => {{ document.dispatchEvent(new CustomEvent('{event}')); return ({READY})(); }}"


def at_end(stream: Dependency, js: str, outputs: Sequence[Block] | None = None) -> None:
    """Run a script in the browser when a stream has ended: finished, stopped or failed."""
    for ended in (stream.then, stream.failure):  # a stop triggers "then", an error does not
        ended(None, outputs=outputs, js=js, api_visibility="private")

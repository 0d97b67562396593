"""What every stream of the page has in common."""

from collections.abc import Sequence

from gradio.blocks import Block
from gradio.events import Dependency


def at_end(stream: Dependency, js: str, outputs: Sequence[Block] | None = None) -> None:
    """Run a script in the browser when a stream has ended: finished, stopped or failed."""
    for ended in (stream.then, stream.failure):  # a stop counts as "then", an error does not
        ended(None, outputs=outputs, js=js, api_visibility="private")

"""Inputs that Gradio cannot take are refused in one short sentence; its own answers quote everything, and paths."""

from collections.abc import Awaitable, Callable
from typing import Any

import gradio as gr
from gradio.exceptions import InvalidPathError
from pydantic import ValidationError

MAX_ITEMS = 2_000  # in a list
MAX_REASON = 200  # characters
NOT_HERE = "a file was not uploaded here, or is no longer kept; upload it, or send its bytes as base64"

MISSHAPEN = "an input has another form than is asked for; /?view=api shows what can be asked"


def tell_wrong_inputs(page: gr.Blocks) -> None:
    """Let a page say briefly what is wrong with the inputs of an event."""
    page.preprocess_data = _telling(page.preprocess_data)  # type: ignore[method-assign, assignment]


def _telling(preprocess: Callable[..., Awaitable[list[Any]]]) -> Callable[..., Awaitable[list[Any]]]:
    async def told(block_fn: Any, inputs: list[Any], state: Any, *rest: Any, **options: Any) -> list[Any]:
        for value in inputs:
            if isinstance(value, list) and len(value) > MAX_ITEMS:
                raise _refusal(f"got a list of {len(value):,}; at most {MAX_ITEMS:,} are taken")
        try:
            return await preprocess(block_fn, inputs, state, *rest, **options)
        except gr.Error:
            raise
        except (InvalidPathError, OSError) as wrong:
            raise _refusal(NOT_HERE) from wrong
        except ValidationError as wrong:
            first = wrong.errors(include_url=False, include_context=False, include_input=False)[0]["msg"]
            raise _refusal(f"a file is described wrongly: {first}") from wrong
        except (AttributeError, KeyError, IndexError, TypeError) as wrong:  # a file's description has another form
            raise _refusal(MISSHAPEN) from wrong
        except Exception as wrong:  # whatever it is, whoever asked must be told
            raise _refusal(f"the inputs do not fit: {wrong}") from wrong
        finally:
            for block in block_fn.inputs if state else ():  # Gradio would keep every session's last inputs
                state._update_value_in_config(block._id, None)

    return told


def _refusal(reason: str) -> gr.Error:
    return gr.Error(reason if len(reason) <= MAX_REASON else f"{reason[:MAX_REASON]} …", print_exception=False)

"""Turns exceptions into messages on the page."""

import html
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import gradio as gr

log = logging.getLogger(__name__)


@contextmanager
def shown_to_user() -> Iterator[None]:
    """Turn a user's mistake (`ValueError`) into a message on the page; log anything else and show an apology.

    The page shows the message as HTML, so what the user typed is escaped.
    """
    try:
        yield
    except gr.Error:
        raise
    except ValueError as mistake:
        message = html.escape(str(mistake), quote=False)
        raise gr.Error(message, print_exception=False) from mistake
    except Exception as failure:  # the outermost layer: without it the page would show an empty error
        log.exception("an event failed")
        raise gr.Error(
            "Something went wrong on the server; its log has the details. Your inputs are kept; please try again.",
            print_exception=False,
        ) from failure


def answering(ask: Callable[[object], dict[str, Any]]) -> Callable[[object], dict[str, Any]]:
    """Make a function that the page's scripts call return {"error": message} instead of raising.

    The scripts show the message through textContent, so nothing is escaped.
    """

    @wraps(ask)
    def answer(asked: object) -> dict[str, Any]:
        try:
            return ask(asked)
        except ValueError as mistake:
            return {"error": str(mistake)}

    return answer

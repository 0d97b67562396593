"""Turns exceptions into messages on the page."""

import html
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

from jepa_app.engines.turns import Visitor
from jepa_app.ui.serving.visitors import visitor_of

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


def answering(ask: Callable[[object, Visitor], dict[str, Any]]) -> Callable[[object, gr.Request], dict[str, Any]]:
    """Make a function that the page's scripts call return {"error": message} instead of raising.

    The scripts show the message through textContent, so nothing is escaped.
    """

    def answer(asked: object, request: gr.Request) -> dict[str, Any]:
        try:
            return ask(asked, visitor_of(request))
        except ValueError as mistake:
            return {"error": str(mistake)}

    answer.__name__ = ask.__name__  # what the scripts call it
    return answer

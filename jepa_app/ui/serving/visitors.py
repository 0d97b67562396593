"""Who asks: the address and the session of a request."""

import gradio as gr

from jepa_app.engines.turns import Visitor


def visitor_of(request: gr.Request) -> Visitor:
    """Return who sent a request; behind a trusted proxy the address is the one that the proxy names.

    What the page's scripts ask (`answering`) comes without a session.
    """
    client = request.client
    return Visitor(client.host if client else "", getattr(request, "session_hash", None) or "")

"""What agents see of the page: every public endpoint is a tool unless it is told otherwise here."""

from collections.abc import Callable
from typing import Any, TypeVar

Work = TypeVar("Work", bound=Callable[..., Any])


def no_tool(work: Work) -> Work:
    """Keep an endpoint out of the tools: streams of base64 and tables are for programs."""
    work._mcp_type = "endpoint"  # type: ignore[attr-defined]  # Gradio lists what has no kind or the kind "tool"
    return work

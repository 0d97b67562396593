"""What agents see of the page: every public endpoint is a tool unless it is marked otherwise here."""

from collections.abc import Callable
from typing import Any, TypeVar

Work = TypeVar("Work", bound=Callable[..., Any])


def no_tool(work: Work) -> Work:
    """Keep an endpoint from becoming a tool: streams of base64 and tables are meant for programs."""
    work._mcp_type = "endpoint"  # type: ignore[attr-defined]  # Gradio lists endpoints of no kind or of the kind "tool"
    return work

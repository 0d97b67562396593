"""The studio in the browser: python app.py [--weights DIR|ID] [--host HOST] [--port PORT] [--share]."""

import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported
# By default Gradio keeps 10,000 events and sums them up after each one, for a dashboard that this page does not show.
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", str(10**9))

try:  # on a ZeroGPU Space this must be imported before torch; elsewhere the package is not installed
    import spaces
except ImportError:
    spaces = None

from jepa_app.command_line import OneLineParser, check_address, tell
from jepa_app.studio.studio import DEFAULT_WEIGHTS, Studio
from jepa_app.ui.page import build_page, serving_options

Work = TypeVar("Work", bound=Callable[..., Any])
GPU_SECONDS = 30  # reserved on a ZeroGPU Space for one picture of at most 64 steps


def main() -> int:
    """Load the weights, build the page and serve it until interrupted."""
    parser = OneLineParser(description="The JEPA studio in the browser.")
    parser.add_argument(
        "--weights", default=DEFAULT_WEIGHTS, help="weights folder or hub id (default: the bundled weights)"
    )
    parser.add_argument("--host", help="address to listen on (default: 127.0.0.1; 0.0.0.0 for the whole network)")
    parser.add_argument("--port", type=int, help="port (default: the first free one from 7860)")
    parser.add_argument(
        "--allow-origin",
        action="append",
        default=[],
        metavar="URL",
        help="an address under which the studio is also reached or used, such as https://example.org",
    )
    parser.add_argument("--share", action="store_true", help="open a public link through gradio.live")
    options = parser.parse_args()
    try:
        check_address(options.host, options.port)
        if not str(options.weights).strip():
            raise ValueError("--weights is empty; name a weights folder or hub id, or leave it out")
        options_of_page = serving_options(options.host, options.allow_origin, share=options.share)
    except ValueError as mistake:
        return tell(mistake)
    try:
        studio = Studio.load(options.weights)
    except ValueError as mistake:
        return tell(mistake)
    page = build_page(studio, on_gpu)
    try:
        page.launch(server_name=options.host, server_port=options.port, share=options.share, **options_of_page)
    except OSError as taken:  # the port is in use, or the host is not an address of this machine
        return tell(taken)
    return 0


def on_gpu(work: Work) -> Work:
    """Let a callable borrow the GPU of a ZeroGPU Space; anywhere else return it unchanged."""
    return spaces.GPU(duration=GPU_SECONDS)(work) if spaces else work


if __name__ == "__main__":
    sys.exit(main())

"""Serves the studio in the browser: `python app.py`, or `jepa-studio` where the project is installed."""

import argparse
import gc
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported
# By default Gradio keeps 10,000 events and sums them up after each one, for a dashboard that this page does not show.
os.environ.setdefault("GRADIO_ANALYTICS_MAX_EVENTS", "1")
os.environ.setdefault("GRADIO_ANALYTICS_CACHE_FREQUENCY", str(10**9))

try:  # on a ZeroGPU Space this must be imported before torch; elsewhere the package is not installed
    import spaces
except ImportError:
    spaces = None

from jepa_app.command_line import (
    OneLineParser,
    bracketed,
    check_address,
    check_weights_name,
    past_proxies,
    tell,
    without_collecting,
)

with without_collecting():
    from jepa_app.compute import share_memory_pools
    from jepa_app.engines.port import Engine
    from jepa_app.engines.ray_serve import Replicas, check_ray, ray_engine
    from jepa_app.engines.thread import tuned_when_idle
    from jepa_app.engines.zero_gpu import Steps, zero_gpu_engine
    from jepa_app.generation.pipeline import JepaTPipeline
    from jepa_app.studio.studio import DEFAULT_WEIGHTS, Studio
    from jepa_app.ui.serving.own_folder import own_folder

INTERRUPTED = 130  # exit status, as of a shell


def main() -> NoReturn:
    """Load the weights, build the page, serve it until the process is told to end, and end it."""
    parser = OneLineParser(description="The JEPA studio in the browser.")
    parser.add_argument(
        "--weights",
        default=DEFAULT_WEIGHTS,
        help="weights folder, hub id or ID@REVISION (default: the bundled weights)",
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
    parser.add_argument(
        "--engine",
        metavar="ADDRESS",
        help="a Ray cluster that makes the pictures: auto or ray://HOST:PORT",
    )
    parser.add_argument(
        "--replicas", metavar="N", help="make pictures in N processes with Ray; 1-8 starts more when many wait"
    )
    parser.add_argument("--share", action="store_true", help="open a public link through gradio.live")
    options = parser.parse_args()
    share_memory_pools()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the page is served, both signals interrupt
    try:
        status = _serve(options)
    except KeyboardInterrupt:  # before there was anything to end
        status = INTERRUPTED
    for child in multiprocessing.active_children():  # such as the forks of a ZeroGPU Space
        child.kill()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # a thread that still computes would make the interpreter's own end abort


def _serve(options: argparse.Namespace) -> int:
    try:
        check_address(options.host, options.port)
        check_weights_name(options.weights)
        with own_folder():
            _load_and_serve(options)
    except (ValueError, OSError) as mistake:  # such as a port that is taken in the meantime
        return tell(mistake)
    return 0


def _load_and_serve(options: argparse.Namespace) -> None:
    # Gradio makes a folder and a connection as soon as it is imported: they are to be its own, and past any proxy.
    with past_proxies(), without_collecting():
        from jepa_app.ui.page import build_page, serving_options
        from jepa_app.ui.serving.running import Shortened, serve
    host = bracketed(options.host)
    options_of_page = serving_options(host, options.allow_origin, share=options.share)
    make_engine, is_elsewhere = _engine_for(options)
    with without_collecting():
        # Where steps are made elsewhere, this process leaves the GPU alone: a ZeroGPU Space could not lend it any more.
        studio = Studio.load(options.weights, "cpu" if is_elsewhere else "auto", make_engine=make_engine)
        studio.prepare()
        page = build_page(studio)
    gc.freeze()  # it stays: later collections need not look at it, and forks go on sharing its memory
    sys.stderr = Shortened(sys.stderr)  # type: ignore[assignment]
    address = {"server_name": host, "server_port": options.port, "share": options.share}
    try:
        serve(page, **address, **options_of_page)
    finally:
        studio.close()  # also if it could not be served: replicas on a cluster would outlive it


def _engine_for(options: argparse.Namespace) -> tuple[Callable[[JepaTPipeline, Path], Engine], bool]:
    """Choose where pictures are made: what makes the engine, and whether its steps are made outside this process.

    Raises:
        ValueError: the number of replicas is wrong, Ray is not installed, or there is no such cluster.
    """
    if options.engine is None and options.replicas is None:
        if is_zero_gpu():
            return lambda pipeline, _: zero_gpu_engine(pipeline, _lend, _is_lost), True
        return tuned_when_idle, False
    check_ray(options.engine)
    replicas = Replicas() if options.replicas is None else Replicas.of(options.replicas)
    return partial(ray_engine, address=options.engine, replicas=replicas), True


def is_zero_gpu() -> bool:
    """Whether this is a ZeroGPU Space, where a GPU is lent for one call at a time."""
    return spaces is not None and bool(spaces.config.Config.zero_gpu)


def _lend(steps: Steps, seconds: Callable[[bytes, int], int]) -> Steps:
    lent: Steps = spaces.GPU(duration=seconds)(steps)
    return lent


def _is_lost(error: Exception) -> bool:
    """Whether a lent process has ended before its work: the package says so in these words."""
    return "GPU task aborted" in str(error)

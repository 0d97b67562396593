"""Blocks compiled by torch: several small operations become one, which a step mostly consists of besides products."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from jepa_app.models.blocks import Block, QueryBlock
from jepa_app.models.jepa_t import JepaT

TEXT_LENGTHS = 8  # text is padded to a multiple of this: every length is compiled anew
MOST_SHAPES = 128  # of a function; by default torch compiles eight, and runs all others as they are written


def compile_blocks(network: JepaT, backend: str | Callable[..., Any] = "inductor") -> None:
    """Compile the blocks of a network's transformers, its denoiser and its prediction head, at their first use.

    Shapes are many: a block sees six for every length of text, up to 16 lengths.
    """
    torch.compiler.config.recompile_limit = MOST_SHAPES
    compiled = functools.partial(torch.compile, dynamic=False, backend=backend)
    for layer in network.modules():
        if isinstance(layer, Block):
            layer.compile(dynamic=False, backend=backend)
        if isinstance(layer, QueryBlock):
            layer.keep = compiled(layer.keep)  # type: ignore[method-assign]
    denoiser, head = network.denoiser, network.d_jepa.prediction_head
    # on a CPU the steering's gradient does not compile (torch 2.13: two sums of one kernel get the same name)
    denoiser.denoise = compiled(denoiser.denoise)  # type: ignore[method-assign]
    head.forward = compiled(head.forward)  # type: ignore[method-assign]  # torch skips a module of its own otherwise


@contextmanager
def not_compiling() -> Iterator[None]:
    """Run compiled blocks as they are written: for pictures in between, whose shapes change at every step."""
    with torch.compiler.set_stance("force_eager"):
        yield

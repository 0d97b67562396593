"""Blocks compiled by torch: several small operations become one, which a step mostly consists of besides products."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from jepa_app.models.blocks import Block, QueryBlock
from jepa_app.models.jepa_t import JepaT

TEXT_LENGTHS = 8  # text is padded to a multiple of this: every length is compiled anew


def compile_blocks(network: JepaT) -> None:
    """Compile the blocks of a network's transformers, its denoiser and its prediction head, at their first use."""
    for layer in network.modules():
        if isinstance(layer, Block):
            layer.compile(dynamic=False)
        if isinstance(layer, QueryBlock):
            layer.keep = torch.compile(layer.keep, dynamic=False)  # type: ignore[method-assign]
    denoiser = network.denoiser
    # on a CPU the steering's gradient does not compile (torch 2.13: two sums of one kernel get the same name)
    denoiser.denoise = torch.compile(denoiser.denoise, dynamic=False)  # type: ignore[method-assign]
    network.d_jepa.prediction_head.compile(dynamic=False)


@contextmanager
def not_compiling() -> Iterator[None]:
    """Run compiled blocks as they are written: for pictures in between, whose shapes change at every step."""
    with torch.compiler.set_stance("force_eager"):
        yield

"""The pipeline that `DiffusionPipeline.from_pretrained(weights, trust_remote_code=True)` returns.

A copy of this file lies beside the weights, where diffusers reads it. It imports nothing of `jepa_app`.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline


class JepaTDiffusionPipeline(DiffusionPipeline):
    """A `JepaTPipeline` as a DiffusionPipeline; `code` is that pipeline, which has more to offer, such as `stream`."""

    def __init__(self, code: Any) -> None:
        super().__init__()
        self.register_modules(code=code)

    def __call__(self, prompt: str | list[str], **settings: Any) -> Any:
        """Make pictures, with the settings of `JepaTPipeline`: its result has them as `images`."""
        return self.code(prompt, **settings)

    def to(self, device: torch.device | str) -> "JepaTDiffusionPipeline":
        """Move all networks to a device."""
        self.code.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.code.device

    @property
    def dtype(self) -> torch.dtype:
        """In which type of numbers the network computes."""
        return self.code.dtype

    def save_pretrained(self, save_directory: Path | str) -> None:
        """Write tokenizer and generator, in the layout of `JepaTPipeline`."""
        self.code.save_pretrained(save_directory)

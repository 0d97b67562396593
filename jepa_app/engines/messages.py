"""Steps as a few bytes each, for pictures that are made in another process: a step sends only what it revealed.

Letters in shapes: T tokens of a picture with those of its plan, K tokens of a step, C token channels.
"""

import struct

import numpy as np
import torch

from jepa_app.generation.picture import Picture, TokenStep

HEADER = struct.Struct("<4H")  # number of the picture, index of the step, number of steps, K
POSITION, VALUE = "<i4", "<f4"


def message(number: int, step: TokenStep) -> bytes:
    """Return what a step of picture `number` revealed: positions, and tokens as they are, in float32."""
    tokens = step.tokens[step.revealed].float().cpu().numpy().astype(VALUE)  # (K, C)
    revealed = step.revealed.cpu().numpy().astype(POSITION)
    return HEADER.pack(number, step.index, step.total, len(revealed)) + revealed.tobytes() + tokens.tobytes()


def number_in(sent: bytes) -> int:
    """Return the number of the picture that a message is about."""
    return int(HEADER.unpack_from(sent)[0])


class Received:
    """A picture whose steps arrive as messages; it begins as `picture` does."""

    def __init__(self, picture: Picture) -> None:
        self._tokens, self._known = picture.tokens.cpu(), picture.known.cpu()
        self._num_plan = picture.num_plan

    def step(self, sent: bytes) -> TokenStep:
        """Return the next step, (T, C) tokens that are all on the CPU."""
        _, index, total, length = HEADER.unpack_from(sent)
        revealed = np.frombuffer(sent, POSITION, length, HEADER.size)
        tokens = np.frombuffer(sent, VALUE, offset=HEADER.size + revealed.nbytes).reshape(length, -1)
        positions = torch.from_numpy(revealed.astype(np.int64))
        self._tokens = self._tokens.index_copy(0, positions, torch.from_numpy(tokens.astype(np.float32)))
        self._known = self._known.index_fill(0, positions, True)
        return TokenStep(index, total, self._tokens, self._known, positions, self._num_plan)

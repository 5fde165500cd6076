"""Layers on strips of rows: what lies between the convolutions of a strip stays in the cache.

A picture of two megapixels, at an eighth of its resolution and in 128 channels, is 16 MB. Layer by layer each pass over
it goes through memory, most of it mapped anew; strip by strip it does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

__all__ = ["Strip", "is_cut", "is_lean", "plain_layers", "strips"]

_ELEMENTS: Final = 1 << 19
"""Of the first input in a strip: 2 MB. Where there is less, calls cost more than memory."""
_LEAST: Final = 2
"""Strips; what would not fill as many is small enough as it is."""


_plain: ContextVar[bool] = ContextVar("plain", default=False)


@dataclass(frozen=True, slots=True)
class Strip:
    """Rows of a picture that are computed together.

    Attributes:
        top: The first of them.
        count: How many.
        above: Rows above them that are looked at.
        below: The same below.
    """

    top: int
    count: int
    above: int
    below: int

    @property
    def rows(self) -> slice:
        """Its rows of the picture."""
        return slice(self.top, self.top + self.count)

    @property
    def around(self) -> slice:
        """Rows of the picture that are looked at."""
        return slice(self.top - self.above, self.top + self.count + self.below)

    @property
    def own(self) -> slice:
        """Rows of the strip among those that are looked at."""
        return slice(self.above, self.above + self.count)

    def part(self, x: Tensor, scale: int = 1) -> Tensor:
        """Return its rows of a tensor (B, ., k H, .) at so many times the resolution that they are counted at."""
        return x.narrow(2, self.top * scale, self.count * scale)


def strips(x: Tensor, reach: int = 0) -> Iterator[Strip]:
    """Cut (B, C, H, W) into strips; into one where :func:`is_cut` says no.

    Args:
        x: The first input of the layers.
        reach: Rows above and below that an output row depends on.

    Yields:
        Strips from top to bottom, all but the last of the same number of rows.
    """
    height, rows = x.shape[2], _rows(x)
    for top in range(0, height, rows):
        count = min(rows, height - top)
        yield Strip(top, count, min(reach, top), min(reach, height - top - count))


@contextmanager
def plain_layers() -> Iterator[None]:
    """Run layers as in training for the length of a block: no strips, no products, every module by its own forward."""
    token = _plain.set(True)
    try:
        yield
    finally:
        _plain.reset(token)


def is_lean(x: Tensor) -> bool:
    """Return whether layers may skip what learning, autocast and other devices need."""
    if _plain.get():
        return False
    return torch.is_inference_mode_enabled() and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def is_cut(x: Tensor) -> bool:
    """Return whether there are several strips: of one large picture, in inference mode, on the CPU."""
    return _rows(x) < x.shape[2]


def _rows(x: Tensor) -> int:
    """Return the rows of a strip; all where none should be cut."""
    if x.shape[0] > 1 or not is_lean(x):
        return max(x.shape[2], 1)
    rows = max(4, _ELEMENTS * x.shape[2] // max(x.numel(), 1))
    return rows if _LEAST * rows <= x.shape[2] else max(x.shape[2], 1)

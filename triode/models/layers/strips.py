"""Layers on strips of rows: what lies between the convolutions of a strip stays in the cache.

A picture of two megapixels, at an eighth of its resolution and in 128 channels, is 16 MB. Layer by layer each pass over
it goes through memory, most of it mapped anew; strip by strip it does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

__all__ = ["RowLayers", "Strip", "by_rows", "is_cut", "is_lean", "plain_layers", "strips"]

_ELEMENTS: Final = 1 << 19
"""Of the first input in a strip: 2 MB. Where there is less, calls cost more than memory."""
_LEAST: Final = 2
"""Strips; what would not fill as many is small enough as it is."""


_plain: ContextVar[bool] = ContextVar("plain", default=False)

RowLayers = Callable[..., Tensor]
"""``layers(own, x, *more)``: the output of the rows ``own`` of ``x``, a slice; those outside are only looked at.

``more`` are inputs of those rows alone, at whole multiples of the resolution of ``x``.
"""


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


def by_rows(layers: RowLayers, x: Tensor, *more: Tensor, reach: int = 0) -> Tensor:
    """Run layers on strips of rows, where that is quicker: one large picture, in inference mode, on the CPU.

    What comes out differs by rounding at most.

    Args:
        layers: See :data:`RowLayers`; called once, with everything, where no strips are cut.
        x: (B, C, H, W).
        more: Further inputs, (B, ., k H, .) with whole numbers k.
        reach: Rows above and below that an output row depends on.

    Returns:
        (B, O, s H, .) with a whole number s.
    """
    height = x.shape[2]
    if not is_cut(x):
        return layers(slice(None), x, *more)
    out: Tensor | None = None
    for strip in strips(x, reach):
        y = layers(strip.own, x[:, :, strip.around], *(strip.part(m, m.shape[2] // height) for m in more))
        if out is None:
            last = y.is_contiguous(memory_format=torch.channels_last) and not y.is_contiguous()
            shape = (*y.shape[:2], y.shape[2] // strip.count * height, y.shape[3])
            kept = torch.channels_last if last else torch.contiguous_format
            out = torch.empty(shape, dtype=y.dtype, memory_format=kept)
        strip.part(out, out.shape[2] // height).copy_(y)
    return x if out is None else out


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
    """Return whether :func:`by_rows` cuts this input into strips."""
    return _rows(x) < x.shape[2]


def _rows(x: Tensor) -> int:
    """Return the rows of a strip; all where none should be cut."""
    if x.shape[0] > 1 or not is_lean(x):
        return max(x.shape[2], 1)
    rows = max(4, _ELEMENTS * x.shape[2] // max(x.numel(), 1))
    return rows if _LEAST * rows <= x.shape[2] else max(x.shape[2], 1)

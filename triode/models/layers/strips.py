"""Layers on strips of rows: what lies between the convolutions of a strip stays in the cache.

A picture of two megapixels, at an eighth of its resolution and in 128 channels, is 16 MB. Layer by layer each pass over
it goes through memory, most of it mapped anew; strip by strip it does not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

__all__ = ["RowLayers", "by_rows", "is_cut"]

_ELEMENTS: Final = 1 << 19
"""Of the first input in a strip: 2 MB. Where there is less, calls cost more than memory."""
_LEAST: Final = 2
"""Strips; what would not fill as many is small enough as it is."""


RowLayers = Callable[..., Tensor]
"""``layers(own, x, *more)``: the output of the rows ``own`` of ``x``, a slice; those outside are only looked at.

``more`` are inputs of those rows alone, at whole multiples of the resolution of ``x``.
"""


def by_rows(layers: RowLayers, x: Tensor, *more: Tensor, reach: int = 0, out: Tensor | None = None) -> Tensor:
    """Run layers on strips of rows, where that is quicker: one large picture, in inference mode, on the CPU.

    What comes out differs by rounding at most. Under autocast nothing is cut, as ``out`` may be of another type.

    Args:
        layers: See :data:`RowLayers`; called once, with everything, where no strips are cut.
        x: (B, C, H, W).
        more: Further inputs, (B, ., k H, .) with whole numbers k.
        reach: Rows above and below that an output row depends on.
        out: Memory for the output, if strips are cut; none of the inputs'.

    Returns:
        (B, O, s H, .) with a whole number s.
    """
    height = x.shape[2]
    rows = _strip(x)
    if rows >= height:
        return layers(slice(None), x, *more)
    for top in range(0, height, rows):
        count, above = min(rows, height - top), min(reach, top)
        around = x[:, :, top - above : top + count + reach]
        y = layers(slice(above, above + count), around, *(_part(m, top, count, height) for m in more))
        if out is None:
            last = y.is_contiguous(memory_format=torch.channels_last) and not y.is_contiguous()
            shape = (*y.shape[:2], y.shape[2] // count * height, y.shape[3])
            kept = torch.channels_last if last else torch.contiguous_format
            out = torch.empty(shape, dtype=y.dtype, memory_format=kept)
        _part(out, top, count, height).copy_(y)
    return x if out is None else out


def is_cut(x: Tensor) -> bool:
    """Return whether :func:`by_rows` cuts this input into strips."""
    return _strip(x) < x.shape[2]


def _part(x: Tensor, top: int, count: int, height: int) -> Tensor:
    """Return some rows of a tensor, counted at the resolution at which it has ``height``."""
    scale = x.shape[2] // height
    return x.narrow(2, top * scale, count * scale)


def _strip(x: Tensor) -> int:
    """Return the rows of a strip; all where none should be cut."""
    cut = torch.is_inference_mode_enabled() and not torch.is_autocast_enabled("cpu")
    if not cut or x.device.type != "cpu" or x.shape[0] > 1:
        return x.shape[2]
    rows = max(4, _ELEMENTS * x.shape[2] // max(x.numel(), 1))
    return rows if _LEAST * rows <= x.shape[2] else x.shape[2]

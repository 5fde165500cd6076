"""A plane interpolated to quarters of a sample once, so that blocks at any vector are looked up."""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from triode.models.video.vectors import QUARTERS

__all__ = ["Subsamples"]

_BEYOND: Final = 2
"""Whole samples before the first, from where on cubic interpolation sees the border alone."""
_CUBIC: Final = -0.75
"""Keys' parameter, as `torch.nn.functional.grid_sample` has it."""


class Subsamples:
    """Planes at quarters of a sample, cubic, the border repeated beyond it.

    Holds 16 samples for each of the plane.

    Args:
        planes: (B, 1, H, W) float32; 16 times their samples are less than 2**31.
        side: Side of the blocks that are looked up, in samples.
    """

    def __init__(self, planes: Tensor, side: int) -> None:
        height, width = planes.shape[2:]
        margin = side + _BEYOND  # so that a block beyond the border finds as many samples of it
        padded = F.pad(planes[:, 0].float(), (margin + 1,) * 4, mode="replicate")
        made = torch.stack(_between(torch.stack(_between(padded, 2), 1), 2), 2)
        self.samples = made.flatten()  # (B, phase of x, phase of y, rows, columns)
        self.first, self.last = -QUARTERS * margin, (QUARTERS * width, QUARTERS * height)
        self.columns, self.plane = made.shape[4], made.shape[3] * made.shape[4]
        self.batch = torch.arange(len(planes), device=planes.device) * made[0].numel()

    def offsets(self, x: Tensor, y: Tensor) -> Tensor:
        """Return where samples of a block lie from its first one, as :meth:`__call__` takes it.

        Args:
            x: Whole samples across, below ``side``; any shape.
            y: Whole samples down, of a shape that broadcasts with that of ``x``.

        Returns:
            (S,) int32, S the number of samples.
        """
        return (y * self.columns + x).flatten().to(torch.int32)

    def __call__(self, x: Tensor, y: Tensor, offsets: Tensor) -> Tensor:
        """Look up blocks.

        Args:
            x: (B, ...) int64, places of their first samples in quarters of a sample; anything.
            y: The same, of the same shape.
            offsets: (S,) which samples of each.

        Returns:
            (B, ..., S) float32.
        """
        # Whole blocks beyond the border are all alike.
        x, y = (p.clamp(self.first, last).sub_(self.first) for p, last in zip((x, y), self.last, strict=True))
        across = (x % QUARTERS) * (QUARTERS * self.plane) + x // QUARTERS + self.batch.view(-1, *[1] * (x.dim() - 1))
        place = across + ((y % QUARTERS) * self.plane + y // QUARTERS * self.columns)
        index = place[..., None].to(torch.int32) + offsets
        return self.samples.index_select(0, index.flatten()).view(index.shape)


def _between(x: Tensor, dim: int) -> list[Tensor]:
    """Return four tensors, three shorter along a dimension: what lies 0 to 3 quarters after each second sample."""
    around = [x.narrow(dim, first, x.shape[dim] - 3) for first in range(4)]
    made = [around[1]]
    for quarter in range(1, QUARTERS):
        # Keys' kernel at the distances of the four samples.
        near, far = quarter / QUARTERS, 1 - quarter / QUARTERS
        phase = around[0] * _outer(1 + near)
        for sample, weight in zip(around[1:], (_inner(near), _inner(far), _outer(1 + far)), strict=True):
            phase.add_(sample, alpha=weight)
        made.append(phase)
    return made


def _inner(distance: float) -> float:
    return ((_CUBIC + 2) * distance - (_CUBIC + 3)) * distance**2 + 1


def _outer(distance: float) -> float:
    return _CUBIC * (((distance - 5) * distance + 8) * distance - 4)

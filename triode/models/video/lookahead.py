"""How much of a frame the later ones of its group inherit, which encoders alone need.

What a frame has of the one before is not coded again: a first frame that is twice as good makes all that follow from it
better for nothing. How far that reaches depends on the clip. As in the lookahead of x264 ("macroblock tree"), what each
frame inherits is estimated from what motion compensation leaves of it, against what it costs on its own, at half the
resolution; in place of single blocks whole frames hand on what they have.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from triode.models.video.block_search import search, transformed_sum
from triode.models.video.vectors import BLOCK, compensate, relative

__all__ = ["heirs", "inherited"]

_PRICE: Final = 0.05
_PAIRS: Final = 8
"""Pairs of neighbouring frames that are looked at in a group, at most."""


@torch.no_grad()
def inherited(frame: Tensor, reference: Tensor) -> float:
    """Estimate the share of a frame that motion compensation takes from the one before.

    Args:
        frame: (1, 1, H, W) luma, at least 32 samples each way.
        reference: The same of the frame before, as it came in.

    Returns:
        From 0, for a new scene, to 1, for a still one: one less the ratio of sums of absolute Hadamard coefficients,
        of blocks that are predicted and of the same without their mean.
    """
    side = 2 * BLOCK
    height, width = (size // side * side for size in frame.shape[2:])
    x, before = (F.avg_pool2d(t[:, :, :height, :width], 2) for t in (frame, reference))
    none = torch.zeros(1, 2, x.shape[2] // BLOCK, x.shape[3] // BLOCK)
    (predicted,) = compensate([before], relative(search(x, before, none, torch.tensor([_PRICE]))))
    alone = transformed_sum(x, means=False)
    left = torch.minimum(transformed_sum(x - predicted), alone)
    total = float(alone.sum())
    return 1 - float(left.sum()) / total if total else 1.0


def heirs(count: int, luma: Callable[[int], Tensor]) -> float:
    """Estimate how many later frames' worth of itself the first frame of a group leaves.

    Args:
        count: Frames of the group.
        luma: Gives frame i, (1, 1, H, W).

    Returns:
        The sum over the later frames of what each still has of the first, from 0 to ``count - 1``; some pairs of frames
        stand for all.
    """
    if count < 2 or min(luma(0).shape[2:]) < 2 * BLOCK:
        return 0.0
    apart = -(-(count - 1) // _PAIRS)
    shares = [inherited(luma(i), luma(i - 1)) for i in range(1, count, apart)]
    return _reach([shares[(i - 1) // apart] for i in range(1, count)])


def _reach(shares: Sequence[float]) -> float:
    left, total = 1.0, 0.0
    for share in shares:
        left *= share
        total += left
    return total

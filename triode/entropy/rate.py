"""Rate points: per-point channel tables, interpolated so that one model covers a whole range of rates.

A rate point ``q`` is a number in [0, 63]; anchors are spread evenly over it and values in between are interpolated
linearly, in the logarithm for gains (gain units: Cui et al., CVPR 2021).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

RATE_POINTS = 64
"""Number of rate points a stream can name: 0 (smallest) to 63 (best)."""


def interpolate_anchors(table: Tensor, q: Tensor) -> Tensor:
    """Interpolate rows of a table linearly at rate points.

    Args:
        table: (A, C) float, one row an anchor; anchor a stands at ``q = 63 a / (A - 1)``.
        q: (B,) float in [0, 63].

    Returns:
        (B, C) float.
    """
    last = table.shape[0] - 1
    if last == 0:
        return table.expand(q.shape[0], -1)
    position = q.to(table.dtype).clamp(0, RATE_POINTS - 1) * (last / (RATE_POINTS - 1))
    low = position.floor().clamp(max=last - 1)
    fraction = (position - low)[:, None]
    rows = low.long()
    return table[rows] * (1 - fraction) + table[rows + 1] * fraction


class RateGain(nn.Module):
    """Scale channels by a learned gain of the rate point, interpolated in the logarithm.

    Args:
        channels: Number of channels C.
        anchors: Number of learned rate points A.
        init: (A,) positive initial gains, all ones when absent.
    """

    def __init__(self, channels: int, anchors: int = 8, init: Tensor | None = None) -> None:
        super().__init__()
        start = torch.zeros(anchors) if init is None else init.log()
        self.log_gain = nn.Parameter(start[:, None].repeat(1, channels))

    def gain(self, q: Tensor) -> Tensor:
        """Return the (B, C) gains at rate points ``q`` (B,)."""
        return interpolate_anchors(self.log_gain, q).exp()

    def at(self, point: int) -> Tensor:
        """Return the gains at one rate point, (1, C, 1, 1), in two operators: for networks of many small ones."""
        last = self.log_gain.shape[0] - 1
        position = point * last / (RATE_POINTS - 1)
        low = min(int(position), max(last - 1, 0))
        between = torch.lerp(self.log_gain[low], self.log_gain[min(low + 1, last)], position - low)
        return between.exp()[None, :, None, None]

    def forward(self, x: Tensor, q: Tensor) -> Tensor:
        """Scale ``x`` (B, C, H, W) by the gains at ``q`` (B,)."""
        return x * self.gain(q)[:, :, None, None].to(x.dtype)


class RateBias(nn.Module):
    """Add a learned bias of the rate point to each channel: how an entropy network learns which rate it serves.

    Args:
        channels: Number of channels C.
        anchors: Number of learned rate points A.
    """

    def __init__(self, channels: int, anchors: int = 8) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(anchors, channels))

    def forward(self, x: Tensor, q: Tensor) -> Tensor:
        """Add to ``x`` (B, C, H, W) the bias at ``q`` (B,)."""
        return x + interpolate_anchors(self.bias, q)[:, :, None, None].to(x.dtype)

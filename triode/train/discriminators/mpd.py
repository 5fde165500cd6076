"""Multi-period discriminator (HiFi-GAN: Kong et al., NeurIPS 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from triode.train.discriminators.layers import Judge, conv2d
from triode.train.discriminators.verdict import Discriminator, Verdict

__all__ = ["MultiPeriodDiscriminator"]

_SLOPE = 0.1
_STRIDES = (3, 3, 3, 3, 1)


class MultiPeriodDiscriminator(Discriminator):
    """A judge for each period p: the signal in rows of p samples, convolved along the columns.

    Args:
        channels: Channels C of the signals.
        periods: In samples.
        width: Channels of the first layer; the following have 4, 16, 32 and 32 times as many.
    """

    def __init__(self, channels: int = 1, periods: Sequence[int] = (2, 3, 5, 7, 11), width: int = 32) -> None:
        super().__init__()
        self.periods = tuple(periods)
        widths = [channels, width, 4 * width, 16 * width, 32 * width, 32 * width]
        self.judges = nn.ModuleList(
            Judge(
                [conv2d(i, o, (5, 1), (stride, 1)) for (i, o), stride in zip(pairwise(widths), _STRIDES, strict=True)],
                conv2d(widths[-1], 1, (3, 1)),
                _SLOPE,
            )
            for _ in self.periods
        )

    def forward(self, x: Tensor) -> Verdict:
        """Judge signals (B, C, T), T >= the longest period.

        Raises:
            ValueError: If they are shorter.
        """
        if x.shape[-1] < max(self.periods):
            raise ValueError(f"Signals must have at least {max(self.periods)} samples, but got {x.shape[-1]}")
        results = []
        for period, judge in zip(self.periods, self.judges, strict=True):
            rows = F.pad(x, (0, -x.shape[-1] % period), "reflect")
            results.append(judge(rows.reshape(*x.shape[:2], -1, period)))
        return Verdict(tuple(logits for logits, _ in results), tuple(features for _, features in results))

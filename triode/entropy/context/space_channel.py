"""Parameter network of ELIC: unevenly grouped space-channel context (He et al., CVPR 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from triode.entropy.context.masked import CheckerboardConv2d
from triode.entropy.context.schedule import space_channel
from triode.entropy.exact.scale_index import ScaleToIndex

_CONTEXT_WIDTHS = (224, 128)


class SpaceChannelParameters(nn.Module):
    """Means and scales of channel groups, each in two checkerboard steps (``space_channel`` schedule).

    A group sees the hyper-features, all groups before it through three 5x5 convolutions, and, in its second step, its
    own anchors through a checkerboard convolution; three 1x1 convolutions join them. Layers and widths are those of
    CompressAI's ``elic2022-official``.

    Args:
        groups: Channels of each group, in coding order.
        hyper: Channels H of the hyper-features.
    """

    def __init__(self, groups: Sequence[int], hyper: int) -> None:
        super().__init__()
        self.schedule = space_channel(groups)
        starts = [sum(groups[:k]) for k in range(len(groups))]
        # Group 0 has no group before it.
        self.channel_context = nn.ModuleList(
            _channel_context(start, 2 * size) if start else nn.Identity()
            for start, size in zip(starts, groups, strict=True)
        )
        self.spatial_context = nn.ModuleList(CheckerboardConv2d(size, 2 * size) for size in groups)
        self.aggregation = nn.ModuleList(
            _ramp(hyper + (4 if start else 2) * size, 2 * size, least=hyper)
            for start, size in zip(starts, groups, strict=True)
        )
        self.to_index = ScaleToIndex()

    def stage(self, step: int, y_hat: Tensor, hyper: Tensor, features: Tensor, q: Tensor) -> Tensor:
        """Return what both steps of a group share; see :class:`~triode.entropy.context.model.StagedNetwork`.

        Returns:
            (B, H, h, w) hyper-features, behind (B, 2 G, h, w) channel context except for the first group.
        """
        if step % 2:
            return features
        start = self.schedule.steps[step][0].start
        if start == 0:
            return hyper
        return torch.cat([self.channel_context[step // 2](y_hat[:, :start]), hyper], 1)

    def forward(self, step: int, y_hat: Tensor, hyper: Tensor, q: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return mean and ladder index of both entries of a step; ``hyper`` is what :meth:`stage` gave.

        Args:
            step: Even for anchors, odd for the rest.
            y_hat: (B, M, h, w) elements decoded so far, zero elsewhere.
            hyper: Features of the group.
            q: Not looked at.
        """
        entries = self.schedule.steps[step]
        group = y_hat[:, entries[0].start : entries[0].stop]
        if step % 2:
            spatial = self.spatial_context[step // 2](group)
        else:  # Anchors have no spatial context, not even its bias.
            spatial = group.new_zeros((group.shape[0], 2 * group.shape[1], *group.shape[2:]))
        features = torch.cat([spatial, hyper], 1)
        # The rest is pointwise: compute it where this step codes, both lattices as one batch.
        lattices = torch.cat([features[:, :, e.dy :: e.stride, e.dx :: e.stride] for e in entries])
        scales, means = self.aggregation[step // 2](lattices).chunk(2, 1)
        return list(zip(means.chunk(2), self.to_index(scales).chunk(2), strict=True))


def _channel_context(in_channels: int, out_channels: int) -> nn.Sequential:
    widths = (in_channels, *_CONTEXT_WIDTHS, out_channels)
    a, b, c = (nn.Conv2d(i, o, 5, padding=2) for i, o in pairwise(widths))
    return nn.Sequential(a, nn.ReLU(), b, nn.ReLU(), c)


def _ramp(first: int, last: int, least: int) -> nn.Sequential:
    """Three 1x1 convolutions whose widths fall evenly, but inside not below ``least``."""
    inside = [max(least, first + i * (last - first) // 3) for i in (1, 2)]
    widths = (first, *inside, last)
    a, b, c = (nn.Conv2d(i, o, 1) for i, o in pairwise(widths))
    return nn.Sequential(a, nn.ReLU(), b, nn.ReLU(), c)

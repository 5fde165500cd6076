"""Entropy networks over time: hyper-transforms and the parameter network of the four-step context, (B, C, 1, F).

Networks whose text says so become integers at export, see :func:`triode.entropy.exact.layers.exact_twin`.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from triode.entropy.context.schedule import TIME_PHASES, time_quadtree
from triode.entropy.gaussian import INDEX_STEP, SCALE_MIN
from triode.entropy.rate import RateBias, RateGain

__all__ = ["TimeDown", "TimeHyperAnalysis", "TimeHyperSynthesis", "TimeParameters", "TimeUp"]

_SLOPE = 0.125


class TimeDown(nn.Module):
    """Pointwise convolution over runs of frames: (B, I, 1, fF) to (B, O, 1, F).

    Args:
        in_channels: Channels I.
        out_channels: Channels O.
        factor: Frames of a run f.
    """

    def __init__(self, in_channels: int, out_channels: int, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv2d(in_channels * factor, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """See above."""
        b, c, _, f = x.shape
        runs = x.reshape(b, c, f // self.factor, self.factor).transpose(2, 3)
        y: Tensor = self.conv(runs.reshape(b, c * self.factor, 1, f // self.factor))
        return y


class TimeUp(nn.Module):
    """Pointwise convolution to runs of frames: (B, I, 1, F) to (B, O, 1, fF); arguments as in :class:`TimeDown`."""

    def __init__(self, in_channels: int, out_channels: int, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv2d(in_channels, out_channels * factor, 1)

    def forward(self, x: Tensor) -> Tensor:
        """See above."""
        b, _, _, f = x.shape
        runs: Tensor = self.conv(x).reshape(b, -1, self.factor, f).transpose(2, 3)
        return runs.reshape(b, -1, 1, f * self.factor)


class TimeHyperAnalysis(nn.Module):
    """h_a: latent (B, M, 1, F), gain taken out, to z (B, Z, 1, F/4); it sees magnitudes beside the values.

    Args:
        latent: Channels M.
        hidden: Channels inside.
        hyper: Channels Z.
        anchors: Learned rate points.
    """

    def __init__(self, latent: int, hidden: int, hyper: int, anchors: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(2 * latent, hidden, 1),
            nn.LeakyReLU(_SLOPE),
            TimeDown(hidden, hidden),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(hidden, hidden, (1, 3), padding=(0, 1), groups=hidden),
            TimeDown(hidden, hyper),
        )
        self.gain = RateGain(hyper, anchors)

    def forward(self, y: Tensor, q: Tensor) -> Tensor:
        """See above; ``q`` (B,) are rate points."""
        z: Tensor = self.gain(self.net(torch.cat([y, y.abs()], 1)), q).float()
        return z


class TimeHyperSynthesis(nn.Module):
    """h_s: z (B, Z, 1, F/4) to features (B, H, 1, F). Becomes integers.

    Args:
        hyper: Channels Z.
        hidden: Channels inside.
        features: Channels H.
        anchors: Learned rate points.
    """

    def __init__(self, hyper: int, hidden: int, features: int, anchors: int) -> None:
        super().__init__()
        self.gain = RateGain(hyper, anchors)
        self.stem = nn.Conv2d(hyper, hidden, (1, 3), padding=(0, 1))
        self.bias = RateBias(hidden, anchors)
        self.act = nn.LeakyReLU(_SLOPE)
        self.net = nn.Sequential(
            TimeUp(hidden, hidden),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(hidden, hidden, (1, 3), padding=(0, 1), groups=hidden),
            TimeUp(hidden, features),
        )

    def forward(self, z: Tensor, q: Tensor) -> Tensor:
        """See above; ``q`` (B,) are rate points."""
        features: Tensor = self.net(self.act(self.bias(self.stem(self.gain(z, q)), q)))
        return features


class TimeParameters(nn.Module):
    """Means and ladder indices of the four steps in time. Becomes integers.

    Each step sees values and magnitudes of what is decoded so far through a pointwise projection and a depthwise filter
    over time, adds the hyper-features, and ends in one projection a phase, as the phases code different groups.

    Args:
        latent: Channels M of the latent, a multiple of 4.
        context: Channels of the context.
        features: Channels of the hyper-features.
        hidden: Channels before the last projections.
        gain: (A,) gains that the latent is scaled by at the learned rate points, before training.

    Raises:
        ValueError: If the channels are no multiple of 4.
    """

    def __init__(self, latent: int, context: int, features: int, hidden: int, gain: Tensor) -> None:
        super().__init__()
        self.schedule = time_quadtree(latent)
        self.group, anchors = latent // 4, len(gain)
        self.normalise = RateGain(latent, anchors, 1 / gain)
        self.project = nn.ModuleList(nn.Conv2d(2 * latent, context, 1) for _ in range(3))
        self.temporal = nn.ModuleList(
            nn.Conv2d(context, context, (1, 5), padding=(0, 2), groups=context) for _ in range(3)
        )
        self.expand = nn.ModuleList(nn.Conv2d(context, features, 1) for _ in range(3))
        self.fuse = nn.ModuleList(nn.Conv2d(features, hidden, 1) for _ in range(4))
        self.output = nn.ModuleList(nn.Conv2d(4 * hidden, 4 * 2 * self.group, 1, groups=4) for _ in range(4))
        self.act = nn.LeakyReLU(_SLOPE)
        self.mean_gain = RateGain(latent, anchors, gain)
        self.index_bias = RateBias(latent, anchors)
        with torch.no_grad():
            self.index_bias.bias.copy_((gain.log() / INDEX_STEP)[:, None].expand(-1, latent))

    @torch.no_grad()
    def init_deviations(self, deviations: Tensor) -> None:
        """Start with the ladder indices of channels (M,) of these standard deviations, gain not applied.

        Half of them are taken, as networks soon know better than the mean over all of a recording.
        """
        index = torch.log(deviations.clamp_min(1e-4) * 0.5 / SCALE_MIN) / INDEX_STEP
        for step, layer in enumerate(self.output):
            start = torch.zeros(4, 2, self.group)
            for g, part in enumerate(index.chunk(4)):
                start[TIME_PHASES[(step + g) % 4], 1] = part
            conv = cast(nn.Conv2d, layer)
            conv.weight.mul_(0.1)
            cast(nn.Parameter, conv.bias).copy_(start.flatten())

    def forward(self, step: int, y_hat: Tensor, hyper: Tensor, q: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return means and indices; see :class:`~triode.entropy.context.model.ParameterNetwork`."""
        if step:
            seen = self.normalise(y_hat, q)
            context = self.act(self.project[step - 1](torch.cat([seen, seen.abs()], 1)))
            hyper = hyper + self.expand[step - 1](self.act(self.temporal[step - 1](context)))
        t = self.act(self.fuse[step](self.act(hyper)))
        b, c, _, f = t.shape
        phases = t.reshape(b, c, f // 4, 4).permute(0, 3, 1, 2).reshape(b, 4 * c, 1, f // 4)
        out = self.output[step](phases).reshape(b, 4, 2, self.group, 1, f // 4)
        # Entry g of this step stands at one phase; put the phases into the order of the groups.
        order = [TIME_PHASES[(step + g) % 4] for g in range(4)]
        out = out[:, order].transpose(1, 2).reshape(b, 2, 4 * self.group, 1, f // 4)
        mean, index = self.mean_gain(out[:, 0], q), self.index_bias(out[:, 1], q)
        return list(zip(mean.chunk(4, 1), index.chunk(4, 1), strict=True))

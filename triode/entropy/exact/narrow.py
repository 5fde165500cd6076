"""Integer layers narrow enough for float32, which multiplies twice as fast as float64 and moves half as much.

Activations are integers in Q5.6 (12-bit signed, 6 fractional bits) inside of a network, weights have as many bits as
the bound allows:

    acc = sum(W * x) + B                     Q(s + 6), an integer of magnitude below 2**24
    y   = clamp(floor(acc * 2**-s))          Q5.6
    y   = clamp(floor(acc * 2**(4 - s)))     Q13.10, of an :class:`OutputConv2d`

Networks may add two activations before the next layer. The same integers come of float64, which layers take where
float32 may not be what it says: processors and settings that multiply it in fewer digits. What enters such a network
is Q13.10 and passes a :class:`FirstRateGain`; what leaves it is Q13.10 again, which float32 holds as well.
"""

from __future__ import annotations

import math
import platform
from functools import cache
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triode.entropy.exact.layers import (
    FRACTION_BITS,
    ExactConv2d,
    ExactLeakyReLU,
    ExactRateBias,
    ExactRateGain,
    Twins,
    registered_twins,
    saturate,
)
from triode.entropy.rate import RATE_POINTS, RateBias, RateGain, interpolate_anchors

__all__ = [
    "NARROW_BITS",
    "NARROW_MAX",
    "FirstRateGain",
    "InnerRateBias",
    "OutputConv2d",
    "narrow_twins",
    "working_type",
]

NARROW_BITS: Final = 6
"""Fractional bits of an activation."""
NARROW_MAX: Final = (1 << 11) - 1
"""Largest activation, in units of 2**-6."""
_PRECISION: Final[Any] = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
"""What PyTorch may round the factors of float32 products to."""
_WIDER: Final = FRACTION_BITS - NARROW_BITS


@cache
def _is_known() -> bool:
    # oneDNN multiplies float32 as bfloat16 on some processors of other makes, if the environment says so.
    return platform.machine().lower() in ("x86_64", "amd64")


def working_type() -> torch.dtype:
    """Return the type that narrow integers are multiplied in: float32 where nothing rounds it, float64 elsewhere."""
    whole = _is_known() and _PRECISION.fp32_precision in ("none", "ieee")
    return torch.float32 if whole and not torch.is_autocast_enabled("cpu") else torch.float64


class FirstRateGain(RateGain):
    """A gain through which activations enter a network; narrow networks take them from there."""


class InnerRateBias(RateBias):
    """A bias that is added inside of a network."""


class OutputConv2d(nn.Conv2d):
    """A pointwise convolution whose output leaves a network."""


class NarrowConv2d(ExactConv2d):
    """Integer twin of ``nn.Conv2d`` in Q5.6: see the module's text.

    Args:
        conv: The float layer.

    Raises:
        ValueError: If the layer uses what the twin lacks, or biases leave no bits to the weights.
    """

    fraction_bits = NARROW_BITS
    largest = NARROW_MAX
    summands = 2
    digits = 24

    def _quantised(self, w: Tensor, b: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        while True:
            made = super()._quantised(w, b, shift)
            beyond = (self.bound(*made[1:]) >= 2.0**self.digits) & (shift > 1)
            if not bool(beyond.any()):
                return made
            shift = shift - beyond.to(shift.dtype)

    def kind(self) -> torch.dtype:
        """Return :func:`working_type`."""
        return working_type()

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, I, H, W) integers, Q5.6; see :class:`~triode.entropy.exact.layers.ExactConv2d`."""
        return super().forward(x.to(working_type()))

    def limited(self, acc: Tensor) -> Tensor:
        """Return sums as activations, in place."""
        return acc.floor_().clamp_(-NARROW_MAX, NARROW_MAX)


class NarrowOutputConv2d(NarrowConv2d):
    """Integer twin of :class:`OutputConv2d`: from Q5.6 to Q13.10."""

    finer = _WIDER

    def limited(self, acc: Tensor) -> Tensor:
        """Return sums as activations in Q13.10, in place."""
        return saturate(acc.floor_())


class NarrowLeakyReLU(ExactLeakyReLU):
    """Integer twin of ``nn.LeakyReLU`` in Q5.6: negative values are rounded, as a floor would shift what is so coarse.

    Args:
        slope: Slope, a power of two, so that the product is exact.

    Raises:
        ValueError: If the slope is something else.
    """

    def __init__(self, slope: float) -> None:
        super().__init__(slope)
        if slope <= 0 or math.frexp(slope)[0] != 0.5:
            raise ValueError(f"Argument `slope` must be a power of two, but got {slope}")
        self.exact_slope = slope

    def forward(self, x: Tensor) -> Tensor:
        """Apply to integers of any shape."""
        return F.leaky_relu(x, self.exact_slope).round_()


class NarrowRateGain(ExactRateGain):
    """Integer twin of :class:`FirstRateGain`: ``clamp(round(x * G * 2**-20))``, from Q13.10 to Q5.6.

    The product is rounded to float32, then to an integer (to even where two are as near), both as IEEE 754 says. That
    of float32 by float32 is rounded so, too; that of float64 by float64 is exact until then.
    """

    largest = 1 << 24
    """As float32 holds every integer up to it."""

    def rows(self) -> Tensor:
        """Return the gains as they are multiplied by, (64, C, 1, 1) float64."""
        return super().rows() / (1 << _WIDER)

    def forward(self, x: Tensor, q: Tensor) -> Tensor:
        """Scale ``x`` (B, C, H, W), Q13.10, by the gains of the integer rate points ``q`` (B,)."""
        kind, row = working_type(), self.ready()[q.long()]
        # Elementwise products are not what settings of precision round.
        out = x * row.float() if x.dtype == torch.float32 else (x.double() * row).float()
        return out.round_().clamp_(-NARROW_MAX, NARROW_MAX).to(kind)


class LastRateGain(ExactRateGain):
    """Integer twin of ``RateGain`` behind narrow layers; its output is held as theirs is."""

    def forward(self, x: Tensor, q: Tensor) -> Tensor:
        """Scale ``x`` (B, C, H, W), Q13.10, by the gains of the integer rate points ``q`` (B,)."""
        return super().forward(x, q).to(working_type())


class LastRateBias(ExactRateBias):
    """Integer twin of ``RateBias`` behind narrow layers; its output is held as theirs is."""

    def forward(self, x: Tensor, q: Tensor) -> Tensor:
        """Add the bias of the integer rate points ``q`` (B,) to ``x`` (B, C, H, W), Q13.10."""
        return saturate(x + self.ready()[q.long()].to(x.dtype))  # Two of 24 bits: float32 holds their sum.


class NarrowRateBias(ExactRateBias):
    """Integer twin of :class:`InnerRateBias`, in Q5.6.

    Args:
        source: The float module.

    Raises:
        ValueError: If a bias is not finite.
    """

    def __init__(self, source: InnerRateBias) -> None:
        super().__init__(source)
        rows = interpolate_anchors(source.bias.detach().double(), torch.arange(RATE_POINTS, dtype=torch.float64))
        rounded = torch.round(rows * (1 << NARROW_BITS)).clamp_(-NARROW_MAX, NARROW_MAX)
        self.bias = rounded.to(torch.int32)

    def forward(self, x: Tensor, q: Tensor) -> Tensor:
        """Add the bias of the integer rate points ``q`` (B,) to ``x`` (B, C, H, W)."""
        return (x + self.ready()[q.long()].to(x.dtype)).clamp_(-NARROW_MAX, NARROW_MAX)


def narrow_twins() -> Twins:
    """Return what builds the narrow integer twins of leaf layers: the ``twins`` of a network that wants them."""
    return {
        **registered_twins(),
        nn.Conv2d: NarrowConv2d,
        OutputConv2d: NarrowOutputConv2d,
        FirstRateGain: NarrowRateGain,
        InnerRateBias: NarrowRateBias,
        RateGain: LastRateGain,
        RateBias: LastRateBias,
        nn.LeakyReLU: lambda m: NarrowLeakyReLU(m.negative_slope),
    }

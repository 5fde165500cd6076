"""Integer layers: entropy networks whose output is the same integer on every machine.

Activations are integers in Q13.10 (24-bit signed, 10 fractional bits), carried in float64. Weights are int16 with a
power-of-two scale a channel, ``w = W * 2**-s``; biases are int64 in Q(s + 10). A layer computes

    acc = sum(W * x) + B                     Q(s + 10), an integer of magnitude below 2**53
    y   = clamp(floor(acc * 2**-s))          Q13.10

``B`` contains ``2**(s - 1)``, so that the floor rounds to nearest. Every partial sum is an integer below 2**53 in
magnitude, hence exact in float64 in any order, with or without fused multiply-add, on any IEEE-754 machine. Networks
may add up to four activations before the next layer, without a clamp; the bounds leave room for that. The
algorithm is fixed to matrix products and shifted sums (never Winograd or FFT, which multiply by fractions).
Reference: Ballé, Johnston & Minnen, "Integer networks for data compression with latent-variable models", ICLR 2019;
post-training form after He et al., arXiv 2202.07513.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triode.entropy.exact.state import ExactModule
from triode.entropy.rate import RATE_POINTS, RateBias, RateGain, interpolate_anchors

FRACTION_BITS = 10
"""Fractional bits of every activation (Q13.10)."""
ACTIVATION_MAX = (1 << 23) - 1
"""Largest activation, in units of 2**-10."""
_WEIGHT_MAX = (1 << 15) - 1
_SLOPE_BITS = 16
_MAX_SHIFT = 30
_GAIN_MAX = 1 << 27


def to_fixed(x: Tensor) -> Tensor:
    """Round a float tensor to Q13.10 integers in float64, saturating."""
    return torch.round(x.double() * (1 << FRACTION_BITS)).clamp_(-ACTIVATION_MAX, ACTIVATION_MAX)


def from_fixed(x: Tensor) -> Tensor:
    """Return Q13.10 integers as float32 values."""
    return x.float() * 2.0**-FRACTION_BITS  # 24 bits fit in either type.


def saturate(x: Tensor, least: int = -ACTIVATION_MAX) -> Tensor:
    """Limit activations to Q13.10, or to what lies between ``least`` and its maximum, in place."""
    return x.clamp_(least, ACTIVATION_MAX)


class _ExactWeights(ExactModule):
    """Integer weights (O, I/groups, kh, kw), bias and shift, with the bound check that makes floats exact."""

    fraction_bits = FRACTION_BITS
    """Of the inputs."""
    largest = ACTIVATION_MAX
    """Input, of which as many as ``summands`` may have been added."""
    summands = 4
    digits = 53
    """Of the floats that sums are made in."""
    finer = 0
    """Fractional bits of the output beyond those of the input."""
    weight: Tensor
    bias: Tensor
    shift: Tensor

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        w = weight.detach().double()
        if not bool(w.isfinite().all()) or float(w.abs().max()) * 2 > _WEIGHT_MAX:
            raise ValueError(f"Weights must be finite and at most {_WEIGHT_MAX / 2}")
        out = w.shape[0]
        peak = w.reshape(out, -1).abs().amax(1).clamp_min(1e-12)
        # From the exponent, as a library's logarithm may differ between machines.
        shift = (torch.frexp(_WEIGHT_MAX / peak).exponent.long() - 1).clamp_(1, _MAX_SHIFT)
        b = torch.zeros(out, dtype=torch.float64) if bias is None else bias.detach().double()
        if not bool(b.isfinite().all()):
            raise ValueError("Biases must be finite, and small enough for exact sums")
        shift, quantised, b = self._quantised(w, b, shift)
        self.register_buffer("weight", quantised.to(torch.int16))
        self.register_buffer("bias", b.to(torch.int64))
        self.register_buffer("shift", shift.to(torch.int8))
        self._ready: tuple[Tensor, Tensor, Tensor] | None = None
        self.check()

    def _quantised(self, w: Tensor, b: Tensor, shift: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return shifts, weights and biases as integers, (O,), (O, ...) and (O,)."""
        scale = torch.bitwise_left_shift(torch.ones_like(shift), shift).double()
        quantised = torch.round(w * scale.view(-1, *([1] * (w.dim() - 1)))).clamp_(-_WEIGHT_MAX, _WEIGHT_MAX)
        return (
            shift,
            quantised,
            torch.round(b * scale * (1 << self.fraction_bits)) + (scale / (2 << self.finer)).floor(),
        )

    def bound(self, w: Tensor, b: Tensor) -> Tensor:
        """Return what sums (O,) of these weights (O, ...) and biases (O,) cannot exceed in magnitude."""
        return w.reshape(len(w), -1).abs().sum(1) * (self.summands * self.largest) + b.abs()

    def check(self) -> None:
        """Check that no partial sum can leave the range in which floats are exact.

        Raises:
            ValueError: If a channel's ``L1(W) * max|x| + |B|`` reaches it, where ``x`` may be a sum of several
                activations, or if a shift is out of range.
        """
        bound = self.bound(self.weight.double(), self.bias.double())
        if not bool((bound < 2.0**self.digits).all()):
            most = float(bound.max().log2())
            raise ValueError(f"An integer layer may reach 2**{most:.1f}; it must stay below 2**{self.digits}")
        if int(self.shift.min()) < 1 or int(self.shift.max()) > _MAX_SHIFT:
            raise ValueError(f"Shifts must be in [1, {_MAX_SHIFT}]")

    def kind(self) -> torch.dtype:
        """Return the type of the floats that sums are made in."""
        return torch.float64

    def floats(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return weight (O, -1), bias (O, 1) and 2**-shift (O, 1), as floats that hold integers or powers of two."""
        kind, ready = self.kind(), self._ready
        if ready is None or ready[0].dtype != kind:
            self.check()
            # Integer shifts and a division are exact everywhere; library powers need not be.
            factor = 1.0 / torch.bitwise_left_shift(torch.ones_like(self.bias), self.shift.long()).double()[:, None]
            factor = factor * (1 << self.finer)
            flat = self.weight.double().reshape(self.weight.shape[0], -1)
            # Fold the power of two in: products and sums only change their exponent, not one digit.
            weight, bias = flat * factor, self.bias.double()[:, None] * factor
            ready = self._ready = (weight.to(kind), bias.to(kind), factor.to(kind))
        return ready

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        self._ready = None  # It would stay behind when the layer moves to another device.
        out: Self = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return out

    def _load_from_state_dict(self, *args: Any) -> None:
        self._ready = None
        super()._load_from_state_dict(*args)
        self.check()


class ExactConv2d(_ExactWeights):
    """Integer twin of ``nn.Conv2d`` (zero padding; groups 1 or depthwise; dilation 1).

    Args:
        conv: The float layer.
        least: What smaller results become; 0 joins a ReLU.

    Raises:
        ValueError: If the layer uses what the twin lacks, or its sums may exceed 2**53.
    """

    def __init__(self, conv: nn.Conv2d, least: int = -ACTIVATION_MAX) -> None:
        if conv.padding_mode != "zeros" or conv.dilation != (1, 1) or isinstance(conv.padding, str):
            raise ValueError("ExactConv2d needs zero padding given in numbers and dilation 1")
        super().__init__(conv.weight, conv.bias)
        self.kernel, self.stride, self.padding = conv.kernel_size, conv.stride, conv.padding
        self.groups, self.least = conv.groups, least

    def forward(self, x: Tensor) -> Tensor:
        """Convolve.

        Args:
            x: (B, I, H, W) float64 integers, Q13.10.

        Returns:
            (B, O, H', W') float64 integers, Q13.10.
        """
        weight, bias, _ = self.floats()
        b, channels, h, w = x.shape
        (kh, kw), (sh, sw), (ph, pw) = self.kernel, self.stride, self.padding
        oh, ow = (h + 2 * ph - kh) // sh + 1, (w + 2 * pw - kw) // sw + 1
        if self.groups == channels == weight.shape[0] and self.groups > 1:
            padded = F.pad(x, (pw, pw, ph, ph))
            acc = bias.view(1, -1, 1, 1).expand(b, channels, oh, ow).clone()
            for k in range(kh * kw):
                dy, dx = divmod(k, kw)
                view = padded[:, :, dy : dy + (oh - 1) * sh + 1 : sh, dx : dx + (ow - 1) * sw + 1 : sw]
                acc.addcmul_(view, weight[:, k].view(1, -1, 1, 1))
            return self.limited(acc)
        columns = x.reshape(b, channels, -1) if self._pointwise else F.unfold(x, self.kernel, 1, (ph, pw), self.stride)
        groups = self.groups
        if groups > 1:
            columns = columns.reshape(b * groups, -1, oh * ow)
            own = weight.reshape(1, groups, -1, weight.shape[1]).expand(b, -1, -1, -1).flatten(0, 1)
            start = bias.reshape(1, groups, -1, 1).expand(b, -1, -1, oh * ow).flatten(0, 1)
            acc = torch.baddbmm(start, own, columns).reshape(b, -1, oh * ow)
        else:
            acc = torch.baddbmm(bias.expand(b, -1, oh * ow), weight.expand(b, -1, -1), columns)
        return self.limited(acc).reshape(b, -1, oh, ow)

    def limited(self, acc: Tensor) -> Tensor:
        """Return sums as activations, in place."""
        return saturate(acc.floor_(), self.least)

    @property
    def _pointwise(self) -> bool:
        return self.kernel == (1, 1) and self.stride == (1, 1) and self.padding == (0, 0)


class ExactConvTranspose2d(_ExactWeights):
    """Integer twin of ``nn.ConvTranspose2d`` (groups 1, dilation 1).

    Args:
        conv: The float layer.

    Raises:
        ValueError: If the layer uses what the twin lacks, or its sums may exceed 2**53.
    """

    def __init__(self, conv: nn.ConvTranspose2d) -> None:
        if conv.groups != 1 or conv.dilation != (1, 1) or isinstance(conv.padding, str):
            raise ValueError("ExactConvTranspose2d needs groups 1 and dilation 1")
        super().__init__(conv.weight.transpose(0, 1), conv.bias)
        self.kernel, self.stride = conv.kernel_size, conv.stride
        self.padding, self.output_padding = conv.padding, conv.output_padding

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, transposed: (B, I, H, W) to (B, O, H', W'), float64 integers in Q13.10."""
        weight, bias, _ = self.floats()
        out = weight.shape[0]
        b, channels, h, w = x.shape
        (kh, kw), (sh, sw), (ph, pw) = self.kernel, self.stride, self.padding
        oh = (h - 1) * sh - 2 * ph + kh + self.output_padding[0]
        ow = (w - 1) * sw - 2 * pw + kw + self.output_padding[1]
        spread = weight.reshape(out, channels, kh * kw).permute(0, 2, 1).reshape(out * kh * kw, channels)
        columns = spread @ x.reshape(b, channels, -1)
        acc = F.fold(columns, (oh, ow), self.kernel, 1, self.padding, self.stride) + bias.view(1, -1, 1, 1)
        return saturate(acc.floor_())


class ExactLeakyReLU(nn.Module):
    """Integer twin of ``nn.LeakyReLU``: negative values become ``floor(x * K * 2**-16)``.

    Args:
        slope: Slope in [0, 1]; rounded to K * 2**-16.

    Raises:
        ValueError: If the slope is out of range.
    """

    def __init__(self, slope: float) -> None:
        super().__init__()
        if not 0 <= slope <= 1:
            raise ValueError(f"Argument `slope` must be in [0, 1], but got {slope}")
        self.slope = round(slope * (1 << _SLOPE_BITS))

    def forward(self, x: Tensor) -> Tensor:
        """Apply to float64 integers of any shape."""
        # Both factors and their product are exact in float64, and what is positive is an integer already.
        return F.leaky_relu(x, self.slope * 2.0**-_SLOPE_BITS).floor_()


class ExactRows(ExactModule, ABC):
    """A row of integers a rate point, kept as they are computed with; loading others drops what was kept."""

    def __init__(self) -> None:
        super().__init__()
        self._ready: Tensor | None = None

    @abstractmethod
    def rows(self) -> Tensor:
        """Return the rows as they are computed with, (64, C, 1, 1) float64."""

    def ready(self) -> Tensor:
        """Return :meth:`rows`, made once."""
        if self._ready is None:
            self._ready = self.rows()
        return self._ready

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        self._ready = None  # It would stay behind when the layer moves to another device.
        out: Self = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        return out

    def _load_from_state_dict(self, *args: Any) -> None:
        self._ready = None
        super()._load_from_state_dict(*args)


class ExactRateBias(ExactRows):
    """Integer twin of :class:`~triode.entropy.rate.RateBias`: one bias a rate point, in Q13.10.

    Args:
        source: The float module.

    Raises:
        ValueError: If a bias is not finite.
    """

    bias: Tensor

    def __init__(self, source: RateBias) -> None:
        super().__init__()
        rows = interpolate_anchors(source.bias.detach().double(), torch.arange(RATE_POINTS, dtype=torch.float64))
        if not bool(rows.isfinite().all()):
            raise ValueError("Biases must be finite")
        self.register_buffer("bias", to_fixed(rows).to(torch.int32))

    def rows(self) -> Tensor:
        """Return the biases as they are added, (64, C, 1, 1) float64."""
        return self.bias.double()[:, :, None, None]

    def forward(self, x: Tensor, q: Tensor) -> Tensor:
        """Add the bias of the integer rate points ``q`` (B,) to ``x`` (B, C, H, W)."""
        return saturate(x.double() + self.ready()[q.long()])


class ExactRateGain(ExactRows):
    """Integer twin of :class:`~triode.entropy.rate.RateGain`: ``floor(x * G * 2**-16)``, G an integer a rate point.

    Args:
        source: The float module; its gains must lie in [2**-17, 2**11].

    Raises:
        ValueError: If a gain lies outside.
    """

    largest = _GAIN_MAX
    """Gain, in units of 2**-16."""
    gain: Tensor

    def __init__(self, source: RateGain) -> None:
        super().__init__()
        gain = source.gain(torch.arange(RATE_POINTS, dtype=torch.float64).to(source.log_gain.dtype)).detach().double()
        rows = torch.round(gain * (1 << _SLOPE_BITS)).nan_to_num(0).clamp(0, self.largest + 1)
        self.register_buffer("gain", rows.to(torch.int32))
        self.check()

    def check(self) -> None:
        """Check that products stay exact in float64.

        Raises:
            ValueError: If a gain lies outside of 1 to :attr:`largest`, in units of 2**-16.
        """
        low, high = int(self.gain.min()), int(self.gain.max())
        if low < 1 or high > self.largest:
            raise ValueError(f"Gains must lie in [1, {self.largest}] * 2**-16, but reach from {low} to {high}")

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        self.check()

    def rows(self) -> Tensor:
        """Return the gains as they are multiplied by, (64, C, 1, 1) float64."""
        return self.gain.double()[:, :, None, None] * 2.0**-_SLOPE_BITS

    def forward(self, x: Tensor, q: Tensor) -> Tensor:
        """Scale ``x`` (B, C, H, W), Q13.10, by the gains of the integer rate points ``q`` (B,)."""
        return saturate((x.double() * self.ready()[q.long()]).floor_())


_TWINS: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    nn.Conv2d: ExactConv2d,
    nn.ConvTranspose2d: ExactConvTranspose2d,
    nn.LeakyReLU: lambda m: ExactLeakyReLU(m.negative_slope),
    nn.ReLU: lambda _: nn.ReLU(),
    nn.PixelShuffle: lambda m: nn.PixelShuffle(m.upscale_factor),
    nn.PixelUnshuffle: lambda m: nn.PixelUnshuffle(m.downscale_factor),
    nn.Identity: lambda _: nn.Identity(),
    RateBias: ExactRateBias,
    RateGain: ExactRateGain,
}


def registered_twins() -> Twins:
    """Return what builds the integer twins of leaf layers, by class of the float layer."""
    return MappingProxyType(_TWINS)


def register_twin(source: type[nn.Module], twin: Callable[[Any], nn.Module]) -> None:
    """Name the integer twin of a leaf layer.

    Args:
        source: Class of the float layer; subclasses count unless registered themselves.
        twin: Builds the integer layer from the float one.
    """
    _TWINS[source] = twin


Twins = Mapping[type[nn.Module], Callable[[Any], nn.Module]]


def exact_twin(module: nn.Module, twins: Twins | None = None) -> nn.Module:
    """Build the integer twin of a float network.

    The copy has the same structure and forward code; its leaf layers are replaced by their integer twins. It takes and
    gives float64 tensors that hold Q13.10 integers.

    Args:
        module: Network of registered leaf layers and of containers whose forward only adds, concatenates, slices and
            permutes.
        twins: What builds the twins of leaf layers; by default the module's own ``twins``, or those registered.

    Returns:
        The twin, in evaluation mode, without gradients.

    Raises:
        ValueError: If a leaf has no integer twin.
    """
    twins = getattr(module, "twins", _TWINS) if twins is None else twins
    for kind in type(module).__mro__:
        if kind in twins:
            return twins[kind](module)
    children = dict(module.named_children())
    container = children or isinstance(module, nn.ModuleList)  # a list may be empty, where a network leaves a part out
    if not container or any(True for _ in module.parameters(recurse=False)):
        raise ValueError(f"{type(module).__name__} has no integer twin")
    twin = module.__class__.__new__(module.__class__)
    nn.Module.__init__(twin)
    twin.__dict__.update({k: v for k, v in module.__dict__.items() if k not in twin.__dict__})
    for name, child in children.items():
        twin.add_module(name, exact_twin(child, twins))
    return twin.eval().requires_grad_(False)

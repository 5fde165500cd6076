"""Pointwise convolutions on 8 bits: what they see and what they weigh it with are integers, and so are their sums.

An input is rounded to ``n * limit / 128`` with n from -128 to 127, weights to 8 bits with a scale an output channel
(uniform affine quantisation, Jacob et al., "Quantization and training of neural networks for efficient
integer-arithmetic-only inference", CVPR 2018). Processors without instructions for it that sum in 32 bits multiply
pairs and sum them in 16, where they saturate. So that none does, weights of inputs 2i and 2i + 1 are limited together:
``255 * (|a| + |b|) < 2**15``.

Training sees the same roundings, their gradient being that of what was rounded. In inference, for large pictures on
CPUs, oneDNN multiplies bytes (:meth:`Int8Conv2d.product`), which gives the same up to rounding of the float32 output;
elsewhere floats that hold these integers are multiplied.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Final, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Int8Conv2d", "has_products"]

_LEVELS: Final = 128
"""On each side of zero."""
_PAIR: Final = 127.5
"""Of the magnitudes of two weights before they are rounded: 128 after, and 255 * 128 < 2**15."""
_ROUNDS: Final = torch.tensor(1.5 * 2**23 + _LEVELS)
"""Added to a float32 of at most 8 bits before the point, it leaves an unsigned byte in the lowest eight."""


class _Rounded(torch.autograd.Function):
    """Rounds to multiples of a step within limits; the gradient is one inside of them and zero outside."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor) -> Tensor:
        scaled = x / step
        ctx.save_for_backward((scaled >= -_LEVELS) & (scaled <= _LEVELS - 1))
        return scaled.round_().clamp_(-_LEVELS, _LEVELS - 1).mul_(step)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (inside,) = ctx.saved_tensors
        return grad * inside, None


@dataclass(frozen=True, slots=True, eq=False)
class _Packed:
    """What oneDNN multiplies with, and the weights it was made of."""

    made_of: Tensor
    versions: tuple[int, int]
    weight: Tensor
    scale: Tensor
    zero: Tensor
    limit: float


def _version(x: Tensor) -> int:
    """Return a number that changes when the tensor does, where PyTorch keeps one."""
    return 0 if x.is_inference() else x._version


@cache
def has_products() -> bool:
    """Return whether PyTorch multiplies bytes on this processor, and without saturating."""
    if not torch.backends.cpu.get_cpu_capability().startswith("AVX"):
        return False
    layer, rows = Int8Conv2d(8, 4), torch.ones(16, 8)
    with torch.inference_mode():
        layer.weight.fill_(1.0)  # As much as a pair may weigh, on as much as a byte holds.
        try:
            found = layer._in_bytes(rows, None)
        except (AttributeError, NotImplementedError, RuntimeError):  # Another build of PyTorch.
            return False
        return torch.allclose(found, F.linear(layer._seen(rows), layer._weights()))


class Int8Conv2d(nn.Conv2d):
    """A pointwise convolution on 8 bits.

    Args:
        in_channels: I.
        out_channels: O.
        bias: Whether there is one.
    """

    limit: Tensor
    """Magnitude at which inputs are clipped."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, bias=bias)
        self.register_buffer("limit", torch.ones(()))
        self._packed: _Packed | None = None

    def integers(self) -> tuple[Tensor, Tensor]:
        """Return the weights as integers (O, I), in floats, and the scale of each output channel (O, 1)."""
        weight = self.weight.detach().flatten(1).float()
        magnitude = F.pad(weight.abs(), (0, weight.shape[1] % 2))
        scale = (magnitude[:, 0::2] + magnitude[:, 1::2]).amax(1, keepdim=True).clamp_min(1e-12) / _PAIR
        return (weight / scale).round_().clamp_(1 - _LEVELS, _LEVELS - 1), scale

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, I, H, W) to (B, O, H, W)."""
        return F.conv2d(self._seen(x), self._weights().view_as(self.weight), self.bias)

    def _seen(self, x: Tensor) -> Tensor:
        """Return an input, rounded."""
        return cast(Tensor, _Rounded.apply(x.float(), self.limit / _LEVELS))  # type: ignore[no-untyped-call]

    def _weights(self) -> Tensor:
        """Return the weights, rounded, (O, I); their gradient is that of the layer's own."""
        integers, scale = self.integers()
        weight = self.weight.flatten(1)
        return weight + (integers * scale - weight.detach())

    def product(self, rows: Tensor, bias: Tensor | None, out: Tensor | None = None, *, spent: bool = False) -> Tensor:
        """Multiply positions with the weights, in bytes.

        Args:
            rows: (N, I) float32, contiguous.
            bias: (O,) to add, in place of the layer's own.
            out: (N, O) float32, contiguous, to which the product is added.
            spent: Whether no one needs the rows afterwards: their memory may be written to.

        Returns:
            ``out``, or (N, O) float32.
        """
        if not has_products():
            made = F.linear(self._seen(rows), self._weights(), bias)
            return made if out is None else out.add_(made)
        return self._in_bytes(rows, bias, out, rows if spent else None)

    def _in_bytes(
        self, rows: Tensor, bias: Tensor | None, out: Tensor | None = None, spare: Tensor | None = None
    ) -> Tensor:
        packed = self._pack()
        step = packed.limit / _LEVELS
        x = torch.clamp(rows, -packed.limit, packed.limit - step, out=spare)
        torch.add(_ROUNDS, x, alpha=1 / step, out=x)
        seen = x.view(torch.int32).to(torch.uint8)
        weights = (packed.weight, packed.scale, packed.zero)
        wanted = (1.0, 0, torch.float32)
        if out is None:
            product: Tensor = torch.ops.onednn.qlinear_pointwise(
                seen, step, _LEVELS, *weights, bias, *wanted, "none", [], ""
            )
            return product
        torch.ops.onednn.qlinear_pointwise.binary(
            seen, step, _LEVELS, *weights, out, bias, *wanted, 1.0, 0, "sum", 1.0, "none", [], ""
        )
        return out

    def _pack(self) -> _Packed:
        """Return the weights as oneDNN wants them, packed anew when they are others."""
        packed, versions = self._packed, (_version(self.weight), _version(self.limit))
        if packed is None or packed.made_of is not self.weight or packed.versions != versions:
            integers, scale = self.integers()
            weight = torch.ops.onednn.qlinear_prepack(integers.to(torch.int8), None)
            zero = torch.zeros(len(scale), dtype=torch.int32)
            packed = _Packed(self.weight, versions, weight, scale.flatten(), zero, float(self.limit))
            self._packed = packed
        return packed

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_packed": None}  # Packed weights are no one else's, and cannot be copied.

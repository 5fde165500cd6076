"""Pointwise convolutions as matrix products, where nothing is to be learnt.

Laid out channels last a picture is a matrix, a row a position, and a pointwise convolution its product with the
weights. As such it may add to memory that is there: a residual block needs no pass of its own for its sums, and no new
memory for them. With two threads such a product is also quicker than the convolution (docs/adr/0013-products.md).
"""

from __future__ import annotations

from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triode.models.layers.strips import is_lean

__all__ = ["channels_last", "is_multiplied", "pointwise", "positions"]

_ELEMENTS: Final = 1 << 18
"""Of an input: 1 MB. Where there is less, calls count, of which products need more."""


def is_multiplied(x: Tensor) -> bool:
    """Return whether pointwise layers are products: for large float32, channels last, in inference mode on a CPU."""
    lean = x.dtype == torch.float32 and x.numel() >= _ELEMENTS and is_lean(x)
    return lean and x.is_contiguous(memory_format=torch.channels_last)


def channels_last(x: Tensor) -> Tensor:
    """Return (B, C, H, W) laid out channels last; transposing matrices takes a third of the time of PyTorch's copy."""
    b, c, h, w = x.shape
    return x.reshape(b, c, h * w).transpose(1, 2).contiguous().view(b, h, w, c).permute(0, 3, 1, 2)


def positions(x: Tensor) -> Tensor:
    """Return (B, C, H, W), channels last, as (B H W, C): the same memory.

    Raises:
        RuntimeError: If channels do not come last.
    """
    return x.permute(0, 2, 3, 1).view(-1, x.shape[1])


def pointwise(layer: nn.Module, x: Tensor) -> Tensor:
    """Run a pointwise layer on (B, C, H, W), as a product where it is a convolution and the input allows it."""
    if type(layer) is not nn.Conv2d or not is_multiplied(x):
        out: Tensor = layer(x)
        return out
    out = F.linear(positions(x), layer.weight.flatten(1), layer.bias)
    return out.view(x.shape[0], *x.shape[2:], -1).permute(0, 3, 1, 2)

"""Pointwise convolutions as matrix products, where nothing is to be learnt.

Laid out channels last a picture is a matrix, a row a position, and a pointwise convolution its product with the
weights. As such it may add to memory that is there: a residual block needs no pass of its own for its sums, and no new
memory for them. With two threads such a product is also quicker than the convolution (docs/adr/0013-products.md).
"""

from __future__ import annotations

from typing import Final, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triode.models.layers.int8 import Int8Conv2d
from triode.models.layers.strips import is_lean

__all__ = ["add_product", "channels_last", "is_multiplied", "pointwise", "positions", "product", "weights"]

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


def weights(layer: nn.Module) -> Tensor:
    """Return the weights of a pointwise convolution as (O, I)."""
    return cast(nn.Conv2d, layer).weight.flatten(1)


def product(layer: nn.Module, rows: Tensor, bias: Tensor | None) -> Tensor:
    """Return positions (N, I) times the weights of a pointwise convolution plus a bias (O,), (N, O)."""
    if isinstance(layer, Int8Conv2d):
        return layer.product(rows, bias)
    return F.linear(rows, weights(layer), bias)


def add_product(layer: nn.Module, rows: Tensor, bias: Tensor, start: Tensor, out: Tensor) -> None:
    """Write ``start`` (N, O), a bias (O,) and the product of positions (N, I) to ``out``, which may be ``start``.

    The memory of the positions may be written to.
    """
    if not isinstance(layer, Int8Conv2d):
        torch.add(start, bias, out=out)
        out.addmm_(rows, weights(layer).t())
        return
    if start.data_ptr() != out.data_ptr():
        out.copy_(start)
    layer.product(rows, bias, out, spent=True)


def pointwise(layer: nn.Module, x: Tensor) -> Tensor:
    """Run a pointwise layer on (B, C, H, W), as a product where it is a convolution and the input allows it."""
    if type(layer) not in (nn.Conv2d, Int8Conv2d) or not is_multiplied(x):
        out: Tensor = layer(x)
        return out
    out = product(layer, positions(x), cast(nn.Conv2d, layer).bias)
    return out.view(x.shape[0], *x.shape[2:], -1).permute(0, 3, 1, 2)

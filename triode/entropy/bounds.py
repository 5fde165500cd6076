"""Clamps whose gradient still pulls values back into range."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Clamp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, low: float, high: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.range = (low, high)
        return x.clamp(low, high)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        (grad,) = grads
        low, high = ctx.range
        # A step goes against the gradient: below the range only a negative gradient leads back in.
        keep = ((x >= low) | (grad < 0)) & ((x <= high) | (grad > 0))
        return grad * keep, None, None


def soft_clamp(x: Tensor, low: float, high: float) -> Tensor:
    """Clamp to [low, high]; outside, only gradients that lead back into the range pass (after Ballé et al., 2018).

    Args:
        x: Tensor of any shape, float.
        low: Lower bound.
        high: Upper bound.

    Returns:
        Tensor like ``x``, within the bounds.
    """
    out: Tensor = _Clamp.apply(x, low, high)  # type: ignore[no-untyped-call]
    return out

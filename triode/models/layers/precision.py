"""Parts of a network that must not run in a narrower type than they were given."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def full_precision(module: nn.Module, x: Tensor) -> Tensor:
    """Run a module in float32 even under autocast.

    The linear path carries the image itself: eight bits of bfloat16 mantissa would be coarser than the quantiser.

    Args:
        module: Any module of one input.
        x: Its input.

    Returns:
        Its output in float32.
    """
    with torch.autocast(x.device.type, enabled=False):
        out: Tensor = module(x.float())
    return out

"""Sound for a chunk that was lost: its neighbours' latents go on into it, there and back again, and fade.

What comes before the gap fades out over a third of a second; what comes after it fades in over the last tenth. Nothing
is known of the chunk itself, so none of this is more than the absence of a click and of a hole.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["FADE_IN", "FADE_OUT", "extend", "fade_in", "fade_out"]

FADE_OUT = 0.3
"""Seconds in which the sound before a gap fades."""
FADE_IN = 0.1
"""Seconds in which the sound after a gap appears."""
_REPEATED = 4


def extend(latent: Tensor, count: int, *, forward: bool) -> Tensor:
    """Go on behind, or before, a latent with its last, or first, frames back and forth.

    Args:
        latent: (1, M, 1, F), F at least 1.
        count: Frames wanted.
        forward: Whether behind.

    Returns:
        (1, M, 1, count).
    """
    period = min(_REPEATED, latent.shape[-1])
    step = torch.arange(count) % (2 * period)
    back = torch.minimum(step, 2 * period - 1 - step)
    return latent[..., latent.shape[-1] - 1 - back] if forward else latent[..., back].flip(-1)


def fade_out(count: int) -> NDArray[np.float32]:
    """Return (count,) gains that fall from 1 to 0 along a raised cosine."""
    fade: NDArray[np.float32] = np.cos(np.pi / 2 * (np.arange(count) + 0.5) / max(count, 1)).astype(np.float32) ** 2
    return fade


def fade_in(count: int) -> NDArray[np.float32]:
    """Return (count,) gains that rise from 0 to 1 likewise."""
    return fade_out(count)[::-1]

"""Gaussian conditional: symbols of a latent given means and a table index, on a ladder of 64 log-spaced scales.

The scale is chosen by an index, nearest on the ladder (0.028 % of rate lost; rounding up loses 0.14 %). Networks
predict that index directly as a real number, so no exponential or logarithm stands between a network and the coder.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from triode.entropy.bounds import soft_clamp
from triode.entropy.tables import CdfTables, FloatArray

SCALE_COUNT = 64
SCALE_MIN = 0.11
SCALE_MAX = 256.0
INDEX_STEP = math.log(SCALE_MAX / SCALE_MIN) / (SCALE_COUNT - 1)
"""Growth of the logarithm of the standard deviation from one index to the next."""
_LIKELIHOOD_MIN = 1e-9


def scale_ladder() -> FloatArray:
    """Return the 64 standard deviations of the ladder, (64,) float64, 0.11 to 256, evenly spaced in the logarithm."""
    ladder: FloatArray = SCALE_MIN * np.exp(INDEX_STEP * np.arange(SCALE_COUNT))
    return ladder


def index_to_scale(index: Tensor) -> Tensor:
    """Map a real ladder index to a standard deviation.

    Args:
        index: Any shape, float; clamped to [0, 63] with a gradient that leads back into the range.

    Returns:
        Tensor like ``index``, in [0.11, 256].
    """
    return SCALE_MIN * torch.exp(INDEX_STEP * soft_clamp(index, 0.0, SCALE_COUNT - 1.0))


def scale_to_index(scale: Tensor) -> Tensor:
    """Inverse of :func:`index_to_scale`, unclamped; scales at or below zero give index 0."""
    return torch.log(torch.clamp(scale, min=SCALE_MIN) / SCALE_MIN) / INDEX_STEP


def gaussian_likelihood(residual: Tensor, scale: Tensor) -> Tensor:
    """Mass of a zero-mean Gaussian on the unit interval around a value (Ballé et al., 2018, eq. 11).

    Args:
        residual: Value minus mean, any shape, float.
        scale: Standard deviation, broadcastable, > 0.

    Returns:
        Probability in [1e-9, 1].
    """
    magnitude = residual.abs()
    inverse = math.sqrt(0.5) / scale
    upper = torch.erfc((magnitude - 0.5) * inverse)
    lower = torch.erfc((magnitude + 0.5) * inverse)
    return soft_clamp(0.5 * (upper - lower), _LIKELIHOOD_MIN, 1.0)


def gaussian_bits(residual: Tensor, index: Tensor) -> Tensor:
    """Code length of residuals under the ladder's Gaussian of a real index.

    Args:
        residual: (B, ...) value minus mean, float, in training with uniform noise added.
        index: Ladder index, same shape, float.

    Returns:
        (B,) bits a sample.
    """
    bits = -torch.log2(gaussian_likelihood(residual.float(), index_to_scale(index.float())))
    return bits.flatten(1).sum(1)


def gaussian_tables(precision: int = 24) -> CdfTables:
    """Integer CDFs of the 64 Gaussians of the ladder; made once, at export.

    Args:
        precision: Bits of the CDF's total.

    Returns:
        Tables with an escape each; a table covers 2 e-9 of two-sided tail outside of it at most.
    """
    pmfs, offsets = [], []
    for scale in scale_ladder():
        reach = max(1, math.ceil(scale * 6.0))
        edges = (np.arange(-reach, reach + 2) - 0.5) / (scale * math.sqrt(2))
        cdf = np.array([0.5 * math.erfc(-e) for e in edges])
        pmf = np.diff(cdf)
        pmfs.append(np.append(pmf, max(0.0, 1.0 - pmf.sum())))
        offsets.append(-reach)
    return CdfTables.from_pmfs(pmfs, offsets, precision)

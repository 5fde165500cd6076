"""Rate-distortion optimised quantisation: encoder-side choice between the nearest symbol and its neighbour."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from triode.entropy.gaussian import gaussian_likelihood, index_to_scale
from triode.entropy.tables import CdfTables


def shrink(
    values: NDArray[np.float64],
    symbols: NDArray[np.int32],
    index: NDArray[np.uint8],
    tables: CdfTables,
    weight: NDArray[np.float64],
) -> None:
    """Move symbols one step towards zero, in place, where the bits saved outweigh the error added.

    Each element is decided on its own, by ``bits + weight * error**2``; what its value does to later contexts is not
    looked at. As in the RDOQ of HEVC's reference encoder, but with one candidate.

    Args:
        values: (N,) what is to be coded, mean removed.
        symbols: (N,) rounded values.
        index: (N,) table of each symbol.
        tables: The tables.
        weight: (N,) price of a squared error of one unit, in bits.
    """
    (where,) = np.nonzero(symbols)
    now = symbols[where]
    less = now - np.sign(now)
    table = index[where]
    start, last, offset = tables.starts[table], tables.sizes[table] - 1, tables.offsets[table]
    inside = (now - offset >= 0) & (now - offset < last)
    entry = np.clip(now - offset, 0, last)
    entry_less = np.clip(less - offset, 0, last)
    saved = tables.bits[start + entry] - tables.bits[start + entry_less]
    v = values[where]
    added = (v - less) ** 2 - (v - now) ** 2
    better = inside & (saved > weight[where] * added)
    symbols[where[better]] = less[better]


@torch.no_grad()
def chosen(residual: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """Return the symbols that :func:`shrink` leaves of a latent, by code lengths in floats, for training.

    Args:
        residual: (B, M, h, w) what is to be coded, mean removed.
        index: (B, M, h, w) real ladder index; elements of index 0, rounded, are not coded.
        weight: Price of a squared error of one unit, in bits, broadcastable.

    Returns:
        (B, M, h, w) integers, float.
    """
    scale = index_to_scale(index.round())
    now = residual.round()
    less = now - now.sign()
    saved = (gaussian_likelihood(less, scale) / gaussian_likelihood(now, scale)).log2()
    added = (residual - less).square() - (residual - now).square()
    return torch.where(saved > weight * added, less, now) * (index.round() > 0)

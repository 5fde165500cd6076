"""The encoder's side of :mod:`triode.models.restoration`: which coefficients suit a tile, seen on samples of it.

Samples are windows of the decoded tile, as all of it would take encoders longer: half of a photo of half a
megapixel, less of larger ones.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from triode.entropy.coder import SymbolWriter
from triode.models.base import ImageModel
from triode.models.restoration import REACH, Restoration, Sums

__all__ = ["sampled_sums", "write_restoration"]

_SIDE: Final = 8
"""Of a window, in latent elements."""
_SHARE: Final = 4
_LEAST: Final = 12
_MOST: Final = 32
_EVERY: Final = 2
"""Of the rows of a window one in so many."""


def _starts(length: int) -> tuple[list[int], int]:
    """Return where windows may begin along a side of a latent, and how long they are."""
    window = min(length, _SIDE)
    count = max(1, round(length / _SIDE))
    return [k * (length - window) // max(1, count - 1) for k in range(count)], window


def _windows(height: int, width: int) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """Return corners of windows, spread over a latent, and their size."""
    (rows, tall), (columns, wide) = _starts(height), _starts(width)
    cells = len(rows) * len(columns)
    count = min(max(-(-cells // _SHARE), _LEAST), _MOST, cells)
    chosen: dict[tuple[int, int], None] = {}
    # A sequence of low discrepancy in two dimensions (Roberts, 2018), by the plastic number.
    for k in range(cells * 8):
        row, column = ((0.5 + k * step) % 1 for step in (0.7548776662, 0.5698402910))
        chosen[rows[int(row * len(rows))], columns[int(column * len(columns))]] = None
        if len(chosen) == count:
            break
    return list(chosen), (tall, wide)


@torch.inference_mode()
def sampled_sums(
    model: ImageModel, restoration: Restoration, pixels: NDArray[np.uint8], y_hat: Tensor, point: int
) -> Sums:
    """Decode windows of a tile and sum up what the best coefficients follow from.

    Args:
        model: The model.
        restoration: Its filter.
        pixels: (H, W, C) the tile, C 1 or 3.
        y_hat: (1, M, h, w) its quantised latent.
        point: Its rate point.
    """
    q, stride = torch.tensor([point]), model.stride
    y = model.dequantise(y_hat, q)
    corners, (tall, wide) = _windows(y.shape[2], y.shape[3])
    cut = torch.cat([y[:, :, top : top + tall, left : left + wide] for top, left in corners])
    with torch.autocast("cpu", enabled=False):
        x = model.synthesis(cut.contiguous(memory_format=torch.channels_last), q)
    # Beyond the tile the analysis saw its border again.
    last = pixels.shape[0] - 1, pixels.shape[1] - 1
    down = [np.minimum(np.arange(stride * top, stride * (top + tall)), last[0]) for top, _ in corners]
    right = [np.minimum(np.arange(stride * left, stride * (left + wide)), last[1]) for _, left in corners]
    original = np.stack([pixels[np.ix_(a, b)] for a, b in zip(down, right, strict=True)])
    target = (torch.from_numpy(original).permute(0, 3, 1, 2).float() / 255).expand(-1, 3, -1, -1)
    # Near its border a window is decoded without what lies beyond: half a latent element away that hardly matters.
    rows, columns = (stride // 2 if n == _SIDE else REACH for n in (tall, wide))
    return restoration.sums(x, target, point, (rows, columns), every=_EVERY)


def write_restoration(
    model: ImageModel, pixels: NDArray[np.uint8], y_hat: Tensor, point: int, writer: SymbolWriter, price: float = 1.0
) -> None:
    """Choose the coefficients of a tile and write them behind its latent, if its model has a restoration.

    Args:
        model: The model.
        pixels: (H, W, C) the tile, C 1 or 3.
        y_hat: (1, M, h, w) its quantised latent.
        point: Its rate point.
        writer: Where the symbols go.
        price: Price of errors, over what is usual at the rate point.
    """
    restoration = model.restoration
    if restoration is None:
        return
    sums = sampled_sums(model, restoration, pixels, y_hat, point)
    weight = price * float(model.rate_lambda(torch.tensor([point]))) * 255**2 / 3
    share = sums.samples / (pixels.shape[0] * pixels.shape[1])
    restoration.write(restoration.solve(sums, point, weight / share), point, writer)

"""A filter of decoded pictures whose coefficients travel with each tile.

As the adaptive loop filters of VVC (Tsai et al., IEEE J-STSP 2013; the clipped differences of Taquet et al., ICIP
2019): the encoder, which has original and decoded pixels, solves for the coefficients that bring one nearest to the
other. A synthesis that was trained on all photos cannot know how sharp or how noisy this one is; a few coefficients
can say it.

To every channel the same sum is added, of the mean m of the channels: ten second differences
``m(p + o) + m(p - o) - 2 m(p)`` with offsets o, and eight of what is left of m when its steps from sample to sample
are limited to a clip level. The latter tell noise from edges. Each channel has four second differences of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from triode.entropy.coder import CountingWriter, SymbolReader, SymbolWriter
from triode.entropy.exact.state import ExactModule, TableBuffer
from triode.entropy.tables import CdfTables, FloatArray, Int32Array
from triode.errors import BitstreamError

__all__ = [
    "CLIP_STEP",
    "COEFFICIENTS",
    "GROUPS",
    "REACH",
    "STEPS",
    "STRIP",
    "Restoration",
    "Sums",
    "laplace_tables",
    "table_of",
]

_PLAIN: Final = ((0, 1), (0, 2), (1, -2), (1, -1), (1, 0), (1, 1), (1, 2), (2, -1), (2, 0), (2, 1))
"""Offsets of the second differences: a diamond of two and the knight's moves, one of each pair."""
_CLIPPED: Final = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Across and along: where, off the middle, the differences of limited steps are taken."""
_SHARED: Final = len(_PLAIN) + 2 * len(_CLIPPED)
_CHANNELS: Final = 3
_OWN: Final = ((0, 1), (1, 0), (0, 4), (4, 0))
"""Offsets of the second differences that each channel has of its own."""
COEFFICIENTS: Final = _SHARED + len(_OWN) * _CHANNELS
GROUPS: Final = 8
"""Groups of rate points, 8 points each, with clip level and code lengths of their own."""
STEPS: Final = np.array([1 / 64] * _SHARED + [1 / 64, 1 / 64, 1 / 1024, 1 / 1024] * _CHANNELS)
"""(30,) of the coefficients, which travel as integers; those of far samples are small and count for much."""
CLIP_STEP: Final = 1 / 4096
"""Of the clip level, where full scale is 1."""
REACH: Final = 4
"""Samples around one that it depends on, each way."""
_TABLES: Final = 16
_TIE: Final = 3.0
"""Of the cost that ties coefficients to what is usual, over their bits: samples say less than their number."""
_RIDGE: Final = 1e-4
_ABREAST: Final = 8
STRIP: Final = 64
"""Rows that are filtered at a time."""


def _scales() -> FloatArray:
    """Return the mean magnitude of the Laplacian behind each table, (16,)."""
    scales: FloatArray = 0.25 * 1.4 ** np.arange(_TABLES)
    return scales


def laplace_tables() -> CdfTables:
    """Return 16 tables of Laplacians around 0, of mean magnitudes 0.25 * 1.4**k."""
    pmfs, offsets = [], []
    for scale in _scales():
        reach = int(np.ceil(8 * scale)) + 1
        outer = np.exp(-(np.abs(np.arange(-reach, reach + 1)) - 0.5) / scale) * (1 - np.exp(-1 / scale)) / 2
        outer[reach] = 1 - np.exp(-0.5 / scale)
        pmfs.append(np.append(outer, max(0.0, 1 - outer.sum())))
        offsets.append(-reach)
    return CdfTables.from_pmfs(pmfs, offsets)


def table_of(magnitude: FloatArray) -> NDArray[np.int64]:
    """Return the table for symbols of these mean magnitudes."""
    table: NDArray[np.int64] = np.rint(np.log(np.maximum(magnitude, 1e-3) / 0.25) / np.log(1.4)).astype(np.int64)
    return table.clip(0, _TABLES - 1)


@cache
def _basis() -> Tensor:
    """Return the shared features as filters (18, 3, 5, 5) of m and its limited steps to the right and down."""
    filters = torch.zeros(_SHARED, 3, 5, 5)
    for k, (y, x) in enumerate(_PLAIN):
        for sign in (1, -1):
            filters[k, 0, 2 + sign * y, 2 + sign * x] += 1
        filters[k, 0, 2, 2] -= 2
    for k, (along, across) in enumerate(_CLIPPED):
        n = len(_PLAIN) + 2 * k
        for side in {along, -along}:
            filters[n, 1, 2 + side, 2 + across] += 1
            filters[n, 1, 2 + side, 1 - across] -= 1
            filters[n + 1, 2, 2 + across, 2 + side] += 1
            filters[n + 1, 2, 1 - across, 2 + side] -= 1
    return filters


def _moved(p: Tensor, down: int, right: int, height: int, width: int) -> Tensor:
    """Return the samples so far from those of a picture that has :data:`REACH` more around it."""
    return p[..., REACH + down : REACH + down + height, REACH + right : REACH + right + width]


def _planes(x: Tensor, clip: float) -> Tensor:
    """Return m and its limited steps, (B, 3, H - 1, W - 1), of pixels (B, 3, H, W)."""
    m = (x[:, 0:1] + x[:, 1:2]).add_(x[:, 2:3]).mul_(1 / _CHANNELS)
    inner = m[:, :, :-1, :-1]
    planes = torch.empty(x.shape[0], 3, *inner.shape[2:])
    planes[:, 0:1] = inner
    torch.sub(m[:, :, :-1, 1:], inner, out=planes[:, 1:2])
    torch.sub(m[:, :, 1:, :-1], inner, out=planes[:, 2:3])
    planes[:, 1:].clamp_(-clip, clip)
    return planes


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over samples, of which the best coefficients follow.

    Attributes:
        products: (30, 30) of features with each other.
        targets: (30,) of features with the error.
        samples: Pixels that were summed over.
    """

    products: FloatArray
    targets: FloatArray
    samples: int

    def change(self, coefficients: FloatArray) -> float:
        """Return by how much a filter changes the squared error, full scale being 1."""
        return float(coefficients @ self.products @ coefficients - 2 * coefficients @ self.targets)

    def solution(self, tie: FloatArray | float = 0.0, mean: FloatArray | float = 0.0) -> Int32Array:
        """Return the best coefficients, (30,) integers in units of :data:`STEPS`.

        They are rounded one after another, and those that are not yet make up for those that are.

        Args:
            tie: (30,) what a squared distance of one unit from ``mean`` costs, in squared errors.
            mean: (30,) in units of :data:`STEPS`.
        """
        products = self.products * np.outer(STEPS, STEPS) + np.diag(np.zeros(COEFFICIENTS) + tie)
        targets = self.targets * STEPS + tie * np.asarray(mean)
        # The nearest plane of Babai (Combinatorica, 1986): the one that matters most is rounded first.
        order = np.argsort(np.diag(products))
        a = (products + np.diag(_RIDGE * np.diag(products) + 1e-15))[np.ix_(order, order)]
        upper = np.linalg.cholesky(a).T
        wanted = np.linalg.solve(upper.T, targets[order])
        values: Int32Array = np.zeros(COEFFICIENTS, dtype=np.int32)
        for k in range(COEFFICIENTS - 1, -1, -1):
            values[k] = np.rint((wanted[k] - upper[k, k + 1 :] @ values[k + 1 :]) / upper[k, k])
        coefficients: Int32Array = np.empty_like(values)
        coefficients[order] = values
        return coefficients


class Restoration(ExactModule):
    """The filter, and how its coefficients are coded. The buffers are set by ``tools/fit_statistics.py``."""

    macs = 5 * (4 + _ABREAST) * 3 + (1 + len(_OWN)) * _CHANNELS
    """Multiplications a pixel, those by the zeros that put filters beside each other included."""
    clip: Tensor
    mean: Tensor
    index: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("clip", torch.zeros(GROUPS, dtype=torch.int16))
        self.register_buffer("mean", torch.zeros(GROUPS, COEFFICIENTS, dtype=torch.int16))
        self.register_buffer("index", torch.zeros(GROUPS, COEFFICIENTS, dtype=torch.uint8))
        self.tables = TableBuffer()

    def export(self) -> None:
        """Freeze the tables."""
        self.tables.set(laplace_tables())

    def write(self, coefficients: Int32Array | None, point: int, writer: SymbolWriter) -> None:
        """Write the coefficients (30,) of a tile at a rate point, or that there are none."""
        tables, group = self.tables.get(), point * GROUPS // 64
        writer.write(np.array([coefficients is None], dtype=np.int32), np.zeros(1, dtype=np.uint8), tables)
        if coefficients is not None:
            symbols = coefficients - self.mean[group].numpy().astype(np.int32)
            writer.write(symbols, self.index[group].numpy(), tables)

    def read(self, point: int, reader: SymbolReader) -> Int32Array | None:
        """Read what :meth:`write` wrote.

        Raises:
            BitstreamError: If the data cannot have come from it.
        """
        tables, group = self.tables.get(), point * GROUPS // 64
        absent = int(reader.read(np.zeros(1, dtype=np.uint8), tables)[0])
        if absent not in {0, 1}:
            raise BitstreamError(f"Entropy coded data is corrupt: the filter's switch is {absent}")
        if absent:
            return None
        symbols = reader.read(self.index[group].numpy(), tables)
        coefficients: Int32Array = symbols + self.mean[group].numpy().astype(np.int32)
        return coefficients

    def bits(self, coefficients: Int32Array, point: int) -> float:
        """Return the ideal code length of coefficients in bits, over that of none."""
        counts = []
        for value in (coefficients, None):
            counter = CountingWriter()
            self.write(value, point, counter)
            counts.append(counter.bits)
        return counts[0] - counts[1]

    def solve(self, sums: Sums, point: int, price: float) -> Int32Array | None:
        """Return the best coefficients for a tile, or None where they are not worth their bits.

        What the samples leave open is taken to be as in other pictures: as if the coefficients were Gaussian.

        Args:
            sums: What was seen of the tile.
            point: Its rate point.
            price: Of the squared errors that the sums are of, full scale being 1, in bits.
        """
        group = point * GROUPS // 64
        spread = 1.4 * _scales()[self.index[group].numpy()]
        tie = _TIE / (2 * np.log(2) * spread**2 * price)
        coefficients = sums.solution(tie, self.mean[group].numpy().astype(np.float64))
        change = price * sums.change(coefficients * STEPS)
        return coefficients if change + self.bits(coefficients, point) < 0 else None

    def limit(self, point: int) -> float:
        """Return the clip level at a rate point, full scale being 1."""
        return int(self.clip[point * GROUPS // 64]) * CLIP_STEP

    def forward(self, x: Tensor, coefficients: Int32Array, point: int) -> Tensor:
        """Filter pixels.

        Args:
            x: (B, 3, H, W) float; clamped to [0, 1] first. What lies outside is taken to be like the border.
            coefficients: (30,) integers in units of :data:`STEPS`.
            point: Rate point.

        Returns:
            Tensor like ``x``, unclamped.
        """
        restored = self.restorer(x, coefficients, point)
        tops = range(0, x.shape[2], STRIP)
        return torch.cat([restored(top, min(top + STRIP, x.shape[2])) for top in tops], 2)

    def restorer(self, x: Tensor, coefficients: Int32Array, point: int) -> Callable[[int, int], Tensor]:
        """Return what filters some rows of pixels; arguments as in :meth:`forward`.

        Returns:
            A function of the first row and the one behind the last. Its output (B, 3, h, W) is unclamped; its time
            is best for :data:`STRIP` rows, as all stays in the cache.
        """
        c = torch.from_numpy(coefficients * STEPS).float()
        width = x.shape[3]
        more = -width % _ABREAST
        # Filters beside each other make several samples of a row at once: a filter to one channel leaves layers idle.
        shared, filters = (c[:_SHARED, None, None, None] * _basis()).sum(0), torch.zeros(_ABREAST, 3, 5, 4 + _ABREAST)
        for k in range(_ABREAST):
            filters[k, :, :, k : k + 5] = shared
        own = c[_SHARED:].view(_CHANNELS, len(_OWN), 1, 1)
        limit, middle, sides = self.limit(point), 1 - 2 * own.sum(1), own.unbind(1)

        def restored(top: int, bottom: int) -> Tensor:
            above, below = min(top, REACH), min(x.shape[2] - bottom, REACH)
            around = (REACH, REACH + more, REACH - above, REACH - below)
            p = F.pad(x[:, :, top - above : bottom + below], around, mode="replicate").clamp_(0, 1)
            # Filters reach two samples each way, and steps one further down and right.
            planes = _planes(p[:, :, REACH - 2 : 3 - REACH, REACH - 2 : 3 - REACH], limit)
            sums = F.conv2d(planes, filters, stride=(1, _ABREAST))
            strip = _moved(p, 0, 0, bottom - top, width) * middle
            for (y, z), side in zip(_OWN, sides, strict=True):
                pair = _moved(p, y, z, bottom - top, width) + _moved(p, -y, -z, bottom - top, width)
                strip.addcmul_(pair, side)
            return strip.add_(sums.permute(0, 2, 3, 1).flatten(2)[:, None, :, :width])

        return restored

    def sums(self, x: Tensor, target: Tensor, point: int, margin: tuple[int, int], every: int = 1) -> Sums:
        """Sum up what the best coefficients follow from.

        Args:
            x: (B, 3, H, W) decoded pixels.
            target: (B, 3, H, W) original pixels.
            point: Rate point.
            margin: Rows and columns at each border that are not summed over, at least :data:`REACH`.
            every: Take one row in so many; neighbours say much the same.
        """
        rows, columns = margin
        height, width = x.shape[2] - 2 * rows, x.shape[3] - 2 * columns
        level, basis = self.limit(point), _basis()
        total = torch.zeros(COEFFICIENTS + _CHANNELS, COEFFICIENTS + _CHANNELS, dtype=torch.float64)
        # One picture after the other, which stays in the cache.
        for decoded, original in zip(x, target, strict=True):

            def moved(t: Tensor, down: int = 0, right: int = 0) -> Tensor:
                return t[:, rows + down : rows + down + height : every, columns + right : columns + right + width]

            p = decoded.clamp(0, 1)
            planes = _planes(p[None], level)[:, :, rows - 2 : rows + height + 2, columns - 2 : columns + width + 2]
            here = moved(p)
            features = torch.empty(COEFFICIENTS + _CHANNELS, -(-height // every), width)
            features[:_SHARED] = F.conv2d(planes, basis, stride=(every, 1))[0]
            own = features[_SHARED:COEFFICIENTS].view(_CHANNELS, len(_OWN), *features.shape[1:])
            for k, (y, z) in enumerate(_OWN):
                torch.add(moved(p, y, z), moved(p, -y, -z), out=own[:, k])
            own.sub_(here[:, None], alpha=2)
            torch.sub(moved(original), here, out=features[-_CHANNELS:])
            flat = features.flatten(1)
            total += flat @ flat.T
        return _sums(total.numpy(), -(-height // every) * width * len(x))


def _sums(total: FloatArray, samples: int) -> Sums:
    """Take the sums for all coefficients from products of shared features, own features, errors of the channels."""
    own = slice(_SHARED, COEFFICIENTS)
    error = total[:, COEFFICIENTS:]
    products = total[:COEFFICIENTS, :COEFFICIENTS].copy()
    products[:_SHARED, :_SHARED] *= _CHANNELS
    # What is added to one channel does not meet what is added to another.
    products[own, own] *= np.kron(np.eye(_CHANNELS), np.ones((len(_OWN), len(_OWN))))
    targets = np.empty(COEFFICIENTS)
    targets[:_SHARED] = error[:_SHARED].sum(1)
    targets[own] = [error[_SHARED + k, k // len(_OWN)] for k in range(len(_OWN) * _CHANNELS)]
    return Sums(products, targets, samples)

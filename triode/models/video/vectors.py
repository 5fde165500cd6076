"""Motion of blocks in quarters of a sample: its search, its coding in integers, and what it does to planes."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from triode.entropy.coder import CountingWriter, SymbolReader, SymbolWriter
from triode.entropy.exact.state import TableBuffer
from triode.entropy.tables import CdfTables

__all__ = ["BLOCK", "VectorCoder", "Vectors", "relative", "search", "spread", "warp"]

BLOCK: Final = 16
"""Samples of luma that one vector moves, each way."""
_QUARTERS: Final = 4
_REACH: Final = 8
_LARGEST: Final = 1 << 12
_SPREADS: Final = 5
_CHOICES: Final = 8
_SCALES: Final = _SPREADS + _CHOICES - 1
_FIRST_SCALE, _GROWTH = 0.2, 1.8
_SUPPORT: Final = 160
_TAIL, _TAIL_SCALE = 1e-3, 40.0
_GLOBAL, _CHOICE = _SCALES, _SCALES + 1
_MOVING: Final = 0.1
_CROSS: Final = ((-1, 0), (1, 0), (0, -1), (0, 1))
_DIAGONAL: Final = ((-1, -1), (-1, 1), (1, -1), (1, 1))
Vectors = NDArray[np.int64]


class VectorCoder(nn.Module):
    """Codes fields of vectors (2, h, w) in three levels, integers throughout.

    First blocks of even rows and columns, predicted by their own vectors of the frame before plus one vector for all;
    then those of odd rows and columns, by the mean of their diagonal neighbours; then the rest, by the mean of the four
    beside them. The table of a difference is one of twelve Laplace distributions: by how much the vectors differ that
    the prediction comes from, and by a choice that the encoder makes for each level.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tables = TableBuffer()
        self.export()

    def export(self) -> None:
        """Make the tables anew, which nothing but this module's text decides."""
        values = np.abs(np.arange(-_SUPPORT, _SUPPORT + 1))

        def mixture(scale: float, share: float) -> NDArray[np.float64]:
            near, far = (np.exp(-values / s) / np.exp(-values / s).sum() for s in (scale, _TAIL_SCALE))
            pmf: NDArray[np.float64] = np.append((1 - share) * near + share * far, 1e-5)
            return pmf

        pmfs = [mixture(_FIRST_SCALE * _GROWTH**k, _TAIL) for k in range(_SCALES)]
        pmfs += [mixture(_FIRST_SCALE, _MOVING), np.append(np.full(_CHOICES, 1 / _CHOICES), 1e-6)]
        self.tables.set(CdfTables.from_pmfs(pmfs, [-_SUPPORT] * (_SCALES + 1) + [0]))

    def encode(self, field: Vectors, before: Vectors, writer: SymbolWriter) -> None:
        """Write a field.

        Args:
            field: (2, h, w) vectors, within 1024 samples.
            before: Those of the frame before.
            writer: Where the symbols go.
        """
        middle = np.median(field - before, (1, 2)).round().astype(np.int64)
        shifts = (np.zeros_like(middle), middle) if middle.any() else (middle,)
        counted = [CountingWriter() for _ in shifts]
        for shift, counter in zip(shifts, counted, strict=True):
            self._write(field, before, shift, counter)
        self._write(field, before, shifts[int(np.argmin([c.bits for c in counted]))], writer)

    def bits(self, field: Vectors, before: Vectors) -> float:
        """Return the ideal code length of a field."""
        counted = CountingWriter()
        self.encode(field, before, counted)
        return counted.bits

    def _write(self, field: Vectors, before: Vectors, shift: Vectors, writer: SymbolWriter) -> None:
        tables = self.tables.get()
        writer.write(shift, np.full(2, _GLOBAL), tables)
        for level in range(3):
            predicted, index, here = _predict(field, before, shift, level)
            symbols, costs = (field - predicted)[:, here].reshape(-1), []
            for choice in range(_CHOICES):
                counted = CountingWriter()
                counted.write(symbols, index + choice, tables)
                costs.append(counted.bits)
            best = int(np.argmin(costs))
            writer.write(np.array([best]), np.array([_CHOICE]), tables)
            writer.write(symbols, index + best, tables)

    def decode(self, before: Vectors, reader: SymbolReader) -> Vectors:
        """Read a field back, given that of the frame before."""
        tables, field = self.tables.get(), np.zeros_like(before)
        shift = reader.read(np.full(2, _GLOBAL), tables).astype(np.int64)
        for level in range(3):
            predicted, index, here = _predict(field, before, shift, level)
            choice = int(np.clip(reader.read(np.array([_CHOICE]), tables)[0], 0, _CHOICES - 1))
            read = reader.read(index + choice, tables).reshape(2, -1)
            field[:, here] = np.clip(predicted[:, here] + read, -_LARGEST, _LARGEST)
        return field


def _predict(
    field: Vectors, before: Vectors, shift: Vectors, level: int
) -> tuple[Vectors, NDArray[np.int64], NDArray[np.bool_]]:
    """Predict what a level codes from the levels before it.

    Returns:
        Predictions (2, h, w), the first table of each symbol of the level, and which blocks are of it (h, w).
    """
    rows, columns = np.indices(before.shape[1:])
    even = rows % 2 == 0, columns % 2 == 0
    here = (even[0] & even[1], ~even[0] & ~even[1], even[0] ^ even[1])[level]
    around, there = _neighbours(field if level else before, _DIAGONAL if level == 1 else _CROSS)
    count = np.maximum(there.sum(0), 1)
    mean = (2 * around.sum(0) + count) // (2 * count)
    centre = mean if level else before
    apart = (np.abs(around - centre) * there[:, None]).max((0, 1))[here]
    # The number of bits of the distance, without floats.
    index = sum(((apart >= 1 << k).astype(np.int64) for k in range(_SPREADS - 1)), np.zeros(len(apart), np.int64))
    return mean if level else before + shift[:, None, None], np.tile(index, 2), here


def _neighbours(field: Vectors, places: tuple[tuple[int, int], ...]) -> tuple[Vectors, NDArray[np.bool_]]:
    """Return four neighbours (4, 2, h, w) of each vector, zero outside, and which there are (4, h, w)."""
    height, width = field.shape[1:]
    padded, inside = np.pad(field, ((0, 0), (1, 1), (1, 1))), np.pad(np.ones((height, width), dtype=bool), 1)
    parts = [(slice(1 + down, 1 + down + height), slice(1 + right, 1 + right + width)) for down, right in places]
    return np.stack([padded[:, a, b] for a, b in parts]), np.stack([inside[a, b] for a, b in parts])


def spread(vectors: Tensor, height: int, width: int) -> Tensor:
    """Give every sample of a plane the vector of its block.

    Args:
        vectors: (B, 2, h, w) float, x and y, as shares of half a side.
        height: Rows of the plane, a multiple of h.
        width: Its columns, a multiple of w.

    Returns:
        (B, H, W, 2); every second row and column of it are those of a plane of half the sides.
    """
    return F.interpolate(vectors, size=(height, width), mode="nearest").permute(0, 2, 3, 1)


def warp(x: Tensor, flow: Tensor) -> Tensor:
    """Fetch samples from where vectors point, interpolating linearly; what lies beyond a border is the border.

    Args:
        x: (B, C, H, W) float.
        flow: (B, H, W, 2) float, as shares of half a side.
    """
    places = _grid(x.shape[2], x.shape[3], x.device) + flow
    return F.grid_sample(x.float(), places, padding_mode="border", align_corners=False)


@lru_cache(maxsize=4)  # One frame of 3840 x 2160 takes 66 MB; a model has three sizes.
def _grid(height: int, width: int, device: torch.device) -> Tensor:
    """Return the places of all samples as `grid_sample` names them, (1, H, W, 2)."""
    with torch.inference_mode(mode=False):
        y, x = ((2 * torch.arange(side, device=device) + 1) / side - 1 for side in (height, width))
        return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)[None]


def relative(vectors: Tensor) -> Tensor:
    """Return vectors (B, 2, h, w) in quarters of a sample as shares of half a side of luma, float32."""
    return vectors * _shares(vectors.shape[2], vectors.shape[3], vectors.device)


@lru_cache(maxsize=16)
def _shares(height: int, width: int, device: torch.device) -> Tensor:
    with torch.inference_mode(mode=False):
        return torch.tensor([2 / (_QUARTERS * BLOCK * side) for side in (width, height)], device=device).view(
            1, 2, 1, 1
        )


@torch.no_grad()
def search(frame: Tensor, reference: Tensor, before: Tensor, price: Tensor) -> Tensor:
    """Search for the motion of blocks from a reference to a frame.

    From all vectors up to 32 samples at a quarter of the resolution the best goes on, with that of the frame before and
    none, to half and then the full resolution; fractions of a sample are where a parabola through the costs of the
    neighbours is least. The cost is the sum of absolute differences plus a price for what the vector's difference to
    that of the frame before, or to its neighbours, takes to code.

    Args:
        frame: (B, 1, H, W) luma; sides are multiples of 16.
        reference: The same of the frame before, decoded.
        before: (B, 2, h, w) vectors of the frame before, quarters of a sample, integers of any type.
        price: (B,) what a bit costs in units of luma, summed over a block.

    Returns:
        (B, 2, h, w) int32 vectors, quarters of a sample, of at most 1024 samples.
    """
    before, price = before.float(), price.view(-1, 1, 1, 1)
    best = _coarse(frame, reference, before, price)
    half = _Costs(F.avg_pool2d(frame, 2), F.avg_pool2d(reference, 2), before, price)
    candidates = [*(best + 2 * shift for shift in _around(frame.device)), before, torch.zeros_like(before)]
    best = _choose(candidates, [half(vectors) for vectors in candidates])
    full = _Costs(frame, reference, before, price)
    candidates = [*(best + shift for shift in _around(frame.device)), before, torch.zeros_like(before)]
    costs = [full(vectors) for vectors in candidates]
    # Where the middle of the nine is the best, fractions of a sample are where parabolas are least.
    fraction = torch.cat([_least(costs[4], costs[3], costs[5]), _least(costs[4], costs[1], costs[7])], 1)
    middle = torch.cat(costs, 1).argmin(1, keepdim=True) == 4
    candidates.append(torch.where(middle, best + (fraction * _QUARTERS).round(), best))
    costs.append(full(candidates[-1]))
    best = _choose(candidates, costs)
    smooth = F.avg_pool2d(F.pad(best, (1, 1, 1, 1), mode="replicate"), 3, 1).round()
    saved = price * (_rate(best - smooth) - _rate(best - before)).clamp_min(0)
    found = _choose([best, smooth], [full(best), full(smooth) - saved])
    # A vector may be a little longer than that of the frame before: decoders stop where the coder does.
    return found.clamp(-_LARGEST, _LARGEST).to(torch.int32)


def _around(device: torch.device) -> list[Tensor]:
    """Return steps of one sample to the nine places around, x before y, the middle one last but four."""
    places = [(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return [torch.tensor(place, device=device).view(1, 2, 1, 1) * float(_QUARTERS) for place in places]


def _coarse(frame: Tensor, reference: Tensor, before: Tensor, price: Tensor) -> Tensor:
    """Return the best vectors of whole steps of four samples, in quarters of a sample."""
    small, other = F.avg_pool2d(frame, 4), F.avg_pool2d(reference, 4)
    b, _, height, width = small.shape
    side = BLOCK // 4
    h, w = height // side, width // side
    padded = F.pad(other, (_REACH,) * 4, mode="replicate")
    steps = 2 * _REACH + 1
    costs = []
    for down in range(steps):
        rows = padded[:, 0, down : down + height].unfold(2, width, 1)  # (B, H / 4, steps, W / 4)
        difference = (small[:, 0, :, None] - rows).abs()
        costs.append(difference.view(b, h, side, steps, w, side).sum((2, 5)).transpose(1, 2))
    cost = 16.0 * torch.cat(costs, 1)
    # Blocks of four samples match anywhere: let the neighbours have a say.
    cost = cost + F.avg_pool2d(cost, 3, 1, 1, count_include_pad=False)
    x = torch.arange(-_REACH, _REACH + 1, device=frame.device) * float(4 * _QUARTERS)
    offsets = torch.stack(torch.meshgrid(x, x, indexing="ij")[::-1]).view(2, -1)
    rate = _rate(offsets.view(1, 2, -1, 1, 1).expand(b, -1, -1, h, w) - before[:, :, None])
    index = (cost + price * rate[:, 0]).argmin(1)
    return offsets[:, index].transpose(0, 1)


def _rate(difference: Tensor) -> Tensor:
    """Estimate the bits of differences of vectors (B, 2, ...), as (B, 1, ...)."""
    return (2 * torch.log2(1 + difference.abs())).sum(1, keepdim=True)


class _Costs:
    """Costs of vectors at one resolution."""

    def __init__(self, frame: Tensor, reference: Tensor, before: Tensor, price: Tensor) -> None:
        self.frame, self.reference, self.before, self.price = frame, reference, before, price
        self.side = BLOCK * frame.shape[2] // (before.shape[2] * BLOCK)

    def __call__(self, vectors: Tensor) -> Tensor:
        """Return the costs (B, 1, h, w) of vectors in quarters of a sample of the full resolution."""
        flow = spread(relative(vectors), self.frame.shape[2], self.frame.shape[3])
        difference = (self.frame - warp(self.reference, flow)).abs()
        total = float(BLOCK**2) * F.avg_pool2d(difference, self.side)
        return total + self.price * _rate(vectors - self.before)


def _least(centre: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Return where, within half a step, a parabola through three costs is least."""
    bend = (low + high - 2 * centre).clamp_min(1e-6)
    return (0.5 * (low - high) / bend).clamp(-0.5, 0.5)


def _choose(vectors: list[Tensor], costs: list[Tensor]) -> Tensor:
    """Return, block by block, the vectors that cost least."""
    index = torch.cat(costs, 1).argmin(1, keepdim=True)
    stacked = torch.stack(vectors, 1)
    place = index[:, :, None].expand(-1, -1, 2, -1, -1)
    return stacked.gather(1, place)[:, 0]

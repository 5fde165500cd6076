"""Motion of blocks in quarters of a sample: its coding in integers, and what it does to planes."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from triode.entropy.coder import CountingWriter, SymbolReader, SymbolWriter
from triode.entropy.exact.state import TableBuffer
from triode.entropy.tables import CdfTables

__all__ = [
    "BLOCK",
    "CROSS",
    "DIAGONAL",
    "LARGEST",
    "QUARTERS",
    "Interpolation",
    "VectorCoder",
    "Vectors",
    "compensate",
    "fetch",
    "lattice",
    "relative",
    "warp",
]

BLOCK: Final = 16
"""Samples of luma that one vector moves, each way."""
QUARTERS: Final = 4
LARGEST: Final = 1 << 12
_SPREADS: Final = 7
_CHOICES: Final = 8
_SCALES: Final = _SPREADS + _CHOICES - 1
_FIRST_SCALE, _GROWTH = 0.2, 1.8
_SUPPORT: Final = 160
_TAIL, _TAIL_SCALE = 1e-3, 40.0
_GLOBAL, _CHOICE = _SCALES, _SCALES + 1
_MOVING: Final = 0.1
_SMALL: Final = 1 << 20
CROSS: Final = ((-1, 0), (1, 0), (0, -1), (0, 1))
DIAGONAL: Final = ((-1, -1), (-1, 1), (1, -1), (1, 1))
Vectors = NDArray[np.int64]
Interpolation = Literal["bilinear", "bicubic"]


class VectorCoder(nn.Module):
    """Codes fields of vectors (2, h, w) in three levels, integers throughout.

    First blocks of even rows and columns, predicted by their own vectors of the frame before plus one vector for all;
    then those of odd rows and columns; then the rest. Each of these is predicted, x and y by themselves, by the middle
    of five values, its diagonal neighbours or those beside it and what the first ones have: half of the median, a
    quarter of either side of it. The table of a difference is one of fourteen Laplace distributions: by how far the
    values are from the prediction, and by a choice that the encoder makes for each level.
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
            symbols = (field - predicted)[:, here].reshape(-1)
            best = int(np.argmin(_costs(symbols, index, tables)))
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
            field[:, here] = np.clip(predicted[:, here] + read, -LARGEST, LARGEST)
        return field


def _costs(symbols: NDArray[np.int64], index: NDArray[np.int64], tables: CdfTables) -> NDArray[np.float64]:
    """Return the bits (choices,) of symbols for each choice, but for the lengths of escapes, which all have alike."""
    entries, last = symbols + _SUPPORT, 2 * _SUPPORT + 1
    entries = np.where((entries < 0) | (entries >= last), last, entries)
    bits: NDArray[np.float64] = tables.bits[tables.starts[index + np.arange(_CHOICES)[:, None]] + entries].sum(1)
    return bits


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
    around, there = _neighbours(field if level else before, DIAGONAL if level == 1 else CROSS)
    moved = before + shift[:, None, None]
    predicted = moved
    if level:
        count = np.maximum(there.sum(0), 1)
        mean = (2 * around.sum(0) + count) // (2 * count)
        five = np.sort(np.concatenate([np.where(there[:, None], around, mean), moved[None]]), 0)
        predicted = (five[1] + 2 * five[2] + five[3] + 2) // 4
    apart = (np.abs(around - (predicted if level else before)) * there[:, None]).sum(0) + np.abs(moved - predicted)
    # Vectors that differ one way are likely to differ the other way too.
    apart = ((apart // 2 + apart.max(0) // 2 + 1) // 2)[:, here].reshape(-1)
    # The number of bits of the distance, without floats.
    index = sum(((apart >= 1 << k).astype(np.int64) for k in range(_SPREADS - 1)), np.zeros(len(apart), np.int64))
    return predicted, index, here


def _neighbours(field: Vectors, places: tuple[tuple[int, int], ...]) -> tuple[Vectors, NDArray[np.bool_]]:
    """Return four neighbours (4, 2, h, w) of each vector, zero outside, and which there are (4, h, w)."""
    height, width = field.shape[1:]
    padded, inside = np.pad(field, ((0, 0), (1, 1), (1, 1))), np.pad(np.ones((height, width), dtype=bool), 1)
    parts = [(slice(1 + down, 1 + down + height), slice(1 + right, 1 + right + width)) for down, right in places]
    return np.stack([padded[:, a, b] for a, b in parts]), np.stack([inside[a, b] for a, b in parts])


def compensate(planes: Iterable[Tensor], vectors: Tensor) -> list[Tensor]:
    """Predict planes from those of the frame before, by vectors of blocks whose neighbours have a say near the edges.

    Overlapped block motion compensation (Orchard and Sullivan, 1994): the middle of a block follows its own vector;
    towards the edges, the samples that its own and its neighbours' vectors fetch are blended. Interpolation is cubic,
    from 4x4 samples; what lies beyond a border is the border.

    Args:
        planes: (B, C, H, W) float each; h and w divide H and W.
        vectors: (B, 2, h, w) float, x and y, as shares of half a side.
    """
    padded = F.pad(vectors, (1, 1, 1, 1), mode="replicate")
    return [_blended(plane, padded, _windows(*vectors.shape[2:], *plane.shape[2:], plane.device)) for plane in planes]


def _blended(x: Tensor, padded: Tensor, windows: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    (b, c, height, width), (rows, columns, weights) = x.shape, windows
    made = []
    # The fewest calls where frames are small, the least memory where they are not.
    for part in (slice(0, 4),) if height * width <= _SMALL else (slice(k, k + 1) for k in range(4)):
        flow = padded[:, :, rows[part], columns[part]].permute(0, 2, 3, 4, 1) + lattice(height, width, x.device)
        n = flow.shape[1]
        got = fetch(x[:, None].expand(-1, n, -1, -1, -1).flatten(0, 1), flow.flatten(0, 1), "bicubic")
        made.append((got.view(b, n, c, height, width) * weights[part]).sum(1))
    return made[0] if len(made) == 1 else torch.stack(made).sum(0)


@lru_cache(maxsize=8)
def _windows(h: int, w: int, height: int, width: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return which four of h x w padded blocks the samples of a plane follow, and how much.

    Returns:
        Rows (4, H, 1), columns (4, 1, W) and weights (4, 1, H, W) that add up to one.
    """
    with torch.inference_mode(mode=False):
        sides = []
        for blocks, samples in ((h, height), (w, width)):
            place = (torch.arange(samples, device=device) + 0.5) * (blocks / samples) - 0.5
            share = ((place - place.floor() - 0.5) * 2 + 0.5).clamp(0, 1)
            sides.append((place.floor().long() + 1, torch.stack([1 - share, share])))
        (top, down), (left, right) = sides
        rows = torch.stack([top, top, top + 1, top + 1])[:, :, None]
        columns = torch.stack([left, left + 1, left, left + 1])[:, None]
        return rows, columns, (down[:, None, :, None] * right[None, :, None]).reshape(4, 1, height, width)


def warp(x: Tensor, vectors: Tensor) -> Tensor:
    """Move features by vectors of blocks, interpolating linearly; what lies beyond a border is the border.

    Args:
        x: (B, C, H, W) float.
        vectors: (B, 2, h, w) float, x and y, as shares of half a side.
    """
    flow = F.interpolate(vectors, size=x.shape[2:], mode="nearest").permute(0, 2, 3, 1)
    return fetch(x, lattice(x.shape[2], x.shape[3], x.device) + flow, "bilinear")


def fetch(x: Tensor, places: Tensor, mode: Interpolation) -> Tensor:
    """Fetch samples (B, C, h, w) of planes (B, C, H, W) at places (B, h, w, 2), -1 to 1 from border to border."""
    return F.grid_sample(x.float(), places, mode=mode, padding_mode="border", align_corners=False)


@lru_cache(maxsize=4)  # One frame of 3840 x 2160 takes 66 MB; a model has three sizes.
def lattice(height: int, width: int, device: torch.device) -> Tensor:
    """Return the places of all samples of a plane as :func:`fetch` takes them, (1, H, W, 2)."""
    with torch.inference_mode(mode=False):
        y, x = ((2 * torch.arange(side, device=device) + 1) / side - 1 for side in (height, width))
        return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)[None]


def relative(vectors: Tensor, size: tuple[int, int] | None = None) -> Tensor:
    """Return vectors (B, 2, ...) in quarters of a sample as shares of half a side of luma, float32.

    Args:
        vectors: Of any number of blocks.
        size: Blocks that the frame has, each way; of vectors (B, 2, h, w) that is their own.
    """
    h, w = size or (vectors.shape[2], vectors.shape[3])
    return vectors * _shares(h, w, vectors.device).view(1, 2, *[1] * (vectors.dim() - 2))


@lru_cache(maxsize=16)
def _shares(height: int, width: int, device: torch.device) -> Tensor:
    with torch.inference_mode(mode=False):
        return torch.tensor([2 / (QUARTERS * BLOCK * side) for side in (width, height)], device=device)

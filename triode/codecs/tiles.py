"""Tiles of an image: how each is analysed and synthesised with what surrounds it, so that no seam shows.

A tile's latent is made from its pixels and a margin of its neighbours' pixels; its pixels are made from its latent and
a margin of its neighbours' latents. With margins as wide as the networks reach, both equal what the whole image gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from triode.container import ImageHead, Tile, TileGrid, tile_grid
from triode.entropy.tables import Int32Array
from triode.errors import UnsupportedError
from triode.models.base import ImageModel
from triode.models.layers.products import channels_last
from triode.models.restoration import REACH, STRIP

Pixels = NDArray[np.uint8]
_WORK_BYTES = 150
_LATENT_BYTES = 5


def latent_size(model: ImageModel, tile: Tile) -> tuple[int, int]:
    """Return rows and columns of a tile's latent."""
    return _up(tile.height, model.multiple) // model.stride, _up(tile.width, model.multiple) // model.stride


def check_tiles(model: ImageModel, head: ImageHead) -> None:
    """Check that a model can serve an image's tiles.

    Raises:
        UnsupportedError: If tiles are no multiple of what the model needs, or narrower than its synthesis reaches.
    """
    side = tile_grid(head).side
    if side is not None and (side % model.multiple or side < model.synthesis_halo * model.stride):
        least = _up(max(model.multiple, model.synthesis_halo * model.stride), model.multiple)
        raise UnsupportedError(f"The file has tiles of {side} pixels; its model needs {least} or more")


def decoding_memory(model: ImageModel, head: ImageHead) -> int:
    """Estimate the bytes that decoding an image allocates, on the safe side for ``image-light``.

    These are the picture, the latents of three rows of tiles, and what the networks need for one tile and its margin.
    """
    width, height = _up(head.width, model.multiple), _up(head.height, model.multiple)
    side, margin = tile_grid(head).side, 2 * model.synthesis_halo * model.stride
    tile = width * height if side is None else min(width, side + margin) * min(height, side + margin)
    rows = width * (height if side is None else min(height, 3 * side))
    channels = head.layout.channels * (1 + head.alpha) + 2 * head.alpha
    return head.width * head.height * channels + rows * _LATENT_BYTES + tile * _WORK_BYTES


@torch.inference_mode()
def analyse(model: ImageModel, colour: Pixels, tile: Tile, q: Tensor) -> Tensor:
    """Make the latent of a tile.

    Args:
        model: The model.
        colour: (H, W, C) pixels of the whole image, C 1 or 3.
        tile: The tile.
        q: (1,) rate point.

    Returns:
        (1, M, h, w) float, h and w as :func:`latent_size` says.
    """
    height, width = colour.shape[:2]
    # Margins in multiples, so that every tile is padded as the whole image is.
    margin = _up(model.analysis_halo, model.multiple)
    x0, y0 = max(0, tile.x - margin), max(0, tile.y - margin)
    x1, y1 = min(width, tile.x + tile.width + margin), min(height, tile.y + tile.height + margin)
    pixels = torch.from_numpy(colour[y0:y1, x0:x1].copy()).permute(2, 0, 1)
    x = (pixels.float() / 255).expand(3, -1, -1)[None]
    bottom, right = -x.shape[2] % model.multiple, -x.shape[3] % model.multiple
    if bottom or right:
        x = F.pad(x, (0, right, 0, bottom), mode="replicate")
    with torch.autocast("cpu", enabled=False):  # A file does not depend on the caller's modes.
        y = model.analysis(x.contiguous(memory_format=torch.channels_last), q)
    top, left = (tile.y - y0) // model.stride, (tile.x - x0) // model.stride
    rows, columns = latent_size(model, tile)
    return y[:, :, top : top + rows, left : left + columns]


@dataclass(frozen=True, slots=True, eq=False)
class DecodedTile:
    """What the symbols of a tile say.

    Attributes:
        latent: (1, M, h, w), dequantised.
        point: Rate point.
        coefficients: Of the model's restoration; None where the tile does without.
    """

    latent: Tensor
    point: int
    coefficients: Int32Array | None = None


def surround(tiles: Mapping[int, DecodedTile], index: int, grid: TileGrid, halo: int) -> tuple[Tensor, int, int]:
    """Join a tile's latent and what reaches into it of its neighbours'.

    Args:
        tiles: By unit: the tile itself and its neighbours, up to eight.
        index: The tile's unit.
        grid: The tiles.
        halo: How far neighbours reach, in latent elements.

    Returns:
        The joint latent, and how many rows and columns of it come before the tile's own.
    """
    row, column = divmod(index, grid.columns)
    rows = range(max(0, row - 1), min(grid.rows, row + 2))
    columns = range(max(0, column - 1), min(grid.columns, column + 2))

    if len(rows) == len(columns) == 1:
        return tiles[index].latent, 0, 0

    def edge(y: Tensor, offset: int, dim: int) -> Tensor:
        count = min(halo, y.shape[dim])
        return y if offset == 0 else y.narrow(dim, y.shape[dim] - count if offset < 0 else 0, count)

    cells = [[edge(edge(tiles[r * grid.columns + c].latent, r - row, 2), c - column, 3) for c in columns] for r in rows]
    before = (cells[0][0].shape[2] if rows[0] < row else 0, cells[0][0].shape[3] if columns[0] < column else 0)
    return torch.cat([torch.cat(strip, 3) for strip in cells], 2), *before


@torch.inference_mode()
def synthesise(
    model: ImageModel, tiles: Mapping[int, DecodedTile], index: int, grid: TileGrid, channels: int
) -> Pixels:
    """Make the pixels of a tile.

    Args:
        model: The model.
        tiles: By unit; see :func:`surround`.
        index: The tile's unit.
        grid: The tiles.
        channels: 1 or 3.

    Returns:
        (H, W, C) uint8.
    """
    tile, decoded = grid[index], tiles[index]
    y, above, before = surround(tiles, index, grid, model.synthesis_halo)
    top, left = above * model.stride, before * model.stride
    y = channels_last(y)
    pixels = torch.empty(tile.height, tile.width, channels, dtype=torch.uint8)
    with torch.autocast("cpu", enabled=False):
        x = model.synthesis(y, torch.tensor([decoded.point]))
        before = min(left, REACH)
        shown = _restored(model, x[:, :, :, left - before : left + tile.width + REACH], decoded)
        for done in range(0, tile.height, STRIP):
            rows = slice(done, min(done + STRIP, tile.height))
            strip = shown(top + rows.start, top + rows.stop)[0, :, :, before : before + tile.width]
            if channels == 1:
                strip = strip.mean(0, keepdim=True)
            strip = strip.mul(255).round_().clamp_(0, 255)
            for channel in range(channels):  # One after the other: transposing copies are slow.
                pixels[rows, :, channel] = strip[channel]
    return pixels.numpy()


def _restored(model: ImageModel, x: Tensor, decoded: DecodedTile) -> Callable[[int, int], Tensor]:
    """Return what gives rows of a synthesis, restored if the tile says so."""
    if model.restoration is None or decoded.coefficients is None:
        return lambda top, bottom: x[:, :, top:bottom]
    return model.restoration.restorer(x, decoded.coefficients, decoded.point)


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple

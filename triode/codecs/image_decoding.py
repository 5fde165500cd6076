"""One image file being decoded: latents unit by unit, pixels as soon as all neighbours of a tile are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from triode.codecs.tiles import DecodedTile, Pixels, latent_size, synthesise
from triode.container import ContainerReader, Tile, Unit, tile_grid
from triode.entropy.coder import RangeReader
from triode.models.base import ImageModel

Progress = Callable[[float], None]


class Decoding:
    """Decodes the units of a file.

    Args:
        model: The model that the file was coded with.
        reader: The file.
        progress: Called with the share done, 0 to 1.
    """

    def __init__(self, model: ImageModel, reader: ContainerReader, progress: Progress | None = None) -> None:
        self.model, self.reader, self.progress = model, reader, progress
        self.grid = tile_grid(reader.head.image)

    def latents(self) -> Iterator[tuple[Unit, DecodedTile]]:
        """Yield each unit with what its symbols say, checksum checked."""
        for unit in self.reader.units():
            tile = self.grid[unit.index]
            coder = RangeReader(unit.payload)
            shape = latent_size(self.model, tile)
            q = torch.tensor([unit.rate_point])
            with torch.inference_mode():
                y_hat = self.model.decode(shape, q, coder)
                restoration = self.model.restoration
                coefficients = None if restoration is None else restoration.read(unit.rate_point, coder)
                coder.check(unit.symbols_crc32)
                y = self.model.dequantise(y_hat, q)
            yield unit, DecodedTile(y, unit.rate_point, coefficients)

    def tiles(self) -> Iterator[tuple[Tile, Pixels]]:
        """Yield each tile with its pixels (H, W, C) uint8, in raster order."""
        columns, rows = self.grid.columns, self.grid.rows
        channels = self.reader.head.image.layout.channels
        held: dict[int, DecodedTile] = {}
        done = 0
        for unit, decoded in self.latents():
            held[unit.index] = decoded
            row = unit.index // columns
            # A row of tiles needs the row below it; the last row needs nothing more.
            ready = [row - 1] if (unit.index + 1) % columns == 0 and row else []
            if unit.index + 1 == columns * rows:
                ready.append(row)
            for r in ready:
                for index in range(r * columns, (r + 1) * columns):
                    yield self.grid[index], synthesise(self.model, held, index, self.grid, channels)
                    done += 1
                    if self.progress:
                        self.progress(done / len(self.grid))
                for index in range((r - 1) * columns, r * columns):
                    held.pop(index, None)

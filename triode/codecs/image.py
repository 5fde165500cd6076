"""Still images: pictures in, ``.tri`` bytes out, and back, with tiles whose seams do not show."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from triode.codecs.alpha import decode_alpha, encode_alpha
from triode.codecs.search import largest_point, smallest_point
from triode.container import (
    ChunkInfo,
    ContainerReader,
    ContainerWriter,
    DecodeLimits,
    Head,
    ImageHead,
    Layout,
    MetadataKind,
    Tile,
    Unit,
    TileGrid,
    tile_grid,
)
from triode.entropy.coder import RangeReader, RangeWriter
from triode.errors import ModelMismatchError
from triode.media import Picture
from triode.models.base import ImageModel
from triode.models.weights import Pretrained, default_weights, load_weights

TILE_LOG2 = 11
"""Tiles are 2048 pixels wide: large enough that their borders cost nothing, small enough to bound the memory."""
_POINTS = 64
_BYTES_A_PIXEL = 60

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Encoded:
    """A coded picture.

    Attributes:
        data: The ``.tri`` file.
        model: Name of the weights.
        rate_point: Rate point of the units, 0 to 63.
        quality: The same as a quality, 0 to 100.
        width: Pixels.
        height: Pixels.
        payload_bytes: Entropy coded bytes, a part of ``data``.
        psnr: PSNR of the 8-bit reconstruction in dB where a search measured it.
    """

    data: bytes
    model: str
    rate_point: int
    quality: float
    width: int
    height: int
    payload_bytes: int
    psnr: float | None = None


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """What a ``.tri`` image says of itself, read without its model.

    Attributes:
        media: ``image``.
        model: Name of the weights it was coded with.
        width: Pixels.
        height: Pixels.
        channels: Colour channels, 1 or 3.
        has_alpha: Whether there is an alpha plane.
        tiles: Number of units.
        rate_points: Distinct rate points of the units, rising.
        bytes: Size of the file.
        payload_bytes: Entropy coded bytes.
        metadata: Kind and size of each metadata block.
        entropy_digest: First 4 bytes, hex.
        synthesis_digest: First 4 bytes, hex.
        structure: Chunks of the file.
    """

    media: str
    model: str
    width: int
    height: int
    channels: int
    has_alpha: bool
    tiles: int
    rate_points: tuple[int, ...]
    bytes: int
    payload_bytes: int
    metadata: tuple[tuple[str, int], ...]
    entropy_digest: str
    synthesis_digest: str
    structure: tuple[ChunkInfo, ...]


def quality_to_point(quality: float) -> int:
    """Map a quality of 0 to 100 to a rate point of 0 to 63.

    Raises:
        ValueError: If the quality is out of range.
    """
    if not 0 <= quality <= 100:
        raise ValueError(f"Quality must be in 0..100, but got {quality}")
    return round(quality * (_POINTS - 1) / 100)


def point_to_quality(point: int) -> float:
    """Map a rate point to the quality that stands for it, to one decimal."""
    return round(point * 100 / (_POINTS - 1), 1)


class ImageCodec:
    """Encodes and decodes pictures.

    Args:
        model: Name of weights or path of a ``.safetensors``; when absent, the default to encode, and what the stream
            says to decode.
        limits: What a stream may ask for when decoding.
        tile_log2: Base-2 logarithm of the tile side in pixels, 7 to 16.
    """

    def __init__(
        self, model: str | None = None, *, limits: DecodeLimits | None = None, tile_log2: int = TILE_LOG2
    ) -> None:
        self._model = model
        self._limits = limits or DecodeLimits()
        self._tile_log2 = tile_log2

    def encode(
        self,
        picture: Picture,
        *,
        quality: float | None = None,
        bpp: float | None = None,
        size: int | None = None,
        psnr: float | None = None,
        progress: Progress | None = None,
    ) -> Encoded:
        """Encode a picture.

        Args:
            picture: What to encode.
            quality: 0 to 100; 50 when nothing is asked for.
            bpp: Largest rate in bits of the file over pixels; the best quality below it is searched.
            size: The same in bytes.
            psnr: Smallest PSNR in dB over the colour channels in 8 bits; the smallest file above it is searched.
            progress: Called with the share done, 0 to 1.

        Returns:
            The file and how it came out.

        Raises:
            ValueError: If more than one target is given or one is out of range.
            UnsupportedError: If no rate point reaches the target.
            ModelMismatchError: If the weights are missing.
        """
        if sum(t is not None for t in (quality, bpp, size, psnr)) > 1:
            raise ValueError("Give at most one of quality, bpp, size and psnr")
        job = _Encoding(load_weights(self._model or default_weights("image")), picture, self._tile_log2)
        if bpp is not None or size is not None:
            budget = size if size is not None else int((bpp or 0) * picture.width * picture.height / 8)
            if budget <= 0:
                raise ValueError(f"The target must be positive, but got {bpp if size is None else size}")
            return largest_point(lambda p: job.run(p, None), lambda e: len(e.data), budget, _POINTS)
        if psnr is not None:
            return smallest_point(lambda p: job.run(p, None, measure=True), lambda e: e.psnr or 0.0, psnr, _POINTS)
        return job.run(quality_to_point(50 if quality is None else quality), progress)

    def decode(self, source: bytes | BinaryIO, *, progress: Progress | None = None) -> Picture:
        """Decode a file.

        Args:
            source: Its bytes, or a binary file object, which need not seek.
            progress: Called with the share done, 0 to 1.

        Returns:
            The picture.

        Raises:
            CodecError: If the file is damaged, exceeds the limits, or its model is not here.
        """
        reader = ContainerReader(_open(source), self._limits)
        head = reader.head
        weights = self._weights(head)
        self._limits.check_memory_bytes(_BYTES_A_PIXEL * head.body.width * min(head.body.height, 6144), "decoding")
        planes = np.empty((head.body.height, head.body.width, head.body.layout.channels), dtype=np.uint8)
        for tile, pixels in _Decoding(weights, reader, progress).tiles():
            planes[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width] = pixels
        if reader.alpha is not None:
            alpha = decode_alpha(reader.alpha, head.body.width, head.body.height)
            planes = np.concatenate([planes, alpha[:, :, None]], axis=2)
        meta = reader.metadata
        return Picture(planes, meta.icc, meta.exif, meta.xmp)

    def info(self, source: bytes | BinaryIO) -> ImageInfo:
        """Read what a file says of itself; loads no model and decodes nothing.

        Raises:
            CodecError: If the file is damaged or exceeds the limits.
        """
        reader = ContainerReader(_open(source), self._limits)
        head, payload, points = reader.head, 0, set()
        for unit in reader.units():
            payload += len(unit.payload)
            points.add(unit.rate_point)
        blocks = ((k.name.lower(), reader.metadata.get(k)) for k in MetadataKind)
        structure = reader.structure()
        return ImageInfo(
            media="image",
            model=head.model,
            width=head.body.width,
            height=head.body.height,
            channels=head.body.layout.channels,
            has_alpha=head.body.alpha,
            tiles=head.units,
            rate_points=tuple(sorted(points)),
            bytes=sum(c.size for c in structure) + 8,
            payload_bytes=payload,
            metadata=tuple((name, len(data)) for name, data in blocks if data is not None),
            entropy_digest=head.entropy_digest.hex(),
            synthesis_digest=head.synthesis_digest.hex(),
            structure=structure,
        )

    def verify(self, source: bytes | BinaryIO) -> ImageInfo:
        """Decode the entropy path of every unit and check every checksum; makes no pixels.

        Raises:
            CodecError: If anything does not check.
        """
        data = source if isinstance(source, bytes) else source.read()
        reader = ContainerReader(io.BytesIO(data), self._limits)
        for _ in _Decoding(self._weights(reader.head), reader, None).latents():
            pass
        if reader.alpha is not None:
            decode_alpha(reader.alpha, reader.head.body.width, reader.head.body.height)
        return self.info(data)

    def _weights(self, head: Head) -> Pretrained:
        weights = load_weights(self._model or head.model)
        own = bytes.fromhex(weights.info.entropy_digest)[: len(head.entropy_digest)]
        if own != head.entropy_digest:
            raise ModelMismatchError(
                f"The file was coded with {head.model} of entropy digest {head.entropy_digest.hex()}; "
                f"the weights {weights.info.name} here have {own.hex()}"
            )
        return weights


def verify(source: bytes | BinaryIO, *, limits: DecodeLimits | None = None) -> ImageInfo:
    """Check a file with the model that it names; see :meth:`ImageCodec.verify`."""
    return ImageCodec(limits=limits).verify(source)


def _open(source: bytes | BinaryIO) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes | bytearray | memoryview) else source


def _halo(tile: Tile, halo: int, width: int, height: int) -> tuple[int, int, int, int]:
    """Return the tile grown by a halo, clipped to the image, as x0, y0, x1, y1."""
    x1, y1 = min(width, tile.x + tile.width + halo), min(height, tile.y + tile.height + halo)
    return max(0, tile.x - halo), max(0, tile.y - halo), x1, y1


class _Encoding:
    """One picture, ready to be coded at any rate point."""

    def __init__(self, weights: Pretrained, picture: Picture, tile_log2: int) -> None:
        self.model, self.info = weights.model, weights.info
        self.picture = picture
        self.colour = picture.pixels[:, :, :1] if picture.is_grey else picture.pixels[:, :, :3]
        self.head = Head(
            self.info.name,
            bytes.fromhex(self.info.entropy_digest)[:4],
            bytes.fromhex(self.info.synthesis_digest)[:4],
            ImageHead(
                picture.width,
                picture.height,
                Layout.GREY if picture.is_grey else Layout.RGB,
                alpha=picture.has_alpha,
                tile_log2=tile_log2,
            ),
        )
        self.alpha = encode_alpha(picture.pixels[:, :, -1]) if picture.has_alpha else None

    @torch.inference_mode()
    def run(self, point: int, progress: Progress | None, *, measure: bool = False) -> Encoded:
        out = io.BytesIO()
        tiles = tile_grid(self.head.body)
        payload, latents = 0, {}
        with ContainerWriter(out, self.head) as writer:
            blocks = ((MetadataKind.ICC, self.picture.icc), (MetadataKind.EXIF, self.picture.exif))
            for kind, data in (*blocks, (MetadataKind.XMP, self.picture.xmp)):
                if data:
                    writer.metadata(kind, data)
            if self.alpha is not None:
                writer.alpha(self.alpha)
            q = torch.tensor([point])
            for index, tile in enumerate(tiles):
                coder = RangeWriter()
                y_hat = self.model.encode(self._latent(tile, q), q, coder)
                unit = Unit(index, point, coder.crc, coder.getvalue())
                writer.unit(unit)
                payload += len(unit.payload)
                if measure:
                    latents[index] = self.model.dequantise(y_hat, q)
                if progress:
                    progress((index + 1) / len(tiles))
        psnr = self._psnr(latents, point) if measure else None
        p = self.picture
        quality = point_to_quality(point)
        return Encoded(out.getvalue(), self.info.name, point, quality, p.width, p.height, payload, psnr)

    def _latent(self, tile: Tile, q: Tensor) -> Tensor:
        """Analyse a tile with the pixels around it, and cut the halo off."""
        model = self.model
        height, width = self.colour.shape[:2]
        x0, y0, x1, y1 = _halo(tile, model.analysis_halo, width, height)
        pixels = torch.from_numpy(self.colour[y0:y1, x0:x1].copy()).permute(2, 0, 1)
        x = (pixels.float() / 255).expand(3, -1, -1)[None]
        bottom, right = -x.shape[2] % model.multiple, -x.shape[3] % model.multiple
        if bottom or right:
            x = F.pad(x, (0, right, 0, bottom), mode="replicate")
        y = model.analysis(x.contiguous(memory_format=torch.channels_last), q)
        top, left = (tile.y - y0) // model.stride, (tile.x - x0) // model.stride
        rows, columns = _latent_size(tile, model.multiple, model.stride)
        return y[:, :, top : top + rows, left : left + columns]

    def _psnr(self, latents: dict[int, Tensor], point: int) -> float:
        error = 0.0
        tiles = tile_grid(self.head.body)
        for index, tile in enumerate(tiles):
            pixels = _synthesise(self.model, latents, index, tiles, point, self.colour.shape[2])
            reference = self.colour[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]
            error += float(np.square(pixels.astype(np.float64) - reference).sum())
        return float(-10 * np.log10(max(error / self.colour.size, 1e-10) / 255**2))


class _Decoding:
    """One file being decoded: latents unit by unit, pixels as soon as all neighbours of a tile are there."""

    def __init__(self, weights: Pretrained, reader: ContainerReader, progress: Progress | None) -> None:
        self.model, self.reader, self.progress = weights.model, reader, progress
        self.grid = tile_grid(reader.head.body)

    def latents(self) -> Iterator[tuple[Unit, Tensor]]:
        """Yield each unit with its dequantised latent, checksum checked."""
        for unit in self.reader.units():
            tile = self.grid[unit.index]
            coder = RangeReader(unit.payload)
            shape = _latent_size(tile, self.model.multiple, self.model.stride)
            q = torch.tensor([unit.rate_point])
            with torch.inference_mode():
                y_hat = self.model.decode(shape, q, coder)
                coder.check(unit.symbols_crc32)
                y = self.model.dequantise(y_hat, q)
            yield unit, y

    def tiles(self) -> Iterator[tuple[Tile, np.ndarray]]:
        """Yield each tile with its pixels (H, W, C) uint8, in raster order."""
        columns, rows = self.grid.columns, self.grid.rows
        channels = self.reader.head.body.layout.channels
        held: dict[int, Tensor] = {}
        points: dict[int, int] = {}
        done = 0
        for unit, y in self.latents():
            held[unit.index], points[unit.index] = y, unit.rate_point
            row = unit.index // columns
            # A row of tiles needs the row below it; the last row needs nothing more.
            ready = [row - 1] if (unit.index + 1) % columns == 0 and row else []
            if unit.index + 1 == columns * rows:
                ready.append(row)
            for r in ready:
                for index in range(r * columns, (r + 1) * columns):
                    yield self.grid[index], _synthesise(self.model, held, index, self.grid, points[index], channels)
                    done += 1
                    if self.progress:
                        self.progress(done / len(self.grid))
                for index in range((r - 1) * columns, r * columns):
                    held.pop(index, None)


def _latent_size(tile: Tile, multiple: int, stride: int) -> tuple[int, int]:
    """Return rows and columns of a tile's latent."""
    return -(-tile.height // multiple) * multiple // stride, -(-tile.width // multiple) * multiple // stride


def _surround(latents: dict[int, Tensor], index: int, grid: TileGrid, halo: int) -> tuple[Tensor, int, int]:
    """Join a tile's latent and what reaches into it of its neighbours'; return it, and rows and columns before it."""
    row, column = divmod(index, grid.columns)
    rows = range(max(0, row - 1), min(grid.rows, row + 2))
    columns = range(max(0, column - 1), min(grid.columns, column + 2))

    def edge(y: Tensor, offset: int, dim: int) -> Tensor:
        count = min(halo, y.shape[dim])
        return y if offset == 0 else y.narrow(dim, y.shape[dim] - count if offset < 0 else 0, count)

    cells = [[edge(edge(latents[r * grid.columns + c], r - row, 2), c - column, 3) for c in columns] for r in rows]
    before = (cells[0][0].shape[2] if rows[0] < row else 0, cells[0][0].shape[3] if columns[0] < column else 0)
    return torch.cat([torch.cat(strip, 3) for strip in cells], 2), *before


@torch.inference_mode()
def _synthesise(
    model: ImageModel, latents: dict[int, Tensor], index: int, grid: TileGrid, point: int, channels: int
) -> np.ndarray:
    """Make the pixels of a tile, (H, W, C) uint8, from its latent and its neighbours'."""
    tile = grid[index]
    y, rows, columns = _surround(latents, index, grid, model.synthesis_halo)
    x = model.synthesis(y.contiguous(memory_format=torch.channels_last), torch.tensor([point]))[0]
    top, left = rows * model.stride, columns * model.stride
    x = x[:, top : top + tile.height, left : left + tile.width]
    if channels == 1:
        x = x.mean(0, keepdim=True)
    pixels: np.ndarray = x.mul(255).round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    return pixels

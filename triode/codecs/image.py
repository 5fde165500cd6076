"""Still images: pictures in, ``.tri`` bytes out, and back, with tiles whose seams do not show."""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from triode.codecs.alpha import decode_alpha, encode_alpha
from triode.codecs.search import largest_point, smallest_point
from triode.codecs.tiles import Pixels, analyse, check_tiles, decoding_memory, latent_size, synthesise
from triode.container import (
    SIGNATURE,
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
    tile_grid,
)
from triode.entropy.coder import RangeReader, RangeWriter
from triode.errors import ModelMismatchError, UnsupportedError
from triode.media import Picture
from triode.models.weights import Pretrained, default_weights, load_weights

TILE_LOG2 = 11
"""Tiles are 2048 pixels wide: large enough that their borders cost nothing, small enough to bound the memory."""
_TILES = range(7, 17)
_POINTS = 64
_PROBES = 7

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

    Raises:
        ValueError: If the tile side is out of range.
    """

    def __init__(
        self, model: str | None = None, *, limits: DecodeLimits | None = None, tile_log2: int = TILE_LOG2
    ) -> None:
        if tile_log2 not in _TILES:
            raise ValueError(f"Argument `tile_log2` must be in {_TILES[0]}..{_TILES[-1]}, but got {tile_log2}")
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
        for name, target in (("bpp", bpp), ("size", size), ("psnr", psnr)):
            if target is not None and not 0 < target < math.inf:
                raise ValueError(f"Argument `{name}` must be positive and finite, but got {target}")
        point = quality_to_point(50 if quality is None else quality)
        job = _Encoding(load_weights(self._model or default_weights("image")), picture, self._tile_log2)
        if bpp is None and size is None and psnr is None:
            return job.run(point, progress)
        probes = 0

        def probe(point: int) -> Encoded:
            nonlocal probes
            result = job.run(point, None, measure=psnr is not None)
            probes += 1
            if progress:
                progress(probes / (_PROBES + 1))
            return result

        if psnr is not None:
            found = smallest_point(probe, lambda e: e.psnr or 0.0, psnr, _POINTS)
        else:
            budget = size if size is not None else (bpp or 0.0) * picture.width * picture.height / 8
            found = largest_point(probe, lambda e: len(e.data), budget, _POINTS)
        if progress:
            progress(1.0)
        return found

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
        decoding = self._decoding(reader, progress)
        body = reader.head.body
        planes = np.empty((body.height, body.width, body.layout.channels), dtype=np.uint8)
        for tile, pixels in decoding.tiles():
            planes[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width] = pixels
        if reader.alpha is not None:
            alpha = decode_alpha(reader.alpha, body.width, body.height)
            planes = np.concatenate([planes, alpha[:, :, None]], axis=2)
        meta = reader.metadata
        return Picture(planes, meta.icc, meta.exif, meta.xmp)

    def info(self, source: bytes | BinaryIO) -> ImageInfo:
        """Read what a file says of itself; loads no model and decodes nothing.

        Raises:
            CodecError: If the file is damaged or exceeds the limits.
        """
        return _describe(ContainerReader(_rewindable(source, self._limits), self._limits))

    def verify(self, source: bytes | BinaryIO) -> ImageInfo:
        """Decode the entropy path of every unit and check every checksum; makes no pixels.

        Raises:
            CodecError: If anything does not check.
        """
        reader = ContainerReader(_rewindable(source, self._limits), self._limits)
        for _ in self._decoding(reader, None).latents():
            pass
        if reader.alpha is not None:
            decode_alpha(reader.alpha, reader.head.body.width, reader.head.body.height)
        return _describe(reader)

    def _decoding(self, reader: ContainerReader, progress: Progress | None) -> _Decoding:
        """Find the weights of a file, and check that they and this release can decode it."""
        head = reader.head
        if head.body.bit_depth != 8:
            raise UnsupportedError(f"The file has {head.body.bit_depth} bits a sample; this release decodes 8")
        if self._model is None and head.model.endswith(".safetensors"):
            # A name from a stream never becomes a path.
            raise ModelMismatchError(f"The file names the model {head.model}, which is no name of weights")
        weights = load_weights(self._model or head.model)
        own = bytes.fromhex(weights.info.entropy_digest)[: len(head.entropy_digest)]
        if own != head.entropy_digest:
            raise ModelMismatchError(
                f"The file was coded with {head.model} of entropy digest {head.entropy_digest.hex()}; "
                f"the weights {weights.info.name} here have {own.hex()}"
            )
        if bytes.fromhex(weights.info.synthesis_digest)[: len(head.synthesis_digest)] != head.synthesis_digest:
            warnings.warn(
                f"The weights {weights.info.name} here make other pixels than those that the file was coded with",
                stacklevel=3,
            )
        check_tiles(weights.model, head.body)
        self._limits.check_memory_bytes(decoding_memory(weights.model, head.body), "decoding")
        return _Decoding(weights, reader, progress)


def verify(source: bytes | BinaryIO, *, limits: DecodeLimits | None = None) -> ImageInfo:
    """Check a file with the model that it names; see :meth:`ImageCodec.verify`."""
    return ImageCodec(limits=limits).verify(source)


def _open(source: bytes | BinaryIO) -> BinaryIO:
    return io.BytesIO(source) if isinstance(source, bytes | bytearray | memoryview) else source


class _Recording:
    """Keeps what is read from a source."""

    def __init__(self, source: BinaryIO) -> None:
        self.data = io.BytesIO()
        self._source = source

    def read(self, size: int, /) -> bytes | None:
        data = self._source.read(size)
        self.data.write(data or b"")
        return data


def _rewindable(source: bytes | BinaryIO, limits: DecodeLimits) -> BinaryIO:
    """Return a source that can be read twice; what comes from a pipe is kept, for as long as it is a valid file."""
    file = _open(source)
    seekable = getattr(file, "seekable", None)
    if seekable is not None and seekable():
        return file
    recording = _Recording(file)
    ContainerReader(recording, limits).structure()
    recording.data.seek(0)
    return recording.data


def _describe(reader: ContainerReader) -> ImageInfo:
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
        bytes=sum(c.size for c in structure) + len(SIGNATURE),
        payload_bytes=payload,
        metadata=tuple((name, len(data)) for name, data in blocks if data is not None),
        entropy_digest=head.entropy_digest.hex(),
        synthesis_digest=head.synthesis_digest.hex(),
        structure=structure,
    )


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
                y_hat = self.model.encode(analyse(self.model, self.colour, tile, q), q, coder)
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

    def _psnr(self, latents: dict[int, Tensor], point: int) -> float:
        error = 0.0
        tiles = tile_grid(self.head.body)
        for index, tile in enumerate(tiles):
            pixels = synthesise(self.model, latents, index, tiles, point, self.colour.shape[2])
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
            shape = latent_size(self.model, tile)
            q = torch.tensor([unit.rate_point])
            with torch.inference_mode():
                y_hat = self.model.decode(shape, q, coder)
                coder.check(unit.symbols_crc32)
                y = self.model.dequantise(y_hat, q)
            yield unit, y

    def tiles(self) -> Iterator[tuple[Tile, Pixels]]:
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
                    yield self.grid[index], synthesise(self.model, held, index, self.grid, points[index], channels)
                    done += 1
                    if self.progress:
                        self.progress(done / len(self.grid))
                for index in range((r - 1) * columns, r * columns):
                    held.pop(index, None)

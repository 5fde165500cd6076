"""Still images: pictures in, ``.tri`` bytes out, and back, with tiles whose seams do not show."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import BinaryIO

import numpy as np

from triode.codecs.allocation import fit_bytes, reach_psnr
from triode.codecs.alpha import decode_alpha
from triode.codecs.image_decoding import Decoding
from triode.codecs.image_encoding import Encoded, Encoding
from triode.codecs.image_info import ImageInfo, describe
from triode.codecs.refine import Effort, check_effort
from triode.codecs.search import quality_to_point
from triode.codecs.sources import check_identity, model_of, open_source, rewindable
from triode.codecs.tiles import check_tiles, decoding_memory
from triode.container import ContainerReader, DecodeLimits
from triode.errors import UnsupportedError
from triode.media import Picture
from triode.models.weights import default_weights, load_weights

__all__ = ["TILE_LOG2", "Encoded", "ImageCodec", "ImageInfo", "verify"]

TILE_LOG2 = 11
"""Tiles are 2048 pixels wide: large enough that their borders cost nothing, small enough to bound the memory."""
_TILES = range(7, 17)

Progress = Callable[[float], None]


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
        effort: Effort = "none",
        progress: Progress | None = None,
    ) -> Encoded:
        """Encode a picture.

        Args:
            picture: What to encode.
            quality: 0 to 100; 50 when nothing is asked for.
            bpp: Largest rate in bits of the file over pixels; the best quality below it is searched.
            size: The same in bytes.
            psnr: Smallest PSNR in dB over the colour channels in 8 bits; the smallest file above it is searched.
            effort: How long to look for a latent that takes fewer bits for its error: ``none``, ``low`` or ``high``.
                Files decode like any other. The same machine makes the same file again; another may not.
            progress: Called with the share done, 0 to 1.

        Returns:
            The file and how it came out.

        Raises:
            ValueError: If more than one target is given, one is out of range, or there is no such effort.
            UnsupportedError: If no rate point reaches the target, or the model has no effort but ``none``.
            ModelMismatchError: If the weights are missing.
        """
        if sum(t is not None for t in (quality, bpp, size, psnr)) > 1:
            raise ValueError("Give at most one of quality, bpp, size and psnr")
        for name, target in (("bpp", bpp), ("size", size), ("psnr", psnr)):
            if target is not None and not 0 < target < math.inf:
                raise ValueError(f"Argument `{name}` must be positive and finite, but got {target}")
        check_effort(effort)
        point = quality_to_point(50 if quality is None else quality)
        weights = load_weights(self._model or default_weights("image"))
        job = Encoding(weights, picture, self._tile_log2, effort)
        draft = None if effort == "none" else Encoding(weights, picture, self._tile_log2)
        if psnr is not None:
            return reach_psnr(job, psnr, progress, draft)
        if size is not None or bpp is not None:
            budget = size if size is not None else (bpp or 0.0) * picture.width * picture.height / 8
            return fit_bytes(job, budget, progress, draft)
        return job.run(point, progress)

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
        reader = ContainerReader(open_source(source), self._limits)
        decoding = self._decoding(reader, progress)
        body = reader.head.image
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
        return describe(ContainerReader(rewindable(source, self._limits), self._limits))

    def verify(self, source: bytes | BinaryIO) -> ImageInfo:
        """Decode the entropy path of every unit and check every checksum; makes no pixels.

        Raises:
            CodecError: If anything does not check.
        """
        reader = ContainerReader(rewindable(source, self._limits), self._limits)
        for _ in self._decoding(reader, None).latents():
            pass
        if reader.alpha is not None:
            decode_alpha(reader.alpha, reader.head.image.width, reader.head.image.height)
        return describe(reader)

    def _decoding(self, reader: ContainerReader, progress: Progress | None) -> Decoding:
        """Find the weights of a file, and check that they and this release can decode it."""
        head = reader.head
        if head.image.bit_depth != 8:
            raise UnsupportedError(f"The file has {head.image.bit_depth} bits a sample; this release decodes 8")
        weights = load_weights(model_of(head.model, self._model))
        check_identity(head, weights.info, "pixels", stacklevel=3)
        check_tiles(weights.model, head.image)
        self._limits.check_memory_bytes(decoding_memory(weights.model, head.image), "decoding")
        return Decoding(weights.model, reader, progress)


def verify(source: bytes | BinaryIO, *, limits: DecodeLimits | None = None) -> ImageInfo:
    """Check a file with the model that it names; see :meth:`ImageCodec.verify`."""
    return ImageCodec(limits=limits).verify(source)

"""A stand-in for `triode.codecs.image` that stores pixels without loss, for tests in which coding is not the point.

It writes real containers. Model names ask for trouble: see `_trouble`.
"""

import io
import os
import time
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from triode.codecs.image_info import describe
from triode.container import ContainerReader, ContainerWriter, DecodeLimits, Head, ImageHead, Layout, MetadataKind, Unit
from triode.errors import EntropyMismatchError, ModelMismatchError, UnsupportedError
from triode.media import Picture

DEFAULT = "fake.v1"
SMALLEST = 100


@dataclass(frozen=True, slots=True)
class Encoded:
    data: bytes
    model: str
    rate_point: int
    quality: float
    width: int
    height: int
    payload_bytes: int
    psnr: float | None = None


def quality_to_point(quality):
    return round(quality * 63 / 100)


def point_to_quality(point):
    return round(point * 100 / 63, 1)


def _trouble(model):
    match model:
        case "missing.v1":
            raise ModelMismatchError("no weights named 'missing.v1' here")
        case "crash.v1":
            raise RuntimeError("the codec has a bug")
        case "memory.v1":
            raise MemoryError
        case "interrupt.v1":
            raise KeyboardInterrupt
        case "die.v1":
            os._exit(9)
        case "slow.v1":
            Path(os.environ["FAKE_CODEC_STARTED"]).touch()
            time.sleep(60)


class ImageCodec:
    def __init__(self, model=None, *, limits=None):
        self.model, self.limits = model, limits or DecodeLimits()

    def encode(self, picture, *, quality=None, bpp=None, size=None, psnr=None, effort="none", progress=None):
        model = self.model or DEFAULT
        _trouble(model)
        if sum(target is not None for target in (quality, bpp, size, psnr)) > 1:
            raise ValueError("Give at most one of quality, bpp, size and psnr")
        if effort not in {"none", "low", "high"}:
            raise ValueError(f"no effort {effort!r}")
        if size is not None and size < SMALLEST:
            raise UnsupportedError(f"The target of {size} bytes cannot be met: quality 0 takes {SMALLEST} bytes")
        point = quality_to_point(50 if quality is None else quality)
        pixels = picture.pixels.copy()
        if model == "liar.v1":
            pixels[0, 0, -1] ^= 1
        colour = np.ascontiguousarray(pixels[:, :, : 1 if picture.is_grey else 3]).tobytes()
        body = ImageHead(
            picture.width, picture.height, Layout.GREY if picture.is_grey else Layout.RGB, alpha=picture.has_alpha
        )
        out = io.BytesIO()
        payload = zlib.compress(colour)
        with ContainerWriter(out, Head(model, b"\1\2\3\4", b"\5\6\7\x08", body)) as writer:
            for kind, data in zip(MetadataKind, (picture.icc, picture.exif, picture.xmp), strict=False):
                if data:
                    writer.metadata(kind, data)
            if picture.has_alpha:
                writer.alpha(zlib.compress(pixels[:, :, -1].tobytes()))
            writer.unit(Unit(0, point, zlib.crc32(colour), payload))
        for share in (0.5, 1.0):
            if progress:
                progress(share)
        reached = None if psnr is None else psnr + 0.25
        return Encoded(
            out.getvalue(), model, point, point_to_quality(point), picture.width, picture.height, len(payload), reached
        )

    def decode(self, source, *, progress=None):
        reader, colour = self._colour(source)
        _trouble(self.model)
        body, meta = reader.head.body, reader.metadata
        pixels = np.frombuffer(colour, np.uint8).reshape(body.height, body.width, -1)
        if reader.alpha is not None:
            alpha = np.frombuffer(zlib.decompress(reader.alpha), np.uint8).reshape(body.height, body.width, 1)
            pixels = np.concatenate([pixels, alpha], axis=2)
        if progress:
            progress(1.0)
        return Picture(pixels, meta.icc, meta.exif, meta.xmp)

    def info(self, source):
        return describe(ContainerReader(io.BytesIO(source) if isinstance(source, bytes) else source, self.limits))

    def verify(self, source):
        data = source if isinstance(source, bytes) else source.read()
        self._colour(data)
        return self.info(data)

    def _colour(self, source):
        reader = ContainerReader(io.BytesIO(source) if isinstance(source, bytes) else source, self.limits)
        if reader.head.model == "unknown.v1":
            raise ModelMismatchError("no weights named 'unknown.v1' here")
        [unit] = reader.units()
        colour = zlib.decompress(unit.payload)
        if zlib.crc32(colour) != unit.symbols_crc32:
            raise EntropyMismatchError("the decoded symbols do not match their checksum")
        return reader, colour


def verify(source, *, limits=None):
    return ImageCodec(limits=limits).verify(source)

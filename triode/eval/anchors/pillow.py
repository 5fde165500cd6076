"""JPEG, WebP, AVIF and JPEG 2000 through Pillow, coded and decoded in memory."""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, Final

import numpy as np
import PIL
from PIL import AvifImagePlugin, Image, features

from triode.errors import BitstreamError, CodecError, UnsupportedError
from triode.eval.anchors.common import Pixels, box_payload, check_pixels, container_parts
from triode.eval.anchors.options import Options
from triode.eval.coder import Coder, CoderFacts, register_coder

_SUBSAMPLINGS: Final = ("4:4:4", "4:2:2", "4:2:0")
_FAILURES: Final = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    OverflowError,
    MemoryError,
    Image.DecompressionBombError,
)


class _PillowCoder(Coder):
    """A format of Pillow."""

    media = "image"
    format: ClassVar[str]
    _largest = 100.0

    @abstractmethod
    def _save_options(self, quality: float) -> dict[str, Any]:
        """Return what ``Image.save`` is given beside the format."""

    def encode(self, item: Any, quality: float) -> bytes:
        """Return a file.

        Args:
            item: (H, W, 3) uint8, sRGB.
            quality: See ``docs/anchors.md``.

        Raises:
            ValueError: If the item or the quality is not valid.
            CodecError: If the format has no room for such an image.
        """
        pixels = check_pixels(item)
        if not 0 <= quality <= self._largest:
            raise ValueError(f"Quality of {self.name} must be in 0..{self._largest:g}, but got {quality}")
        options = self._save_options(quality)
        file = io.BytesIO()
        try:
            Image.fromarray(pixels).save(file, self.format, **options)
        except _FAILURES as error:
            height, width = pixels.shape[:2]
            raise CodecError(f"Pillow writes no {self.format} of {width} x {height} pixels: {error}") from error
        return file.getvalue()

    def decode(self, data: bytes) -> Pixels:
        """Return the pixels (H, W, 3) uint8 of a file.

        Raises:
            BitstreamError: If Pillow cannot read it.
        """
        try:
            with Image.open(io.BytesIO(data), formats=[self.format]) as image:
                return np.array(image.convert("RGB"))
        except _FAILURES as error:
            raise BitstreamError(f"Pillow reads no {self.format} here: {error}") from error

    def parts(self, data: bytes) -> Mapping[str, int]:
        """Return the bytes of the container and the others."""
        payload = self.payload_bytes(data)
        return container_parts(len(data), payload) if payload != len(data) else {}

    def _integer(self, quality: float) -> int:
        if quality != round(quality):
            raise ValueError(f"Quality of {self.name} must be an integer, but got {quality}")
        return round(quality)


class _Jpeg(_PillowCoder):
    """JPEG: libjpeg-turbo."""

    name, format = "jpeg", "JPEG"
    qualities = (5.0, 10.0, 20.0, 35.0, 50.0, 65.0, 80.0, 90.0, 95.0)

    def __init__(self, options: Options) -> None:
        self._options = {
            "optimize": options.flag("optimize", default=True),
            "progressive": options.flag("progressive", default=False),
            "subsampling": options.choice("subsampling", "4:2:0", _SUBSAMPLINGS),
        }
        options.done()

    def _save_options(self, quality: float) -> dict[str, Any]:
        return {"quality": self._integer(quality), **self._options}

    def facts(self) -> CoderFacts:
        """Return options and versions."""
        chroma, optimize = self._options["subsampling"], self._options["optimize"]
        title = f"JPEG (libjpeg-turbo, {chroma}{', optimised tables' if optimize else ''})"
        versions = {"libjpeg-turbo": str(features.version_feature("libjpeg_turbo")), "pillow": PIL.__version__}
        return CoderFacts(title, options=self._options, versions=versions)


class _WebP(_PillowCoder):
    """WebP, lossy: libwebp."""

    name, format = "webp", "WEBP"
    qualities = (1.0, 10.0, 30.0, 50.0, 70.0, 85.0, 95.0)

    def __init__(self, options: Options) -> None:
        self._options = {"method": options.integer("method", 6, 0, 6)}
        options.done()

    def _save_options(self, quality: float) -> dict[str, Any]:
        return {"quality": quality, **self._options}

    def payload_bytes(self, data: bytes) -> int:
        """Return the size without the RIFF header and the header of its only chunk."""
        return len(data) - 20

    def facts(self) -> CoderFacts:
        """Return options and versions."""
        versions = {"libwebp": str(features.version_module("webp")), "pillow": PIL.__version__}
        return CoderFacts(
            f"WebP (libwebp, method {self._options['method']})",
            options={**self._options, "subsampling": "4:2:0"},
            versions=versions,
        )


class _Avif(_PillowCoder):
    """AVIF: libavif with libaom to encode; the decoder is libavif's choice, dav1d where it is built in."""

    name, format = "avif", "AVIF"
    qualities = (15.0, 30.0, 45.0, 60.0, 75.0, 85.0, 92.0)

    def __init__(self, options: Options) -> None:
        self._options: dict[str, Any] = {
            "speed": options.integer("speed", 6, 0, 10),
            "subsampling": options.choice("subsampling", "4:4:4", _SUBSAMPLINGS),
        }
        self._tune = options.choice("tune", "default", ("default", "psnr", "ssim", "iq"))
        self._threads = options.integer("threads", 1, 1, 64)
        options.done()

    def _save_options(self, quality: float) -> dict[str, Any]:
        tune = {} if self._tune == "default" else {"advanced": {"tune": self._tune}}
        return {
            "quality": self._integer(quality),
            "codec": "aom",
            **self._options,
            "max_threads": self._threads,
            **tune,
        }

    def decode(self, data: bytes) -> Pixels:
        """Return the pixels (H, W, 3) uint8 of a file.

        Raises:
            BitstreamError: If Pillow cannot read it.
        """
        with _avif_threads(self._threads):
            return super().decode(data)

    def payload_bytes(self, data: bytes) -> int:
        """Return the size of the coded picture: the media data box."""
        return box_payload(data, b"mdat")

    def facts(self) -> CoderFacts:
        """Return options and versions."""
        codecs = {f"lib{name}": AvifImagePlugin.get_codec_version(name) for name in ("aom", "dav1d")}
        return CoderFacts(
            f"AVIF (libaom, speed {self._options['speed']}, {self._options['subsampling']})",
            options={**self._options, "tune": self._tune, "threads": self._threads},
            versions={
                "libavif": str(features.version_module("avif")),
                **{name: version for name, version in codecs.items() if version},
                "pillow": PIL.__version__,
            },
        )


@contextmanager
def _avif_threads(count: int) -> Iterator[None]:
    """Let Pillow decode AVIF with a number of threads; it has no argument for that."""
    before = AvifImagePlugin.DEFAULT_MAX_THREADS
    AvifImagePlugin.DEFAULT_MAX_THREADS = count
    try:
        yield
    finally:
        AvifImagePlugin.DEFAULT_MAX_THREADS = before


class _Jpeg2000(_PillowCoder):
    """JPEG 2000: OpenJPEG. The quality is a PSNR in dB or a rate in bits per pixel, as the option ``mode`` says."""

    name, format = "jpeg2000", "JPEG2000"
    _POINTS: Final = {"dB": (26.0, 28.0, 30.0, 33.0, 36.0, 39.0, 42.0), "rates": (0.1, 0.2, 0.4, 0.7, 1.1, 1.7, 2.5)}

    def __init__(self, options: Options) -> None:
        self._mode = options.choice("mode", "dB", tuple(self._POINTS))
        self._irreversible = options.flag("irreversible", default=True)
        options.done()
        self.qualities = self._POINTS[self._mode]
        self._largest = 24.0 if self._mode == "rates" else 100.0

    def _save_options(self, quality: float) -> dict[str, Any]:
        if quality == 0:
            raise ValueError("Quality of jpeg2000 must be above 0")  # OpenJPEG takes 0 for lossless
        # A "rate" of OpenJPEG is a ratio of compression against 24 bits a pixel.
        layer = 24 / quality if self._mode == "rates" else quality
        return {
            "quality_mode": self._mode,
            "quality_layers": [float(layer)],
            "irreversible": self._irreversible,
            "mct": 1,
        }

    def payload_bytes(self, data: bytes) -> int:
        """Return the size of the codestream."""
        return box_payload(data, b"jp2c")

    def facts(self) -> CoderFacts:
        """Return options and versions."""
        wavelet = "9/7" if self._irreversible else "5/3"
        unit = "PSNR in dB" if self._mode == "dB" else "bits per pixel"
        return CoderFacts(
            f"JPEG 2000 (OpenJPEG, {wavelet} wavelet)",
            options={"irreversible": self._irreversible, "mct": True, "quality_mode": self._mode, "quality": unit},
            versions={"openjpeg": str(features.version_codec("jpg_2000")), "pillow": PIL.__version__},
        )


_CODECS: Final[tuple[tuple[str, str, Callable[[Options], Coder]], ...]] = (
    ("jpeg", "jpg", _Jpeg),
    ("webp", "webp", _WebP),
    ("avif", "avif", _Avif),
    ("jpeg2000", "jpg_2000", _Jpeg2000),
)
"""Name, Pillow's name of the library that it needs, constructor."""


def _register(name: str, feature: str, coder: Callable[[Options], Coder]) -> None:
    @register_coder(name, "image")
    def build(given: Mapping[str, str]) -> Coder:
        if not features.check(feature):
            raise UnsupportedError(f"Pillow was built without {name} here; a wheel of Pillow 11.3 or later has it")
        return coder(Options(name, given))


for _codec in _CODECS:
    _register(*_codec)

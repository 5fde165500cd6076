"""HEIC: HEVC stills by libheif and x265 in the wheel of pillow-heif, coded and decoded in memory."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from triode.errors import BitstreamError, CodecError, UnsupportedError
from triode.eval.anchors.common import Pixels, box_payload, check_pixels, container_parts, package_version
from triode.eval.anchors.options import Options
from triode.eval.coder import Coder, CoderFacts, register_coder

_SUBSAMPLINGS: Final = ("4:4:4", "4:2:2", "4:2:0")
_PRESETS: Final = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
_FAILURES: Final = (RuntimeError, ValueError, SyntaxError, OSError, EOFError, OverflowError, MemoryError)


class _Heic(Coder):
    """HEIC; quality is libheif's, which gives x265 a rate factor of ``(100 - quality) / 2``."""

    name, media = "heic", "image"
    qualities = (5.0, 15.0, 25.0, 35.0, 45.0, 55.0, 65.0)

    def __init__(self, options: Options) -> None:
        self._subsampling = options.choice("subsampling", "4:4:4", _SUBSAMPLINGS)
        self._preset = options.choice("preset", "slow", _PRESETS)
        self._tune = options.choice("tune", "ssim", ("psnr", "ssim", "grain", "fastdecode"))
        self._threads = options.integer("threads", 1, 1, 64)
        options.done()
        try:
            import pillow_heif
        except ImportError as error:
            raise UnsupportedError("HEIC needs pillow-heif: pip install 'triode[bench]'") from error
        if not pillow_heif.libheif_info()["HEIF"]:
            raise UnsupportedError("The libheif of pillow-heif here has no HEVC encoder")
        self._library: Any = pillow_heif

    def encode(self, item: Any, quality: float) -> bytes:
        """Return a HEIC file.

        Args:
            item: (H, W, 3) uint8, sRGB.
            quality: Integer, 0 to 100.

        Raises:
            ValueError: If the item or the quality is not valid.
            CodecError: If the encoder fails.
        """
        pixels = check_pixels(item)
        if not 0 <= quality <= 100 or quality != round(quality):
            raise ValueError(f"Quality of heic must be an integer in 0..100, but got {quality}")
        height, width = pixels.shape[:2]
        pools = {"x265:pools": "none" if self._threads == 1 else str(self._threads), "x265:frame-threads": "1"}
        file = io.BytesIO()
        try:
            self._library.encode(
                "RGB",
                (width, height),
                pixels.tobytes(),
                file,
                quality=round(quality),
                subsampling=self._subsampling,
                enc_params={"preset": self._preset, "tune": self._tune, **pools},
            )
        except _FAILURES as error:
            raise CodecError(f"libheif codes no image of {width} x {height} pixels: {error}") from error
        return file.getvalue()

    def decode(self, data: bytes) -> Pixels:
        """Return the pixels (H, W, 3) uint8 of a file.

        Raises:
            BitstreamError: If libheif cannot read it.
        """
        options = self._library.options
        before, options.DECODE_THREADS = options.DECODE_THREADS, self._threads
        try:
            return np.array(self._library.open_heif(data, convert_hdr_to_8bit=True))[:, :, :3]
        except (*_FAILURES, IndexError) as error:
            raise BitstreamError(f"libheif reads no image here: {error}") from error
        finally:
            options.DECODE_THREADS = before

    def payload_bytes(self, data: bytes) -> int:
        """Return the size of the coded picture: the media data box."""
        return box_payload(data, b"mdat")

    def parts(self, data: bytes) -> Mapping[str, int]:
        """Return the bytes of the container and the others."""
        return container_parts(len(data), self.payload_bytes(data))

    def facts(self) -> CoderFacts:
        """Return options and versions."""
        info = self._library.libheif_info()
        return CoderFacts(
            f"HEIC (x265, preset {self._preset}, {self._subsampling})",
            options={
                "preset": self._preset,
                "tune": self._tune,
                "subsampling": self._subsampling,
                "threads": self._threads,
            },
            versions={
                "libheif": str(info["libheif"]),
                "encoder": str(info["HEIF"]),
                "decoder": ", ".join(map(str, info["decoders"].values())),
                "pillow-heif": package_version("pillow-heif"),
            },
        )


@register_coder("heic", "image")
def _build(given: Mapping[str, str]) -> Coder:
    return _Heic(Options("heic", given))

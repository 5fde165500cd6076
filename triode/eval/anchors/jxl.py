"""JPEG XL: libjxl in the wheel of pillow-jxl-plugin, coded and decoded in memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from triode.errors import BitstreamError, CodecError, UnsupportedError
from triode.eval.anchors.common import Pixels, check_pixels, package_version
from triode.eval.anchors.options import Options
from triode.eval.coder import Coder, CoderFacts, register_coder

_FAILURES: Final = (RuntimeError, ValueError, OverflowError, MemoryError)


class _JpegXl(Coder):
    """JPEG XL in its lossy mode (XYB); quality is libjxl's, from which it derives its distance."""

    name, media = "jxl", "image"
    qualities = (5.0, 20.0, 40.0, 60.0, 75.0, 85.0, 92.0, 96.0)

    def __init__(self, options: Options) -> None:
        self._effort = options.integer("effort", 7, 1, 10)
        threads = options.integer("threads", 1, 1, 64)
        options.done()
        self._threads = 0 if threads == 1 else threads  # To the plug-in 0 is one thread, the caller's.
        try:
            # Its import teaches Pillow the format, so it waits until somebody asks for this coder.
            import pillow_jxl
        except ImportError as error:
            raise UnsupportedError("JPEG XL needs pillow-jxl-plugin: pip install 'triode[bench]'") from error
        self._library: Any = pillow_jxl

    def encode(self, item: Any, quality: float) -> bytes:
        """Return a bare codestream.

        Args:
            item: (H, W, 3) uint8, sRGB.
            quality: 0 to below 100, as ``cjxl -q`` has it.

        Raises:
            ValueError: If the item or the quality is not valid.
            CodecError: If libjxl fails.
        """
        pixels = check_pixels(item)
        if not 0 <= quality < 100:
            raise ValueError(f"Quality of jxl must be at least 0 and below 100, which is lossless, but got {quality}")
        height, width = pixels.shape[:2]
        try:
            encoder = self._library.Encoder(
                mode="RGB",
                lossless=False,
                quality=float(quality),
                decoding_speed=0,
                effort=self._effort,
                use_container=False,
                use_original_profile=False,
                num_threads=self._threads,
            )
            return bytes(encoder(pixels.tobytes(), width, height, jpeg_encode=False))
        except _FAILURES as error:
            raise CodecError(f"libjxl codes no image of {width} x {height} pixels: {_one_line(error)}") from error

    def decode(self, data: bytes) -> Pixels:
        """Return the pixels (H, W, 3) uint8 of a codestream.

        Raises:
            BitstreamError: If libjxl cannot read it.
        """
        try:
            _, info, pixels, _, _ = self._library.Decoder(num_threads=self._threads)(data)
            return np.frombuffer(pixels, np.uint8).reshape(info.height, info.width, 3).copy()
        except _FAILURES as error:
            raise BitstreamError(f"libjxl reads no image here: {_one_line(error)}") from error

    def facts(self) -> CoderFacts:
        """Return options and versions; the plug-in does not tell the version of its libjxl."""
        return CoderFacts(
            f"JPEG XL (libjxl, effort {self._effort})",
            options={
                "effort": self._effort,
                "subsampling": "4:4:4",
                "colour": "XYB",
                "container": False,
                "threads": self._threads or 1,
            },
            versions={"pillow-jxl-plugin": package_version("pillow-jxl-plugin")},
        )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


@register_coder("jxl", "image")
def _build(given: Mapping[str, str]) -> Coder:
    return _JpegXl(Options("jxl", given))

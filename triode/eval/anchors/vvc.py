"""VVC intra (ITU-T H.266): one frame by libvvenc and FFmpeg's own decoder, both in imageio-ffmpeg's program.

libvvenc codes 4:2:0 of 10 bits only. The conversion from and to sRGB is done here, in floating point: BT.709 matrix,
full range, chroma resampled by Lanczos filters with samples centred between four pixels, and rounded once to 10 bits.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from triode.errors import BitstreamError, CodecError, UnsupportedError
from triode.eval.anchors.common import Pixels, check_pixels
from triode.eval.anchors.ffmpeg import ffmpeg_version, has_decoder, has_encoder, run_ffmpeg, vvenc_version
from triode.eval.anchors.options import Options
from triode.eval.coder import Coder, CoderFacts, register_coder

Plane = NDArray[np.float64]
_KR: Final = 0.2126
_KB: Final = 0.0722
_KG: Final = 1 - _KR - _KB
_MAX: Final = 1023
_HALF: Final = 512
_LEAST: Final = 16
"""libvvenc refuses pictures of 8 x 8."""
_SIZE: Final = 4
_PRESETS: Final = ("faster", "fast", "medium", "slow", "slower")
_START_CODE: Final = re.compile(rb"\x00?\x00\x00\x01")
_PICTURE_UNITS: Final = frozenset((*range(12), 17, 18, 19))
"""NAL unit types that carry a picture: slices, adaptation parameter sets (filters), picture header (H.266, table 5)."""


class _Vvc(Coder):
    """VVC intra; quality is the quantisation parameter, so that a larger one means fewer bytes.

    The file is the raw byte stream (H.266, annex B). Where sides are odd or below 16 pixels, the frame is padded by its
    last row and column, and the size goes in front: width and height, 16 bits each, big-endian. A byte stream begins
    with zero bytes, a size does not, so that a decoder can tell.
    """

    name, media = "vvc", "image"
    qualities = (47.0, 42.0, 37.0, 32.0, 27.0, 22.0)

    def __init__(self, options: Options) -> None:
        self._preset = options.choice("preset", "medium", _PRESETS)
        self._qpa = options.flag("qpa", default=False)
        self._threads = options.integer("threads", 1, 1, 64)
        options.done()
        for found, what in ((has_encoder("libvvenc"), "encoder libvvenc"), (has_decoder("vvc"), "decoder vvc")):
            if not found:
                raise UnsupportedError(f"FFmpeg {ffmpeg_version()} here has no {what}; imageio-ffmpeg's own has it")

    def encode(self, item: Any, quality: float) -> bytes:
        """Return a byte stream of one frame.

        Args:
            item: (H, W, 3) uint8, sRGB, sides up to 65535.
            quality: QP, an integer in 0..63; libvvenc codes an intra frame with a QP that is smaller by 3.

        Raises:
            ValueError: If the item or the quality is not valid.
            CodecError: If the encoder fails.
        """
        pixels = check_pixels(item)
        if not 0 <= quality <= 63 or quality != round(quality):
            raise ValueError(f"Quality of vvc is a QP and must be an integer in 0..63, but got {quality}")
        height, width = pixels.shape[:2]
        if max(height, width) > 0xFFFF:
            raise CodecError(f"An image of {width} x {height} pixels is too large for vvc")
        bottom, right = _padding(height), _padding(width)
        padded = np.pad(pixels, ((0, bottom), (0, right), (0, 0)), mode="edge")
        source = ["-f", "rawvideo", "-pix_fmt", "yuv420p10le", "-s", f"{width + right}x{height + bottom}", "-r", "1"]
        # At one frame a second and a refresh every second all frames are intra frames.
        coder = ["-c:v", "libvvenc", "-preset", self._preset, "-qp", str(round(quality)), "-qpa", str(int(self._qpa))]
        rest = ["-period", "1", "-threads", str(self._threads), "-f", "vvc", "pipe:1"]
        data = run_ffmpeg([*source, "-i", "pipe:0", "-frames:v", "1", *coder, *rest], to_yuv420(padded))
        return (width.to_bytes(2, "big") + height.to_bytes(2, "big") if bottom or right else b"") + data

    def decode(self, data: bytes) -> Pixels:
        """Return the pixels (H, W, 3) uint8 of what :meth:`encode` returned.

        Raises:
            BitstreamError: If FFmpeg cannot read it.
        """
        start = _stream_start(data)
        width, height = _stated_size(data) if start else (0, 0)
        threads = ["-threads", str(self._threads)]
        target = ["-frames:v", "1", "-f", "yuv4mpegpipe", "-strict", "-1", "-pix_fmt", "yuv420p10le", "pipe:1"]
        try:
            raw = run_ffmpeg([*threads, "-f", "vvc", "-i", "pipe:0", *target], data[start:])
        except UnsupportedError:
            raise
        except CodecError as error:
            raise BitstreamError(f"FFmpeg reads no VVC here: {error}") from error
        pixels = _from_y4m(raw)
        if start and (pixels.shape[0] != height + _padding(height) or pixels.shape[1] != width + _padding(width)):
            raise BitstreamError(
                f"The VVC frame is {pixels.shape[1]} x {pixels.shape[0]}; it should hold {width} x {height}"
            )
        return pixels[: height or None, : width or None].copy()

    def payload_bytes(self, data: bytes) -> int:
        """Return the bytes of the units that carry the picture, with their start codes."""
        return self.parts(data)["picture"]

    def parts(self, data: bytes) -> Mapping[str, int]:
        """Return the bytes of the picture and of the rest: size, delimiter, sequence and picture parameter sets."""
        picture = sum(stop - start for kind, start, stop in _units(data) if kind in _PICTURE_UNITS)
        return {"header": len(data) - picture, "picture": picture}

    def facts(self) -> CoderFacts:
        """Return options and versions."""
        return CoderFacts(
            f"VVC intra (VVenC, preset {self._preset}, 4:2:0)",
            options={
                "preset": self._preset,
                "qpa": self._qpa,
                "pixel_format": "yuv420p10le",
                "matrix": "bt709, full range",
                "chroma_filter": "lanczos",
                "period": 1,
                "quality": "QP",
                "threads": self._threads,
            },
            versions={"libvvenc": vvenc_version(), "ffmpeg": ffmpeg_version()},
        )


def _padding(side: int) -> int:
    """Return how many pixels a side lacks."""
    return max(_LEAST - side, side % 2)


def _stream_start(data: bytes) -> int:
    return 0 if data[:2] == b"\0\0" else _SIZE


def _stated_size(data: bytes) -> tuple[int, int]:
    width, height = int.from_bytes(data[:2], "big"), int.from_bytes(data[2:4], "big")
    if len(data) <= _SIZE or not width or not height:
        raise BitstreamError(f"{len(data)} bytes are no VVC frame with its size in front")
    return width, height


def _units(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield type, start and stop of the NAL units of a byte stream, start codes included."""
    starts = [(m.start(), m.end()) for m in _START_CODE.finditer(data, _stream_start(data))]
    stops = [start for start, _ in starts[1:]] + [len(data)]
    for (start, header), stop in zip(starts, stops, strict=True):
        if header + 1 < len(data):
            yield data[header + 1] >> 3, start, stop


def _resize(plane: Plane, height: int, width: int) -> Plane:
    resized = Image.fromarray(plane.astype(np.float32)).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(resized, np.float64)


def to_yuv420(pixels: Pixels) -> bytes:
    """Convert sRGB to planar Y'CbCr 4:2:0 of 10 bits: BT.709, full range.

    Args:
        pixels: (H, W, 3) uint8, sides even.

    Returns:
        Planes Y, Cb, Cr one after the other, 16 bits a sample, little-endian (FFmpeg's ``yuv420p10le``).
    """
    height, width = pixels.shape[:2]
    r, g, b = (pixels[:, :, c].astype(np.float64) / 255 for c in range(3))
    y = _KR * r + _KG * g + _KB * b
    chroma = (_resize(d, height // 2, width // 2) for d in ((b - y) / (2 - 2 * _KB), (r - y) / (2 - 2 * _KR)))
    planes = (y * _MAX, *(c * _MAX + _HALF for c in chroma))
    return b"".join(np.clip(np.rint(p), 0, _MAX).astype("<u2").tobytes() for p in planes)


def from_yuv420(data: bytes, height: int, width: int) -> Pixels:
    """Undo :func:`to_yuv420`, up to rounding and to what the smaller chroma planes lose.

    Args:
        data: Planes as :func:`to_yuv420` returns them.
        height: Rows, even.
        width: Columns, even.

    Returns:
        (H, W, 3) uint8, sRGB.

    Raises:
        BitstreamError: If there are too few or too many bytes.
    """
    area = height * width
    if len(data) != 3 * area:
        raise BitstreamError(f"A frame of {width} x {height} must have {3 * area} bytes, but has {len(data)}")
    samples = np.frombuffer(data, "<u2").astype(np.float64)
    y = samples[:area].reshape(height, width) / _MAX
    halves = (samples[area:].reshape(2, height // 2, width // 2) - _HALF) / _MAX
    cb, cr = (_resize(c, height, width) for c in halves)
    r, b = y + (2 - 2 * _KR) * cr, y + (2 - 2 * _KB) * cb
    rgb = np.stack((r, (y - _KR * r - _KB * b) / _KG, b), axis=2)
    rounded: Pixels = np.clip(np.rint(rgb * 255), 0, 255).astype(np.uint8)
    return rounded


def _from_y4m(data: bytes) -> Pixels:
    """Return the pixels of the only frame of a YUV4MPEG2 stream, whose header tells its size."""
    found = re.match(rb"YUV4MPEG2 W(\d+) H(\d+) [^\n]*\nFRAME[^\n]*\n", data)
    if found is None:
        raise BitstreamError("FFmpeg found no frame")
    return from_yuv420(data[found.end() :], int(found[2]), int(found[1]))


@register_coder("vvc", "image")
def _build(given: Mapping[str, str]) -> Coder:
    return _Vvc(Options("vvc", given))

"""H.266 (VVC) for video: VVenC and FFmpeg's own decoder, both in imageio-ffmpeg's program."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from triode.errors import BitstreamError, CodecError, UnsupportedError
from triode.eval.anchors.elementary import ClipPlanes, VideoCoder
from triode.eval.anchors.ffmpeg import ffmpeg_version, has_decoder, has_encoder, run_ffmpeg, vvenc_version
from triode.eval.anchors.options import Options
from triode.eval.coder import Coder, CoderFacts, register_coder
from triode.media import Clip

__all__ = ["VvcCoder"]

_PRESETS: Final = ("faster", "fast", "medium", "slow", "slower")
_LOW_DELAY: Final = ("picreordering=0", "decodingrefreshtype=none", "gopsize=8")


class VvcCoder(VideoCoder):
    """H.266 by VVenC at a constant quantisation parameter (QP), decoded by FFmpeg's own decoder.

    VVenC codes 10 bits: samples are multiplied by 4, and rounded back after decoding.

    Args:
        name: Name in a report.
        options: Options that were given.
    """

    qualities = (47, 42, 37, 32, 27, 22)
    limits = (0, 63)

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self._preset = options.choice("preset", "faster", _PRESETS)
        self._qpa = options.flag("qpa", default=False)
        self._bframes = options.choice("bframes", "default", ("default", "0"))
        self._keyint = options.integer("keyint", 0, 0, 1 << 20)
        self._threads = options.integer("threads", 1, 1, 64)
        options.done()
        for found, what in ((has_encoder("libvvenc"), "encoder libvvenc"), (has_decoder("vvc"), "decoder vvc")):
            if not found:
                raise UnsupportedError(f"FFmpeg {ffmpeg_version()} here has no {what}; imageio-ffmpeg's own has it")

    def facts(self) -> CoderFacts:
        """Return options and versions."""
        options = {
            "preset": self._preset,
            "qpa": self._qpa,
            "threads": self._threads,
            "quality": "QP",
            "vvenc-params": self._params(),
            "pixel_format": "yuv420p10le, from and to 8 bits by a factor of 4",
        }
        order = "" if self._bframes == "default" else ", no reordering"
        title = f"H.266 (VVenC, preset {self._preset}{order})"
        return CoderFacts(title, options=options, versions={"libvvenc": vvenc_version(), "ffmpeg": ffmpeg_version()})

    def _params(self, frames: int | None = None) -> str:
        """Return what FFmpeg has no names for; `frames` is the length of the clip."""
        params = [*(_LOW_DELAY if self._bframes == "0" else ())]
        # Of a single frame VVenC makes nothing unless it is told that it is a refresh.
        period = self._keyint or (-1 if self._bframes == "0" else 1 if frames == 1 else 0)
        return ":".join([*params, *([f"intraperiod={period}"] if period else [])])

    def _encode(self, clip: Clip, quality: float) -> bytes:
        if quality != round(quality):
            raise ValueError(f"Quality of {self.name} is a QP and must be an integer, but got {quality}")
        frames = zip(clip.y, clip.u, clip.v, strict=True)
        deep = b"".join((plane.astype("<u2") << 2).tobytes() for planes in frames for plane in planes)
        size = ["-s", f"{clip.width}x{clip.height}", "-r", f"{clip.rate.numerator}/{clip.rate.denominator}"]
        source = ["-f", "rawvideo", "-pix_fmt", "yuv420p10le", *size, "-i", "pipe:0"]
        coder = ["-c:v", "libvvenc", "-preset", self._preset, "-qp", str(round(quality)), "-qpa", str(int(self._qpa))]
        given = self._params(clip.frames)
        params = ["-vvenc-params", given] if given else []
        rest = ["-threads", str(self._threads), "-fps_mode", "passthrough", "-f", "vvc", "pipe:1"]
        return run_ffmpeg([*source, *coder, *params, *rest], deep)

    def _decode(self, data: bytes, width: int, height: int) -> ClipPlanes:
        source = ["-threads", str(self._threads), "-f", "vvc", "-i", "pipe:0", "-fps_mode", "passthrough"]
        try:
            raw = run_ffmpeg([*source, "-f", "rawvideo", "-pix_fmt", "yuv420p10le", "pipe:1"], data)
        except UnsupportedError:
            raise
        except CodecError as error:
            raise BitstreamError(f"FFmpeg reads no H.266 here: {error}") from error
        area = width * height
        if not raw or len(raw) % (3 * area):
            raise BitstreamError(f"FFmpeg gives {len(raw)} bytes, which are no frames of {width} x {height}")
        deep = np.frombuffer(raw, "<u2").reshape(-1, 3 * area // 2)
        flat: NDArray[np.uint8] = np.minimum((deep + 2) >> 2, 255).astype(np.uint8)
        chroma = (-1, height // 2, width // 2)
        y, u, v = flat[:, :area], flat[:, area : area * 5 // 4], flat[:, area * 5 // 4 :]
        return y.reshape(-1, height, width), u.reshape(chroma), v.reshape(chroma)


@register_coder("vvc", "video")
def _vvc(given: Mapping[str, str]) -> Coder:
    return VvcCoder("vvc", Options("vvc", given))

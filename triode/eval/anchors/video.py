"""Classical codecs of video, 8-bit 4:2:0: H.264, H.265 and AV1 through PyAV; `vvc_video` adds H.266."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np

from triode.errors import BitstreamError, CodecError
from triode.eval.anchors.elementary import ClipPlanes, VideoCoder
from triode.eval.anchors.libraries import pyav_versions
from triode.eval.anchors.options import Options
from triode.eval.anchors.vvc_video import VvcCoder
from triode.eval.coder import Coder, CoderFacts, register_coder
from triode.io.pyav import import_av, open_input, typed_errors
from triode.io.video import frame_to_planes, planes_to_frame
from triode.media import Clip

__all__ = ["FfmpegVideoCoder", "VvcCoder"]

_X26_PRESETS: Final = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo"),
)
_START_CODE: Final = re.compile(rb"\x00?\x00\x00\x01")
_SEI, _USER_DATA = 6, 5


@dataclass(frozen=True, slots=True)
class _Family:
    """How FFmpeg is to be used for a codec.

    Attributes:
        title: For people.
        encoder: FFmpeg's name of the encoder.
        form: FFmpeg's name of the elementary stream.
        library: Shared library whose version counts.
        params: FFmpeg's name of the option that passes what FFmpeg has no name for.
    """

    title: str
    encoder: str
    form: str
    library: str
    params: str


_X264: Final = _Family("H.264 (x264", "libx264", "h264", "libx264", "x264-params")
_X265: Final = _Family("H.265 (x265", "libx265", "hevc", "libx265", "x265-params")
_SVT: Final = _Family("AV1 (SVT-AV1", "libsvtav1", "obu", "libSvtAv1Enc", "svtav1-params")


class FfmpegVideoCoder(VideoCoder):
    """A codec of FFmpeg's libraries at constant rate factor (CRF).

    Args:
        name: Name in a report.
        family: How to use FFmpeg.
        options: Options that were given.
        presets: Presets that the encoder has; the default is `preset`.
        preset: Default preset.
        qualities: Default operating points.
        most: Greatest CRF.
    """

    def __init__(
        self,
        name: str,
        family: _Family,
        options: Options,
        presets: tuple[str, ...],
        preset: str,
        qualities: tuple[float, ...],
        most: float,
    ) -> None:
        import_av("video")
        self.name, self.qualities, self.limits = name, qualities, (0 if family is not _SVT else 1, most)
        self._family = family
        self._preset = options.choice("preset", preset, presets)
        self._tune = options.choice("tune", "none", ("none", "psnr"))
        self._bframes = options.choice("bframes", "default", ("default", *map(str, range(17))))
        self._keyint = options.integer("keyint", 0, 0, 1 << 20)
        self._threads = options.integer("threads", 1, 1, 64)
        options.done()
        if family is _SVT and self._bframes not in ("default", "0"):
            raise ValueError(f"Option `bframes` of {name} must be default or 0, but got {self._bframes!r}")

    def facts(self) -> CoderFacts:
        """Return options and versions."""
        order = "" if self._bframes == "default" else f", {'no' if self._bframes == '0' else self._bframes} B-frames"
        versions = dict(pyav_versions(self._family.library, *(["libdav1d"] if self._family is _SVT else [])))
        if self._family is _X264:
            versions["libx264"] = _x264_version()
        options = {**self._options(), "threads": self._threads, "quality": "CRF", "pixel_format": "yuv420p"}
        title = f"{self._family.title}, preset {self._preset}{order})"
        return CoderFacts(title, options=options, versions=versions)

    def _options(self) -> dict[str, str]:
        """Return the options of the encoder, as FFmpeg takes them, without the rate factor."""
        options, params = {"preset": self._preset}, []
        if self._keyint:
            options["g"] = str(self._keyint)
        if self._family is _SVT:
            params = [f"lp={self._threads}", *(["tune=1"] if self._tune == "psnr" else [])]
            params += ["pred-struct=1"] if self._bframes == "0" else []  # low delay
        else:
            if self._bframes != "default":
                options["bf"] = self._bframes
            if self._tune != "none":
                options["tune"] = self._tune
        if self._family is _X265:
            pools = "none" if self._threads == 1 else str(self._threads)
            params = ["log-level=none", "info=0", f"pools={pools}", f"frame-threads={self._threads}"]
        return {**options, self._family.params: ":".join(params)} if params else options

    def _encode(self, clip: Clip, quality: float) -> bytes:
        av = import_av("video")
        context = av.CodecContext.create(self._family.encoder, "w")
        context.width, context.height, context.pix_fmt = clip.width, clip.height, "yuv420p"
        context.framerate, context.time_base = clip.rate, 1 / clip.rate
        frame = planes_to_frame(clip, 0)
        context.colorspace, context.color_range = frame.colorspace, frame.color_range
        context.thread_count = self._threads
        context.options = {**self._options(), "crf": f"{quality:g}"}
        packets = []
        with _quiet_svt():
            try:
                with _same_scheduling():
                    context.open()
                for index in range(clip.frames):
                    packets += [bytes(packet) for packet in context.encode(planes_to_frame(clip, index))]
                packets += [bytes(packet) for packet in context.encode(None)]
            except av.FFmpegError as error:
                raise CodecError(f"{self.name} fails at {clip.width} x {clip.height}: {error.strerror}") from error
        if self._family is _X264:
            packets[0] = _without_user_data(packets[0])
        return b"".join(packets)

    def frame_bytes(self, data: bytes) -> tuple[int, ...]:
        """Return the bytes of the packet of each frame, in the order of display; empty where they cannot be told.

        What comes before a frame, such as parameter sets, or AV1's frames that are not shown, counts as a part of it.
        """
        sizes: list[int] = []
        shown: list[int | None] = []
        with open_input(io.BytesIO(self.stream(data)), "video", "video", form=self._family.form) as container:
            for packet in container.demux(container.streams.video[0]):
                if packet.size:
                    packet.pts = packet.dts = len(sizes)  # decoders pass it on to the frame
                    sizes.append(packet.size)
                with typed_errors("video"):
                    shown += [frame.pts for frame in packet.decode()]
        places = [place for place in shown if place is not None]
        return tuple(sizes[place] for place in places) if sorted(places) == list(range(len(sizes))) else ()

    def _decode(self, data: bytes, width: int, height: int) -> ClipPlanes:
        with open_input(io.BytesIO(data), "video", "video", form=self._family.form) as container:
            stream = container.streams.video[0]
            stream.codec_context.thread_count = self._threads
            with typed_errors("video"):
                frames = [frame_to_planes(frame) for frame in container.decode(stream) if not frame.is_corrupt]
                if not frames:
                    raise BitstreamError(f"there are no frames in the {self.name} stream")
                y, u, v = (np.stack(planes) for planes in zip(*frames, strict=True))
                return y, u, v


def _without_user_data(packet: bytes) -> bytes:
    """Cut the message in which x264 names itself and its options: some 650 bytes that no decoder needs."""
    return b"".join(unit for unit in _units(packet) if not _is_user_data(unit))


def _is_user_data(unit: bytes) -> bool:
    """Whether a unit of H.264, with its start code, is a message (SEI) of user data (ITU-T H.264, 7.3.2.3, D.1.7)."""
    header = unit.index(b"\x01") + 1
    return unit[header] & 0x1F == _SEI and unit[header + 1] == _USER_DATA


def _units(data: bytes) -> Iterator[bytes]:
    """Yield the units of a byte stream (annex B) with their start codes."""
    starts = [match.start() for match in _START_CODE.finditer(data)]
    yield from (data[start:stop] for start, stop in zip(starts, [*starts[1:], len(data)], strict=True))


def _x264_version() -> str:
    """Return what x264 writes about itself, such as ``core 165 r3222 b35605a``."""
    av = import_av("video")
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = 16, 16, "yuv420p"
    context.framerate, context.time_base, context.thread_count = Fraction(1), Fraction(1), 1
    frame = av.VideoFrame(16, 16, "yuv420p")
    data = b"".join(bytes(packet) for one in (frame, None) for packet in context.encode(one))
    found = re.search(rb"x264 - (core [^-]+) -", data)
    return found[1].decode("ascii", "replace").strip() if found else "unknown"


@contextmanager
def _quiet_svt() -> Iterator[None]:
    """Keep SVT-AV1 from telling its settings on standard error; it has no other switch than the environment."""
    before = os.environ.get("SVT_LOG")
    os.environ["SVT_LOG"] = before or "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["SVT_LOG"]


@contextmanager
def _same_scheduling() -> Iterator[None]:
    """Undo what SVT-AV1 does where it may: it makes all threads of the process real-time, above everything else."""
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        for thread in Path("/proc/self/task").glob("*"):
            # A thread may have ended by now.
            with suppress(OSError):
                if os.sched_getscheduler(int(thread.name)) != policy:
                    os.sched_setscheduler(int(thread.name), policy, parameters)


@register_coder("x264", "video")
def _x264(given: Mapping[str, str]) -> Coder:
    qualities = (45, 40, 35, 30, 25, 20)
    return FfmpegVideoCoder("x264", _X264, Options("x264", given), _X26_PRESETS, "medium", qualities, 51)


@register_coder("x265", "video")
def _x265(given: Mapping[str, str]) -> Coder:
    qualities = (45, 40, 35, 30, 25, 20)
    return FfmpegVideoCoder("x265", _X265, Options("x265", given), _X26_PRESETS, "medium", qualities, 51)


@register_coder("svt-av1", "video")
def _svt(given: Mapping[str, str]) -> Coder:
    presets = tuple(map(str, range(14)))
    qualities = (63, 55, 47, 39, 31, 23)
    return FfmpegVideoCoder("svt-av1", _SVT, Options("svt-av1", given), presets, "8", qualities, 63)

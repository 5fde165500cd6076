"""Videos: decoded and described, group by group, so that hours of them need no hours of memory."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from triode.cli.common import STDIO, UsageError
from triode.cli.media.base import Conversion, DecodeOptions, Description, Run
from triode.cli.text import size_text, time_text
from triode.errors import CodecError, LimitExceededError, UnsupportedError

if TYPE_CHECKING:
    from triode.codecs.video import ClipFrames, VideoCodec, VideoInfo
    from triode.container import Head
    from triode.io.video_writing import SoundFeed
    from triode.media import Clip

__all__ = ["VideoConversion", "VideoDecoder", "describe_video"]

_NAMED: Final = 5
_MODES: Final = {"COPIED": "copy", "TRIODE": "triode"}


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoConversion(Conversion):
    """A video that was encoded or decoded.

    Attributes:
        bpp: Bits of the file over pixels of all frames in it; None where those are not known.
        kbps: Thousand bits of the file over seconds of the video in it; likewise.
        width: Pixels.
        height: Pixels.
        frames: Frames that went in or came out.
        fps: Frames per second, nominally.
        duration: Seconds that went in or came out.
        gops: Groups of pictures of the file; likewise.
        audio: What became of the sound, `copy`, `triode` or `none`.
        resumed: Groups that a journal had; None where none was kept.
        concealed: Numbers of the groups that were damaged or missing; None where that was not asked for.
    """

    bpp: float | None
    kbps: float | None
    width: int
    height: int
    frames: int
    fps: float
    duration: float
    gops: int | None
    audio: str
    resumed: int | None = None
    concealed: list[int] | None = None


@dataclass(frozen=True)
class VideoDecoder:
    """Decodes videos.

    Attributes:
        options: How.
    """

    options: DecodeOptions

    @cached_property
    def codec(self) -> VideoCodec:
        """The codec, made when the first input needs it."""
        from triode.codecs.video import VideoCodec

        return VideoCodec(self.options.model, limits=self.options.limits)

    def decode(self, file: BinaryIO, head: Head, run: Run) -> VideoConversion:
        """Decode one input, of which `head` is what it says of itself."""
        from triode.codecs.search import point_to_quality
        from triode.io.video_writing import write_clip

        options, job = self.options, run.job
        fmt = self._format(job.target)
        source = _Counted(file)
        info = None
        if file.seekable():
            source.count = file.seek(0, 2)
            file.seek(0)
            info = self._info(file)
            file.seek(0)
        frames = self._frames(file if file.seekable() else cast(BinaryIO, source), info, run)
        sound = None if fmt == "y4m" else self._feed(frames)
        tally = _Tally(frames, silent=sound is None, part=options.span is not None)
        with job.writing(overwrite=options.force, flow=fmt == "y4m") as out, _quiet():
            write_clip(out, tally, fmt, sound)
        point = info.rate_points[0] if info else None
        silent = ", without its sound" if frames.track is not None and sound is None else ""
        return VideoConversion(
            input=job.source,
            output=job.target,
            media="video",
            model=head.model,
            quality=None if point is None else point_to_quality(point),
            rate_point=point,
            bytes=source.count,
            payload_bytes=info.payload_bytes if info else None,
            bpp=round(info.bpp, 6) if info else None,
            kbps=round(info.kbps, 6) if info else None,
            width=frames.width,
            height=frames.height,
            frames=tally.frames,
            fps=round(float(frames.rate), 6),
            duration=round(info.seconds if info and options.span is None else tally.frames / float(frames.rate), 6),
            gops=info.gops if info else None,
            audio="none" if frames.track is None or sound is None else _MODES[frames.track.method.name],
            concealed=list(frames.lost) if options.partial else None,
            text=f"{tally.frames} frames, {frames.width} x {frames.height}, from {size_text(source.count)}{silent}"
            f"{_concealed(frames)}",
            seconds=round(time.perf_counter() - run.begin, 4),
        )

    def _format(self, target: str) -> str:
        from triode.io.video_writing import find_format

        piped = target == STDIO
        try:
            return find_format(self.options.video or ("y4m" if piped else Path(target).suffix))
        except UnsupportedError as error:
            raise UsageError(str(error)) from None

    def _frames(self, file: BinaryIO, info: VideoInfo | None, run: Run) -> ClipFrames:
        """Return the frames that are wanted."""
        options = self.options
        span = options.span
        if span is None:
            return self.codec.frames(file, conceal=options.partial, progress=run.progress)
        if info and span.start >= (info.frames if isinstance(span.start, int) else info.seconds):
            raise UsageError(_nothing(info))
        try:
            return self.codec.frames(
                file, start=span.start, stop=span.stop, conceal=options.partial, progress=run.progress
            )
        except CodecError:
            raise
        except ValueError:
            raise UsageError("--range of a video must be of frames or of times, not from one to the other") from None

    def _feed(self, frames: ClipFrames) -> SoundFeed | None:
        """Return the sound as a writer of video files takes it; None where there is none that is known."""
        from triode.container import TrackMethod

        if frames.track is None or frames.track.method is TrackMethod.COPIED:
            return frames.sound
        from triode.codecs.video_sound import DecodedSound
        from triode.io.track_samples import PcmFeed

        return PcmFeed(DecodedSound(frames, limits=self.options.limits))

    def _info(self, file: BinaryIO) -> VideoInfo | None:
        """Return what a file says of itself; None where it is damaged, which decoding tells better, if it matters."""
        try:
            return self.codec.info(file)
        except LimitExceededError:
            raise
        except CodecError:
            return None


class _Counted:
    """A pipe whose bytes are counted; of a file, its size."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.count = file, 0

    def read(self, size: int, /) -> bytes:
        data = self._file.read(size)
        self.count += len(data)
        return data

    def seekable(self) -> bool:
        return False


class _Tally:
    """Frames on their way to a file, counted."""

    def __init__(self, frames: ClipFrames, *, silent: bool, part: bool) -> None:
        self._clips, self._silent, self._part, self.frames = frames, silent, part, 0

    def __iter__(self) -> Iterator[Clip]:
        try:
            for clip in self._clips:
                self.frames += clip.frames
                if self._silent:
                    self._clips.take_packets()  # nobody else does, and hours of them fill the memory
                yield clip
        except CodecError:
            raise
        except ValueError as error:
            if not self._part:
                raise
            raise UsageError(f"--range holds no frame: {error}") from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out the warning of lost groups, which the record tells of."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\d+ groups of pictures were lost")
        yield


def _nothing(info: VideoInfo) -> str:
    return f"--range holds no frame of this video of {info.frames} frames ({time_text(info.seconds)})"


def _concealed(frames: ClipFrames) -> str:
    """Say which groups are concealed."""
    if not frames.lost:
        return ""
    numbers = ", ".join(map(str, frames.lost[:_NAMED])) + (", ..." if len(frames.lost) > _NAMED else "")
    return f", {len(frames.lost)} {'group' if len(frames.lost) == 1 else 'groups'} concealed ({numbers})"


def describe_video(info: VideoInfo) -> Description:
    """Describe a file that holds a video."""
    fields = asdict(info)
    fields["fps"] = round(float(fields.pop("rate")), 6)
    fields["duration"] = fields.pop("seconds")
    sound = {"none": "no sound", "copied": "sound copied", "triode": "sound coded"}.get(info.sound, "unknown sound")
    times = ", uneven" if info.variable else ""
    colour = {"bt709": "BT.709", "bt601": "BT.601"}[info.matrix] + (", full range" if info.full_range else "")
    longest = f"{info.gop_frames} {'frame' if info.gop_frames == 1 else 'frames'}"
    return Description(
        media=f"{info.media}, {info.width} x {info.height} pixels, {info.frames} frames in {time_text(info.seconds)}, "
        f"{float(info.rate):.5g} a second{times}, {colour}, {sound}",
        units=f"{info.gops} {'group' if info.gops == 1 else 'groups'} of up to {longest}",
        count=info.gops,
        rate=f"{info.kbps:.2f} kb/s, {info.bpp:.4f} bpp",
        fields={**fields, "bpp": round(info.bpp, 6), "kbps": round(info.kbps, 6)},
        size={"width": info.width, "height": info.height, "frames": info.frames},
    )

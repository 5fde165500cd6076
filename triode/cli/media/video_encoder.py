"""Videos: encoded group by group, with their sound."""

from __future__ import annotations

import shutil
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from triode.cli.common import SPOOL_BYTES, STDIO, UsageError
from triode.cli.media.base import EncodeOptions, Run
from triode.cli.media.video import VideoConversion
from triode.cli.targets import Job
from triode.cli.text import size_text, time_text
from triode.errors import CodecError, UnsupportedError, VerifyError

if TYPE_CHECKING:
    from triode.codecs.gop import ClipSource
    from triode.codecs.gop_engine import GopEngine
    from triode.codecs.video import EncodedClip, VideoCodec
    from triode.codecs.video_sound import SoundOfVideo
    from triode.container import DecodeLimits
    from triode.media import Clip

__all__ = ["VideoEncoder"]


@dataclass(frozen=True)
class VideoEncoder:
    """Encodes videos.

    Attributes:
        options: How.
    """

    options: EncodeOptions

    @cached_property
    def codec(self) -> VideoCodec:
        """The codec, made when the first input needs it."""
        from triode.codecs.video import GOP, VideoCodec

        options = self.options
        return VideoCodec(
            options.model,
            limits=options.limits,
            gop=options.gop or GOP,
            scenes=options.scenes,
            engine=self._engine(),
        )

    def encode(self, file: BinaryIO, run: Run) -> VideoConversion:
        """Encode one input."""
        from triode.io.files import SharedFile
        from triode.io.y4m import open_clip

        options, job = self.options, run.job
        self._refuse(job)
        journal = Path(f"{job.target}.journal") if options.resume else None
        flow = job.target == STDIO and not options.verify
        with ExitStack() as stack:
            source = cast(BinaryIO, SharedFile(file)) if file.seekable() else file
            frames = open_clip(source)
            stack.callback(frames.close)
            sound = self._sound(stack, file)
            # What a kill leaves of a temporary file without a name is nothing.
            spool = stack.enter_context(job.writing(overwrite=True, flow=True)) if flow else _spool(stack)
            encoded = self.codec.encode(
                _Bounded(frames, options.limits),
                spool,
                quality=options.quality,
                kbps=options.kbps,
                sound=sound,
                journal=journal,
                keep_journal=True,
                progress=run.progress,
            )
            if options.verify:
                self._verify(spool, encoded)
            if not flow:
                spool.seek(0)
                with job.writing(overwrite=options.force) as out:
                    shutil.copyfileobj(spool, out)
        if journal is not None:
            journal.unlink(missing_ok=True)
        resumed = f", {encoded.resumed} of {encoded.gops} groups from the journal" if encoded.resumed else ""
        return VideoConversion(
            input=job.source,
            output=job.target,
            media="video",
            model=encoded.model,
            quality=encoded.quality,
            rate_point=encoded.rate_point,
            bytes=encoded.bytes,
            payload_bytes=encoded.payload_bytes,
            bpp=round(encoded.bpp, 6),
            kbps=round(encoded.kbps, 6),
            width=encoded.width,
            height=encoded.height,
            frames=encoded.frames,
            fps=round(float(encoded.rate), 6),
            duration=round(encoded.seconds, 6),
            gops=encoded.gops,
            audio="none" if sound is None else options.sound,
            resumed=encoded.resumed if options.resume else None,
            text=f"{encoded.frames} frames, {time_text(encoded.seconds)} in {size_text(encoded.bytes)}, "
            f"{encoded.kbps:.2f} kb/s, quality {encoded.quality:g}{resumed}",
            seconds=round(time.perf_counter() - run.begin, 4),
        )

    def _refuse(self, job: Job) -> None:
        """Refuse what is not for videos."""
        options = self.options
        for option, given, what in (
            ("--bpp", options.bpp is not None, "images"),
            ("--psnr", options.psnr is not None, "images"),
            ("--effort", options.effort != "none", "images"),
            ("--size", options.size is not None, "images and recordings"),
        ):
            if given:
                raise UsageError(f"{option} is for {what}; videos take -q or --kbps")
        if options.resume and job.target == STDIO:
            raise UsageError("--resume keeps a journal beside the output; name a file with -o")

    def _engine(self) -> GopEngine | None:
        """Return what codes groups at a time; None for threads of this process."""
        if self.options.ray:
            from triode.adapters.ray import RayEngine

            return RayEngine(self.options.groups)
        if self.options.groups is None:
            return None
        from triode.codecs.gop_engine import ProcessEngine, SerialEngine

        return SerialEngine() if self.options.groups == 1 else ProcessEngine(self.options.groups)

    def _sound(self, stack: ExitStack, file: BinaryIO) -> SoundOfVideo | None:
        """Return the sound of a file that goes with it; None where there is none. What flows has none."""
        from triode.io.tracks import NoSoundError
        from triode.io.y4m import SIGNATURE

        options = self.options
        if options.sound == "none" or not file.seekable():
            return None
        file.seek(0)
        if file.read(len(SIGNATURE)) == SIGNATURE:
            return None
        try:
            return self._coded(stack, file) if options.sound == "triode" else self._copied(stack, file)
        except NoSoundError:
            return None

    @staticmethod
    def _copied(stack: ExitStack, file: BinaryIO) -> SoundOfVideo:
        from triode.codecs.video_sound import CopiedSound
        from triode.io.files import SharedFile
        from triode.io.tracks import NoSoundError, PacketReader

        try:
            return CopiedSound(stack.enter_context(PacketReader(cast(BinaryIO, SharedFile(file)))))
        except NoSoundError:
            raise
        except UnsupportedError as error:
            raise UnsupportedError(f"{error}; `--audio none` leaves it out") from error

    def _coded(self, stack: ExitStack, file: BinaryIO) -> SoundOfVideo:
        from triode.codecs.video_sound import TriodeSoundOfVideo
        from triode.io.track_samples import TrackReader

        track = stack.enter_context(TrackReader(file))
        self.options.limits.check_channels(track.channels)
        return TriodeSoundOfVideo.of(track, self.options.quality)

    def _verify(self, coded: BinaryIO, encoded: EncodedClip) -> None:
        """Decode, and compare what must come back as it was: size and number of frames."""
        coded.seek(0)
        wanted = (encoded.width, encoded.height, encoded.frames)
        try:
            frames, count = self.codec.frames(coded), 0
            for clip in frames:
                count += clip.frames
                frames.take_packets()  # or they would fill the memory
            found = (frames.width, frames.height, count)
        except CodecError as error:
            raise VerifyError(f"what was encoded does not decode: {error}") from error
        if found != wanted:
            raise VerifyError(f"encoded {wanted} (width, height, frames), but decoded {found}")


def _spool(stack: ExitStack) -> BinaryIO:
    return cast(BinaryIO, stack.enter_context(tempfile.SpooledTemporaryFile(SPOOL_BYTES)))


class _Bounded:
    """A video that is not read further than the limits allow."""

    def __init__(self, source: ClipSource, limits: DecodeLimits) -> None:
        self.width, self.height, self.rate, self.matrix = source.width, source.height, source.rate, source.matrix
        self.full_range, self.frames, self.tick = source.full_range, source.frames, source.tick
        self.primaries, self.transfer, self.aspect = source.primaries, source.transfer, source.aspect
        self._source, self._limits, self._done = source, limits, 0
        limits.check_pixels(self.width, self.height)
        limits.check_frames(self.frames or 0)

    def read(self, count: int) -> Clip | None:
        clip = self._source.read(count)
        self._done += 0 if clip is None else clip.frames
        self._limits.check_frames(self._done)
        return clip

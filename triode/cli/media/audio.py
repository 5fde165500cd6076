"""Recordings: encoded, decoded, described; block by block, so that hours of sound need no hours of memory."""

from __future__ import annotations

import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from triode.cli.common import SPOOL_BYTES, STDIO, UsageError
from triode.cli.media.base import Conversion, DecodeOptions, Description, EncodeOptions, Run
from triode.cli.text import size_text, time_text
from triode.errors import CodecError, UnsupportedError, VerifyError

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray

    from triode.codecs.audio import AudioCodec, AudioInfo, EncodedSound, SoundBlocks
    from triode.container import AudioHead, DecodeLimits, Head
    from triode.io.audio import SoundReader

__all__ = ["AudioConversion", "AudioDecoder", "AudioEncoder", "describe_audio"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioConversion(Conversion):
    """A recording that was encoded or decoded.

    Attributes:
        kbps: Thousand bits of the file over seconds of the recording in it.
        rate: Samples per second.
        channels: Channels.
        samples: Samples per channel that went in or came out.
        duration: The same in seconds.
        concealed: Numbers of the chunks that were damaged or missing; None where that was not asked for.
    """

    kbps: float
    rate: int
    channels: int
    samples: int
    duration: float
    concealed: list[int] | None = None


@dataclass(frozen=True)
class AudioEncoder:
    """Encodes recordings.

    Attributes:
        options: How.
    """

    options: EncodeOptions

    @cached_property
    def codec(self) -> AudioCodec:
        """The codec, made when the first input needs it."""
        from triode.codecs.audio import AudioCodec

        return AudioCodec(self.options.model, limits=self.options.limits)

    def encode(self, file: BinaryIO, run: Run) -> AudioConversion:
        """Encode one input."""
        from triode.io.audio import SoundReader

        options, job = self.options, run.job
        for option, given in (
            ("--bpp", options.bpp is not None),
            ("--psnr", options.psnr is not None),
            ("--effort", options.effort != "none"),
        ):
            if given:
                raise UsageError(f"{option} is for images; recordings take -q, --kbps or --size")
        with SoundReader(file) as reader, tempfile.SpooledTemporaryFile(SPOOL_BYTES) as spool:
            coded = cast(BinaryIO, spool)
            encoded = self.codec.encode(
                _Bounded(reader, options.limits),
                coded,
                quality=options.quality,
                kbps=options.kbps,
                size=options.size,
                tags=() if options.strip else reader.tags,
                progress=run.progress,
            )
            if options.verify:
                self._verify(coded, encoded)
            coded.seek(0)
            with job.writing(overwrite=options.force) as out:
                shutil.copyfileobj(coded, out)
        return AudioConversion(
            input=job.source,
            output=job.target,
            media="audio",
            model=encoded.model,
            quality=encoded.quality,
            rate_point=encoded.rate_point,
            bytes=encoded.bytes,
            payload_bytes=encoded.payload_bytes,
            kbps=round(encoded.kbps, 6),
            rate=encoded.rate,
            channels=encoded.channels,
            samples=encoded.samples,
            duration=round(encoded.seconds, 6),
            text=f"{time_text(encoded.seconds)} in {size_text(encoded.bytes)}, {encoded.kbps:.2f} kb/s, "
            f"quality {encoded.quality:g}",
            seconds=round(time.perf_counter() - run.begin, 4),
        )

    def _verify(self, coded: BinaryIO, encoded: EncodedSound) -> None:
        """Decode, and compare what must come back as it was: rate, channels and number of samples."""
        coded.seek(0)
        try:
            blocks = self.codec.blocks(coded)
            found = (blocks.rate, blocks.channels, sum(block.shape[1] for block in blocks))
        except CodecError as error:
            raise VerifyError(f"what was encoded does not decode: {error}") from error
        if found != (encoded.rate, encoded.channels, encoded.samples):
            wanted = (encoded.rate, encoded.channels, encoded.samples)
            raise VerifyError(f"encoded {wanted} (samples per second, channels, samples), but decoded {found}")


class _Bounded:
    """A recording that is not read further than the limits allow."""

    def __init__(self, reader: SoundReader, limits: DecodeLimits) -> None:
        self.rate, self.channels, self.frames = reader.rate, reader.channels, reader.frames
        self._reader, self._limits, self._samples = reader, limits, 0
        limits.check_channels(self.channels)
        limits.check_samples(self.frames or 0)

    def read(self, count: int) -> NDArray[float32]:
        block = self._reader.read(count)
        self._samples += block.shape[1]
        self._limits.check_samples(self._samples)
        return block


@dataclass(frozen=True)
class AudioDecoder:
    """Decodes recordings.

    Attributes:
        options: How.
    """

    options: DecodeOptions

    @cached_property
    def codec(self) -> AudioCodec:
        """The codec, made when the first input needs it."""
        from triode.codecs.audio import AudioCodec

        return AudioCodec(self.options.model, limits=self.options.limits)

    def decode(self, file: BinaryIO, head: Head, run: Run) -> AudioConversion:
        """Decode one input, of which `head` is what it says of itself."""
        from triode.codecs.search import point_to_quality
        from triode.io.audio import SoundWriter

        options, job, sound = self.options, run.job, head.audio
        fmt = self._format(job.target)
        start, stop = self._part(sound)
        size = file.seek(0, 2)
        file.seek(0)
        info = self._info(file)
        file.seek(0)
        blocks = self.codec.blocks(file, start=start, stop=stop, conceal=options.partial, progress=run.progress)
        with (
            job.writing(overwrite=options.force) as out,
            SoundWriter(out, blocks.rate, blocks.channels, fmt=fmt, tags=blocks.tags, frames=blocks.samples) as writer,
            _quiet(),
        ):
            for block in blocks:
                writer.write(block)
        point = info.rate_points[0] if info else None
        duration = sound.samples / sound.rate
        return AudioConversion(
            input=job.source,
            output=job.target,
            media="audio",
            model=head.model,
            quality=None if point is None else point_to_quality(point),
            rate_point=point,
            bytes=size,
            payload_bytes=info.payload_bytes if info else None,
            kbps=round(8 * size / 1000 / duration if duration else 0.0, 6),
            rate=blocks.rate,
            channels=blocks.channels,
            samples=blocks.samples,
            duration=round(blocks.samples / blocks.rate, 6),
            concealed=list(blocks.lost) if options.partial else None,
            text=f"{time_text(blocks.samples / blocks.rate)} from {size_text(size)}{_concealed(blocks, head.units)}",
            seconds=round(time.perf_counter() - run.begin, 4),
        )

    def _format(self, target: str) -> str:
        from triode.io.audio import find_format

        try:
            return find_format(self.options.audio or ("" if target == STDIO else Path(target).suffix))
        except UnsupportedError as error:
            raise UsageError(str(error)) from None

    def _part(self, head: AudioHead) -> tuple[int, int | None]:
        """Return which samples are wanted."""
        if self.options.span is None:
            return 0, None
        start, stop = self.options.span.samples(head.rate)
        if start >= head.samples or (stop is not None and stop <= start):
            raise UsageError(
                f"--range holds no sample of this recording of {time_text(head.samples / head.rate)} "
                f"({head.samples} samples)"
            )
        return start, stop

    def _info(self, file: BinaryIO) -> AudioInfo | None:
        """Return what a file says of itself, None where it is damaged and what is left of it is wanted."""
        try:
            return self.codec.info(file)
        except CodecError:
            if not self.options.partial:
                raise
            return None


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out the warning of lost chunks, which the record tells of."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"\d+ chunks were lost")
        yield


def _concealed(blocks: SoundBlocks, units: int) -> str:
    """Say how much is concealed."""
    if not blocks.lost:
        return ""
    numbers = ", ".join(map(str, blocks.lost[:5])) + (", ..." if len(blocks.lost) > 5 else "")
    return f", {len(blocks.lost)} of {units} chunks concealed ({numbers})"


def describe_audio(info: AudioInfo) -> Description:
    """Describe a file that holds a recording."""
    channels = {1: "mono", 2: "stereo"}.get(info.channels, f"{info.channels} channels")
    coded = "" if info.model_rate == info.rate else f", coded at {info.model_rate} Hz"
    fields = asdict(info)
    fields["duration"] = fields.pop("seconds")
    length = "" if info.chunks == 1 else f" of {info.chunk_seconds:.3g} s"
    return Description(
        media=f"{info.media}, {time_text(info.seconds)}, {info.samples} samples at {info.rate} Hz, {channels}{coded}",
        units=f"{info.chunks} {'chunk' if info.chunks == 1 else 'chunks'}{length}",
        count=info.chunks,
        rate=f"{info.kbps:.2f} kb/s",
        tags=tuple((key.lower(), value.replace("\n", " ")) for key, value in info.tags),
        fields={**fields, "kbps": round(info.kbps, 6)},
        size={"rate": info.rate, "channels": info.channels, "samples": info.samples},
    )

"""Frames to a file: groups are drawn, coded by an engine, kept in a journal, and written with their sound."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, islice
from typing import BinaryIO

from triode.codecs.gop import ClipSource, Gop, frames_of, gops_of
from triode.codecs.gop_encoder import CodedGop, encode_gop
from triode.codecs.gop_engine import GopEngine
from triode.codecs.planes import Planes
from triode.codecs.rate_control import OVERHEAD, LeakyBucket
from triode.codecs.search import point_to_quality
from triode.codecs.video_journal import Entry, VideoJournal, fingerprint
from triode.codecs.video_sound import SoundOfVideo
from triode.container import (
    ContainerWriter,
    Head,
    MetadataKind,
    Packet,
    TrackMethod,
    Unit,
    pack_packets,
    pack_track,
    unpack_video_unit,
)
from triode.container.video import GopSpan, read_span
from triode.errors import UnsupportedError
from triode.media import Clip
from triode.models.base import VideoModel

__all__ = ["EncodedClip", "VideoEncoding"]

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class EncodedClip:
    """A coded video.

    Attributes:
        data: The ``.tri`` file; None where it was written to a target.
        model: Name of the weights.
        rate_point: Rate point of the units, 0 to 63; the lowest where they differ.
        quality: The same as a quality, 0 to 100.
        width: Pixels, as coded.
        height: Pixels.
        rate: Frames per second, nominally.
        frames: Number of frames.
        seconds: Duration.
        gops: Number of groups of pictures.
        resumed: How many of them a journal had.
        bytes: Size of the file.
        payload_bytes: What its units hold, a part of ``bytes``.
        frame_bytes: What the coded frames take, a part of ``payload_bytes``.
    """

    data: bytes | None
    model: str
    rate_point: int
    quality: float
    width: int
    height: int
    rate: Fraction
    frames: int
    seconds: float
    gops: int
    resumed: int
    bytes: int
    payload_bytes: int
    frame_bytes: int

    @property
    def kbps(self) -> float:
        """Thousand bits of the file over seconds."""
        return 8 * self.bytes / 1000 / self.seconds

    @property
    def bpp(self) -> float:
        """Bits of the file over pixels of all frames."""
        return 8 * self.bytes / (self.width * self.height * self.frames)


class VideoEncoding:
    """One video on its way into a file.

    Args:
        model: The model.
        head: What `HEAD` says.
        source: The frames.
        sound: The sound, if any.
        scenes: Whether a scene begins a group.
        engine: What codes the groups.
    """

    def __init__(
        self,
        model: VideoModel,
        head: Head,
        source: Clip | ClipSource,
        sound: SoundOfVideo | None,
        engine: GopEngine,
        *,
        scenes: bool,
    ) -> None:
        self._model, self._head, self._video = model, head, head.video
        self._source, self._sound, self._engine, self._scenes = source, sound, engine, scenes
        self._sounds: dict[int, bytes] = {}
        self._prints: dict[int, int] = {}

    def run(
        self,
        target: BinaryIO | None,
        point: int,
        *,
        kbps: float | None = None,
        journal: VideoJournal | None = None,
        progress: Progress | None = None,
    ) -> EncodedClip:
        """Encode to a file.

        Args:
            target: The file; None for memory.
            point: Rate point.
            kbps: Most thousand bits a second instead.
            journal: Where units are kept as soon as they are coded; those that it has are not coded again.
            progress: Called with the share done, where the source knows its length.

        Raises:
            UnsupportedError: If the journal was made of other frames, or there are none, or no rate is low enough.
            CodecError: What reading the source raises.
        """
        memory = io.BytesIO()
        total, done = self._source.frames, _Tally()
        frames = frames_of(self._source, self._video)
        with ContainerWriter(memory if target is None else target, self._head) as writer:
            if self._sound is not None:
                writer.metadata(MetadataKind.TRACK, pack_track(self._sound.track))
            bucket = None if kbps is None else LeakyBucket(kbps * 125, writer.size + OVERHEAD)
            for entry in journal.entries if journal else ():
                span = self._pass_over(frames, entry)
                self._write(writer, bucket, done, entry, span)
            resumed = done.units
            for gop, coded in self._coded(frames, done, point, bucket):
                unit = coded.unit(self._sounds.pop(gop))
                entry = Entry(unit, coded.size, self._prints.pop(gop))
                if journal:
                    journal.add(entry)
                self._write(writer, bucket, done, entry, read_span(unit.payload, self._video))
                if progress and total:
                    progress(min(1.0, done.frames / total))
            if not done.units:
                raise UnsupportedError("there are no frames in this video")
        return self._result(writer.size, memory.getvalue() if target is None else None, done, resumed, kbps)

    def _coded(
        self, frames: Iterator[tuple[int, Planes]], done: _Tally, point: int, bucket: LeakyBucket | None
    ) -> Iterator[tuple[int, CodedGop]]:
        """Yield the groups that are left, each with its number."""
        gops = gops_of(frames, self._video, scenes=self._scenes, index=done.units, first=done.frames)
        drawn = self._drawn(gops)
        if bucket is None:
            for coded in self._engine.run(self._model, self._video, drawn, point):
                yield coded.index, coded
            return
        for gop in drawn:
            seconds = float((gop.end - gop.start) * self._video.tick)
            more = len(self._sounds[gop.index]) + OVERHEAD
            yield gop.index, bucket.code(lambda p, g=gop: encode_gop(self._model, self._video, g, p), seconds, more)  # type: ignore[misc]

    def _drawn(self, gops: Iterable[Gop]) -> Iterator[Gop]:
        """Pass on groups; keep the sound of each, and of what frames it is."""
        waiting: Gop | None = None
        for gop in gops:
            if waiting is not None:
                yield self._prepared(waiting, last=False)
            waiting = gop
        if waiting is not None:
            yield self._prepared(waiting, last=True)

    def _prepared(self, gop: Gop, *, last: bool) -> Gop:
        end = None if last else gop.end * self._video.tick
        self._sounds[gop.index] = b"" if self._sound is None else self._packed(self._sound.until(end))
        times = accumulate(gop.durations[:-1], initial=gop.start)
        self._prints[gop.index] = fingerprint(zip(times, gop.frames, strict=True))
        return gop

    def _pass_over(self, frames: Iterator[tuple[int, Planes]], entry: Entry) -> GopSpan:
        """Take what a journal has of the source."""
        span = read_span(entry.unit.payload, self._video)
        where = f"group {entry.unit.index}, frames {span.first} to {span.stop - 1}, differs; remove it first"
        if fingerprint(islice(frames, span.frames)) != entry.source:
            raise UnsupportedError(f"the journal was made of other frames: {where}")
        if self._sound is None:
            return span
        packets = self._sound.until(span.end * self._video.tick)
        # What a model makes of samples may depend on how many threads there are; packets that are copied do not.
        if self._sound.track.method is TrackMethod.COPIED:
            kept = unpack_video_unit(entry.unit.payload, self._video).sound
            # With the last group goes all the sound that is left.
            if self._packed(packets) != kept and self._packed([*packets, *self._sound.until(None)]) != kept:
                raise UnsupportedError(f"the journal was made of other sound: {where}")
        return span

    @staticmethod
    def _packed(packets: list[Packet]) -> bytes:
        try:
            return pack_packets(packets)
        except ValueError as error:
            raise UnsupportedError(f"the sound of this video cannot be held: {error}") from error

    def _write(
        self, writer: ContainerWriter, bucket: LeakyBucket | None, done: _Tally, entry: Entry, span: GopSpan
    ) -> None:
        unit = entry.unit
        writer.unit(unit)
        done.add(unit, span, entry.size)
        if bucket is not None:
            seconds = float(span.duration * self._video.tick)
            bucket.add(unit.rate_point, entry.size, seconds, len(unit.payload) - entry.size + OVERHEAD)

    def _result(self, size: int, data: bytes | None, done: _Tally, resumed: int, kbps: float | None) -> EncodedClip:
        seconds = float(done.ticks * self._video.tick)
        if kbps is not None and size > kbps * 125 * seconds:
            found = 8 * size / 1000 / seconds
            raise UnsupportedError(f"The rate of {kbps:g} kbps cannot be met: quality 0 takes {found:.4g} kbps")
        return EncodedClip(
            data=data,
            model=self._head.model,
            rate_point=done.point,
            quality=point_to_quality(done.point),
            width=self._video.width,
            height=self._video.height,
            rate=self._video.rate,
            frames=done.frames,
            seconds=seconds,
            gops=done.units,
            resumed=resumed,
            bytes=size,
            payload_bytes=done.payload,
            frame_bytes=done.coded,
        )


@dataclass(slots=True)
class _Tally:
    """What has been written so far."""

    units: int = 0
    frames: int = 0
    ticks: int = 0
    payload: int = 0
    coded: int = 0
    point: int = 63

    def add(self, unit: Unit, span: GopSpan, size: int) -> None:
        self.units, self.frames, self.ticks = unit.index + 1, span.stop, span.end
        self.payload, self.coded = self.payload + len(unit.payload), self.coded + size
        self.point = min(self.point, unit.rate_point)

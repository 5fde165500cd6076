"""Files to frames: which groups a part of a video needs, and what becomes of those that are damaged."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import accumulate
from typing import Final

import numpy as np

from triode.codecs.gop_decoder import decode_frames, decode_symbols, groups_at_once
from triode.codecs.matrices import matrix_name
from triode.codecs.planes import Planes
from triode.codecs.threads import Check, in_order
from triode.container import (
    ContainerReader,
    DecodeLimits,
    GopSpan,
    Packet,
    SoundTrack,
    TrackMethod,
    Unit,
    VideoHead,
    VideoUnit,
    unpack_packets,
    unpack_track,
    unpack_video_unit,
)
from triode.container.video import read_span
from triode.errors import BitstreamError, CodecError, LimitExceededError, UnsupportedError
from triode.media import Clip, SoundPacket
from triode.models.base import VideoModel

__all__ = ["ClipFrames", "Part", "SoundOfFrames", "VideoDecoding"]

_FILL: Final = 16
_NAMED: Final = 10

Timed = tuple[int, int, Planes]
"""Number of a frame, its time in ticks, and its samples."""
Group = tuple[list[Timed], tuple[Packet, ...]]
"""Frames, and packets of sound that begin while they are shown."""


@dataclass(frozen=True, slots=True)
class Part:
    """Which frames are wanted: those of some numbers, or those shown in some time.

    Attributes:
        start: Number of the first frame, or the earliest time in ticks at which a frame may begin.
        stop: What is not wanted any more; None for the end.
        by_time: Whether they are times.
    """

    start: int = 0
    stop: int | None = None
    by_time: bool = False

    @property
    def whole(self) -> bool:
        """Whether all frames are wanted."""
        return self.start == 0 and self.stop is None

    def before(self, span: GopSpan) -> bool:
        """Whether a group lies before the part as a whole."""
        return (span.end if self.by_time else span.stop) <= self.start

    def behind(self, span: GopSpan) -> bool:
        """Whether a group lies behind the part."""
        return self.stop is not None and (span.start if self.by_time else span.first) >= self.stop

    def wants(self, number: int, time: int) -> bool:
        """Whether a frame is wanted."""
        value = time if self.by_time else number
        return value >= self.start and (self.stop is None or value < self.stop)


class SoundOfFrames:
    """The copied sound of frames that are being decoded.

    Attributes:
        header: What a decoder must know of the codec: a Matroska file with the track and its first packet.
        tick: Seconds of a tick of the sound.
    """

    def __init__(self, frames: ClipFrames, header: bytes, tick: Fraction) -> None:
        self._frames, self.header, self.tick = frames, header, tick

    def take(self) -> list[SoundPacket]:
        """Return the packets that came with the frames since the last call."""
        return self._frames.take_packets()


class ClipFrames:
    """The frames of a file or a part of it, decoded while they are gone through, which can be done once.

    Attributes:
        width: Pixels, of frames set upright.
        height: Pixels.
        rate: Frames per second, nominally.
        tick: Seconds of which all times are multiples.
        matrix: ``bt709`` or ``bt601``.
        full_range: Whether luma runs from 0 to 255.
        track: What the file says of its sound; None where it has none, or it cannot be read.
        lost: Numbers of the groups that had to be concealed so far.
        begin: When the first of these frames is shown, in seconds since the first of the video; 0 before it is there.
        ended: Whether they have been gone through.
    """

    def __init__(self, decoding: VideoDecoding, part: Part, progress: Callable[[float], None] | None = None) -> None:
        """Prepare to decode a part; :class:`VideoDecoding` knows the file."""
        head = decoding.head
        self.width, self.height = (head.height, head.width) if head.rotation % 2 else (head.width, head.height)
        self.rate, self.tick, self.full_range = head.rate, head.tick, head.full_range
        self.matrix = matrix_name(head.matrix)
        self.track = decoding.track
        self.lost: list[int] = decoding.lost
        self.begin, self.ended = Fraction(0), False
        self._decoding, self._part, self._progress = decoding, part, progress
        self._packets: list[SoundPacket] = []
        self._origin: tuple[int, int] | None = None

    def __iter__(self) -> Iterator[Clip]:
        """Yield the frames, a group at a time or fewer."""
        for frames, packets in self._decoding.groups(self._part, self._progress):
            if frames and self._origin is None:
                self._origin = frames[0][:2]
                self.begin = self._origin[1] * self._decoding.head.tick
            if self._origin is not None:
                self._packets += self._moved(packets, self._origin[1])
            if frames:
                yield self._clip(frames)
        self.ended = True
        if self._origin is None and not self._part.whole:
            raise ValueError("the video has no frames in this part")
        if self._origin is None:
            raise BitstreamError("the video has no frames")
        if self.lost:
            numbers = ", ".join(map(str, self.lost[:_NAMED])) + (", ..." if len(self.lost) > _NAMED else "")
            warnings.warn(f"{len(self.lost)} groups of pictures were lost and are concealed: {numbers}", stacklevel=2)

    @property
    def sound(self) -> SoundOfFrames | None:
        """The copied sound, for a writer of video files; None where there is none, or Triode coded it."""
        if self.track is None or self.track.method is not TrackMethod.COPIED:
            return None
        return SoundOfFrames(self, self.track.codec, self.track.tick)

    def take_packets(self) -> list[SoundPacket]:
        """Return the packets of sound that came with the frames since the last call, in time since the first frame."""
        packets, self._packets = self._packets, []
        return packets

    def _moved(self, packets: tuple[Packet, ...], origin: int) -> Iterator[SoundPacket]:
        """Pass on packets that begin in the part, their times counted from its first frame."""
        if self.track is None:
            return
        head, tick = self._decoding.head, self.track.tick
        begin = origin * head.tick / tick
        for packet in packets:
            time = packet.time - self.track.lead
            if not origin or time >= begin:
                yield SoundPacket(time - round(begin), packet.duration, packet.data)

    def _clip(self, frames: list[Timed]) -> Clip:
        head = self._decoding.head
        number, time = self._origin or (0, 0)
        y, u, v = (np.stack(planes) for planes in zip(*(planes for _, _, planes in frames), strict=True))
        if head.rotation:
            y, u, v = (np.ascontiguousarray(np.rot90(p, head.rotation, (1, 2))) for p in (y, u, v))
        regular = all(t - time == (n - number) * head.frame_ticks for n, t, _ in frames)
        times = None if regular else tuple(Fraction((t - time) * head.tick) for _, t, _ in frames)
        aspect = 1 / head.aspect if head.rotation % 2 else head.aspect
        return Clip(y, u, v, self.rate, self.matrix, self.full_range, times, head.primaries, head.transfer, aspect)


class VideoDecoding:
    """A file that is decoded.

    Attributes:
        head: What the file says of the video.
        track: What it says of its sound.
        lost: Numbers of the groups that had to be concealed so far.

    Args:
        model: The model.
        reader: The file.
        limits: What it may ask for.
        conceal: Whether damaged and missing groups are concealed, by the frame before them.
    """

    def __init__(self, model: VideoModel, reader: ContainerReader, limits: DecodeLimits, *, conceal: bool) -> None:
        self.head: VideoHead = reader.head.video
        self.lost: list[int] = []
        self._model, self._reader, self._limits, self._conceal = model, reader, limits, conceal
        self._announced = False
        self.track = self._track()

    def groups(self, part: Part, progress: Callable[[float], None] | None = None) -> Iterator[Group]:
        """Yield the wanted frames of each group that has any, and its packets of sound."""
        spans = self._spans()
        total = spans[-1].stop if spans else None
        source = self._salvaged(part, spans) if self._conceal else self._intact(part, spans)
        for frames, packets in source:
            wanted = [frame for frame in frames if part.wants(frame[0], frame[1])]
            yield wanted, packets
            if progress and total and wanted:
                progress(min(1.0, (wanted[-1][0] + 1) / (part.stop if part.stop and not part.by_time else total)))

    def symbols(self) -> Iterator[GopSpan]:
        """Decode the symbols of all groups, and check that the file is complete; makes no frames."""
        for index, unit, before in self._units(Part(), None):
            with self._naming(index, before):
                video = self._unpack(unit)
                decode_symbols(self._model, self.head, unit, video)
                self._packets(video, Part())
            yield video.span(self.head)

    def _intact(self, part: Part, spans: tuple[GopSpan, ...] | None) -> Iterator[Group]:
        workers = groups_at_once(self._model, self.head, self._limits)
        return in_order(self._tasks(part, spans), workers)

    def _tasks(self, part: Part, spans: tuple[GopSpan, ...] | None) -> Iterator[Callable[[Check], Group]]:
        """Yield for each unit of a part what decodes it."""
        for index, unit, before in self._units(part, spans):
            with self._naming(index, before, spans):
                span = read_span(unit.payload, self.head, self._limits)
                if part.before(span):
                    continue
                if part.behind(span):
                    return
                video = self._unpack(unit)
                packets = self._packets(video, part)
            naming = partial(self._naming, index, before, spans)
            yield partial(self._decoded, unit, video, packets, part, naming)

    def _decoded(
        self,
        unit: Unit,
        video: VideoUnit,
        packets: tuple[Packet, ...],
        part: Part,
        naming: Callable[[], AbstractContextManager[None]],
        check: Check,
    ) -> Group:
        """Return the frames of a unit that a part wants, and its packets."""
        frames: list[Timed] = []
        with naming():
            for frame in self._frames(unit, video, part):
                check()
                frames.append(frame)
        return frames, packets

    def _units(self, part: Part, spans: tuple[GopSpan, ...] | None) -> Iterator[tuple[int, Unit, GopSpan | None]]:
        """Yield units, each with its number and the span before it: those of a part by the index, or one by one."""
        if spans is not None and not part.whole:
            for index, span in enumerate(spans):
                if part.behind(span):
                    return
                if not part.before(span):
                    with self._naming(index, None, spans):
                        unit = self._reader.at(index)
                        if read_span(unit.payload, self.head, self._limits) != span:
                            raise BitstreamError("indx says that it holds other frames")
                    yield index, unit, spans[index - 1] if index else None
            return
        units, index, before = self._reader.units(), 0, None
        while True:
            with self._naming(index, before, spans):
                unit_or_end = next(units, None)
            if unit_or_end is None:
                return
            yield index, unit_or_end, before
            index, before = index + 1, read_span(unit_or_end.payload, self.head, self._limits)

    def _frames(self, unit: Unit, video: VideoUnit, part: Part) -> Iterator[Timed]:
        """Yield the frames of a unit that a part wants."""
        times = self._times(video)
        wanted = [place for place, time in enumerate(times) if part.wants(video.first + place, time)]
        latents = decode_symbols(self._model, self.head, unit, video)
        if not wanted:
            return
        first, last = wanted[0], wanted[-1] + 1
        made = decode_frames(self._model, self.head, video, latents, first)
        for place, planes in zip(range(first, last), made, strict=False):
            yield video.first + place, times[place], planes

    def _times(self, video: VideoUnit) -> list[int]:
        durations = video.durations or (self.head.frame_ticks,) * len(video.frames)
        return list(accumulate(durations[:-1], initial=video.start))

    def _salvaged(self, part: Part, spans: tuple[GopSpan, ...] | None) -> Iterator[Group]:
        """Yield what groups are intact, and between them the frame before, as often as frames are missing."""
        last: Planes | None = None
        number = time = following = 0
        for unit in self._reader.salvage():
            try:
                span = read_span(unit.payload, self.head, self._limits)
                if part.before(span):
                    number, time, following = span.stop, span.end, unit.index + 1
                    continue
                video = self._unpack(unit)
                packets = self._packets(video, part)
                frames = list(self._frames(unit, video, Part()))
            except LimitExceededError:
                raise
            except CodecError:
                continue
            missing = span.first - number
            # Every frame lasts a tick, and every group has a frame: numbers that say otherwise are made up.
            if missing < 0 or span.start - time < missing or unit.index - following > missing:
                continue
            self.lost += range(following, unit.index)
            for filler in self._fill(last or frames[0][2], number, time, span.first, span.start):
                yield filler, ()
            if part.behind(span):
                return
            yield frames, packets
            last, number, time, following = frames[-1][2], span.stop, span.end, unit.index + 1
        if last is None and not following:
            raise BitstreamError("no group of pictures is intact")
        # An index of a damaged file may say anything.
        if spans and last is not None and 0 < spans[-1].stop - number <= spans[-1].end - time:
            self.lost += range(following, len(spans))
            for filler in self._fill(last, number, time, spans[-1].stop, spans[-1].end):
                yield filler, ()

    def _fill(self, planes: Planes, number: int, time: int, stop: int, end: int) -> Iterator[list[Timed]]:
        """Yield a frame as often as frames are missing, over the time that is missing."""
        count = stop - number
        for begin in range(0, count, _FILL):
            places = range(begin, min(begin + _FILL, count))
            yield [(number + place, time + (end - time) * place // count, planes) for place in places]

    def _spans(self) -> tuple[GopSpan, ...] | None:
        """Return what the index says, None where there is none, or it is damaged and may be."""
        try:
            return self._reader.spans() if self._reader.indexed else None
        except LimitExceededError:
            raise
        except CodecError:
            if not self._conceal:
                raise
            return None

    def _track(self) -> SoundTrack | None:
        try:
            payload = self._reader.metadata.track
            self._announced = payload is not None
            return None if payload is None else unpack_track(payload)
        except LimitExceededError:
            raise
        except UnsupportedError:  # a newer version's sound: the frames can be had without it
            return None
        except CodecError:
            if not self._conceal:
                raise
            return None

    def _unpack(self, unit: Unit) -> VideoUnit:
        return unpack_video_unit(unit.payload, self.head, self._limits)

    def _packets(self, video: VideoUnit, part: Part) -> tuple[Packet, ...]:
        """Return the packets of a unit that begin before a part ends."""
        if self.track is None:
            if video.sound and not self._announced and not self._conceal:
                raise BitstreamError("DATA: a unit has sound, but there is no trak chunk")
            return ()
        packets = unpack_packets(video.sound)
        stop = part.stop
        if stop is not None and not part.by_time:
            times = self._times(video)
            place = max(stop - video.first, 0)
            stop = times[place] if place < len(times) else None
        if stop is None:
            return packets
        end = stop * self.head.tick
        return tuple(p for p in packets if (p.time - self.track.lead) * self.track.tick < end)

    @contextmanager
    def _naming(self, index: int, before: GopSpan | None, spans: tuple[GopSpan, ...] | None = None) -> Iterator[None]:
        """Say in errors which group they are about, and which frames it holds as far as that is known."""
        try:
            yield
        except CodecError as error:
            span = spans[index] if spans and index < len(spans) else None
            first = span.first if span else (before.stop if before else 0)
            where = f"frames {first} to {span.stop - 1}" if span else f"from frame {first} on"
            seconds = float((span.start if span else before.end if before else 0) * self.head.tick)
            raise type(error)(f"group {index}, {where}, at {seconds:.2f} s: {error}") from error

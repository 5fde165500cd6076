"""The sound track of a video file: its packets as they are, read beside the frames, and written into another file."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

from triode.errors import BitstreamError, UnsupportedError
from triode.io.pyav import import_av, open_input, typed_errors
from triode.media import SoundPacket

__all__ = ["BITEXACT", "LAYOUTS", "NoSoundError", "PacketReader", "PacketWriter", "first_frame"]

BITEXACT: Final = {"fflags": "+bitexact"}  # no random identifiers
LAYOUTS: Final = ("mono", "stereo", "3.0", "4.0", "5.0", "5.1", "6.1", "7.1")
"""FFmpeg's names of where 1 to 8 channels are heard."""


class NoSoundError(UnsupportedError):
    """There is no sound in a video."""


class PacketReader:
    """Reads the packets of the first sound track of a video; use it in a `with` statement, or close it.

    Attributes:
        tick: Seconds of a tick.
        lead: Ticks from the first packet to the first frame of the video, 0 if the packet is the later one.
        header: Matroska file with the track and its first packet: what a decoder must know.
        codec: FFmpeg's name of the codec, such as ``aac``.

    Args:
        source: A path, or a binary file that can seek. Nothing else may read from a file meanwhile, as it is moved;
            give a second one that is open on the same data.
        form: FFmpeg's name of the format; None to find it.

    Raises:
        NoSoundError: If there is no sound in it.
        UnsupportedError: If Matroska cannot hold its codec, or PyAV is missing.
        CodecError: If the file is damaged.
        OSError: If it cannot be read.
    """

    def __init__(self, source: Path | BinaryIO, form: str | None = None) -> None:
        av = import_av("video")
        with ExitStack() as stack:
            file = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
            with open_input(file, "video", "video", form=form) as probe:
                self._origin = first_frame(probe) if probe.streams.video else Fraction(0)
            container = open_input(file, "video", "video", form=form)
            stack.callback(container.close)
            if not container.streams.audio:
                raise NoSoundError("there is no sound in this video")
            stream = container.streams.audio[0]
            self.codec = _codec_of(stream)
            self.tick = Fraction(stream.time_base or Fraction(1, stream.rate))
            self._packets = self._demux(container, stream)
            with typed_errors("sound of the video"):
                self._next = next(self._packets, None)
            if self._next is None:
                raise NoSoundError("there is no sound in this video")
            self.header = _header(av, stream, self._next)
            self.lead = max(0, -self._next.time)
            self._stack = stack.pop_all()

    def until(self, seconds: Fraction | None) -> list[SoundPacket]:
        """Return the next packets, those that begin before a time, or all that are left where it is None.

        Times count from the first frame of the video.

        Raises:
            CodecError: If the file is damaged.
        """
        found: list[SoundPacket] = []
        with typed_errors("sound of the video"):
            while self._next is not None and (seconds is None or self._next.time * self.tick < seconds):
                found.append(self._next)
                self._next = next(self._packets, None)
        return found

    def close(self) -> None:
        """Close the file, if this reader opened it."""
        self._stack.close()

    def __enter__(self) -> Self:
        """Return this object."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()

    def _demux(self, container: Any, stream: Any) -> Iterator[SoundPacket]:
        """Yield packets in order; a time that is missing or goes back is that of the packet before."""
        time = None
        for packet in container.demux(stream):
            if not packet.size:
                continue
            given = packet.pts if packet.pts is not None else packet.dts
            moved = None if given is None else given - round(self._origin / self.tick)
            time = (moved or 0) if time is None else max(time, time if moved is None else moved)
            yield SoundPacket(time, max(packet.duration or 0, 0), bytes(packet))


class PacketWriter:
    """Writes packets into a container of PyAV that is being written.

    Args:
        container: The container, with its other streams added, nothing written yet.
        header: What :attr:`PacketReader.header` said.
        tick: Seconds of a tick.

    Raises:
        UnsupportedError: If the container cannot hold the codec.
        BitstreamError: If the header is damaged.
    """

    def __init__(self, container: Any, header: bytes, tick: Fraction) -> None:
        self._av = import_av("video")
        self._container, self._tick = container, tick
        self._template = open_input(io.BytesIO(header), "sound track", "video", form="matroska")
        if not self._template.streams.audio:
            raise BitstreamError("the sound track's header has no sound")
        track = self._template.streams.audio[0]
        context, name = track.codec_context, _codec_of(track)
        try:
            if name.startswith("pcm_") and context.channels <= len(LAYOUTS):
                # Matroska does not say where the channels are heard, and MP4 wants to know it of PCM.
                layout = LAYOUTS[context.channels - 1]
                self._stream = container.add_stream(context.name, rate=context.sample_rate, layout=layout)
            else:
                self._stream = container.add_stream_from_template(track)
        except ValueError as error:
            raise UnsupportedError(f"{container.format.name} does not hold the sound of this video: {error}") from error

    def write(self, packets: Iterable[SoundPacket]) -> None:
        """Write packets; those before the first frame of the video move its start."""
        for given in packets:
            packet = self._av.Packet(given.data)
            packet.pts = packet.dts = given.time
            packet.duration = given.duration
            packet.time_base = self._tick
            packet.stream = self._stream
            self._container.mux(packet)

    def close(self) -> None:
        """Release the header."""
        self._template.close()


def first_frame(container: Any) -> Fraction:
    """Return when the first frame of the video is shown, in seconds of the file.

    Raises:
        CodecError: If the file is damaged.
    """
    stream = container.streams.video[0]
    with typed_errors("video"):
        for packet in container.demux(stream):
            if packet.pts is not None:
                start = stream.start_time if stream.start_time is not None else packet.pts
                return Fraction(start * stream.time_base)
    return Fraction(0)


def _codec_of(stream: Any) -> str:
    """Return FFmpeg's name of the codec of a stream."""
    if stream.codec_context is None:
        raise UnsupportedError("this FFmpeg does not know the codec of the sound, so it cannot be copied")
    name: str = stream.codec_context.name
    return name


def _header(av: Any, stream: Any, first: SoundPacket) -> bytes:
    """Return a Matroska file with a track and its first packet."""
    file = io.BytesIO()
    try:
        with av.open(file, "w", format="matroska", options=dict(BITEXACT)) as container:
            copy = container.add_stream_from_template(stream)
            packet = av.Packet(first.data)
            packet.pts = packet.dts = 0
            packet.duration, packet.time_base, packet.stream = first.duration, stream.time_base, copy
            container.mux(packet)
    except (ValueError, OSError) as error:
        name = stream.codec_context.name
        raise UnsupportedError(f"Matroska does not hold sound of the codec {name}, so it cannot be copied") from error
    return file.getvalue()

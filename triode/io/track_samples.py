"""The sound track of a video as samples: read beside the frames, and written into a video file as PCM."""

from __future__ import annotations

import io
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Protocol, Self, cast

import numpy as np
from numpy.typing import NDArray

from triode.errors import UnsupportedError
from triode.io.files import SharedFile
from triode.io.pyav import import_av, open_input
from triode.io.sound_source import FfmpegSource
from triode.io.tracks import BITEXACT, LAYOUTS, NoSoundError, first_frame
from triode.media import SoundPacket

__all__ = ["PcmFeed", "SampleFeed", "TrackReader"]

_PACKET: Final = 4096
_MOST_SILENCE: Final = 24 * 3600


class TrackReader:
    """Reads the samples of the first sound track of a video; use it in a `with` statement, or close it.

    The first sample is heard with the first frame: sound before it is left out, and silence put where there is none.

    Attributes:
        rate: Samples per second.
        channels: Number of channels.
        frames: None: their number is not known.

    Args:
        source: A path, or a binary file that can seek and stays the caller's to close; others may read it meanwhile if
            they go through a :class:`triode.io.files.SharedFile` too.

    Raises:
        NoSoundError: If there is no sound in it.
        UnsupportedError: If the sound is not decoded, or begins a day after the frames, or PyAV is missing.
        CodecError: If the file is damaged.
        OSError: If it cannot be read.
    """

    def __init__(self, source: Path | BinaryIO) -> None:
        with ExitStack() as stack:
            file = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
            with open_input(cast(BinaryIO, SharedFile(file)), "video", "video") as probe:
                if not probe.streams.audio:
                    raise NoSoundError("there is no sound in this video")
                origin = first_frame(probe) if probe.streams.video else Fraction(0)
            self._source = FfmpegSource(cast(BinaryIO, SharedFile(file)))
            stack.callback(self._source.close)
            self.rate, self.channels = self._source.rate, self._source.channels
            self.frames: int | None = None
            late = self._source.start - origin
            if late > _MOST_SILENCE:
                raise UnsupportedError(f"the sound of this video begins {float(late):.0f} s after the first frame")
            self._silence = max(0, round(late * self.rate))
            self._drop = max(0, round(-late * self.rate))
            self._stack = stack.pop_all()

    def read(self, count: int) -> NDArray[np.float32]:
        """Return (C, T) float32 with T at most `count`, and 0 only at the end.

        Raises:
            CodecError: If the file is damaged.
        """
        if self._silence:
            count = min(count, self._silence)
            self._silence -= count
            return np.zeros((self.channels, count), np.float32)
        while self._drop and (passed := self._source.read(min(self._drop, _PACKET)).shape[1]):
            self._drop -= passed
        return self._source.read(count)

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


class SampleFeed(Protocol):
    """What gives samples of a sound track while a clip is written.

    Attributes:
        rate: Samples per second.
        channels: Number of channels.
    """

    rate: int
    channels: int

    @property
    def start(self) -> Fraction:
        """When the first sample is heard, in seconds since the first frame; known with the first samples."""

    def take(self) -> NDArray[np.float32]:
        """Return the samples (C, T) float32 that came with what was given of the clip since the last call."""


class PcmFeed:
    """Samples as 16-bit PCM for :func:`triode.io.video_writing.write_clip`.

    Attributes:
        header: Matroska file with the track and a packet.
        tick: Seconds of a sample.

    Args:
        source: What gives the samples.

    Raises:
        UnsupportedError: If there are more than 8 channels, or PyAV is missing.
    """

    def __init__(self, source: SampleFeed) -> None:
        self._source, self.tick = source, Fraction(1, source.rate)
        self._time: int | None = None
        self.header = _header(source.rate, source.channels)

    def take(self) -> list[SoundPacket]:
        """Return the packets that came with the parts of the clip that were given since the last call."""
        samples = self._source.take()
        packets = []
        for start in range(0, samples.shape[1], _PACKET):
            piece = samples[:, start : start + _PACKET]
            if self._time is None:
                self._time = round(self._source.start * self._source.rate)
            whole = np.clip(np.round(piece.T * 32768.0), -32768, 32767).astype("<i2")
            packets.append(SoundPacket(self._time, piece.shape[1], whole.tobytes()))
            self._time += piece.shape[1]
        return packets


def _header(rate: int, channels: int) -> bytes:
    """Return a Matroska file with a track of PCM and a packet of it."""
    if not 1 <= channels <= len(LAYOUTS):
        raise UnsupportedError(f"sound of {channels} channels is not written beside frames; 1 to {len(LAYOUTS)} are")
    av = import_av("video")
    file = io.BytesIO()
    with av.open(file, "w", format="matroska", options=dict(BITEXACT)) as container:
        track = container.add_stream("pcm_s16le", rate=rate, layout=LAYOUTS[channels - 1])
        packet = av.Packet(bytes(2 * channels))
        packet.pts = packet.dts = 0
        packet.duration, packet.time_base, packet.stream = 1, Fraction(1, rate), track
        container.mux(packet)
    return file.getvalue()

"""Recordings to files: where the samples come from, and how units become a file."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from triode.codecs.search import point_to_quality
from triode.codecs.sound_info import kbps_of
from triode.codecs.spool import UnitSpool
from triode.codecs.streaming import UnitStream
from triode.container import (
    ContainerWriter,
    Head,
    MetadataKind,
    SoundUnit,
    Unit,
    pack_sound_unit,
    unpack_sound_unit,
)
from triode.container.audio import MAX_CHUNK_FRAMES
from triode.media import Sound
from triode.models.base import AudioModel
from triode.models.weights import Loaded

__all__ = [
    "BLOCK",
    "CodedSound",
    "EncodedSound",
    "SoundEncoding",
    "SoundSource",
    "blocks_of",
    "chunk_frames",
    "length_of",
]

Samples = NDArray[np.float32]

BLOCK: Final = 1 << 16
"""Samples that are read at a time."""
_INDEX_FROM: Final = 64


class SoundSource(Protocol):
    """What gives samples block by block, such as `triode.io.audio.SoundReader`.

    Attributes:
        rate: Samples per second.
        channels: Number of channels.
        frames: Samples per channel that are expected; None where that is not known.
    """

    rate: int
    channels: int
    frames: int | None

    def read(self, count: int) -> Samples:
        """Return (C, T) float32 with T at most `count`, and 0 only at the end."""


@dataclass(frozen=True, slots=True)
class EncodedSound:
    """A coded recording.

    Attributes:
        data: The ``.tri`` file; None where it was written to a target.
        model: Name of the weights.
        rate_point: Rate point of the units, 0 to 63.
        quality: The same as a quality, 0 to 100.
        rate: Samples per second of the recording.
        channels: Channels.
        samples: Samples per channel.
        bytes: Size of the file.
        payload_bytes: What its units hold, a part of ``bytes``.
    """

    data: bytes | None
    model: str
    rate_point: int
    quality: float
    rate: int
    channels: int
    samples: int
    bytes: int
    payload_bytes: int

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.samples / self.rate

    @property
    def kbps(self) -> float:
        """Thousand bits of the file over seconds; 0 where there are none."""
        return kbps_of(self.bytes, self.seconds)


class SoundEncoding:
    """How recordings of one rate and number of channels become files.

    Args:
        weights: Model and name.
        rate: Samples per second.
        channels: Number of channels.
        seconds: About how long the chunks are.
        text: What the `text` chunk will hold; none if empty.
    """

    def __init__(
        self, weights: Loaded[AudioModel], rate: int, channels: int, seconds: float, text: bytes = b""
    ) -> None:
        self._weights, self._rate, self._channels, self._text = weights, rate, channels, text
        self._frames = chunk_frames(weights.model, seconds)

    def run(self, blocks: Iterable[Samples], point: int, spool: UnitSpool) -> CodedSound:
        """Encode samples at a rate point to units, which go to `spool`."""
        stream = UnitStream(self._weights.model, self._rate, self._channels, point, self._frames)
        for block in blocks:
            for unit in stream.push(block):
                spool.append(unit)
        for unit in stream.finish():
            spool.append(unit)
        if not spool.count:
            silence = SoundUnit(None, (None,) * self._channels, (0,) * (self._channels // 2), b"")
            spool.append(Unit(0, point, 0, pack_sound_unit(silence)))
        info = self._weights.info
        digests = (bytes.fromhex(info.entropy_digest)[:4], bytes.fromhex(info.synthesis_digest)[:4])
        return CodedSound(spool, Head(info.name, *digests, stream.head), point, self._text)


@dataclass(frozen=True, slots=True)
class CodedSound:
    """The units of a recording, and what its file says of them.

    Attributes:
        spool: The units.
        head: What `HEAD` will say.
        point: Their rate point.
        text: What the `text` chunk will hold; none if empty.
    """

    spool: UnitSpool
    head: Head
    point: int
    text: bytes = b""

    def size(self) -> int:
        """Return the bytes of the file."""
        return self._file(_Counter())[0]

    def write(self, target: BinaryIO | None) -> EncodedSound:
        """Write the file, to memory where there is no target."""
        memory = io.BytesIO()
        size, payload = self._file(memory if target is None else target)
        head = self.head.audio
        return EncodedSound(
            data=memory.getvalue() if target is None else None,
            model=self.head.model,
            rate_point=self.point,
            quality=point_to_quality(self.point),
            rate=head.rate,
            channels=head.channels,
            samples=head.samples,
            bytes=size,
            payload_bytes=payload,
        )

    def _file(self, out: BinaryIO | _Counter) -> tuple[int, int]:
        """Write the file; return its bytes, and those of them that its units hold."""
        head, payload = self.head, 0
        # Short files are as quick to read through, and an index is a part of their size that shows.
        with ContainerWriter(out, head, index=head.units > _INDEX_FROM) as writer:
            if self.text:
                writer.metadata(MetadataKind.TEXT, self.text)
            for kept in self.spool.units():
                unit = _unmarked(kept, head.audio.channels) if head.single else kept
                payload += len(unit.payload)
                writer.unit(unit)
        return writer.size, payload


class _Counter:
    """Takes bytes and keeps none."""

    def write(self, data: bytes | memoryview, /) -> int:
        return len(data)


def chunk_frames(model: AudioModel, seconds: float) -> int:
    """Return the frames of a chunk of about so many seconds, no more than the format allows."""
    step, most = model.hop * model.multiple, MAX_CHUNK_FRAMES // model.multiple
    return min(max(1, round(seconds * model.sample_rate / step)), most) * model.multiple


def length_of(sound: Sound | SoundSource) -> int | None:
    """Return the samples per channel, None where they are not known beforehand."""
    return sound.samples.shape[1] if isinstance(sound, Sound) else sound.frames


def blocks_of(sound: Sound | SoundSource) -> Iterator[Samples]:
    """Yield the samples of a recording block by block; of a source, those that are left."""
    if isinstance(sound, Sound):
        for start in range(0, sound.samples.shape[1], BLOCK):
            yield sound.samples[:, start : start + BLOCK]
        return
    while (block := sound.read(BLOCK)).shape[1]:
        yield block


def _unmarked(unit: Unit, channels: int) -> Unit:
    """Return the only unit of a sound without its number of frames, which `HEAD` tells."""
    sound = replace(unpack_sound_unit(unit.payload, channels), frames=None)
    return replace(unit, payload=pack_sound_unit(sound))

"""The journal of an encoding: what is coded is on disk at once, so that it can be stopped and gone on with."""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import sys
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from triode.codecs.planes import Planes
from triode.container import Unit, pack_packet, unpack_packet
from triode.errors import CodecError, UnsupportedError

__all__ = ["Entry", "VideoJournal", "digest_of", "fingerprint"]

_MAGIC: Final = b"triode-video-journal/1\n"
_FIELDS: Final = "<III"


@dataclass(frozen=True, slots=True)
class Entry:
    """A unit that was coded.

    Attributes:
        unit: The unit as it is in the file.
        size: Bytes of its coded frames.
        source: Fingerprint of the frames that it was made of.
    """

    unit: Unit
    size: int
    source: int


class VideoJournal:
    """Units of one encoding, appended and synced one by one; a last one that was torn is dropped.

    Args:
        path: Its file, which is made if it is not there.
        digest: What the encoding depends on, see :func:`digest_of`.

    Raises:
        UnsupportedError: If the file is of another encoding, or no journal, or another process is writing it.
        OSError: If it cannot be read or written.
    """

    def __init__(self, path: Path, digest: bytes) -> None:
        self._path = path
        self._file: BinaryIO = path.open("r+b" if path.exists() else "w+b")
        self.entries: tuple[Entry, ...] = ()
        try:
            if not _locked(self._file):
                raise UnsupportedError(f"{path} is the journal of an encoding that is running")
            self._begin(_MAGIC + digest)
        except BaseException:
            self._file.close()
            raise

    def add(self, entry: Entry) -> None:
        """Write a unit; it is on disk when this returns."""
        packet = pack_packet(entry.unit)
        self._file.write(struct.pack(_FIELDS, len(packet), entry.size, entry.source) + packet)
        self._sync()

    def remove(self) -> None:
        """Remove the file, as the encoding is done."""
        self.close()
        self._path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        """Return this object."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()

    def _begin(self, start: bytes) -> None:
        found = self._file.read(len(start))
        if found != start:
            if not start.startswith(found) and not found.startswith(_MAGIC):
                raise UnsupportedError(f"{self._path} is no journal of a video's encoding")
            if len(found) == len(start):
                raise UnsupportedError(
                    f"{self._path} is the journal of another encoding: other frames, options or model; remove it first"
                )
            self._file.seek(0)
            self._file.truncate()
            self._file.write(start)
        entries: list[Entry] = []
        end = len(start)
        for entry, stop in self._read():
            if entry.unit.index != len(entries):
                break
            entries.append(entry)
            end = stop
        self.entries = tuple(entries)
        self._file.seek(end)
        self._file.truncate()
        self._sync()

    def _read(self) -> Iterator[tuple[Entry, int]]:
        """Yield the whole entries, each with where it ends."""
        whole = os.fstat(self._file.fileno()).st_size
        while len(fields := self._file.read(struct.calcsize(_FIELDS))) == struct.calcsize(_FIELDS):
            length, size, source = struct.unpack(_FIELDS, fields)
            if length > whole - self._file.tell():
                return  # torn, or nonsense that a power cut left, for which there may be no memory
            try:
                unit = unpack_packet(self._file.read(length))
            except CodecError:
                return
            yield Entry(unit, size, source), self._file.tell()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())


def _locked(file: BinaryIO) -> bool:
    """Lock a file until it is closed, or its process ends however it does; return whether nobody else has."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            file.seek(0)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # A file system that knows no locks is used without.
        return error.errno not in {errno.EACCES, errno.EAGAIN, errno.EDEADLK}
    return True


def digest_of(parts: Iterable[bytes]) -> bytes:
    """Return a SHA-256 over byte strings, each with its length."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()


def fingerprint(frames: Iterable[tuple[int, Planes]], before: int = 0) -> int:
    """Return the CRC-32 of the times in ticks and the samples of frames, going on from that of frames before."""
    crc = before
    for time, planes in frames:
        crc = zlib.crc32(time.to_bytes(8, "little"), crc)
        for plane in planes:
            crc = zlib.crc32(plane.tobytes(), crc)
    return crc

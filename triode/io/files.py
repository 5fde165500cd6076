"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import io
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

__all__ = ["JoinedFile", "SharedFile", "atomic_path", "atomic_write", "check_target"]


class JoinedFile(io.RawIOBase):
    """A binary file of which the beginning has been read already; it cannot seek.

    Args:
        start: What has been read.
        rest: The file.
    """

    def __init__(self, start: bytes, rest: BinaryIO) -> None:
        self._start, self._rest = io.BytesIO(start), rest

    def readable(self) -> bool:
        """Return true."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Read some bytes."""
        # What there is, and no waiting for more.
        read = getattr(self._rest, "read1", self._rest.read)
        data = self._start.read(len(buffer)) or read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class SharedFile(io.RawIOBase):
    """A binary file with a place of its own in another one, which several may share; it begins at the beginning.

    Args:
        file: A file that can seek. It stays the caller's to close.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._place = file, 0

    def readable(self) -> bool:
        """Return true."""
        return True

    def seekable(self) -> bool:
        """Return true."""
        return True

    def tell(self) -> int:
        """Return the place."""
        return self._place

    def seek(self, place: int, whence: int = 0, /) -> int:
        """Go to a place."""
        if whence == 1:
            place, whence = self._place + place, 0
        self._place = self._file.seek(place, whence)
        return self._place

    def readinto(self, buffer: Any, /) -> int:
        """Read some bytes."""
        self._file.seek(self._place)
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


def check_target(target: Path, *, overwrite: bool = False) -> None:
    """Refuse a name that a file cannot be given, before the work that makes the file.

    Raises:
        FileExistsError: `target` exists, is a regular file, and `overwrite` is not set.
        IsADirectoryError: `target` is a folder.
        FileNotFoundError: The folder of `target` does not exist.
    """
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    if not overwrite and target.is_file():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(target.parent))


@contextmanager
def atomic_path(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary name beside `target`, and rename it to `target` when the block ends without an exception.

    The temporary file is removed whatever ends the block. A target that is a device or a pipe is written directly, and
    a symbolic link is followed.

    Args:
        target: The name that the file shall have. Its folder must exist.
        overwrite: Whether an existing file may be replaced.

    Yields:
        The path to write to. Nothing is there yet.

    Raises:
        FileExistsError: `target` exists and `overwrite` is not set; also where another process made it meanwhile.
        IsADirectoryError: `target` is a folder.
        OSError: The folder does not exist, or cannot be written to.
    """
    check_target(target, overwrite=overwrite)
    given, target = target, target.resolve()
    if target.exists() and not target.is_file():
        yield target
        return
    # The suffix stays, because writers choose the format by it.
    temporary = target.with_name(f".{target.stem[:64]}.{secrets.token_hex(6)}.part{target.suffix}")
    try:
        yield temporary
        if overwrite:
            temporary.replace(target)
        elif not _take_free_name(temporary, target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(given))
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_write(target: Path, *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Open a file for writing that gets its name when the block ends without an exception; see `atomic_path`.

    Yields:
        A binary file, which can seek unless the target is a pipe.
    """
    with atomic_path(target, overwrite=overwrite) as path, path.open("wb") as file:
        yield file


def _take_free_name(temporary: Path, target: Path) -> bool:
    """Give a file a name that is free; return whether it was.

    A link fails where the name is taken, while a rename would replace what another process has just put there.
    """
    try:
        target.hardlink_to(temporary)
    except FileExistsError:
        return False
    except OSError:  # this file system has no hard links
        if target.exists():
            return False
        temporary.replace(target)
    return True

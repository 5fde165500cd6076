"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["atomic_path", "atomic_write", "check_target"]


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

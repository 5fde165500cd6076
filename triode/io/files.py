"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

__all__ = ["atomic_path", "atomic_write"]


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
        OSError: The folder cannot be written to.
    """
    target = target.resolve()
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    if target.exists() and not target.is_file():
        yield target
        return
    if not overwrite and target.exists():
        raise _exists(target)
    # The suffix stays, because writers choose the format by it.
    temporary = target.with_name(f".{target.stem[:64]}.{secrets.token_hex(6)}.part{target.suffix}")
    try:
        yield temporary
        _commit(temporary, target, overwrite=overwrite)
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


def _commit(temporary: Path, target: Path, *, overwrite: bool) -> None:
    if not overwrite:
        try:
            # A link fails where the name is taken; a rename would replace what another process has just put there.
            target.hardlink_to(temporary)
        except FileExistsError:
            raise _exists(target) from None
        except OSError:
            if target.exists():  # this file system has no hard links
                raise _exists(target) from None
        else:
            return
    temporary.replace(target)


def _exists(target: Path) -> FileExistsError:
    return FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))

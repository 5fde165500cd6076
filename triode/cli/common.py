"""What all commands share: errors with exit codes, limits, standard streams, opening what is to be decoded."""

from __future__ import annotations

import io
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from triode.errors import BitstreamError, CodecError, LimitExceededError

if TYPE_CHECKING:
    from triode.container import DecodeLimits

__all__ = [
    "INTERRUPTED",
    "STDIO",
    "USAGE",
    "Failure",
    "UsageError",
    "describe",
    "limits_of",
    "open_stream",
    "read_stdin",
    "sniff",
    "write_stdout",
]

STDIO: Final = "-"
"""How standard input and standard output are named."""

USAGE: Final = 2
INTERRUPTED: Final = 130
_STDIN_BYTES: Final = 1 << 30
_SNIFF_BYTES: Final = 16


class UsageError(Exception):
    """The command was called in a way that cannot be carried out; nothing was written."""

    exit_code: Final = USAGE


@dataclass(frozen=True, slots=True)
class Failure:
    """An input that failed.

    Attributes:
        input: The input as it was given.
        output: The output it would have had; None where there is none.
        error: What was found and what is valid.
        kind: Class of the error.
        exit_code: What the program would return for this input alone.
    """

    input: str
    output: str | None
    error: str
    kind: str
    exit_code: int


def describe(error: BaseException) -> tuple[str, int]:
    """Return the message of an error and the exit code that stands for it."""
    if isinstance(error, (CodecError, UsageError)):
        return str(error) or type(error).__name__, error.exit_code
    if isinstance(error, FileExistsError) and error.filename:
        return f"{error.filename} exists; -f overwrites it", USAGE
    if isinstance(error, OSError):
        reason = error.strerror or str(error) or type(error).__name__
        return (f"{error.filename}: {reason}" if error.filename else reason), 1
    if isinstance(error, MemoryError):
        return "not enough memory", LimitExceededError.exit_code
    if isinstance(error, ImportError):
        return f"a package is missing: {error}", 1
    return f"internal error: {type(error).__name__}: {error}", 1


def limits_of(args: Namespace) -> DecodeLimits:
    """Return the limits that `--strict-limits` and `--max-pixels` ask for."""
    from triode.container import DecodeLimits

    limits = DecodeLimits.strict() if args.strict_limits else DecodeLimits()
    return limits if args.max_pixels is None else replace(limits, max_pixels=args.max_pixels)


def sniff(start: bytes) -> str | None:
    """Return the kind of media that a file begins with: `image`, `audio`, `video`, `triode`; None where unknown."""
    from triode.container import SIGNATURE, identify

    if start.startswith(SIGNATURE):
        return "triode"
    name = identify(start) or ""
    words = {"image": "image", "recording": "audio", "audio": "audio", "video": "video"}
    if name in {"an MPEG-4 or QuickTime file", "an Ogg file"}:
        return "video" if "MPEG" in name else "audio"
    return words.get(name.rsplit(" ", 1)[-1])


@contextmanager
def open_stream(name: str) -> Iterator[BinaryIO]:
    """Open a `.tri` file, or standard input for `-`, such that it can seek.

    Pipes are read into memory, but only if they begin as a Triode file does.

    Raises:
        BitstreamError: A pipe that begins otherwise.
        LimitExceededError: A pipe that does not end within 1 GiB.
        UsageError: Standard input is a terminal.
        OSError: The file cannot be opened.
    """
    if name == STDIO:
        yield io.BytesIO(read_stdin("triode"))
        return
    with Path(name).open("rb") as file:
        yield file if file.seekable() else io.BytesIO(_read_pipe(file, "triode"))


def read_stdin(wanted: str | None = None) -> bytes:
    """Read standard input to its end.

    Args:
        wanted: Kind of media that it must begin as, by `sniff`.

    Raises:
        BitstreamError: It begins otherwise.
        LimitExceededError: It does not end within 1 GiB.
        UsageError: It is a terminal.
    """
    if sys.stdin.isatty():
        raise UsageError("standard input is a terminal; pipe a file into it, or name one")
    return _read_pipe(sys.stdin.buffer, wanted)


def _read_pipe(file: BinaryIO, wanted: str | None) -> bytes:
    start = b""
    while len(start) < _SNIFF_BYTES and (piece := file.read(_SNIFF_BYTES - len(start))):
        start += piece
    if wanted == "triode" and sniff(start) != wanted:
        from triode.container import ContainerReader

        ContainerReader(io.BytesIO(start))  # says what is wrong
        raise BitstreamError("not a Triode file")
    data = start + file.read(_STDIN_BYTES - len(start) + 1)
    if len(data) > _STDIN_BYTES:
        raise LimitExceededError(f"the input is longer than {_STDIN_BYTES} bytes, the most that is read from a pipe")
    return data


def write_stdout(data: bytes) -> None:
    """Write to standard output.

    Raises:
        UsageError: It is a terminal.
    """
    if sys.stdout.isatty():
        raise UsageError("standard output is a terminal; redirect it, or write to a file with -o")
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()

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

from triode.errors import CodecError, LimitExceededError

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
    "open_any",
    "open_tri",
    "refuse_terminal",
    "shown",
    "sniff",
    "write_stdout",
]

STDIO: Final = "-"
"""How standard input and standard output are named."""

USAGE: Final = 2
INTERRUPTED: Final = 130
_PIPE_BYTES: Final = 1 << 30
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


def describe(error: BaseException, source: str | None = None) -> tuple[str, int]:
    """Return the message of an error and the exit code that stands for it.

    Args:
        error: The error.
        source: A file that stands before the message already, so that the message need not name it.
    """
    if isinstance(error, (CodecError, UsageError)):
        return str(error) or type(error).__name__, error.exit_code
    if isinstance(error, FileExistsError) and error.filename:
        return f"{error.filename} exists; -f overwrites it", USAGE
    if isinstance(error, OSError):
        reason = error.strerror or str(error) or type(error).__name__
        return (f"{error.filename}: {reason}" if error.filename and str(error.filename) != source else reason), 1
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


def shown(name: str, standard: str) -> str:
    """Return the name of an input or output for people; `standard` is `input` or `output`."""
    return f"standard {standard}" if name == STDIO else name


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
def open_any(name: str) -> Iterator[BinaryIO]:
    """Open a file, or standard input for `-`, such that it can seek; pipes are read into memory.

    Raises:
        LimitExceededError: A pipe that does not end within 1 GiB.
        UsageError: Standard input is a terminal.
        OSError: The file cannot be opened.
    """
    with _open(name) as file:
        yield file if file.seekable() else io.BytesIO(_read_pipe(file, b""))


@contextmanager
def open_tri(name: str) -> Iterator[BinaryIO]:
    """Open a `.tri` file, or standard input for `-`, such that it can seek.

    A pipe is read into memory, but only if it begins as a Triode file does.

    Raises:
        BitstreamError: A pipe that begins otherwise.
        LimitExceededError: A pipe that does not end within 1 GiB.
        UsageError: Standard input is a terminal.
        OSError: The file cannot be opened.
    """
    from triode.container import SIGNATURE

    with _open(name) as file:
        yield file if file.seekable() else io.BytesIO(_read_pipe(file, SIGNATURE))


@contextmanager
def _open(name: str) -> Iterator[BinaryIO]:
    if name != STDIO:
        with Path(name).open("rb") as file:
            yield file
        return
    if sys.stdin.isatty():
        raise UsageError("standard input is a terminal; pipe a file into it, or name one")
    yield sys.stdin.buffer


def _read_pipe(file: BinaryIO, signature: bytes) -> bytes:
    start = b""
    while len(start) < _SNIFF_BYTES and (piece := file.read(_SNIFF_BYTES - len(start))):
        start += piece
    if not start.startswith(signature):
        from triode.container import ContainerReader

        ContainerReader(io.BytesIO(start))  # raises, and says what the bytes are instead
    data = start + file.read(_PIPE_BYTES - len(start) + 1)
    if len(data) > _PIPE_BYTES:
        raise LimitExceededError(f"the input is longer than {_PIPE_BYTES} bytes, the most that is read from a pipe")
    return data


def refuse_terminal() -> None:
    """Raise a `UsageError` if standard output, which is to take binary data, is a terminal."""
    if sys.stdout.isatty():
        raise UsageError("standard output is a terminal; redirect it, or write to a file with -o")


def write_stdout(data: bytes) -> None:
    """Write binary data to standard output."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()

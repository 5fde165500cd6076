"""What all commands share: errors with exit codes, limits, standard streams, opening what is to be decoded."""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from triode.errors import CodecError, LimitExceededError

if TYPE_CHECKING:
    from triode.container import DecodeLimits

__all__ = [
    "HEADER_BYTES",
    "INTERRUPTED",
    "SPOOL_BYTES",
    "STDIO",
    "USAGE",
    "Failure",
    "UsageError",
    "copy_to_stdout",
    "describe",
    "first_bytes",
    "flowing_stdout",
    "limits_of",
    "open_any",
    "open_tri",
    "refuse_terminal",
    "shown",
    "sniff",
]

STDIO: Final = "-"
"""How standard input and standard output are named."""

USAGE: Final = 2
INTERRUPTED: Final = 130
SPOOL_BYTES: Final = 1 << 26
"""What temporary files keep in memory before they go to the disk."""
_PIPE_BYTES: Final = 1 << 30
_LONG_PIPE_BYTES: Final = 1 << 34
HEADER_BYTES: Final = 4096
"""More than the header of a `.tri` file has."""
_SNIFF_BYTES: Final = 16
_PIECE_BYTES: Final = 1 << 20
_VIDEO_STARTS: Final = (b"FLV\x01", b"DKIF", b"\0\0\1\xba", b"\0\0\1\xb3")
_FLOWING: Final = b"YUV4MPEG2"
_SOUND_STARTS: Final = (b".snd", b"caff", b"RF64", b"riff", b"wvpk", b"#!AMR", b"MAC ", b"TTA1")


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
    if not name and _is_sound(start):
        return "audio"
    if not name and start.startswith(_VIDEO_STARTS):
        return "video"
    words = {"image": "image", "recording": "audio", "audio": "audio", "video": "video"}
    if name in {"an MPEG-4 or QuickTime file", "an Ogg file"}:
        return "video" if "MPEG" in name else "audio"
    return words.get(name.rsplit(" ", 1)[-1])


def _is_sound(start: bytes) -> bool:
    """Say whether bytes begin a recording of a kind that the container does not name."""
    if start[:4] == b"FORM":
        return start[8:12] in {b"AIFF", b"AIFC"}
    if len(start) > 1 and start[0] == 0xFF and start[1] & 0xE0 == 0xE0:  # MPEG: layer 3, layer 2, AAC
        layer, version = start[1] >> 1 & 3, start[1] >> 3 & 3
        return (layer in {1, 2} and version != 1) or start[1] & 0xF6 == 0xF0
    return start.startswith(_SOUND_STARTS)


def first_bytes(file: BinaryIO) -> bytes:
    """Return what a file of `open_any` begins with, and leave it to be read."""
    if not file.seekable():
        start: bytes = cast(io.BufferedReader, file).peek(_SNIFF_BYTES)[:_SNIFF_BYTES]
        return start
    start = file.read(_SNIFF_BYTES)
    file.seek(0)
    return start


@contextmanager
def open_any(name: str) -> Iterator[BinaryIO]:
    """Open a file, or standard input for `-`, such that it can seek; pipes are read to a temporary file.

    A pipe of y4m is given as it is, as it is long and can be coded while it flows: it has `peek`.

    Raises:
        LimitExceededError: A pipe that does not end within 1 GiB, or 16 GiB where it is a recording or a video.
        UsageError: Standard input is a terminal.
        OSError: The file cannot be opened.
    """
    with _open(name) as file, _seekable(file, b"") as seekable:
        yield seekable


@contextmanager
def open_tri(name: str, *, flow: bool = False) -> Iterator[BinaryIO]:
    """Open a `.tri` file, or standard input for `-`, such that it can seek.

    A pipe is read to a temporary file, but only if it begins as a Triode file does.

    Args:
        name: The name.
        flow: Whether a pipe of video is given as it is; it has `peek`, which gives all of its header.

    Raises:
        BitstreamError: A pipe that begins otherwise; with `flow`, also one whose header is damaged.
        LimitExceededError: A pipe that does not end within 1 GiB.
        UsageError: Standard input is a terminal.
        OSError: The file cannot be opened.
    """
    from triode.container import SIGNATURE

    with _open(name) as file, _seekable(file, SIGNATURE, flow=flow) as seekable:
        yield seekable


@contextmanager
def _open(name: str) -> Iterator[BinaryIO]:
    if name != STDIO:
        with Path(name).open("rb") as file:
            yield file
        return
    if sys.stdin.isatty():
        raise UsageError("standard input is a terminal; pipe a file into it, or name one")
    yield sys.stdin.buffer


@contextmanager
def _seekable(file: BinaryIO, signature: bytes, *, flow: bool = False) -> Iterator[BinaryIO]:
    """Give the file, or what comes from a pipe, which must begin with `signature`."""
    if file.seekable():
        yield file
        return
    start, wanted = b"", HEADER_BYTES if flow else _SNIFF_BYTES
    while len(start) < wanted and (piece := file.read(wanted - len(start))):
        start += piece
    if (start.startswith(_FLOWING) and not signature) or (flow and _is_video(start)):
        from triode.io.files import JoinedFile

        yield cast(BinaryIO, io.BufferedReader(JoinedFile(start, file), HEADER_BYTES))
        return
    if not start.startswith(signature):
        from triode.container import ContainerReader

        ContainerReader(io.BytesIO(start))  # raises, and says what the bytes are instead
    most = _LONG_PIPE_BYTES if sniff(start) in {"audio", "video"} else _PIPE_BYTES
    with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as spool:
        size = spool.write(start)
        while piece := file.read(min(_PIECE_BYTES, most - size + 1)):
            size += spool.write(piece)
            if size > most:
                raise LimitExceededError(f"the input is longer than {most} bytes, the most that is read from a pipe")
        spool.seek(0)
        yield cast(BinaryIO, spool)


def _is_video(start: bytes) -> bool:
    """Say whether a `.tri` file that begins so holds a video."""
    from triode.container import ContainerReader, DecodeLimits, Media

    return ContainerReader(io.BytesIO(start), DecodeLimits.unlimited()).head.media == Media.VIDEO


def refuse_terminal() -> None:
    """Raise a `UsageError` if standard output, which is to take binary data, is a terminal."""
    if sys.stdout.isatty():
        raise UsageError("standard output is a terminal; redirect it, or write to a file with -o")


def copy_to_stdout(file: BinaryIO) -> None:
    """Copy the rest of a binary file to standard output."""
    with flowing_stdout() as out:
        shutil.copyfileobj(file, out)


@contextmanager
def flowing_stdout() -> Iterator[BinaryIO]:
    """Give standard output for binary data that goes out while it is made."""
    sys.stdout.flush()
    yield sys.stdout.buffer
    sys.stdout.buffer.flush()

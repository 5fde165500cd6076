"""What reading sound and video through PyAV (FFmpeg's libraries) has in common: opening, and errors by type."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from triode.errors import BitstreamError, CodecError, LimitExceededError, TruncatedError, UnsupportedError

if TYPE_CHECKING:
    from av.container import InputContainer

__all__ = ["import_av", "open_input", "typed_errors"]

# Playlists and the like name other files and addresses; no protocol is allowed, so that a file is read alone.
_OPTIONS: Final = {"protocol_whitelist": "none"}


def import_av(extra: str) -> ModuleType:
    """Return the module `av`.

    Args:
        extra: Extra of this package that brings it, for the message.

    Raises:
        UnsupportedError: If it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise UnsupportedError(f"this needs PyAV, which is not installed: pip install 'triode[{extra}]'") from error
    return av


@contextmanager
def typed_errors(what: str) -> Iterator[None]:
    """Turn what PyAV raises inside the block for a damaged file into errors of `triode.errors`.

    Args:
        what: What is read, for messages, such as ``video``.

    Raises:
        TruncatedError: The file ends too early.
        BitstreamError: It is damaged otherwise.
        LimitExceededError: There is not enough memory.
    """
    try:
        yield
    except CodecError:
        raise
    except MemoryError as error:
        raise LimitExceededError(f"not enough memory to read the {what}") from error
    except EOFError as error:
        raise TruncatedError(f"the {what} is cut short") from error
    except Exception as error:
        if _is_system(error):
            raise
        text = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise BitstreamError(f"the {what} is damaged or of a kind that is not read: {text}") from error


def open_input(file: BinaryIO, what: str, extra: str, *, form: str | None = None) -> InputContainer:
    """Open a file that can seek.

    Args:
        file: The file, read from its beginning. It stays the caller's to close.
        what: What is read, for messages.
        extra: Extra of this package that brings PyAV.
        form: FFmpeg's name of the format; None to find it.

    Raises:
        UnsupportedError: If PyAV is missing, or knows no such format.
        TruncatedError: If the file is empty.
    """
    av = import_av(extra)
    file.seek(0)
    start = file.read(8)
    if not start:
        raise TruncatedError(f"the {what} file is empty")
    file.seek(0)
    try:
        container: Any = av.open(file, "r", format=form, options=dict(_OPTIONS), metadata_errors="replace")
    except Exception as error:
        if _is_system(error):
            raise
        raise UnsupportedError(f"not {what} of a known format: it begins with {start.hex(' ')}") from error
    opened: InputContainer = container
    return opened


def _is_system(error: BaseException) -> bool:
    """Whether an error comes from the disk, not from what is in the file.

    FFmpeg's errors are `OSError`s too; those of the file object that it reads from pass through as they are.
    """
    return isinstance(error, OSError) and not type(error).__module__.startswith("av.")

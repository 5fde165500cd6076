"""Every error that bad input can cause, in one tree.

A caller that catches `CodecError` has caught them all. Wrong use of the Python API (an argument out of range, a
closed writer) stays a plain `ValueError` or `TypeError`, and a failing disk or pipe stays an `OSError`.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "BitstreamError",
    "CodecError",
    "EntropyMismatchError",
    "LimitExceededError",
    "ModelMismatchError",
    "TruncatedError",
    "UnsupportedError",
    "VerifyError",
]


class CodecError(Exception):
    """Root of the tree. `exit_code` is what the command line returns when this error ends a run."""

    exit_code: ClassVar[int] = 1


class BitstreamError(CodecError, ValueError):
    """The bytes are not a valid Triode file: not one at all, damaged, or put together against the specification."""

    exit_code: ClassVar[int] = 3


class TruncatedError(BitstreamError, EOFError):
    """The file ends before it is complete. What came before the end may be intact."""


class EntropyMismatchError(BitstreamError):
    """The decoded symbols do not match the checksum in the stream: damage, or a decoder that is not bit-exact."""


class LimitExceededError(CodecError):
    """The file asks for more than `DecodeLimits` allows. It may be valid; nothing was allocated for it."""

    exit_code: ClassVar[int] = 4


class ModelMismatchError(CodecError):
    """The model that the file names is not installed, or its entropy weights have another digest."""

    exit_code: ClassVar[int] = 5


class UnsupportedError(CodecError):
    """The request or the file is well formed, but this release, this source or this model cannot do it."""


class VerifyError(CodecError):
    """What was decoded after encoding is not what was encoded."""

    exit_code: ClassVar[int] = 6

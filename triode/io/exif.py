"""Orientation in EXIF and XMP: read, and set to 1 in place, so that every other byte stays as the camera wrote it.

EXIF 2.32 (CIPA DC-008), section 4.6: a TIFF header, then IFD 0, in which tag 0x0112 is the orientation.
"""

from __future__ import annotations

import re
from typing import Final, Literal

__all__ = ["orientation", "reset_exif", "reset_xmp", "without_prefix"]

_PREFIX: Final = b"Exif\x00\x00"
_ORIENTATION: Final = 0x0112
_SHORT, _LONG = 3, 4
_ENTRY_BYTES: Final = 12
_XMP: Final = re.compile(rb"(tiff:Orientation(?:\s*=\s*[\"']|>)\s*)([1-8])(?![0-9])")


def without_prefix(exif: bytes) -> bytes:
    r"""Cut the `Exif\0\0` that stands before the block in a JPEG file, as often as it is there."""
    while exif.startswith(_PREFIX):
        exif = exif[len(_PREFIX) :]
    return exif


def orientation(exif: bytes | None, xmp: bytes | None = None) -> int:
    """Return how the stored pixels lie, 1 (upright) to 8, as EXIF says, or else XMP; 1 where neither says it.

    Args:
        exif: Block that begins with its TIFF header.
        xmp: XMP packet.
    """
    field = _find(exif) if exif else None
    if field is not None and exif is not None:
        at, size, order = field
        value = int.from_bytes(exif[at : at + size], order)
        return value if 1 <= value <= 8 else 1
    match = _XMP.search(xmp) if xmp else None
    return int(match[2]) if match else 1


def reset_exif(exif: bytes) -> bytes:
    """Set the orientation to 1; a block without one, or a damaged one, stays as it is."""
    field = _find(exif)
    if field is None:
        return exif
    at, size, order = field
    return exif[:at] + (1).to_bytes(size, order) + exif[at + size :]


def reset_xmp(xmp: bytes) -> bytes:
    """Set the orientation to 1."""
    return _XMP.sub(rb"\g<1>1", xmp)


def _find(exif: bytes) -> tuple[int, int, Literal["little", "big"]] | None:
    """Return position, size in bytes and byte order of the orientation."""
    order: Literal["little", "big"]
    if exif[:4] == b"II*\x00":
        order = "little"
    elif exif[:4] == b"MM\x00*":
        order = "big"
    else:
        return None

    def number(at: int, size: int) -> int:
        return int.from_bytes(exif[at : at + size], order)

    first = number(4, 4)
    for index in range(number(first, 2)):
        entry = first + 2 + index * _ENTRY_BYTES
        if entry + _ENTRY_BYTES > len(exif):
            return None
        if number(entry, 2) == _ORIENTATION:
            kind, count = number(entry + 2, 2), number(entry + 4, 4)
            if count != 1 or kind not in (_SHORT, _LONG):
                return None
            return entry + 8, 2 if kind == _SHORT else 4, order
    return None

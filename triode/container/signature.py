"""The first eight bytes, and what a file that begins otherwise probably is."""

from __future__ import annotations

from typing import Final

from triode.container.chunks import SIGNATURE, ByteSource
from triode.errors import BitstreamError, TruncatedError

__all__ = ["check_signature", "identify"]

_STARTS: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"\x89PNG", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"GIF8", "a GIF image"),
    (8, b"WEBP", "a WebP image"),
    (8, b"WAVE", "a WAV recording"),
    (8, b"AVI ", "an AVI video"),
    (4, b"ftypavi", "an AVIF image"),
    (4, b"ftyphei", "a HEIF image"),
    (4, b"ftypM4A", "MPEG-4 audio"),
    (4, b"ftyp", "an MPEG-4 or QuickTime file"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (4, b"JXL ", "a JPEG XL image"),
    (4, b"jP  ", "a JPEG 2000 image"),
    (0, b"II*\x00", "a TIFF image"),
    (0, b"MM\x00*", "a TIFF image"),
    (0, b"fLaC", "a FLAC recording"),
    (0, b"OggS", "an Ogg file"),
    (0, b"ID3", "an MP3 recording"),
    (0, b"\xff\xfb", "an MP3 recording"),
    (0, b"\x1a\x45\xdf\xa3", "a Matroska or WebM video"),
    (0, b"YUV4MPEG2", "a YUV4MPEG2 video"),
    (0, b"ECDC", "an EnCodec recording"),
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip file"),
    (0, b"\x7fELF", "a program"),
    (0, b"BM", "a BMP image"),
)
_LOOK = 16


def identify(start: bytes) -> str | None:
    """Name the kind of file that begins with `start` (16 bytes are enough), with its article; None if unknown."""
    for offset, magic, name in _STARTS:
        if start[offset : offset + len(magic)] == magic:
            return name
    return None


def check_signature(source: ByteSource) -> None:
    """Read the signature.

    Raises:
        TruncatedError: The source ends before or inside the signature.
        BitstreamError: It begins with something else; the message says with what.
    """
    start = source.read_up_to(len(SIGNATURE))
    if start == SIGNATURE:
        return
    if SIGNATURE.startswith(start):
        raise TruncatedError(f"the file ends after {len(start)} of the 8 signature bytes")
    start += source.read_up_to(_LOOK - len(start))
    if start[1:4] == b"TRI" and (start[0] & 0x7F) == 0x09:
        raise BitstreamError(
            f"a Triode file damaged by a transfer that changes text (line ends or the 8th bit): "
            f"it begins with {start[:8].hex(' ')}, expected {SIGNATURE.hex(' ')}"
        )
    kind = identify(start)
    found = f"this is {kind}" if kind else f"it begins with {start[:8].hex(' ')}"
    raise BitstreamError(f"not a Triode file: {found}; a Triode file begins with {SIGNATURE.hex(' ')}")

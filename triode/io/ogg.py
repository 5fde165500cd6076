"""Pages of Ogg files (RFC 3533), and whether those of Ogg Opus (RFC 7845) count samples as they should.

Files that were cut without coding them again often count fewer samples than their packets have, at the beginning or in
the middle. Players do not mind, libsndfile calls them malformed.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from triode.errors import BitstreamError, TruncatedError

__all__ = ["Page", "counts_oddly", "pages"]

_HEAD: Final = struct.Struct("<4sBBqIIIB")
_REVERSED: Final = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))
_NOTHING_ENDS: Final = -1
_LAST: Final = 4
# Samples at 48 kHz of a frame, by the configuration in the first five bits of a packet (RFC 6716, 3.1).
_SILK, _HYBRID, _CELT = (480, 960, 1920, 2880), (480, 960), (120, 240, 480, 960)
_FRAME: Final = (*_SILK * 3, *_HYBRID * 2, *_CELT * 4)


@dataclass(frozen=True, slots=True)
class Page:
    """One page.

    Attributes:
        granule: Samples that end on or before it, -1 where no packet ends on it.
        last: Whether the stream says that it ends here.
        lacing: Sizes of its segments; below 255 where a packet ends.
        body: The segments.
    """

    granule: int
    last: bool
    lacing: bytes
    body: bytes


def pages(file: BinaryIO) -> Iterator[Page]:
    """Read the pages of a file of one stream from where it stands.

    Raises:
        TruncatedError: The file ends within a page.
        BitstreamError: Something else than a page follows, or its checksum is wrong, or one is missing.
    """
    number = None
    while head := file.read(_HEAD.size):
        if len(head) < _HEAD.size:
            raise TruncatedError("the Ogg file is cut short within a page")
        magic, version, flags, granule, _, sequence, crc, segments = _HEAD.unpack(head)
        if magic != b"OggS" or version:
            raise BitstreamError("the Ogg file is damaged: there is no page where one should be")
        lacing = file.read(segments)
        body = file.read(sum(lacing))
        if len(lacing) < segments or len(body) < sum(lacing):
            raise TruncatedError("the Ogg file is cut short within a page")
        if _crc(head[:22] + bytes(4) + head[26:] + lacing + body) != crc:
            raise BitstreamError(f"the Ogg file is damaged: page {sequence} has another checksum than it says")
        if number is not None and sequence != number + 1:
            raise BitstreamError(f"the Ogg file is damaged: page {sequence} follows page {number}")
        number = sequence
        yield Page(granule, bool(flags & _LAST), lacing, body)


def counts_oddly(file: BinaryIO) -> bool:
    """Tell whether a file is Ogg Opus, whole, and counts samples otherwise than its packets have them.

    Args:
        file: A binary file that can seek.
    """
    file.seek(0)
    head = file.read(64)
    if not head.startswith(b"OggS") or b"OpusHead" not in head:
        return False
    file.seek(0)
    counted, packet, packets, odd = None, b"", 0, False
    try:
        for page in pages(file):
            samples, at = 0, 0
            for size in page.lacing:
                packet += page.body[at : at + min(size, 2)] if len(packet) < 2 else b""
                at += size
                if size < 255:
                    packets += 1
                    samples += _samples(packet) if packets > 2 else 0  # after identification and comments
                    packet = b""
            if packets <= 2 or page.granule == _NOTHING_ENDS:
                continue
            expected = (counted or 0) + samples
            # A stream may start in the middle of another's count, and end before its last packet does.
            before = counted is None and page.granule > expected
            odd = odd or not (page.granule == expected or before or page.last)
            counted = page.granule
    except BitstreamError:
        return False  # Whoever reads the samples says what is wrong.
    return odd


def _samples(packet: bytes) -> int:
    """Return the samples of an Opus packet by its first two bytes; 0 for an empty one."""
    if not packet:
        return 0
    frames = (1, 2, 2)[packet[0] & 3] if packet[0] & 3 < 3 else (packet[1] & 63 if len(packet) > 1 else 0)
    return _FRAME[packet[0] >> 3] * frames


def _crc(data: bytes) -> int:
    """Return the checksum of a page: the polynomial of zlib's, highest bit first, from 0 and not inverted."""
    plain = zlib.crc32(data.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{plain:032b}"[::-1], 2)

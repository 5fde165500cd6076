"""Which medium a file is of."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from triode.cli.common import STDIO, sniff
from triode.errors import CodecError

if TYPE_CHECKING:
    from triode.codecs.audio import AudioCodec
    from triode.codecs.image import ImageCodec
    from triode.container import DecodeLimits, Head

__all__ = ["codec_of", "is_recording", "is_sound_file", "read_head"]

_START = 16


def is_recording(file: BinaryIO, name: str) -> bool:
    """Say whether a file to encode is a recording; anything else is tried as an image.

    Its first bytes decide, and its name where they say nothing, or what may hold only sound.
    """
    from triode.io.audio import READABLE

    start = file.read(_START)
    file.seek(0)
    kind = sniff(start)
    if kind in {None, "video"} and name != STDIO:
        return Path(name).suffix.lower() in READABLE
    return kind == "audio"


def read_head(file: BinaryIO, limits: DecodeLimits) -> Head:
    """Return what a `.tri` file says first, and go back to its beginning.

    Raises:
        CodecError: The file is damaged, or exceeds the limits.
    """
    from triode.container import ContainerReader

    head = ContainerReader(file, limits).head
    file.seek(0)
    return head


def codec_of(file: BinaryIO, limits: DecodeLimits) -> ImageCodec | AudioCodec:
    """Return the codec of what a `.tri` file holds.

    Raises:
        CodecError: The file is damaged, or exceeds the limits.
    """
    from triode.container import Media

    if read_head(file, limits).media == Media.AUDIO:
        from triode.codecs.audio import AudioCodec

        return AudioCodec(limits=limits)
    from triode.codecs.image import ImageCodec

    return ImageCodec(limits=limits)


def is_sound_file(path: Path) -> bool:
    """Say whether a `.tri` file holds a recording; what cannot be read holds none."""
    from triode.container import DecodeLimits, Media

    try:
        with path.open("rb") as file:
            return read_head(file, DecodeLimits.unlimited()).media == Media.AUDIO
    except (OSError, CodecError):
        return False

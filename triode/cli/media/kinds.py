"""Which medium a file is of."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, cast

from triode.cli.common import HEADER_BYTES, STDIO, first_bytes, sniff
from triode.errors import CodecError

if TYPE_CHECKING:
    from triode.codecs.audio import AudioCodec
    from triode.codecs.image import ImageCodec
    from triode.codecs.video import VideoCodec
    from triode.container import DecodeLimits, Head

__all__ = ["Medium", "codec_of", "medium_of", "medium_of_tri", "read_head"]

Medium = Literal["image", "audio", "video"]


def medium_of(file: BinaryIO, name: str) -> Medium:
    """Return what a file to encode is to be read as; what nothing is known of is tried as an image.

    Its first bytes decide, and its name where they say nothing, or what may be a recording as well as a video.
    """
    from triode.io import audio, video

    kind, suffix = sniff(first_bytes(file)), "" if name == STDIO else Path(name).suffix.lower()
    if kind in {None, "video"} and suffix in audio.READABLE:
        return "audio"
    if kind in {None, "audio"} and suffix in video.READABLE:
        return "video"
    return "audio" if kind == "audio" else "video" if kind == "video" else "image"


def read_head(file: BinaryIO, limits: DecodeLimits) -> Head:
    """Return what a `.tri` file of `open_tri` says first, and leave it to be read from its beginning.

    Raises:
        CodecError: The file is damaged, or exceeds the limits.
    """
    from triode.container import ContainerReader

    if not file.seekable():
        return ContainerReader(io.BytesIO(cast(io.BufferedReader, file).peek(HEADER_BYTES)), limits).head
    head = ContainerReader(file, limits).head
    file.seek(0)
    return head


def codec_of(file: BinaryIO, limits: DecodeLimits) -> ImageCodec | AudioCodec | VideoCodec:
    """Return the codec of what a `.tri` file holds.

    Raises:
        CodecError: The file is damaged, or exceeds the limits.
    """
    from triode.container import Media

    media = read_head(file, limits).media
    if media == Media.AUDIO:
        from triode.codecs.audio import AudioCodec

        return AudioCodec(limits=limits)
    if media == Media.VIDEO:
        from triode.codecs.video import VideoCodec

        return VideoCodec(limits=limits)
    from triode.codecs.image import ImageCodec

    return ImageCodec(limits=limits)


def medium_of_tri(path: Path) -> Medium:
    """Return what a `.tri` file holds; of one that cannot be read, or but once, that it holds an image."""
    from triode.container import DecodeLimits, Media

    if not path.is_file():
        return "image"
    try:
        with path.open("rb") as file:
            media = read_head(file, DecodeLimits.unlimited()).media
    except (OSError, CodecError):
        return "image"
    return "audio" if media == Media.AUDIO else "video" if media == Media.VIDEO else "image"

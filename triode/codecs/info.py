"""What a file says of itself, whatever it holds: read without a model, and without what models need."""

from __future__ import annotations

from typing import BinaryIO

from triode.codecs import image_info, sound_info, video_info
from triode.codecs.image_info import ImageInfo
from triode.codecs.sound_info import AudioInfo
from triode.codecs.sources import rewindable
from triode.codecs.video_info import VideoInfo
from triode.container import ContainerReader, DecodeLimits, Media

__all__ = ["AudioInfo", "ImageInfo", "VideoInfo", "read_info"]


def read_info(source: bytes | BinaryIO, limits: DecodeLimits | None = None) -> ImageInfo | AudioInfo | VideoInfo:
    """Read what a file says of itself; decodes nothing.

    Args:
        source: Its bytes, or a binary file.
        limits: What the file may ask for.

    Raises:
        CodecError: If the file is damaged or exceeds the limits.
    """
    limits = limits or DecodeLimits()
    reader = ContainerReader(rewindable(source, limits), limits)
    if reader.head.media == Media.AUDIO:
        return sound_info.describe(reader)
    if reader.head.media == Media.VIDEO:
        return video_info.describe(reader, limits)
    return image_info.describe(reader)

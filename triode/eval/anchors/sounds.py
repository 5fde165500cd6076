"""What the codecs of sound share."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triode.errors import UnsupportedError
from triode.io.pyav import open_input, typed_errors
from triode.media import Sound

__all__ = ["check_sound", "packet_bytes"]


def check_sound(item: Any, name: str, most: int) -> NDArray[np.float32]:
    """Return the samples of a sound that can be coded.

    Args:
        item: The sound.
        name: Name of the codec, for messages.
        most: Greatest number of channels.

    Raises:
        ValueError: If it is no sound.
        UnsupportedError: If there are no samples, or more channels.
    """
    if not isinstance(item, Sound):
        raise ValueError(f"Argument `item` must be a Sound, but got {type(item).__name__}")
    if not item.samples.shape[1]:
        raise UnsupportedError(f"{name} does not code a sound without samples")
    if item.channels > most:
        raise UnsupportedError(f"{name} codes {most} channels at most, not {item.channels}")
    return item.samples


def packet_bytes(data: bytes) -> int:
    """Return the bytes of all packets of a sound file, without pages, tables and tags of the file format.

    Raises:
        BitstreamError: If the file is damaged.
        UnsupportedError: If PyAV is missing.
    """
    with open_input(io.BytesIO(data), "sound", "video") as container, typed_errors("sound"):
        return sum(packet.size for packet in container.demux(container.streams.audio[0]))

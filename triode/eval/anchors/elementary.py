"""What the codecs of video share: an elementary stream behind a short note.

The note of 21 bytes holds what a stream does not: the size where it is odd, the frame rate, the colours, the number of
frames. Nothing is spent on a container, so that these codecs are measured at their best.
"""

from __future__ import annotations

import struct
from abc import abstractmethod
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from triode.errors import BitstreamError, UnsupportedError
from triode.eval.anchors.common import container_parts
from triode.eval.coder import Coder
from triode.media import Clip

__all__ = ["ClipPlanes", "VideoCoder"]

ClipPlanes = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]
"""Y, U and V, each (T, H, W) uint8."""

_NOTE: Final = struct.Struct(">HHIIIBI")
_LEAST_SIDE: Final = 16
"""x265 and VVenC refuse frames of 8 x 8."""
_MATRICES: Final = ("bt709", "bt601")


class VideoCoder(Coder):
    """What the codecs of video share: padding to even sides, the note, the check of what comes back.

    Frames with an odd side, or one below 16 pixels, are padded by their last row and column, and cropped when decoded.
    """

    media = "video"
    limits: tuple[float, float]

    def encode(self, item: Any, quality: float) -> bytes:
        """Return the note and the elementary stream.

        Args:
            item: A `Clip`.
            quality: The codec's rate factor or quantiser: a larger one means fewer bytes.

        Raises:
            ValueError: If the item is no clip, or the quality is out of range.
            UnsupportedError: If the clip is larger than the codec takes.
            CodecError: If the encoder fails.
        """
        if not isinstance(item, Clip):
            raise ValueError(f"Argument `item` must be a Clip, but got {type(item).__name__}")
        low, high = self.limits
        if not low <= quality <= high:
            raise ValueError(f"Quality of {self.name} must be {low:g}..{high:g}, but got {quality}")
        stream = self._encode(_padded(item), quality)
        colour = _MATRICES.index(item.matrix) << 1 | item.full_range
        try:
            note = _NOTE.pack(
                *(item.width, item.height, item.frames, item.rate.numerator, item.rate.denominator, colour, len(stream))
            )
        except struct.error as error:
            raise UnsupportedError(f"{self.name} does not note {item.width} x {item.height}, {item.rate}/s") from error
        return note + stream

    def decode(self, data: bytes) -> Clip:
        """Return the clip of what :meth:`encode` returned.

        Raises:
            BitstreamError: If it is damaged, or other frames come out than went in.
        """
        if len(data) < _NOTE.size:
            raise BitstreamError(f"{len(data)} bytes are no {self.name} stream with its note")
        width, height, frames, numerator, denominator, colour, size = _NOTE.unpack(data[: _NOTE.size])
        if size != len(data) - _NOTE.size or not (width and height and frames and numerator and denominator):
            raise BitstreamError(f"the note of the {self.name} stream does not fit it")
        padded = (max(_LEAST_SIDE, width + width % 2), max(_LEAST_SIDE, height + height % 2))
        y, u, v = self._decode(data[_NOTE.size :], *padded)
        if y.shape != (frames, padded[1], padded[0]):
            raise BitstreamError(f"{self.name} gave (T, H, W) = {y.shape}, not {(frames, *padded[::-1])}")
        rows, columns = (height + 1) // 2, (width + 1) // 2
        return Clip(
            np.ascontiguousarray(y[:, :height, :width]),
            np.ascontiguousarray(u[:, :rows, :columns]),
            np.ascontiguousarray(v[:, :rows, :columns]),
            Fraction(numerator, denominator),
            _MATRICES[colour >> 1 & 1],
            bool(colour & 1),
        )

    @staticmethod
    def stream(data: bytes) -> bytes:
        """Return the elementary stream of what :meth:`encode` returned."""
        return data[_NOTE.size :]

    def payload_bytes(self, data: bytes) -> int:
        """Return the bytes of the elementary stream, parameter sets and start codes included."""
        return len(data) - _NOTE.size

    def parts(self, data: bytes) -> Mapping[str, int]:
        """Return the bytes of the note and of the elementary stream."""
        return container_parts(len(data), len(data) - _NOTE.size)

    @abstractmethod
    def _encode(self, clip: Clip, quality: float) -> bytes:
        """Return the elementary stream of a clip with even sides of at least 16."""

    @abstractmethod
    def _decode(self, data: bytes, width: int, height: int) -> ClipPlanes:
        """Return Y, U and V, each (T, H, W), of an elementary stream; at least one frame."""


def _padded(clip: Clip) -> Clip:
    """Return the clip with even sides of at least 16."""
    bottom = max(_LEAST_SIDE - clip.height, clip.height % 2)
    right = max(_LEAST_SIDE - clip.width, clip.width % 2)
    if not bottom and not right:
        return clip
    rows, columns = (clip.height + bottom) // 2, (clip.width + right) // 2

    def pad(plane: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
        return np.pad(plane, ((0, 0), (0, height - plane.shape[1]), (0, width - plane.shape[2])), mode="edge")

    y = pad(clip.y, 2 * rows, 2 * columns)
    return Clip(y, pad(clip.u, rows, columns), pad(clip.v, rows, columns), clip.rate, clip.matrix, clip.full_range)

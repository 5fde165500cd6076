"""Samples for the eye and the ear: of each item the same small piece, from the original and from what was decoded."""

from __future__ import annotations

import io
import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from triode.media import Clip, Sound

__all__ = ["SAMPLE_SUFFIX", "detailed_window", "sample_bytes"]

SAMPLE_SUFFIX: Final = {"image": ".png", "audio": ".flac", "video": ".png"}

_SIDE: Final = 384
_STEP: Final = 16
_SECONDS: Final = 10
_LUMA: Final = np.array([0.2126, 0.7152, 0.0722])
_COEFFICIENTS: Final = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}


def sample_bytes(item: Any, original: Any) -> bytes:
    """Return a piece of an item as a lossless file.

    Args:
        item: The original or what was decoded: pixels (H, W, 3) uint8, a ``Sound`` or a ``Clip``.
        original: The original, which decides where the piece lies.

    Returns:
        Of an image a PNG of at most 384x384 pixels where it has the most detail, of a clip the same of its middle
        frame, of a recording a 16-bit FLAC of at most 10 seconds where it is loudest.

    Raises:
        UnsupportedError: If FLAC cannot be written, for soundfile is missing or the rate or channels are too many.
    """
    if isinstance(item, Sound):
        return _piece(item, _loudest(original))
    if isinstance(item, Clip):
        frame = item.frames // 2
        window = detailed_window(original.y[frame])
        return _png(_rgb(item, frame)[window])
    window = detailed_window(original @ _LUMA)
    return _png(item[window])


def detailed_window(luma: NDArray[Any], side: int = _SIDE) -> tuple[slice, slice]:
    """Find the window with the largest energy of gradients, the first of equal ones, on a grid of 16 pixels.

    Args:
        luma: (H, W).
        side: Its height and width, if the plane is not smaller.

    Returns:
        Rows and columns.
    """
    height, width = luma.shape
    rows, columns = min(side, height), min(side, width)
    plane = luma.astype(np.float64)
    energy = np.zeros((height + 1, width + 1))
    energy[1:height, 1:] += np.diff(plane, axis=0) ** 2
    energy[1:, 1:width] += np.diff(plane, axis=1) ** 2
    total = energy.cumsum(0).cumsum(1)
    tops = _grid(height - rows)
    lefts = _grid(width - columns)
    bottoms, rights = tops + rows, lefts + columns
    sums = (
        total[np.ix_(bottoms, rights)]
        - total[np.ix_(tops, rights)]
        - total[np.ix_(bottoms, lefts)]
        + total[np.ix_(tops, lefts)]
    )
    row, column = divmod(int(sums.argmax()), len(lefts))
    top, left = int(tops[row]), int(lefts[column])
    return slice(top, top + rows), slice(left, left + columns)


def _grid(last: int) -> NDArray[np.intp]:
    places: NDArray[np.intp] = np.unique([*range(0, last + 1, _STEP), last])
    return places


def _png(pixels: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG", optimize=True)
    return file.getvalue()


def _rgb(clip: Clip, frame: int) -> NDArray[np.uint8]:
    """Convert a frame by the equations of ITU-R BT.601 and BT.709, chroma repeated."""
    y, u, v = (plane[frame].astype(np.float64) for plane in (clip.y, clip.u, clip.v))
    u, v = (c.repeat(2, 0).repeat(2, 1)[: clip.height, : clip.width] - 128 for c in (u, v))
    if clip.full_range:
        u, v = u / 255, v / 255
        y = y / 255
    else:
        u, v = u / 224, v / 224
        y = (y - 16) / 219
    of_red, of_blue = _COEFFICIENTS[clip.matrix]
    red, blue = y + 2 * (1 - of_red) * v, y + 2 * (1 - of_blue) * u
    green = (y - of_red * red - of_blue * blue) / (1 - of_red - of_blue)
    pixels: NDArray[np.uint8] = (np.stack([red, green, blue], -1) * 255).round().clip(0, 255).astype(np.uint8)
    return pixels


def _loudest(sound: Sound) -> slice:
    """Find the 10 seconds with the most energy, the first of equal ones, on a grid of one second."""
    length = min(_SECONDS * sound.rate, sound.samples.shape[1])
    energy = np.concatenate([[0.0], np.cumsum(sound.samples.astype(np.float64) ** 2, axis=1).sum(0)])
    starts = np.arange(0, math.floor(len(energy) - 1 - length) + 1, sound.rate)
    start = int(starts[(energy[starts + length] - energy[starts]).argmax()])
    return slice(start, start + length)


def _piece(sound: Sound, part: slice) -> bytes:
    from triode.io.audio import write_sound

    file = io.BytesIO()
    write_sound(file, Sound(np.ascontiguousarray(sound.samples[:, part]), sound.rate), "pcm16", "flac")
    return file.getvalue()

"""Media as codecs take and give them: plain arrays with what must travel beside them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    r"""A still image.

    Attributes:
        pixels: (H, W, C) uint8, sRGB or as the ICC profile says; C is 1 (grey), 2 (grey, alpha), 3 (RGB) or 4
            (RGBA, not premultiplied).
        icc: ICC profile, if any.
        exif: EXIF block without the ``Exif\0\0`` prefix, orientation already applied and reset, if any.
        xmp: XMP packet, if any.
    """

    pixels: NDArray[np.uint8]
    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None

    def __post_init__(self) -> None:
        """Check the array.

        Raises:
            ValueError: If it is not (H, W, 1..4) uint8 with at least one pixel.
        """
        p = self.pixels
        if p.dtype != np.uint8 or p.ndim != 3 or not 1 <= p.shape[2] <= 4 or p.size == 0:
            raise ValueError(f"Pixels must be (H, W, 1..4) uint8 with H, W >= 1, but got {p.shape} {p.dtype}")

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.pixels.shape[0])

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel is alpha."""
        return self.pixels.shape[2] in (2, 4)

    @property
    def is_grey(self) -> bool:
        """Whether there is one colour channel."""
        return self.pixels.shape[2] <= 2

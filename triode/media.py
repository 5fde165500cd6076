"""Media as codecs take and give them: plain arrays with what must travel beside them."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Tags = tuple[tuple[str, str], ...]
"""What a recording says of itself: pairs of key and value. Keys are those of Vorbis comments, in capitals."""


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


@dataclass(frozen=True, slots=True, eq=False)
class Sound:
    """A recording.

    Attributes:
        samples: (C, T) float32, nominally in [-1, 1], at least one channel; T may be 0.
        rate: Samples per second.
        tags: What it says of itself.
    """

    samples: NDArray[np.float32]
    rate: int
    tags: Tags = ()

    def __post_init__(self) -> None:
        """Check the array.

        Raises:
            ValueError: If it is not (C, T) float32 with at least one channel, or the rate is not positive.
        """
        s = self.samples
        if s.dtype != np.float32 or s.ndim != 2 or s.shape[0] < 1:
            raise ValueError(f"Samples must be (C, T) float32 with C >= 1, but got {s.shape} {s.dtype}")
        if self.rate < 1:
            raise ValueError(f"Argument `rate` must be positive, but got {self.rate}")

    @property
    def channels(self) -> int:
        """Number of channels."""
        return int(self.samples.shape[0])

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return float(self.samples.shape[1] / self.rate)


@dataclass(frozen=True, slots=True)
class SoundPacket:
    """A coded piece of the sound of a video.

    Attributes:
        time: When it begins, in ticks of the sound since the first frame of the video; may be negative.
        duration: Ticks that it lasts; 0 where that is not known.
        data: Its bytes.
    """

    time: int
    duration: int
    data: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Frames of video in YUV 4:2:0, 8 bits.

    Attributes:
        y: (T, H, W) uint8 luma.
        u: (T, ceil(H / 2), ceil(W / 2)) uint8, first chroma difference.
        v: The same, second chroma difference.
        rate: Frames per second.
        matrix: Colour matrix, ``bt709`` or ``bt601``.
        full_range: Whether luma runs from 0 to 255 rather than 16 to 235.
        times: When each frame is shown, in seconds since the first of the video, rising; None where frame n of the
            video is shown at n / rate.
        primaries: Colour primaries, a code of ITU-T H.273; 2 where they are not known.
        transfer: Transfer characteristics, likewise.
        aspect: Width over height of the shape of a pixel.
    """

    y: NDArray[np.uint8]
    u: NDArray[np.uint8]
    v: NDArray[np.uint8]
    rate: Fraction
    matrix: str = "bt709"
    full_range: bool = False
    times: tuple[Fraction, ...] | None = None
    primaries: int = 2
    transfer: int = 2
    aspect: Fraction = Fraction(1)

    def __post_init__(self) -> None:
        """Check the planes.

        Raises:
            ValueError: If they are not uint8 of shapes that fit, with at least one frame, or times do not rise.
        """
        t, h, w = self.y.shape if self.y.ndim == 3 else (0, 0, 0)
        chroma = (t, (h + 1) // 2, (w + 1) // 2)
        planes = (self.y, self.u, self.v)
        if (
            t * h * w == 0
            or self.u.shape != chroma
            or self.v.shape != chroma
            or any(p.dtype != np.uint8 for p in planes)
        ):
            found = ", ".join(f"{p.shape} {p.dtype}" for p in planes)
            raise ValueError(f"Planes must be uint8 in 4:2:0 with at least one frame, but got {found}")
        if self.rate <= 0:
            raise ValueError(f"Argument `rate` must be positive, but got {self.rate}")
        if self.times is not None and (
            len(self.times) != t or any(a >= b for a, b in zip(self.times, self.times[1:], strict=False))
        ):
            raise ValueError(f"Argument `times` must hold {t} rising times, but got {len(self.times)}")

    @property
    def frames(self) -> int:
        """Number of frames."""
        return int(self.y.shape[0])

    @property
    def width(self) -> int:
        """Width in pixels."""
        return int(self.y.shape[2])

    @property
    def height(self) -> int:
        """Height in pixels."""
        return int(self.y.shape[1])

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return float(self.frames / self.rate)

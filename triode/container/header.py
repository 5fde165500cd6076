"""The `HEAD` chunk: what is in the file, which model made it, and how it is cut into units."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Final, TypeVar, overload

from triode.container.audio import AudioHead, pack_audio, unpack_audio
from triode.container.chunks import MAX_VARINT, Cursor, encode_varint
from triode.container.limits import DEFAULT_LIMITS, DecodeLimits
from triode.container.media import Media
from triode.container.video import VideoHead, pack_video, unpack_video
from triode.errors import BitstreamError, CodecError, UnsupportedError

__all__ = [
    "DIGEST_BYTES",
    "FORMAT_MAJOR",
    "MAX_SIDE",
    "Colour",
    "Head",
    "ImageHead",
    "Layout",
    "Media",
    "Tile",
    "TileGrid",
    "pack_head",
    "tile_grid",
    "unpack_head",
]

FORMAT_MAJOR: Final = 1
DIGEST_BYTES: Final = 4
MAX_SIDE: Final = (1 << 31) - 1
MAX_HEAD_LENGTH: Final = 1024
_TILE_LOG2: Final = range(5, 17)
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}", re.ASCII)

_KIND_MASK = 0x0F
_SINGLE = 0x10
_HEAD_RESERVED = 0xE0
_DEPTH_MASK = 0x0F
_ALPHA = 0x10
_LAYOUT_SHIFT = 5
_SAMPLE_RESERVED = 0x80


class Layout(IntEnum):
    """Colour channels of an image, alpha not counted."""

    GREY = 0
    RGB = 1

    @property
    def channels(self) -> int:
        """Number of channels: 1 or 3."""
        return 1 if self is Layout.GREY else 3


class Colour(IntEnum):
    """What the sample values mean when no `iccp` chunk says otherwise."""

    SRGB = 0


@dataclass(frozen=True, slots=True)
class Tile:
    """A rectangle of the image in pixels: the area of one unit.

    Attributes:
        x: Left edge.
        y: Upper edge.
        width: Width, the tile side or less at the right border.
        height: Height, the tile side or less at the lower border.
    """

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class TileGrid(Sequence[Tile]):
    """The tiles of an image in raster order, computed when asked for: a grid of any size takes no memory.

    Attributes:
        width: Image width in pixels.
        height: Image height in pixels.
        side: Tile side in pixels; None for one tile that is the whole image.
    """

    width: int
    height: int
    side: int | None

    @property
    def columns(self) -> int:
        """Tiles from left to right."""
        return 1 if self.side is None else -(-self.width // self.side)

    @property
    def rows(self) -> int:
        """Tiles from top to bottom."""
        return 1 if self.side is None else -(-self.height // self.side)

    def __len__(self) -> int:
        """Return the number of tiles."""
        return self.columns * self.rows

    @overload
    def __getitem__(self, index: int) -> Tile: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Tile]: ...
    def __getitem__(self, index: int | slice) -> Tile | Sequence[Tile]:
        """Return the tile of unit `index`, or a tuple of tiles for a slice."""
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"tile index out of range: the image has {len(self)} tiles")
        if self.side is None:
            return Tile(0, 0, self.width, self.height)
        row, column = divmod(index, self.columns)
        x, y = column * self.side, row * self.side
        return Tile(x, y, min(self.side, self.width - x), min(self.side, self.height - y))


@dataclass(frozen=True, slots=True)
class ImageHead:
    """The part of `HEAD` that only images have.

    Attributes:
        width: Pixels, 1..2^31-1.
        height: Pixels, 1..2^31-1.
        layout: Colour channels.
        alpha: Whether the file has an `ALPH` chunk.
        bit_depth: Bits per sample of the decoded image, 1..16.
        colour: Meaning of the sample values.
        tile_log2: Base-2 logarithm of the tile side in pixels, 5..16. It becomes None where the image fits into one
            tile, since such an image is not cut; None may also be given, for an image that is one unit at any size.
    """

    media: ClassVar[Media] = Media.IMAGE

    width: int
    height: int
    layout: Layout = Layout.RGB
    alpha: bool = False
    bit_depth: int = 8
    colour: Colour = Colour.SRGB
    tile_log2: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges and normalise `tile_log2`."""
        for name, side in (("width", self.width), ("height", self.height)):
            if not 1 <= side <= MAX_SIDE:
                raise ValueError(f"{name} must be 1..{MAX_SIDE}, got {side}")
        if not 1 <= self.bit_depth <= 16:
            raise ValueError(f"bit depth must be 1..16, got {self.bit_depth}")
        if self.tile_log2 is not None:
            if self.tile_log2 not in _TILE_LOG2:
                raise ValueError(f"tile exponent must be {_TILE_LOG2[0]}..{_TILE_LOG2[-1]}, got {self.tile_log2}")
            if max(self.width, self.height) <= 1 << self.tile_log2:
                object.__setattr__(self, "tile_log2", None)
        if self.units > MAX_VARINT:
            raise ValueError(f"an image is cut into at most {MAX_VARINT} tiles, got {self.units}")

    @property
    def units(self) -> int:
        """Number of units: tiles of the image."""
        return len(tile_grid(self))

    @property
    def single(self) -> bool:
        """Whether the image is one unit, whole."""
        return self.tile_log2 is None


_B = TypeVar("_B", ImageHead, AudioHead, VideoHead)


@dataclass(frozen=True, slots=True)
class Head:
    """Everything that `HEAD` says.

    Attributes:
        model: Model name, 1..64 characters of `a-z 0-9 . _ -`, the first a letter or a digit.
        entropy_digest: First 4 bytes of the SHA-256 over the model's entropy part; another digest cannot decode.
        synthesis_digest: First 4 bytes of the SHA-256 over the rest of the model; another digest decodes to other
            pixels or samples.
        body: The part that depends on the kind of media.
    """

    model: str
    entropy_digest: bytes
    synthesis_digest: bytes
    body: ImageHead | AudioHead | VideoHead

    def __post_init__(self) -> None:
        """Check name and digests."""
        if _NAME.fullmatch(self.model) is None:
            raise ValueError(
                f"a model name is 1 to 64 characters of [a-z0-9._-], the first a letter or digit; got {self.model!r}"
            )
        for name, digest in (("entropy", self.entropy_digest), ("synthesis", self.synthesis_digest)):
            if len(digest) != DIGEST_BYTES:
                raise ValueError(f"the {name} digest in a file has {DIGEST_BYTES} bytes, got {len(digest)}")

    @property
    def media(self) -> Media:
        """Kind of media."""
        return self.body.media

    @property
    def image(self) -> ImageHead:
        """The part that only images have.

        Raises:
            UnsupportedError: The file holds another medium.
        """
        return self._body(ImageHead, "an image")

    @property
    def audio(self) -> AudioHead:
        """The part that only sound has.

        Raises:
            UnsupportedError: The file holds another medium.
        """
        return self._body(AudioHead, "audio")

    @property
    def video(self) -> VideoHead:
        """The part that only video has.

        Raises:
            UnsupportedError: The file holds another medium.
        """
        return self._body(VideoHead, "video")

    def _body(self, kind: type[_B], name: str) -> _B:
        if not isinstance(self.body, kind):
            raise UnsupportedError(f"the file holds {self.media.name.lower()}, not {name}")
        return self.body

    @property
    def alpha(self) -> bool:
        """Whether the file has an `ALPH` chunk."""
        return isinstance(self.body, ImageHead) and self.body.alpha

    @property
    def units(self) -> int:
        """Number of `DATA` units of the complete file; of one that is not `counted`, the most there may be."""
        return self.body.units

    @property
    def counted(self) -> bool:
        """Whether `HEAD` says how many units there are: of all but video, which is written while its frames come."""
        return not isinstance(self.body, VideoHead)

    @property
    def single(self) -> bool:
        """Whether the file ends right after its only `DATA` unit, with no `indx` and no `DONE`."""
        return self.body.single


def tile_grid(head: ImageHead) -> TileGrid:
    """Return the tiles of an image in unit order; `tile_grid(head)[i]` is the area of unit `i`."""
    return TileGrid(head.width, head.height, None if head.tile_log2 is None else 1 << head.tile_log2)


def pack_head(head: Head) -> bytes:
    """Return the payload of the `HEAD` chunk."""
    name = head.model.encode("ascii")
    body = head.body
    return b"".join(
        (
            bytes((FORMAT_MAJOR, head.media | (_SINGLE if head.single else 0), len(name))),
            name,
            head.entropy_digest,
            head.synthesis_digest,
            _pack_body(body),
        )
    )


def unpack_head(payload: bytes, limits: DecodeLimits = DEFAULT_LIMITS) -> Head:
    """Read the payload of a `HEAD` chunk whose CRC-32 has been checked.

    Raises:
        UnsupportedError: Another format version, a kind of media or a value that this version does not assign, or a
            reserved bit that is set.
        BitstreamError: The fields break a rule of the format.
        LimitExceededError: Name, area, samples, channels or number of units is above `limits`.
    """
    cursor = Cursor(payload, "HEAD")
    major = cursor.u8()
    if major != FORMAT_MAJOR:
        raise UnsupportedError(f"HEAD: format version {major}; this release reads version {FORMAT_MAJOR}")
    flags = cursor.u8()
    _refuse_reserved(flags & _HEAD_RESERVED, "flags")
    kind, single = flags & _KIND_MASK, bool(flags & _SINGLE)
    if kind not in tuple(Media):
        raise UnsupportedError(
            f"HEAD: the medium is reserved code {kind}; this release reads image (1), audio (2) and video (3)"
        )
    name = cursor.take(cursor.u8())
    limits.check_model_name(len(name))
    entropy, synthesis = cursor.take(DIGEST_BYTES), cursor.take(DIGEST_BYTES)
    try:
        body = _unpack_body(cursor, kind, single=single)
        cursor.end()
        head = Head(name.decode("ascii"), entropy, synthesis, body)
    except CodecError:
        raise
    except ValueError as error:
        raise BitstreamError(f"HEAD: {error}") from error
    if isinstance(body, AudioHead):
        limits.check_channels(body.channels)
        limits.check_samples(max(body.samples, body.model_samples))
    else:
        limits.check_pixels(body.width, body.height)
    if head.counted:
        limits.check_units(head.units)
    return head


def _pack_body(body: ImageHead | AudioHead | VideoHead) -> bytes:
    if isinstance(body, VideoHead):
        return pack_video(body)
    return pack_audio(body) if isinstance(body, AudioHead) else _pack_image(body)


def _unpack_body(cursor: Cursor, kind: int, *, single: bool) -> ImageHead | AudioHead | VideoHead:
    if kind == Media.VIDEO:
        return unpack_video(cursor, single=single)
    return unpack_audio(cursor, single=single) if kind == Media.AUDIO else _unpack_image(cursor, single=single)


def _pack_image(body: ImageHead) -> bytes:
    sample = (body.bit_depth - 1) | (_ALPHA if body.alpha else 0) | (body.layout << _LAYOUT_SHIFT)
    return b"".join(
        (
            encode_varint(body.width),
            encode_varint(body.height),
            bytes((sample, body.colour)),
            b"" if body.tile_log2 is None else bytes((body.tile_log2,)),
        )
    )


def _unpack_image(cursor: Cursor, *, single: bool) -> ImageHead:
    width, height = cursor.varint(), cursor.varint()
    sample, colour = cursor.u8(), cursor.u8()
    _refuse_reserved(sample & _SAMPLE_RESERVED, "sample format")
    layout = (sample & ~_SAMPLE_RESERVED) >> _LAYOUT_SHIFT
    if layout not in tuple(Layout):
        raise UnsupportedError(f"HEAD: layout code {layout} is reserved; known are 0 (grey) and 1 (rgb)")
    if colour not in tuple(Colour):
        raise UnsupportedError(f"HEAD: colour code {colour} is reserved; known is 0 (sRGB)")
    body = ImageHead(
        width=width,
        height=height,
        layout=Layout(layout),
        alpha=bool(sample & _ALPHA),
        bit_depth=(sample & _DEPTH_MASK) + 1,
        colour=Colour(colour),
        tile_log2=None if single else cursor.u8(),
    )
    if body.single and not single:
        raise BitstreamError(f"HEAD: an image of {width} x {height} fits into one tile, but SINGLE is not set")
    return body


def _refuse_reserved(bits: int, field: str) -> None:
    if bits:
        raise UnsupportedError(
            f"HEAD: reserved bits {bits:#04x} of the {field} byte are set; a newer version made this"
        )

"""Image files: read into a `Picture`, and written from one, by Pillow."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Final

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from triode.errors import BitstreamError, LimitExceededError, TruncatedError, UnsupportedError
from triode.io.files import atomic_write
from triode.io.pil import describe_failure, descriptive_exif, picture_from_pil, picture_to_pil
from triode.media import Picture

__all__ = ["MAX_PIXELS", "READABLE", "WRITABLE", "ImageFormat", "find_format", "read_picture", "write_picture"]

MAX_PIXELS: Final = 178_956_970
"""Largest area that is read unless the caller says otherwise: what Pillow refuses, and what Triode decodes."""

READABLE: Final = frozenset(
    {
        ".apng",
        ".avif",
        ".bmp",
        ".dib",
        ".gif",
        ".ico",
        ".icns",
        ".j2k",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".jpx",
    }
    | {
        ".jpx",
        ".mpo",
        ".pbm",
        ".pcx",
        ".pgm",
        ".png",
        ".pnm",
        ".ppm",
        ".psd",
        ".qoi",
        ".sgi",
        ".tga",
        ".tif",
        ".tiff",
        ".webp",
    }
)
"""Suffixes by which image files are found in a folder; a file that is named itself may have any."""


@dataclass(frozen=True, slots=True)
class ImageFormat:
    """A format that pictures are written in.

    Attributes:
        name: Pillow's name of it.
        suffixes: File name suffixes, the usual one first.
        alpha: Whether it holds alpha.
        exif: Whether it holds EXIF and ICC.
        options: What Pillow's writer is given: lossless, or close to it where the format is lossy by nature.
    """

    name: str
    suffixes: tuple[str, ...]
    alpha: bool = True
    exif: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)


_LOSSY: Final = MappingProxyType({"quality": 95, "subsampling": "4:4:4"})
WRITABLE: Final = (
    # Level 3 is 2.5 times as fast as the default on photos, and no larger.
    ImageFormat("PNG", (".png",), options=MappingProxyType({"compress_level": 3})),
    ImageFormat("JPEG", (".jpg", ".jpeg"), alpha=False, options=_LOSSY),
    ImageFormat("WEBP", (".webp",), options=MappingProxyType({"lossless": True, "exact": True, "method": 2})),
    ImageFormat("AVIF", (".avif",), options=MappingProxyType({**_LOSSY, "speed": 8})),
    ImageFormat("TIFF", (".tif", ".tiff"), options=MappingProxyType({"compression": "tiff_adobe_deflate"})),
    ImageFormat("PPM", (".ppm", ".pgm", ".pnm"), alpha=False, exif=False),
    ImageFormat("BMP", (".bmp",), alpha=False, exif=False),
)

_LOCK: Final = threading.RLock()
_COMMON: Final = ("PNG", "JPEG", "WEBP", "AVIF", "TIFF", "GIF", "BMP", "JPEG2000", "PPM")
# Reading these starts another program or needs a library outside Pillow.
_NOT_PIXELS: Final = frozenset({"EPS", "WMF", "PDF", "BUFR", "GRIB", "HDF5", "MPEG"})
_XMP_TAG: Final = 700
_HEADER_BYTES: Final = 1 << 16


def read_picture(
    source: Path | BinaryIO, *, convert: bool = False, strip: bool = False, max_pixels: int | None = MAX_PIXELS
) -> Picture:
    """Read an image file.

    Args:
        source: A path, or a binary file, which is read from its beginning if it can seek.
        convert: Whether CMYK, YCbCr, CIELAB, 16-bit and float pixels may be converted to 8-bit RGB or grey.
        strip: Whether to leave out ICC, EXIF and XMP.
        max_pixels: Largest width times height; None for no bound. Pillow's own bound is lifted to it for this call.

    Returns:
        The picture, upright, 8-bit grey or RGB with or without alpha.

    Raises:
        UnsupportedError: Not an image that Pillow reads, an animation, or pixels that need `convert`.
        TruncatedError: The file ends too early.
        BitstreamError: The file is damaged otherwise.
        LimitExceededError: More pixels than `max_pixels`, or than there is memory for.
        OSError: The file cannot be opened or read.
    """
    if isinstance(source, Path):
        with source.open("rb") as file:
            return read_picture(file, convert=convert, strip=strip, max_pixels=max_pixels)
    if not source.seekable():
        source = io.BytesIO(source.read())
    with _pillow_limit(max_pixels), _open(source) as image:
        _check(image, max_pixels)
        if not convert:
            _refuse_deep(source, image.format)
        return picture_from_pil(image, convert=convert, strip=strip)


def write_picture(picture: Picture, target: Path | BinaryIO, fmt: str | None = None) -> None:
    """Write an image file, with ICC, EXIF and XMP where the format takes them.

    PNG, WebP, TIFF, PPM and BMP are lossless; JPEG and AVIF are written at quality 95 with full chroma.

    Args:
        picture: The picture.
        target: A path, replaced if it exists, with no partial file if writing fails; or a binary file.
        fmt: Format name or suffix, such as `png`; None to go by the suffix of the path, PNG where there is none. A
            `.ppm` file has colour and a `.pgm` file is grey; a `.pnm` file is what the picture is.

    Raises:
        UnsupportedError: A format that is not offered, or that cannot hold what the picture has.
        OSError: The file cannot be written.
    """
    kind = find_format(fmt if fmt is not None else target.suffix if isinstance(target, Path) else "")
    if isinstance(target, Path):
        with atomic_write(target, overwrite=True) as file:
            _save(picture, file, kind, fmt or target.suffix)
    elif target.seekable():
        _save(picture, target, kind, fmt or "")
    else:
        buffer = io.BytesIO()
        _save(picture, buffer, kind, fmt or "")
        target.write(buffer.getvalue())


def find_format(name: str) -> ImageFormat:
    """Look up a format that pictures are written in.

    Args:
        name: Its name, or a suffix with or without the dot, in any case; empty for PNG.

    Raises:
        UnsupportedError: There is no such format; the message lists those there are.
    """
    wanted = name.lower().lstrip(".")
    if not wanted:
        return WRITABLE[0]
    for kind in WRITABLE:
        if wanted == kind.name.lower() or f".{wanted}" in kind.suffixes:
            return kind
    known = " ".join(suffix for kind in WRITABLE for suffix in kind.suffixes)
    raise UnsupportedError(f"images are not written as {name!r}; known are {known}")


@contextmanager
def _pillow_limit(max_pixels: int | None) -> Iterator[None]:
    """Set Pillow's bound on pixels, which is a global, for as long as one file is read, and no warning below it.

    Pillow raises above twice its bound. One reader at a time, so that none sees the bound of another.
    """
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        before = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None if max_pixels is None else max_pixels // 2 + 1
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _open(source: BinaryIO) -> Image.Image:
    source.seek(0)
    start = source.read(16)
    if not start:
        raise TruncatedError("the image file is empty")
    try:
        image = Image.open(source)
    except UnidentifiedImageError:
        for name in _COMMON:
            accept = Image.OPEN[name][1] if name in Image.OPEN else None
            if accept is not None and accept(start) is True:
                raise BitstreamError(f"the {name} image is damaged or cut short: its header cannot be read") from None
        raise UnsupportedError(f"not an image of a known format: it begins with {start[:8].hex(' ')}") from None
    except Exception as error:
        raise describe_failure(error, None) from error
    if image.format in _NOT_PIXELS:
        raise UnsupportedError(f"{image.format} files hold no pixels that could be read; export a PNG")
    return image


def _check(image: Image.Image, max_pixels: int | None) -> None:
    area = image.width * image.height
    if max_pixels is not None and area > max_pixels:
        raise LimitExceededError(
            f"the image has {image.width} x {image.height} = {area} pixels, above the limit max_pixels={max_pixels}"
        )


def _refuse_deep(source: BinaryIO, kind: str | None) -> None:
    """Refuse AVIF and JPEG 2000 above 8 bits, which Pillow opens as 8-bit without a trace.

    AV1-ISOBMFF 1.2, 2.3.3: bit 6 of the third byte of `av1C` is high_bitdepth. ISO/IEC 15444-1, A.5.1: the first
    component's depth less one is at byte 42 of a codestream.
    """
    if kind not in {"AVIF", "JPEG2000"}:
        return
    position = source.tell()
    source.seek(0)
    header = source.read(_HEADER_BYTES)
    source.seek(position)
    if kind == "AVIF":
        at = header.find(b"av1C") + 4
        deep = at > 3 and len(header) > at + 2 and bool(header[at + 2] & 0x40)
    else:
        at = header.find(b"\xff\x4f\xff\x51")
        deep = at >= 0 and len(header) > at + 42 and (header[at + 42] & 0x7F) + 1 > 8
    if deep:
        raise UnsupportedError(
            f"this {kind} image has more than 8 bits a sample; --convert (convert=True) makes them 8-bit"
        )


def _save(picture: Picture, file: BinaryIO, kind: ImageFormat, name: str) -> None:
    suffix = name.lower().lstrip(".")
    if picture.has_alpha and not kind.alpha:
        raise UnsupportedError(f"{kind.name} has no alpha, but the picture has; write PNG, WebP, AVIF or TIFF")
    if suffix == "pgm" and not picture.is_grey:
        raise UnsupportedError("a .pgm file is grey, but the picture has colour; write .ppm")
    image = picture_to_pil(picture)
    if suffix == "ppm" and picture.is_grey:
        image = image.convert("RGB")
    options = {**kind.options, **_metadata_options(picture, kind)}
    try:
        image.save(file, kind.name, **options)
    except (ValueError, OverflowError, RuntimeError) as error:
        raise UnsupportedError(f"this picture cannot be written as {kind.name}: {error}") from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise UnsupportedError(f"this picture cannot be written as {kind.name}: {error}") from error


def _metadata_options(picture: Picture, kind: ImageFormat) -> dict[str, Any]:
    """Return the metadata as the options of Pillow's writer; what does not fit is left out with a warning."""
    if not kind.exif:
        return {"icc_profile": None}
    options: dict[str, Any] = {"icc_profile": picture.icc}
    exif, xmp = picture.exif, picture.xmp
    if kind.name == "JPEG":
        exif, xmp = _at_most(exif, 65_527, "EXIF"), _at_most(xmp, 65_504, "XMP")
    if kind.name == "TIFF":
        return {**options, **_tiff_options(exif, xmp)}
    if exif:
        options["exif"] = b"Exif\x00\x00" + exif
    if xmp and kind.name == "PNG":
        options["pnginfo"] = _png_text(xmp)
    elif xmp:
        options["xmp"] = xmp
    return options


def _at_most(block: bytes | None, size: int, what: str) -> bytes | None:
    if block is None or len(block) <= size:
        return block
    warnings.warn(f"{len(block)} bytes of {what} do not fit into a JPEG file and are left out", stacklevel=2)
    return None


def _png_text(xmp: bytes) -> PngImagePlugin.PngInfo:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp.decode("utf-8", "replace"))
    return info


def _tiff_options(exif: bytes | None, xmp: bytes | None) -> dict[str, Any]:
    tags = Image.Exif()
    if exif:
        try:
            tags.load(exif)
            described = descriptive_exif(tags)
            tags = Image.Exif()
            tags.load(described or b"")
        except Exception as error:
            warnings.warn(f"the EXIF block cannot be read and is left out: {error}", stacklevel=2)
            tags = Image.Exif()
    if xmp:
        tags[_XMP_TAG] = xmp
    return {"exif": tags} if len(tags) else {}

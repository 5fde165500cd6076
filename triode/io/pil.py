"""Pillow images to pictures and back: modes, transparency, colour conversion, orientation."""

from __future__ import annotations

import io
import warnings
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from triode.errors import BitstreamError, CodecError, LimitExceededError, TruncatedError, UnsupportedError
from triode.io import exif as orient
from triode.media import Picture

__all__ = ["describe_failure", "descriptive_exif", "picture_from_pil", "picture_to_pil"]

_DIRECT: Final = {"1": "L", "L": "L", "LA": "LA", "La": "LA", "P": "RGB", "PA": "RGBA"}
_DIRECT_RGB: Final = {"RGB": "RGB", "RGBX": "RGB", "RGBA": "RGBA", "RGBa": "RGBA"}
_CONVERTED: Final = {
    "CMYK": "CMYK",
    "YCbCr": "YCbCr",
    "LAB": "CIELAB",
    "HSV": "HSV",
    "I": "32-bit integer",
    "F": "floating-point",
    "I;16": "16-bit",
    "I;16B": "16-bit",
    "I;16L": "16-bit",
    "I;16N": "16-bit",
}
_MODES: Final = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}
# More than one picture in these is not a film: the first is the photo, the others are depth, gain maps or layers.
_STILL: Final = {"MPO", "PSD"}
_PAGES: Final = {"TIFF", "DCX", "MIC"}
_BAND_PIXELS: Final = 1 << 20
# Baseline tags that describe the picture; all others say how one TIFF file stores it.
_DESCRIPTIVE: Final = (270, 271, 272, 305, 306, 315, 316, 33432)
_GROUPS: Final = (0x8769, 0x8825)


def picture_from_pil(image: Image.Image, *, convert: bool = False, strip: bool = False) -> Picture:
    """Take pixels and metadata out of a Pillow image.

    Palettes become RGB or RGBA, one bit becomes grey, a colour key becomes alpha. The EXIF orientation is applied to
    the pixels and set to 1 in the metadata.

    Args:
        image: The image. It is loaded, and not changed otherwise.
        convert: Whether CMYK, YCbCr, CIELAB, 16-bit and float pixels may be converted to 8-bit RGB or grey: 16-bit
            samples by rounding, float samples from 0..1, CMYK by its ICC profile (which then goes) where it has one.
        strip: Whether to leave out ICC, EXIF and XMP.

    Returns:
        The picture, which shares no memory with the image.

    Raises:
        UnsupportedError: Such pixels without `convert`, samples out of their range, an animation, several pages.
        BitstreamError: The file that the image is read from is damaged.
        LimitExceededError: There is not enough memory for it.
    """
    _refuse_frames(image)
    _refuse_depth(image, convert=convert)
    try:
        image.load()
        plain, icc = _to_plain(image, convert=convert)
        exif, xmp = _metadata(image)
        pixels = _orient(_to_array(plain), orient.orientation(exif, xmp))
    except CodecError:
        raise
    except Exception as error:
        raise describe_failure(error, image.format) from error
    if strip:
        return Picture(pixels)
    return Picture(
        pixels,
        icc=_fitting(icc, grey=pixels.shape[2] <= 2),
        exif=orient.reset_exif(exif) if exif else None,
        xmp=orient.reset_xmp(xmp) if xmp else None,
    )


def picture_to_pil(picture: Picture) -> Image.Image:
    """Make a Pillow image of mode L, LA, RGB or RGBA, its metadata in `info` under the names that Pillow uses."""
    pixels = picture.pixels[:, :, 0] if picture.pixels.shape[2] == 1 else picture.pixels
    image = Image.fromarray(np.ascontiguousarray(pixels), _MODES[picture.pixels.shape[2]])
    if picture.icc:
        image.info["icc_profile"] = picture.icc
    if picture.exif:
        image.info["exif"] = b"Exif\x00\x00" + picture.exif
    if picture.xmp:
        image.info["xmp"] = picture.xmp
    return image


def describe_failure(error: BaseException, kind: str | None) -> BaseException:
    """Turn what a Pillow plug-in raised for a damaged file of format `kind` into an error of `triode.errors`.

    An error of the disk or the system passes unchanged.
    """
    what = f"{kind} image" if kind else "image"
    if isinstance(error, MemoryError):
        return LimitExceededError(f"not enough memory to read the {what}")
    if isinstance(error, Image.DecompressionBombError):
        return LimitExceededError(str(error))
    if isinstance(error, OSError) and error.errno is not None:
        return error
    text = str(error) or type(error).__name__
    if "truncated" in text.lower() or isinstance(error, EOFError):
        return TruncatedError(f"the {what} is cut short: {text}")
    return BitstreamError(f"the {what} is damaged: {text}")


def descriptive_exif(tags: Image.Exif) -> bytes | None:
    """Make an EXIF block of the tags that describe a picture: maker, date, copyright, exposure, place.

    Args:
        tags: What Pillow read.

    Returns:
        The block from its TIFF header on; None where there is no such tag.
    """
    kept = Image.Exif()
    for tag in _DESCRIPTIVE:
        if tag in tags:
            kept[tag] = tags[tag]
    for group in _GROUPS:
        if group in tags and (content := tags.get_ifd(group)):
            kept[group] = dict(content)
    return orient.without_prefix(kept.tobytes()) if len(kept) else None


def _refuse_frames(image: Image.Image) -> None:
    if image.format in _STILL:
        return
    try:
        frames = int(getattr(image, "n_frames", 1))
    except Exception as error:
        raise describe_failure(error, image.format) from error
    if frames <= 1:
        return
    if image.format in _PAGES:
        raise UnsupportedError(f"this {image.format} file has {frames} pages; a Triode image is one picture")
    raise UnsupportedError(
        f"this {image.format} image is animated ({frames} frames); a Triode image is one still picture"
    )


def _refuse_depth(image: Image.Image, *, convert: bool) -> None:
    """Refuse pixels that would lose something.

    Pillow opens colour images of 16 bits a sample as 8-bit ones; only the raw mode of a tile still says so.
    """
    if convert:
        return
    found = _CONVERTED.get(image.mode)
    if found is None and any(";16" in str(tile[3]) or "SGI16" in str(tile[0]) for tile in getattr(image, "tile", ())):
        found = "16-bit"
    if found is not None:
        raise _needs_convert(found, image.mode)


def _needs_convert(found: str, mode: str) -> UnsupportedError:
    return UnsupportedError(
        f"{found} pixels (Pillow mode {mode}) are not stored as they are; --convert (convert=True) makes them 8-bit"
    )


def _to_plain(image: Image.Image, *, convert: bool) -> tuple[Image.Image, bytes | None]:
    """Return the image in mode L, LA, RGB or RGBA, and the ICC profile that holds for it."""
    mode, icc = image.mode, image.info.get("icc_profile")
    icc = icc if isinstance(icc, bytes) and icc else None
    if mode in _DIRECT_RGB or mode in _DIRECT:
        wanted = {**_DIRECT, **_DIRECT_RGB}[mode]
        if image.has_transparency_data and not wanted.endswith("A"):
            wanted += "A"
        return (image if wanted == mode else image.convert(wanted)), icc
    if mode not in _CONVERTED:
        raise UnsupportedError(f"pixels of Pillow mode {mode} are not known; convert the image to RGB first")
    if not convert:
        raise _needs_convert(_CONVERTED[mode], mode)
    if mode in {"CMYK", "LAB"}:
        return _by_profile(image, icc), None
    if mode in {"YCbCr", "HSV"}:
        return image.convert("RGB"), icc
    return _narrow(image), icc


def _by_profile(image: Image.Image, icc: bytes | None) -> Image.Image:
    """Convert CMYK or CIELAB to sRGB with colour management; CMYK without a usable profile by the plain formula."""
    try:
        source: ImageCms.ImageCmsProfile | None = None
        if image.mode == "LAB":
            source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        elif icc:
            source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        if source is not None:
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
    except (ImportError, OSError, ImageCms.PyCMSError):
        pass
    if image.mode == "LAB":
        raise UnsupportedError("this Pillow was built without colour management, which CIELAB pixels need")
    return image.convert("RGB")


def _narrow(image: Image.Image) -> Image.Image:
    """Make 8-bit grey of one channel of 16 bits, of 32-bit integers in the 16-bit range, or of floats in 0..1."""
    values = np.asarray(image)
    if image.mode == "F":
        low, high = float(values.min()), float(values.max())
        if not (low >= 0 and high <= 1):
            raise UnsupportedError(f"float pixels must lie in 0..1 to be converted, but these lie in {low:g}..{high:g}")
        return Image.fromarray(np.rint(values * np.float32(255)).astype(np.uint8))
    if values.dtype.itemsize > 2:
        lowest, highest = int(values.min()), int(values.max())
        if lowest < 0 or highest > 0xFFFF:
            raise UnsupportedError(
                f"integer pixels must lie in 0..65535 to be converted, but these lie in {lowest}..{highest}"
            )
    grey = Image.fromarray(((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))
    key = image.info.get("transparency")
    if isinstance(key, int):
        grey.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    return grey


def _to_array(image: Image.Image) -> NDArray[np.uint8]:
    """Copy the pixels to (H, W, C) uint8, in bands, since Pillow's own export needs two more copies of the whole."""
    width, height = image.size
    pixels = np.empty((height, width, len(image.getbands())), np.uint8)
    rows = max(1, _BAND_PIXELS // width)
    for top in range(0, height, rows):
        band = np.asarray(image.crop((0, top, width, min(height, top + rows))))
        pixels[top : top + rows] = band.reshape(band.shape[0], width, -1)
    return pixels


def _orient(pixels: NDArray[np.uint8], how: int) -> NDArray[np.uint8]:
    """Turn stored pixels upright; `how` is the EXIF orientation."""
    if how >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if how in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if how in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def _metadata(image: Image.Image) -> tuple[bytes | None, bytes | None]:
    """Return EXIF (from its TIFF header on) and XMP as the image has them now, after it was loaded."""
    exif = image.info.get("exif")
    if not isinstance(exif, bytes):
        exif = _exif_from_tags(image)
    xmp = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp")
    if isinstance(xmp, str):
        xmp = xmp.encode("utf-8", "surrogateescape")
    exif = orient.without_prefix(exif) if exif else None
    return exif or None, xmp if isinstance(xmp, bytes) and xmp else None


def _exif_from_tags(image: Image.Image) -> bytes | None:
    """Make an EXIF block for files that keep it otherwise: TIFF in its own tags, some PNG files in a text chunk."""
    if not hasattr(image, "tag_v2") and "Raw profile type exif" not in image.info:
        return None
    try:
        return descriptive_exif(image.getexif())
    except Exception as error:
        warnings.warn(f"the EXIF block cannot be read and is left out: {error}", stacklevel=2)
        return None


def _fitting(icc: bytes | None, *, grey: bool) -> bytes | None:
    """Drop a profile that is for another colour space than the pixels; ICC.1:2022, 7.2.6: bytes 16 to 19 name it."""
    if icc is None or len(icc) < 128:
        return icc
    space = icc[16:20]
    return None if space in {b"RGB ", b"GRAY", b"CMYK", b"Lab "} - {b"GRAY" if grey else b"RGB "} else icc

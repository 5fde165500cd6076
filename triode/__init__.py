"""Triode: learned codecs for images, audio and video.

`encode` and `decode` go from a picture to bytes and back; `open` and `save` do it with files. Importing this module
loads neither torch nor NumPy: they come with the first call that needs them.
"""

from __future__ import annotations

from collections.abc import Mapping as _Mapping
from pathlib import Path as _Path
from types import MappingProxyType as _MappingProxyType
from types import TracebackType as _TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from triode.errors import (
    BitstreamError,
    CodecError,
    EntropyMismatchError,
    LimitExceededError,
    ModelMismatchError,
    TruncatedError,
    UnsupportedError,
    VerifyError,
)
from triode.version import __version__

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import nn

    from triode.codecs.image import Encoded, ImageCodec, ImageInfo
    from triode.container import DecodeLimits
    from triode.media import Picture

__all__ = [
    "BitstreamError",
    "CodecError",
    "DecodeLimits",
    "Encoded",
    "EntropyMismatchError",
    "File",
    "ImageCodec",
    "ImageInfo",
    "LimitExceededError",
    "ModelMismatchError",
    "Picture",
    "TruncatedError",
    "UnsupportedError",
    "VerifyError",
    "__version__",
    "create_model",
    "decode",
    "encode",
    "info",
    "list_models",
    "open",
    "save",
    "verify",
]

_LAZY: _Mapping[str, str] = _MappingProxyType(
    {
        "DecodeLimits": "triode.container",
        "Encoded": "triode.codecs.image",
        "ImageCodec": "triode.codecs.image",
        "ImageInfo": "triode.codecs.image",
        "Picture": "triode.media",
    }
)


def encode(
    image: Any,
    *,
    quality: float | None = None,
    model: str | None = None,
    bpp: float | None = None,
    size: int | None = None,
    psnr: float | None = None,
    convert: bool = False,
    strip: bool = False,
) -> bytes:
    """Encode an image.

    Args:
        image: A Pillow image, whose ICC, EXIF and XMP are kept and whose EXIF orientation is applied; a NumPy array
            (H, W) or (H, W, C) uint8; a tensor (C, H, W) uint8 or floating-point in 0..1; or a `Picture`. C is 1
            (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA). Alpha is stored without loss.
        quality: 0 to 100, the same meaning for every model; 50 if no other target is given.
        model: Name of the weights or path of a `.safetensors`; None for the default.
        bpp: Largest rate of the file in bits a pixel, instead of a quality.
        size: Largest file in bytes, instead of a quality.
        psnr: Smallest PSNR in dB, instead of a quality.
        convert: Whether CMYK, YCbCr, CIELAB, 16-bit and float Pillow images may be converted to 8-bit.
        strip: Whether to leave out the metadata.

    Returns:
        A `.tri` file.

    Raises:
        TypeError: Another kind of object.
        ValueError: Another shape or range, or more than one target.
        UnsupportedError: An animation, pixels that need `convert`, a target that no quality reaches.
        ModelMismatchError: The weights are not installed.
    """
    from triode.codecs.image import ImageCodec
    from triode.io.arrays import to_picture

    picture = to_picture(image, convert=convert, strip=strip)
    return ImageCodec(model).encode(picture, quality=quality, bpp=bpp, size=size, psnr=psnr).data


def decode(data: bytes | BinaryIO, *, model: str | None = None, limits: DecodeLimits | None = None) -> Image:
    """Decode a `.tri` file.

    Args:
        data: The file's bytes, or a binary file, which need not seek.
        model: Weights to use in place of those that the file names.
        limits: What the file may ask for; None for `DecodeLimits()`.

    Returns:
        A Pillow image of mode L, LA, RGB or RGBA, its ICC profile, EXIF and XMP in `info`.

    Raises:
        CodecError: The file is damaged, exceeds the limits, or its model is not installed.
    """
    from triode.codecs.image import ImageCodec
    from triode.io.pil import picture_to_pil

    return picture_to_pil(ImageCodec(model, limits=limits).decode(data))


def info(source: bytes | BinaryIO | str | _Path, *, limits: DecodeLimits | None = None) -> ImageInfo:
    """Read what a `.tri` file says of itself, without decoding it.

    Args:
        source: Its bytes, a binary file, or a path.
        limits: What the file may ask for.

    Raises:
        CodecError: The file is damaged or exceeds the limits.
        OSError: It cannot be opened.
    """
    from triode.codecs.image import ImageCodec

    codec = ImageCodec(limits=limits)
    if isinstance(source, (str, _Path)):
        with _Path(source).open("rb") as file:
            return codec.info(file)
    return codec.info(source)


def verify(source: bytes | BinaryIO | str | _Path, *, limits: DecodeLimits | None = None) -> ImageInfo:
    """Check a `.tri` file: every checksum, and every symbol, which are decoded; no pixels are made.

    Args:
        source: Its bytes, a binary file, or a path.
        limits: What the file may ask for.

    Returns:
        What the file says of itself.

    Raises:
        CodecError: The file does not check, or its model is not installed.
        OSError: It cannot be opened.
    """
    from triode.codecs.image import verify as check

    if isinstance(source, (str, _Path)):
        with _Path(source).open("rb") as file:
            return check(file, limits=limits)
    return check(source, limits=limits)


class File:
    """An open `.tri` file; `triode.open` makes it.

    Use it in a `with` statement, or close it.
    """

    def __init__(self, source: BinaryIO, *, model: str | None = None, limits: DecodeLimits | None = None) -> None:
        """Read what the file says of itself; `source` must be able to seek, and becomes this object's to close."""
        from triode.codecs.image import ImageCodec

        self._source = source
        self._codec = ImageCodec(model, limits=limits)
        self._info = self._codec.info(source)

    @property
    def info(self) -> ImageInfo:
        """What the file says of itself."""
        return self._info

    def read(self) -> Image:
        """Decode the image.

        Raises:
            CodecError: The file is damaged, or its model is not installed.
            ValueError: The file is closed.
        """
        from triode.io.pil import picture_to_pil

        self._source.seek(0)
        return picture_to_pil(self._codec.decode(self._source))

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def __enter__(self) -> File:
        """Return this object."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: _TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()


def open(path: str | _Path, *, model: str | None = None, limits: DecodeLimits | None = None) -> File:
    """Open a `.tri` file.

    Args:
        path: Its path.
        model: Weights to use in place of those that the file names.
        limits: What the file may ask for.

    Returns:
        An object whose `info` says what the file is, and whose `read()` decodes it.

    Raises:
        CodecError: The file is damaged or exceeds the limits.
        OSError: It cannot be opened.
    """
    source = _Path(path).open("rb")  # noqa: SIM115  # `File` closes it
    try:
        return File(source, model=model, limits=limits)
    except BaseException:
        source.close()
        raise


def save(
    path: str | _Path,
    image: Any,
    *,
    quality: float | None = None,
    model: str | None = None,
    bpp: float | None = None,
    size: int | None = None,
    psnr: float | None = None,
    convert: bool = False,
    strip: bool = False,
    overwrite: bool = True,
) -> None:
    """Encode an image to a file, which appears whole or not at all.

    Args:
        path: The file, usually with the suffix `.tri`. Its folder must exist.
        image: As for `encode`.
        quality: As for `encode`.
        model: As for `encode`.
        bpp: As for `encode`.
        size: As for `encode`.
        psnr: As for `encode`.
        convert: As for `encode`.
        strip: As for `encode`.
        overwrite: Whether an existing file may be replaced.

    Raises:
        FileExistsError: The file exists, and `overwrite` is not set.
        OSError: The file cannot be written.
        CodecError: As for `encode`, as are TypeError and ValueError.
    """
    from triode.io.files import atomic_write, check_target

    target = _Path(path)
    check_target(target, overwrite=overwrite)
    data = encode(image, quality=quality, model=model, bpp=bpp, size=size, psnr=psnr, convert=convert, strip=strip)
    with atomic_write(target, overwrite=overwrite) as file:
        file.write(data)


def list_models(pattern: str = "*", *, pretrained: bool = False) -> list[str]:
    """List models by name.

    Args:
        pattern: Shell pattern that the names match.
        pretrained: Whether to list weights that are installed, such as `image-light.v1`, instead of architectures.

    Returns:
        Names that `create_model` takes, sorted.
    """
    if not pretrained:
        from triode.models.registry import list_architectures

        return list_architectures(pattern)

    from fnmatch import fnmatchcase

    from triode.models.weights import list_weights

    return [found.name for found in list_weights() if fnmatchcase(found.name, pattern)]


def create_model(name: str, *, pretrained: bool = False, **changes: Any) -> nn.Module:
    """Create a model, for research; to encode files, `encode` needs none.

    Args:
        name: Name of an architecture; with `pretrained`, also the name of weights or the path of a `.safetensors`.
        pretrained: Whether to load weights: of an architecture its default ones, or else its newest.
        changes: Fields of the configuration to change, of a model without weights.

    Returns:
        The model: fresh and in training mode, or pretrained, in evaluation mode, its parameters frozen. It is the
        caller's own.

    Raises:
        ModelMismatchError: There is no such model or field, or there are no weights for it.
        ValueError: `changes` to a pretrained model.
    """
    if not pretrained:
        from triode.models.registry import create_model as build

        return build(name, **changes)
    if changes:
        raise ValueError(f"the configuration of a pretrained model is fixed, got {', '.join(sorted(changes))}")

    from copy import deepcopy

    from torch import nn

    from triode.models.weights import load_weights

    return deepcopy(load_weights(_weights_of(name), nn.Module).model)


def _weights_of(name: str) -> str:
    """Return the weights that `name` means: themselves, or the default or newest of the architecture of that name."""
    from triode.models.weights import default_weights, list_weights

    found = [weights.name for weights in list_weights() if weights.architecture == name]
    if not found or name in found:
        return name
    defaults = {default_weights(weights.media) for weights in list_weights() if weights.architecture == name}
    return min((key not in defaults, -_version(key), key) for key in found)[2]


def _version(name: str) -> int:
    """Return N of `family-size.vN`, 0 where there is none."""
    tail = name.rpartition(".v")[2]
    return int(tail) if tail.isdecimal() else 0


def __getattr__(name: str) -> Any:
    """Load the classes that need NumPy or torch when they are first asked for."""
    if name in _LAZY:
        from importlib import import_module

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)

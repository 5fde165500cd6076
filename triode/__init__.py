"""Triode: learned codecs for images, audio and video.

`encode` and `decode` go from a picture, a recording or a clip to bytes and back; `open` and `save` do it with files.
Importing this module loads neither torch nor NumPy: they come with the first call that needs them.
"""

from __future__ import annotations

from collections.abc import Mapping as _Mapping
from pathlib import Path as _Path
from types import MappingProxyType as _MappingProxyType
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

    from triode.api import File
    from triode.codecs.audio import AudioCodec, EncodedSound
    from triode.codecs.image import Encoded, ImageCodec
    from triode.codecs.info import AudioInfo, ImageInfo, VideoInfo
    from triode.codecs.video import ClipFrames, EncodedClip, VideoCodec
    from triode.container import DecodeLimits
    from triode.media import Clip, Picture, Sound

__all__ = [
    "AudioCodec",
    "AudioInfo",
    "BitstreamError",
    "Clip",
    "ClipFrames",
    "CodecError",
    "DecodeLimits",
    "Encoded",
    "EncodedClip",
    "EncodedSound",
    "EntropyMismatchError",
    "File",
    "ImageCodec",
    "ImageInfo",
    "LimitExceededError",
    "ModelMismatchError",
    "Picture",
    "Sound",
    "TruncatedError",
    "UnsupportedError",
    "VerifyError",
    "VideoCodec",
    "VideoInfo",
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
        "AudioCodec": "triode.codecs.audio",
        "AudioInfo": "triode.codecs.sound_info",
        "Clip": "triode.media",
        "ClipFrames": "triode.codecs.video",
        "DecodeLimits": "triode.container",
        "Encoded": "triode.codecs.image",
        "EncodedClip": "triode.codecs.video",
        "EncodedSound": "triode.codecs.audio",
        "File": "triode.api",
        "ImageCodec": "triode.codecs.image",
        "ImageInfo": "triode.codecs.image_info",
        "Picture": "triode.media",
        "Sound": "triode.media",
        "VideoCodec": "triode.codecs.video",
        "VideoInfo": "triode.codecs.video_info",
    }
)


def encode(
    media: Any,
    *,
    quality: float | None = None,
    model: str | None = None,
    bpp: float | None = None,
    kbps: float | None = None,
    size: int | None = None,
    psnr: float | None = None,
    rate: int | None = None,
    audio: str = "copy",
    convert: bool = False,
    strip: bool = False,
) -> bytes:
    """Encode an image, a recording or a clip.

    Args:
        media: A Pillow image, whose ICC, EXIF and XMP are kept and whose EXIF orientation is applied; a NumPy array
            (H, W) or (H, W, C) uint8; a tensor (C, H, W) uint8 or floating-point in 0..1; or a `Picture`. C is 1
            (grey), 2 (grey, alpha), 3 (RGB) or 4 (RGBA). Alpha is stored without loss.
            Or a `Sound`; with `rate`, a NumPy array or a tensor (T,) or (C, T), floating-point in -1..1 or int16; or
            the path of a recording (WAV, FLAC, MP3, Opus, Ogg and more, by its suffix), which is read block by block.
            Recordings have 1 to 8 channels.
            Or a `Clip`, or the path of a video (MP4, Matroska, y4m and more, by its suffix), which is read a few frames
            at a time.
        quality: 0 to 100, the same meaning for every model; 50 if no other target is given.
        model: Name of the weights or path of a `.safetensors`; None for the default, of a recording by its sample rate
            and channels.
        bpp: Largest rate of the file in bits a pixel, instead of a quality; images only.
        kbps: Largest rate of the file in thousand bits a second, instead of a quality; recordings and clips only.
        size: Largest file in bytes, instead of a quality; not of clips.
        psnr: Smallest PSNR in dB, instead of a quality; images only.
        rate: Samples per second, where `media` is an array or a tensor of samples.
        audio: What becomes of the sound of a video: `copy` takes its packets as they are, `triode` codes it by the
            weights for sound, `none` leaves it out.
        convert: Whether CMYK, YCbCr, CIELAB, 16-bit and float Pillow images may be converted to 8-bit.
        strip: Whether to leave out the metadata.

    Returns:
        A `.tri` file.

    Raises:
        TypeError: Another kind of object.
        ValueError: Another shape or range, more than one target, or a target for another kind of media.
        CodecError: A recording's or a video's file that is damaged or of an unknown format.
        UnsupportedError: An animation, pixels that need `convert`, a target that no quality reaches.
        ModelMismatchError: The weights are not installed.
        OSError: A recording's or a video's file cannot be read.
    """
    from triode.api import encode_to

    return encode_to(
        None,
        media,
        rate=rate,
        audio=audio,
        model=model,
        quality=quality,
        bpp=bpp,
        kbps=kbps,
        size=size,
        psnr=psnr,
        convert=convert,
        strip=strip,
    )


def decode(
    data: bytes | BinaryIO, *, model: str | None = None, limits: DecodeLimits | None = None
) -> Image | Sound | Clip:
    """Decode a `.tri` file.

    Args:
        data: The file's bytes, or a binary file, which need not seek.
        model: Weights to use in place of those that the file names.
        limits: What the file may ask for; None for `DecodeLimits()`.

    Returns:
        A Pillow image of mode L, LA, RGB or RGBA, its ICC profile, EXIF and XMP in `info`; or a `Sound` of exactly the
        samples, channels and rate that were encoded; or a `Clip` of exactly the frames, without its sound.

    Raises:
        CodecError: The file is damaged, exceeds the limits, or its model is not installed.
    """
    from triode.api import decode_to_memory, find_codec

    return decode_to_memory(*find_codec(data, model, limits))


def info(
    source: bytes | BinaryIO | str | _Path, *, limits: DecodeLimits | None = None
) -> ImageInfo | AudioInfo | VideoInfo:
    """Read what a `.tri` file says of itself, without decoding it.

    Args:
        source: Its bytes, a binary file, or a path.
        limits: What the file may ask for.

    Raises:
        CodecError: The file is damaged or exceeds the limits.
        OSError: It cannot be opened.
    """
    from triode.codecs.info import read_info

    if isinstance(source, (str, _Path)):
        with _Path(source).open("rb") as opened:
            return read_info(opened, limits)
    return read_info(source, limits)


def verify(
    source: bytes | BinaryIO | str | _Path, *, limits: DecodeLimits | None = None
) -> ImageInfo | AudioInfo | VideoInfo:
    """Check a `.tri` file: every checksum, and every symbol, which are decoded; no pixels or samples are made.

    Args:
        source: Its bytes, a binary file, or a path.
        limits: What the file may ask for.

    Returns:
        What the file says of itself.

    Raises:
        CodecError: The file does not check, or its model is not installed.
        OSError: It cannot be opened.
    """
    from triode.api import find_codec

    if isinstance(source, (str, _Path)):
        with _Path(source).open("rb") as opened:
            return verify(opened, limits=limits)
    codec, file = find_codec(source, None, limits)
    return codec.verify(file)


def open(path: str | _Path, *, model: str | None = None, limits: DecodeLimits | None = None) -> File:
    """Open a `.tri` file.

    Args:
        path: Its path.
        model: Weights to use in place of those that the file names.
        limits: What the file may ask for.

    Returns:
        An object whose `info` says what the file is, and whose `read()` decodes it. Of a recording, `file[a:b]` decodes
        samples a to b, and `blocks()` all of it in bounded memory; of a clip, `file[a:b]` decodes frames a to b, and
        `frames()` all of it or a part in bounded memory.

    Raises:
        CodecError: The file is damaged or exceeds the limits.
        OSError: It cannot be opened.
    """
    from triode.api import File

    source = _Path(path).open("rb")  # noqa: SIM115  # `File` closes it
    try:
        return File(source, model=model, limits=limits)
    except BaseException:
        source.close()
        raise


def save(
    path: str | _Path,
    media: Any,
    *,
    quality: float | None = None,
    model: str | None = None,
    bpp: float | None = None,
    kbps: float | None = None,
    size: int | None = None,
    psnr: float | None = None,
    rate: int | None = None,
    audio: str = "copy",
    convert: bool = False,
    strip: bool = False,
    overwrite: bool = True,
) -> None:
    """Encode an image, a recording or a clip to a file, which appears whole or not at all.

    Args:
        path: The file, usually with the suffix `.tri`. Its folder must exist.
        media: As for `encode`.
        quality: As for `encode`.
        model: As for `encode`.
        bpp: As for `encode`.
        kbps: As for `encode`.
        size: As for `encode`.
        psnr: As for `encode`.
        rate: As for `encode`.
        audio: As for `encode`.
        convert: As for `encode`.
        strip: As for `encode`.
        overwrite: Whether an existing file may be replaced.

    Raises:
        FileExistsError: The file exists, and `overwrite` is not set.
        OSError: The file cannot be written.
        CodecError: As for `encode`, as are TypeError and ValueError.
    """
    from triode.api import encode_to
    from triode.io.files import atomic_write

    with atomic_write(_Path(path), overwrite=overwrite) as file:
        encode_to(
            file,
            media,
            rate=rate,
            audio=audio,
            model=model,
            quality=quality,
            bpp=bpp,
            kbps=kbps,
            size=size,
            psnr=psnr,
            convert=convert,
            strip=strip,
        )


def list_models(pattern: str = "*", *, pretrained: bool = False) -> list[str]:
    """List models by name.

    Args:
        pattern: Shell pattern that the names match.
        pretrained: Whether to list weights that are installed, such as `image-light.v5`, instead of architectures.

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
    from contextlib import suppress

    from triode.models.weights import default_weights, list_weights

    found = [weights.name for weights in list_weights() if weights.architecture == name]
    if not found or name in found:
        return name
    defaults = set()
    for media in {weights.media for weights in list_weights() if weights.architecture == name}:
        with suppress(ModelMismatchError):  # this medium has no default here
            defaults.add(default_weights(media))
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

"""Items of a bench: found in folders, loaded as codecs and metrics take them, and described for the results."""

from __future__ import annotations

import errno
import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from triode.container import SIGNATURE, ContainerReader
from triode.errors import UnsupportedError
from triode.eval.results import ItemFacts
from triode.io import audio, image, video
from triode.media import Clip, Picture, Sound

__all__ = ["MEDIA", "Item", "find_items", "guess_media", "item_facts", "load_item", "unique_names"]

Item = NDArray[np.uint8] | Sound | Clip
"""Pixels (H, W, 3) uint8 sRGB, a recording, or a clip."""

MEDIA: Final = ("image", "audio", "video")
_SUFFIXES: Final = {"image": image.READABLE, "audio": audio.READABLE, "video": video.READABLE}
_FTYP_AUDIO: Final = (b"M4A ", b"M4B ", b"M4P ")
_FTYP_IMAGE: Final = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"jp2 ")
_MAGIC: Final = (
    (b"fLaC", "audio"),
    (b"OggS", "audio"),
    (b"ID3", "audio"),
    (b"FORM", "audio"),
    (b".snd", "audio"),
    (b"caff", "audio"),
    (b"\x1a\x45\xdf\xa3", "video"),
    (b"YUV4MPEG2 ", "video"),
    (b"DKIF", "video"),
    (b"\x89PNG", "image"),
    (b"\xff\xd8\xff", "image"),
    (b"GIF8", "image"),
    (b"BM", "image"),
    (b"II*\0", "image"),
    (b"MM\0*", "image"),
    (b"\0\0\0\x0cjP  ", "image"),
    (b"P4", "image"),
    (b"P5", "image"),
    (b"P6", "image"),
    (b"8BPS", "image"),
)
_RIFF: Final = {b"WAVE": "audio", b"AVI ": "video", b"WEBP": "image"}
_MAGIC_BYTES: Final = 16


def load_item(path: Path, media: str | None = None) -> Item:
    """Read a file as an item.

    An image becomes 8-bit RGB: upright, grey repeated, deeper samples rounded, CMYK and CIELAB by their profile; alpha
    is dropped, so that the colour under it counts as it is stored; RGB samples are taken as sRGB whatever profile they
    have. A recording keeps its channels and rate. A clip becomes 8-bit 4:2:0 in the size and colour matrix that it has.
    A `.tri` file is decoded by its own model.

    Args:
        path: The file.
        media: ``image``, ``audio`` or ``video``; None to go by the file, see :func:`guess_media`.

    Raises:
        ValueError: If `media` is another word.
        UnsupportedError: If the file is of another medium, or of a format or kind that is not read.
        CodecError: If the file is damaged or too large; `read_picture`, `read_sound` and `read_clip` say how.
        OSError: If it cannot be opened.
    """
    if media is not None:
        _check_media(media)
    start = _start(path)
    if start.startswith(SIGNATURE):
        return _load_tri(path, media)
    media = media or _guess(path, start)
    if media == "audio":
        return audio.read_sound(path)
    if media == "video":
        return video.read_clip(path)
    return _to_rgb(image.read_picture(path, convert=True, strip=True))


def guess_media(path: Path) -> str:
    """Return ``image``, ``audio`` or ``video``: a `.tri` file says it, others by suffix, or else by their first bytes.

    Raises:
        UnsupportedError: If neither is known.
        OSError: If the file cannot be opened.
    """
    start = _start(path)
    return _media_of_tri(path) if start.startswith(SIGNATURE) else _guess(path, start)


def find_items(paths: Sequence[Path], media: str) -> list[Path]:
    """List the files of a medium.

    Args:
        paths: Files, taken whatever their suffix, and folders, in which files are looked for by suffix at any depth.
            Names that begin with a full stop are left out, and links to folders are not followed.
        media: ``image``, ``audio`` or ``video``.

    Returns:
        Files in the order of `paths`, those of a folder sorted, each once.

    Raises:
        ValueError: If `media` is another word.
        FileNotFoundError: If a path does not exist, a folder has no such file, or there are no paths.
    """
    _check_media(media)
    if not paths:
        raise FileNotFoundError(errno.ENOENT, f"No files of {media} are named")
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        files = list(_walk(path, _SUFFIXES[media])) if path.is_dir() else [path]
        if not files:
            raise FileNotFoundError(errno.ENOENT, f"No files of {media} in this folder", str(path))
        for file in files:
            found.setdefault(file.resolve(), file)
    return list(found.values())


def unique_names(paths: Sequence[Path]) -> list[str]:
    """Return a name for each file: its own without suffix, where two are alike with its folder's, then with a number.

    Args:
        paths: Files, as :func:`find_items` lists them.

    Returns:
        Names in the order of the paths, no two alike.
    """
    names = [path.stem for path in paths]
    for longer in ([f"{p.parent.name}-{p.stem}" for p in paths], [f"{p.parent.name}-{p.name}" for p in paths]):
        count = Counter(names)
        names = [long if count[name] > 1 else name for name, long in zip(names, longer, strict=True)]
    taken: set[str] = set()
    for place, name in enumerate(names):
        unique, number = name, 1
        while unique in taken or (number > 1 and unique in names):
            number += 1
            unique = f"{name}-{number}"
        names[place] = unique
        taken.add(unique)
    return names


def item_facts(path: Path, item: Item, name: str | None = None) -> ItemFacts:
    """Describe an item for the results.

    Args:
        path: The file that it was loaded from.
        item: What :func:`load_item` returned.
        name: Its name in the results; by default the file's without suffix.

    Returns:
        Facts; ``raw_bytes`` counts 3 bytes a pixel, 2 bytes a sample (16-bit PCM), 1.5 bytes a pixel of a frame.

    Raises:
        OSError: If the file cannot be read.
    """
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    units: float
    shape: tuple[int, ...]
    if isinstance(item, Sound):
        units, shape, raw = item.seconds, (item.channels, item.rate), 2 * item.samples.size
    elif isinstance(item, Clip):
        units, shape = item.seconds, (item.width, item.height, item.frames)
        raw = item.y.size + item.u.size + item.v.size
    else:
        height, width = item.shape[:2]
        units, shape, raw = height * width, (width, height), item.size
    return ItemFacts(name or path.stem, digest, units, shape, raw)


def _check_media(media: str) -> None:
    if media not in MEDIA:
        raise ValueError(f"Argument `media` must be one of {', '.join(MEDIA)}, but got {media!r}")


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_MAGIC_BYTES)


def _guess(path: Path, start: bytes) -> str:
    suffix = path.suffix.lower()
    for media, suffixes in _SUFFIXES.items():
        if suffix in suffixes:
            return media
    if start[:4] in (b"RIFF", b"RF64") and start[8:12] in _RIFF:
        return _RIFF[start[8:12]]
    if start[4:8] == b"ftyp":
        brand = start[8:12]
        return "audio" if brand in _FTYP_AUDIO else "image" if brand in _FTYP_IMAGE else "video"
    for magic, media in _MAGIC:
        if start.startswith(magic):
            return media
    raise UnsupportedError(f"neither the name nor the first bytes of {path.name} say what medium it is")


def _media_of_tri(path: Path) -> str:
    with path.open("rb") as file:
        return ContainerReader(file).head.media.name.lower()


def _load_tri(path: Path, media: str | None) -> Item:
    """Decode a `.tri` file by the model that it names."""
    found = _media_of_tri(path)
    if media not in (None, found):
        raise UnsupportedError(f"{path.name} holds {found}, where {media} is wanted")
    from triode.codecs.audio import AudioCodec
    from triode.codecs.image import ImageCodec
    from triode.codecs.video import VideoCodec

    with path.open("rb") as file:
        if found == "video":
            return VideoCodec().decode(file)
        return AudioCodec().decode(file) if found == "audio" else _to_rgb(ImageCodec().decode(file))


def _to_rgb(picture: Picture) -> NDArray[np.uint8]:
    colours = picture.pixels[:, :, :1] if picture.is_grey else picture.pixels[:, :, :3]
    return np.ascontiguousarray(np.broadcast_to(colours, (picture.height, picture.width, 3)))


def _walk(folder: Path, suffixes: frozenset[str]) -> Iterator[Path]:
    """Yield the files below a folder that have one of the suffixes, in a fixed order."""
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and Path(name).suffix.lower() in suffixes:
                yield Path(root, name)

"""What `triode.encode`, `decode`, `open` and their kin do: find the medium, then ask its codec."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from triode.codecs.sources import peek_media
from triode.container import DecodeLimits, Media
from triode.media import Sound

if TYPE_CHECKING:
    from PIL.Image import Image

    from triode.codecs.audio import AudioCodec, AudioInfo
    from triode.codecs.image import ImageCodec, ImageInfo
    from triode.codecs.sound_decoding import SoundBlocks

__all__ = ["File", "decode_to_memory", "encode_to", "find_codec"]


def encode_to(
    target: BinaryIO | None,
    media: Any,
    *,
    rate: int | None,
    model: str | None,
    quality: float | None,
    bpp: float | None,
    kbps: float | None,
    size: int | None,
    psnr: float | None,
    convert: bool,
    strip: bool,
) -> bytes:
    """Encode to a file, or where there is none return its bytes; `triode.encode` has arguments and errors."""
    if _is_sound(media, rate):
        if bpp is not None or psnr is not None or convert:
            raise ValueError("bpp, psnr and convert are for images; a recording takes quality, kbps or size")
        return _encode_sound(target, media, rate, model, strip=strip, quality=quality, kbps=kbps, size=size)
    if kbps is not None:
        raise ValueError("kbps is for recordings; an image takes quality, bpp, size or psnr")
    from triode.codecs.image import ImageCodec
    from triode.io.arrays import to_picture

    picture = to_picture(media, convert=convert, strip=strip)
    data = ImageCodec(model).encode(picture, quality=quality, bpp=bpp, size=size, psnr=psnr).data
    if target is not None:
        target.write(data)
    return data


def _is_sound(media: Any, rate: int | None) -> bool:
    """Say whether what is to be encoded is a recording: samples with their rate, or a file that is named so."""
    from triode.io.audio import READABLE

    return rate is not None or isinstance(media, Sound) or _suffix(media) in READABLE


def _suffix(media: Any) -> str:
    return Path(media).suffix.lower() if isinstance(media, str | Path) else ""


def _encode_sound(
    target: BinaryIO | None, media: Any, rate: int | None, model: str | None, *, strip: bool, **bounds: Any
) -> bytes:
    from triode.codecs.audio import AudioCodec
    from triode.io.arrays import to_sound
    from triode.io.audio import SoundReader

    codec = AudioCodec(model)
    if isinstance(media, str | Path):
        if rate is not None:
            raise ValueError("rate is for samples in memory; a file says its own")
        with SoundReader(Path(media)) as reader:
            found = codec.encode(reader, target, tags=() if strip else reader.tags, **bounds)
    else:
        found = codec.encode(to_sound(media, rate), target, tags=() if strip else None, **bounds)
    return found.data or b""


def find_codec(
    source: bytes | BinaryIO, model: str | None, limits: DecodeLimits | None
) -> tuple[ImageCodec | AudioCodec, BinaryIO]:
    """Return the codec of what a file holds, and the file, still to be read.

    Raises:
        CodecError: The file is damaged or exceeds the limits.
    """
    media, file = peek_media(source, limits or DecodeLimits())
    if media == Media.AUDIO:
        from triode.codecs.audio import AudioCodec

        return AudioCodec(model, limits=limits), file
    from triode.codecs.image import ImageCodec

    return ImageCodec(model, limits=limits), file


def decode_to_memory(codec: ImageCodec | AudioCodec, file: BinaryIO) -> Image | Sound:
    """Decode a file; `triode.decode` has results and errors."""
    found = codec.decode(file)
    if isinstance(found, Sound):
        return found
    from triode.io.pil import picture_to_pil

    return picture_to_pil(found)


class File:
    """An open `.tri` file; `triode.open` makes it.

    Use it in a `with` statement, or close it.
    """

    def __init__(self, source: BinaryIO, *, model: str | None = None, limits: DecodeLimits | None = None) -> None:
        """Read what the file says of itself; `source` must be able to seek, and becomes this object's to close."""
        self._source = source
        self._codec, _ = find_codec(source, model, limits)
        self._info = self._codec.info(source)

    @property
    def info(self) -> ImageInfo | AudioInfo:
        """What the file says of itself."""
        return self._info

    def read(self) -> Image | Sound:
        """Decode the image or the recording.

        Raises:
            CodecError: The file is damaged, or its model is not installed.
            ValueError: The file is closed.
        """
        self._source.seek(0)
        return decode_to_memory(self._codec, self._source)

    def __getitem__(self, part: slice) -> Sound:
        """Decode a part of a recording, given by numbers of samples; no more is read of the file than it needs.

        Raises:
            TypeError: The file holds no recording, or what is given is no slice of whole numbers.
            ValueError: The slice has a step.
            CodecError: As for `read`.
        """
        if not isinstance(part, slice):
            raise TypeError(f"a part of a recording is a slice of samples, got {part!r}")
        codec, samples = self._sound()
        start, stop, step = part.indices(samples)
        if step != 1:
            raise ValueError(f"a part of a recording has every sample, got a step of {step}")
        return codec.decode(self._source, start=start, stop=max(start, stop))

    def blocks(self) -> SoundBlocks:
        """Decode a recording block by block, which takes the same memory for any length.

        Returns:
            An iterable of (C, T) float32 blocks, which can be gone through once; it has `rate`, `channels`, `samples`.

        Raises:
            TypeError: The file holds no recording.
            CodecError: As for `read`; going through the blocks may raise it too.
        """
        return self._sound()[0].blocks(self._source)

    def _sound(self) -> tuple[AudioCodec, int]:
        """Go to the beginning of a recording; return its codec and number of samples."""
        if self._info.media != "audio":
            raise TypeError(f"the file holds an {self._info.media}; only recordings are read in parts")
        self._source.seek(0)
        return cast("AudioCodec", self._codec), cast("AudioInfo", self._info).samples

    def close(self) -> None:
        """Close the file."""
        self._source.close()

    def __enter__(self) -> File:
        """Return this object."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()

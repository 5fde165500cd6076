"""What `triode.encode`, `decode`, `open` and their kin do: find the medium, then ask its codec."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from triode.codecs.sources import peek_media
from triode.container import DecodeLimits, Media
from triode.media import Clip, Sound

if TYPE_CHECKING:
    from PIL.Image import Image

    from triode.codecs.audio import AudioCodec, AudioInfo
    from triode.codecs.image import ImageCodec, ImageInfo
    from triode.codecs.sound_decoding import SoundBlocks
    from triode.codecs.video import ClipFrames, VideoCodec, VideoInfo
    from triode.codecs.video_sound import SoundOfVideo

__all__ = ["File", "decode_to_memory", "encode_to", "find_codec"]

_NAMES: Final = {"image": "an image", "audio": "a recording", "video": "a clip"}


def encode_to(
    target: BinaryIO | None,
    media: Any,
    *,
    rate: int | None,
    audio: str,
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
    if _is_clip(media):
        if rate is not None or bpp is not None or psnr is not None or size is not None or convert:
            raise ValueError("rate, bpp, psnr, size and convert are not for clips; a clip takes quality or kbps")
        return _encode_clip(target, media, model, audio, quality=quality, kbps=kbps)
    if _is_sound(media, rate):
        if bpp is not None or psnr is not None or convert:
            raise ValueError("bpp, psnr and convert are for images; a recording takes quality, kbps or size")
        return _encode_sound(target, media, rate, model, strip=strip, quality=quality, kbps=kbps, size=size)
    if kbps is not None:
        raise ValueError("kbps is for recordings and clips; an image takes quality, bpp, size or psnr")
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


def _is_clip(media: Any) -> bool:
    """Say whether what is to be encoded is a clip: frames, or a file that is named so."""
    from triode.io.video import READABLE

    return isinstance(media, Clip) or _suffix(media) in READABLE


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


def _encode_clip(target: BinaryIO | None, media: Any, model: str | None, audio: str, **bounds: Any) -> bytes:
    from triode.codecs.video import VideoCodec
    from triode.codecs.video_sound import CopiedSound, TriodeSoundOfVideo
    from triode.io.track_samples import TrackReader
    from triode.io.tracks import NoSoundError, PacketReader
    from triode.io.y4m import Y4mReader, open_clip

    if audio not in {"copy", "triode", "none"}:
        raise ValueError(f"Argument `audio` must be copy, triode or none, but got {audio!r}")
    codec = VideoCodec(model)
    if isinstance(media, Clip):
        return codec.encode(media, target, **bounds).data or b""
    with ExitStack() as stack:
        frames = open_clip(Path(media))
        stack.callback(frames.close)
        sound: SoundOfVideo | None = None
        if audio != "none" and not isinstance(frames, Y4mReader):
            with suppress(NoSoundError):
                if audio == "copy":
                    sound = CopiedSound(stack.enter_context(PacketReader(Path(media))))
                else:
                    track = stack.enter_context(TrackReader(Path(media)))
                    sound = TriodeSoundOfVideo.of(track, bounds["quality"])
        return codec.encode(frames, target, sound=sound, **bounds).data or b""


def find_codec(
    source: bytes | BinaryIO, model: str | None, limits: DecodeLimits | None
) -> tuple[ImageCodec | AudioCodec | VideoCodec, BinaryIO]:
    """Return the codec of what a file holds, and the file, still to be read.

    Raises:
        CodecError: The file is damaged or exceeds the limits.
    """
    media, file = peek_media(source, limits or DecodeLimits())
    if media == Media.AUDIO:
        from triode.codecs.audio import AudioCodec

        return AudioCodec(model, limits=limits), file
    if media == Media.VIDEO:
        from triode.codecs.video import VideoCodec

        return VideoCodec(model, limits=limits), file
    from triode.codecs.image import ImageCodec

    return ImageCodec(model, limits=limits), file


def decode_to_memory(codec: ImageCodec | AudioCodec | VideoCodec, file: BinaryIO) -> Image | Sound | Clip:
    """Decode a file; `triode.decode` has results and errors."""
    found = codec.decode(file)
    if isinstance(found, Sound | Clip):
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
    def info(self) -> ImageInfo | AudioInfo | VideoInfo:
        """What the file says of itself."""
        return self._info

    def read(self) -> Image | Sound | Clip:
        """Decode the image, the recording or the clip.

        Raises:
            CodecError: The file is damaged, or its model is not installed.
            ValueError: The file is closed.
        """
        self._source.seek(0)
        return decode_to_memory(self._codec, self._source)

    def __getitem__(self, part: slice) -> Sound | Clip:
        """Decode a part of a recording or a clip, given by numbers of samples or frames.

        No more is read of the file than it needs. Times of the frames begin anew with the part.

        Raises:
            TypeError: The file holds an image, or what is given is no slice of whole numbers.
            ValueError: The slice has a step, or it is one of a clip with no frame in it.
            CodecError: As for `read`.
        """
        if not isinstance(part, slice):
            raise TypeError(f"a part is a slice of samples or frames, got {part!r}")
        if self._info.media == "video":
            video, count = self._video()
            start, stop, step = part.indices(count)
            if step != 1 or stop <= start:
                raise ValueError(f"a part of a clip has every frame, and at least one, got {start}:{stop}:{step}")
            return video.decode(self._source, start=start, stop=stop)
        codec, samples = self._sound()
        start, stop, step = part.indices(samples)
        if step != 1:
            raise ValueError(f"a part of a recording has every sample, got a step of {step}")
        return codec.decode(self._source, start=start, stop=max(start, stop))

    def frames(self, start: int | Fraction = 0, stop: int | Fraction | None = None) -> ClipFrames:
        """Decode a clip or a part of it group by group, which takes the same memory for any length.

        Args:
            start: The first frame wanted, or, as a `Fraction`, the time in seconds at which frames may begin.
            stop: The frame after the last one wanted, or, as a `Fraction`, the time before which frames begin; None for
                the end.

        Returns:
            An iterable of `Clip`s, which can be gone through once; it has `width`, `height`, `rate` and more.

        Raises:
            TypeError: The file holds no clip.
            ValueError: The part is none.
            CodecError: As for `read`; going through the frames may raise it too, and names the group of pictures.
        """
        return self._video()[0].frames(self._source, start=start, stop=stop)

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
            raise TypeError(f"the file holds {_NAMES[self._info.media]}, no recording")
        self._source.seek(0)
        return cast("AudioCodec", self._codec), cast("AudioInfo", self._info).samples

    def _video(self) -> tuple[VideoCodec, int]:
        """Go to the beginning of a clip; return its codec and number of frames."""
        if self._info.media != "video":
            raise TypeError(f"the file holds {_NAMES[self._info.media]}, no clip")
        self._source.seek(0)
        return cast("VideoCodec", self._codec), cast("VideoInfo", self._info).frames

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

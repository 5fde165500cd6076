"""What a decoder is willing to spend on a file: checked against declared sizes before anything is allocated."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from triode.errors import LimitExceededError

__all__ = ["DEFAULT_LIMITS", "DecodeLimits"]


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """Upper bounds for one file; `None` means no bound.

    A size above its bound raises `LimitExceededError`, which says nothing about the file being valid or not.

    Attributes:
        max_pixels: Width times height of an image, or of one video frame. The default is what Pillow refuses.
        max_units: `DATA` units (tiles, stretches of audio, groups of pictures).
        max_chunks: Chunks of any type, skipped ones included.
        max_chunk_bytes: Payload of one chunk, in bytes.
        max_metadata_bytes: All `iccp`, `exif`, `xmp_` and `text` payloads together, in bytes.
        max_model_name: Model name, in bytes. The format itself allows 64.
        max_frames: Frames of a video.
        max_samples: Samples of audio, per channel.
        max_channels: Channels of audio.
        max_memory_bytes: What a codec expects to allocate for decoding, and the payload of one chunk, in bytes.
    """

    max_pixels: int | None = 178_956_970
    max_units: int | None = 1 << 20
    max_chunks: int | None = 1 << 21
    max_chunk_bytes: int | None = 1 << 30
    max_metadata_bytes: int | None = 1 << 24
    max_model_name: int | None = 64
    max_frames: int | None = 1 << 22
    max_samples: int | None = 1 << 33
    max_channels: int | None = 16
    max_memory_bytes: int | None = 4 << 30

    def __post_init__(self) -> None:
        """Refuse bounds that are not counts."""
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
                raise ValueError(f"{field.name} must be None or an integer >= 0, got {value!r}")

    @classmethod
    def strict(cls) -> DecodeLimits:
        """Bounds for a server that decodes what strangers send."""
        return cls(
            max_pixels=1 << 25,
            max_units=1 << 12,
            max_chunks=1 << 13,
            max_chunk_bytes=1 << 24,
            max_metadata_bytes=1 << 20,
            max_model_name=64,
            max_frames=18_000,
            max_samples=28_800_000,
            max_channels=8,
            max_memory_bytes=1 << 30,
        )

    @classmethod
    def unlimited(cls) -> DecodeLimits:
        """No bounds, for files from a source that is trusted."""
        return cls(**{field.name: None for field in fields(cls)})

    def check_pixels(self, width: int, height: int) -> None:
        """Check the area of an image or a video frame, given in pixels."""
        self._check("max_pixels", width * height, f"{width} x {height} pixels = {width * height}")

    def check_units(self, count: int) -> None:
        """Check the number of `DATA` units."""
        self._check("max_units", count, f"{count} units")

    def check_chunks(self, count: int) -> None:
        """Check the number of chunks read so far."""
        self._check("max_chunks", count, f"{count} chunks")

    def check_chunk_bytes(self, length: int, kind: str) -> None:
        """Check the declared payload length, in bytes, of a chunk of type `kind`."""
        what = f"a {kind} chunk of {length} bytes"
        self._check("max_chunk_bytes", length, what)
        self._check("max_memory_bytes", length, what)

    def check_metadata_bytes(self, total: int) -> None:
        """Check the total size of the metadata, in bytes."""
        self._check("max_metadata_bytes", total, f"{total} bytes of metadata")

    def check_model_name(self, length: int) -> None:
        """Check the length of the model name, in bytes."""
        self._check("max_model_name", length, f"a model name of {length} bytes")

    def check_frames(self, count: int) -> None:
        """Check the number of video frames."""
        self._check("max_frames", count, f"{count} frames")

    def check_samples(self, count: int) -> None:
        """Check the number of audio samples per channel."""
        self._check("max_samples", count, f"{count} samples per channel")

    def check_channels(self, count: int) -> None:
        """Check the number of audio channels."""
        self._check("max_channels", count, f"{count} channels")

    def check_memory_bytes(self, size: int, what: str) -> None:
        """Check an allocation of `size` bytes before it is made; `what` names its purpose in the message."""
        self._check("max_memory_bytes", size, f"{size} bytes of memory for {what}")

    def _check(self, name: str, found: int, what: str) -> None:
        bound: int | None = getattr(self, name)
        if bound is not None and found > bound:
            raise LimitExceededError(f"the file asks for {what}, above the limit {name}={bound}")


DEFAULT_LIMITS: Final = DecodeLimits()

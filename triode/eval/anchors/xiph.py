"""Vorbis and FLAC by the libraries of Xiph.Org, through soundfile."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from triode.errors import UnsupportedError
from triode.eval.anchors.common import container_parts
from triode.eval.anchors.options import Options
from triode.eval.anchors.sounds import check_sound, packet_bytes
from triode.eval.coder import Coder, CoderFacts, register_coder
from triode.io.audio import read_sound
from triode.io.sound_source import import_soundfile
from triode.media import Sound

__all__ = ["FlacCoder", "VorbisCoder"]

_BLOCK: Final = 1 << 16
_VORBIS_BLOCK: Final = 4096  # libsndfile puts more than that on its stack


class VorbisCoder(Coder):
    """Vorbis by libvorbis, in Ogg, through libsndfile. Quality is the encoder's own, 0 to 10.

    Args:
        name: Name in a report.
    """

    media = "audio"
    qualities = (0, 1, 2, 3, 4, 5, 6, 8)

    def __init__(self, name: str) -> None:
        self.name = name
        self._sound = _soundfile()

    def encode(self, item: Any, quality: float) -> bytes:
        """Return an Ogg file.

        Raises:
            ValueError: If `quality` is not in 0..10.
            UnsupportedError: If there are no samples, or libvorbis does not take rate or channels.
        """
        if not 0 <= quality <= 10:
            raise ValueError(f"Quality of {self.name} must be 0..10, but got {quality}")
        samples = check_sound(item, self.name, most=255)
        return _write(self._sound, samples, item.rate, "OGG", "VORBIS", 1 - quality / 10, _VORBIS_BLOCK)

    def decode(self, data: bytes) -> Sound:
        """Return the sound; Ogg's positions give the length."""
        return read_sound(io.BytesIO(data), max_samples=None)

    def payload_bytes(self, data: bytes) -> int:
        """Return the bytes of the sound's packets, without Ogg's pages and Vorbis' three headers (with code books)."""
        return packet_bytes(data)

    def parts(self, data: bytes) -> Mapping[str, int]:
        """Return the bytes of packets and container."""
        return container_parts(len(data), packet_bytes(data))

    def facts(self) -> CoderFacts:
        """Return versions; libvorbis names its own in every file."""
        versions = _soundfile_versions(self._sound)
        probe = self.encode(Sound(np.zeros((1, 256), np.float32), 16000), 0)
        at = probe.find(b"Xiph.Org libVorbis")
        if at >= 0:
            size = int.from_bytes(probe[at - 4 : at], "little")
            versions["libvorbis"] = probe[at : at + min(size, 80)].decode("ascii", "replace")
        options = {"rate control": "quality", "container": "ogg"}
        return CoderFacts("Vorbis (libvorbis)", options=options, versions=versions)


class FlacCoder(Coder):
    """FLAC by libFLAC through libsndfile: without loss for samples of up to 24 bits. Quality is the level, 0 to 8.

    Samples that are 16-bit integers are stored as such, others are rounded to 24 bits.

    Args:
        name: Name in a report.
    """

    media = "audio"
    qualities = (8,)

    def __init__(self, name: str) -> None:
        self.name = name
        self._sound = _soundfile()

    def encode(self, item: Any, quality: float) -> bytes:
        """Return a FLAC file.

        Raises:
            ValueError: If `quality` is not in 0..8.
            UnsupportedError: If there are no samples, or FLAC does not take rate or channels.
        """
        if not 0 <= quality <= 8:
            raise ValueError(f"Quality of {self.name} must be 0..8, but got {quality}")
        samples = check_sound(item, self.name, most=8)
        scaled: NDArray[np.float64] = samples.astype(np.float64) * (1 << 15)
        if np.array_equal(scaled, np.rint(scaled)) and scaled.max() < 1 << 15 and scaled.min() >= -(1 << 15):
            values: NDArray[Any] = scaled.astype(np.int16)
        else:
            most = 1 << 23
            # libsndfile takes the upper 24 bits.
            values = np.rint(scaled * 256).clip(-most, most - 1).astype(np.int32) << 8
        subtype = "PCM_16" if values.dtype == np.int16 else "PCM_24"
        return _write(self._sound, values, item.rate, "FLAC", subtype, quality / 8, _BLOCK)

    def decode(self, data: bytes) -> Sound:
        """Return the sound."""
        return read_sound(io.BytesIO(data), max_samples=None)

    def payload_bytes(self, data: bytes) -> int:
        """Return the bytes of the frames, without the metadata before them (RFC 9639, 8)."""
        at, last = 4, False
        while not last and at + 4 <= len(data):
            last = bool(data[at] & 0x80)
            at += 4 + int.from_bytes(data[at + 1 : at + 4], "big")
        return max(0, len(data) - at)

    def parts(self, data: bytes) -> Mapping[str, int]:
        """Return the bytes of frames and metadata."""
        return container_parts(len(data), self.payload_bytes(data))

    def facts(self) -> CoderFacts:
        """Return versions."""
        return CoderFacts("FLAC (libFLAC)", options={"levels": "0..8"}, versions=_soundfile_versions(self._sound))


def _soundfile() -> Any:
    module = import_soundfile()
    if module is None:
        raise UnsupportedError("this needs soundfile, which is not installed: pip install 'triode[audio]'")
    return module


def _soundfile_versions(module: Any) -> dict[str, str]:
    return {"soundfile": str(module.__version__), "libsndfile": str(module.__libsndfile_version__)}


def _write(
    module: Any, samples: NDArray[Any], rate: int, form: str, subtype: str, compression: float, block: int
) -> bytes:
    """Return a file of libsndfile's; `compression` runs from 0 to 1, large and fast to small."""
    buffer = io.BytesIO()
    options = {"format": form, "subtype": subtype, "compression_level": compression}
    try:
        with module.SoundFile(buffer, "w", rate, samples.shape[0], **options) as file:
            for start in range(0, samples.shape[1], block):
                file.write(np.ascontiguousarray(samples[:, start : start + block].T))
    except module.SoundFileError as error:
        raise UnsupportedError(f"{subtype} does not take {samples.shape[0]} channels of {rate} Hz: {error}") from error
    return buffer.getvalue()


@register_coder("vorbis", "audio")
def _vorbis(given: Mapping[str, str]) -> Coder:
    Options("vorbis", given).done()
    return VorbisCoder("vorbis")


@register_coder("flac", "audio")
def _flac(given: Mapping[str, str]) -> Coder:
    Options("flac", given).done()
    return FlacCoder("flac")

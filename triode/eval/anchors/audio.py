"""Classical codecs of sound: Opus, AAC and MP3 through PyAV; `xiph` adds Vorbis and FLAC.

Each makes a file that any player plays. The delay of encoder and decoder is taken out and the length restored by what
the file itself says. `docs/anchors.md` tells what is counted.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from triode.errors import BitstreamError
from triode.eval.anchors.common import container_parts
from triode.eval.anchors.libraries import pyav_versions
from triode.eval.anchors.options import Options
from triode.eval.anchors.resample import RESAMPLER, resample
from triode.eval.anchors.sounds import check_sound, packet_bytes
from triode.eval.anchors.xiph import FlacCoder, VorbisCoder
from triode.eval.coder import Coder, CoderFacts, register_coder
from triode.io.pyav import import_av, open_input, typed_errors
from triode.media import Sound

__all__ = ["FfmpegAudioCoder", "FlacCoder", "VorbisCoder"]

_OPUS_RATE: Final = 48000
_OPUS_HEAD: Final = slice(12, 16)  # input sample rate, RFC 7845, 5.1
_OPUS_SKIP: Final = slice(10, 12)  # pre-skip
# FFmpeg's decoder keeps back the last samples of a narrow band, or adds some to a very short one.
_OPUS_KEPT: Final = 48
_BLOCK: Final = 1 << 16
# FFmpeg notes the padding of the last packet only, and where little is over LAME adds another one.
_MP3_GRANULE: Final = 576
_MP3_BLIND: Final = 48


@dataclass(frozen=True, slots=True)
class _Family:
    """How FFmpeg is to be used for a codec.

    Attributes:
        title: For people.
        encoder: FFmpeg's name of the encoder.
        container: FFmpeg's name of the file format.
        layout: Sample format of the encoder's input.
        rates: Sample rates that it takes.
        qualities: Default operating points, in kb/s.
        limits: Least and greatest kb/s.
        library: Shared library whose version counts.
    """

    title: str
    encoder: str
    container: str
    layout: str
    rates: tuple[int, ...]
    qualities: tuple[float, ...]
    limits: tuple[float, float]
    library: str = ""


_MPEG_RATES: Final = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_OPUS: Final = _Family(
    "Opus (libopus)", "libopus", "ogg", "flt", (_OPUS_RATE,), (6, 8, 9, 10, 12, 16, 24, 32, 48, 64), (2, 510), "libopus"
)
_AAC: Final = _Family(
    *("AAC-LC (FFmpeg's own encoder)", "aac", "ipod", "fltp", (*_MPEG_RATES, 64000, 88200, 96000)),
    *((16, 24, 32, 48, 64, 96, 128), (8, 512)),
)
_MP3: Final = _Family(
    "MP3 (LAME)", "libmp3lame", "mp3", "fltp", _MPEG_RATES, (16, 24, 32, 48, 64, 96, 128), (8, 320), "libmp3lame"
)


class FfmpegAudioCoder(Coder):
    """A codec of FFmpeg's. Quality is the target of its rate control in kb/s, all channels together.

    A rate that the codec does not take is resampled to the next higher one that it takes, and back; the file notes what
    it was. Mono and stereo only.

    Args:
        name: Name in a report.
        family: How to use FFmpeg.
        options: Options of the encoder, by FFmpeg's names.
        decoder: FFmpeg's name of the decoder; None for its default.
    """

    media = "audio"

    def __init__(self, name: str, family: _Family, options: Mapping[str, str], decoder: str | None = None) -> None:
        import_av("video")
        self.name, self.qualities = name, family.qualities
        self._family, self._options, self._decoder = family, dict(options), decoder

    def encode(self, item: Any, quality: float) -> bytes:
        """Return an Ogg, MP4 or MP3 file.

        Raises:
            ValueError: If `quality` is out of the codec's range.
            UnsupportedError: If there are no samples, or more than two channels.
        """
        low, high = self._family.limits
        if not low <= quality <= high:
            raise ValueError(f"Quality of {self.name} must be {low:g}..{high:g} kb/s, but got {quality}")
        samples = check_sound(item, self.name, most=2)
        rate = self._coded_rate(item.rate)
        note = self._note_needed(item, rate)
        muxing = {"fflags": "+bitexact"}
        if self._family is _AAC:
            muxing["movie_timescale"] = str(rate)  # the edit list, which cuts the padding, counts in these
        if self._family is _MP3 and not note:
            muxing["id3v2_version"] = "0"  # no tag
        buffer = io.BytesIO()
        av = import_av("video")
        with av.open(buffer, "w", format=self._family.container, options=muxing) as container:
            stream = container.add_stream(self._family.encoder, rate=rate, layout=_layout(item.channels))
            stream.bit_rate, stream.options = round(quality * 1000), self._options
            stream.codec_context.flags |= int(av.codec.context.Flags.bitexact)
            if note:
                container.metadata["comment"] = f"rate={item.rate} frames={samples.shape[1]}"
            if self._family is _OPUS:
                stream.codec_context.open()
                head = bytearray(stream.codec_context.extradata or b"")
                head[_OPUS_HEAD] = item.rate.to_bytes(4, "little")
                stream.codec_context.extradata = bytes(head)
            for frame in _frames(resample(samples, item.rate, rate), rate, self._family.layout):
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return buffer.getvalue()

    def decode(self, data: bytes) -> Sound:
        """Return the sound, in the rate and length that it had.

        Raises:
            BitstreamError: If the file is damaged.
        """
        with open_input(io.BytesIO(data), "sound", "video") as container, typed_errors("sound"):
            stream = container.streams.audio[0]
            note = {**container.metadata, **stream.metadata}.get("comment", "")
            context = stream.codec_context
            if self._decoder is not None:
                context = import_av("video").CodecContext.create(self._decoder, "r")
                context.extradata = stream.codec_context.extradata
            context.thread_count = 1
            blocks = [
                _planar(frame.to_ndarray(), frame.layout.nb_channels, is_planar=frame.format.is_planar)
                for packet in container.demux(stream)
                for frame in context.decode(packet if packet.size else None)
            ]
            samples = np.concatenate(blocks, axis=1)
            coded = rate = int(stream.codec_context.sample_rate)
            frames = samples.shape[1]
            if self._family is _AAC and stream.duration is not None and stream.time_base is not None:
                frames = round(stream.duration * stream.time_base * coded)
            if self._family is _OPUS:
                head = stream.codec_context.extradata or b""
                rate = int.from_bytes(head[_OPUS_HEAD], "little")
                if stream.duration is not None:
                    frames = stream.duration - int.from_bytes(head[_OPUS_SKIP], "little")
                    kept = min(max(0, frames - samples.shape[1]), _OPUS_KEPT)
                    samples = np.pad(samples, ((0, 0), (0, kept)), mode="edge")
                frames = frames * rate // coded  # exact for rates up to 48 kHz, above there is a note
            if note:
                rate, frames = (int(part.partition("=")[2]) for part in note.split())
        samples = resample(samples, coded, rate)
        if samples.shape[1] < frames:
            raise BitstreamError(f"the {self.name} file has {samples.shape[1]} samples, not {frames}")
        return Sound(np.ascontiguousarray(samples[:, :frames]), rate)

    def payload_bytes(self, data: bytes) -> int:
        """Return the bytes of all packets, without pages, tables and tags of the file format."""
        return packet_bytes(data)

    def parts(self, data: bytes) -> Mapping[str, int]:
        """Return the bytes of packets and container."""
        return container_parts(len(data), packet_bytes(data))

    def facts(self) -> CoderFacts:
        """Return options and versions."""
        options = {
            "encoder": self._family.encoder,
            "decoder": self._decoder or "FFmpeg's default",
            "container": self._family.container,
            **self._options,
            "rates": list(self._family.rates),
            "resampler": RESAMPLER,
        }
        versions = pyav_versions(*filter(None, (self._family.library,)))
        title = self._family.title
        if self._family is _OPUS:
            title = f"Opus (libopus, application {self._options['application']})"
        return CoderFacts(title, options=options, versions=versions)

    def _coded_rate(self, rate: int) -> int:
        """Return the rate that a recording is coded in."""
        return min((r for r in self._family.rates if r >= rate), default=max(self._family.rates))

    def _note_needed(self, item: Sound, coded: int) -> bool:
        """Whether the file format cannot say what the rate and length were; Opus' header says rates up to 48 kHz."""
        if self._family is _OPUS:
            return item.rate > coded
        over = item.samples.shape[1] % _MP3_GRANULE
        return item.rate != coded or (self._family is _MP3 and 0 < over < _MP3_BLIND)


def _layout(channels: int) -> str:
    return "mono" if channels == 1 else "stereo"


def _frames(samples: NDArray[np.float32], rate: int, layout: str) -> Any:
    """Yield frames of PyAV."""
    av = import_av("video")
    for start in range(0, samples.shape[1], _BLOCK):
        block = samples[:, start : start + _BLOCK]
        block = block if layout.endswith("p") else block.T.reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block), layout, _layout(samples.shape[0]))
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        yield frame


def _planar(block: NDArray[Any], channels: int, *, is_planar: bool) -> NDArray[np.float32]:
    """Return (C, T) float32 of decoded samples: floats, or 16-bit integers."""
    block = block if is_planar else block.reshape(-1, channels).T
    return block.astype(np.float32) / (1 if block.dtype.kind == "f" else 1 << 15)


@register_coder("opus", "audio")
def _opus(given: Mapping[str, str]) -> Coder:
    read = Options("opus", given)
    options = {
        "application": read.choice("application", "audio", ("audio", "voip", "lowdelay")),
        "vbr": read.choice("vbr", "on", ("on", "constrained", "off")),
        "frame_duration": read.choice("frame", "20", ("2.5", "5", "10", "20", "40", "60", "80", "100", "120")),
        "compression_level": str(read.integer("complexity", 10, 0, 10)),
    }
    decoder = read.choice("decoder", "ffmpeg", ("ffmpeg", "libopus"))
    read.done()
    return FfmpegAudioCoder("opus", _OPUS, options, None if decoder == "ffmpeg" else decoder)


@register_coder("aac", "audio")
def _aac(given: Mapping[str, str]) -> Coder:
    read = Options("aac", given)
    options = {"aac_coder": read.choice("coder", "twoloop", ("twoloop", "fast"))}
    read.done()
    return FfmpegAudioCoder("aac", _AAC, options)


@register_coder("mp3", "audio")
def _mp3(given: Mapping[str, str]) -> Coder:
    read = Options("mp3", given)
    options = {
        "abr": "1" if read.choice("mode", "abr", ("abr", "cbr")) == "abr" else "0",
        "compression_level": str(read.integer("effort", 2, 0, 9)),
    }
    read.done()
    return FfmpegAudioCoder("mp3", _MP3, options)

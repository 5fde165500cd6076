"""Video: clips in, ``.tri`` bytes out, and back, whole, in parts, or group by group in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from torch import nn

from triode.codecs.gop import ClipSource, head_of
from triode.codecs.gop_decoder import decoding_memory
from triode.codecs.gop_engine import GopEngine, ThreadEngine
from triode.codecs.matrices import matrix_name
from triode.codecs.search import quality_to_point
from triode.codecs.sources import check_identity, model_of, open_source, rewindable
from triode.codecs.video_decoding import ClipFrames, Part, VideoDecoding
from triode.codecs.video_encoding import EncodedClip, VideoEncoding
from triode.codecs.video_info import VideoInfo, describe
from triode.codecs.video_journal import VideoJournal, digest_of
from triode.codecs.video_sound import SoundOfVideo
from triode.container import (
    ContainerReader,
    DecodeLimits,
    Head,
    pack_head,
    pack_track,
)
from triode.errors import ModelMismatchError, UnsupportedError
from triode.media import Clip
from triode.models.base import ImageModel, VideoModel
from triode.models.video.intra import Intra, IntraConfig
from triode.models.weights import Loaded, default_weights, load_weights

__all__ = ["GOP", "ClipFrames", "EncodedClip", "VideoCodec", "VideoInfo"]

Progress = Callable[[float], None]
Weights = Loaded[ImageModel] | Loaded[VideoModel] | Loaded[ImageModel | VideoModel]

GOP: Final = 32
"""Most frames of a group: about a second, the unit of seeking, of loss, and of work that is done at once."""


class VideoCodec:
    """Encodes and decodes video in 8-bit YUV 4:2:0 of any size and length.

    Args:
        model: Weights, their name, or the path of a ``.safetensors``; when absent, the default to encode, and what the
            stream says to decode. Weights of a model of images code every frame on its own.
        limits: What a stream may ask for when decoding.
        gop: Most frames of a group of pictures, 1 to 65535.
        scenes: Whether a scene begins a group.
        engine: What codes the groups; None for threads of this process.

    Raises:
        ValueError: If `gop` is out of range.
    """

    def __init__(
        self,
        model: str | Weights | None = None,
        *,
        limits: DecodeLimits | None = None,
        gop: int = GOP,
        scenes: bool = True,
        engine: GopEngine | None = None,
    ) -> None:
        if not 1 <= gop < 1 << 16:
            raise ValueError(f"Argument `gop` must be in 1..65535, but got {gop}")
        self._model = model
        self._limits = limits or DecodeLimits()
        self._gop, self._scenes, self._engine = gop, scenes, engine or ThreadEngine()

    def encode(
        self,
        clip: Clip | ClipSource,
        target: BinaryIO | None = None,
        *,
        quality: float | None = None,
        kbps: float | None = None,
        sound: SoundOfVideo | None = None,
        journal: Path | None = None,
        keep_journal: bool = False,
        progress: Progress | None = None,
    ) -> EncodedClip:
        """Encode a clip.

        Args:
            clip: A clip, or a source that is read to its end; no more than a few groups are in memory at a time.
            target: Binary file that is written while the frames come, and need not seek; when absent, the result has
                the bytes.
            quality: 0 to 100, the same for all frames; 50 when nothing is asked for.
            kbps: Largest rate, in thousand bits of the file over seconds, at the end and, but for some seconds' worth
                of what was saved before, at any time. Groups are then coded one after another.
            sound: Sound that goes into the file.
            journal: File that holds what was coded so far: where it is there, by the same encoding of the same frames,
                the encoding goes on from there, and the file comes out the same. It is removed in the end.
            keep_journal: Whether to leave that to the caller, who has yet to bring the file to its place.
            progress: Called with the share done, 0 to 1, where the length is known.

        Returns:
            The file and how it came out.

        Raises:
            ValueError: If both targets are given or one is out of range.
            UnsupportedError: If no rate point reaches the rate, or the clip cannot be coded, or the journal is of
                another encoding.
            ModelMismatchError: If the weights are missing.
            CodecError: What reading the source raises.
        """
        if quality is not None and kbps is not None:
            raise ValueError("Give at most one of quality and kbps")
        if kbps is not None and not 0 < kbps < math.inf:
            raise ValueError(f"Argument `kbps` must be positive and finite, but got {kbps}")
        point = quality_to_point(50 if quality is None else quality)
        weights = self._model if isinstance(self._model, Loaded) else _load(self._model or default_weights("video"))
        info = weights.info
        digests = (bytes.fromhex(info.entropy_digest)[:4], bytes.fromhex(info.synthesis_digest)[:4])
        head = Head(info.name, *digests, head_of(clip, self._gop))
        job = VideoEncoding(_video(weights), head, clip, sound, self._engine, scenes=self._scenes)
        if journal is None:
            return job.run(target, point, kbps=kbps, progress=progress)
        track = b"" if sound is None else pack_track(sound.track)
        options = repr((point, kbps, self._scenes)).encode()
        identity = digest_of((pack_head(head), track, options, bytes.fromhex(info.synthesis_digest)))
        with ExitStack() as stack:
            kept = stack.enter_context(VideoJournal(journal, identity))
            result = job.run(target, point, kbps=kbps, journal=kept, progress=progress)
            if target is not None:
                target.flush()
            if not keep_journal:
                kept.remove()
        return result

    def decode(
        self,
        source: bytes | BinaryIO,
        *,
        start: int | Fraction = 0,
        stop: int | Fraction | None = None,
        conceal: bool = False,
        progress: Progress | None = None,
    ) -> Clip:
        """Decode a file or a part of it into memory; see :meth:`frames` for arguments and errors.

        Raises:
            LimitExceededError: If the frames take more memory than the limits allow.
        """
        frames = self.frames(source, start=start, stop=stop, conceal=conceal, progress=progress)
        clips: list[Clip] = []
        size = 0
        for clip in frames:
            size += clip.y.nbytes + clip.u.nbytes + clip.v.nbytes
            self._limits.check_memory_bytes(2 * size, "the decoded frames")
            clips.append(clip)
        return _joined(clips)

    def frames(
        self,
        source: bytes | BinaryIO,
        *,
        start: int | Fraction = 0,
        stop: int | Fraction | None = None,
        conceal: bool = False,
        progress: Progress | None = None,
    ) -> ClipFrames:
        """Decode a file or a part of it group by group.

        Args:
            source: Its bytes, or a binary file object, which need not seek; of one that can, only the groups that a
                part needs are decoded.
            start: The first frame wanted, or, as a ``Fraction``, the time in seconds at which frames may begin.
            stop: The frame after the last one wanted, or, as a ``Fraction``, the time before which frames begin;
                None for the end. It is of the kind that `start` is, or `start` is 0.
            conceal: Whether groups that are damaged or missing are concealed by the frame before them, with a warning,
                rather than an error; needs a source that can seek.
            progress: Called with the share done, 0 to 1, where the length is known.

        Returns:
            An iterable of clips, which can be gone through once. Times begin anew with the first frame of the part.

        Raises:
            ValueError: If the part is none; going through the frames raises it where no frame lies in the part.
            CodecError: If the file is damaged, exceeds the limits, or its model is not here; going through the frames
                may raise it too, and names the group.
        """
        reader = ContainerReader(open_source(source), self._limits)
        decoding = self._decoding(reader, conceal=conceal)
        return ClipFrames(decoding, _part(start, stop, decoding.head.tick), progress)

    def info(self, source: bytes | BinaryIO) -> VideoInfo:
        """Read what a file says of itself; loads no model and decodes nothing.

        Raises:
            CodecError: If the file is damaged or exceeds the limits.
        """
        return describe(ContainerReader(rewindable(source, self._limits), self._limits), self._limits)

    def verify(self, source: bytes | BinaryIO) -> VideoInfo:
        """Decode the symbols of every frame and check every checksum; makes no samples.

        Raises:
            CodecError: If anything does not check; it names the group.
        """
        reader = ContainerReader(rewindable(source, self._limits), self._limits)
        for _ in self._decoding(reader).symbols():
            pass
        return describe(reader, self._limits)

    def _decoding(self, reader: ContainerReader, *, conceal: bool = False) -> VideoDecoding:
        """Find the weights of a file, and check that they and this release can decode it."""
        head = reader.head.video
        if head.bit_depth != 8:
            raise UnsupportedError(f"The file has {head.bit_depth} bits a sample; this release decodes 8")
        matrix_name(head.matrix)
        said = reader.head.model
        weights = self._model if isinstance(self._model, Loaded) else _load(model_of(said, self._model))
        check_identity(reader.head, weights.info, "pixels", stacklevel=3)
        self._limits.check_memory_bytes(decoding_memory(weights.model, head), "decoding")
        return VideoDecoding(_video(weights), reader, self._limits, conceal=conceal)


def _load(name: str) -> Weights:
    weights = load_weights(name, nn.Module)
    if not isinstance(weights.model, ImageModel | VideoModel):
        raise ModelMismatchError(f"{weights.info.path} holds weights for {weights.info.media}, not for video")
    return Loaded(weights.model, weights.info)


def _video(weights: Weights) -> VideoModel:
    """Return the model; one of images codes frame by frame."""
    if isinstance(weights.model, ImageModel):
        return Intra(weights.model, IntraConfig(weights.info.architecture)).eval()
    return weights.model


def _part(start: int | Fraction, stop: int | Fraction | None, tick: Fraction) -> Part:
    """Return which frames a range means."""
    by_time = isinstance(start, Fraction) or isinstance(stop, Fraction)
    if start < 0 or (stop is not None and stop <= start):
        raise ValueError(f"Arguments `start` and `stop` must be a range with something in it, but got {start}:{stop}")
    if not by_time:
        return Part(int(start), None if stop is None else int(stop))
    if not all(isinstance(bound, Fraction) or not bound for bound in (start, stop)):
        raise ValueError(f"Arguments `start` and `stop` must be both frames or both times, but got {start}:{stop}")
    return Part(math.ceil(start / tick), None if stop is None else math.ceil(stop / tick), by_time=True)


def _joined(clips: list[Clip]) -> Clip:
    """Return parts of a clip as one."""
    first = clips[0]
    y, u, v = (np.concatenate(planes) for planes in zip(*((c.y, c.u, c.v) for c in clips), strict=True))
    times: tuple[Fraction, ...] | None = None
    if any(clip.times is not None for clip in clips):
        listed: list[Fraction] = []
        for clip in clips:
            own = clip.times or tuple((len(listed) + place) / first.rate for place in range(clip.frames))
            listed += own
        times = tuple(listed)
    return Clip(
        y, u, v, first.rate, first.matrix, first.full_range, times, first.primaries, first.transfer, first.aspect
    )

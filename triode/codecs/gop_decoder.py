"""The coded frames of a unit to a group of pictures; nothing is made of a unit whose symbols are not the encoder's."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from triode.codecs.gop_encoder import crc_of, format_of
from triode.codecs.planes import Planes, to_planes
from triode.container import DecodeLimits, Unit, VideoHead, VideoUnit
from triode.entropy.coder import RangeReader
from triode.errors import BitstreamError, EntropyMismatchError, UnsupportedError
from triode.models.base import FrameStep, ImageModel, VideoLatent, VideoModel

__all__ = ["decode_frames", "decode_symbols", "decoding_memory", "groups_at_once"]

_LATENT_BYTES = 8
_AT_ONCE_BYTES = 2 << 30


def decoding_memory(model: VideoModel | ImageModel, head: VideoHead) -> int:
    """Estimate the bytes that decoding a video allocates, on the safe side.

    These are what the networks need for one frame, and the latents of a group of as many frames as `HEAD` allows.
    """
    area = (head.width + model.multiple) * (head.height + model.multiple)
    work = model.frame_bytes if isinstance(model, VideoModel) else VideoModel.frame_bytes
    return area * (work + _LATENT_BYTES * head.most_frames)


def groups_at_once(model: VideoModel, head: VideoHead, limits: DecodeLimits | None = None) -> int:
    """Return how many groups of pictures threads should code at once: one each, as far as memory goes.

    Frames so large that several groups would take more than 2 GiB are shared well by the threads.
    """
    most = _AT_ONCE_BYTES if limits is None else min(_AT_ONCE_BYTES, limits.max_memory_bytes or _AT_ONCE_BYTES)
    return max(1, min(torch.get_num_threads(), most // decoding_memory(model, head)))


@torch.inference_mode()
def decode_symbols(model: VideoModel, head: VideoHead, unit: Unit, video: VideoUnit) -> list[VideoLatent]:
    """Read the symbols of all frames of a unit, and check them.

    Raises:
        BitstreamError: They are no symbols.
        EntropyMismatchError: They are not those of the encoder.
        UnsupportedError: A frame is of a kind that the model does not code.
    """
    state = model.start(format_of(model, head))
    latents, crcs = [], []
    for frame in video.frames:
        if frame.kind not in model.kinds:
            raise UnsupportedError(f"a frame of kind {frame.kind.name.lower()}, which the model does not code")
        reader = RangeReader(frame.coded)
        latent = model.decode(FrameStep(frame.kind, frame.point), state, reader)
        state = model.skip(latent, state)
        latents.append(latent)
        crcs.append(reader.crc)
    if crc_of(crcs) != unit.symbols_crc32:
        raise EntropyMismatchError(
            f"Decoded symbols have CRC {crc_of(crcs):08x}, the encoder's had {unit.symbols_crc32:08x}: "
            "the data is corrupt or the entropy model is not the encoder's"
        )
    return latents


def decode_frames(
    model: VideoModel, head: VideoHead, video: VideoUnit, latents: list[VideoLatent], start: int = 0
) -> Iterator[Planes]:
    """Yield the frames of a unit from number `start` of it on; those before are made only if others look at them.

    Raises:
        BitstreamError: A frame comes out as no numbers.
    """
    state = model.start(format_of(model, head))
    for index, (coded, latent) in enumerate(zip(video.frames, latents, strict=True)):
        step = FrameStep(coded.kind, coded.point)
        if index < start and model.independent:
            state = model.skip(latent, state)
            continue
        with torch.inference_mode():
            frame, state = model.synthesis(latent, step, state)
            if not bool(frame.y.isfinite().all() & frame.uv.isfinite().all()):
                raise BitstreamError(f"frame {video.first + index} decodes to samples that are no numbers")
        if index >= start:
            yield to_planes(frame, (head.height, head.width), full_range=head.full_range)

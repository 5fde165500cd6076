"""Tiny models of video with varied weights, none of whose layers is idle, and frames for them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from models.tiny import smooth_image, tiny_model
from torch import Tensor, nn

from triode.container import FrameKind
from triode.entropy.coder import RangeReader, RangeWriter
from triode.models.base import FrameStep, GopFormat, VideoLatent, VideoModel, VideoState, Yuv
from triode.models.video.stem import Stem
from triode.models.video.video_light import VideoLight

TINY_WIDTHS = {"temporal": 8, "innovation": 8}
TINY_LIGHT = {
    "latent": 16,
    "hyper": 4,
    "feature": 16,
    "coarse": 16,
    "context_blocks": 2,
    "decoder_blocks": 1,
    "encoder_blocks": 1,
    "encoder_coarse": 1,
    "parameters": 16,
    "neighbours": 8,
    "refresh": 3,
}


def stir(module: nn.Module, noise: float, seed: int = 1) -> None:
    """Move every parameter of a module by noise, as large as a layer of that width starts with."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            scale = noise / 30 if "gain" in name or "linear" in name else noise
            fan_in = parameter[0].numel() if parameter.dim() == 4 else 16
            parameter.add_(torch.randn(parameter.shape, generator=generator) * (scale / fan_in**0.5))


def tiny_stem(noise: float = 0.3, *, export: bool = True) -> Stem:
    """Return a model on the tiny `image-light`; without noise it is as it was made of that."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Stem.from_image(tiny_model(), **TINY_WIDTHS).eval()
    if noise:
        stir(model.entropy, noise)
    if export:
        model.export()
    return model


def tiny_light(noise: float = 0.3, *, export: bool = True, **changes: Any) -> VideoLight:
    """Return a model whose intra frames are coded by the tiny `image-light`; without noise it is as it starts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = VideoLight.from_image(tiny_model(), **{**TINY_LIGHT, **changes}).eval()
    if noise:
        for part in (model.encoder, model.context, model.decoder, model.embed, model.activity, model.entropy):
            stir(part, noise)
    if export:
        model.export()
    return model


def moving_frames(count: int, height: int = 48, width: int = 80, *, still: bool = False, batch: int = 1) -> list[Yuv]:
    """Return frames of a picture that moves by three samples a frame, or not at all."""
    picture = torch.from_numpy(smooth_image(height + 4, width + 32, seed=3)).permute(2, 0, 1)[None] / 255.0
    frames = []
    for number in range(count):
        x = 0 if still else 3 * number
        part = picture[:, :, 2 : 2 + height, x : x + width].expand(batch, -1, -1, -1)
        frames.append(Yuv(part[:, :1].clone(), part[:, 1:, ::2, ::2] - 0.5))
    return frames


@dataclass(frozen=True, slots=True)
class CodedGroup:
    """What coding a group gave: the steps, the bytes, and the latents of each frame, and the samples as made there."""

    steps: tuple[FrameStep, ...]
    payloads: tuple[bytes, ...]
    latents: tuple[VideoLatent, ...]
    frames: tuple[Yuv, ...]


def steps_of(model: VideoModel, points: Sequence[int]) -> tuple[FrameStep, ...]:
    """Return steps of a group at the given points, of the kinds that the model chooses."""
    return tuple(FrameStep(model.step(index, point).kind, point) for index, point in enumerate(points))


@torch.inference_mode()
def encode_group(model: VideoModel, frames: Sequence[Yuv], steps: Sequence[FrameStep]) -> CodedGroup:
    """Code a group of frames, the encoder going through both halves of the model."""
    height, width = frames[0].y.shape[2:]
    state = model.start(GopFormat(height, width))
    payloads, latents, made = [], [], []
    for frame, step in zip(frames, steps, strict=True):
        writer = RangeWriter()
        latent = model.encode(frame, step, state, writer)
        out, state = model.synthesis(latent, step, state)
        payloads.append(writer.getvalue())
        latents.append(latent)
        made.append(out)
    return CodedGroup(tuple(steps), tuple(payloads), tuple(latents), tuple(made))


@torch.inference_mode()
def decode_group(model: VideoModel, coded: CodedGroup, fmt: GopFormat, *, rng: bool = False) -> list[VideoLatent]:
    """Decode the symbols of a group; the features of the state are left out, or with `rng` are noise."""
    state, latents = model.start(fmt), []
    for step, payload in zip(coded.steps, coded.payloads, strict=True):
        noise = tuple(torch.randn(1, 3, 4, 5) for _ in range(4)) if rng else ()
        latent = model.decode(step, replace(state, features=noise), RangeReader(payload))
        state = model.skip(latent, state)
        latents.append(latent)
    return latents


@torch.inference_mode()
def synthesise(model: VideoModel, coded: CodedGroup, fmt: GopFormat) -> tuple[list[Yuv], list[VideoState]]:
    """Make the frames of a group from its latents; return them and the state after each."""
    state, frames, states = model.start(fmt), [], []
    for step, latent in zip(coded.steps, coded.latents, strict=True):
        frame, state = model.synthesis(latent, step, state)
        frames.append(frame)
        states.append(state)
    return frames, states


def same_latent(one: VideoLatent, other: VideoLatent) -> bool:
    """Whether two frames have the same symbols, and leave the same to the next one."""
    pairs = zip((*one.values, *one.integers), (*other.values, *other.integers), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def same_frame(one: Yuv, other: Yuv) -> bool:
    """Whether two frames are the same in every bit."""
    return torch.equal(one.y, other.y) and torch.equal(one.uv, other.uv)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch compute in so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def total_bits(bits: dict[str, Tensor]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return the bits (B, T) of all parts together."""
    return sum(bits.values()).detach().double().numpy()


INTRA, INTER, REFRESH = FrameKind

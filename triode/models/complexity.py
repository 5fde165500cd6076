"""How much a model computes: multiplications a pixel or a sample, counted on a real pass."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from triode.entropy.coder import RangeReader, RangeWriter
from triode.entropy.exact.layers import ExactConv2d, ExactConvTranspose2d
from triode.models.base import AudioModel, GopFormat, ImageModel, VideoModel, Yuv
from triode.models.layers.gdn import GDN
from triode.models.layers.strips import plain_layers
from triode.models.restoration import COEFFICIENTS, Restoration
from triode.models.restoration_fit import write_restoration


@dataclass(frozen=True, slots=True)
class Complexity:
    """Size and cost of a model of images, sound or video.

    Attributes:
        kmac_encode: Thousand multiplications a pixel, or a sample, to encode: analysis and the whole entropy path, and
            what is decoded to choose a restoration.
        kmac_decode: The same to decode: the entropy path without its hyper-analysis, and synthesis.
        parameters: Number of parameters.
    """

    kmac_encode: float
    kmac_decode: float
    parameters: int


class _Counter:
    """Adds up the multiplications of the layers that run while it is attached."""

    def __init__(self) -> None:
        self.macs = 0

    def __call__(self, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        if not inputs:  # A parametrised weight.
            return
        x: Tensor = inputs[0]
        match layer:
            case nn.ConvTranspose1d() | nn.ConvTranspose2d() | ExactConvTranspose2d():
                self.macs += x.numel() // x.shape[1] * layer.weight.numel()
            case nn.Conv1d() | nn.Conv2d() | ExactConv2d():
                self.macs += output.numel() // output.shape[1] * layer.weight.numel()
            case nn.Linear():
                self.macs += output.numel() * layer.in_features
            case nn.LSTM():  # (F, B, C) unless batch_first; each layer sees every frame.
                weights = (p.numel() for n, p in layer.named_parameters() if n.startswith("weight"))
                self.macs += x.shape[0] * x.shape[1] * sum(weights)
            case Restoration():
                self.macs += output.numel() // output.shape[1] * Restoration.macs
            case GDN():  # Its pool is a pointwise convolution.
                self.macs += x.shape[0] * x.shape[2] * x.shape[3] * layer.gamma.numel()

    @contextmanager
    def attached(self, model: nn.Module) -> Iterator[None]:
        handles = [m.register_forward_hook(self) for m in model.modules()]
        try:
            with plain_layers():  # What is no call of a module would not be seen.
                yield
        finally:
            for handle in handles:
                handle.remove()


@torch.no_grad()
def count_macs(model: ImageModel, height: int, width: int) -> Complexity:
    """Count the multiplications of convolutions, linear layers, LSTM and GDN, integer twins included.

    The model itself stays as it is; a copy of it is exported and run. Gains, activations and table look-ups, a few a
    latent element, are not counted.

    Args:
        model: Any image model, exported or not.
        height: Pixels; a multiple of 64 shows no padding.
        width: Pixels, likewise.

    Returns:
        Multiplications over ``1000 * height * width``, and parameters.

    Raises:
        ValueError: If a side is below 1.
    """
    if height < 1 or width < 1:
        raise ValueError(f"Sides must be >= 1, but got {height} x {width}")
    parameters = sum(p.numel() for p in model.parameters())
    model = copy.deepcopy(model).cpu().eval()
    model.export()
    rows, columns = (-(-n // model.multiple) * model.multiple for n in (height, width))
    x, q = torch.full((1, 3, rows, columns), 0.5), torch.tensor([0])
    encoding, decoding, writer = _Counter(), _Counter(), RangeWriter()
    with encoding.attached(model):
        y = model.analysis(x, q)
        y_hat = model.encode(y, q, writer)
        write_restoration(model, np.full((rows, columns, 3), 128, dtype=np.uint8), y_hat, 0, writer)
    with decoding.attached(model):
        y_hat = model.decode((y.shape[2], y.shape[3]), q, RangeReader(writer.getvalue()))
        x_hat = model.synthesis(model.dequantise(y_hat, q), q)
        if model.restoration is not None:
            model.restoration(x_hat, np.zeros(COEFFICIENTS, dtype=np.int32), 0)
    pixels = 1000 * height * width
    return Complexity(encoding.macs / pixels, decoding.macs / pixels, parameters)


@torch.no_grad()
def count_sound_macs(model: AudioModel, samples: int) -> Complexity:
    """Do what :func:`count_macs` does for a model of sound, on one channel. Fixed transforms are not counted.

    Args:
        model: Any audio model, exported or not.
        samples: Length; a multiple of ``hop * multiple`` shows no padding.

    Returns:
        Multiplications over ``1000 * samples``, and parameters.

    Raises:
        ValueError: If the length is below 1.
    """
    if samples < 1:
        raise ValueError(f"Argument `samples` must be >= 1, but got {samples}")
    parameters = sum(p.numel() for p in model.parameters())
    model = copy.deepcopy(model).cpu().eval()
    model.export()
    run = model.hop * model.multiple
    x, q = torch.full((1, 1, -(-samples // run) * run), 0.1), torch.tensor([0])
    encoding, decoding, writer = _Counter(), _Counter(), RangeWriter()
    with encoding.attached(model):
        y = model.analysis(x, q)
        model.encode(y, q, writer)
    with decoding.attached(model):
        y_hat = model.decode(y.shape[3], q, RangeReader(writer.getvalue()))
        model.synthesis(model.dequantise(y_hat, q), q)
    return Complexity(encoding.macs / (1000 * samples), decoding.macs / (1000 * samples), parameters)


@torch.no_grad()
def count_video_macs(model: VideoModel, height: int, width: int) -> Complexity:
    """Do what :func:`count_macs` does for a model of video, on the second frame of a group, a pixel of luma.

    To encode takes the synthesis too, as the next frame starts from what the decoder will have. Warping is not counted.

    Args:
        model: Any video model, exported or not.
        height: Rows of luma.
        width: Columns of luma.

    Returns:
        Multiplications over ``1000 * height * width``, and parameters.

    Raises:
        ValueError: If a side is below 1.
    """
    if height < 1 or width < 1:
        raise ValueError(f"Sides must be >= 1, but got {height} x {width}")
    parameters = sum(p.numel() for p in model.parameters())
    model = copy.deepcopy(model).cpu().eval()
    model.export()
    rows, columns = (-(-n // model.multiple) * model.multiple for n in (height, width))
    frame = Yuv(torch.full((1, 1, rows, columns), 0.5), torch.zeros(1, 2, rows // 2, columns // 2))
    first, second = model.step(0, 0), model.step(1, 0)
    start = model.start(GopFormat(rows, columns))
    _, state = model.synthesis(model.encode(frame, first, start, RangeWriter()), first, start)
    encoding, decoding, writer = _Counter(), _Counter(), RangeWriter()
    with encoding.attached(model):
        model.synthesis(model.encode(frame, second, state, writer), second, state)
    with decoding.attached(model):
        model.synthesis(model.decode(second, state, RangeReader(writer.getvalue())), second, state)
    pixels = 1000 * height * width
    return Complexity(encoding.macs / pixels, decoding.macs / pixels, parameters)

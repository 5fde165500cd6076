"""``intra``: every frame on its own, coded by a model of images.

It is what a video codec that looks at other frames is measured against, and needs no training of its own: the weights
of a model of images serve it as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from triode.container import FrameKind
from triode.entropy.coder import SymbolReader, SymbolWriter
from triode.models.base import FrameStep, ImageModel, VideoLatent, VideoModel, VideoOutput, VideoState, Yuv
from triode.models.registry import create_model, register_model
from triode.models.video.colour import rgb_to_yuv, yuv_to_rgb

__all__ = ["Intra", "IntraConfig"]


@dataclass(frozen=True, slots=True)
class IntraConfig:
    """Which model codes the frames.

    Attributes:
        image: Name of an architecture for images, taken with its default configuration.
    """

    image: str = "image-light"


class Intra(VideoModel):
    """Codes frames of video as images in RGB.

    Args:
        image: Model of images.
        config: Which one it is.
    """

    kinds = frozenset({FrameKind.INTRA})

    def __init__(self, image: ImageModel, config: IntraConfig | None = None) -> None:
        super().__init__()
        self.image = image
        self.config = config or IntraConfig()
        self.stride = image.stride
        # Chroma has half the sides of luma.
        self.multiple = image.multiple if image.multiple % 2 == 0 else 2 * image.multiple
        self.training = image.training

    def forward(self, frames: Sequence[Yuv], q: Tensor) -> VideoOutput:
        """Code and decode frames, of BT.709; sides as the model of images asks for in training."""
        outputs = [self.image(yuv_to_rgb(frame, "bt709"), q) for frame in frames]
        bits = {part: torch.stack([output.bits[part] for output in outputs], 1) for part in outputs[0].bits}
        return VideoOutput(tuple(rgb_to_yuv(output.x_hat, "bt709") for output in outputs), bits)

    def rate_lambda(self, q: Tensor) -> Tensor:
        """Return what the model of images does."""
        return self.image.rate_lambda(q)

    def encode(self, frame: Yuv, step: FrameStep, state: VideoState, writer: SymbolWriter) -> VideoLatent:
        """Write the symbols of one frame."""
        q = torch.tensor([step.point])
        x = yuv_to_rgb(frame, state.format.matrix).clamp(0, 1)
        y = self.image.analysis(x.contiguous(memory_format=torch.channels_last), q)
        return VideoLatent((self.image.encode(y, q, writer),))

    def decode(self, step: FrameStep, state: VideoState, reader: SymbolReader) -> VideoLatent:
        """Read the symbols of one frame."""
        size = (state.format.height // self.stride, state.format.width // self.stride)
        return VideoLatent((self.image.decode(size, torch.tensor([step.point]), reader),))

    def synthesis(self, latent: VideoLatent, step: FrameStep, state: VideoState) -> tuple[Yuv, VideoState]:
        """Make a frame of its symbols."""
        q = torch.tensor([step.point])
        y = self.image.dequantise(latent.values[0], q)
        x = self.image.synthesis(y.contiguous(memory_format=torch.channels_last), q).clamp(0, 1)
        return rgb_to_yuv(x, state.format.matrix), self.skip(latent, state)

    def export(self) -> None:
        """Freeze the integer state of the model of images."""
        self.image.export()


@register_model("intra", IntraConfig, media="video")
def intra(config: IntraConfig) -> Intra:
    """Build :class:`Intra`.

    Raises:
        ModelMismatchError: If there is no such architecture.
        ValueError: If it is not for images.
    """
    image = create_model(config.image)
    if not isinstance(image, ImageModel):
        raise ValueError(f"Architecture {config.image!r} is not for images")
    return Intra(image, config)

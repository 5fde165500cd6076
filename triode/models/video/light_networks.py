"""Networks of ``video-light``, and their widths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from triode.entropy.context.schedule import checkerboard
from triode.entropy.exact.fused import RateAffine, RectifiedConv2d
from triode.entropy.rate import RateBias, RateGain
from triode.models.image.image_light import ImageLightConfig
from triode.models.layers.blocks import DepthwiseBlock, DepthwiseBlocks, SubpixelDown, SubpixelUp
from triode.models.layers.precision import full_precision
from triode.models.video.shuffle import PLANES

__all__ = ["Context", "Decoder", "Encoder", "HyperAnalysis", "HyperSynthesis", "Parameters", "VideoLightConfig"]

_SLOPE = 0.125


@dataclass(frozen=True, slots=True)
class VideoLightConfig:
    """Widths of :class:`VideoLight`.

    Attributes:
        image: Widths of the model of images that codes intra frames; a mapping of those that are not the defaults will
            do.
        latent: Channels of y, at 1/16 of the resolution.
        hyper: Channels of z, at 1/64.
        feature: Channels of the features, at 1/8.
        coarse: Channels of the encoder at 1/16.
        context_blocks: Blocks that bring the features of the frame before to the context of the next; the last one has
            no feed-forward part.
        decoder_blocks: Blocks of the decoder at 1/8.
        encoder_blocks: Blocks of the encoder at 1/8.
        encoder_coarse: Blocks of the encoder at 1/16.
        parameters: Channels of the entropy networks.
        neighbours: Channels that entropy networks bring latents to before they look at neighbours.
        anchors: Learned rate points.
        layers: Offsets of the rate point of frame ``index`` of a group, by ``index`` modulo their number.
        intra: Offset of the first frame's.
        refresh: Frames from one refresh of the features to the next; with 1 none are handed on, and those that a frame
            needs are made of its prediction.
        motion: Whether blocks of 16x16 have vectors, by which frame and features are moved before they predict the next
            frame.
    """

    image: ImageLightConfig = field(default_factory=ImageLightConfig)
    latent: int = 128
    hyper: int = 32
    feature: int = 128
    coarse: int = 192
    context_blocks: int = 2
    decoder_blocks: int = 2
    encoder_blocks: int = 2
    encoder_coarse: int = 2
    parameters: int = 96
    neighbours: int = 48
    anchors: int = 8
    layers: tuple[int, ...] = (2, -2, 0, -2)
    intra: int = 4
    refresh: int = 32
    motion: bool = False

    def __post_init__(self) -> None:
        """Take what a file names as mappings and lists.

        Raises:
            ValueError: If there are no layers, or features are never carried on.
        """
        if isinstance(self.image, Mapping):
            object.__setattr__(self, "image", ImageLightConfig(**self.image))
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers or self.refresh < 1:
            raise ValueError(f"There must be layers and a refresh >= 1, but got {self.layers} and {self.refresh}")


class HyperAnalysis(nn.Module):
    """h_a: latent and past, gains taken out, to z (B, Z, h / 4, w / 4).

    Args:
        c: Widths.
    """

    def __init__(self, c: VideoLightConfig) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3 * c.latent, c.parameters, 1),
            nn.LeakyReLU(_SLOPE),
            SubpixelDown(c.parameters, c.parameters),
            nn.LeakyReLU(_SLOPE),
            SubpixelDown(c.parameters, c.hyper),
        )
        self.gain = RateGain(c.hyper, c.anchors)

    def forward(self, y: Tensor, past: Tensor, q: Tensor) -> Tensor:
        """Map (B, M, h, w) and (B, 2 M, h, w) at rate points (B,)."""
        z: Tensor = self.gain(self.net(torch.cat([y, past], 1)), q).float()
        return z


class HyperSynthesis(nn.Module):
    """h_s: z and past to features (B, F, h, w). Becomes integers.

    Args:
        c: Widths.
    """

    def __init__(self, c: VideoLightConfig) -> None:
        super().__init__()
        self.stem = nn.Conv2d(c.hyper, c.parameters, 3, padding=1)
        self.bias = RateBias(c.parameters, c.anchors)
        self.up = SubpixelUp(c.parameters, c.neighbours, 4)
        self.past = nn.Conv2d(2 * c.latent, c.neighbours, 1)
        self.mix = RectifiedConv2d(c.neighbours, c.parameters, 3, padding=1)
        self.act = nn.ReLU()

    def forward(self, z: Tensor, past: Tensor, q: Tensor) -> Tensor:
        """Map (B, Z, h / 4, w / 4) and (B, 2 M, h, w) at rate points (B,)."""
        side = self.up(self.act(self.bias(self.stem(z), q)))
        features: Tensor = self.mix(self.act(side + self.past(past)))
        return features


class Parameters(nn.Module):
    """Means and ladder indices of the two steps of a checkerboard. Becomes integers.

    Args:
        c: Widths.
    """

    def __init__(self, c: VideoLightConfig) -> None:
        super().__init__()
        self.schedule = checkerboard(c.latent)
        self.normalise = RateGain(c.latent, c.anchors)
        self.project = nn.Conv2d(c.latent, c.neighbours, 1)
        self.mix = RectifiedConv2d(c.neighbours, c.parameters, 3, padding=1)
        self.fuse = nn.ModuleList(RectifiedConv2d(n * c.parameters, c.parameters, 1) for n in (1, 2))
        self.output = nn.ModuleList(nn.Conv2d(c.parameters, 2 * c.latent, 1) for _ in range(2))
        self.scale = RateAffine(2 * c.latent, c.anchors)

    def forward(self, step: int, y_hat: Tensor, hyper: Tensor, q: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return mean and ladder index of the entries of a step; see :mod:`triode.entropy.context.model`."""
        if step:
            hyper = torch.cat([hyper, self.mix(self.project(self.normalise(y_hat, q)))], 1)
        mean, index = self.scale(self.output[step](self.fuse[step](hyper)), q).chunk(2, 1)
        return [(entry.view(mean), entry.view(index)) for entry in self.schedule.steps[step]]


class Encoder(nn.Module):
    """g_a: frame, its prediction and its context to the latent (B, M, H / 16, W / 16), before the gain.

    Args:
        c: Widths.
    """

    def __init__(self, c: VideoLightConfig) -> None:
        super().__init__()
        self.linear = nn.Conv2d(PLANES, c.latent, 2, stride=2)
        self.head = nn.Conv2d(2 * PLANES, c.feature, 1)
        self.head_gain = RateGain(c.feature, c.anchors)
        self.fine = DepthwiseBlocks(c.feature, c.encoder_blocks)
        self.down = SubpixelDown(c.feature, c.coarse, 2)
        self.coarse = DepthwiseBlocks(c.coarse, c.encoder_coarse)
        self.tail = zero(nn.Conv2d(c.coarse, c.latent, 1))

    def forward(self, x: Tensor, prediction: Tensor, context: Tensor, q: Tensor) -> Tensor:
        """Map shuffled frames (B, 96, H / 8, W / 8) and a context (B, C, H / 8, W / 8) at rate points (B,)."""
        t = self.head_gain(self.head(torch.cat([x, prediction], 1)) + context, q)
        t = self.tail(self.coarse(self.down(self.fine(t))))
        y: Tensor = full_precision(self.linear, x - prediction) + t.float()
        return y


class Context(nn.Module):
    """Features of the frame before to the context of the next, and to what is added to its prediction.

    Args:
        c: Widths.
    """

    def __init__(self, c: VideoLightConfig) -> None:
        super().__init__()
        gated = [DepthwiseBlock(c.feature, (5, 5)) for _ in range(c.context_blocks - 1)]
        self.blocks = nn.Sequential(*gated, DepthwiseBlock(c.feature, (5, 5), gated=False))
        self.tail = zero(nn.Conv2d(c.feature, PLANES, 1))

    def forward(self, frame: Tensor, feature: Tensor) -> tuple[Tensor, Tensor]:
        """Return the prediction (B, 96, H / 8, W / 8) and the context (B, C, H / 8, W / 8)."""
        context = self.blocks(feature)
        return frame + self.tail(context).float(), context


class Decoder(nn.Module):
    """g_s: latent, gain taken out, prediction and context to the frame and its features.

    Args:
        c: Widths.
    """

    def __init__(self, c: VideoLightConfig) -> None:
        super().__init__()
        self.linear = SubpixelUp(c.latent, PLANES, 2)
        self.head = nn.Conv2d(2 * PLANES, c.feature, 1)
        self.blocks = DepthwiseBlocks(c.feature, c.decoder_blocks)
        self.tail = zero(nn.Conv2d(c.feature, PLANES, 1))

    def forward(self, y: Tensor, prediction: Tensor, context: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
        """Return the frame (B, 96, H / 8, W / 8) and features; ``gain`` (B, C, 1, 1) is that of the rate point."""
        difference = full_precision(self.linear, y)
        plain = prediction + difference
        t = self.head(torch.cat([plain, difference], 1)) + context
        feature = self.blocks(t * gain.to(t.dtype))
        return plain + self.tail(feature).float(), feature


def zero(conv: nn.Conv2d) -> nn.Conv2d:
    """Set a convolution to zero, in place; return it."""
    for parameter in conv.parameters():
        nn.init.zeros_(parameter)
    return conv

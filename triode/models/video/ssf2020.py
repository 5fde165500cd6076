"""``ssf2020``: scale-space flow (Agustsson et al., CVPR 2020), with the layers and widths of CompressAI's model.

A frame is predicted from the one before by a coded flow that also says how much to blur; what is left is coded beside.
Pictures are RGB inside. Each of the three latents (of intra frames, flow, residual) has a hyperprior of its own, and
nothing of frames before enters the entropy coding, so that any frame's symbols decode alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from triode.container import FrameKind
from triode.entropy.bounds import soft_clamp
from triode.entropy.coder import SymbolReader, SymbolWriter
from triode.entropy.context.model import ContextModel
from triode.entropy.context.schedule import parallel
from triode.entropy.context.split import SplitParameters
from triode.entropy.exact.layers import FRACTION_BITS, register_twin
from triode.entropy.factorized import FactorizedPrior
from triode.entropy.hyperprior import Hyperprior
from triode.entropy.outputs import HyperOutput
from triode.models.base import FrameStep, VideoLatent, VideoModel, VideoOutput, VideoState, Yuv
from triode.models.layers.conv import RateFree, conv, deconv
from triode.models.layers.scale_space import scale_space, scale_space_warp
from triode.models.registry import register_model
from triode.models.video.colour import rgb_to_yuv, yuv_to_rgb

__all__ = ["Ssf2020", "Ssf2020Config"]

_BYTE = 255


@dataclass(frozen=True, slots=True)
class Ssf2020Config:
    """Widths and rate of :class:`Ssf2020`.

    Attributes:
        N: Channels inside of the transforms.
        M: Channels of each latent, and of its hyper-latent.
        lmbda: Weight of the distortion (lambda * 255**2 * MSE + bits per pixel) that the model is trained with.
        levels: Blurred versions of a frame in its scale space.
        sigma: Standard deviation of the blur, in pixels.
    """

    N: int = 128
    M: int = 192
    lmbda: float = 0.01
    levels: int = 5
    sigma: float = 1.5

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: If one is out of its range.
        """
        if self.N < 1 or self.M < 1 or not 1 <= self.levels <= 5:
            raise ValueError(f"Widths must be >= 1, levels 1 to 5, but got N={self.N}, M={self.M}, {self.levels}")
        if not self.lmbda > 0 or not self.sigma > 0:
            raise ValueError(f"Lambda and sigma must be > 0, but got {self.lmbda} and {self.sigma}")


class _ByteClamp(nn.Module):
    """Clamps to 0 to 255: the rectifier of integer networks (Ballé, Johnston & Minnen, ICLR 2019)."""

    def __init__(self, unit: int = 1) -> None:
        super().__init__()
        self.top = float(_BYTE * unit)

    def forward(self, x: Tensor) -> Tensor:
        return soft_clamp(x, 0.0, self.top)


register_twin(_ByteClamp, lambda _: _ByteClamp(1 << FRACTION_BITS))


class _HyperSynthesis(nn.Module):
    """h_s: z (B, M, h / 8, w / 8) to scales and means (B, 2 M, h, w). Becomes integers."""

    def __init__(self, m: int) -> None:
        super().__init__()
        self.scale = nn.Sequential(deconv(m, m), _ByteClamp(), deconv(m, m), _ByteClamp(), deconv(m, m), _ByteClamp())
        self.mean = nn.Sequential(deconv(m, m), nn.ReLU(), deconv(m, m), nn.ReLU(), deconv(m, m))

    def forward(self, z: Tensor, q: Tensor) -> Tensor:
        return torch.cat([self.scale(z), self.mean(z)], 1)


class _Branch(nn.Module):
    """A transform pair around a latent with a hyperprior.

    Args:
        inputs: Channels that are analysed.
        outputs: Channels that the synthesis gives.
        latents: Latents of M channels that the synthesis sees.
        c: Widths.
    """

    def __init__(self, inputs: int, outputs: int, latents: int, c: Ssf2020Config) -> None:
        super().__init__()
        n, m = c.N, c.M
        self.encoder = nn.Sequential(
            conv(inputs, n), nn.ReLU(), conv(n, n), nn.ReLU(), conv(n, n), nn.ReLU(), conv(n, m)
        )
        self.decoder = nn.Sequential(
            deconv(latents * m, n), nn.ReLU(), deconv(n, n), nn.ReLU(), deconv(n, n), nn.ReLU(), deconv(n, outputs)
        )
        self.entropy = Hyperprior(
            RateFree(conv(m, m), nn.ReLU(), conv(m, m), nn.ReLU(), conv(m, m)),
            _HyperSynthesis(m),
            FactorizedPrior(m, learned_medians=True),
            ContextModel(parallel(m), SplitParameters(means=True)),
            stride=8,
        )

    def code(self, x: Tensor, q: Tensor) -> HyperOutput:
        """Analyse and quantise, differentiably; x (B, inputs, H, W), H and W multiples of 128."""
        y = self.encoder(x)
        with torch.autocast(x.device.type, enabled=False):
            return cast(HyperOutput, self.entropy(y.float(), q))

    def write(self, x: Tensor, writer: SymbolWriter) -> Tensor:
        """Write the latent of x (1, inputs, H, W), H and W multiples of 16; return it quantised."""
        return self.entropy.encode(self.encoder(x).float(), _NONE, writer)


_NONE = torch.zeros(1, dtype=torch.int64)  # There is but one rate.


class Ssf2020(VideoModel):
    """See the module's text.

    Args:
        config: Widths and lambda.
    """

    kinds = frozenset({FrameKind.INTRA, FrameKind.INTER})
    config: Ssf2020Config
    stride = 16
    multiple = 16

    def __init__(self, config: Ssf2020Config | None = None) -> None:
        super().__init__()
        c = self.config = config or Ssf2020Config()
        # Layers of N channels at half of the resolution, or the scale space.
        self.frame_bytes = 200 + 4 * c.N
        self.img = _Branch(3, 3, 1, c)
        self.motion = _Branch(6, 3, 1, c)
        self.res = _Branch(3, 3, 2, c)

    def forward(self, frames: Sequence[Yuv], q: Tensor) -> VideoOutput:
        """Code and decode frames of BT.709, differentiably; no gradient leads back into the first one.

        Args:
            frames: The frames in order, sides multiples of 128.
            q: (B,) rate points, not looked at.
        """
        pictures = [yuv_to_rgb(frame, "bt709").clamp(0, 1) for frame in frames]
        first = self.img.code(pictures[0], q)
        made = [self.img.decoder(first.y_hat)]
        empty = torch.zeros_like(first.bits["y"])
        bits = [{"y": first.bits["y"], "z": first.bits["z"], "motion_y": empty, "motion_z": empty}]
        before = made[0].detach()
        for x in pictures[1:]:
            motion = self.motion.code(torch.cat([x, before], 1), q)
            prediction = self.predict(before, motion.y_hat)
            rest = self.res.code(x - prediction, q)
            before = self._correct(prediction, motion.y_hat, rest.y_hat)
            made.append(before)
            bits.append({**rest.bits, "motion_y": motion.bits["y"], "motion_z": motion.bits["z"]})
        stacked = {part: torch.stack([each[part] for each in bits], 1) for part in bits[0]}
        return VideoOutput(tuple(rgb_to_yuv(x.float(), "bt709") for x in made), stacked)

    def predict(self, before: Tensor, motion: Tensor) -> Tensor:
        """Predict a frame.

        Args:
            before: (B, 3, H, W) the frame before, RGB.
            motion: (B, M, H / 16, W / 16) the latent of the flow.

        Returns:
            (B, 3, H, W).
        """
        flow = self.motion.decoder(motion)
        return scale_space_warp(scale_space(before, self.config.sigma, self.config.levels), flow[:, :2], flow[:, 2:])

    def _correct(self, prediction: Tensor, motion: Tensor, rest: Tensor) -> Tensor:
        x: Tensor = prediction + self.res.decoder(torch.cat([rest, motion], 1))
        return x

    def rate_lambda(self, q: Tensor) -> Tensor:
        """Return the configuration's lambda for each rate point (B,), as (B,) float32."""
        return torch.full(q.shape, self.config.lmbda, device=q.device)

    def encode(self, frame: Yuv, step: FrameStep, state: VideoState, writer: SymbolWriter) -> VideoLatent:
        """Write the symbols of one frame."""
        x = yuv_to_rgb(frame, state.format.matrix).clamp(0, 1).contiguous(memory_format=torch.channels_last)
        if step.kind is FrameKind.INTRA:
            return VideoLatent((self.img.write(x, writer),))
        (before,) = state.features
        motion = self.motion.write(torch.cat([x, before], 1), writer)
        rest = self.res.write(x - self.predict(before, motion), writer)
        return VideoLatent((motion, rest))

    def decode(self, step: FrameStep, state: VideoState, reader: SymbolReader) -> VideoLatent:
        """Read the symbols of one frame; nothing of the frames before is needed."""
        size = (state.format.height // self.stride, state.format.width // self.stride)
        branches = (self.img,) if step.kind is FrameKind.INTRA else (self.motion, self.res)
        return VideoLatent(tuple(branch.entropy.decode(size, _NONE, reader) for branch in branches))

    def synthesis(self, latent: VideoLatent, step: FrameStep, state: VideoState) -> tuple[Yuv, VideoState]:
        """Make a frame of its symbols and of the frame before."""
        if step.kind is FrameKind.INTRA:
            x: Tensor = self.img.decoder(latent.values[0])
        else:
            motion, rest = latent.values
            x = self._correct(self.predict(state.features[0], motion), motion, rest)
        after = replace(self.skip(latent, state), features=(x,))
        return rgb_to_yuv(x.clamp(0, 1), state.format.matrix), after

    def export(self) -> None:
        """Freeze the integer state of the three entropy models."""
        for branch in (self.img, self.motion, self.res):
            branch.entropy.export()


@register_model("ssf2020", Ssf2020Config, media="video")
def ssf2020(config: Ssf2020Config) -> Ssf2020:
    """Build :class:`Ssf2020`."""
    return Ssf2020(config)

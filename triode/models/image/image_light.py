"""``image-light``: a variable-rate image codec for two CPU cores.

One linear transform of 16x16 pixel blocks, started from their principal components, with light networks beside it that
learn what a linear transform cannot; a hyperprior and a four-step quadtree context in integers; per-rate-point gains.
All entropy networks work on latents with the gain taken out, so that a new rate point only shifts the ladder index.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from triode.entropy.coder import SymbolReader, SymbolWriter
from triode.entropy.context.model import ContextModel
from triode.entropy.context.schedule import QUAD_PHASES, quadtree
from triode.entropy.exact.narrow import FirstRateGain, InnerRateBias, OutputConv2d, narrow_twins
from triode.entropy.factorized import FactorizedPrior
from triode.entropy.gaussian import SCALE_COUNT, SCALE_MAX, SCALE_MIN
from triode.entropy.hyperprior import Hyperprior
from triode.entropy.rate import RateBias, RateGain
from triode.models.base import ImageModel, Output
from triode.models.layers.blocks import DepthwiseBlocks, SubpixelDown, SubpixelUp, added
from triode.models.layers.pca import principal_components
from triode.models.layers.precision import full_precision
from triode.models.layers.products import is_multiplied, positions, weights
from triode.models.layers.strips import strips
from triode.models.registry import register_model
from triode.models.restoration import Restoration

_STEP = math.log(SCALE_MAX / SCALE_MIN) / (SCALE_COUNT - 1)
_SLOPE = 0.125
_INT8_COARSE: Final = (("gate",), ("expand", "project", "gate", "merge"))
_INT8_FINE: Final = (("expand", "project", "gate"),)
"""Layers of the synthesis's blocks in 8 bits, if any are; the others would lose most by it (ADR 0014)."""


@dataclass(frozen=True, slots=True)
class ImageLightConfig:
    """Widths of :class:`ImageLight`.

    Attributes:
        latent: Channels of y, a multiple of 4, at 1/16 of the resolution.
        hyper: Channels of z, at 1/64.
        fine: Channels of the transforms at 1/8.
        coarse: Channels of the transforms at 1/16.
        encoder_fine: Blocks of the analysis at 1/8; ``*_coarse`` at 1/16.
        encoder_coarse: See above.
        decoder_fine: Blocks of the synthesis at 1/8; ``*_coarse`` at 1/16.
        decoder_coarse: See above.
        decoder_int8: Whether most products of the synthesis are in 8 bits, see :mod:`triode.models.layers.int8`.
        context: Channels of the spatial context; 0 codes every step from the hyperprior alone.
        features: Channels of the hyper-decoder's features.
        parameters: Hidden channels of the parameter network.
        narrow: Whether the entropy networks are integers of 12 bits, see :mod:`triode.entropy.exact.narrow`.
        gated: Whether the blocks of analysis and synthesis have a gated part.
        anchors: Learned rate points.
        lambda_min: Weight of the distortion at rate point 0 (lambda * 255**2 * MSE + bits per pixel).
        lambda_max: The same at rate point 63.
        restored: Whether tiles bring coefficients of a filter along, see :mod:`triode.models.restoration`.
    """

    latent: int = 256
    hyper: int = 64
    fine: int = 128
    coarse: int = 256
    encoder_fine: int = 3
    encoder_coarse: int = 3
    decoder_fine: int = 3
    decoder_coarse: int = 2
    decoder_int8: bool = False
    context: int = 96
    features: int = 192
    parameters: int = 128
    narrow: bool = False
    gated: bool = True
    anchors: int = 8
    lambda_min: float = 0.0007
    lambda_max: float = 0.16
    restored: bool = False


def _blocks(channels: int, count: int, c: ImageLightConfig, int8: Sequence[Collection[str]] = ((),)) -> nn.Module:
    return DepthwiseBlocks(channels, count, gated=c.gated, int8=int8)


class _Analysis(nn.Module):
    """g_a: pixels (B, 3, H, W) to latent (B, M, H/16, W/16), before the gain."""

    def __init__(self, c: ImageLightConfig) -> None:
        super().__init__()
        self.linear = nn.Conv2d(3, c.latent, 16, stride=16)
        self.head = SubpixelDown(3, c.fine, 8)
        self.head_gain = RateGain(c.fine, c.anchors)
        self.fine = _blocks(c.fine, c.encoder_fine, c)
        self.down = SubpixelDown(c.fine, c.coarse, 2)
        self.down_gain = RateGain(c.coarse, c.anchors)
        self.coarse = _blocks(c.coarse, c.encoder_coarse, c)
        self.tail = nn.Conv2d(c.coarse, c.latent, 1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, q: Tensor) -> Tensor:
        t = self.fine(self.head_gain(self.head(x), q))
        t = self.coarse(self.down_gain(self.down(t), q))
        return added(full_precision(self.linear, x), self.tail(t).float())


class _Synthesis(nn.Module):
    """g_s: latent (B, M, h, w), gain taken out, to pixels (B, 3, 16h, 16w) around a level."""

    def __init__(self, c: ImageLightConfig) -> None:
        super().__init__()
        self.linear = SubpixelUp(c.latent, 3, 16, planar=True)
        self.head = nn.Conv2d(c.latent, c.coarse, 1)
        self.head_gain = RateGain(c.coarse, c.anchors)
        coarse, fine = (_INT8_COARSE, _INT8_FINE) if c.decoder_int8 else (((),), ((),))
        self.coarse = _blocks(c.coarse, c.decoder_coarse, c, coarse)
        self.up = SubpixelUp(c.coarse, c.fine, 2)
        self.up_gain = RateGain(c.fine, c.anchors)
        self.fine = _blocks(c.fine, c.decoder_fine, c, fine)
        self.tail = SubpixelUp(c.fine, 3, 8, planar=True)
        for parameter in self.tail.parameters():
            nn.init.zeros_(parameter)

    def forward(self, y: Tensor, q: Tensor, level: float = 0.0) -> Tensor:
        if is_multiplied(y) and len(q) == 1:
            return self._multiplied(y, q, level)
        t = self.coarse(self.head_gain(self.head(y), q))
        t = self.fine(self.up_gain(self.up(t), q))
        return added(full_precision(self.linear, y), self.tail(t).float()).add_(level)

    def _multiplied(self, y: Tensor, q: Tensor, level: float) -> Tensor:
        """Do the same at one rate point with products, strip by strip; gains go into their weights."""
        b, _, h, w = y.shape
        gain = self.head_gain.gain(q)[0]
        matrix, bias = (weights(self.head) * gain[:, None]).t(), cast(Tensor, self.head.bias) * gain
        coarse = torch.empty((b, len(gain), h, w), memory_format=torch.channels_last)
        torch.addmm(bias, positions(y), matrix, out=positions(coarse))
        coarse = self.coarse(coarse, spent=True)
        gain = self.up_gain.gain(q)[0]
        fine = torch.empty((b, len(gain), 2 * h, 2 * w), memory_format=torch.channels_last)
        up = self.up.writer(bias=cast(Tensor, self.up[0].bias) * gain.repeat_interleave(4), gain=gain, last=True)
        for strip in strips(coarse):
            up(strip.part(fine, 2), strip.part(coarse))
        fine = self.fine(fine, spent=True)
        x = torch.empty(b, 3, 16 * h, 16 * w)
        # Both paths' biases are a pattern of 16 x 16 pixels.
        pattern = cast(Tensor, self.tail[0].bias).view(3, 8, 8).repeat(1, 2, 2).flatten()
        linear = self.linear.writer(bias=cast(Tensor, self.linear[0].bias) + pattern + level)
        tail = self.tail.writer(bias=None, add=True)
        for strip in strips(y):
            linear(strip.part(x, 16), strip.part(y))
            tail(strip.part(x, 16), strip.part(fine, 2))
        return x


class _HyperAnalysis(nn.Module):
    """h_a: latent (B, M, h, w), gain taken out, to z (B, Z, h/4, w/4)."""

    def __init__(self, c: ImageLightConfig) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(c.latent, c.parameters, 1),
            nn.LeakyReLU(_SLOPE),
            SubpixelDown(c.parameters, c.parameters),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(c.parameters, c.parameters, 3, padding=1, groups=c.parameters),
            SubpixelDown(c.parameters, c.hyper),
        )
        self.gain = RateGain(c.hyper, c.anchors)

    def forward(self, y: Tensor, q: Tensor) -> Tensor:
        z: Tensor = self.gain(self.net(y), q).float()
        return z


class _HyperSynthesis(nn.Module):
    """h_s: z (B, Z, h/4, w/4) to features (B, F, h, w). Becomes integers."""

    def __init__(self, c: ImageLightConfig) -> None:
        super().__init__()
        if c.narrow:
            self.twins = narrow_twins()
        self.gain = FirstRateGain(c.hyper, c.anchors)
        self.stem = nn.Conv2d(c.hyper, c.parameters, 3, padding=1)
        self.bias = InnerRateBias(c.parameters, c.anchors)
        self.act = nn.LeakyReLU(_SLOPE)
        self.net = nn.Sequential(
            SubpixelUp(c.parameters, c.parameters),
            nn.LeakyReLU(_SLOPE),
            nn.Conv2d(c.parameters, c.parameters, 3, padding=1, groups=c.parameters),
            SubpixelUp(c.parameters, c.features),
        )

    def forward(self, z: Tensor, q: Tensor) -> Tensor:
        features: Tensor = self.net(self.act(self.bias(self.stem(self.gain(z, q)), q)))
        return features


class QuadtreeParameters(nn.Module):
    """Means and ladder indices of the four quadtree steps. Becomes integers.

    Each step sees what is decoded so far through a pointwise projection and a depthwise 3x3, adds the hyper-features,
    and ends in one projection a phase, as the four phases code four different channel groups.

    Args:
        c: Widths.
    """

    def __init__(self, c: ImageLightConfig) -> None:
        super().__init__()
        if c.narrow:
            self.twins = narrow_twins()
        self.schedule = quadtree(c.latent)
        self.group = c.latent // 4
        self.normalise = FirstRateGain(c.latent, c.anchors)
        n = c.context
        seeing = range(3 if n else 0)
        self.project = nn.ModuleList(nn.Conv2d(c.latent, n, 1) for _ in seeing)
        self.spatial = nn.ModuleList(nn.Conv2d(n, n, 3, padding=1, groups=n) for _ in seeing)
        self.expand = nn.ModuleList(nn.Conv2d(n, c.features, 1) for _ in seeing)
        self.fuse = nn.ModuleList(nn.Conv2d(c.features, c.parameters, 1) for _ in range(4))
        self.output = nn.ModuleList(OutputConv2d(4 * c.parameters, 4 * 2 * self.group, 1, groups=4) for _ in range(4))
        self.act = nn.LeakyReLU(_SLOPE)
        self.mean_gain = RateGain(c.latent, c.anchors)
        self.index_bias = RateBias(c.latent, c.anchors)

    def forward(self, step: int, y_hat: Tensor, hyper: Tensor, q: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return mean and ladder index of the entries of a step; see :class:`~triode.entropy.context.model`."""
        if step and self.project:
            hyper = added(self.context(step, self.normalise(y_hat, q)), hyper)
        out = self.by_group(step, self.output[step], self.hidden(step, hyper))
        return self.maps(out[:, 0], out[:, 1], q)

    def context(self, step: int, latent: Tensor) -> Tensor:
        """Return features (B, F, h, w) of what is decoded before a step, (B, M, h, w) with the gain taken out."""
        context = self.spatial[step - 1](self.project[step - 1](latent))
        features: Tensor = self.expand[step - 1](self.act(context))
        return features

    def hidden(self, step: int, features: Tensor) -> Tensor:
        """Return the hidden layer (B, P, h, w) of a step."""
        hidden: Tensor = self.act(self.fuse[step](self.act(features)))
        return hidden

    def by_group(self, step: int, layer: nn.Module, hidden: Tensor) -> Tensor:
        """Project the hidden layer of a step, each phase to the group that it codes then.

        Args:
            step: Number of the step.
            layer: Pointwise, from 4 P channels to 4 n M / 4, in four groups.
            hidden: (B, P, h, w).

        Returns:
            (B, n, M, h / 2, w / 2).
        """
        b, c, h, w = hidden.shape
        squares = hidden.reshape(b, c, h // 2, 2, w // 2, 2)
        out = layer(squares.permute(0, 3, 5, 1, 2, 4).reshape(b, 4 * c, h // 2, w // 2))
        by_phase = out.reshape(b, 4, -1, self.group, h // 2, w // 2).unbind(1)
        # Entry g of this step stands at one phase; put the phases into the order of the groups.
        return torch.cat([by_phase[dy * 2 + dx] for dy, dx in (QUAD_PHASES[(step + g) % 4] for g in range(4))], 2)

    def maps(self, mean: Tensor, index: Tensor, q: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return the entries of a step given means, gain taken out, and indices before their bias."""
        mean, index = self.mean_gain(mean, q), self.index_bias(index, q)
        return list(zip(mean.chunk(4, 1), index.chunk(4, 1), strict=True))


class ImageLight(ImageModel):
    """See the module's text.

    Args:
        config: Widths.
    """

    rdoq = 8.0
    """Rate-distortion optimised quantisation: price of the distortion against its nominal one; 0 rounds to nearest."""
    config: ImageLightConfig
    stride = 16
    multiple = 16

    def __init__(self, config: ImageLightConfig | None = None) -> None:
        super().__init__()
        c = self.config = config or ImageLightConfig()
        # A block's depthwise filter reaches one position each way: 8 pixels at 1/8, 16 at 1/16.
        self.analysis_halo = 16 * (c.encoder_coarse + (c.encoder_fine + 1) // 2)
        self.synthesis_halo = c.decoder_coarse + (c.decoder_fine + 1) // 2
        if c.restored:
            self.restoration = Restoration()
            self.rdoq = 6.0  # By held-back photos, of weights whose entropy networks were trained on chosen symbols.
            self.synthesis_halo += 1  # Its reach, of a few pixels.
        anchors = torch.linspace(0, 1, c.anchors)
        lambdas = c.lambda_min * (c.lambda_max / c.lambda_min) ** anchors
        gain = 2.0 * torch.sqrt(lambdas / 0.0018)
        self.g_a, self.g_s = _Analysis(c), _Synthesis(c)
        self.gain = RateGain(c.latent, c.anchors, gain)
        self.inverse_gain = RateGain(c.latent, c.anchors, 1 / gain)
        parameters = QuadtreeParameters(c)
        parameters.normalise = FirstRateGain(c.latent, c.anchors, 1 / gain)
        parameters.mean_gain = RateGain(c.latent, c.anchors, gain)
        with torch.no_grad():
            parameters.index_bias.bias.copy_((gain.log() / _STEP)[:, None].expand(-1, c.latent))
        self.entropy = Hyperprior(
            _HyperAnalysis(c),
            _HyperSynthesis(c),
            FactorizedPrior(c.hyper),
            ContextModel(quadtree(c.latent), parameters),
            stride=4,
        )

    @torch.no_grad()
    def init_linear(self, components: Tensor, deviations: Tensor) -> None:
        """Start the linear path from principal components of 16x16x3 blocks.

        Args:
            components: (M, 3, 16, 16) orthonormal.
            deviations: (M,) standard deviation of pixels in [0, 1] along each.
        """
        m = self.config.latent
        self.g_a.linear.weight.copy_(components)
        self.g_a.linear.bias.zero_()  # type: ignore[union-attr]
        back = cast(nn.Conv2d, self.g_s.linear[0])
        back.weight.copy_(components.reshape(m, -1).t().reshape(768, m, 1, 1))
        back.bias.zero_()  # type: ignore[union-attr]
        net = cast(QuadtreeParameters, self.entropy.context.parameter_net)
        index = torch.log(deviations.clamp_min(1e-4) * 0.5 / SCALE_MIN) / _STEP
        group = m // 4
        for step, layer in enumerate(net.output):
            conv = cast(nn.Conv2d, layer)
            conv.weight.mul_(0.1)
            bias = torch.zeros(4, 2, group)
            for g in range(4):
                dy, dx = QUAD_PHASES[(step + g) % 4]
                bias[dy * 2 + dx, 1] = index[g * group : (g + 1) * group]
            conv.bias.copy_(bias.flatten())  # type: ignore[union-attr]

    def rate_lambda(self, q: Tensor) -> Tensor:
        """Return the weight of the distortion at rate points ``q`` (B,), as (B,) float."""
        c = self.config
        return c.lambda_min * (c.lambda_max / c.lambda_min) ** (q / 63.0)

    def forward(self, x: Tensor, q: Tensor) -> Output:
        """Code and decode a batch, differentiably.

        Args:
            x: (B, 3, H, W) float in [0, 1], sRGB; H and W multiples of 64.
            q: (B,) rate points in [0, 63].

        Returns:
            Reconstruction, unclamped, and bits.
        """
        y = self.g_a(x - 0.5, q)
        with torch.autocast(x.device.type, enabled=False):
            latent = self.entropy(self.gain(y, q), q, side=y)
        return Output(self.g_s(self.inverse_gain(latent.y_hat, q), q) + 0.5, latent.bits)

    def analysis(self, x: Tensor, q: Tensor) -> Tensor:
        """Return the latent (B, M, H/16, W/16), gain not applied, of pixels (B, 3, H, W) in [0, 1]."""
        y: Tensor = self.g_a(x - 0.5, q)
        return y

    def encode(self, y: Tensor, q: Tensor, writer: SymbolWriter) -> Tensor:
        """Write one latent (1, M, h, w), gain not applied, at an integer rate point (1,); see :class:`Hyperprior`."""
        return self.encode_priced(y, q, writer, 1.0)

    def encode_priced(self, y: Tensor, q: Tensor, writer: SymbolWriter, price: float) -> Tensor:
        """Write one latent as :meth:`encode` does, its errors at ``price`` times what the rate point says."""
        weight = self.error_weight(q)
        weight = None if weight is None else price * weight
        return self.entropy.encode(self.scale(y, q), q, writer, side=y, weight=weight)

    def error_weight(self, q: Tensor) -> Tensor | None:
        """Return what a squared error of one unit costs in each channel of y, (M,) bits, at a rate point (1,).

        An error passes through the inverse gain and the linear synthesis; the rest of the synthesis is left out.
        """
        if not self.rdoq:
            return None
        norm = cast(nn.Conv2d, self.g_s.linear[0]).weight.flatten(1).square().sum(0)
        return self.rdoq * self.rate_lambda(q) * 255**2 / 3 * self.inverse_gain.gain(q)[0] ** 2 * norm

    def decode(self, shape: tuple[int, int], q: Tensor, reader: SymbolReader) -> Tensor:
        """Read one quantised latent (1, M, h, w), gain applied, given its (h, w)."""
        return self.entropy.decode(shape, q, reader)

    def scale(self, y: Tensor, q: Tensor) -> Tensor:
        """Apply the gain to a latent (B, M, h, w)."""
        scaled: Tensor = self.gain(y, q)
        return scaled

    def dequantise(self, y_hat: Tensor, q: Tensor) -> Tensor:
        """Take the gain out of a quantised latent (B, M, h, w)."""
        y: Tensor = self.inverse_gain(y_hat, q)
        return y

    def synthesis(self, y: Tensor, q: Tensor) -> Tensor:
        """Return pixels (B, 3, 16h, 16w), unclamped, of a dequantised latent (B, M, h, w)."""
        x: Tensor = self.g_s(y, q, 0.5)
        return x

    def export(self) -> None:
        """Freeze the integer entropy networks and tables."""
        self.entropy.export()
        if self.restoration is not None:
            self.restoration.export()

    def init_from_data(self, images: Iterable[NDArray[np.uint8]]) -> None:
        """Start the linear path from the principal components of the images' 16x16 blocks."""
        self.init_linear(*principal_components(images, 16, self.config.latent))


@register_model("image-light", ImageLightConfig)
def image_light(config: ImageLightConfig) -> ImageLight:
    """Build :class:`ImageLight`."""
    return ImageLight(config)

"""Convolution blocks that are cheap on CPUs: pointwise products, depthwise filters, sub-pixel resampling."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triode.models.layers.products import is_multiplied, pointwise, positions
from triode.models.layers.strips import is_cut, strips

_SLOPE = 0.125


def added(out: Tensor, x: Tensor) -> Tensor:
    """Return ``out + x``, in the memory of ``out``, what a layer has just made, where the sum is of its type.

    Large tensors are mapped anew by the system each time: not to ask for one saves more than the addition costs.
    """
    same = out.dtype == x.dtype or (out.dtype == torch.float32 and x.dtype != torch.float64)
    return out.add_(x) if same else out + x


class DepthwiseBlock(nn.Module):
    """Residual block: pointwise, depthwise, pointwise; then a gated pointwise feed-forward part.

    ``x + W2 dw(act(W1 x))``, then ``x + W4 (a * relu(b))`` with ``a, b = W3 x``: 5 C**2 + 9 C multiplications a
    position with a filter of 3x3. The gate stands in for GDN's division, as in NAFNet (Chen et al., ECCV 2022), and
    needs no normalisation as the last product of each branch starts at zero.

    Args:
        channels: Channels C.
        kernel: Rows and columns of the depthwise filter, odd.
        gated: Whether there is a feed-forward part.
    """

    def __init__(self, channels: int, kernel: tuple[int, int] = (3, 3), *, gated: bool = True) -> None:
        super().__init__()
        self.gated = gated
        self.expand = nn.Conv2d(channels, channels, 1)
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.spatial = nn.Conv2d(channels, channels, kernel, padding=padding, groups=channels)
        self.project = nn.Conv2d(channels, channels, 1)
        ends = [self.project]
        if gated:
            self.gate = nn.Conv2d(channels, 2 * channels, 1)
            self.merge = nn.Conv2d(channels, channels, 1)
            ends.append(self.merge)
        for last in ends:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Map (B, C, H, W) to the same shape.

        Args:
            x: Input.
            out: Memory for the output where layers are products (:func:`is_multiplied`); not that of the input.
        """
        if is_multiplied(x):
            return self._multiplied(x, torch.empty_like(x) if out is None else out)
        filtered = self.spatial(F.leaky_relu(self.expand(x), _SLOPE, inplace=True))
        x = added(self.project(filtered), x)
        if not self.gated:
            return x
        gates = self.gate(x)
        a, b = gates.narrow(1, 0, x.shape[1]), gates.narrow(1, x.shape[1], x.shape[1])
        return added(self.merge(a * F.relu(b, inplace=True)), x)

    def _multiplied(self, x: Tensor, out: Tensor) -> Tensor:
        """Write to ``out`` what the layers give, strip by strip; products add to what is there."""
        bias = cast(Tensor, self.project.bias)
        gates: list[tuple[Tensor, Tensor]] = []
        if self.gated:
            # Both branches' biases are added at once; the gate, which looks on in between, takes its own for that.
            weight, last = self.gate.weight.flatten(1), cast(Tensor, self.merge.bias)
            shift = cast(Tensor, self.gate.bias) - weight @ last
            gates, bias = list(zip(weight.chunk(2), shift.chunk(2), strict=True)), bias + last
        for strip in strips(x, self.spatial.kernel_size[0] // 2):
            hidden = F.leaky_relu(pointwise(self.expand, x[:, :, strip.around]), _SLOPE, inplace=True)
            filtered = self.spatial(hidden)[:, :, strip.own]
            y = positions(out[:, :, strip.rows])
            torch.add(positions(x[:, :, strip.rows]), bias, out=y)
            y.addmm_(positions(filtered), self.project.weight.flatten(1).t())
            if self.gated:
                a, b = (F.linear(y, *half) for half in gates)
                y.addmm_(b.relu_().mul_(a), self.merge.weight.flatten(1).t())
        return out


class DepthwiseBlocks(nn.Sequential):
    """Blocks one after the other, whose outputs take turns in the same memory where nothing is learnt.

    Args:
        channels: Channels C.
        count: How many.
        kernel: Rows and columns of the depthwise filters, odd.
        gated: Whether there are feed-forward parts.
    """

    def __init__(self, channels: int, count: int, kernel: tuple[int, int] = (3, 3), *, gated: bool = True) -> None:
        super().__init__(*(DepthwiseBlock(channels, kernel, gated=gated) for _ in range(count)))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        spare: Tensor | None = None
        for number, block in enumerate(self):
            before, x = x, block(x, spare)
            # What came in is not ours to write to; what no strips are cut of is of use to others.
            spare = before if number and is_cut(x) else None
        return x


class PlanarShuffle(nn.PixelShuffle):
    """``nn.PixelShuffle`` for pictures of few channels: each is one piece of memory, and made in half of the time."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, f**2 C, H, W) to (B, C, f H, f W), contiguous."""
        b, _, h, w = x.shape
        f = self.upscale_factor
        return x.reshape(b, -1, f, f, h, w).permute(0, 1, 4, 2, 5, 3).reshape(b, -1, f * h, f * w)


class SubpixelUp(nn.Sequential):
    """Pointwise convolution and pixel shuffle: (B, I, H, W) to (B, O, fH, fW) (Shi et al., CVPR 2016).

    Args:
        in_channels: I.
        out_channels: O.
        factor: f.
        planar: Whether the output is contiguous whatever the input is.
    """

    def __init__(self, in_channels: int, out_channels: int, factor: int = 2, *, planar: bool = False) -> None:
        shuffle = PlanarShuffle if planar else nn.PixelShuffle
        super().__init__(nn.Conv2d(in_channels, out_channels * factor**2, 1), shuffle(factor))

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        out: Tensor = self[1](pointwise(self[0], x))
        return out


class SubpixelDown(nn.Sequential):
    """Pixel unshuffle and pointwise convolution: (B, I, fH, fW) to (B, O, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, factor: int = 2) -> None:
        super().__init__(nn.PixelUnshuffle(factor), nn.Conv2d(in_channels * factor**2, out_channels, 1))

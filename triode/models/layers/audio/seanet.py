"""SEANet's encoder and decoder as EnCodec uses them (Tagliasacchi et al., 2020; Défossez et al., TMLR 2023).

Attribute names follow EnCodec's public weights. Causal networks run on streams, which theirs were meant to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from triode.models.layers.audio.conv import Norm, PaddedConv1d, PaddedConvTranspose1d, Padding
from triode.models.layers.audio.streaming import ChainState, StreamChain, StreamModule

__all__ = [
    "ResidualLstm",
    "ResidualState",
    "SeanetConfig",
    "SeanetDecoder",
    "SeanetEncoder",
    "SeanetResidual",
]


@dataclass(frozen=True, slots=True)
class SeanetConfig:
    """Shape of an encoder and of the decoder that mirrors it. The defaults are EnCodec's at 24 kHz.

    Attributes:
        channels: Channels of the signal.
        dimension: Channels of the features.
        filters: Channels at the signal's rate; they double at each stride.
        strides: Subsampling factors of the encoder, in its order.
        residual_layers: Residual blocks at each rate.
        kernel: Taps of the first convolution.
        last_kernel: Taps of the last convolution.
        residual_kernel: Taps of the first convolution in a residual block.
        dilation_base: Residual block j of a rate has dilation ``dilation_base**j``.
        compress: A residual block has ``channels // compress`` channels inside.
        true_skip: Whether a residual block's other path is the identity; else it is a pointwise convolution.
        lstm: Layers of the LSTM at the features' rate; 0 for none.
        causal: Whether no output looks ahead (within its stride).
        norm: See :class:`~triode.models.layers.audio.conv.PaddedConv1d`; EnCodec at 48 kHz has ``group``.
        padding: See there.
    """

    channels: int = 1
    dimension: int = 128
    filters: int = 32
    strides: tuple[int, ...] = (2, 4, 5, 8)
    residual_layers: int = 1
    kernel: int = 7
    last_kernel: int = 7
    residual_kernel: int = 3
    dilation_base: int = 2
    compress: int = 2
    true_skip: bool = False
    lstm: int = 2
    causal: bool = True
    norm: Norm = "weight"
    padding: Padding = "reflect"

    def __post_init__(self) -> None:
        """Check the counts.

        Raises:
            ValueError: If there is no stride, or a count is not positive.
        """
        least = min((self.channels, self.dimension, self.filters // max(self.compress, 1), *self.strides), default=0)
        if not self.strides or least < 1 or min(self.residual_layers, self.lstm) < 0:
            raise ValueError(f"Channels and strides must be positive, layers not negative, but got {self}")

    @property
    def hop(self) -> int:
        """Samples that a frame spans."""
        return math.prod(self.strides)

    def conv(
        self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, dilation: int = 1
    ) -> PaddedConv1d:
        """Build a convolution with this network's norm, padding and direction."""
        return PaddedConv1d(
            in_channels,
            out_channels,
            kernel,
            stride,
            dilation=dilation,
            causal=self.causal,
            norm=self.norm,
            padding=self.padding,
        )


@dataclass(frozen=True, slots=True, eq=False)
class ResidualState:
    """State of a :class:`SeanetResidual`.

    Attributes:
        block: State of the convolutions.
        waiting: (B, C, n) the other path's values whose sum is not complete.
    """

    block: ChainState
    waiting: Tensor


class SeanetResidual(StreamModule[ResidualState]):
    """Residual block: ELU, dilated convolution, ELU, pointwise convolution, beside a shortcut.

    Args:
        config: The network's shape.
        channels: Channels C.
        dilation: Distance of the first convolution's taps.
    """

    def __init__(self, config: SeanetConfig, channels: int, dilation: int) -> None:
        super().__init__()
        hidden = channels // config.compress
        self.block = StreamChain(
            nn.ELU(),
            config.conv(channels, hidden, config.residual_kernel, dilation=dilation),
            nn.ELU(),
            config.conv(hidden, channels, 1),
        )
        self.shortcut = nn.Identity() if config.true_skip else config.conv(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T) to the same shape."""
        y: Tensor = self.shortcut(x) + self.block(x)
        return y

    def stream_state(self, batch: int = 1) -> ResidualState:
        """Return the state before the first sample; see :meth:`StreamModule.stream_state`."""
        block = self.block.stream_state(batch)
        first = block.layers[1].held
        return ResidualState(block, first[..., :0])

    def step(self, x: Tensor, state: ResidualState) -> tuple[Tensor, ResidualState]:
        """Take the next piece (B, C, t); see :meth:`StreamModule.step`."""
        y, block = self.block.step(x, state.block)
        waiting = torch.cat((state.waiting, self.shortcut(x)), -1)
        ready = y.shape[-1]
        return waiting[..., :ready] + y, ResidualState(block, waiting[..., ready:])

    def flush(self, state: ResidualState) -> Tensor:
        """Return what is left; see :meth:`StreamModule.flush`."""
        return state.waiting + self.block.flush(state.block)


@dataclass(frozen=True, slots=True, eq=False)
class LstmState:
    """State of a :class:`ResidualLstm`.

    Attributes:
        hidden: (layers, B, C) outputs at the last time.
        cell: (layers, B, C) cells at the last time.
    """

    hidden: Tensor
    cell: Tensor


class ResidualLstm(StreamModule[LstmState]):
    """``x + LSTM(x)`` along time.

    Args:
        channels: Channels C.
        layers: Layers, one on the other.
    """

    def __init__(self, channels: int, layers: int = 2) -> None:
        super().__init__()
        self.lstm = nn.LSTM(channels, channels, layers)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, F) to the same shape."""
        return self.step(x, self.stream_state(x.shape[0]))[0]

    def stream_state(self, batch: int = 1) -> LstmState:
        """Return the state before the first frame: zeros."""
        weight = next(self.lstm.parameters())
        zeros = weight.new_zeros(self.lstm.num_layers, batch, self.lstm.hidden_size)
        return LstmState(zeros, zeros)

    def step(self, x: Tensor, state: LstmState) -> tuple[Tensor, LstmState]:
        """Take the next piece (B, C, f); see :meth:`StreamModule.step`."""
        if x.shape[-1] == 0:
            return x, state
        y, (hidden, cell) = self.lstm(x.permute(2, 0, 1), (state.hidden, state.cell))
        return x + y.permute(1, 2, 0), LstmState(hidden, cell)

    def flush(self, state: LstmState) -> Tensor:
        """Return nothing, (B, C, 0)."""
        return state.hidden[0, :, :, None][..., :0]


class _Network(StreamModule[ChainState]):
    """A chain of layers under the name that the public weights have."""

    def __init__(self, config: SeanetConfig, *layers: nn.Module) -> None:
        super().__init__()
        self.config = config
        self.model = StreamChain(*layers)

    def stream_state(self, batch: int = 1) -> ChainState:
        """Return the state before the first sample; see :meth:`StreamModule.stream_state`."""
        return self.model.stream_state(batch)

    def step(self, x: Tensor, state: ChainState) -> tuple[Tensor, ChainState]:
        """Take the next piece (B, ..., t); see :meth:`StreamModule.step`."""
        return self.model.step(x, state)

    def flush(self, state: ChainState) -> Tensor:
        """Return what is left; see :meth:`StreamModule.flush`."""
        return self.model.flush(state)


class SeanetEncoder(_Network):
    """Signal (B, C, T) to features (B, D, F), where each stride rounds the length up.

    Args:
        config: Shape of the network.
    """

    def __init__(self, config: SeanetConfig | None = None) -> None:
        c = config or SeanetConfig()
        width = c.filters
        layers: list[nn.Module] = [c.conv(c.channels, width, c.kernel)]
        for stride in c.strides:
            layers += [SeanetResidual(c, width, c.dilation_base**j) for j in range(c.residual_layers)]
            layers += [nn.ELU(), c.conv(width, 2 * width, 2 * stride, stride)]
            width *= 2
        layers += [ResidualLstm(width, c.lstm)] if c.lstm else []
        super().__init__(c, *layers, nn.ELU(), c.conv(width, c.dimension, c.last_kernel))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T) to (B, D, F); F is T / hop rounded up."""
        y: Tensor = self.model(x)
        return y


class SeanetDecoder(_Network):
    """Features (B, D, F) to a signal (B, C, hop * F).

    Args:
        config: Shape of the encoder that it mirrors.
    """

    def __init__(self, config: SeanetConfig | None = None) -> None:
        c = config or SeanetConfig()
        width = c.filters * 2 ** len(c.strides)
        layers: list[nn.Module] = [c.conv(c.dimension, width, c.kernel)]
        layers += [ResidualLstm(width, c.lstm)] if c.lstm else []
        for stride in reversed(c.strides):
            up = PaddedConvTranspose1d(width, width // 2, 2 * stride, stride, causal=c.causal, norm=c.norm)
            layers += [nn.ELU(), up]
            width //= 2
            layers += [SeanetResidual(c, width, c.dilation_base**j) for j in range(c.residual_layers)]
        super().__init__(c, *layers, nn.ELU(), c.conv(width, c.channels, c.last_kernel))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, D, F) to (B, C, hop * F)."""
        y: Tensor = self.model(x)
        return y

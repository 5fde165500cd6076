"""Convolutions along time that keep ``frames = ceil(samples / stride)``, causal or not, with weight norm or without.

Padding and attribute names are EnCodec's (Défossez et al., TMLR 2023), so that its public weights map onto them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from triode.models.layers.audio.streaming import StreamModule, require_causal

__all__ = [
    "ConvState",
    "Norm",
    "PaddedConv1d",
    "PaddedConvTranspose1d",
    "Padding",
    "TransposeState",
    "fuse_weight_norm",
    "weight_norm",
]

Norm = Literal["weight", "group", "none"]
Padding = Literal["constant", "reflect", "replicate"]
M = TypeVar("M", bound=nn.Module)


def weight_norm(layer: M) -> M:
    """Split a layer's weight into length and direction per output channel (Salimans & Kingma, NeurIPS 2016).

    State dicts of the older form, with ``weight_g`` and ``weight_v``, load as they are.
    """
    return parametrizations.weight_norm(layer)  # type: ignore[no-any-return]


def fuse_weight_norm(module: nn.Module) -> int:
    """Replace every weight-normed weight inside a module by its value, which saves its computation in each call.

    The state dict then has plain ``weight`` entries. To train further, build the module anew.

    Returns:
        How many layers were changed.
    """
    layers = [layer for layer in module.modules() if parametrize.is_parametrized(layer, "weight")]
    for layer in layers:
        # Not `remove_parametrizations`: that takes the weight off copies of the layer too, which share its class.
        weight = cast(Tensor, layer.weight).detach().clone()
        layer.__class__ = parametrize.type_before_parametrizations(layer)
        del layer.parametrizations
        layer.weight = nn.Parameter(weight)
    return len(layers)


def _norm_of(norm: Norm, channels: int, causal: bool) -> nn.Module:
    if norm == "group" and causal:
        raise ValueError("Argument `norm` must be 'weight' or 'none' in a causal layer, but got 'group'")
    return nn.GroupNorm(1, channels) if norm == "group" else nn.Identity()


class _NormedConv(nn.Module):
    """Convolution, then a norm over all channels and times if asked for."""

    def __init__(self, conv: nn.Conv1d, norm: Norm, causal: bool) -> None:
        super().__init__()
        self.conv = weight_norm(conv) if norm == "weight" else conv
        self.norm = _norm_of(norm, conv.out_channels, causal)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(x))
        return y


class _NormedConvTranspose(nn.Module):
    """The same for a transposed convolution; the other name is that of the public weights."""

    def __init__(self, conv: nn.ConvTranspose1d, norm: Norm, causal: bool) -> None:
        super().__init__()
        self.convtr = weight_norm(conv) if norm == "weight" else conv
        self.norm = _norm_of(norm, conv.out_channels, causal)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.convtr(x))
        return y


@dataclass(frozen=True, slots=True, eq=False)
class ConvState:
    """State of a :class:`PaddedConv1d`.

    Attributes:
        held: (B, I, n) inputs that outputs to come still see, padding included once it is there.
        started: Whether the padding at the start is in ``held``. Mirrored padding waits for the samples it mirrors.
    """

    held: Tensor
    started: bool


class PaddedConv1d(StreamModule[ConvState]):
    """Convolution (B, I, T) to (B, O, ceil(T / stride)).

    With effective length ``k = (kernel - 1) * dilation + 1`` it pads ``k - stride`` samples: all before the signal if
    causal, else the larger half before and the rest after; and after it whatever the last window lacks. Output i then
    sees inputs up to ``(i + 1) * stride - 1`` if causal.

    Args:
        in_channels: Channels I.
        out_channels: Channels O.
        kernel: Taps.
        stride: Subsampling factor, at most k.
        dilation: Distance of taps.
        groups: Groups of channels.
        bias: Whether there is one.
        causal: See above.
        norm: ``weight`` norm, ``group`` norm over all channels and times (never causal), or ``none``.
        padding: What lies beyond the ends: zeros (``constant``), the signal mirrored (``reflect``; a signal too short
            to be mirrored is first extended by zeros) or its last sample (``replicate``).

    Raises:
        ValueError: If the stride exceeds k, or a causal layer has a group norm.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        *,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        causal: bool = False,
        norm: Norm = "weight",
        padding: Padding = "reflect",
    ) -> None:
        super().__init__()
        self.reach = (kernel - 1) * dilation + 1
        if not 1 <= stride <= self.reach:
            raise ValueError(f"Argument `stride` must be in 1..{self.reach}, but got {stride}")
        self.stride, self.causal, self.padding = stride, causal, padding
        conv = nn.Conv1d(in_channels, out_channels, kernel, stride, dilation=dilation, groups=groups, bias=bias)
        self.conv = _NormedConv(conv, norm, causal)

    @property
    def _pad(self) -> int:
        return self.reach - self.stride

    @property
    def _spare(self) -> int:
        """Samples that no window sees any more, but which the end may still mirror."""
        return max(self.stride - 1 - self._pad, 0) if self.padding == "reflect" else 0

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, I, T) to (B, O, ceil(T / stride)), T >= 0."""
        if x.shape[-1] == 0:
            return self._none(x)
        after = 0 if self.causal else self._pad // 2
        extra = -x.shape[-1] % self.stride
        y: Tensor = self.conv(_extend(x, self._pad - after, after + extra, self.padding))
        return y

    def stream_state(self, batch: int = 1) -> ConvState:
        """Return the state before the first sample; see :meth:`StreamModule.stream_state`."""
        require_causal(self, self.causal)
        conv = self.conv.conv
        started = self.padding == "constant"
        return ConvState(conv.weight.new_zeros(batch, conv.in_channels, self._pad if started else 0), started)

    def step(self, x: Tensor, state: ConvState) -> tuple[Tensor, ConvState]:
        """Take the next piece (B, I, t); see :meth:`StreamModule.step`."""
        held = torch.cat((state.held, x), -1)
        if not state.started:
            wait = max(self._pad, self.stride - 1) if self.padding == "reflect" else 0
            if held.shape[-1] <= wait:
                return self._none(x), ConvState(held, False)
            held = F.pad(_extend(held, self._pad, 0, self.padding), (self._spare, 0))
        count = (held.shape[-1] - self._spare - self.reach) // self.stride + 1
        if count <= 0:
            return self._none(x), ConvState(held, True)
        y: Tensor = self.conv(held[..., self._spare :][..., : (count - 1) * self.stride + self.reach])
        return y, ConvState(held[..., count * self.stride :], True)

    def flush(self, state: ConvState) -> Tensor:
        """Return the last output if a window is begun; see :meth:`StreamModule.flush`."""
        if not state.started:
            return self(state.held)  # type: ignore[no-any-return]
        begun = state.held.shape[-1] - self._spare - self._pad
        if begun <= 0:
            return self._none(state.held)
        y: Tensor = self.conv(_extend(state.held, 0, self.stride - begun, self.padding)[..., self._spare :])
        return y

    def _none(self, x: Tensor) -> Tensor:
        return x.new_zeros(x.shape[0], self.conv.conv.out_channels, 0)


def _extend(x: Tensor, before: int, after: int, padding: Padding) -> Tensor:
    length = x.shape[-1]
    short = max(before, after) + 1 - length
    if padding == "reflect" and short > 0:
        return F.pad(F.pad(x, (0, short)), (before, after), "reflect")[..., : before + length + after]
    return F.pad(x, (before, after), padding)


@dataclass(frozen=True, slots=True, eq=False)
class TransposeState:
    """State of a :class:`PaddedConvTranspose1d`.

    Attributes:
        tail: (B, O, kernel - stride) what inputs so far add to outputs to come, without the bias.
    """

    tail: Tensor


class PaddedConvTranspose1d(StreamModule[TransposeState]):
    """Transposed convolution (B, I, F) to (B, O, stride * F).

    Of the ``kernel - stride`` outputs beyond that, a causal layer drops the last ones; else the larger half goes first.

    Args:
        in_channels: Channels I.
        out_channels: Channels O.
        kernel: Taps, at least the stride.
        stride: Upsampling factor.
        causal: See above.
        norm: As in :class:`PaddedConv1d`.

    Raises:
        ValueError: If the kernel is shorter than the stride, or a causal layer has a group norm.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        stride: int,
        *,
        causal: bool = False,
        norm: Norm = "weight",
    ) -> None:
        super().__init__()
        if not 1 <= stride <= kernel:
            raise ValueError(f"Argument `stride` must be in 1..{kernel}, but got {stride}")
        self.stride, self.causal, self.overlap = stride, causal, kernel - stride
        self.convtr = _NormedConvTranspose(nn.ConvTranspose1d(in_channels, out_channels, kernel, stride), norm, causal)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, I, F) to (B, O, stride * F), F >= 0."""
        if x.shape[-1] == 0:
            return x.new_zeros(x.shape[0], self.convtr.convtr.out_channels, 0)
        first = 0 if self.causal else self.overlap - self.overlap // 2
        y: Tensor = self.convtr(x)
        return y[..., first : first + self.stride * x.shape[-1]]

    def stream_state(self, batch: int = 1) -> TransposeState:
        """Return the state before the first frame; see :meth:`StreamModule.stream_state`."""
        require_causal(self, self.causal)
        conv = self.convtr.convtr
        return TransposeState(conv.weight.new_zeros(batch, conv.out_channels, self.overlap))

    def step(self, x: Tensor, state: TransposeState) -> tuple[Tensor, TransposeState]:
        """Take the next piece (B, I, f); see :meth:`StreamModule.step`."""
        if x.shape[-1] == 0:
            return self(x), state
        conv, ready = self.convtr.convtr, self.stride * x.shape[-1]
        sums = F.conv_transpose1d(x, conv.weight, None, self.stride) + F.pad(state.tail, (0, ready))
        y = sums[..., :ready]
        return (y if conv.bias is None else y + conv.bias[:, None]), TransposeState(sums[..., ready:])

    def flush(self, state: TransposeState) -> Tensor:
        """Return nothing, (B, O, 0): every frame's outputs came with it."""
        return state.tail[..., :0]

"""ConvNeXt blocks along time, as in Vocos (Siuzdak, ICLR 2024, after Liu et al., CVPR 2022), causal or not.

Inside, frames come first in memory, (B, F, D): the pointwise layers and the norm want it so, and the depthwise filter
is computed in that order too, which spares two transpositions a block. Attribute names are those of Vocos.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triode.models.layers.audio.streaming import StreamModule, require_causal

__all__ = ["BackboneState", "BlockNorm", "BlockState", "ConvNeXtBackbone", "ConvNeXtBlock"]

BlockNorm = Literal["layer", "none"]
_EPSILON = 1e-6
_SPREAD = 0.02
_FEW = 16  # frames up to which plain products are quicker than the set-up of a convolution: short steps of a stream


class _ConditionedNorm(nn.Module):
    """Layer norm over the last axis with a scale and a shift for each of a few conditions."""

    def __init__(self, channels: int, conditions: int) -> None:
        super().__init__()
        self.scale = nn.Embedding(conditions, channels)
        self.shift = nn.Embedding(conditions, channels)
        nn.init.ones_(self.scale.weight)
        nn.init.zeros_(self.shift.weight)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale: Tensor = self.scale(condition)[:, None]
        shift: Tensor = self.shift(condition)[:, None]
        return F.layer_norm(x, x.shape[-1:], eps=_EPSILON) * scale + shift


def _norm_of(norm: BlockNorm, channels: int, conditions: int) -> nn.Module:
    if norm == "none" and conditions:
        raise ValueError("Argument `conditions` must be 0 without a norm to condition")
    if norm == "none":
        return nn.Identity()
    return _ConditionedNorm(channels, conditions) if conditions else nn.LayerNorm(channels, eps=_EPSILON)


def _normed(norm: nn.Module, x: Tensor, condition: Tensor | None) -> Tensor:
    if isinstance(norm, _ConditionedNorm):
        if condition is None:
            raise ValueError("Argument `condition` must be given to layers that were built with conditions")
        y: Tensor = norm(x, condition)
    else:
        y = norm(x)
    return y


@dataclass(frozen=True, slots=True, eq=False)
class BlockState:
    """State of a :class:`ConvNeXtBlock`.

    Attributes:
        past: (B, kernel - 1, D) the last inputs, frames first.
        condition: As given to ``stream_state``.
    """

    past: Tensor
    condition: Tensor | None = None


class ConvNeXtBlock(StreamModule[BlockState]):
    """``x + gamma * W2 gelu(W1 norm(depthwise(x)))``: 2 D H + kernel D multiplications a frame.

    Args:
        channels: Channels D.
        hidden: Channels H inside; 3 * D by default.
        kernel: Taps of the depthwise filter, odd unless causal.
        causal: Whether the filter sees past frames only.
        norm: ``layer`` norm over channels, or ``none``.
        scale: Initial gamma; None leaves it out.
        conditions: Number of conditions that choose the norm's scale and shift; 0 for a plain norm.

    Raises:
        ValueError: If an even kernel is not causal, or there are conditions but no norm.
    """

    def __init__(
        self,
        channels: int,
        hidden: int | None = None,
        *,
        kernel: int = 7,
        causal: bool = False,
        norm: BlockNorm = "layer",
        scale: float | None = 1.0,
        conditions: int = 0,
    ) -> None:
        super().__init__()
        if kernel % 2 == 0 and not causal:
            raise ValueError(f"Argument `kernel` must be odd in a block that is not causal, but got {kernel}")
        self.kernel, self.causal = kernel, causal
        self.dwconv = nn.Conv1d(channels, channels, kernel, groups=channels)
        self.norm = _norm_of(norm, channels, conditions)
        self.pwconv1 = nn.Linear(channels, hidden or 3 * channels)
        self.pwconv2 = nn.Linear(hidden or 3 * channels, channels)
        self.gamma = None if scale is None else nn.Parameter(torch.full((channels,), float(scale)))

    @property
    def reach(self) -> tuple[int, int]:
        """Frames before and after a frame that its output depends on."""
        after = 0 if self.causal else self.kernel // 2
        return self.kernel - 1 - after, after

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Map (B, D, F) to the same shape.

        Args:
            x: Features.
            condition: (B,) or (1,) int64, if the block was built with conditions.
        """
        return self.frames_first(x.transpose(1, 2), condition).transpose(1, 2)

    def frames_first(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Do the same on (B, F, D)."""
        return self._mix(F.pad(x, (0, 0, *self.reach)), x, condition)

    def stream_state(self, batch: int = 1, condition: Tensor | None = None) -> BlockState:
        """Return the state before the first frame; the condition holds for the whole stream."""
        require_causal(self, self.causal)
        weight = self.dwconv.weight
        return BlockState(weight.new_zeros(batch, self.kernel - 1, weight.shape[0]), condition)

    def step(self, x: Tensor, state: BlockState) -> tuple[Tensor, BlockState]:
        """Take the next piece (B, D, f); as many frames come out. See :meth:`StreamModule.step`."""
        y, state = self.step_frames_first(x.transpose(1, 2), state)
        return y.transpose(1, 2), state

    def step_frames_first(self, x: Tensor, state: BlockState) -> tuple[Tensor, BlockState]:
        """Do the same on (B, f, D)."""
        if x.shape[1] == 0:
            return x, state
        seen = torch.cat((state.past, x), 1)
        return self._mix(seen, x, state.condition), replace(state, past=seen[:, x.shape[1] :])

    def flush(self, state: BlockState) -> Tensor:
        """Return nothing, (B, D, 0)."""
        return state.past.transpose(1, 2)[..., :0]

    def _mix(self, seen: Tensor, x: Tensor, condition: Tensor | None) -> Tensor:
        weight, bias = self.dwconv.weight, self.dwconv.bias
        if x.shape[1] <= _FEW:
            y = (seen.unfold(1, self.kernel, 1) * weight[:, 0]).sum(-1)
            y = y if bias is None else y + bias
        else:  # a convolution of height 1 whose input lies channels-last in memory, (B, D, 1, F + kernel - 1)
            rows = seen.transpose(1, 2).unsqueeze(2)
            y = F.conv2d(rows, weight.unsqueeze(2), bias, groups=x.shape[2]).squeeze(2).transpose(1, 2)
        y = _normed(self.norm, y, condition)
        y = self.pwconv2(F.gelu(self.pwconv1(y)))
        return x + y if self.gamma is None else torch.addcmul(x, self.gamma.to(y.dtype), y)


@dataclass(frozen=True, slots=True, eq=False)
class BackboneState:
    """State of a :class:`ConvNeXtBackbone`.

    Attributes:
        past: (B, I, embed_kernel - 1) the last inputs.
        blocks: States of the blocks.
        condition: As given to ``stream_state``.
    """

    past: Tensor
    blocks: tuple[BlockState, ...]
    condition: Tensor | None = None


class ConvNeXtBackbone(StreamModule[BackboneState]):
    """A convolution to D channels, a norm, ConvNeXt blocks, a norm: (B, I, F) to (B, D, F).

    Args:
        in_channels: Channels I.
        channels: Channels D.
        blocks: Number of blocks.
        hidden: Channels inside a block; 3 * D by default.
        kernel: Taps of the blocks' filters.
        embed_kernel: Taps of the first convolution; 1 makes it pointwise.
        causal: Whether no frame sees later ones.
        norm: ``layer`` or ``none``, for all norms.
        scale: Initial gamma of every block; 1 / blocks by default.
        conditions: As in :class:`ConvNeXtBlock`; the last norm is always plain.

    Raises:
        ValueError: If an even kernel is not causal, or there are conditions but no norm.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        blocks: int,
        hidden: int | None = None,
        *,
        kernel: int = 7,
        embed_kernel: int = 7,
        causal: bool = False,
        norm: BlockNorm = "layer",
        scale: float | None = None,
        conditions: int = 0,
    ) -> None:
        super().__init__()
        if embed_kernel % 2 == 0 and not causal:
            raise ValueError(f"Argument `embed_kernel` must be odd unless causal, but got {embed_kernel}")
        self.causal, self.conditions = causal, conditions
        scale = 1 / max(blocks, 1) if scale is None else scale
        self.embed = nn.Conv1d(in_channels, channels, embed_kernel)
        self.norm = _norm_of(norm, channels, conditions)
        self.convnext = nn.ModuleList(
            ConvNeXtBlock(channels, hidden, kernel=kernel, causal=causal, norm=norm, scale=scale, conditions=conditions)
            for _ in range(blocks)
        )
        self.final_layer_norm = _norm_of(norm, channels, 0)
        for layer in self.modules():
            if isinstance(layer, nn.Conv1d | nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=_SPREAD)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    @property
    def reach(self) -> tuple[int, int]:
        """Frames before and after a frame that its output depends on."""
        before, after = self._embed_reach
        sides = [block.reach for block in self._blocks]
        return before + sum(b for b, _ in sides), after + sum(a for _, a in sides)

    @property
    def _embed_reach(self) -> tuple[int, int]:
        taps = self.embed.kernel_size[0]
        after = 0 if self.causal else taps // 2
        return taps - 1 - after, after

    @property
    def _blocks(self) -> list[ConvNeXtBlock]:
        return [block for block in self.convnext if isinstance(block, ConvNeXtBlock)]

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """Map (B, I, F) to (B, D, F), F >= 1.

        Args:
            x: Features.
            condition: (B,) or (1,) int64, if built with conditions.

        Raises:
            ValueError: If the condition is missing.
        """
        y = self._embedded(F.pad(x, self._embed_reach), condition)
        for block in self._blocks:
            y = block.frames_first(y, condition)
        return self.final_layer_norm(y).transpose(1, 2)  # type: ignore[no-any-return]

    def stream_state(self, batch: int = 1, condition: Tensor | None = None) -> BackboneState:
        """Return the state before the first frame; the condition holds for the whole stream."""
        require_causal(self, self.causal)
        weight = self.embed.weight
        past = weight.new_zeros(batch, weight.shape[1], self.embed.kernel_size[0] - 1)
        return BackboneState(past, tuple(b.stream_state(batch, condition) for b in self._blocks), condition)

    def step(self, x: Tensor, state: BackboneState) -> tuple[Tensor, BackboneState]:
        """Take the next piece (B, I, f); as many frames come out. See :meth:`StreamModule.step`."""
        if x.shape[-1] == 0:
            return self.flush(state), state
        seen = torch.cat((state.past, x), -1)
        y, after = self._embedded(seen, state.condition), []
        for block, held in zip(self._blocks, state.blocks, strict=True):
            y, held = block.step_frames_first(y, held)
            after.append(held)
        return self.final_layer_norm(y).transpose(1, 2), replace(
            state, past=seen[..., x.shape[-1] :], blocks=tuple(after)
        )

    def flush(self, state: BackboneState) -> Tensor:
        """Return nothing, (B, D, 0)."""
        return state.past.new_zeros(state.past.shape[0], self.embed.out_channels, 0)

    def _embedded(self, seen: Tensor, condition: Tensor | None) -> Tensor:
        weight, bias = self.embed.weight, self.embed.bias
        if seen.shape[-1] - weight.shape[-1] < _FEW:
            y = F.linear(seen.unfold(-1, weight.shape[-1], 1).transpose(1, 2).flatten(2), weight.flatten(1), bias)
        else:
            y = self.embed(seen).transpose(1, 2)
        return _normed(self.norm, y, condition)

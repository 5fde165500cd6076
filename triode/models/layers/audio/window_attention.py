"""Attention within windows of a time-frequency plane, and changes of its resolution along frequency.

The windows are those of Swin (Liu et al., ICCV 2021), every other block's shifted by half of their side; the plane is a
spectrogram (B, H, W, C) of H frequencies and W times, as in ESC (Gu & Diao, EMNLP 2024). Attribute names are ESC's.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "FrequencyMerge",
    "FrequencySplit",
    "PatchEmbed",
    "PatchExpand",
    "Scale",
    "WindowAttention",
    "WindowBlock",
    "WindowLayer",
]

Scale = Literal["down", "up", "none"]
_SPREAD = 0.02


class WindowAttention(nn.Module):
    """Self-attention inside of windows, with a learned bias for each offset between two places.

    Args:
        channels: Channels C, a multiple of ``heads``.
        heads: Number of heads.
        window: Side of a window; N = window * window.

    Raises:
        ValueError: If the heads do not divide the channels.
    """

    relative_position_index: Tensor

    def __init__(self, channels: int, heads: int, window: int) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise ValueError(f"Argument `heads` must divide {channels} channels, but got {heads}")
        self.heads = heads
        self.relative_position_bias_table = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=_SPREAD)
        side, places = 2 * window - 1, range(window * window)
        apart = [
            [(i // window - j // window + window - 1) * side + i % window - j % window + window - 1 for j in places]
            for i in places
        ]
        self.register_buffer("relative_position_index", torch.tensor(apart), persistent=False)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Map (B, windows, N, C) to the same shape.

        Args:
            x: Features.
            mask: (windows, N, N) float, added to the scores; 0 or minus infinity.
        """
        b, count, n, c = x.shape
        # Windows go where samples of a batch would: kernels for four axes are three times as fast as for five.
        q, k, v = self.qkv(x).reshape(b * count, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        bias = self.relative_position_bias_table[self.relative_position_index].permute(2, 0, 1)[None]
        if mask is not None:
            bias = (bias + mask[:, None]).expand(b, -1, -1, -1, -1).flatten(0, 1)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
        y: Tensor = self.proj(mixed.transpose(1, 2).reshape(b, count, n, c))
        return y


class _FeedForward(nn.Module):
    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(channels, hidden)
        self.linear_2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.linear_2(F.gelu(self.linear_1(x)))
        return y


class WindowBlock(nn.Module):
    """``y = x + attention(norm(x))``, then ``y + mlp(norm(y))``.

    Sides that the window does not divide are filled up with zeros after the norm. A shifted block's windows begin half
    a window later and wrap around; places that are not neighbours there do not see each other.

    Args:
        channels: Channels C.
        heads: Number of heads.
        window: Side of a window, even if shifted.
        shifted: See above.
        ratio: Channels inside of the perceptron, as a multiple of C.
    """

    def __init__(
        self, channels: int, heads: int, window: int = 4, *, shifted: bool = False, ratio: float = 4.0
    ) -> None:
        super().__init__()
        self.window, self.shift = window, window // 2 if shifted else 0
        self.norm1 = nn.LayerNorm(channels)
        self.attn = WindowAttention(channels, heads, window)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = _FeedForward(channels, int(channels * ratio))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to the same shape."""
        _, height, width, c = x.shape
        window, shift = self.window, self.shift
        y = F.pad(self.norm1(x), (0, 0, 0, -width % window, 0, -height % window))
        rows, columns = y.shape[1] // window, y.shape[2] // window
        mask = None
        if shift:
            y = y.roll((-shift, -shift), (1, 2))
            mask = _mask(rows, columns, window, shift).to(y)
        y = y.reshape(-1, rows, window, columns, window, c).transpose(2, 3)
        y = self.attn(y.reshape(-1, rows * columns, window * window, c), mask)
        y = y.reshape(-1, rows, columns, window, window, c).transpose(2, 3)
        y = y.reshape(-1, rows * window, columns * window, c)
        if shift:
            y = y.roll((shift, shift), (1, 2))
        x = x + y[:, :height, :width]
        z: Tensor = x + self.mlp(self.norm2(x))
        return z


def _mask(rows: int, columns: int, window: int, shift: int) -> Tensor:
    """Keep apart what only the wrapping of a shifted plane brings into one window: (windows, N, N), 0 or -inf."""

    def parts(count: int) -> Tensor:
        # In the last window the places from `window - shift` on come from the other end.
        part = torch.zeros(count, window)
        part[-1, window - shift :] = 1
        return part

    down, across = parts(rows), parts(columns)
    part = 2 * down[:, None, :, None] + across[None, :, None, :]
    part = part.reshape(rows * columns, window * window)
    return torch.where(part[:, None] == part[:, :, None], 0.0, -torch.inf)


class FrequencyMerge(nn.Module):
    """Two neighbouring frequencies to one: norm, then a linear layer, of both.

    Args:
        in_channels: Channels C.
        out_channels: Channels O.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(2 * in_channels)
        self.down = nn.Linear(2 * in_channels, out_channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to (B, H / 2, W, O); H must be even."""
        b, height, width, c = x.shape
        pairs = x.reshape(b, height // 2, 2, width, c).transpose(2, 3).reshape(b, height // 2, width, 2 * c)
        y: Tensor = self.down(self.norm(pairs))
        return y


class FrequencySplit(nn.Module):
    """One frequency to two: the counterpart of :class:`FrequencyMerge`.

    Args:
        in_channels: Channels C.
        out_channels: Channels O.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(in_channels)
        self.up = nn.Linear(in_channels, 2 * out_channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to (B, 2 * H, W, O)."""
        b, height, width, _ = x.shape
        y: Tensor = self.up(self.norm(x)).reshape(b, height, width, 2, -1)
        return y.transpose(2, 3).reshape(b, 2 * height, width, -1)


class WindowLayer(nn.Module):
    """Blocks with windows in place and shifted in turn, then a change of resolution.

    Args:
        in_channels: Channels C.
        out_channels: Channels O; without a change of resolution the same.
        heads: Number of heads.
        depth: Number of blocks.
        window: Side of a window.
        ratio: See :class:`WindowBlock`.
        scale: ``down`` halves the frequencies, ``up`` doubles them, ``none`` leaves them.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        heads: int,
        *,
        depth: int = 2,
        window: int = 4,
        ratio: float = 4.0,
        scale: Scale = "none",
    ) -> None:
        super().__init__()
        self.swint_blocks = nn.ModuleList(
            WindowBlock(in_channels, heads, window, shifted=i % 2 == 1, ratio=ratio) for i in range(depth)
        )
        self.subsample: nn.Module
        match scale:
            case "down":
                self.subsample = FrequencyMerge(in_channels, out_channels)
            case "up":
                self.subsample = FrequencySplit(in_channels, out_channels)
            case _:
                self.subsample = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to (B, H', W, O)."""
        for block in self.swint_blocks:
            x = block(x)
        y: Tensor = self.subsample(x)
        return y


class PatchEmbed(nn.Module):
    """A spectrogram (B, I, K, T) to one feature a patch, (B, H, W, C).

    Args:
        in_channels: Channels I.
        channels: Channels C.
        patch: Frequencies and times of a patch; they must divide K and T.
    """

    def __init__(self, in_channels: int, channels: int, patch: tuple[int, int]) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, channels, patch, patch)
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, I, K, T) to (B, H, W, C)."""
        y: Tensor = self.norm(self.proj(x).permute(0, 2, 3, 1))
        return y


class PatchExpand(nn.Module):
    """Features (B, H, W, C) to a spectrogram (B, O, K, T): a convolution to all of a patch, and one between patches.

    It reaches two patches and one place further, each way.

    Args:
        channels: Channels C.
        out_channels: Channels O.
        patch: Frequencies and times of a patch.
    """

    def __init__(self, channels: int, out_channels: int, patch: tuple[int, int]) -> None:
        super().__init__()
        self.patch = patch
        self.de_proj1 = nn.Conv2d(channels, channels * patch[0] * patch[1], 5, padding=2)
        self.de_proj2 = nn.Conv2d(channels, out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, H, W, C) to (B, O, K, T)."""
        places = self.de_proj1(x.permute(0, 3, 1, 2))
        b, _, height, width = places.shape
        high, wide = self.patch
        places = places.reshape(b, high, wide, -1, height, width).permute(0, 3, 4, 1, 5, 2)
        y: Tensor = self.de_proj2(places.reshape(b, -1, height * high, width * wide))
        return y

"""Attention within windows of time, each on its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["LocalAttention"]

_BASE = 10000.0


class LocalAttention(nn.Module):
    """``x + W softmax(q k) v`` in windows that do not overlap, with rotary positions (Su et al., 2021), as in SNAC.

    Names are those of SNAC's public weights (Siuzdak et al., 2024).

    Args:
        channels: Channels C.
        window: Steps of a window; signals must be a multiple of it long.
        head: Channels of a head, even.

    Raises:
        ValueError: If heads do not divide the channels, or the window is no length.
    """

    turns: Tensor

    def __init__(self, channels: int, window: int = 32, head: int = 64) -> None:
        super().__init__()
        if head < 2 or head % 2 or channels % head:
            raise ValueError(f"Argument `head` must be even and divide {channels} channels, but got {head}")
        if window < 1:
            raise ValueError(f"Argument `window` must be at least 1, but got {window}")
        self.window, self.head = window, head
        self.norm = nn.LayerNorm(channels)
        self.to_qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.to_out = nn.Linear(channels, channels, bias=False)
        place = torch.arange(window, dtype=torch.float64)[:, None]
        angles = place * _BASE ** (-torch.arange(0, head, 2, dtype=torch.float64) / head)
        both = torch.cat((angles, angles), 1)
        self.register_buffer("turns", torch.stack((both.cos(), both.sin())).float(), persistent=False)

    def sees(self, first: int, last: int) -> tuple[int, int]:
        """Return the first and last input that outputs ``first`` to ``last`` depend on: windows begin at 0."""
        return first // self.window * self.window, (last // self.window + 1) * self.window - 1

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, T) to the same shape.

        Raises:
            ValueError: If T is no multiple of the window.
        """
        b, c, t = x.shape
        if t % self.window:
            raise ValueError(f"Argument `x` must be a multiple of {self.window} long, but got {t}")
        qkv: Tensor = self.to_qkv(self.norm(x.transpose(1, 2)))
        # (B, T, 3 C) to three of (B, windows, heads, window, head).
        q, k, v = qkv.reshape(b, t // self.window, self.window, 3, -1, self.head).permute(3, 0, 1, 4, 2, 5)
        out = F.scaled_dot_product_attention(self._turned(q), self._turned(k), v)
        mixed: Tensor = self.to_out(out.transpose(2, 3).reshape(b, t, c))
        return x + mixed.transpose(1, 2)

    def _turned(self, x: Tensor) -> Tensor:
        low, high = x.chunk(2, -1)
        cos, sin = self.turns.to(x.dtype)
        turned: Tensor = x * cos + torch.cat((-high, low), -1) * sin
        return turned

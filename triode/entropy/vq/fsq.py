"""Finite scalar quantisation: a small grid in place of a codebook."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from triode.entropy.vq.base import SingleVQ, straight_through

_MARGIN = 1e-3
_MAX_CODES = 1 << 20


class FSQ(SingleVQ):
    """Each of a few bounded channels to a few levels (Mentzer et al., ICLR 2024).

    Channel i is bounded by a scaled tanh to ``levels[i]`` integers around 0 and rounded; zero stays zero. The code is
    the digits in mixed radix, the first channel changing fastest. There is no loss and nothing to keep in use.

    Args:
        levels: Number of levels of each channel, 3 or more each; the paper advises 5 or more. (8, 5, 5, 5) makes 1000
            codes, (8, 8, 8, 5, 5, 5) makes 64000.
        dim: Channels D of the features, with linear layers between where it is not ``len(levels)``.
        bias: Whether these layers have one.
    """

    levels: Tensor
    radix: Tensor

    def __init__(self, levels: Sequence[int], dim: int | None = None, *, bias: bool = True) -> None:
        if not levels or min(levels) < 3:
            raise ValueError(f"Argument `levels` must hold integers of at least 3, but got {tuple(levels)}")
        size = math.prod(levels)
        if size > _MAX_CODES:
            raise ValueError(f"Argument `levels` must make at most {_MAX_CODES} codes, but got {size}")
        super().__init__(len(levels) if dim is None else dim, size)
        radix = [math.prod(levels[:i]) for i in range(len(levels))]
        self.register_buffer("levels", torch.tensor(levels), persistent=False)
        self.register_buffer("radix", torch.tensor(radix), persistent=False)
        project = self.dim != len(levels)
        self.project_in = nn.Linear(self.dim, len(levels), bias=bias) if project else nn.Identity()
        self.project_out = nn.Linear(len(levels), self.dim, bias=bias) if project else nn.Identity()

    def digits(self, codes: Tensor) -> Tensor:
        """Split codes into the digits of their channels.

        Args:
            codes: (...) int64, each in 0..codes-1.

        Returns:
            (..., channels) int64, each in 0..levels-1.
        """
        return codes[..., None] // self.radix % self.levels

    def codes(self, digits: Tensor) -> Tensor:
        """Join digits to codes.

        Args:
            digits: (..., channels) int64, each in 0..levels-1.

        Returns:
            (...) int64 codes.
        """
        return (digits * self.radix).sum(-1)

    def _bounded(self, x: Tensor) -> Tensor:
        """Project and bound: (B, D, F) to (B, F, channels), half a level of each integer apart at most."""
        low: Tensor = self.project_in(x.transpose(1, 2))
        reach = (self.levels - 1) * (1 + _MARGIN) / 2
        offset = (1 - self.levels % 2) / 2
        return torch.tanh(low + torch.atanh(offset / reach)) * reach - offset

    def _digits_of(self, bounded: Tensor) -> Tensor:
        half = self.levels // 2
        return torch.minimum((torch.round(bounded).long() + half).clamp(min=0), self.levels - 1)

    def _values(self, digits: Tensor, dtype: torch.dtype) -> Tensor:
        half = self.levels // 2
        return (digits - half).to(dtype) / half

    def _out(self, low: Tensor) -> Tensor:
        x: Tensor = self.project_out(low)
        return x.transpose(1, 2)

    def _assign(self, x: Tensor, path: Tensor, active: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        bounded = self._bounded(path)
        digits = self._digits_of(bounded.detach())
        values = straight_through(self._values(digits, x.dtype), bounded / (self.levels // 2))
        return self._out(values), self.codes(digits), x.new_zeros(len(x))

    def _search(self, x: Tensor) -> Tensor:
        return self.codes(self._digits_of(self._bounded(x)))

    def _decode(self, codes: Sequence[Tensor], frames: int) -> Tensor:
        weight = next(self.parameters(), None)
        return self._out(self._values(self.digits(codes[0]), torch.float32 if weight is None else weight.dtype))

    def _bypass(self, x: Tensor) -> Tensor:
        return self._out(self._bounded(x) / (self.levels // 2))

"""Residual quantisation whose first stages see a part of the channels each."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from triode.entropy.vq.base import VectorQuantizer
from triode.entropy.vq.residual import ResidualVQ


class MaskedChannelResidualVQ(ResidualVQ):
    """Masked-channel residual quantisation (MCRVQ of Language-Codec, Ji et al., 2024).

    The first ``masked`` quantisers see the features themselves, each with all but its own part of the channels set to
    zero; the next one sees the features less the sum of those, and so on. So the first codes carry equal shares.

    Args:
        quantizers: The stages, all of the same dimension, as many as ``masked`` at least.
        masked: Number of parts of the channels. Part i is channels ``i * D // masked`` to ``(i + 1) * D // masked``.
        average: Give the mean of the losses of the stages in use, as in the paper; their sum otherwise.
    """

    masks: Tensor

    def __init__(self, quantizers: Sequence[VectorQuantizer], masked: int = 3, *, average: bool = True) -> None:
        super().__init__(quantizers, average=average)
        if not 1 <= masked <= min(len(quantizers), self.dim):
            raise ValueError(
                f"Argument `masked` must be in 1..{min(len(quantizers), self.dim)} "
                f"for {len(quantizers)} quantisers of dimension {self.dim}, but got {masked}"
            )
        self.masked = masked
        part = torch.arange(self.dim)[None, :, None]
        starts = torch.tensor([i * self.dim // masked for i in range(masked + 1)])[:, None, None]
        self.register_buffer("masks", (part >= starts[:-1]) & (part < starts[1:]), persistent=False)

    def _input(self, index: int, x: Tensor, residual: Tensor) -> Tensor:
        return x * self.masks[index] if index < self.masked else residual

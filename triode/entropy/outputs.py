"""What entropy models return across module borders."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class LatentOutput:
    """Result of an entropy model's training pass.

    Attributes:
        y_hat: Quantised latent, same shape as the input.
        bits: (B,) float, differentiable estimate of the code length in bits, one entry a sample.
    """

    y_hat: Tensor
    bits: Tensor


@dataclass(frozen=True, slots=True)
class HyperOutput:
    """Result of a hyperprior's training pass.

    Attributes:
        y_hat: (B, M, h, w) quantised latent.
        bits: Differentiable code lengths in bits, (B,) each, by part of the bitstream (``"y"``, ``"z"``).
    """

    y_hat: Tensor
    bits: dict[str, Tensor]

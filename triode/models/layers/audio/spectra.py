"""What spectral front ends share: windows, power laws, where frames lie, and states of streams."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

__all__ = [
    "AnalysisState",
    "Framing",
    "Method",
    "SynthesisState",
    "Window",
    "expand_power",
    "make_window",
    "reduce_power",
]

Window = Literal["hann", "sine", "kbd"]
Method = Literal["fft", "matmul"]
_KBD_ALPHA = 4.0


def make_window(kind: Window, length: int) -> Tensor:
    """Return a window (length,) float64, symmetric, or periodic in the case of ``hann``.

    Args:
        kind: ``hann``; ``sine``, which falls off less steeply; or ``kbd``, Kaiser-Bessel-derived with alpha 4, which
            rejects far frequencies better and near ones worse (Fielder et al., AES 1996).
        length: Samples, even for ``kbd``. The squares of ``sine`` and ``kbd`` of even length add up to 1 with those
            half a window later (Princen & Bradley, 1986).

    Raises:
        ValueError: If the length does not suit, or the kind is unknown.
    """
    if length < 1 or (kind == "kbd" and length % 2):
        raise ValueError(f"Argument `length` must be positive, and even for 'kbd', but got {length}")
    n = torch.arange(length, dtype=torch.float64)
    if kind == "hann":
        return torch.sin(math.pi / length * n).square()
    if kind == "sine":
        return torch.sin(math.pi / length * (n + 0.5))
    if kind == "kbd":
        kaiser = torch.from_numpy(np.kaiser(length // 2 + 1, math.pi * _KBD_ALPHA))
        rise = torch.sqrt(kaiser.cumsum(0)[:-1] / kaiser.sum())
        return torch.cat((rise, rise.flip(0)))
    raise ValueError(f"Argument `kind` must be 'hann', 'sine' or 'kbd', but got {kind!r}")


def reduce_power(x: Tensor, power: float = 0.3, *, floor: float = 1e-5, dim: int | None = None) -> Tensor:
    """Raise magnitudes to a power and keep signs or phases, which brings loud and quiet parts of a spectrum nearer.

    Magnitudes below the floor are scaled linearly, so that the slope is bounded and :func:`expand_power` is exact.

    Args:
        x: Real coefficients, or real and imaginary parts along ``dim``.
        power: Exponent p in (0, 1]; 0.3 is ESC's (Gu & Diao, EMNLP 2024).
        floor: Magnitude below which the map is linear, positive.
        dim: Axis of the two parts; None for real coefficients.

    Returns:
        The same shape. Magnitude m becomes m**p.

    Raises:
        ValueError: If the power or the floor is out of range.
    """
    _check_power(power, floor)
    return x * _squares(x, dim).clamp(min=floor**2) ** ((power - 1) / 2)


def expand_power(x: Tensor, power: float = 0.3, *, floor: float = 1e-5, dim: int | None = None) -> Tensor:
    """Undo :func:`reduce_power` with the same arguments: magnitude m becomes m ** (1 / p)."""
    _check_power(power, floor)
    return x * _squares(x, dim).clamp(min=floor ** (2 * power)) ** ((1 / power - 1) / 2)


def _check_power(power: float, floor: float) -> None:
    if not 0 < power <= 1 or not floor > 0:
        raise ValueError(f"Arguments `power` and `floor` must be in (0, 1] and positive, but got {power} and {floor}")


def _squares(x: Tensor, dim: int | None) -> Tensor:
    return x.square() if dim is None else x.square().sum(dim, keepdim=True)


@dataclass(frozen=True, slots=True)
class Framing:
    """Where frames lie: frame i takes samples ``i * hop - left`` to ``i * hop - left + window - 1``; zeros outside.

    Centred, a frame lies in the middle over the hop that it stands for, and there are ``ceil(samples / hop)``. Causal,
    it ends with its hop; then it takes about ``(window - hop) / hop`` more frames to cover the end.

    Attributes:
        window: Samples of a frame.
        hop: Samples from one frame to the next.
        causal: See above.
    """

    window: int
    hop: int
    causal: bool = False

    def __post_init__(self) -> None:
        """Check the lengths.

        Raises:
            ValueError: If the hop is not in 1..window.
        """
        if not 1 <= self.hop <= self.window:
            raise ValueError(f"Argument `hop` must be in 1..{self.window}, but got {self.hop}")

    @property
    def left(self) -> int:
        """Samples of a frame before its hop. By so many a synthesis lags: frame i completes its hop less these."""
        overlap = self.window - self.hop
        return overlap if self.causal else overlap // 2

    @property
    def lookahead(self) -> int:
        """Samples of a frame after its hop."""
        return self.window - self.hop - self.left

    def frames(self, samples: int) -> int:
        """Return how many frames a signal has."""
        return -(-(samples + (self.left if self.causal else 0)) // self.hop) if samples > 0 else 0

    def samples(self, frames: int) -> int:
        """Return how many samples frames make."""
        return max(frames * self.hop - (self.left if self.causal else 0), 0)


@dataclass(frozen=True, slots=True, eq=False)
class AnalysisState:
    """State of an analysis.

    Attributes:
        held: (B, C, n) samples that frames to come still see, zeros before the signal included.
        samples: Samples taken so far.
        frames: Frames given so far.
    """

    held: Tensor
    samples: int = 0
    frames: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class SynthesisState:
    """State of a synthesis.

    Attributes:
        tail: What frames so far add to samples that are not complete.
        frames: Frames taken so far.
    """

    tail: Tensor
    frames: int = 0

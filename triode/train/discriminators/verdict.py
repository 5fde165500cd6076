"""What a discriminator says, and the losses of the adversarial game made of it.

All losses are means over judges, as EnCodec takes them. HiFi-GAN and DAC take sums: multiply by the number of judges to
get theirs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = [
    "Discriminator",
    "Verdict",
    "feature_loss",
    "hinge_discriminator_loss",
    "hinge_generator_loss",
    "merge",
    "square_discriminator_loss",
    "square_generator_loss",
]

_TINY = 1e-8
T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """Result of a discriminator that consists of judges.

    Attributes:
        logits: One tensor (B, ...) a judge, high where it takes its input for real.
        features: Each judge's activations (B, ...) in order, without the logits.
    """

    logits: tuple[Tensor, ...]
    features: tuple[tuple[Tensor, ...], ...]


class Discriminator(nn.Module, ABC):
    """A network that tells recordings from what a decoder made."""

    @abstractmethod
    def forward(self, x: Tensor) -> Verdict:
        """Judge signals (B, C, T), nominally in [-1, 1].

        Raises:
            ValueError: If they are too short to be judged.
        """


def merge(verdicts: Iterable[Verdict]) -> Verdict:
    """Put the judges of several verdicts into one."""
    parts = list(verdicts)
    return Verdict(tuple(y for v in parts for y in v.logits), tuple(f for v in parts for f in v.features))


def hinge_discriminator_loss(real: Verdict, fake: Verdict) -> Tensor:
    """``mean max(0, 1 - real) + mean max(0, 1 + fake)``, a scalar (Lim & Ye, 2017).

    Args:
        real: On recordings.
        fake: On the decoder's output, which the caller has detached.

    Raises:
        ValueError: If the verdicts do not belong together.
    """
    return _mean(F.relu(1 - r).mean() + F.relu(1 + f).mean() for r, f in _pairs(real.logits, fake.logits))


def hinge_generator_loss(fake: Verdict) -> Tensor:
    """``mean max(0, 1 - fake)``, a scalar: SoundStream's form, which stops where a judge is convinced."""
    return _mean(F.relu(1 - f).mean() for f in fake.logits)


def square_discriminator_loss(real: Verdict, fake: Verdict) -> Tensor:
    """``mean (1 - real)**2 + mean fake**2``, a scalar (least squares: Mao et al., ICCV 2017).

    Args:
        real: On recordings.
        fake: On the decoder's output, which the caller has detached.

    Raises:
        ValueError: If the verdicts do not belong together.
    """
    return _mean((1 - r).square().mean() + f.square().mean() for r, f in _pairs(real.logits, fake.logits))


def square_generator_loss(fake: Verdict) -> Tensor:
    """``mean (1 - fake)**2``, a scalar."""
    return _mean((1 - f).square().mean() for f in fake.logits)


def feature_loss(real: Verdict, fake: Verdict, *, relative: bool = False) -> Tensor:
    """Mean over judges and layers of the mean |difference| of activations, a scalar (Kumar et al., NeurIPS 2019).

    Args:
        real: On recordings; no gradient flows into it.
        fake: On the decoder's output.
        relative: Divide each layer's difference by the mean |activation| of the recordings, as EnCodec does.

    Raises:
        ValueError: If the verdicts do not belong together.
    """
    terms = []
    for real_layers, fake_layers in _pairs(real.features, fake.features):
        for r, f in _pairs(real_layers, fake_layers):
            distance, scale = (r.detach() - f).abs().mean(), r.detach().abs().mean() + _TINY
            terms.append(distance / scale if relative else distance)
    return _mean(terms)


def _pairs(real: tuple[T, ...], fake: tuple[T, ...]) -> Iterable[tuple[T, T]]:
    if len(real) != len(fake):
        raise ValueError(f"Verdicts must come of one discriminator, but got {len(real)} and {len(fake)} parts")
    return zip(real, fake, strict=True)


def _mean(terms: Iterable[Tensor]) -> Tensor:
    values = list(terms)
    if not values:
        raise ValueError("A verdict must have at least one judge, but got none")
    return torch.stack(values).mean()

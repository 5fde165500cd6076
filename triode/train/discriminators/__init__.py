"""Discriminators of audio: networks that judge what a decoder makes, and the losses made of their verdicts."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from triode.train.discriminators.mpd import MultiPeriodDiscriminator
from triode.train.discriminators.mrd import MultiResolutionDiscriminator
from triode.train.discriminators.msstft import MultiScaleStftDiscriminator
from triode.train.discriminators.multiband import MultiBandDiscriminator
from triode.train.discriminators.verdict import (
    Discriminator,
    Verdict,
    feature_loss,
    hinge_discriminator_loss,
    hinge_generator_loss,
    merge,
    square_discriminator_loss,
    square_generator_loss,
)

__all__ = [
    "Discriminator",
    "DiscriminatorGroup",
    "MultiBandDiscriminator",
    "MultiPeriodDiscriminator",
    "MultiResolutionDiscriminator",
    "MultiScaleStftDiscriminator",
    "Verdict",
    "feature_loss",
    "hinge_discriminator_loss",
    "hinge_generator_loss",
    "square_discriminator_loss",
    "square_generator_loss",
]

_PEAK = 0.8
_SILENCE = 1e-9


class DiscriminatorGroup(Discriminator):
    """Several discriminators as one, for example DAC's: multi-period beside multi-band.

    Args:
        parts: The discriminators, at least one.
        level: Take each signal's mean off and scale it to a peak of 0.8 first, as DAC does: loudness is no clue then.

    Raises:
        ValueError: If there are no parts.
    """

    def __init__(self, parts: Sequence[Discriminator], *, level: bool = True) -> None:
        super().__init__()
        if not parts:
            raise ValueError("Argument `parts` must hold at least one discriminator, but got none")
        self.parts = nn.ModuleList(parts)
        self.level = level

    def forward(self, x: Tensor) -> Verdict:
        """Judge signals (B, C, T) by all parts.

        Raises:
            ValueError: If they are too short for one.
        """
        if self.level:
            x = x - x.mean(-1, keepdim=True)
            x = _PEAK * x / (x.abs().amax(-1, keepdim=True) + _SILENCE)
        return merge(part(x) for part in self.parts)

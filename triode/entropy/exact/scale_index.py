"""From predicted standard deviations to ladder indices: how models that predict scales meet integer tables."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from triode.entropy.bounds import soft_clamp
from triode.entropy.exact.layers import FRACTION_BITS, register_twin
from triode.entropy.exact.state import ExactModule
from triode.entropy.gaussian import SCALE_COUNT, SCALE_MAX, SCALE_MIN, scale_to_index

_STEP = math.log(SCALE_MAX / SCALE_MIN) / (SCALE_COUNT - 1)


class ScaleToIndex(nn.Module):
    """Real ladder index of a standard deviation, within the ladder; gradients outside lead back in.

    Our own models predict the index itself. Models of the literature predict the scale, so this stands at the end of
    their parameter networks.
    """

    def forward(self, scale: Tensor) -> Tensor:
        """Map scales of any shape, float, to indices in [0, 63]; 0.11 and below give 0, 256 and above 63."""
        return scale_to_index(soft_clamp(scale, SCALE_MIN, SCALE_MAX))


class ExactScaleToIndex(ExactModule):
    """Integer twin of :class:`ScaleToIndex`: counts the thresholds that a scale in Q13.10 reaches.

    Threshold k is the least scale in Q13.10 at or above the geometric mean of steps k and k + 1 of the ladder, so the
    index is the nearest in the logarithm. Comparisons of integers need no arithmetic at all.
    """

    thresholds: Tensor

    def __init__(self) -> None:
        super().__init__()
        middles = (SCALE_MIN * math.exp(_STEP * (k + 0.5)) for k in range(SCALE_COUNT - 1))
        thresholds = [math.ceil(m * (1 << FRACTION_BITS)) for m in middles]
        self.register_buffer("thresholds", torch.tensor(thresholds, dtype=torch.int32))

    def forward(self, scale: Tensor) -> Tensor:
        """Map scales, float64 integers in Q13.10, to whole indices 0 to 63, float64 integers in Q13.10."""
        index = torch.bucketize(scale.contiguous(), self.thresholds.double(), right=True)
        return index.double() * (1 << FRACTION_BITS)


register_twin(ScaleToIndex, lambda _: ExactScaleToIndex())

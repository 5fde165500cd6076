"""Parameter network of a hyperprior without context: the hyper-features are the parameters."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from triode.entropy.exact.scale_index import ScaleToIndex


class SplitParameters(nn.Module):
    """Reads scales, and means behind them, straight from the hyper-features.

    Args:
        means: Whether the features hold means (Minnen et al., NeurIPS 2018); without, means are zero (Ballé et al.,
            ICLR 2018).
    """

    def __init__(self, *, means: bool) -> None:
        super().__init__()
        self.means = means
        self.to_index = ScaleToIndex()

    def forward(self, step: int, y_hat: Tensor, hyper: Tensor, q: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return mean and ladder index of the only step; see :class:`~triode.entropy.context.model.ParameterNetwork`.

        Args:
            step: Always 0.
            y_hat: Not looked at.
            hyper: (B, 2 M, h, w), scales first, or (B, M, h, w) without means.
            q: Not looked at.
        """
        scales, means = hyper.chunk(2, 1) if self.means else (hyper, torch.zeros_like(hyper))
        return [(means, self.to_index(scales))]

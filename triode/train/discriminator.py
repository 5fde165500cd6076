"""A small patch discriminator, and the hinge losses it plays with."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from triode.entropy.rate import RateBias

_SLOPE = 0.2


class PatchDiscriminator(nn.Module):
    """Says of each patch of a picture how much it looks like a photo (Isola et al., CVPR 2017).

    Four convolutions down to 1/8 of the size, each position seeing 38 x 38 pixels, then one score a position. Weights
    are divided by their spectral norms (Miyato et al., ICLR 2018). A bias of the rate point lets one network judge
    all rates, each by what is left to tell; it sees nothing else of the bitstream.

    Args:
        width: Channels of the first convolution; 2, 4 and 4 times as many follow. 40 makes 0.49 million parameters.

    Raises:
        ValueError: If the width is below 1.
    """

    def __init__(self, width: int = 40) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"Argument `width` must be >= 1, but got {width}")
        plan = ((3, width, 4, 2), (width, 2 * width, 4, 2), (2 * width, 4 * width, 4, 2), (4 * width, 4 * width, 3, 1))
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(inputs, outputs, kernel, stride, 1)) for inputs, outputs, kernel, stride in plan
        )
        self.rate_bias = nn.ModuleList(RateBias(outputs) for _, outputs, _, _ in plan)
        self.score = spectral_norm(nn.Conv2d(4 * width, 1, 1))

    def forward(self, x: Tensor, q: Tensor) -> Tensor:
        """Judge pictures.

        Args:
            x: (B, 3, H, W) float, around [0, 1]; sides of at least 8 pixels.
            q: (B,) rate points that the pictures were coded at, or are to be compared with.

        Returns:
            (B, 1, H/8, W/8) float32 scores, higher for photos.
        """
        t = 2 * x - 1
        for layer, bias in zip(self.layers, self.rate_bias, strict=True):
            t = F.leaky_relu(bias(layer(t), q), _SLOPE)
        score: Tensor = self.score(t).float()
        return score


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Hinge loss of a discriminator (Lim & Ye, arXiv:1705.02894).

    Args:
        real: (B, 1, h, w) scores of photos.
        fake: (B, 1, h, w) scores of reconstructions.

    Returns:
        Scalar; 2 for a discriminator that knows nothing, 0 for one that is sure and right.
    """
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def generator_loss(fake: Tensor) -> Tensor:
    """Return what reconstructions with scores (B, 1, h, w) lose against the discriminator: (B,), any sign."""
    return -torch.mean(fake, (1, 2, 3))

"""Generalised divisive normalisation, and the transforms of the literature that are built of it."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triode.entropy.bounds import soft_clamp
from triode.models.layers.conv import conv, deconv

_OFFSET = 2.0**-18
_PEDESTAL = _OFFSET**2


class GDN(nn.Module):
    """Divide each channel by a learned pool of all channels' energies (Ballé, Laparra & Simoncelli, ICLR 2016).

    ``y_i = x_i / sqrt(beta_i + sum_j gamma_ij x_j**2)``; the inverse multiplies instead. What is stored are the roots
    ``sqrt(beta + 2**-36)`` and ``sqrt(gamma + 2**-36)``, bounded from below, as in TensorFlow Compression and
    CompressAI. Computed in float32 even under autocast.

    Args:
        channels: Number of channels C.
        inverse: Multiply by the pool instead of dividing.
        beta_min: Least value of beta.
        gamma_init: Initial weight of a channel's own energy; other channels start at zero.
    """

    def __init__(
        self, channels: int, *, inverse: bool = False, beta_min: float = 1e-6, gamma_init: float = 0.1
    ) -> None:
        super().__init__()
        self.inverse = inverse
        self.beta_bound = math.sqrt(beta_min + _PEDESTAL)
        self.beta = nn.Parameter(torch.sqrt(torch.ones(channels) + _PEDESTAL))
        self.gamma = nn.Parameter(torch.sqrt(gamma_init * torch.eye(channels) + _PEDESTAL))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape and dtype."""
        with torch.autocast(x.device.type, enabled=False):
            wide = x.to(self.beta.dtype)
            beta = soft_clamp(self.beta, self.beta_bound, math.inf).square() - _PEDESTAL
            gamma = soft_clamp(self.gamma, _OFFSET, math.inf).square() - _PEDESTAL
            energy = F.conv2d(wide.square(), gamma[:, :, None, None], beta)
            scale = torch.sqrt(energy) if self.inverse else torch.rsqrt(energy)
            return (wide * scale).to(x.dtype)


def gdn_analysis(n: int, m: int) -> nn.Sequential:
    """Four 5x5 convolutions of stride 2 with GDN in between: (B, 3, H, W) to (B, M, H/16, W/16).

    The transform of Ballé et al. (ICLR 2018) and Minnen et al. (NeurIPS 2018). Latent i depends on pixels 16 i - 30 to
    16 i + 30.

    Args:
        n: Channels N inside.
        m: Channels M of the latent.
    """
    return nn.Sequential(conv(3, n), GDN(n), conv(n, n), GDN(n), conv(n, n), GDN(n), conv(n, m))


def gdn_synthesis(n: int, m: int) -> nn.Sequential:
    """Four 5x5 transposed convolutions of stride 2 with inverse GDN in between: (B, M, h, w) to (B, 3, 16 h, 16 w).

    Pixels 16 i to 16 i + 15 depend on latents i - 1 to i + 2.

    Args:
        n: Channels N inside.
        m: Channels M of the latent.
    """
    return nn.Sequential(
        deconv(m, n),
        GDN(n, inverse=True),
        deconv(n, n),
        GDN(n, inverse=True),
        deconv(n, n),
        GDN(n, inverse=True),
        deconv(n, 3),
    )

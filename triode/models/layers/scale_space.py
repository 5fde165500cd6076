"""Scale-space warping (Agustsson et al., CVPR 2020): a frame is looked up at a place and at a degree of blur."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["scale_space", "scale_space_warp"]


def scale_space(x: Tensor, sigma: float, levels: int) -> Tensor:
    """Stack a picture with blurred versions of it, each blurred about twice as much as the one before.

    Blurred levels are made from smaller and smaller pictures, and brought back to full size bilinearly.

    Args:
        x: (B, C, H, W) float; sides are multiples of ``2 ** (levels - 1)``.
        sigma: Standard deviation of the blur in pixels, of every level at its own size.
        levels: Number of blurred versions.

    Returns:
        (B, C, levels + 1, H, W), the sharp one first.

    Raises:
        ValueError: If the sides are no such multiples.
    """
    size = (x.shape[2], x.shape[3])
    if any(side % (1 << (levels - 1)) for side in size):
        raise ValueError(f"Sides must be multiples of {1 << (levels - 1)}, but got {size}")
    kernel = _kernel(sigma, x)
    volume, small = [x], x
    for level in range(levels):
        small = _blurred(F.avg_pool2d(small, 2) if level else small, kernel)
        wide = small
        for _ in range(level):
            wide = F.interpolate(wide, scale_factor=2.0, mode="bilinear", align_corners=False)
        volume.append(wide)
    return torch.stack(volume, 2)


def scale_space_warp(volume: Tensor, flow: Tensor, scale: Tensor) -> Tensor:
    """Look up a picture in a scale space, trilinearly; beyond its borders they are repeated.

    Args:
        volume: (B, C, L, H, W), see :func:`scale_space`.
        flow: (B, 2, H, W) where to look, relative to each pixel: x and y, in units of half the picture's sides.
        scale: (B, 1, H, W) degree of blur: -1 is the outer face of the first level, 1 that of the last.

    Returns:
        (B, C, H, W) float32.
    """
    with torch.autocast(volume.device.type, enabled=False):
        shape = [len(volume), 1, *volume.shape[3:]]
        unmoved = torch.eye(2, 3, device=volume.device).expand(len(volume), 2, 3)
        where = F.affine_grid(unmoved, shape, align_corners=False) + flow.permute(0, 2, 3, 1).float()
        place = torch.cat([where, scale.permute(0, 2, 3, 1).float()], 3)[:, None]
        out = F.grid_sample(volume.float(), place, mode="bilinear", padding_mode="border", align_corners=False)
    return out[:, :, 0]


def _kernel(sigma: float, like: Tensor) -> Tensor:
    """Return the weights of a Gaussian up to three standard deviations, their sum one."""
    reach = math.ceil(3 * sigma)
    x = torch.arange(-reach, reach + 1, dtype=like.dtype, device=like.device)
    weights = torch.exp(-0.5 * (x / sigma).square())
    return weights / weights.sum()


def _blurred(x: Tensor, kernel: Tensor) -> Tensor:
    channels, reach = x.shape[1], len(kernel) // 2
    x = F.pad(x, (reach, reach, reach, reach), mode="replicate")
    x = F.conv2d(x, kernel[None, None, :, None].expand(channels, 1, -1, 1), groups=channels)
    return F.conv2d(x, kernel[None, None, None].expand(channels, 1, 1, -1), groups=channels)

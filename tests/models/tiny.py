"""A tiny `image-light` with varied weights, pictures for it, and its weights file."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from triode.models.image.image_light import ImageLight, ImageLightConfig
from triode.models.layers.pca import principal_components
from triode.models.weights import WeightsInfo, save_weights

TINY = ImageLightConfig(
    latent=16,
    hyper=8,
    fine=8,
    coarse=8,
    encoder_fine=1,
    encoder_coarse=1,
    decoder_fine=1,
    decoder_coarse=1,
    context=8,
    features=12,
    parameters=8,
)
NAME = "tiny.v1"


def smooth_image(height: int, width: int, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    """Return (H, W, C) uint8: a few waves of low frequency in each channel, with a little noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    planes = []
    for _ in range(channels):
        plane = np.full((height, width), 128.0)
        for _ in range(4):
            fy, fx, phase = rng.uniform(-0.08, 0.08), rng.uniform(-0.08, 0.08), rng.uniform(0, 6.3)
            plane += rng.uniform(10, 40) * np.sin(fy * y + fx * x + phase)
        planes.append(plane + rng.normal(0, 2, plane.shape))
    return np.stack(planes, 2).round().clip(0, 255).astype(np.uint8)


def tiny_model(seed: int = 0, config: ImageLightConfig = TINY, *, noise: float = 0.3) -> ImageLight:
    """Build a model that reconstructs smooth images, none of whose layers is idle; not exported."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ImageLight(config).eval()
        model.init_linear(*_components(config.latent))
        perturb(model, noise)
    return model


@lru_cache
def _components(count: int) -> tuple[Tensor, Tensor]:
    return principal_components([smooth_image(96, 128, seed=100 + i) for i in range(4)], 16, count)


def perturb(model: ImageLight, noise: float = 0.3) -> None:
    """Move every parameter; those of the networks beside the linear path far enough to matter."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            scale = 0.01 if ".linear." in name or "gain" in name else noise / 10 if "tail" in name else noise
            fan_in = parameter[0].numel() if parameter.dim() == 4 else 16
            parameter.add_(torch.randn_like(parameter) * (scale / fan_in**0.5))


def save_tiny(folder: Path, seed: int = 0, name: str = NAME) -> WeightsInfo:
    """Write the weights of a tiny model to a folder."""
    return save_weights(tiny_model(seed), folder / f"{name}.safetensors", name=name, architecture="image-light")

"""A small `image-light` with random weights, whose means and table indices vary."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from triode.entropy.exact.state import entropy_state
from triode.models.image.image_light import ImageLight, ImageLightConfig

SMALL = ImageLightConfig(latent=16, hyper=8, fine=8, coarse=8, context=8, features=12, parameters=8)


def small_model(seed: int = 0, config: ImageLightConfig = SMALL) -> ImageLight:
    """Build and export a model; about a fifth of its indices are 0, and some saturate at 63."""
    torch.manual_seed(seed)
    model = ImageLight(config).eval()
    with torch.no_grad():
        for name, parameter in model.entropy.named_parameters():
            if "log_gain" in name or "index_bias" in name:
                parameter.add_(torch.randn_like(parameter) * 0.3)
            elif name.startswith(("h_a", "h_s", "context")) and parameter.dim() > 1:
                fan_in = parameter[0].numel()
                parameter.copy_(torch.randn_like(parameter) * (1.5 / fan_in**0.5))
            elif "output" in name:
                parameter.copy_(torch.randn_like(parameter) * 15 + 8)
    model.export()
    return model


def small_latent(height: int, width: int, seed: int = 0, channels: int = SMALL.latent) -> Tensor:
    """Return a latent (1, M, h, w) with heavy tails, so that some symbols need escapes."""
    generator = torch.Generator().manual_seed(seed)
    normal = torch.randn((2, channels, height, width), generator=generator)
    return (normal[0] * torch.exp(2 * normal[1]))[None]


def state_arrays(model: ImageLight) -> dict[str, NDArray[np.int64]]:
    """Return the integer state as arrays."""
    return {name: tensor.numpy() for name, tensor in entropy_state(model).items()}

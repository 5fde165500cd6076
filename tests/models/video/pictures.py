"""Pictures with something to find in them."""

import torch
from models.tiny import smooth_image


def picture(height=96, width=160, seed=0):
    generator = torch.Generator().manual_seed(seed)
    smooth = torch.from_numpy(smooth_image(height, width, 1, seed=seed))[None, None, :, :, 0] / 255.0
    rough = torch.nn.functional.interpolate(
        torch.rand((1, 1, height // 4, width // 4), generator=generator), size=(height, width), mode="bicubic"
    )
    return smooth + 0.5 * rough


def moved(x, right, down):
    """Return what lies `right` and `down` samples on, whole ones."""
    return torch.roll(x, (-down, -right), (2, 3))

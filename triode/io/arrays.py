"""Pictures and sounds from what users hold in memory: Pillow images, NumPy arrays, PyTorch tensors."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from triode.io.pil import picture_from_pil
from triode.media import Picture, Sound

if TYPE_CHECKING:
    import torch

__all__ = ["to_picture", "to_sound"]

_MOST_CHANNELS = 64


def to_picture(image: Any, *, convert: bool = False, strip: bool = False) -> Picture:
    """Make a picture of an image in memory.

    Args:
        image: A Pillow image, a NumPy array (H, W) or (H, W, C) uint8, a tensor (C, H, W) uint8 or floating-point in
            0..1, on any device, or a `Picture`, which is returned as it is. C is 1 (grey), 2 (grey, alpha), 3 (RGB) or
            4 (RGBA).
        convert: Passed to `picture_from_pil`.
        strip: Whether to leave out the metadata of a Pillow image.

    Raises:
        TypeError: Another kind of object or of number.
        ValueError: Another shape, or floats outside 0..1.
        CodecError: What `picture_from_pil` raises.
    """
    if isinstance(image, Picture):
        return Picture(image.pixels) if strip else image
    if isinstance(image, Image.Image):
        return picture_from_pil(image, convert=convert, strip=strip)
    if isinstance(image, np.ndarray):
        return _from_array(image)
    torch_module = sys.modules.get("torch")  # if it was never imported, this is no tensor
    if torch_module is not None and isinstance(image, torch_module.Tensor):
        return _from_tensor(image)
    raise TypeError(
        f"an image is a Pillow image, a NumPy array or a PyTorch tensor, got {type(image).__name__}"
        + ("; `triode.save` and the command line take files" if isinstance(image, (str, bytes)) else "")
    )


def to_sound(samples: Any, rate: int | None) -> Sound:
    """Make a sound of samples in memory.

    Args:
        samples: A NumPy array or a tensor on any device, (T,) or (C, T), of floating-point numbers nominally in -1..1
            or of 16-bit integers; or a `Sound`, which is returned as it is.
        rate: Samples per second; None with a `Sound`, which has its own.

    Raises:
        TypeError: Another kind of object or of number.
        ValueError: Another shape, samples that are not finite, or a rate where there is one already or that is none.
    """
    if isinstance(samples, Sound):
        if rate not in (None, samples.rate):
            raise ValueError(f"the sound has {samples.rate} samples per second, but rate is {rate}")
        return samples
    torch_module = sys.modules.get("torch")
    if torch_module is not None and isinstance(samples, torch_module.Tensor):
        samples = samples.detach().cpu()
        samples = (samples.float() if samples.is_floating_point() else samples).numpy()
    if not isinstance(samples, np.ndarray):
        raise TypeError(f"samples are a NumPy array or a PyTorch tensor, got {type(samples).__name__}")
    if samples.dtype != np.int16 and samples.dtype.kind != "f":
        raise TypeError(f"samples are floating-point numbers or 16-bit integers, got {samples.dtype}")
    array = samples[None] if samples.ndim == 1 else samples
    if array.ndim != 2 or not 1 <= array.shape[0] <= _MOST_CHANNELS:
        raise ValueError(f"samples are (T,) or (C, T), channels before time, got {samples.shape}")
    scale = 1 / 32768 if array.dtype == np.int16 else 1.0
    floats = np.ascontiguousarray(array * np.float32(scale), np.float32)
    if not np.isfinite(floats).all():
        raise ValueError("samples must be finite")
    return Sound(floats, rate or 0)


def _from_array(array: NDArray[Any]) -> Picture:
    if array.dtype != np.uint8:
        raise TypeError(f"a NumPy image is uint8, got {array.dtype}; scale it to 0..255 and round it first")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or not 1 <= array.shape[2] <= 4 or array.size == 0:
        raise ValueError(f"a NumPy image is (H, W) or (H, W, C) with C in 1..4 and H, W >= 1, got {array.shape}")
    return Picture(np.ascontiguousarray(array))


def _from_tensor(tensor: torch.Tensor) -> Picture:
    if tensor.ndim != 3 or not 1 <= tensor.shape[0] <= 4 or tensor.numel() == 0:
        raise ValueError(f"a tensor image is (C, H, W) with C in 1..4 and H, W >= 1, got {tuple(tensor.shape)}")
    tensor = tensor.detach().cpu()
    if tensor.is_floating_point():
        tensor = tensor.float()
        low, high = float(tensor.min()), float(tensor.max())
        if not (low >= 0 and high <= 1):
            raise ValueError(f"a floating-point image lies in 0..1, got {low:g}..{high:g}; clamp it first")
        tensor = (tensor * 255).round().byte()
    array = tensor.numpy()
    if array.dtype != np.uint8:
        raise TypeError(f"a tensor image is uint8 or floating-point, got {str(tensor.dtype).removeprefix('torch.')}")
    return _from_array(array.transpose(1, 2, 0))

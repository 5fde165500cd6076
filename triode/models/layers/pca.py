"""Principal components of image blocks: a linear transform to start a codec from."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_BLOCKS_AN_IMAGE = 400


def principal_components(
    images: Iterable[NDArray[np.uint8]], size: int, count: int, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Find the leading principal components of random blocks, mirrored ones included.

    Args:
        images: (H, W, 3) uint8 each; those smaller than ``size`` either way are passed over.
        size: Side of the blocks.
        count: Number of components M, a multiple of 4.
        seed: Seed of the blocks' places.

    Returns:
        Components (M, 3, size, size), orthonormal, dealt in turn to four groups so that each group of M / 4 neighbours
        holds strong and weak ones alike; and their standard deviations (M,), for pixels in [0, 1].

    Raises:
        ValueError: If no image is large enough, or there are more components than dimensions.
    """
    rng = np.random.default_rng(seed)
    dim = 3 * size * size
    if count % 4 or not 0 < count <= dim:
        raise ValueError(f"Argument `count` must be a multiple of 4 in 4..{dim}, but got {count}")
    covariance = np.zeros((dim, dim))
    total = 0
    for image in images:
        height, width = image.shape[:2]
        if min(height, width) < size:
            continue
        tops = rng.integers(0, height - size + 1, _BLOCKS_AN_IMAGE)
        lefts = rng.integers(0, width - size + 1, _BLOCKS_AN_IMAGE)
        crops = np.stack([image[t : t + size, x : x + size] for t, x in zip(tops, lefts, strict=True)])
        blocks = crops.astype(np.float32).transpose(0, 3, 1, 2) / 255 - 0.5
        # Mirror and transpose: photos have no preferred side, and the sample is small for 768 dimensions.
        blocks = np.concatenate([blocks, blocks[..., ::-1]])
        blocks = np.concatenate([blocks, blocks.swapaxes(2, 3)]).reshape(-1, dim)
        covariance += blocks.T @ blocks
        total += len(blocks)
    if not total:
        raise ValueError(f"Need an image of at least {size} x {size} pixels")
    values, vectors = np.linalg.eigh(covariance / total)
    order = np.argsort(values)[::-1][:count]
    dealt = np.concatenate([order[g::4] for g in range(4)])
    components = vectors[:, dealt].T.reshape(count, 3, size, size)
    deviations = np.sqrt(np.maximum(values[dealt], 0))
    return torch.from_numpy(components.copy()).float(), torch.from_numpy(deviations.copy()).float()

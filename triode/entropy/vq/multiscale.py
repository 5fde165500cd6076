"""Residual quantisation at several rates in time."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from triode.entropy.vq.base import Quantized, VectorQuantizer
from triode.entropy.vq.factorised import FactorisedVQ
from triode.entropy.vq.residual import ResidualVQ


class PooledVQ(VectorQuantizer):
    """A quantiser on means of consecutive frames, its vectors repeated.

    Args:
        quantizer: Quantiser of the means.
        stride: Frames to a mean; the last mean may be of fewer.
    """

    def __init__(self, quantizer: VectorQuantizer, stride: int) -> None:
        super().__init__(quantizer.dim, quantizer.codebook_sizes, [stride * inner for inner in quantizer.strides])
        self.quantizer = quantizer
        self.stride = stride

    def _pool(self, x: Tensor) -> Tensor:
        return F.avg_pool1d(x, self.stride, self.stride, ceil_mode=True) if self.stride > 1 else x

    def _spread(self, values: Tensor, frames: int) -> Tensor:
        return values.repeat_interleave(self.stride, dim=2)[:, :, :frames] if self.stride > 1 else values

    def _quantise(self, x: Tensor, path: Tensor, counts: int | Tensor) -> Quantized:
        pooled = self._pool(x)
        part = self.quantizer._quantise(pooled, pooled if path is x else self._pool(path), counts)
        values = self._spread(part.values, x.shape[2])
        return Quantized(values, part.codes, part.loss, part.usage, part.perplexity)

    def _encode(self, x: Tensor, count: int) -> tuple[Tensor, ...]:
        return self.quantizer._encode(self._pool(x), count)

    def _decode(self, codes: Sequence[Tensor], frames: int) -> Tensor:
        return self._spread(self.quantizer._decode(codes, -(-frames // self.stride)), frames)

    def _bypass(self, x: Tensor) -> Tensor:
        return self._spread(self.quantizer._bypass(self._pool(x)), x.shape[2])


class MultiScaleResidualVQ(ResidualVQ):
    """Residual stages from slow to fast (SNAC, Siuzdak et al., 2024): each on means of ``stride`` frames.

    Args:
        dim: Channels D of the features.
        codebook_size: Number of entries of each codebook.
        codebook_dim: Dimension of the factorised codes.
        strides: Frames that one code of each stage stands for.
        commitment: Weight of the commitment loss.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int = 4096,
        codebook_dim: int = 8,
        strides: Sequence[int] = (8, 4, 2, 1),
        *,
        commitment: float = 0.25,
    ) -> None:
        super().__init__(
            [
                PooledVQ(FactorisedVQ(dim, codebook_size, codebook_dim, commitment=commitment), stride)
                for stride in strides
            ]
        )

"""SimVQ: a frozen codebook seen through a learned map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triode.entropy.vq.base import SingleVQ, sample_error, straight_through, vectors
from triode.entropy.vq.codebook import nearest


class SimVQ(SingleVQ):
    """Entries ``map(e)`` of a frozen Gaussian codebook (Zhu et al., SimVQ, ICCV 2025): all of them move in each step.

    The loss is ``|sg(x) - q|^2 + commitment * |x - sg(q)|^2``, means over dimensions and frames.

    Args:
        dim: Channels D of the features.
        codebook_size: Number of entries K.
        codebook_dim: Dimension of the frozen entries, D when absent.
        commitment: Weight of the commitment loss.
        transform: Map from the frozen entries (..., codebook_dim) to (..., D); one linear layer without bias when
            absent. HH-Codec takes a small perceptron.
    """

    frozen: Tensor

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        codebook_dim: int | None = None,
        *,
        commitment: float = 0.25,
        transform: nn.Module | None = None,
    ) -> None:
        super().__init__(dim, codebook_size)
        width = dim if codebook_dim is None else codebook_dim
        self.commitment = commitment
        self.register_buffer("frozen", torch.randn(codebook_size, width) * width**-0.5)
        self.transform = nn.Linear(width, dim, bias=False) if transform is None else transform

    def _entries(self, codes: Tensor) -> Tensor:
        entries: Tensor = self.transform(F.embedding(codes, self.frozen))
        return entries.transpose(1, 2)

    def _assign(self, x: Tensor, path: Tensor, active: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        codes = self._search(x.detach())
        entries = self._entries(codes)
        values = entries.detach()
        loss = sample_error(x.detach(), entries) + self.commitment * sample_error(x, values)
        return straight_through(values, path), codes, loss

    @torch.no_grad()
    def _search(self, x: Tensor) -> Tensor:
        return nearest(vectors(x), self.transform(self.frozen)).view(len(x), -1)

    def _decode(self, codes: Sequence[Tensor], frames: int) -> Tensor:
        return self._entries(codes[0])

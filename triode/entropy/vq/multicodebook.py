"""Probabilistic quantisation with several codebooks side by side."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triode.entropy.bounds import soft_clamp
from triode.entropy.vq.base import SingleVQ, vectors
from triode.entropy.vq.codebook import Codebook
from triode.entropy.vq.group import GroupVQ

_COLDEST = 1e-6
_TINY = 1e-30


class GumbelVQ(SingleVQ):
    """A random entry in training, likelier the nearer it is; the nearest one in evaluation.

    The logits are ``-t * |x - e|^2 / sqrt(K)`` with a learned t > 0. Training takes a Gumbel-softmax sample (Jang et
    al.; Maddison et al., ICLR 2017): one entry, with the gradient of the soft assignment to features and all entries.
    There is no loss.

    Args:
        dim: Channels D of the features.
        codebook_size: Number of entries K.
        hard: Take one entry in training; the soft mixture otherwise.
        restart_ratio: Entries whose usage is below this ratio of the mean move to where vectors are; 0 for never.
        restart_every: Training steps between checks of the usage.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        hard: bool = True,
        restart_ratio: float = 0.01,
        restart_every: int = 100,
    ) -> None:
        super().__init__(dim, codebook_size)
        self.hard = hard
        self.codebook = Codebook(
            codebook_size,
            dim,
            ema=False,
            kmeans_iterations=0,
            restart_ratio=restart_ratio,
            restart_every=restart_every,
            std=(2 / (5 * dim)) ** 0.5,
        )
        self.temperature = nn.Parameter(torch.ones(()))

    def _assign(self, x: Tensor, path: Tensor, active: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        samples, points = vectors(x.detach()), vectors(path)
        chosen = None if active is None else active.repeat_interleave(x.shape[2])
        self.codebook.prepare(samples, chosen)
        entries = self.codebook.entries
        # |x|^2 is the same for all entries and drops out of the softmax.
        logits = torch.addmm(-entries.square().sum(1), points, entries.t(), alpha=2)
        logits = logits * soft_clamp(self.temperature, _COLDEST, float("inf")) / len(entries) ** 0.5
        if self.training:
            logits = logits - torch.empty_like(logits).exponential_().clamp(min=_TINY).log()
            codes = logits.detach().argmax(1)
        else:
            codes = self.codebook.search(samples)
        weights = torch.softmax(logits, dim=1)
        if self.hard or not self.training:
            weights = F.one_hot(codes, len(entries)).to(weights.dtype) + (weights - weights.detach())
        values = (weights @ entries).view(len(x), -1, self.dim).transpose(1, 2)
        self.codebook.record(samples, codes, chosen)
        return values, codes.view(len(x), -1), x.new_zeros(len(x))

    def _search(self, x: Tensor) -> Tensor:
        return self.codebook.search(vectors(x)).view(len(x), -1)

    def _decode(self, codes: Sequence[Tensor], frames: int) -> Tensor:
        return self.codebook.lookup(codes[0])


class MultiCodebookVQ(GroupVQ):
    """Multi-codebook probabilistic quantisation (McQuic, Zhu et al., CVPR 2022): m groups of channels, Gumbel-softmax.

    Args:
        dim: Channels D of the features.
        codebook_size: Number of entries of each codebook.
        codebooks: Number of codebooks m, a divisor of ``dim``.
        hard: Take one entry in training; the soft mixture otherwise.
        restart_ratio: Entries whose usage is below this ratio of the mean move to where vectors are; 0 for never.
        restart_every: Training steps between checks of the usage.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        codebooks: int = 2,
        *,
        hard: bool = True,
        restart_ratio: float = 0.01,
        restart_every: int = 100,
    ) -> None:
        if codebooks < 1 or dim % codebooks:
            raise ValueError(f"Argument `codebooks` must be a divisor of {dim}, but got {codebooks}")
        super().__init__(
            [
                GumbelVQ(
                    dim // codebooks,
                    codebook_size,
                    hard=hard,
                    restart_ratio=restart_ratio,
                    restart_every=restart_every,
                )
                for _ in range(codebooks)
            ]
        )

"""A codebook: nearest entries, k-means start, moving averages, and new places for entries that nothing uses."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn

from triode.entropy.vq.base import vectors

_MAX_SCORES = 1 << 24  # elements of the score matrix held at a time
_VECTORS_A_CENTRE = 4
_TINY = 1e-12
_SETTLED = 10_000  # steps after which a swift start makes no difference


@torch.no_grad()
def nearest(samples: Tensor, entries: Tensor, *, cosine: bool = False) -> Tensor:
    """Find the nearest entry of each vector.

    Args:
        samples: (N, d) float.
        entries: (K, d) float.
        cosine: Compare directions alone; Euclidean distance otherwise.

    Returns:
        (N,) int64.
    """
    if cosine:
        samples, entries = F.normalize(samples, dim=1), F.normalize(entries, dim=1)
        bias = entries.new_zeros(1)
    else:
        bias = entries.square().sum(1) / -2
    rows = max(1, _MAX_SCORES // len(entries))
    return torch.cat([torch.addmm(bias, part, entries.t()).argmax(1) for part in torch.split(samples, rows)])


def _pick(available: int, wanted: int, device: torch.device) -> Tensor:
    if available >= wanted:
        return torch.randperm(available, device=device)[:wanted]
    return torch.randint(available, (wanted,), device=device)


def _sums(samples: Tensor, codes: Tensor, size: int) -> tuple[Tensor, Tensor]:
    counts = samples.new_zeros(size).index_add_(0, codes, samples.new_ones(len(codes)))
    return counts, samples.new_zeros(size, samples.shape[1]).index_add_(0, codes, samples)


@torch.no_grad()
def kmeans(samples: Tensor, size: int, iterations: int, *, cosine: bool = False) -> Tensor:
    """Cluster vectors (Lloyd, 1982), starting from a random choice of them.

    There is at most one centre for every four vectors. Entries beyond that are drawn from the clusters, as normal as
    the offsets from their centres are wide: entries that repeat the vectors would leave a residual of zero, on which
    the next stage of a residual quantiser could not start.

    Args:
        samples: (N, d) float, N >= 1.
        size: Number of entries K.
        iterations: Number of rounds.
        cosine: Assign by direction.

    Returns:
        (K, d) entries.
    """
    centres = min(size, -(-len(samples) // _VECTORS_A_CENTRE))
    means = samples[_pick(len(samples), centres, samples.device)]
    for _ in range(iterations):
        counts, sums = _sums(samples, nearest(samples, means, cosine=cosine), centres)
        anew = samples[_pick(len(samples), centres, samples.device)]
        means = torch.where(counts[:, None] > 0, sums / counts.clamp(min=1)[:, None], anew)
    if centres == size:
        return means
    codes = nearest(samples, means, cosine=cosine)
    spread = (samples - means[codes]).square().mean(0).sqrt()
    near = means[codes[_pick(len(samples), size - centres, samples.device)]]
    return torch.cat([means, near + spread * torch.randn_like(near)])


def _many_ranks() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


class Codebook(nn.Module):
    """Entries to choose from, kept in use.

    With moving averages (van den Oord et al., 2017, appendix A.1) an entry follows the mean of the vectors that chose
    it, in float32, without gradients. Averages are of shares of a batch, so that neither decay nor restarts depend on
    its size. With several processes sums run over all of them, and the first one's k-means start and restarts count.

    Args:
        size: Number of entries K.
        dim: Their dimension d.
        ema: Learn by moving averages; otherwise the entries are a parameter.
        decay: Of the moving averages a step, of usage too, in 0..1.
        cosine: Search by direction. The values are the entries as they are, not normalised.
        kmeans_iterations: Rounds of k-means on the first training batch; 0 keeps the random entries.
        restart_ratio: An entry moves to a random vector of the batch once its usage is below this ratio of the mean
            usage (after Kyutai's Mimi, 2024); 0 never moves one.
        restart_every: Training steps between these checks.
        std: Standard deviation of the random entries.
    """

    entries: Tensor
    usage: Tensor
    steps: Tensor
    swift: bool = False
    """Whether averages are quick at first: the decay of step n is at most ``(1 + n) / (10 + n)``.

    The features of an encoder that has just begun to learn move faster than any average of 100 steps, and take a
    hundred steps to show which entries nobody uses. The formula is the usual one for averaged weights.
    """

    def __init__(
        self,
        size: int,
        dim: int,
        *,
        ema: bool = True,
        decay: float = 0.99,
        cosine: bool = False,
        kmeans_iterations: int = 10,
        restart_ratio: float = 0.1,
        restart_every: int = 10,
        std: float = 1.0,
    ) -> None:
        super().__init__()
        if size < 2 or dim < 1:
            raise ValueError(f"Arguments `size` and `dim` must be at least 2 and 1, but got {size} and {dim}")
        if not 0 <= decay < 1:
            raise ValueError(f"Argument `decay` must be in [0, 1), but got {decay}")
        if not 0 <= restart_ratio < 1:
            raise ValueError(f"Argument `restart_ratio` must be in [0, 1), but got {restart_ratio}")
        if restart_every < 1 or kmeans_iterations < 0:
            raise ValueError(
                "Arguments `restart_every` and `kmeans_iterations` must be at least 1 and 0, "
                f"but got {restart_every} and {kmeans_iterations}"
            )
        self.size, self.dim, self.ema, self.decay, self.cosine = size, dim, ema, decay, cosine
        self.kmeans_iterations, self.restart_ratio, self.restart_every = kmeans_iterations, restart_ratio, restart_every
        entries = torch.randn(size, dim) * std
        if ema:
            self.register_buffer("entries", entries)
        else:
            self.entries = nn.Parameter(entries)
        self.register_buffer("usage", torch.full((size,), 1 / size))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self._seen: int | None = None

    @property
    def started(self) -> bool:
        """Whether it has learned from a batch: the k-means start is over."""
        return self._step_number() > 0

    @torch.no_grad()
    def mark_started(self) -> None:
        """Take the entries, of a checkpoint for example, for learned ones: no k-means, and no swift start."""
        if not int(self.steps):
            self.steps.fill_(_SETTLED)
        self._seen = None

    def search(self, samples: Tensor) -> Tensor:
        """Find the entry of each vector.

        Args:
            samples: (N, d) float.

        Returns:
            (N,) int64.
        """
        return nearest(samples, self.entries, cosine=self.cosine)

    def lookup(self, codes: Tensor) -> Tensor:
        """Give the entries of codes.

        Args:
            codes: (B, F) int64, each in 0..K-1.

        Returns:
            (B, d, F) entries, differentiable where they are a parameter.
        """
        return F.embedding(codes, self.entries).transpose(1, 2)

    def assign(self, x: Tensor, active: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Find the entries of features; while training, learn from them.

        Args:
            x: (B, d, F) float.
            active: (B,) bool, the samples to learn from; all when absent.

        Returns:
            (B, F) int64 codes, and their entries (B, d, F) as they were found, differentiable where they are a
            parameter.
        """
        samples = vectors(x.detach())
        chosen = None if active is None else active.repeat_interleave(x.shape[2])
        self.prepare(samples, chosen)
        codes = self.search(samples)
        values = self.lookup(codes.view(len(x), -1))
        self.record(samples, codes, chosen)
        return codes.view(len(x), -1), values

    @torch.no_grad()
    def prepare(self, samples: Tensor, active: Tensor | None = None) -> None:
        """Start by k-means, or restart unused entries, where either is due; nothing in evaluation.

        To be called before the entries are searched.

        Args:
            samples: (N, d) float vectors of this step.
            active: (N,) bool, those that may become entries; all when absent.
        """
        if not self.training:
            return
        if not self._step_number():
            if self.kmeans_iterations:
                if active is not None and bool(active.any()):
                    samples = samples[active]
                self.entries.copy_(kmeans(samples, self.size, self.kmeans_iterations, cosine=self.cosine))
                self._share_state()
        elif self.restart_ratio and self._step_number() % self.restart_every == 0:
            if active is not None:
                samples = samples[active]
            if len(samples):
                dead = self.usage < self.restart_ratio * self.usage.mean()
                anew = samples[_pick(len(samples), self.size, samples.device)]
                self.entries.copy_(torch.where(dead[:, None], anew, self.entries))
                self.usage.masked_fill_(dead, 1 / self.size)
            self._share_state()

    @torch.no_grad()
    def record(self, samples: Tensor, codes: Tensor, active: Tensor | None = None) -> None:
        """Learn from what was chosen: usage always, entries with moving averages; nothing in evaluation.

        Args:
            samples: (N, d) float vectors of this step.
            codes: (N,) int64, their entries.
            active: (N,) bool, those that count; all when absent.
        """
        if not self.training:
            return
        if active is not None:
            samples, codes = samples[active], codes[active]
        counts, sums = _sums(samples, codes, self.size)
        if _many_ranks():
            both = torch.cat([counts[:, None], sums], dim=1)
            distributed.all_reduce(both)
            counts, sums = both[:, 0], both[:, 1:]
        total = counts.sum()
        n = self._step_number()
        decay = min(self.decay, (1 + n) / (10 + n)) if self.swift else self.decay
        rate = (1 - decay) * (total > 0).to(total.dtype)
        shares, sums = counts / total.clamp(min=1), sums / total.clamp(min=1)
        self.usage.lerp_(shares, rate)
        if self.ema:
            # The quotient of both averages, written as a step of the entry so that one that nothing chose stays put.
            step = rate * (sums - shares[:, None] * self.entries)
            self.entries.add_(step / self.usage.clamp(min=_TINY)[:, None])
        self._seen = n + 1
        self.steps.fill_(self._seen)

    def _step_number(self) -> int:
        # Kept on the host too: to read the buffer would wait for the device in every step.
        if self._seen is None:
            self._seen = int(self.steps)
        return self._seen

    def _share_state(self) -> None:
        if _many_ranks():
            distributed.broadcast(self.entries.data, 0)
            distributed.broadcast(self.usage, 0)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._seen = None

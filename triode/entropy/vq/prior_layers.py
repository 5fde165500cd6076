"""Parts of context priors: embeddings, heads of two digits and the way from logits to tables, with integer twins."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triode.entropy.exact.layers import ACTIVATION_MAX, FRACTION_BITS, ExactConv2d, register_twin
from triode.entropy.exact.state import ExactModule
from triode.entropy.tables import PRECISION, CdfTables

_EMBEDDING_MAX = (1 << 15) - 1
_FLAT_MAX = 64
_STEPS = 64
_OCTAVES = 24
_STEP_SHIFT = FRACTION_BITS - 6


def digits(size: int) -> tuple[int, int]:
    """Tell how codes are written as two digits, ``code = cluster * leaves + leaf``.

    Args:
        size: Number of codes K, at least 2.

    Returns:
        Number of clusters and of leaves in each; 1 and K for up to 64 codes. The last cluster may be smaller.
    """
    if size <= _FLAT_MAX:
        return 1, size
    leaves = 1 << ((size - 1).bit_length() + 1) // 2
    return -(-size // leaves), leaves


class ExactEmbedding(ExactModule):
    """Integer twin of ``nn.Embedding``: int16 entries in Q5.10.

    Args:
        source: The float layer.

    Raises:
        ValueError: If an entry is not finite or its magnitude reaches 32.
    """

    weight: Tensor

    def __init__(self, source: nn.Embedding) -> None:
        super().__init__()
        entries = torch.round(source.weight.detach().double() * (1 << FRACTION_BITS))
        if not bool((entries.abs() <= _EMBEDDING_MAX).all()):
            raise ValueError("Embeddings must be finite and of magnitude below 32")
        self.register_buffer("weight", entries.to(torch.int16))

    def forward(self, codes: Tensor) -> Tensor:
        """Look up codes (...) int64; give (..., E) float64 integers, Q13.10."""
        return F.embedding(codes, self.weight).double()


class LeafHead(nn.Module):
    """Logits of the second digit given the first: a row of weights for each code.

    Args:
        hidden: Channels H of the features.
        size: Number of codes K.
    """

    def __init__(self, hidden: int, size: int) -> None:
        super().__init__()
        self.clusters, self.leaves = digits(size)
        self.rows = nn.Conv2d(hidden, size, 1)

    def forward(self, x: Tensor, cluster: Tensor) -> Tensor:
        """Compute logits; those of codes that the last cluster lacks are minus infinity.

        Args:
            x: (B, H, 1, N) float.
            cluster: (B, N) int64, the first digits.

        Returns:
            (B, leaves, N).
        """
        logits: Tensor = self.rows(x)[:, :, 0]
        missing = self.clusters * self.leaves - logits.shape[1]
        if missing:
            logits = F.pad(logits, (0, 0, 0, missing), value=-math.inf)
        blocks = logits.view(len(logits), self.clusters, self.leaves, -1)
        index = cluster[:, None, None].expand(-1, 1, self.leaves, -1)
        return torch.gather(blocks, 1, index)[:, 0]


class ExactLeafHead(nn.Module):
    """Integer twin of :class:`LeafHead`; computes the rows of one cluster alone.

    Args:
        source: The float module.

    Raises:
        ValueError: If its sums may exceed 2**53.
    """

    def __init__(self, source: LeafHead) -> None:
        super().__init__()
        self.clusters, self.leaves = source.clusters, source.leaves
        self.rows = ExactConv2d(source.rows)

    def forward(self, x: Tensor, cluster: Tensor) -> Tensor:
        """Compute logits; those of codes that the last cluster lacks mean nothing.

        Args:
            x: (B, H, 1, N) float64 integers, Q13.10.
            cluster: (B, N) int64, the first digits.

        Returns:
            (B, leaves, N) float64 integers, Q13.10.
        """
        weight, bias, _ = self.rows.floats()
        rows, offsets = weight.t().cpu().numpy(), bias[:, 0].cpu().numpy()
        first = cluster.flatten().cpu().numpy()
        order = np.argsort(first, kind="stable")
        columns = x[:, :, 0].transpose(1, 2).flatten(0, 1).cpu().numpy()[order]
        out = np.zeros((len(order), self.leaves))
        # One product for each cluster; NumPy starts small ones fastest, and integers have but one result.
        stops = np.bincount(first, minlength=self.clusters).cumsum().tolist()
        for c, (start, stop) in enumerate(pairwise([0, *stops])):
            if start < stop:
                mine = slice(c * self.leaves, min((c + 1) * self.leaves, rows.shape[1]))
                out[start:stop, : mine.stop - mine.start] = columns[start:stop] @ rows[:, mine] + offsets[mine]
        logits = np.empty_like(out)
        logits[order] = np.floor(out).clip(-ACTIVATION_MAX, ACTIVATION_MAX)
        return torch.from_numpy(logits).to(x.device).view(*cluster.shape, -1).transpose(1, 2)


class Powers(ExactModule):
    """Powers of two in integers, and with them the way from logits to tables.

    ``value[k]`` is 2**(24 - k / 64), rounded, for k = 0..1535; behind them stands a zero. Logits are in octaves: one
    more doubles the probability.
    """

    value: Tensor

    def __init__(self) -> None:
        super().__init__()
        powers = [round(2.0 ** (PRECISION - k / _STEPS)) for k in range(_OCTAVES * _STEPS)]
        self.register_buffer("value", torch.tensor([*powers, 0], dtype=torch.int32))

    def tables(self, logits: Tensor, limit: Tensor | None = None) -> CdfTables:
        """Turn logits into one table a row, in int64 throughout.

        With d the distance of a logit from the largest of its row, rounded to 1/64 octave, e the power of -d, E the sum
        of the row's e and n the number of logits, the mass is ``1 + floor(e * (2**24 - n - 1) / E)``; the escape's is
        1, and the first of the largest e gets what is left over.

        Args:
            logits: (N, n) float64 integers, Q13.10.
            limit: (N,) int64, number of entries of each row that are meant, at least 1; the others get mass 1. All
                when absent.

        Returns:
            N tables of n + 1 entries for symbols from 0 on.
        """
        scores = logits.cpu().numpy().astype(np.int64)
        powers = self.value.cpu().numpy().astype(np.int64)
        rows, n = scores.shape
        if limit is not None:
            outside = np.arange(n) >= limit.cpu().numpy()[:, None]
            scores[outside] = scores.min(1, initial=-ACTIVATION_MAX)[np.nonzero(outside)[0]]
        distance = (scores.max(1, keepdims=True) - scores + (1 << (_STEP_SHIFT - 1))) >> _STEP_SHIFT
        e = powers[np.minimum(distance, len(powers) - 1)]
        if limit is not None:
            e[outside] = 0
        masses = np.ones((rows, n + 1), dtype=np.int64)
        masses[:, :n] += e * ((1 << PRECISION) - n - 1) // e.sum(1, keepdims=True)
        masses[np.arange(rows), e.argmax(1)] += (1 << PRECISION) - masses.sum(1)
        sizes = np.full(rows, n + 1, dtype=np.int32)
        return CdfTables(masses.astype(np.int32).reshape(-1), sizes, np.zeros(rows, dtype=np.int32))


class CodeOrder(ExactModule):
    """The order in which codes get their digits: a permutation of them, int32.

    Args:
        size: Number of codes K.
    """

    codes: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("codes", torch.arange(size, dtype=torch.int32))

    def ranks(self, codes: Tensor) -> Tensor:
        """Return the places of codes (...) int64 in the order."""
        places = torch.empty(len(self.codes), dtype=torch.int64, device=self.codes.device)
        places[self.codes.long()] = torch.arange(len(places), device=places.device)
        return places[codes]

    def restore(self, ranks: Tensor) -> Tensor:
        """Return the codes at places (...) int64 of the order."""
        return self.codes[ranks].long()

    def _load_from_state_dict(self, *args: Any) -> None:
        super()._load_from_state_dict(*args)
        if not torch.equal(self.codes.sort().values, torch.arange(len(self.codes), dtype=torch.int32)):
            raise ValueError("An order of codes must hold each of them once")


def similar_order(vectors: Tensor) -> Tensor:
    """Order vectors so that neighbours are alike: halve them along their principal axis, then each half, and so on.

    Args:
        vectors: (K, D) float.

    Returns:
        (K,) int64 permutation. Any aligned run of a power of two in it is one part of the halving.
    """
    points = vectors.detach().double().cpu()

    def halve(members: Tensor) -> list[Tensor]:
        if len(members) < 3:
            return [members]
        inside = points[members]
        centred = inside - inside.mean(0)
        axis = torch.linalg.svd(centred, full_matrices=False).Vh[0]
        axis = axis * torch.sign(axis[axis.abs().argmax()])  # The sign of an axis is anybody's choice.
        ordered = members[(centred @ axis).argsort(stable=True)]
        half = 1 << (len(members) - 1).bit_length() - 1
        return halve(ordered[:half]) + halve(ordered[half:])

    return torch.cat(halve(torch.arange(len(points))))


register_twin(nn.Embedding, ExactEmbedding)
register_twin(LeafHead, ExactLeafHead)

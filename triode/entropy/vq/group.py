"""Group quantisation: channels in groups, each with quantisers of its own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import cast

import torch
from torch import Tensor, nn

from triode.entropy.vq.base import Quantized, VectorQuantizer
from triode.entropy.vq.plain import PlainVQ
from triode.entropy.vq.residual import ResidualVQ


class GroupVQ(VectorQuantizer):
    """Consecutive channels to one quantiser each. The first stages of all groups come first, then the second ones.

    A group none of whose stages is in use decodes to zeros. The loss is the mean over the groups.

    Args:
        quantizers: One a group; their dimensions add up to D.
    """

    shares: Tensor

    def __init__(self, quantizers: Sequence[VectorQuantizer]) -> None:
        if not quantizers:
            raise ValueError("Argument `quantizers` must hold one or more quantisers, but got none")
        deepest = max(quantizer.stages for quantizer in quantizers)
        order = [(g, s) for s in range(deepest) for g, quantizer in enumerate(quantizers) if s < quantizer.stages]
        super().__init__(
            sum(quantizer.dim for quantizer in quantizers),
            [quantizers[g].codebook_sizes[s] for g, s in order],
            [quantizers[g].strides[s] for g, s in order],
        )
        self._order = order
        self.quantizers = nn.ModuleList(quantizers)
        self.dims = [quantizer.dim for quantizer in quantizers]
        shares = [[0, *accumulate(int(g == group) for g, _ in order)] for group in range(len(quantizers))]
        # shares[g, n]: how many of the first n stages are the group's.
        self.register_buffer("shares", torch.tensor(shares), persistent=False)

    def _group(self, index: int) -> VectorQuantizer:
        return cast(VectorQuantizer, self.quantizers[index])

    def _share(self, group: int, counts: int | Tensor) -> int | Tensor:
        if isinstance(counts, Tensor):
            return self.shares[group][counts.clamp(0, self.stages)]
        return sum(g == group for g, _ in self._order[:counts])

    def _quantise(self, x: Tensor, path: Tensor, counts: int | Tensor) -> Quantized:
        inputs = torch.split(x, self.dims, dim=1)
        paths = inputs if path is x else torch.split(path, self.dims, dim=1)
        parts: dict[int, Quantized] = {}
        for group, (seen, followed) in enumerate(zip(inputs, paths, strict=True)):
            share = self._share(group, counts)
            if isinstance(share, Tensor) or share > 0:
                parts[group] = self._group(group)._quantise(seen, followed, share)
        order = self._order if isinstance(counts, Tensor) else self._order[:counts]
        values = [parts[g].values if g in parts else torch.zeros_like(seen) for g, seen in enumerate(inputs)]
        return Quantized(
            torch.cat(values, dim=1),
            tuple(parts[g].codes[s] for g, s in order),
            torch.stack([part.loss for part in parts.values()]).sum(0) / len(inputs),
            torch.stack([parts[g].usage[s] for g, s in order]),
            torch.stack([parts[g].perplexity[s] for g, s in order]),
        )

    def _encode(self, x: Tensor, count: int) -> tuple[Tensor, ...]:
        found = {}
        for group, part in enumerate(torch.split(x, self.dims, dim=1)):
            share = self._share(group, count)
            if isinstance(share, int) and share > 0:
                found[group] = self._group(group)._encode(part, share)
        return tuple(found[g][s] for g, s in self._order[:count])

    def _decode(self, codes: Sequence[Tensor], frames: int) -> Tensor:
        mine: list[list[Tensor]] = [[] for _ in self.dims]
        for (g, _), code in zip(self._order, codes, strict=False):
            mine[g].append(code)
        parts = [self._group(g)._decode(given, frames) if given else None for g, given in enumerate(mine)]
        like = next(part for part in parts if part is not None)
        return torch.cat(
            [
                like.new_zeros(len(like), dim, frames) if part is None else part
                for part, dim in zip(parts, self.dims, strict=True)
            ],
            dim=1,
        )

    def _bypass(self, x: Tensor) -> Tensor:
        return torch.cat(
            [self._group(g)._bypass(part) for g, part in enumerate(torch.split(x, self.dims, dim=1))], dim=1
        )


class GroupResidualVQ(GroupVQ):
    """Channel groups, each with a residual quantiser (HiFi-Codec, Yang et al., 2023).

    By default as published: entries learned by gradient, codebook loss 1, commitment 0.25, mean over the stages. The
    order of the stages is the first of every group, then the second of every group.

    Args:
        dim: Channels D of the features.
        codebook_size: Number of entries of each codebook.
        groups: Number of groups, a divisor of ``dim``.
        depth: Number of residual stages of each group.
        ema: Learn the entries by moving averages; by gradient otherwise.
        commitment: Weight of the commitment loss.
        kmeans_iterations: Rounds of the k-means start on the first training batch; 0 for none.
        restart_ratio: Entries whose usage is below this ratio of the mean move to where vectors are; 0 for never.
        restart_every: Training steps between checks of the usage.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        groups: int = 2,
        depth: int = 2,
        *,
        ema: bool = False,
        commitment: float = 0.25,
        kmeans_iterations: int = 10,
        restart_ratio: float = 0.1,
        restart_every: int = 10,
    ) -> None:
        if groups < 1 or depth < 1 or dim % groups:
            raise ValueError(
                "Arguments `groups` and `depth` must be at least 1, and `groups` a divisor of the dimension, "
                f"but got {groups} and {depth} for dimension {dim}"
            )

        def stage() -> PlainVQ:
            return PlainVQ(
                dim // groups,
                codebook_size,
                ema=ema,
                commitment=commitment,
                kmeans_iterations=kmeans_iterations,
                restart_ratio=restart_ratio,
                restart_every=restart_every,
            )

        super().__init__([ResidualVQ([stage() for _ in range(depth)], average=True) for _ in range(groups)])

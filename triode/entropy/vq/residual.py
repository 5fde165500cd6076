"""Residual quantisation: each stage codes what the ones before it left over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn

from triode.entropy.vq.base import Quantized, VectorQuantizer


def draw_stage_counts(
    batch: int,
    stages: int,
    probability: float = 0.5,
    *,
    fewest: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw how many stages each sample of a training batch uses: quantiser dropout.

    SoundStream (Zeghidour et al., 2021) draws for all samples, DAC for half of them, ESC for three of four.

    Args:
        batch: Number of samples B.
        stages: Number of stages of the quantiser.
        probability: Of a sample to use fewer than all stages, in 0..1; its count is uniform in fewest..stages.
        fewest: Smallest count, 1..stages.
        generator: Source of randomness; the global one when absent.

    Returns:
        (B,) int64, for ``VectorQuantizer.forward``.

    Raises:
        ValueError: If an argument is out of range.
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"Argument `probability` must be in 0..1, but got {probability}")
    if not 1 <= fewest <= stages:
        raise ValueError(f"Argument `fewest` must be in 1..{stages}, but got {fewest}")
    dropped = torch.rand(batch, generator=generator) < probability
    counts = torch.randint(fewest, stages + 1, (batch,), generator=generator)
    return torch.where(dropped, counts, stages)


class ResidualVQ(VectorQuantizer):
    """Quantisers in a row, each on the residual of those before it (SoundStream; EnCodec; DAC).

    Losses see every residual with the decoded vectors detached, so that each stage's commitment reaches the features.
    The gradient of the values is the chain rule through all stages: with quantisers in the space of the features it is
    the identity, once, on the sum; with projections it stays in the space that they span.

    Args:
        quantizers: The stages, all of the same dimension; each may have stages of its own.
        average: Give the mean of the losses of the stages in use (EnCodec, HiFi-Codec); their sum otherwise (DAC).
    """

    def __init__(self, quantizers: Sequence[VectorQuantizer], *, average: bool = False) -> None:
        if not quantizers or len({quantizer.dim for quantizer in quantizers}) > 1:
            raise ValueError(
                "Argument `quantizers` must be one or more of equal dimension, "
                f"but got dimensions {[quantizer.dim for quantizer in quantizers]}"
            )
        sizes = [size for quantizer in quantizers for size in quantizer.codebook_sizes]
        strides = [stride for quantizer in quantizers for stride in quantizer.strides]
        super().__init__(quantizers[0].dim, sizes, strides)
        self.average = average
        self.quantizers = nn.ModuleList(quantizers)

    def _parts(self, count: int) -> list[tuple[VectorQuantizer, int, int]]:
        """List the quantisers that the first ``count`` stages reach: each with its first stage and its share."""
        parts, start = [], 0
        for module in self.quantizers:
            quantizer = cast(VectorQuantizer, module)
            if start >= count:
                break
            parts.append((quantizer, start, min(quantizer.stages, count - start)))
            start += quantizer.stages
        return parts

    def _input(self, index: int, x: Tensor, residual: Tensor) -> Tensor:
        """Choose what a quantiser sees, from the features and from what is left of them."""
        return residual

    def _quantise(self, x: Tensor, path: Tensor, counts: int | Tensor) -> Quantized:
        residual, route = x, path
        results, losses = [], []
        used: int | Tensor = 0
        for index, (quantizer, start, share) in enumerate(self._parts(_highest(counts, self.stages))):
            mine = counts - start if isinstance(counts, Tensor) else share
            seen = self._input(index, x, residual)
            # Until something was subtracted both graphs are one, and quantisers need not compute it twice.
            followed = seen if route is residual else self._input(index, path, route)
            part = quantizer._quantise(seen, followed, mine)
            residual = residual - part.values.detach()
            route = route - part.values if torch.is_grad_enabled() else residual
            results.append(part)
            losses.append(part.loss)
            used = used + (mine > 0)
        total = results[0].values
        for part in results[1:]:
            total = total + part.values
        loss = torch.stack(losses).sum(0)
        if self.average:
            loss = loss / (used.clamp(min=1) if isinstance(used, Tensor) else used)
        return Quantized(
            total,
            tuple(code for part in results for code in part.codes),
            loss,
            torch.cat([part.usage for part in results]),
            torch.cat([part.perplexity for part in results]),
        )

    def _encode(self, x: Tensor, count: int) -> tuple[Tensor, ...]:
        residual, codes = x, list[Tensor]()
        for index, (quantizer, _, share) in enumerate(self._parts(count)):
            found = quantizer._encode(self._input(index, x, residual), share)
            residual = residual - quantizer._decode(found, x.shape[2])
            codes.extend(found)
        return tuple(codes)

    def _decode(self, codes: Sequence[Tensor], frames: int) -> Tensor:
        parts = [
            quantizer._decode(codes[start : start + share], frames)
            for quantizer, start, share in self._parts(len(codes))
        ]
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    def _bypass(self, x: Tensor) -> Tensor:
        residual, total = x, torch.zeros_like(x)
        for index, (quantizer, _, _) in enumerate(self._parts(self.stages)):
            part = quantizer._bypass(self._input(index, x, residual))
            residual, total = residual - part, total + part
        return total


def _highest(counts: int | Tensor, stages: int) -> int:
    # With a count for each sample every stage runs: the same work, and the same gradients, in every process.
    return counts if isinstance(counts, int) else stages

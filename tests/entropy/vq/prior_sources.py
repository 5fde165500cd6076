"""Small code priors, sources of codes whose entropy is known, and writers that look on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from triode.entropy.coder import RangeWriter
from triode.entropy.tables import CdfTables, IntArray
from triode.entropy.vq.context_prior import ContextPrior
from triode.entropy.vq.prior import CodePrior
from triode.entropy.vq.static_prior import StaticPrior

SIZES, STRIDES = (5, 70, 128, 3), (2, 1, 1, 2)


def small_context(
    sizes: tuple[int, ...] = SIZES, strides: tuple[int, ...] | None = STRIDES, seed: int = 0, **options: object
) -> ContextPrior:
    """Build a context prior with random weights that make codes depend on each other."""
    torch.manual_seed(seed)
    prior = ContextPrior(sizes, strides, **{"width": 4, "hidden": 8, "reach": 1, **options}).eval()
    with torch.no_grad():
        for network, order in zip(prior.networks, prior.orders, strict=True):
            for parameter in network.parameters():
                parameter.copy_(torch.randn_like(parameter) * (1.5 if parameter.dim() == 1 else 0.7))
            order.codes.copy_(torch.randperm(len(order.codes)))
        if prior.rest is not None:
            _randomise(prior.rest)
    return prior


def small_static(sizes: tuple[int, ...] = SIZES, strides: tuple[int, ...] | None = STRIDES, seed: int = 0) -> CodePrior:
    """Build a static prior with random distributions."""
    torch.manual_seed(seed)
    prior = StaticPrior(sizes, strides).eval()
    _randomise(prior)
    return prior


def _randomise(prior: StaticPrior) -> None:
    with torch.no_grad():
        for logits in prior.logits:
            logits.copy_(torch.randn_like(logits) * 2)


KINDS: dict[str, Callable[[], CodePrior]] = {
    "static": small_static,
    "context": lambda: small_context(phases=(3, 2)),
    "context, flat in time": lambda: small_context(phases=(1,)),
    "context, deep in time": lambda: small_context(phases=(5, 1, 4, 2), reach=0),
    "context, partly static": lambda: small_context(depth=2),
}


def random_codes(
    prior: CodePrior, frames: int, stages: int | None = None, batch: int = 1, seed: int = 0
) -> list[Tensor]:
    """Draw codes of each stage uniformly."""
    generator = torch.Generator().manual_seed(seed)
    lengths = prior.code_frames(frames)[:stages]
    return [
        torch.randint(size, (batch, n), generator=generator)
        for size, n in zip(prior.codebook_sizes, lengths, strict=False)
    ]


@dataclass
class Spy:
    """Writes on, and keeps what it was given."""

    writer: RangeWriter = field(default_factory=RangeWriter)
    symbols: list[NDArray[np.int64]] = field(default_factory=list)
    masses: list[NDArray[np.int64]] = field(default_factory=list)

    def write(self, symbols: IntArray, index: IntArray, tables: CdfTables) -> IntArray:
        self.symbols.append(np.asarray(symbols, dtype=np.int64))
        self.masses.append(np.concatenate([tables.table(int(i)) for i in index]).astype(np.int64))
        return self.writer.write(symbols, index, tables)


@dataclass(frozen=True)
class MarkovSource:
    """Codes of three stages with known entropy.

    Stage 0 is a Markov chain that stays with probability ``stay``. Stage 1 is one of ``spread`` codes that stage 0
    names. Stage 2 is skewed, and depends on nothing.
    """

    sizes: tuple[int, int, int] = (12, 75, 6)
    stay: float = 0.85
    spread: int = 3

    @property
    def skew(self) -> Tensor:
        return torch.softmax(-torch.arange(float(self.sizes[2])), 0)

    @property
    def entropy(self) -> float:
        """Bits a frame."""
        move = (1 - self.stay) / (self.sizes[0] - 1)
        chain = -self.stay * math.log2(self.stay) - (1 - self.stay) * math.log2(move)
        return chain + math.log2(self.spread) + float(-(self.skew * self.skew.log2()).sum())

    @property
    def fixed(self) -> int:
        """Bits a frame of whole bits a code."""
        return sum(math.ceil(math.log2(size)) for size in self.sizes)

    def draw(self, batch: int, frames: int, seed: int) -> list[Tensor]:
        generator = torch.Generator().manual_seed(seed)
        fixed = torch.Generator().manual_seed(99)
        names = torch.rand(self.sizes[0], self.sizes[1], generator=fixed).argsort(1)[:, : self.spread]
        moves = torch.rand(batch, frames, generator=generator) > self.stay
        jumps = torch.randint(1, self.sizes[0], (batch, frames), generator=generator)
        chain = (moves * jumps).cumsum(1) % self.sizes[0]
        choice = torch.randint(self.spread, (batch, frames), generator=generator)
        noise = torch.multinomial(self.skew, batch * frames, replacement=True, generator=generator)
        return [chain, names[chain, choice], noise.view(batch, frames)]

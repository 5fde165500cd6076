"""Relaxed quantisation of one item's latent, for encoders that search: soft decisions around targets.

Stochastic Gumbel annealing (Yang, Bamler & Mandt, NeurIPS 2020) samples which of its two neighbours each element is
rounded to, and follows the gradient of the samples' cost. Here the expectation takes the place of the sample: an
element stands at the mean of its candidate symbols, each weighted by ``2**(-cost / T)`` where the cost is its code
length plus the price of its distance from the element's target. That is mean-field annealing (Peterson & Anderson,
Complex Systems, 1987) of the same cost. Its gradients carry no noise: tens of passes do what takes sampling hundreds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from triode.entropy.coder import SymbolWriter
from triode.entropy.context.model import ContextModel, ParameterNetwork, stage_features
from triode.entropy.factorized import FactorizedPrior
from triode.entropy.gaussian import INDEX_STEP, gaussian_likelihood, index_to_scale

_CANDIDATES = (-1, 0, 1, 2)


@dataclass(frozen=True, slots=True)
class Level:
    """One latent that is being refined.

    Attributes:
        target: (1, C, h, w) where each element would stand if symbols cost nothing.
        curvature: (1, C, 1, 1) price of a squared distance of one unit from the target, in bits.
        value: (1, C, h, w) where each element stood after the last pass; None before the first.
    """

    target: Tensor
    curvature: Tensor
    value: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Relaxed:
    """What a relaxed pass gives.

    Attributes:
        y_hat: (1, M, h, w) latent that the synthesis takes, differentiable.
        rate: Scalar whose gradient is that of the code length through means and scales, at fixed symbols.
        probe: Scalar whose squared gradient has the curvature of ``rate`` as its expectation; zero without signs.
        offsets: Leaf of each level: gradients at it are gradients at the level's values.
        values: Value of each level.
    """

    y_hat: Tensor
    rate: Tensor
    probe: Tensor
    offsets: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class SoftQuantiser:
    """How a pass decides.

    Attributes:
        temperature: T in bits; 0 takes the cheapest candidate.
        share: How far a value moves from where it stood towards the new decision, above 0 to 1; 1 at temperature 0.
        signs: Source of the random signs that probe the curvature (Hutchinson, 1990); None leaves the probe out.
    """

    temperature: float
    share: float = 1.0
    signs: torch.Generator | None = None

    @torch.no_grad()
    def decide(
        self, target: Tensor, curvature: Tensor, bits: Callable[[Tensor], Tensor], value: Tensor | None
    ) -> Tensor:
        """Decide on symbols.

        Args:
            target: Targets, any shape, float; the centre of each element's distribution is taken out.
            curvature: Price of a squared distance of one unit, broadcastable.
            bits: Maps candidates (4, ...) to their code lengths.
            value: Where the elements stood, the centres taken out.

        Returns:
            Tensor like ``target``: expected symbols, integers at temperature 0.
        """
        low = target.floor()
        symbols = torch.stack([low + k for k in _CANDIDATES])
        costs = bits(symbols) + curvature * (symbols - target).square()
        if self.temperature == 0:
            return symbols.gather(0, costs.argmin(0, keepdim=True))[0]
        decided = (torch.softmax(costs * (-math.log(2) / self.temperature), 0) * symbols).sum(0)
        return decided if value is None else value.lerp(decided, self.share)

    def sign(self, x: Tensor) -> Tensor:
        """Return random signs like ``x``."""
        return torch.randint(0, 2, x.shape, generator=self.signs, dtype=x.dtype).mul_(2).sub_(1)


@runtime_checkable
class RefinableEntropy(Protocol):
    """Entropy model whose latents can be refined."""

    def targets(self, y: Tensor, q: Tensor, side: Tensor | None = None) -> tuple[Tensor, ...]:
        """Return the unrefined targets of each level, y's first.

        Args:
            y: (1, M, h, w) float latent.
            q: (1,) rate point.
            side: What a hyper-analysis sees instead of y, same shape.
        """
        ...

    def relax(self, levels: tuple[Level, ...], q: Tensor, valid: tuple[int, int], soft: SoftQuantiser) -> Relaxed:
        """Quantise all levels softly; ``valid`` is the (h, w) of y, which may be padded."""
        ...

    def encode_values(
        self, values: tuple[Tensor, ...], q: Tensor, writer: SymbolWriter, valid: tuple[int, int]
    ) -> Tensor:
        """Write hard values of each level, at an integer rate point; return y_hat as a decoder will, (1, M, h, w)."""
        ...


def relax_prior(prior: FactorizedPrior, level: Level, soft: SoftQuantiser) -> tuple[Tensor, Tensor]:
    """Quantise a latent with a factorised prior softly.

    Args:
        prior: Entropy model of the latent.
        level: The latent.
        soft: How to decide.

    Returns:
        The value (1, C, h, w), differentiable, and the leaf that its gradients arrive at.
    """
    centre = prior.medians.view(1, -1, 1, 1)

    def bits(symbols: Tensor) -> Tensor:
        values = (symbols + centre).flatten(0, 1)
        return -torch.log2(prior.likelihood(values)).view_as(symbols)

    before = None if level.value is None else level.value - centre
    value = soft.decide(level.target - centre, level.curvature, bits, before) + centre
    offset = torch.zeros_like(value, requires_grad=True)
    return value + offset, offset


def relax_context(
    context: ContextModel, level: Level, hyper: Tensor, q: Tensor, valid: tuple[int, int], soft: SoftQuantiser
) -> Relaxed:
    """Quantise a latent with a context model softly, step by step.

    Args:
        context: Entropy model of the latent; its float networks are used.
        level: The latent.
        hyper: (1, H, h, w) float features, differentiable.
        q: (1,) rate point.
        valid: Rows and columns that carry data; elements outside take their means, as in the coder.
        soft: How to decide.

    Returns:
        The pass, with one level.
    """
    net = cast(ParameterNetwork, context.parameter_net)
    offset = torch.zeros_like(level.target, requires_grad=True)
    y_hat = torch.zeros_like(level.target)
    rate, probe = y_hat.new_zeros(()), y_hat.new_zeros(())
    features = hyper
    for number, step in enumerate(context.schedule.steps):
        features = stage_features(context.parameter_net, number, y_hat, hyper, features, q)
        maps = net(number, y_hat, features, q)
        y_hat = y_hat.clone()
        for entry, (mean, index) in zip(step, maps, strict=True):
            centre, ladder = mean.detach(), index.detach()
            coded = ladder >= 0.5  # Index 0 of the ladder is not coded.
            rows, columns = entry.valid(*valid)
            coded[:, :, rows:], coded[:, :, :, columns:] = False, False
            scale = index_to_scale(ladder)
            symbols = soft.decide(
                entry.view(level.target) - centre,
                level.curvature[:, entry.start : entry.stop],
                lambda s, scale=scale: -torch.log2(gaussian_likelihood(s, scale)),  # type: ignore[misc]
                None if level.value is None else entry.view(level.value) - centre,
            )
            symbols = symbols * coded
            if torch.is_grad_enabled():
                by_mean, by_index = _slopes(symbols, ladder)
                rate = rate + (by_mean * coded * mean).sum() + (by_index * coded * index).sum()
            if torch.is_grad_enabled() and soft.signs is not None:
                of_mean, of_index = _curvatures(scale)
                probe = probe + (soft.sign(mean) * of_mean.sqrt() * mean).sum()
                probe = probe + (soft.sign(index) * of_index.sqrt() * index).sum()
            entry.view(y_hat).copy_(centre + symbols + entry.view(offset))
    return Relaxed(y_hat, rate, probe, (offset,), (y_hat.detach(),))


@torch.enable_grad()
def _slopes(symbols: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Differentiate the code length of soft symbols by the mean and by the ladder index.

    A soft symbol is coded as its floor or its ceiling, in the shares that make it their mean.
    """
    shift = torch.zeros_like(symbols, requires_grad=True)
    ladder = index.clone().requires_grad_()
    scale = index_to_scale(ladder)
    low = symbols.floor()
    share = symbols - low
    bits = -(1 - share) * torch.log2(gaussian_likelihood(low - shift, scale))
    bits = bits - share * torch.log2(gaussian_likelihood(low + 1 - shift, scale))
    by_mean, by_index = torch.autograd.grad(bits.sum(), (shift, ladder))
    return by_mean, by_index


def _curvatures(scale: Tensor) -> tuple[Tensor, Tensor]:
    """Return half the expected second derivative of the code length by the mean and by the ladder index.

    These are the Fisher information of a Gaussian as wide as ``scale`` and rounding together.
    """
    variance = scale.square()
    total = variance + 1 / 12
    return 0.5 / (math.log(2) * total), (INDEX_STEP * variance / total).square() / math.log(2)

"""Quantisers: the differentiable stand-ins for rounding that codecs are trained with."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from torch import Tensor

Quantiser = Literal["mixed", "noise", "ste"]
"""How training stands in for rounding; see :func:`quantised`."""
QUANTISERS: tuple[Quantiser, ...] = get_args(Quantiser)


def round_ste(x: Tensor) -> Tensor:
    """Round to the nearest integer, with the identity as gradient (straight-through; Theis et al., 2017).

    Args:
        x: Tensor of any shape, float.

    Returns:
        Integers in the dtype of ``x``; halves go to the even neighbour.
    """
    return x + (torch.round(x) - x).detach()


def add_uniform_noise(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Add noise uniform in [-0.5, 0.5): the continuous relaxation of rounding (Ballé et al., ICLR 2017).

    Args:
        x: Tensor of any shape, float.
        generator: Source of randomness; the global one when absent.

    Returns:
        ``x`` plus independent noise.
    """
    noise = torch.rand(x.shape, generator=generator, device=x.device, dtype=x.dtype) - 0.5
    return x + noise


def quantised(x: Tensor, quantiser: Quantiser) -> tuple[Tensor, Tensor]:
    """Stand in for rounding twice: for the networks that read the quantised latent, and for the rate.

    ``ste`` rounds both straight-through, ``noise`` adds the same uniform noise to both (Ballé et al., ICLR 2017),
    ``mixed`` rounds for the networks and measures the rate with noise (Minnen & Singh, ICIP 2020).

    Args:
        x: Tensor of any shape, float.
        quantiser: See above.

    Returns:
        What decoder and contexts see, and what the likelihood is taken of; both like ``x``.
    """
    if quantiser == "noise":
        noisy = add_uniform_noise(x)
        return noisy, noisy
    rounded = round_ste(x)
    return rounded, add_uniform_noise(x) if quantiser == "mixed" else rounded


def soft_round(x: Tensor, temperature: float) -> Tensor:
    """Soft rounding (Agustsson & Theis, NeurIPS 2020): from the identity to rounding as the temperature falls.

    ``s(x) = floor(x) + 0.5 + tanh((x - floor(x) - 0.5) / T) / (2 tanh(1 / (2 T)))``

    Args:
        x: Tensor of any shape, float.
        temperature: T > 0. Above about 1 nearly the identity, below about 0.05 nearly rounding.

    Returns:
        Tensor like ``x``, differentiable.

    Raises:
        ValueError: If the temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"Argument `temperature` must be > 0, but got {temperature}")
    centre = torch.floor(x) + 0.5
    return centre + torch.tanh((x - centre) / temperature) / (2 * math.tanh(1 / (2 * temperature)))


def soft_round_conditional_mean(x: Tensor, temperature: float) -> Tensor:
    """Expectation of the latent given its soft-rounded value plus uniform noise (Agustsson & Theis, 2020, eq. 9).

    Args:
        x: Noisy soft-rounded latent, float.
        temperature: T > 0, the one used in :func:`soft_round`.

    Returns:
        Tensor like ``x``.

    Raises:
        ValueError: If the temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"Argument `temperature` must be > 0, but got {temperature}")
    centre = torch.floor(x - 0.5) + 0.5
    slope = 2 * math.tanh(1 / (2 * temperature))
    inner = torch.clamp((x - centre - 0.5) * slope, -1 + 1e-6, 1 - 1e-6)
    return centre + 0.5 + temperature * torch.atanh(inner)


def sga_round(x: Tensor, temperature: float, generator: torch.Generator | None = None) -> Tensor:
    """Stochastic Gumbel annealing (Yang, Bamler & Mandt, NeurIPS 2020): a differentiable sample of floor or ceiling.

    Each element picks its floor or its ceiling with logits ``-atanh(distance) / T``, relaxed by a Gumbel-softmax of
    the same temperature. Used to refine latents of one item at encode time.

    Args:
        x: Tensor of any shape, float.
        temperature: T > 0, annealed from about 0.5 towards 0.
        generator: Source of randomness; the global one when absent.

    Returns:
        Tensor like ``x``, between its floor and ceiling, integer in the limit T -> 0.

    Raises:
        ValueError: If the temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"Argument `temperature` must be > 0, but got {temperature}")
    low = torch.floor(x)
    frac = torch.clamp(x - low, 1e-5, 1 - 1e-5)
    logits = torch.stack([-torch.atanh(frac), -torch.atanh(1 - frac)], dim=-1) / temperature
    uniform = torch.rand(logits.shape, generator=generator, device=x.device, dtype=x.dtype).clamp_(1e-6, 1 - 1e-6)
    weights = torch.softmax((logits - torch.log(-torch.log(uniform))) / temperature, dim=-1)
    return low + weights[..., 1]

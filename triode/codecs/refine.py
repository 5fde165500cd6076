"""Latent refinement: the encoder looks for a latent that decodes better for its bits than the analysis' own.

The cost of a tile is that of training, ``bits + lambda * 255**2 / C * sum of squared errors``, lambda that of the rate
point times a constant. Each pass quantises softly (:mod:`triode.entropy.relax`), follows the gradient of the cost
through synthesis and entropy networks, and moves each element's target to where the cost, taken as a parabola of known
curvature, has its minimum. The curvature is measured, a number a channel, with random signs sent backwards through the
same networks (Hutchinson, 1990). The result is written with the exact integer networks; decoders need no notice.

Reference: Yang, Bamler & Mandt, "Improving inference for neural image compression", NeurIPS 2020, whose sampling
(:func:`triode.entropy.quantize.sga_round`) needs about ten times as many passes for the same gain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

import numpy as np
import torch
from torch import Tensor

from triode.codecs.tiles import Pixels, analyse, latent_size
from triode.container import Tile
from triode.entropy.bounds import soft_clamp
from triode.entropy.coder import RangeWriter
from triode.entropy.relax import Level, RefinableEntropy, SoftQuantiser
from triode.errors import UnsupportedError
from triode.models.base import ImageModel

Effort = Literal["none", "low", "high"]
Progress = Callable[[float], None]

_SEED: Final = 0
_LAMBDA: Final = 1.25
"""On the trained lambda: keeps the PSNR of a rate point about where the unrefined latent has it."""
_COLD: Final = 1e3
_MAX_STEP: Final = 4.0
_PROBE_EVERY: Final = 4
_PROBES: Final = 64
_BLOCK: Final = 1024


@dataclass(frozen=True, slots=True)
class Schedule:
    """How one effort searches.

    Attributes:
        passes: Passes forwards and backwards.
        rate: Share of the way to its minimum that a target moves in a pass, at the start and at the end.
        temperature: Of the quantiser in bits, at the start and at the end.
        share: See :class:`~triode.entropy.relax.SoftQuantiser`.
    """

    passes: int
    rate: tuple[float, float]
    temperature: tuple[float, float] = (0.7, 0.35)
    share: float = 0.5

    def __iter__(self) -> Iterator[tuple[float, float]]:
        """Yield rate and temperature of each pass, both geometric."""
        for k in range(self.passes):
            t = k / max(self.passes - 1, 1)
            yield tuple(a * (b / a) ** t for a, b in (self.rate, self.temperature))


SCHEDULES: Final[Mapping[str, Schedule]] = MappingProxyType(
    {"low": Schedule(6, (0.5, 0.25), share=0.7), "high": Schedule(20, (0.25, 0.12))}
)
"""Every effort but ``none``."""


@dataclass(frozen=True, slots=True)
class _Pull:
    """How fast a level's targets move.

    Attributes:
        caution: Factor on the measured curvature, against what interactions between elements add to it.
        speed: Factor on the schedule's rate.
    """

    caution: float
    speed: float


_PULLS: Final = (_Pull(1.2, 1.0), _Pull(6.0, 0.5))
"""Of y and of z."""


def check_effort(effort: str) -> None:
    """Check the name of an effort.

    Raises:
        ValueError: If there is none of that name.
    """
    if effort != "none" and effort not in SCHEDULES:
        raise ValueError(f"Argument `effort` must be one of none, {', '.join(SCHEDULES)}, but got {effort!r}")


class Refiner:
    """Refines the latent of one tile at one rate point.

    Args:
        model: The model, exported.
        colour: (H, W, C) pixels of the whole image, C 1 or 3.
        tile: The tile.
        point: Rate point.
        price: Price of errors, over what is usual at the rate point.

    Raises:
        UnsupportedError: If the model's entropy model cannot be relaxed.
    """

    def __init__(self, model: ImageModel, colour: Pixels, tile: Tile, point: int, price: float = 1.0) -> None:
        entropy = getattr(model, "entropy", None)
        if not isinstance(entropy, RefinableEntropy):
            raise UnsupportedError(f"A {type(model).__name__} cannot refine latents: encode with effort none")
        self.model, self.entropy = model, entropy
        with torch.inference_mode(mode=False), torch.no_grad():
            self.q = torch.tensor([point])
            self.size = latent_size(model, tile)
            self.synthesis = _Synthesis(model, colour, tile, self.q, price)

    @property
    def latent(self) -> Tensor:
        """Latent of the tile as the analysis makes it, (1, M, h, w), as :meth:`ImageModel.encode` takes it."""
        return self.synthesis.latent

    def error(self, y_hat: Tensor) -> float:
        """Return the price, in bits, of the errors that a quantised latent (1, M, h, w) leaves in the pixels."""
        with torch.inference_mode(mode=False), torch.no_grad():
            return self.synthesis(self.model.dequantise(y_hat.clone(), self.q))

    def search(self, effort: str, progress: Progress | None = None) -> tuple[Tensor, ...]:
        """Search a better latent.

        Args:
            effort: A key of :data:`SCHEDULES`.
            progress: Called with the share done, 0 to 1.

        Returns:
            Values of each level, for ``encode_values`` of the model's entropy model.
        """
        with torch.inference_mode(mode=False), torch.autocast("cpu", enabled=False):
            return self._search(SCHEDULES[effort], progress)

    def _search(self, schedule: Schedule, progress: Progress | None) -> tuple[Tensor, ...]:
        signs = torch.Generator().manual_seed(_SEED)
        with torch.no_grad():
            targets = self.entropy.targets(self.model.scale(self.latent, self.q), self.q, self.latent)
        levels = self._begin(targets, signs)
        for k, (rate, temperature) in enumerate(schedule):
            soft = SoftQuantiser(temperature, schedule.share, None if k % _PROBE_EVERY else signs)
            levels = self._step(levels, soft, rate, first=k == 0)
            if progress:
                progress((k + 1) / schedule.passes)
        with torch.no_grad():
            return self.entropy.relax(levels, self.q, self.size, SoftQuantiser(0.0)).values

    def _begin(self, targets: tuple[Tensor, ...], signs: torch.Generator) -> tuple[Level, ...]:
        """Set the levels up: y with the curvature of the synthesis alone, doubled, and z as good as fixed."""
        count = max(1, min(_PROBES // (self.size[0] * self.size[1]), _PROBES))
        total = torch.zeros(1, targets[0].shape[1], 1, 1)
        for _ in range(count):
            y = targets[0].clone().requires_grad_()
            dequantised = self._dequantise(y)
            _, _, probe = self.synthesis.differentiate(dequantised.detach(), signs)
            total += _mean_square(torch.autograd.grad((dequantised * probe).sum(), y)[0], self.size)
        curvature = 2 * _PULLS[0].caution * _positive(total / count)
        cold = (torch.full((1, t.shape[1], 1, 1), _COLD) for t in targets[1:])
        return tuple(Level(t, c) for t, c in zip(targets, (curvature, *cold), strict=True))

    def _dequantise(self, y_hat: Tensor) -> Tensor:
        return self.model.dequantise(y_hat[:, :, : self.size[0], : self.size[1]], self.q)

    @torch.enable_grad()
    def _step(self, levels: tuple[Level, ...], soft: SoftQuantiser, rate: float, *, first: bool) -> tuple[Level, ...]:
        """Quantise softly, measure, and move the targets."""
        out = self.entropy.relax(levels, self.q, self.size, soft)
        y = self._dequantise(out.y_hat)
        _, slope, probe = self.synthesis.differentiate(y.detach(), soft.signs)
        cost = out.rate + (y * slope).sum()
        gradients = torch.autograd.grad(cost, out.offsets, retain_graph=True, materialize_grads=True)
        curvatures = [level.curvature for level in levels]
        if soft.signs is not None:
            probes = torch.autograd.grad(out.probe + (y * probe).sum(), out.offsets, materialize_grads=True)
            for i, (p, pull) in enumerate(zip(probes, _PULLS, strict=False)):
                found = pull.caution * _positive(_mean_square(p, self.size if i == 0 else p.shape[2:]))
                curvatures[i] = found if first else (curvatures[i] + found) / 2
        moved = []
        for level, value, g, c, pull in zip(levels, out.values, gradients, curvatures, _PULLS, strict=False):
            step = (value - g / (2 * c) - level.target).clamp_(-_MAX_STEP, _MAX_STEP)
            moved.append(Level(level.target + rate * pull.speed * step, c, value))
        return tuple(moved)


def _mean_square(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return the mean square of each channel, (1, C, 1, 1), over the (h, w) that carry data."""
    return x[:, :, : size[0], : size[1]].square().mean((0, 2, 3), keepdim=True)


def _positive(curvature: Tensor) -> Tensor:
    """Keep channels that hardly matter, or that few probes missed, from moving far."""
    return curvature.clamp_min(1e-3 * float(curvature.mean()) + 1e-6)


class _Synthesis:
    """Price of the errors around a tile as a function of its latent, in blocks, so that memory stays bounded.

    Pixels count up to where the tile's latent reaches. What lies beyond the tile is the analysis' latent, unquantised.

    Args:
        model: The model.
        colour: (H, W, C) pixels of the whole image.
        tile: The tile.
        q: (1,) rate point.
        price: Price of errors, over what is usual at the rate point.
    """

    def __init__(self, model: ImageModel, colour: Pixels, tile: Tile, q: Tensor, price: float) -> None:
        self.model, self.q = model, q
        height, width, channels = colour.shape
        reach = -(-model.synthesis_halo * model.stride // model.multiple) * model.multiple
        wide = _grown(tile, 2 * reach, width, height)
        around = analyse(model, colour, wide, q).clone()
        rows, columns = latent_size(model, tile)
        top, left = (tile.y - wide.y) // model.stride, (tile.x - wide.x) // model.stride
        self.own = np.s_[:, :, top : top + rows, left : left + columns]
        self.latent = around[self.own].clone()
        self.around = model.dequantise(model.scale(around, q), q)
        seen = _grown(tile, reach, width, height)
        self.blocks = _blocks(seen, model.stride)
        self.origin = (wide.y, wide.x)
        self.colour = colour
        self.price = price * float(model.rate_lambda(q)) * _LAMBDA * 255**2 / channels

    def __call__(self, y: Tensor) -> float:
        """Return the price in bits for a dequantised latent (1, M, h, w) of the tile."""
        return self._sum(y, None, None, None)

    def differentiate(self, y: Tensor, signs: torch.Generator | None) -> tuple[float, Tensor, Tensor]:
        """Return the price for a dequantised latent of the tile, its gradient, and a probe of half its curvature.

        The probe is zero without signs.
        """
        slope, probe = torch.zeros_like(self.around), torch.zeros_like(self.around)
        with torch.enable_grad():
            price = self._sum(y, slope, probe, signs)
        return price, slope[self.own], probe[self.own]

    def _sum(self, y: Tensor, slope: Tensor | None, probe: Tensor | None, signs: torch.Generator | None) -> float:
        stride, halo = self.model.stride, self.model.synthesis_halo
        full = self.around.clone()
        full[self.own] = y
        total = 0.0
        for block in self.blocks:
            (y0, y1), (x0, x1) = (
                (max(0, (start - origin) // stride - halo), -(-(start + size - origin) // stride) + halo)
                for start, size, origin in (
                    (block.y, block.height, self.origin[0]),
                    (block.x, block.width, self.origin[1]),
                )
            )
            window = np.s_[:, :, y0:y1, x0:x1]
            part = full[window].contiguous(memory_format=torch.channels_last).requires_grad_(slope is not None)
            top, left = block.y - self.origin[0] - y0 * stride, block.x - self.origin[1] - x0 * stride
            x_hat = self.model.synthesis(part, self.q)
            x_hat = soft_clamp(x_hat[:, :, top : top + block.height, left : left + block.width], 0.0, 1.0)
            pixels = self.colour[block.y : block.y + block.height, block.x : block.x + block.width]
            x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
            if x.shape[1] == 1:
                x_hat = x_hat.mean(1, keepdim=True)
            price = self.price * (x_hat - x).square().sum()
            total += float(price.detach())
            if slope is not None:
                slope[window] += torch.autograd.grad(price, part, retain_graph=signs is not None)[0]
            if probe is not None and signs is not None:
                random = SoftQuantiser(0.0, signs=signs).sign(x_hat) * self.price**0.5
                probe[window] += torch.autograd.grad((random * x_hat).sum(), part)[0]
        return total


def _grown(tile: Tile, by: int, width: int, height: int) -> Tile:
    """Return a tile and a margin, within the image."""
    x, y = max(0, tile.x - by), max(0, tile.y - by)
    right, bottom = min(width, tile.x + tile.width + by), min(height, tile.y + tile.height + by)
    return Tile(x, y, right - x, bottom - y)


def _blocks(area: Tile, stride: int) -> list[Tile]:
    """Cut an area into blocks of at most about a megapixel, multiples of the stride wide but for the last ones."""

    def cuts(length: int) -> list[tuple[int, int]]:
        count = -(-length // _BLOCK)
        side = -(-length // (count * stride)) * stride
        return [(start, min(side, length - start)) for start in range(0, length, side)]

    rows, columns = cuts(area.height), cuts(area.width)
    return [Tile(area.x + x, area.y + y, w, h) for y, h in rows for x, w in columns]


def encode_refined(
    model: ImageModel,
    colour: Pixels,
    tile: Tile,
    point: int,
    effort: str,
    progress: Progress | None = None,
    *,
    price: float = 1.0,
) -> tuple[Tensor, RangeWriter]:
    """Encode a tile with whichever of its latents costs less, the refined one or the analysis' own.

    Args:
        model: The model, exported.
        colour: (H, W, C) pixels of the whole image, C 1 or 3.
        tile: The tile.
        point: Rate point.
        effort: A key of :data:`SCHEDULES`.
        progress: Called with the share done, 0 to 1.
        price: Price of errors, over what is usual at the rate point.

    Returns:
        The quantised latent, and what was written.

    Raises:
        UnsupportedError: If the model's entropy model cannot be relaxed.
    """
    refiner = Refiner(model, colour, tile, point, price)
    plain, refined = RangeWriter(), RangeWriter()
    costs, latents = [], []
    for writer in (plain, refined):
        if writer is plain:
            y_hat = model.encode(refiner.latent, refiner.q, writer)
        else:
            values = refiner.search(effort, progress)
            y_hat = refiner.entropy.encode_values(values, refiner.q, writer, refiner.size)
        costs.append(8 * len(writer.getvalue()) + refiner.error(y_hat))
        latents.append(y_hat)
    return (latents[1], refined) if costs[1] < costs[0] else (latents[0], plain)

"""Search for the motion of blocks, which encoders and training alone need."""

from __future__ import annotations

from copy import copy
from functools import lru_cache
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from triode.models.video.subsamples import Subsamples
from triode.models.video.vectors import BLOCK, CROSS, DIAGONAL, LARGEST, QUARTERS

__all__ = ["ROUNDS", "search", "transformed_sum"]

_REACH: Final = 8
ROUNDS = 2
"""How often all vectors are chosen anew as they are coded."""
_TOGETHER: Final = 1 << 18
"""Samples that are compared in one call, where that is more than one candidate: more do not stay in the caches."""
_AROUND: Final = tuple((x, y) for y in (-1, 0, 1) for x in (-1, 0, 1))


@torch.no_grad()
def search(frame: Tensor, reference: Tensor, before: Tensor, price: Tensor) -> Tensor:
    """Search for the motion of blocks from a reference to a frame.

    From all vectors up to 32 samples at a quarter of the resolution the best goes on, with that of the frame before and
    none, to half and then the full resolution, to halves of a sample. Then, in the order in which
    vectors are coded, each may become its own prediction, a neighbour's vector or one a quarter beside it. The cost is
    the sum of absolute differences, at last of their Hadamard transforms, which tell better what is left to code,
    plus a price for what it takes to code the vector.

    Args:
        frame: (B, 1, H, W) luma; sides are multiples of 16.
        reference: The same of the frame before, decoded.
        before: (B, 2, h, w) vectors of the frame before, quarters of a sample, integers of any type.
        price: (B,) what a bit costs in units of luma, summed over a block.

    Returns:
        (B, 2, h, w) int32 vectors, quarters of a sample, of at most 1024 samples.
    """
    before, price = before.float(), price.view(-1, 1, 1, 1)
    size = before.shape[2:]
    best, given = _coarse(frame, reference, before, price), [before, torch.zeros_like(before)]
    half = _Differences(F.avg_pool2d(frame, 2), F.avg_pool2d(reference, 2), BLOCK // 2)
    best = _cheapest([*_around(best, 2.0 * QUARTERS), *given], before, half, price, size)
    full = _Differences(frame, reference, BLOCK)
    best = _cheapest([*_around(best, 1.0 * QUARTERS), *given], before, full, price, size)
    best = _cheapest(_around(best, QUARTERS / 2), before, full, price, size)
    levels = _levels(size[0], size[1], frame.device)
    parts = [full.transformed(level) for level in levels]
    for _ in range(ROUNDS):
        for number, (level, part) in enumerate(zip(levels, parts, strict=True)):
            predicted = _predictions(best, before, number).flatten(2)[:, :, level, None]
            now = best.flatten(2)[:, :, level, None]
            candidates = [predicted, *_around(now, QUARTERS / 4), ((now + predicted) / 2).round()]
            candidates += [field.flatten(2)[:, :, level, None] for field in (before, *_shifted(best, CROSS))]
            better = _cheapest(candidates, predicted, part, price, now.shape[2:])
            best = best.flatten(2).index_copy(2, level, better[..., 0]).view_as(before)
    # A vector may be a little longer than that of the frame before: decoders stop where the coder does.
    return best.clamp(-LARGEST, LARGEST).to(torch.int32)


def transformed_sum(planes: Tensor, *, means: bool = True) -> Tensor:
    """Return the sum of absolute Hadamard coefficients of each 8x8 block of planes (B, 1, H, W), as (B, n).

    Args:
        planes: Sides are multiples of 8.
        means: Whether the first coefficient of each block counts.
    """
    coefficients = _cut(planes, 8)[:, 0] @ _hadamard(planes.device)
    return coefficients[..., 0 if means else 1 :].abs().sum(2)


class _Differences:
    """Sums of absolute differences of blocks, on the scale of the full resolution.

    Args:
        frame: (B, 1, H, W) luma.
        reference: The same of the frame before.
        side: Side of a block; where it is not that of the full resolution, vectors are rounded to quarters of a sample.
    """

    def __init__(self, frame: Tensor, reference: Tensor, side: int) -> None:
        down, across = (size // side for size in frame.shape[2:])
        self.reference, self.share = Subsamples(reference, side), side / BLOCK
        self.scale, self.transform = BLOCK**2 / side**2, None  # type: float, Tensor | None
        self.samples = _cut(frame, side)[:, 0]
        place = torch.arange(side, device=frame.device)
        self.offsets = self.reference.offsets(place, place[:, None])
        blocks = torch.arange(down * across, device=frame.device)
        self.x, self.y = QUARTERS * side * (blocks % across), QUARTERS * side * (blocks // across)

    def transformed(self, blocks: Tensor) -> _Differences:
        """Return those of some of the blocks (n,) alone, of 8x8 samples under a Hadamard transform; full resolution."""
        part = copy(self)
        part.transform = _hadamard(self.samples.device)
        samples = self.samples[:, blocks]
        part.samples = _quartered(samples).view(samples.shape)
        part.offsets = _quartered(self.offsets).flatten()
        part.x, part.y = self.x[blocks], self.y[blocks]
        return part

    def __call__(self, vectors: Tensor) -> Tensor:
        """Return the sums (B, K, n) for vectors (B, K, 2, n) in quarters of a sample of the full resolution."""
        together = _TOGETHER // max(self.samples.numel(), 1)
        return torch.cat([self._sums(part) for part in torch.split(vectors, max(together, 1), 1)], 1)

    def _sums(self, vectors: Tensor) -> Tensor:
        x, y = (vectors * self.share).round().long().unbind(2)
        difference = self.reference(self.x + x, self.y + y, self.offsets).sub_(self.samples[:, None])
        if self.transform is not None:
            difference = (difference.view(-1, 64) @ self.transform).view_as(difference)
        return self.scale * difference.abs_().sum(3)


@lru_cache(maxsize=4)
def _hadamard(device: torch.device) -> Tensor:
    """Return the orthonormal two-dimensional Hadamard transform of 8x8 samples, (64, 64)."""
    with torch.inference_mode(mode=False):
        one = torch.ones(1, 1, device=device)
        pair = torch.tensor([[1.0, 1.0], [1.0, -1.0]], device=device)
        for _ in range(6):
            one = torch.kron(one, pair)
        return one / 8


def _cut(planes: Tensor, side: int) -> Tensor:
    """Cut planes (B, C, H, W) into blocks (B, C, n, side * side)."""
    b, c, height, width = planes.shape
    blocks = planes.view(b, c, height // side, side, width // side, side).transpose(3, 4)
    return blocks.reshape(b, c, -1, side * side)


def _quartered(blocks: Tensor) -> Tensor:
    """Put samples (..., 256) of blocks into the order of their four blocks of 8x8 samples."""
    return blocks.view(*blocks.shape[:-1], 2, 8, 2, 8).transpose(-3, -2).contiguous()


def _cheapest(
    candidates: list[Tensor], predicted: Tensor, differences: _Differences, price: Tensor, size: tuple[int, ...]
) -> Tensor:
    """Return, block by block, the candidate (B, 2, h, w) that costs least, given what vectors are predicted to be."""
    fields = torch.stack(candidates, 1)
    rate = _rate((fields - predicted[:, None]).flatten(0, 1)).view(*fields.shape[:2], *size)
    costs = differences(fields.flatten(3)).view_as(rate) + price * rate
    index = costs.argmin(1, keepdim=True)
    place = index[:, :, None].expand(-1, -1, 2, -1, -1)
    return fields.gather(1, place)[:, 0]


def _rate(difference: Tensor) -> Tensor:
    """Estimate the bits of differences of vectors (B, 2, ...), as (B, 1, ...)."""
    return (2 * torch.log2(1 + difference.abs())).sum(1, keepdim=True)


def _around(vectors: Tensor, step: float) -> list[Tensor]:
    """Return the vectors (B, 2, h, w) and those a step beside them, nine fields."""
    return [vectors + step * torch.tensor(place, device=vectors.device).view(1, 2, 1, 1) for place in _AROUND]


def _shifted(field: Tensor, places: tuple[tuple[int, int], ...], mode: str = "replicate") -> list[Tensor]:
    """Return fields (B, C, h, w) whose every entry is its neighbour at one of the places, y before x."""
    h, w = field.shape[2:]
    padded = F.pad(field, (1, 1, 1, 1), mode=mode)
    return [padded[:, :, 1 + y : 1 + y + h, 1 + x : 1 + x + w] for y, x in places]


def _levels(h: int, w: int, device: torch.device) -> list[Tensor]:
    """Return which of h x w blocks are coded in each of the three levels, as indices."""
    rows, columns = torch.arange(h, device=device)[:, None] % 2 == 0, torch.arange(w, device=device) % 2 == 0
    return [where.flatten().nonzero()[:, 0] for where in (rows & columns, ~rows & ~columns, rows ^ columns)]


def _predictions(field: Tensor, before: Tensor, level: int) -> Tensor:
    """Predict vectors (B, 2, h, w) as the coder does at a level; what is not of it is of no use."""
    moved = before + (field - before).flatten(2).median(2).values.round()[:, :, None, None]
    if not level:
        return moved
    places = DIAGONAL if level == 1 else CROSS
    around = torch.stack(_shifted(field, places, "constant"))
    there = torch.stack(_shifted(torch.ones_like(field[:1, :1]), places, "constant"))
    count = there.sum(0).clamp_min(1)
    mean = torch.floor((2 * around.sum(0) + count) / (2 * count))
    five = torch.cat([torch.where(there > 0, around, mean), moved[None]]).sort(0).values
    return torch.floor((five[1] + 2 * five[2] + five[3] + 2) / 4)


def _coarse(frame: Tensor, reference: Tensor, before: Tensor, price: Tensor) -> Tensor:
    """Return the best vectors of whole steps of four samples, in quarters of a sample."""
    small, other = F.avg_pool2d(frame, 4), F.avg_pool2d(reference, 4)
    b, _, height, width = small.shape
    side = BLOCK // 4
    h, w = height // side, width // side
    padded = F.pad(other, (_REACH,) * 4, mode="replicate")
    steps = 2 * _REACH + 1
    costs = []
    for down in range(steps):
        rows = padded[:, 0, down : down + height].unfold(2, width, 1)  # (B, H / 4, steps, W / 4)
        # The windows overlap in memory: say how the result lies. First over rows, which vectorises.
        difference = torch.sub(small[:, 0, :, None], rows, out=small.new_empty(b, height, steps, width)).abs_()
        summed = difference.view(b, h, side, steps * width).sum(2).view(b, h, steps, w, side).sum(4)
        costs.append(summed.transpose(1, 2))
    cost = 16.0 * torch.cat(costs, 1)
    # Blocks of four samples match anywhere: let the neighbours have a say.
    cost = cost + F.avg_pool2d(cost, 3, 1, 1, count_include_pad=False)
    x = torch.arange(-_REACH, _REACH + 1, device=frame.device) * float(4 * QUARTERS)
    offsets = torch.stack(torch.meshgrid(x, x, indexing="ij")[::-1]).view(2, -1)
    rate = _rate(offsets.view(1, 2, -1, 1, 1).expand(b, -1, -1, h, w) - before[:, :, None])
    index = (cost + price * rate[:, 0]).argmin(1)
    return offsets[:, index].transpose(0, 1)

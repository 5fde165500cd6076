"""Coding orders of a latent: which elements each step of a context model codes.

A schedule cuts a (C, h, w) latent into steps and each step into entries: a range of channels on a sub-lattice of
positions. Everything of one step is coded in parallel, given all steps before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor

QUAD_PHASES = ((0, 0), (1, 1), (0, 1), (1, 0))
"""Order of the four phases of a 2x2 lattice: the diagonal first, as in a checkerboard."""


TIME_PHASES = (0, 2, 1, 3)
"""Order of the four phases of a sequence: halves first, then the places between them."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Channels ``start:stop`` at rows ``dy::stride`` and columns ``dx::column_stride``.

    The stride of the columns is that of the rows unless given.
    """

    start: int
    stop: int
    dy: int = 0
    dx: int = 0
    stride: int = 1
    column_stride: int | None = None

    @property
    def strides(self) -> tuple[int, int]:
        """Stride of rows and of columns."""
        return self.stride, self.stride if self.column_stride is None else self.column_stride

    def view(self, x: Tensor) -> Tensor:
        """Return the view of ``x`` (B, C, h, w) that this entry codes."""
        down, across = self.strides
        return x[:, self.start : self.stop, self.dy :: down, self.dx :: across]

    def valid(self, height: int, width: int) -> tuple[int, int]:
        """Return how many rows and columns of this entry lie inside ``height`` x ``width``."""
        down, across = self.strides
        return max(0, -((self.dy - height) // down)), max(0, -((self.dx - width) // across))


Step = tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Steps of entries that cover every element of a latent exactly once.

    Attributes:
        channels: Channels of the latent.
        multiple: Height and width must be multiples of this; a lattice of time alone has height 1.
        steps: The steps, in coding order.
    """

    channels: int
    multiple: int
    steps: tuple[Step, ...]


def parallel(channels: int) -> Schedule:
    """Everything in one step: a hyperprior without context."""
    return Schedule(channels, 1, ((Entry(0, channels),),))


def checkerboard(channels: int) -> Schedule:
    """Two steps: the anchors of a checkerboard, then the rest (He et al., CVPR 2021).

    The anchors are the elements whose row and column have the same parity, as in CompressAI's latent codecs.
    """
    return Schedule(channels, 2, _board(0, channels))


def _board(start: int, stop: int) -> tuple[Step, Step]:
    anchor = (Entry(start, stop, 0, 0, 2), Entry(start, stop, 1, 1, 2))
    rest = (Entry(start, stop, 0, 1, 2), Entry(start, stop, 1, 0, 2))
    return anchor, rest


def channel_groups(sizes: Sequence[int]) -> Schedule:
    """One step a group of channels (Minnen & Singh, ICIP 2020).

    Args:
        sizes: Channels of each group, in coding order.
    """
    bounds = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    return Schedule(bounds[-1], 1, tuple((Entry(a, b),) for a, b in pairwise(bounds)))


def space_channel(sizes: Sequence[int]) -> Schedule:
    """Channel groups, each in two checkerboard steps (He et al., "ELIC", CVPR 2022).

    Args:
        sizes: Channels of each group, in coding order.
    """
    bounds = [sum(sizes[:i]) for i in range(len(sizes) + 1)]
    steps = tuple(s for a, b in pairwise(bounds) for s in _board(a, b))
    return Schedule(bounds[-1], 2, steps)


def quadtree(channels: int) -> Schedule:
    """Four steps over four channel groups times four 2x2 phases (Li et al., "DCVC-DC", CVPR 2023).

    In step k group g is coded at phase ``k + g`` modulo 4, so that each step codes a quarter of the elements at every
    position, and each group sees its three sibling phases and the other groups as context.

    Args:
        channels: Channels of the latent, a multiple of 4.

    Raises:
        ValueError: If the channels are no multiple of 4.
    """
    size = _quarter(channels)
    steps = tuple(
        tuple(Entry(g * size, (g + 1) * size, *QUAD_PHASES[(k + g) % 4], 2) for g in range(4)) for k in range(4)
    )
    return Schedule(channels, 2, steps)


def time_quadtree(channels: int) -> Schedule:
    """Four steps over four channel groups times four phases of time, on a (1, F) lattice: :func:`quadtree` for sound.

    In step k group g is coded at the frames t with ``t mod 4`` the phase ``TIME_PHASES[(k + g) % 4]``.

    Args:
        channels: Channels of the latent, a multiple of 4.

    Raises:
        ValueError: If the channels are no multiple of 4.
    """
    size = _quarter(channels)
    steps = tuple(
        tuple(Entry(g * size, (g + 1) * size, 0, TIME_PHASES[(k + g) % 4], 1, 4) for g in range(4)) for k in range(4)
    )
    return Schedule(channels, 4, steps)


def _quarter(channels: int) -> int:
    if channels % 4:
        raise ValueError(f"Argument `channels` must be a multiple of 4, but got {channels}")
    return channels // 4

"""Resampling between any two rates by a windowed sinc, the same to the last bit whole, in pieces or for a range.

A Kaiser window of 80 zero crossings on either side passes frequencies up to 92 % of the lower rate's Nyquist frequency
within 0.001 dB, and suppresses all above that Nyquist frequency by 95 dB or more. Output sample n lies at the time of
input position n * source / target, in exact integer arithmetic, so that hours do not drift; input outside of the signal
counts as zero.

Outputs are computed in blocks at fixed places, each from a window of the same shape: floating-point sums depend on
shapes, and this way not on how the signal arrived. Rates in a simple ratio use one matrix for all phases; others
interpolate between the rows of a table (J. O. Smith, "Digital audio resampling", 1984).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Resampler", "StreamResampler", "resample"]

Samples = NDArray[np.float32]
_Float = NDArray[np.float64]
_Int = NDArray[np.int64]

_ZEROS: Final = 80
_BETA: Final = 9.62046
_ROLLOFF: Final = 0.9617
_POINTS: Final = (1 << 16) + 1
_ROWS: Final = 2048
_MATRIX_MOST: Final = 1 << 20
_TABLE_BLOCK: Final = 1 << 20


def _sinc(t: _Float, scale: float) -> _Float:
    """Return the low-pass filter at times `t` in input samples; `scale` is the lower of both rates over the input's."""
    cutoff, half = scale * _ROLLOFF, _ZEROS / scale
    # The window by interpolation, with so many points that the error is below -160 dB: Bessel functions take long.
    window = np.interp(t / half, np.linspace(-1, 1, _POINTS), np.kaiser(_POINTS, _BETA), left=0, right=0)
    taps: _Float = np.multiply(np.sinc(cutoff * t), window)
    # Every phase passes a constant unchanged.
    taps /= taps.sum(-1, keepdims=True)
    return taps


@dataclass(frozen=True, slots=True)
class _Ratio:
    """Rates in lowest terms: `down` inputs for `up` outputs."""

    up: int
    down: int

    @property
    def scale(self) -> float:
        return min(1.0, self.up / self.down)

    @property
    def half(self) -> int:
        """Inputs on either side of an output that take part in it."""
        return math.ceil(_ZEROS / self.scale)

    @property
    def by_matrix(self) -> bool:
        return self.up * (self.down + 2 * self.half) <= _MATRIX_MOST


@lru_cache(maxsize=8)
def _matrix(ratio: _Ratio) -> _Float:
    """Return (W, up): what a window of W = down + 2 half inputs gives for each phase."""
    phase = np.arange(ratio.up)[:, None] * ratio.down / ratio.up
    return np.ascontiguousarray(_sinc(np.arange(-ratio.half, ratio.down + ratio.half) - phase, ratio.scale).T)


@lru_cache(maxsize=8)
def _table(ratio: _Ratio) -> _Float:
    """Return (rows + 1, 2 half): the taps for fractional positions 0 to 1, evenly spaced."""
    rows = max(1, math.ceil(_ROWS * ratio.scale))
    phase = np.arange(rows + 1)[:, None] / rows
    return _sinc(np.arange(-ratio.half + 1, ratio.half + 1) - phase, ratio.scale)


class Resampler:
    """Computes blocks of the resampled signal.

    Attributes:
        source: Samples per second of the input.
        target: The same of the output.
        block: Outputs of a block.
        reach: Inputs that an output depends on, on either side of its own place.

    Args:
        source: See there.
        target: See there.

    Raises:
        ValueError: If a rate is not positive.
    """

    def __init__(self, source: int, target: int) -> None:
        if source < 1 or target < 1:
            raise ValueError(f"Rates must be positive, but got {source} and {target}")
        common = math.gcd(source, target)
        self.source, self.target = source, target
        self._ratio = ratio = _Ratio(target // common, source // common)
        self.reach = ratio.half
        if ratio.by_matrix:
            self._rows = max(1, round(1024 / max(ratio.up, ratio.down)))
            self.block = self._rows * ratio.up
        else:
            self.block = max(1, min(1024, _TABLE_BLOCK // (2 * ratio.half), round(1024 * ratio.up / ratio.down)))

    def window(self, index: int) -> tuple[int, int]:
        """Return where the inputs of block `index` begin and end; the beginning may lie before the signal."""
        ratio = self._ratio
        start = index * self.block * ratio.down // ratio.up - ratio.half
        if ratio.by_matrix:
            return start, start + self._rows * ratio.down + 2 * ratio.half
        return start, start + -(-(self.block - 1) * ratio.down // ratio.up) + 2 * ratio.half + 1

    def run(self, index: int, x: Samples) -> Samples:
        """Compute block `index` (C, block) from its window (C, W)."""
        view = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), 2 * self._ratio.half + self._step, axis=1)
        y = self._by_matrix(view) if self._ratio.by_matrix else self._by_table(index, view)
        return y.astype(np.float32)

    @property
    def _step(self) -> int:
        return self._ratio.down if self._ratio.by_matrix else 0

    def _by_matrix(self, view: _Float) -> _Float:
        matrix = _matrix(self._ratio)
        rows = [np.ascontiguousarray(channel[:: self._step][: self._rows]) @ matrix for channel in view]
        y: _Float = np.stack(rows).reshape(len(view), self.block)
        return y

    def _by_table(self, index: int, view: _Float) -> _Float:
        ratio, table = self._ratio, _table(self._ratio)
        rest = index * self.block * ratio.down % ratio.up
        # From the block's first output on, so that the numbers stay small.
        position: _Int = rest + np.arange(self.block, dtype=np.int64) * ratio.down
        whole, part = np.divmod(position, ratio.up)
        row, rise = np.divmod(part * (len(table) - 1), ratio.up)
        weight = (rise / ratio.up)[:, None]
        taps = table[row] * (1 - weight) + table[row + 1] * weight
        # A tap stands for inputs from `half - 1` before an output's place on; the window begins `half` before.
        return np.stack([np.einsum("nt,nt->n", channel[whole + 1], taps) for channel in view])


class StreamResampler:
    """Resamples a signal that arrives in pieces, or a part of one.

    Attributes:
        core: What computes the blocks.

    Args:
        source: Samples per second of the input.
        target: The same of the output.
        channels: Number of channels.
        first: The first output that is wanted; it may come with others of its block before it.
        position: The input sample that is pushed first; those before it that outputs need count as zero.

    Raises:
        ValueError: If a rate is not positive.
    """

    def __init__(self, source: int, target: int, channels: int, *, first: int = 0, position: int = 0) -> None:
        self.core = Resampler(source, target)
        self._same = source == target
        self._skip = max(first - position, 0) if self._same else first % self.core.block
        self._block = first // self.core.block
        start = self.core.window(self._block)[0]
        # Zeros where the first window begins before what comes.
        self._held = np.zeros((channels, 0 if self._same else max(position - start, 0)), dtype=np.float32)
        self._drop = 0 if self._same else max(start - position, 0)
        self._made = first

    @property
    def made(self) -> int:
        """Outputs so far, counted from the beginning of the signal."""
        return self._made

    def push(self, x: Samples) -> Samples:
        """Take the next (C, n) inputs; return the (C, m) outputs of all blocks that are complete."""
        return self._emit(self._push(x))

    def finish(self, count: int) -> Samples:
        """Return what is missing to `count` outputs of the whole signal, from zeros behind the input's end.

        Raises:
            ValueError: If there were more outputs already.
        """
        if count < self._made:
            raise ValueError(f"Argument `count` must be at least {self._made}, but got {count}")
        out = []
        while self._made < count:
            if self._same:
                zeros = np.zeros((len(self._held), count - self._made + self._skip), dtype=np.float32)
                piece = self._emit(self._push(zeros))
            else:
                start, stop = self.core.window(self._block)
                short = max(stop - start + self._drop - self._held.shape[1], 0)
                piece = self._emit(self._push(np.zeros((len(self._held), short), dtype=np.float32)))
            surplus = max(self._made - count, 0)
            self._made -= surplus
            out.append(piece[:, : piece.shape[1] - surplus])
        return np.concatenate([np.zeros((len(self._held), 0), dtype=np.float32), *out], axis=1)

    def _push(self, x: Samples) -> Samples:
        if self._same:
            return x
        self._held = np.concatenate((self._held, x), axis=1)
        if self._drop:
            gone = min(self._drop, self._held.shape[1])
            self._held, self._drop = self._held[:, gone:], self._drop - gone
            if self._drop:
                return self._held[:, :0]
        blocks = []
        start, stop = self.core.window(self._block)
        while self._held.shape[1] >= stop - start:
            blocks.append(self.core.run(self._block, self._held[:, : stop - start]))
            self._block += 1
            after, stop = self.core.window(self._block)
            self._held, start = self._held[:, after - start :], after
        return np.concatenate([self._held[:, :0], *blocks], axis=1)

    def _emit(self, y: Samples) -> Samples:
        gone = min(self._skip, y.shape[1])
        self._skip -= gone
        self._made += y.shape[1] - gone
        return y[:, gone:]


def resample(x: Samples, source: int, target: int) -> Samples:
    """Resample a whole signal.

    Args:
        x: (C, T) float32.
        source: Its samples per second.
        target: Those wanted.

    Returns:
        (C, ceil(T * target / source)) float32; the input itself where the rates are equal.

    Raises:
        ValueError: If a rate is not positive.
    """
    if source == target:
        return x
    stream = StreamResampler(source, target, len(x))
    count = -(-x.shape[1] * target // source)
    head = stream.push(x)
    return np.concatenate((head, stream.finish(max(count, stream.made))), axis=1)[:, :count]

"""What is done to the channels of a sound before they are coded, and undone after: rotations of pairs, and levels.

Both are constant over a chunk but for ramps at its borders (`docs/format.md` says which), so that what is coded goes on
without a step from chunk to chunk, and is undone exactly. A pair turned by 45 degrees is mid and side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from triode.container.audio import LEVELS

__all__ = [
    "MID_SIDE",
    "STEP_DB",
    "TARGET_RMS",
    "angles",
    "choose_rotation",
    "gains",
    "level_of",
    "levels_of",
    "ramp_length",
    "rotate",
]

Samples = NDArray[np.float32]
Levels = tuple[int | None, ...]

STEP_DB: Final = 1.5
"""Decibels of a step of level."""
TARGET_RMS: Final = 0.1
"""Root mean square that a chunk is brought to before it is coded: -20 dB of full scale."""
MID_SIDE: Final = 16
"""The rotation step that makes mid and side of left and right."""

_SILENCE: Final = 2.0**-24
_PEAK: Final = 2.0
_MOST: Final = 24
_ANGLE: Final = math.pi / 64
_FAR = 4.0
_PLAIN = 0.5
_CLEAR = 1 / 64


def level_of(x: Samples) -> int | None:
    """Return the level of a channel's chunk.

    Args:
        x: (T,) samples.

    Returns:
        The gain in steps of 1.5 dB that brings them near to `TARGET_RMS`: at most 36 dB, and less where peaks would
        exceed 2; None where no sample exceeds half a step of 24 bits, such as what is left of zeros after resampling.
    """
    peak = float(np.abs(x).max(initial=0))
    if peak <= _SILENCE:
        return None
    rms = math.sqrt(float(np.square(x.astype(np.float64)).mean()))
    gain = min(TARGET_RMS / rms, _PEAK / peak)
    return max(LEVELS[0], min(_MOST, math.floor(20 * math.log10(gain) / STEP_DB)))


def levels_of(x: Samples, rotations: Sequence[int]) -> Levels:
    """Return the levels of a chunk's channels (C, T) after rotation; turned pairs share the lower of theirs.

    So the quiet one of mid and side stays quiet, which is what makes it cheap.
    """
    levels = [level_of(channel) for channel in x]
    for pair, rotation in enumerate(rotations):
        both = levels[2 * pair], levels[2 * pair + 1]
        if rotation and both[0] is not None and both[1] is not None:
            levels[2 * pair] = levels[2 * pair + 1] = min(both[0], both[1])
    return tuple(levels)


def ramp_length(chunk: int) -> int:
    """Return the samples of a ramp in chunks of this many samples."""
    return chunk // 4


def _ramp(before: float, after: float, count: int) -> NDArray[np.float64]:
    return before + (after - before) * ((np.arange(count) + 0.5) / max(count, 1))


def _gain(level: float | NDArray[np.float64]) -> Any:
    return np.power(10, level * (STEP_DB / 20))


def gains(before: int | None, level: int | None, after: int | None, chunk: int) -> Samples:
    """Return the gain of every sample of a chunk.

    A gain rises at the beginning of the louder-made chunk and falls at the end of it, so that no loud sample meets the
    gain of a quiet chunk.

    Args:
        before: Level of the channel in the chunk before; None where it is silent or there is none.
        level: Level in this chunk.
        after: Level in the chunk after.
        chunk: Samples of a full chunk.

    Returns:
        (chunk,) float32; 1 where this chunk is silent.
    """
    if level is None:
        return np.ones(chunk, dtype=np.float32)
    gain = np.full(chunk, _gain(level), dtype=np.float32)
    ramp = ramp_length(chunk)
    if before is not None and before < level:
        gain[:ramp] = _gain(_ramp(before, level, ramp))
    if after is not None and after < level:
        gain[chunk - ramp :] = _gain(_ramp(level, after, ramp))
    return gain


def angles(before: int, rotation: int, chunk: int) -> Samples:
    """Return the angle in radians of every sample of a chunk, turning at its beginning from the one before.

    Args:
        before: Rotation of the pair in the chunk before; this chunk's own where there is none.
        rotation: Rotation in this chunk.
        chunk: Samples of a full chunk.

    Returns:
        (chunk,) float32.
    """
    steps = np.full(chunk, float(rotation))
    ramp = ramp_length(chunk)
    steps[:ramp] = _ramp(before, rotation, ramp)
    return (steps * _ANGLE).astype(np.float32)


def rotate(x: Samples, before: Sequence[int], rotations: Sequence[int], chunk: int, *, back: bool = False) -> Samples:
    """Turn the pairs of channels of a chunk.

    Args:
        x: (C, T) samples of the chunk, T at most `chunk`.
        before: Rotations of the pairs in the chunk before; this chunk's own where there is none.
        rotations: Rotations in this chunk.
        chunk: Samples of a full chunk.
        back: Whether to undo it.

    Returns:
        (C, T); the input where no pair turns.
    """
    if not any(before) and not any(rotations):
        return x
    y = x.copy()
    for pair, (old, new) in enumerate(zip(before, rotations, strict=True)):
        if old == new == 0:
            continue
        turn = angles(old, new, chunk)[: x.shape[1]]
        cos, sin = np.cos(turn), np.sin(turn)
        if old == new == MID_SIDE:
            sin = cos  # Bit for bit, so that equal channels have no side at all.
        a, b = x[2 * pair], x[2 * pair + 1]
        if back:
            sin = -sin
        y[2 * pair], y[2 * pair + 1] = cos * a + sin * b, cos * b - sin * a
    return y


def choose_rotation(pair: Samples, cost: Callable[[Samples, int], float]) -> int:
    """Choose whether a chunk of a pair is coded as it is or as mid and side: whichever is smaller.

    Args:
        pair: (2, T) samples.
        cost: Code length of a pair, already turned, that has this rotation; asked only where it is not obvious.

    Returns:
        0 or `MID_SIDE`.
    """
    left, right = (float(np.square(channel.astype(np.float64)).sum()) for channel in pair)
    if left == 0 or right == 0:
        return 0
    turned = rotate(pair, (MID_SIDE,), (MID_SIDE,), pair.shape[1])
    less, more = sorted(float(np.square(channel.astype(np.float64)).sum()) for channel in turned)
    # Turned pairs share the noise of the louder channel, which would drown a channel that is much quieter.
    if max(left, right) > _FAR * min(left, right) or less > _PLAIN * more:
        return 0
    if less < _CLEAR * more:
        return MID_SIDE
    return MID_SIDE if cost(turned, MID_SIDE) < cost(pair, 0) else 0

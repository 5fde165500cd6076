"""Frames as they come, cut into groups of pictures: at scene cuts, and where a group is full."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import gcd
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from triode.codecs.matrices import MATRICES
from triode.codecs.planes import Planes
from triode.container import MAX_GOP, VideoHead
from triode.errors import UnsupportedError
from triode.media import Clip

__all__ = ["ClipSource", "Gop", "SceneCuts", "frames_of", "gops_of", "head_of"]

_FINEST: Final = (1 << 32) - 1
_CLOCK: Final = Fraction(1, 90_000)
_BATCH: Final = 8
_THUMB: Final = 16
_SUDDEN: Final = 10.0
_SUDDEN_AT_ONCE: Final = 20.0
_TIMES_USUAL: Final = 4.0


class ClipSource(Protocol):
    """What gives frames a few at a time, such as `triode.io.video.ClipReader`.

    Attributes:
        width: Pixels.
        height: Pixels.
        rate: Frames per second.
        matrix: ``bt709`` or ``bt601``.
        full_range: Whether luma runs from 0 to 255.
        frames: Number of frames that are expected; None where that is not known.
        tick: Seconds of which all times of frames are multiples.
        primaries: Colour primaries, a code of ITU-T H.273.
        transfer: Transfer characteristics, likewise.
        aspect: Width over height of the shape of a pixel.
    """

    width: int
    height: int
    rate: Fraction
    matrix: str
    full_range: bool
    frames: int | None
    tick: Fraction
    primaries: int
    transfer: int
    aspect: Fraction

    def read(self, count: int) -> Clip | None:
        """Return the next frames, at most `count`, fewer only at the end; None after it."""


@dataclass(frozen=True, slots=True, eq=False)
class Gop:
    """A group of pictures to be coded.

    Attributes:
        index: Number of its unit.
        first: Number of its first frame.
        start: Time of that frame in ticks.
        frames: The frames.
        durations: Ticks from each frame to the next one.
    """

    index: int
    first: int
    start: int
    frames: tuple[Planes, ...]
    durations: tuple[int, ...]

    @property
    def end(self) -> int:
        """Time in ticks at which it ends."""
        return self.start + sum(self.durations)


class SceneCuts:
    """Tells where a scene begins: its first frame differs from the one before by more than frames did until then.

    Frames are compared by means of luma over a grid, so that noise does not count and motion counts little. What is
    known of a group is forgotten at its end: a group begins the same wherever the encoder was stopped and goes on.
    """

    def __init__(self) -> None:
        self._before: NDArray[np.float32] | None = None
        self._usual = 0.0
        self._count = 0

    def cut(self, luma: NDArray[np.uint8]) -> bool:
        """Take the next frame (H, W); return whether a scene begins with it."""
        thumb = _thumbnail(luma)
        before, self._before = self._before, thumb
        if before is None:
            return False
        change = float(np.abs(thumb - before).mean())
        # Where nothing is known of the scene yet, what it usually does could be more than that.
        if change > (_SUDDEN if self._count else _SUDDEN_AT_ONCE) and change > _TIMES_USUAL * self._usual:
            self._usual, self._count = 0.0, 0
            return True
        self._count += 1
        self._usual += (change - self._usual) / min(self._count, _BATCH)
        return False

    def restart(self) -> None:
        """Forget all but the last frame."""
        self._usual, self._count = 0.0, 0


def head_of(source: Clip | ClipSource, most_frames: int) -> VideoHead:
    """Return what `HEAD` says of a video.

    Raises:
        UnsupportedError: If its frames last longer than the format can hold, or its matrix is another.
    """
    if source.matrix not in MATRICES:
        raise UnsupportedError(f"the colour matrix {source.matrix!r} is not coded; known are {', '.join(MATRICES)}")
    interval = 1 / Fraction(source.rate)
    tick = _common(_tick_of(source) if isinstance(source, Clip) else source.tick, interval)
    if tick.denominator > _FINEST:
        tick = _CLOCK  # too fine for the format: times are rounded to the clock that broadcasting takes
    if tick.numerator > _FINEST or interval / tick > _FINEST:
        raise UnsupportedError(f"frames that last {interval} s are not coded")
    return VideoHead(
        width=source.width,
        height=source.height,
        tick=tick,
        frame_ticks=max(1, round(interval / tick)),
        most_frames=min(most_frames, MAX_GOP),
        matrix=MATRICES[source.matrix],
        primaries=source.primaries,
        transfer=source.transfer,
        full_range=source.full_range,
        aspect=Fraction(source.aspect).limit_denominator(_FINEST),
    )


def frames_of(source: Clip | ClipSource, head: VideoHead) -> Iterator[tuple[int, Planes]]:
    """Yield the frames in order with their times in ticks, the first at 0.

    Raises:
        UnsupportedError: If a time does not follow the one before.
    """
    count, before, origin = 0, -1, 0
    for clip in _clips(source):
        for place in range(clip.frames):
            given = None if clip.times is None else clip.times[place]
            time = round((count / Fraction(source.rate) if given is None else given) / head.tick)
            origin = origin if count else time
            time -= origin
            if time <= before:
                raise UnsupportedError(f"frame {count} is shown at {time * head.tick} s, not after the one before")
            yield time, (clip.y[place], clip.u[place], clip.v[place])
            count, before = count + 1, time


def gops_of(
    frames: Iterator[tuple[int, Planes]], head: VideoHead, *, scenes: bool, index: int = 0, first: int = 0
) -> Iterator[Gop]:
    """Cut frames into groups.

    Args:
        frames: Frames with their times.
        head: Most frames of a group, and how long a frame lasts.
        scenes: Whether a scene begins a group.
        index: Number of the first unit.
        first: Number of the first frame.

    Yields:
        One group at a time, as soon as the frame after it is there.

    Raises:
        UnsupportedError: If a frame lasts longer than the format can say.
    """
    held: list[tuple[int, Planes]] = []
    cuts = SceneCuts()
    for time, planes in frames:
        cut = scenes and cuts.cut(planes[0])
        if held and (cut or len(held) == head.most_frames):
            yield _gop(index, first, held, time)
            index, first, held = index + 1, first + len(held), []
            cuts.restart()
        held.append((time, planes))
    if held:
        yield _gop(index, first, held, held[-1][0] + head.frame_ticks)


def _gop(index: int, first: int, held: list[tuple[int, Planes]], end: int) -> Gop:
    times = [time for time, _ in held]
    durations = tuple(after - time for time, after in zip(times, [*times[1:], end], strict=True))
    if max(durations) > _FINEST:
        raise UnsupportedError(f"a frame lasts {max(durations)} ticks; the format holds at most {_FINEST}")
    return Gop(index, first, times[0], tuple(planes for _, planes in held), durations)


def _clips(source: Clip | ClipSource) -> Iterator[Clip]:
    if isinstance(source, Clip):
        yield source
        return
    while (clip := source.read(_BATCH)) is not None:
        yield clip


def _tick_of(clip: Clip) -> Fraction:
    tick = 1 / Fraction(clip.rate)
    for time in clip.times or ():
        tick = _common(tick, Fraction(time)) if time else tick
    return tick


def _common(a: Fraction, b: Fraction) -> Fraction:
    """Return the largest number that both are multiples of."""
    return Fraction(gcd(a.numerator * b.denominator, b.numerator * a.denominator), a.denominator * b.denominator)


def _thumbnail(luma: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return means of luma over a grid of at most 16 x 16."""
    rows, columns = (np.linspace(0, side, min(side, _THUMB) + 1).astype(int)[:-1] for side in luma.shape)
    sums = np.add.reduceat(np.add.reduceat(luma, rows, 0, dtype=np.uint32), columns, 1, dtype=np.uint32)
    area = np.outer(np.diff([*rows, luma.shape[0]]), np.diff([*columns, luma.shape[1]]))
    thumb: NDArray[np.float32] = (sums / area).astype(np.float32)
    return thumb

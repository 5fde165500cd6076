"""Sources of frames for tests of video."""

from __future__ import annotations

from fractions import Fraction

from triode.media import Clip


def cut(clip: Clip, start: int, stop: int) -> Clip | None:
    """Return frames `start` to `stop` - 1 of a clip, with their times; None if there are none."""
    if start >= stop:
        return None
    times = None if clip.times is None else clip.times[start:stop]
    planes = (clip.y[start:stop], clip.u[start:stop], clip.v[start:stop])
    return Clip(*planes, clip.rate, clip.matrix, clip.full_range, times, clip.primaries, clip.transfer, clip.aspect)


class Source:
    """Gives a clip a few frames at a time, and remembers how many were asked for."""

    def __init__(self, clip: Clip, frames: int | None = None, tick: Fraction | None = None) -> None:
        self.clip, self.frames, self.given = clip, frames, 0
        self.tick = tick or 1 / clip.rate
        self.width, self.height, self.rate, self.matrix = clip.width, clip.height, clip.rate, clip.matrix
        self.full_range, self.aspect = clip.full_range, clip.aspect
        self.primaries, self.transfer = clip.primaries, clip.transfer

    def read(self, count: int) -> Clip | None:
        piece = cut(self.clip, self.given, min(self.given + count, self.clip.frames))
        self.given += 0 if piece is None else piece.frames
        return piece

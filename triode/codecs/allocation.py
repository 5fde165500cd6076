"""Rate points that meet a target: one for all tiles, and for some of them the next, which uses up what is left.

With one rate point for all tiles each of them has about the same slope of error over rate, which is what a Lagrangian
search would bring about (Shoham & Gersho, IEEE TASSP, 1988); ``docs/adr/0006-tile-rates.md`` has the measurements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from triode.codecs.image_encoding import Encoded, Encoding
from triode.codecs.search import POINTS, find_border, largest_point, smallest_point

Progress = Callable[[float], None]

_PROBES = 7
_HEADSTART = 2
"""Rate points whose PSNR refinement makes up for."""
_TRIES = 4


def fit_bytes(job: Encoding, budget: float, progress: Progress | None = None, draft: Encoding | None = None) -> Encoded:
    """Find the best file within a budget.

    Args:
        job: The picture.
        budget: Largest file in bytes.
        progress: Called with the share done, 0 to 1.
        draft: The same picture without effort, to begin the search where it ends; for an effort that takes long.

    Returns:
        The file.

    Raises:
        UnsupportedError: If even rate point 0 takes more.
    """
    start = None
    if draft is not None:
        start = find_border(lambda p: len(draft.run(p).data) <= budget, POINTS)
    track = _Track(progress, start is not None)
    found = largest_point(lambda p: track.run(job, p), lambda e: len(e.data), budget, POINTS, start)
    if found.rate_point < POINTS - 1:
        found = _fill(job, found, budget)
    track.end()
    return found


def reach_psnr(job: Encoding, psnr: float, progress: Progress | None = None, draft: Encoding | None = None) -> Encoded:
    """Find the smallest file with a PSNR or more.

    Args:
        job: The picture.
        psnr: Smallest PSNR over the colour channels in 8 bits, dB.
        progress: Called with the share done, 0 to 1.
        draft: See :func:`fit_bytes`.

    Returns:
        The file, its PSNR measured.

    Raises:
        UnsupportedError: If even the highest rate point has less.
    """
    start = None
    if draft is not None:
        last = find_border(lambda p: (draft.run(p, measure=True).psnr or 0.0) < psnr, POINTS)
        start = last + 1 - _HEADSTART
    track = _Track(progress, start is not None)
    run = lambda p: track.run(job, p, measure=True)  # noqa: E731
    found = smallest_point(run, lambda e: e.psnr or 0.0, psnr, POINTS, start)
    if found.rate_point > 0:
        found = _thin(job, found, psnr)
    track.end()
    return found


def choose(extras: Sequence[float], budget: float) -> list[int]:
    """Choose what fits into a budget: the largest first, each that still fits.

    Args:
        extras: What each costs.
        budget: What they may cost together.

    Returns:
        Indices, in the order they were chosen.
    """
    chosen = []
    for index in sorted(range(len(extras)), key=lambda i: (-extras[i], i)):
        if extras[index] <= budget:
            budget -= extras[index]
            chosen.append(index)
    return chosen


def _fill(job: Encoding, found: Encoded, budget: float) -> Encoded:
    """Raise tiles by one rate point while bytes are left.

    All tiles gain about as much quality a byte, so what counts is to leave few bytes over.
    """
    count, point = len(job.tiles), found.rate_point
    if count == 1:
        return found
    extras = [job.size(i, point + 1) - job.size(i, point) for i in range(count)]
    raised = choose(extras, budget - len(found.data))
    while raised:
        result = job.mix([point + (i in raised) for i in range(count)])
        if len(result.data) <= budget:  # Lengths and the index may have grown by a few bytes.
            return result
        raised.pop()
    return found


def _thin(job: Encoding, found: Encoded, psnr: float) -> Encoded:
    """Lower tiles by one rate point while the PSNR stays, those first that save the most bytes for their error."""
    count, point = len(job.tiles), found.rate_point
    if count == 1:
        return found
    now, below = job.errors([point] * count), job.errors([point - 1] * count)
    left = job.colour.size * 255.0**2 * 10 ** (-psnr / 10) - sum(now)
    saved = [job.size(i, point) - job.size(i, point - 1) for i in range(count)]
    added = [max(b - n, 1e-9) for n, b in zip(now, below, strict=True)]
    lowered: list[int] = []
    for index in sorted(range(count), key=lambda i: (-saved[i] / added[i], i)):
        if saved[index] > 0 and added[index] <= left:
            left -= added[index]
            lowered.append(index)
    for _ in range(_TRIES):
        if not lowered:
            break
        result = job.mix([point - (i in lowered) for i in range(count)], measure=True)
        if (result.psnr or 0.0) >= psnr:  # Seams between rate points may have added errors.
            return result
        lowered.pop()
    return found


class _Track:
    """Reports how far a search is, whose number of runs is not known.

    Args:
        progress: Called with the share done.
        slow: Whether runs report their shares too.
    """

    def __init__(self, progress: Progress | None, slow: bool) -> None:
        self._progress, self._slow, self._runs = progress, slow, 0

    def run(self, job: Encoding, point: int, *, measure: bool = False) -> Encoded:
        """Run a job at a rate point."""
        result = job.run(point, self._part if self._slow else None, measure=measure)
        self._runs += 1
        self._report(self._runs / (_PROBES + 1))
        return result

    def end(self) -> None:
        """Report that all is done."""
        self._report(1.0)

    def _part(self, share: float) -> None:
        if share < 1:
            self._report((self._runs + share) / (_PROBES + 1))

    def _report(self, share: float) -> None:
        if self._progress:
            self._progress(min(share, 1.0))

"""Rates that meet a target: one rate point for all tiles, then what is left of the target used up.

With one rate point for all tiles each of them has about the same slope of error over rate, which is what a Lagrangian
search would bring about (Shoham & Gersho, IEEE TASSP, 1988): choosing a point for each tile by its own slope gains
almost nothing. What a search among 64 points leaves is half a step between them, 2 to 3 % of the bytes. Some tiles
take the next rate point, and one tile prices errors so that its choices between bits and errors use up the rest.
``docs/adr/0006-tile-rates.md`` has the measurements.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from triode.codecs.image_encoding import Encoded, Encoding, Rate
from triode.codecs.search import POINTS, find_border, largest_point, smallest_point

Progress = Callable[[float], None]

_PROBES = 7
_HEADSTART = 2
"""Rate points whose PSNR refinement makes up for."""
_TRIES = 4
_WORTH = 0.2
"""Share of a step between rate points that is worth using up: prices far from 1 cost a little quality."""
_CLOSE = 0.04
"""Share of a step that may stay unused."""
_CAUTION = 0.8
"""On the first guess of a price, so that it fits more often than not."""


@dataclass(frozen=True, slots=True)
class _Tuning:
    """How prices are found.

    Attributes:
        octaves: Base-2 logarithm of the price against the one that takes about as many bytes as the rate point below.
        tries: Files to make.
    """

    octaves: float
    tries: int


_PLAIN, _REFINED = _Tuning(1.0, 4), _Tuning(0.45, 2)
"""Without effort and with it."""


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
    track = _Track(job, progress)
    found = largest_point(lambda p: track.mix(_all(job, p)), lambda e: len(e.data), budget, POINTS, start)
    if found.rate_point < POINTS - 1:
        found = _squeeze(track, *_fill(track, found, budget), budget)
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
    track = _Track(job, progress)
    run = lambda p: track.mix(_all(job, p), measure=True)  # noqa: E731
    found = smallest_point(run, lambda e: e.psnr or 0.0, psnr, POINTS, start)
    if found.rate_point > 0:
        found = _shave(track, *_thin(track, found, psnr), found.rate_point, psnr)
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


def false_position(
    probe: Callable[[float], float], fits: tuple[float, float], over: tuple[float, float], tries: int, close: float
) -> None:
    """Look for a zero, by the Illinois variant of false position (Dowell & Jarratt, BIT, 1971).

    Args:
        probe: The function, which keeps what it finds itself. The values of the ends are guesses: the first call is
            made somewhat nearer to the one that fits.
        fits: Argument and value, at most 0, of the end of the interval that fits.
        over: The same, above 0, of the end that does not.
        tries: Calls of ``probe``.
        close: How near to 0, from below, is near enough.
    """
    before: bool | None = None
    for _ in range(tries):
        share = (fits[1] + close / 2) / min(fits[1] - over[1], -1e-9)
        share = max(share, 0.0) * (_CAUTION if before is None else 1.0)
        x = fits[0] + (over[0] - fits[0]) * share
        value = probe(x)
        if -close <= value <= 0:
            return
        good = value <= 0
        if good:
            fits, over = (x, value), (over[0], over[1] / 2 if before is good else over[1])
        else:
            over, fits = (x, value), (fits[0], fits[1] / 2 if before is good else fits[1])
        before = good


def _all(job: Encoding, point: int) -> list[Rate]:
    return [Rate(point)] * len(job.tiles)


def _fill(track: _Track, found: Encoded, budget: float) -> tuple[Encoded, list[Rate]]:
    """Raise tiles by one rate point while bytes are left.

    All tiles gain about as much quality a byte, so what counts is to leave few bytes over.
    """
    job, point = track.job, found.rate_point
    rates, count = _all(job, point), len(job.tiles)
    extras = [job.size(i, Rate(point + 1)) - job.size(i, Rate(point)) for i in range(count)]
    raised = choose(extras, budget - len(found.data)) if count > 1 else []
    while raised:
        mixed = [Rate(point + (i in raised)) for i in range(count)]
        result = job.mix(mixed)
        if len(result.data) <= budget:  # Lengths and the index may have grown by a few bytes.
            return result, mixed
        raised.pop()
    return found, rates


def _squeeze(track: _Track, found: Encoded, rates: list[Rate], budget: float) -> Encoded:
    """Raise one more tile by a rate point, with a price of errors at which it fits, if that improves the PSNR."""
    job, left = track.job, budget - len(found.data)
    low = min(rate.point for rate in rates)
    steps = {i: job.size(i, Rate(low + 1)) - job.size(i, rate) for i, rate in enumerate(rates) if rate.point == low}
    index = min(steps, key=lambda i: (steps[i], i))
    step = steps[index]
    if not job.priced or left < _WORTH * step:
        return found
    best, mixed = found, rates

    def probe(octaves: float) -> float:
        nonlocal best, mixed
        tried = [*rates[:index], Rate(low + 1, 2.0**octaves), *rates[index + 1 :]]
        result = track.mix(tried)
        if len(best.data) < len(result.data) <= budget:
            best, mixed = result, tried
        return len(result.data) - budget

    fits, over = (-track.tuning.octaves, -left), (0.0, max(step - left, 1.0))
    false_position(probe, fits, over, track.tuning.tries, _CLOSE * step)
    if best is found:
        return found
    psnrs = [job.mix(r, measure=True).psnr or 0.0 for r in (rates, mixed)]
    return best if psnrs[1] > psnrs[0] else found


def _thin(track: _Track, found: Encoded, psnr: float) -> tuple[Encoded, list[Rate]]:
    """Lower tiles by one rate point while the PSNR stays, those first that save the most bytes for their error."""
    job, point = track.job, found.rate_point
    rates, count = _all(job, point), len(job.tiles)
    if count == 1:
        return found, rates
    now, below = job.errors(rates), job.errors(_all(job, point - 1))
    left = _allowed(job, psnr) - sum(now)
    saved = [job.size(i, Rate(point)) - job.size(i, Rate(point - 1)) for i in range(count)]
    added = [max(b - n, 1e-9) for n, b in zip(now, below, strict=True)]
    lowered: list[int] = []
    for index in sorted(range(count), key=lambda i: (-saved[i] / added[i], i)):
        if saved[index] > 0 and added[index] <= left:
            left -= added[index]
            lowered.append(index)
    for _ in range(_TRIES):
        if not lowered:
            break
        mixed = [Rate(point - (i in lowered)) for i in range(count)]
        result = job.mix(mixed, measure=True)
        if (result.psnr or 0.0) >= psnr:  # Seams between rate points may have added errors.
            return result, mixed
        lowered.pop()
    return found, rates


def _shave(track: _Track, found: Encoded, rates: list[Rate], point: int, psnr: float) -> Encoded:
    """Lower the price of errors in one tile, of those that are at the higher rate point, while the PSNR stays."""
    job = track.job
    now, below = job.errors(_all(job, point)), job.errors(_all(job, point - 1))
    steps = {i: below[i] - now[i] for i, rate in enumerate(rates) if rate.point == point}
    left = _allowed(job, psnr) - sum(job.errors(rates))
    index = min(steps, key=lambda i: (steps[i], i), default=-1)
    if index < 0 or not job.priced or left < _WORTH * steps[index]:
        return found
    step, best = steps[index], found

    def probe(octaves: float) -> float:
        nonlocal best
        mixed = [*rates[:index], Rate(point, 2.0**octaves), *rates[index + 1 :]]
        result = track.mix(mixed, measure=True)
        if (result.psnr or 0.0) >= psnr and len(result.data) < len(best.data):
            best = result
        return sum(job.errors(mixed)) - _allowed(job, psnr)

    fits, over = (0.0, -left), (-track.tuning.octaves, max(step - left, 1.0))
    false_position(probe, fits, over, track.tuning.tries, _CLOSE * step)
    return best


def _allowed(job: Encoding, psnr: float) -> float:
    """Return the sum of squared errors that a PSNR leaves room for."""
    return float(job.colour.size * 255.0**2 * 10 ** (-psnr / 10))


class _Track:
    """Makes files for a search, and reports how far it is, though the number of files is not known.

    Args:
        job: The picture.
        progress: Called with the share done.

    Attributes:
        tuning: How prices are found for the job.
    """

    def __init__(self, job: Encoding, progress: Progress | None) -> None:
        self.job, self._progress, self._runs = job, progress, 0
        self.tuning = _PLAIN if job.effort == "none" else _REFINED

    def mix(self, rates: list[Rate], *, measure: bool = False) -> Encoded:
        """Make a file."""
        slow = self.job.effort != "none"
        result = self.job.mix(rates, self._part if slow else None, measure=measure)
        self._runs += 1
        self._report(self._share())
        return result

    def end(self) -> None:
        """Report that all is done."""
        self._report(1.0)

    def _share(self, part: float = 0.0) -> float:
        return (self._runs + part) / (_PROBES + self.tuning.tries + 1)

    def _part(self, share: float) -> None:
        if share < 1:
            self._report(self._share(share))

    def _report(self, share: float) -> None:
        if self._progress:
            self._progress(min(share, 1.0))

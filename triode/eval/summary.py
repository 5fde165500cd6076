"""What reports and tables print of results: mean curves, BD-rates over items, speed and rate at equal quality."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final, TypeVar

import numpy as np

from triode.eval.bdrate import BdQuality, BdRate, Method, RatePoint, bd_quality, bd_rate, rate_at
from triode.eval.means import (
    Index,
    MeanPoint,
    common_items,
    higher_is_better,
    main_codec,
    mean_curve,
    oriented,
    pooled_psnr,
)
from triode.eval.results import Measurement, PublishedCurve, Results

__all__ = [
    "AtQuality",
    "BdRow",
    "BdSummary",
    "MeanPoint",
    "at_quality",
    "bd_summary",
    "bd_table",
    "bootstrap_interval",
    "common_items",
    "equal_quality",
    "higher_is_better",
    "main_codec",
    "mean_curve",
    "nearest_rate",
    "oriented",
    "pooled_psnr",
]

_DRAWS: Final = 1 << 20  # drawn at a time by the bootstrap, which bounds its memory


@dataclass(frozen=True, slots=True)
class BdSummary:
    """BD-rate of a codec against an anchor, item by item.

    Attributes:
        percent: Mean of the items' BD-rates, negative where the codec needs fewer bits; None where all are refused.
        low: Lower end of the 95 % confidence interval of this mean; None under 2 items.
        high: Its upper end.
        items: Number of items that were compared.
        refused: Number of items that were not, because a curve is too short or the curves overlap too little.
        overlap: Mean overlap of the curves of the items compared; of the mean curves where there is none.
        of_mean_curve: BD-rate of the mean curves; None where it is refused.
        gain: Mean of the items' gains in quality at equal rate (BD-PSNR), in the direction in which more is better;
            where no items are compared, of the mean curves.
        per_item: Name and BD-rate of each item compared.
        reasons: Name and reason of each item refused.
    """

    percent: float | None
    low: float | None
    high: float | None
    items: int
    refused: int
    overlap: float | None
    of_mean_curve: float | None
    gain: float | None
    per_item: tuple[tuple[str, float], ...]
    reasons: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class BdRow:
    """A row of a table of BD-rates.

    Attributes:
        anchor: Name of the codec or published curve that is compared with.
        title: For people.
        published: Whether the anchor is a published curve: then there are no items, and the mean curves are compared.
        summary: The comparison.
    """

    anchor: str
    title: str
    published: bool
    summary: BdSummary


@dataclass(frozen=True, slots=True)
class AtQuality:
    """A codec at a given quality, between its operating points.

    Attributes:
        codec: Name of the codec or published curve.
        title: For people.
        published: Whether it is a published curve, which has a rate only.
        rate: Mean rate; None where the mean curve does not reach the quality.
        encode_seconds: Mean time of an item; None where the rate is, and of published curves.
        decode_seconds: The same.
        encode_speed: Units (pixels of images, seconds of sound and video) in a second; None where the time is, or 0.
        decode_speed: The same.
    """

    codec: str
    title: str
    published: bool
    rate: float | None
    encode_seconds: float | None = None
    decode_seconds: float | None = None
    encode_speed: float | None = None
    decode_speed: float | None = None


def bd_summary(
    results: Results,
    anchor: str,
    test: str,
    metric: str,
    *,
    method: Method = "pchip",
    payload: bool = False,
    seed: int = 0,
) -> BdSummary:
    """Compare a codec with another at equal quality: each item's curves, then the mean over items.

    Args:
        results: The results.
        anchor: Name of the codec that is compared with.
        test: Name of the codec that is compared.
        metric: Name of the metric that is quality; its direction is taken care of.
        method: How curves are interpolated; see :func:`triode.eval.bdrate.bd_rate`.
        payload: Whether to count what carries the medium alone, and not the whole file.
        seed: Of the bootstrap that gives the confidence interval.

    Raises:
        ValueError: If there is no such codec or metric.
        UnsupportedError: If SciPy is missing.
    """
    _check_names(results, metric, anchor, test)
    return _bd_summary(Index(results), anchor, test, metric, method, payload, seed)


def _bd_summary(
    index: Index, anchor: str, test: str, metric: str, method: Method, payload: bool, seed: int
) -> BdSummary:
    found: list[tuple[str, BdRate]] = []
    gains: list[float] = []
    reasons: list[tuple[str, str]] = []
    for item in index.units:
        curves = [index.points(codec, item, metric, payload) for codec in (anchor, test)]
        try:
            found.append((item, bd_rate(curves[0], curves[1], method)))
        except ValueError as error:
            reasons.append((item, str(error)))
        gain = _try(bd_quality, curves[0], curves[1], method)
        gains += [] if gain is None else [gain.gain]
    items = index.common_items(metric)
    means = [_orientedfmean(index.mean_curve(codec, metric, payload, items), metric) for codec in (anchor, test)]
    whole = _compare_means(means[0], means[1], method)
    percents = [delta.percent for _, delta in found]
    interval = bootstrap_interval(percents, seed=seed)
    return BdSummary(
        percent=fmean(percents) if percents else None,
        low=interval and interval[0],
        high=interval and interval[1],
        items=len(found),
        refused=len(reasons),
        overlap=fmean(delta.overlap for _, delta in found) if found else whole.overlap,
        of_mean_curve=whole.of_mean_curve,
        gain=fmean(gains) if gains else whole.gain,
        per_item=tuple((item, delta.percent) for item, delta in found),
        reasons=tuple(reasons),
    )


def _orientedfmean(points: Sequence[MeanPoint], metric: str) -> list[RatePoint]:
    return oriented([RatePoint(point.rate, point.value) for point in points], metric)


_Delta = TypeVar("_Delta", BdRate, BdQuality)


def _try(
    compare: Callable[[Sequence[RatePoint], Sequence[RatePoint], Method], _Delta],
    anchor: Sequence[RatePoint],
    test: Sequence[RatePoint],
    method: Method,
) -> _Delta | None:
    try:
        return compare(anchor, test, method)
    except ValueError:
        return None


def _compare_means(anchor: Sequence[RatePoint], test: Sequence[RatePoint], method: Method) -> BdSummary:
    """Compare two mean curves, without items."""
    rate, quality = _try(bd_rate, anchor, test, method), _try(bd_quality, anchor, test, method)
    percent, overlap = (rate.percent, rate.overlap) if rate else (None, None)
    return BdSummary(None, None, None, 0, 0, overlap, percent, quality.gain if quality else None, (), ())


def bd_table(
    results: Results, test: str, metric: str, *, method: Method = "pchip", payload: bool = False, seed: int = 0
) -> tuple[BdRow, ...]:
    """Compare a codec with all others, and its mean curve with the published curves that have the metric.

    Args:
        results: The results.
        test: Name of the codec that is compared; see :func:`main_codec`.
        metric: Name of the metric that is quality.
        method: How curves are interpolated.
        payload: Whether to count what carries the medium alone, and not the whole file; published curves stay as they
            are.
        seed: Of the bootstrap.

    Returns:
        A row for each codec, in the order of the results, then one for each published curve.

    Raises:
        ValueError: If there is no such codec or metric.
        UnsupportedError: If SciPy is missing.
    """
    _check_names(results, metric, test)
    index = Index(results)
    rows = [
        BdRow(codec.name, codec.facts.title, False, _bd_summary(index, codec.name, test, metric, method, payload, seed))
        for codec in results.codecs
        if codec.name != test
    ]
    mean = _orientedfmean(index.mean_curve(test, metric, payload, index.common_items(metric)), metric)
    for curve in results.published:
        if metric in curve.points:
            summary = _compare_means(_published_points(curve, metric), mean, method)
            rows.append(BdRow(curve.name, curve.title, True, summary))
    return tuple(rows)


def _published_points(curve: PublishedCurve, metric: str) -> list[RatePoint]:
    return oriented([RatePoint(rate, value) for rate, value in curve.points[metric]], metric)


def bootstrap_interval(
    values: Sequence[float], *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float] | None:
    """Return a confidence interval of the mean by the percentile bootstrap (B. Efron, Annals of Statistics 7, 1979).

    Args:
        values: One an item.
        confidence: Probability, between 0 and 1.
        resamples: How many samples are drawn, each of as many values as there are, with replacement.
        seed: Of the draw.

    Returns:
        The ends; None under 2 values.
    """
    if len(values) < 2:
        return None
    rng, given = np.random.default_rng(seed), np.asarray(values, np.float64)
    rows = max(1, _DRAWS // len(given))
    means = [
        given[rng.integers(0, len(given), (min(rows, resamples - start), len(given)))].mean(axis=1)
        for start in range(0, resamples, rows)
    ]
    tail = 50 * (1 - confidence)
    low, high = np.percentile(np.concatenate(means), [tail, 100 - tail])
    return float(low), float(high)


def equal_quality(results: Results, metric: str) -> float | None:
    """Return a value of the metric at which codecs are compared: the middle of what all mean curves reach.

    It is rounded to 2 digits where they reach that as well. Where the curves have no range in common, it is the middle
    of the main codec's; None where that has no mean curve either.
    """
    index = Index(results)
    items = index.common_items(metric)
    ranges = {}
    for codec in results.codecs:
        values = [point.value for point in index.mean_curve(codec.name, metric, False, items)]
        if values:
            ranges[codec.name] = min(values), max(values)
    if not ranges:
        return None
    low, high = max(low for low, _ in ranges.values()), min(high for _, high in ranges.values())
    if low > high:
        if (main := main_codec(results)) not in ranges:
            return None
        low, high = ranges[main]
    middle = (low + high) / 2
    rounded = float(f"{middle:.2g}")
    return rounded if low <= rounded <= high else middle


def at_quality(results: Results, metric: str, target: float | None = None) -> tuple[AtQuality, ...]:
    """Interpolate rate and speed of each codec, on its mean curve, at one quality.

    Args:
        results: The results.
        metric: Name of the metric that is quality.
        target: Its value; None for that of :func:`equal_quality`.

    Returns:
        One for each codec, then one for each published curve that has the metric; the logarithm of the rate is
        interpolated by PCHIP, and time linearly, both over the metric.

    Raises:
        ValueError: If there is no such metric.
        UnsupportedError: If SciPy is missing.
    """
    _check_names(results, metric)
    target = equal_quality(results, metric) if target is None else target
    index = Index(results)
    items = index.common_items(metric)
    units = fmean([index.units[item] for item in items]) if items else math.nan
    found = []
    for codec in results.codecs:
        points = index.mean_curve(codec.name, metric, False, items)
        rate = _try_rate_at(_orientedfmean(points, metric), metric, target)
        if rate is None or target is None:
            found.append(AtQuality(codec.name, codec.facts.title, False, None))
            continue
        points = tuple(sorted(points, key=lambda point: point.value))
        values = [point.value for point in points]
        encode = float(np.interp(target, values, [point.encode_seconds for point in points]))
        decode = float(np.interp(target, values, [point.decode_seconds for point in points]))
        speeds = (units / seconds if seconds > 0 else None for seconds in (encode, decode))
        found.append(AtQuality(codec.name, codec.facts.title, False, rate, encode, decode, *speeds))
    found += [
        AtQuality(curve.name, curve.title, True, _try_rate_at(_published_points(curve, metric), metric, target))
        for curve in results.published
        if metric in curve.points
    ]
    return tuple(found)


def _try_rate_at(points: Sequence[RatePoint], metric: str, target: float | None) -> float | None:
    try:
        return None if target is None else rate_at(points, target if higher_is_better(metric) else -target)
    except ValueError:
        return None


def nearest_rate(
    results: Results, item: str, codec: str, rate: float, *, with_sample: bool = False
) -> Measurement | None:
    """Return the measurement of an item whose rate is nearest to a given one, as a ratio: what a viewer shows.

    Args:
        results: The results.
        item: Name of the item.
        codec: Name of the codec.
        rate: In the unit of the results, > 0.
        with_sample: Whether to look among those with a sample only.

    Returns:
        The measurement; None where there is none.

    Raises:
        ValueError: If the rate is not positive.
    """
    if not rate > 0:
        raise ValueError(f"Argument `rate` must be positive, but got {rate}")
    candidates = [
        m
        for m in results.measurements
        if (m.item, m.codec, m.error) == (item, codec, None)
        and m.bytes > 0
        and (m.sample is not None or not with_sample)
    ]
    return min(candidates, key=lambda m: abs(math.log(results.rate(m) / rate)), default=None)


def _check_names(results: Results, metric: str, *codecs: str) -> None:
    known = [codec.name for codec in results.codecs]
    for codec in codecs:
        if codec not in known:
            raise ValueError(f"Unknown codec {codec!r}; there are {', '.join(known) or 'none'}")
    if metric not in results.metrics:
        raise ValueError(f"Unknown metric {metric!r}; there are {', '.join(results.metrics) or 'none'}")

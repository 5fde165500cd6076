"""Results averaged over items: curves whose quality rises, mean curves, and the items that they are over."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from triode.eval.bdrate import RatePoint
from triode.eval.results import Measurement, Results

__all__ = [
    "Index",
    "MeanPoint",
    "common_items",
    "higher_is_better",
    "main_codec",
    "mean_curve",
    "oriented",
    "pooled_psnr",
]

_POOLED: Final = ("psnr", "psnr-y")


@dataclass(frozen=True, slots=True)
class MeanPoint:
    """A codec at one of its qualities, on average over items.

    Attributes:
        quality: The codec's own setting.
        rate: Mean rate, in the unit of the results.
        value: Mean of the metric.
        pooled: PSNR of the mean of the items' squared errors, as opposed to the mean of their PSNRs; None for other
            metrics than ``psnr`` and ``psnr-y``.
        encode_seconds: Mean time of an item.
        decode_seconds: The same.
        items: Number of items.
    """

    quality: float
    rate: float
    value: float
    pooled: float | None
    encode_seconds: float
    decode_seconds: float
    items: int


class Index:
    """Measurements that succeeded, by codec and item.

    Args:
        results: What was measured.

    Attributes:
        results: The same.
        units: Pixels or seconds of each item.
        cells: Measurements of a codec and an item.
    """

    def __init__(self, results: Results) -> None:
        self.results = results
        self.units = {item.name: item.units for item in results.items}
        self.cells: dict[tuple[str, str], list[Measurement]] = defaultdict(list)
        for m in results.measurements:
            if m.error is None:
                self.cells[m.codec, m.item].append(m)

    def rate(self, m: Measurement, payload: bool) -> float:
        """Return the rate of a measurement, as ``Results.rate`` does, but fast."""
        size = m.payload_bytes if payload else m.bytes
        return 8 * size / self.units[m.item] / (1 if self.results.media == "image" else 1000)

    def points(self, codec: str, item: str, metric: str, payload: bool) -> list[RatePoint]:
        """Return the curve of an item, oriented."""
        cell = self.cells.get((codec, item), [])
        return oriented([RatePoint(self.rate(m, payload), m.metrics[metric]) for m in cell if _has(m, metric)], metric)

    def common_items(self, metric: str) -> tuple[str, ...]:
        """Return what the function of this name does."""
        measured = {cell for cell, found in self.cells.items() if any(_has(m, metric) for m in found)}
        codecs = {codec for codec, _ in measured}
        return tuple(item for item in self.units if codecs and all((codec, item) in measured for codec in codecs))

    def mean_curve(self, codec: str, metric: str, payload: bool, items: tuple[str, ...]) -> tuple[MeanPoint, ...]:
        """Return what the function of this name does, over given items."""
        by_quality: dict[float, list[Measurement]] = defaultdict(list)
        for item in items:
            for m in self.cells.get((codec, item), []):
                if _has(m, metric):
                    by_quality[m.quality].append(m)
        groups = (group for group in by_quality.values() if len(group) == len(items))
        found = [self._mean_point(group, metric, payload) for group in groups]
        return tuple(sorted(found, key=lambda point: (point.rate, point.quality)))

    def _mean_point(self, group: list[Measurement], metric: str, payload: bool) -> MeanPoint:
        values = [m.metrics[metric] for m in group]
        return MeanPoint(
            quality=group[0].quality,
            rate=_mean([self.rate(m, payload) for m in group]),
            value=_mean(values),
            pooled=pooled_psnr(values) if metric in _POOLED else None,
            encode_seconds=_mean([m.encode_seconds for m in group]),
            decode_seconds=_mean([m.decode_seconds for m in group]),
            items=len(group),
        )


def _has(m: Measurement, metric: str) -> bool:
    return math.isfinite(m.metrics.get(metric, math.nan))


def higher_is_better(metric: str) -> bool:
    """Return the direction of a metric; one that is not registered here is taken to be better where it is higher."""
    from triode.eval.metrics import metric as find

    try:
        return find(metric).info.higher_is_better
    except ValueError:
        return True


def oriented(points: Sequence[RatePoint], metric: str) -> list[RatePoint]:
    """Return points whose quality is the better the higher it is: negated for metrics that are better where lower."""
    sign = 1 if higher_is_better(metric) else -1
    return [RatePoint(point.rate, sign * point.quality) for point in points]


def main_codec(results: Results) -> str:
    """Return the name of the codec that reports compare with the others: the first learned one, else the first.

    Raises:
        ValueError: If there is no codec.
    """
    if not results.codecs:
        raise ValueError("The results have no codec")
    return next((c.name for c in results.codecs if c.facts.kind == "learned"), results.codecs[0].name)


def common_items(results: Results, metric: str) -> tuple[str, ...]:
    """Return the items that mean curves are over, the same for all codecs.

    They are those that each codec has measured at least once, not counting codecs that failed on every item.
    """
    return Index(results).common_items(metric)


def mean_curve(results: Results, codec: str, metric: str, *, payload: bool = False) -> tuple[MeanPoint, ...]:
    """Average a codec's curves over the items of :func:`common_items`, quality by quality.

    Args:
        results: The results.
        codec: Name of a codec.
        metric: Name of a metric; values are as measured, whatever its direction.
        payload: Whether to count what carries the medium alone, and not the whole file.

    Returns:
        Points from the lowest rate to the highest, of the qualities that were measured on all these items.
    """
    index = Index(results)
    return index.mean_curve(codec, metric, payload, index.common_items(metric))


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def pooled_psnr(values: Sequence[float]) -> float:
    """Return the PSNR of the mean squared error of items of which the PSNRs are given, in dB."""
    return -10 * math.log10(_mean([10 ** (-value / 10) for value in values]))

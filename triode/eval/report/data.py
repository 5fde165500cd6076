"""What the page shows, worked out once: curves, comparisons, speeds, sizes; and the same as data for its script."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

from triode.eval.report.samples import Group
from triode.eval.results import Measurement, Results
from triode.eval.summary import (
    AtQuality,
    BdRow,
    MeanPoint,
    at_quality,
    bd_summary,
    bd_table,
    bootstrap_interval,
    equal_quality,
    main_codec,
    mean_curve,
)

__all__ = ["Breakdown", "Comparison", "MetricFacts", "Totals", "View", "make_view", "page_data", "to_script"]

FULL_MATRIX: Final = 10_000
"""Most comparisons of single items for which every pair of codecs is compared by every metric."""
DRAWN_PUBLISHED: Final = 3


@dataclass(frozen=True, slots=True)
class MetricFacts:
    """A metric as the page names it: ``up`` where higher is better, ``digits`` after the decimal point."""

    name: str
    title: str
    unit: str
    up: bool
    digits: int
    source: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """BD-rate of one codec against another.

    Attributes:
        anchor: Place of the codec that is compared with.
        test: Place of the codec compared.
        mean: Mean of the items' BD-rates in percent; None where all are refused.
        low: Lower end of its 95 % confidence interval; None under 2 items.
        high: Its upper end.
        items: BD-rate of each item, in their order; None where refused.
    """

    anchor: int
    test: int
    mean: float | None
    low: float | None
    high: float | None
    items: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Totals:
    """What a codec took over all of its measurements that succeeded.

    Attributes:
        encode: Seconds for a megapixel of images or a second of sound or video; None where nothing succeeded.
        decode: The same.
        peak: Largest peak memory in bytes; None where not measured.
        failed: Number of failures.
    """

    encode: float | None
    decode: float | None
    peak: int | None
    failed: int


@dataclass(frozen=True, slots=True)
class Breakdown:
    """Mean bytes by part of a codec's files, in the order of ``names``, for each quality."""

    codec: int
    names: tuple[str, ...]
    rows: tuple[tuple[float, tuple[float, ...]], ...]


@dataclass(frozen=True, slots=True)
class View:
    """Everything that the page shows, but for the samples.

    Attributes:
        results: The results, as read back from their own JSON.
        title: Of the page.
        subject: Place of the codec that the page is about.
        anchor: Place of the codec that single items are compared with at first.
        metrics: The main one first.
        means: Mean curves by name of the metric, then in the order of the codecs.
        payloads: Mean rates of what carries the media alone, by quality, in the order of the codecs.
        tables: BD-rates of the subject against the others and the published curves, by name of the metric.
        comparisons: Pairs of codecs by name of the metric.
        equal: Rate and speed at equal quality, by name of the metric.
        targets: That quality, by name of the metric; None where there is none.
        totals: In the order of the codecs.
        breakdowns: Of the codecs that tell.
    """

    results: Results
    title: str
    subject: int
    anchor: int
    metrics: tuple[MetricFacts, ...]
    means: Mapping[str, tuple[tuple[MeanPoint, ...], ...]]
    payloads: tuple[Mapping[float, float], ...]
    tables: Mapping[str, tuple[BdRow, ...]]
    comparisons: Mapping[str, tuple[Comparison, ...]]
    equal: Mapping[str, tuple[AtQuality, ...]]
    targets: Mapping[str, float | None]
    totals: tuple[Totals, ...]
    breakdowns: tuple[Breakdown, ...]

    @property
    def speed_unit(self) -> str:
        """Unit of times that do not depend on the item's size."""
        return "s/MP" if self.results.media == "image" else "s/s"

    @property
    def per_unit(self) -> float:
        """How many of the results' units (pixels or seconds) times are given for."""
        return 1e6 if self.results.media == "image" else 1.0

    @property
    def hidden(self) -> tuple[str, ...]:
        """Names of published curves that are not drawn at first, for there are too many."""
        return tuple(curve.name for curve in self.results.published[DRAWN_PUBLISHED:])


def make_view(results: Results, title: str | None = None) -> View:
    """Work out what the page shows.

    Args:
        results: Of at least one codec and metric.
        title: Of the page; by default the media, and the codec compared.

    Raises:
        ValueError: If there is no codec or no metric.
        ResultsError: If the results do not fit together.
        UnsupportedError: If SciPy is missing.
    """
    results = Results.from_json(results.to_json())
    if not results.metrics:
        raise ValueError("The results have no metric")
    names = [codec.name for codec in results.codecs]
    subject = names.index(main_codec(results))
    others = [place for place in range(len(names)) if place != subject]
    classical = [place for place in others if results.codecs[place].facts.kind == "classical"]
    tables = {metric: bd_table(results, names[subject], metric) for metric in results.metrics}
    return View(
        results=results,
        title=title or f"{results.media.capitalize()} compression: rate and distortion of {names[subject]}",
        subject=subject,
        anchor=next(iter([*classical, *others, subject])),
        metrics=tuple(_metric_facts(name) for name in results.metrics),
        means={m: tuple(mean_curve(results, name, m) for name in names) for m in results.metrics},
        payloads=tuple(
            {p.quality: p.rate for p in mean_curve(results, name, results.metrics[0], payload=True)} for name in names
        ),
        tables=tables,
        comparisons={m: _comparisons(results, m, tables[m], subject) for m in results.metrics},
        equal={m: at_quality(results, m) for m in results.metrics},
        targets={m: equal_quality(results, m) for m in results.metrics},
        totals=tuple(_totals(results, name) for name in names),
        breakdowns=tuple(_breakdowns(results)),
    )


def _metric_facts(name: str) -> MetricFacts:
    from triode.eval.metrics import metric

    try:
        info = metric(name).info
    except ValueError:  # somebody's own
        return MetricFacts(name, name, "", True, 3, "")
    digits = (
        2 if info.unit == "dB" else 4 if info.high <= 1 else 2 if info.high > 10 and math.isfinite(info.high) else 3
    )
    return MetricFacts(name, info.title, info.unit, info.higher_is_better, digits, info.source)


def _comparisons(results: Results, metric: str, table: Sequence[BdRow], subject: int) -> tuple[Comparison, ...]:
    """Compare all pairs, or where they are many, by the main metric only."""
    places = {codec.name: place for place, codec in enumerate(results.codecs)}
    found = [
        _comparison(results, places[row.anchor], subject, row.summary.per_item) for row in table if not row.published
    ]
    pairs = [pair for pair in itertools.combinations(range(len(places)), 2) if subject not in pair]
    if metric == results.metrics[0] or len(pairs) * len(results.items) * len(results.metrics) <= FULL_MATRIX:
        names = list(places)
        for anchor, test in pairs:
            summary = bd_summary(results, names[anchor], names[test], metric)
            found.append(_comparison(results, anchor, test, summary.per_item))
    # The other way round, an item's rates change places in the same ratio.
    swapped = [
        _comparison(
            results,
            one.test,
            one.anchor,
            [
                (item.name, 100 * (1 / (1 + value / 100) - 1))
                for item, value in zip(results.items, one.items, strict=True)
                if value is not None and value > -100
            ],
        )
        for one in found
    ]
    return (*found, *swapped)


def _comparison(results: Results, anchor: int, test: int, per_item: Sequence[tuple[str, float]]) -> Comparison:
    values = [value for _, value in per_item]
    low, high = bootstrap_interval(values) or (None, None)
    of_item = dict(per_item)
    items = tuple(of_item.get(item.name) for item in results.items)
    return Comparison(anchor, test, fmean(values) if values else None, low, high, items)


def _totals(results: Results, codec: str) -> Totals:
    units = {item.name: item.units for item in results.items}
    mine = [m for m in results.measurements if m.codec == codec]
    done = [m for m in mine if m.error is None]
    amount = sum(units[m.item] for m in done) / (1e6 if results.media == "image" else 1)
    return Totals(
        sum(m.encode_seconds for m in done) / amount if done else None,
        sum(m.decode_seconds for m in done) / amount if done else None,
        max((m.peak_memory_bytes for m in done if m.peak_memory_bytes is not None), default=None),
        len(mine) - len(done),
    )


def _breakdowns(results: Results) -> list[Breakdown]:
    found = []
    for place, codec in enumerate(results.codecs):
        by_quality: dict[float, list[Measurement]] = {}
        for m in results.measurements:
            if m.codec == codec.name and m.parts:
                by_quality.setdefault(m.quality, []).append(m)
        names = tuple(dict.fromkeys(name for group in by_quality.values() for m in group for name in m.parts))
        if names:
            rows = (
                (quality, tuple(fmean(m.parts.get(name, 0) for m in group) for name in names))
                for quality, group in by_quality.items()
            )
            found.append(Breakdown(place, names, tuple(sorted(rows, key=lambda row: sum(row[1])))))
    return found


def page_data(view: View, groups: Sequence[Group]) -> dict[str, Any]:
    """Return what the page's script reads: the results in full, with measurements as rows, and what was worked out."""
    results = view.results
    plain = results.to_json()
    measurements = plain.pop("measurements")
    items = {item.name: place for place, item in enumerate(results.items)}
    codecs = {codec.name: place for place, codec in enumerate(results.codecs)}
    rows = [
        [
            items[m["item"]],
            codecs[m["codec"]],
            m["quality"],
            m["bytes"],
            m["payload_bytes"],
            m["encode_seconds"],
            m["decode_seconds"],
            m.get("peak_memory_bytes"),
            [m.get("metrics", {}).get(name, "") for name in results.metrics],  # null is not finite, "" not measured
            m.get("parts"),
            m.get("error"),
            m.get("sample"),
        ]
        for m in measurements
    ]
    return {
        "results": plain,
        "rows": rows,
        "title": view.title,
        "media": results.media,
        "rateUnit": results.rate_unit,
        "speedUnit": view.speed_unit,
        "subject": view.subject,
        "anchor": results.codecs[view.anchor].name,
        "hide": ",".join(view.hidden),
        "metrics": [
            {"name": m.name, "title": m.title, "unit": m.unit, "up": m.up, "digits": m.digits} for m in view.metrics
        ],
        "mean": {
            metric: [[[_short(p.rate), _short(p.value), p.quality, p.items] for p in curve] for curve in curves]
            for metric, curves in view.means.items()
        },
        "bd": {
            metric: [
                {
                    "anchor": one.anchor,
                    "test": one.test,
                    "mean": _short(one.mean),
                    "low": _short(one.low),
                    "high": _short(one.high),
                    "items": [_short(value) for value in one.items],
                }
                for one in pairs
            ]
            for metric, pairs in view.comparisons.items()
        },
        "equal": {
            metric: {
                "target": _short(view.targets[metric]),
                "points": [[_short(one.rate), *_per_unit(view, one)] for one in found if not one.published],
            }
            for metric, found in view.equal.items()
        },
        "samples": [
            {
                "item": group.item,
                "width": group.width,
                "height": group.height,
                "original": group.embedded[0].id,
                "levels": [
                    {
                        "name": level.name,
                        "target": _short(level.target),
                        "shown": [{"codec": one.codec, "row": one.row, "id": one.id} for one in level.shown],
                    }
                    for level in group.levels
                ],
            }
            for group in groups
        ],
    }


def _per_unit(view: View, one: AtQuality) -> list[float | None]:
    return [_short(view.per_unit / speed) if speed else None for speed in (one.encode_speed, one.decode_speed)]


def _short(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.6g}")


def to_script(data: Mapping[str, Any]) -> str:
    """Write data as JSON that may stand in an HTML script element: no text in it can end the element."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")

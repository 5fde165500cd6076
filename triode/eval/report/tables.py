"""The page's tables and headline numbers, in plain HTML that needs no script."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from triode.eval.report.data import Breakdown, Comparison, MetricFacts, View
from triode.eval.report.markup import DASH, THIN, Html, bytes_text, el, fixed, join, percent, plus, significant, table
from triode.eval.report.svg import Series, swatch
from triode.eval.summary import BdRow, BdSummary

__all__ = ["bd_tables", "breakdown_tables", "cards", "complexity_table", "failure_table", "matrices", "mean_tables"]

LISTED_FAILURES: Final = 500


def head(text: str, *, number: bool = False, sort: bool = True) -> Html:
    """Return the head of a column."""
    return el("th", text, scope="col", class_="number" if number else None, data_sort=None if sort else "no")


def cell(text: str, value: float | None = None, *, warn: bool = False) -> Html:
    """Return a cell with a number, which sorting reads in full."""
    known = value is not None and math.isfinite(value)
    return el("td", text, class_="number warn" if warn else "number", data_value=f"{value:.9g}" if known else "")


def codec_head(view: View, place: int) -> Html:
    """Return the head of a codec's row."""
    codec = view.results.codecs[place]
    sign = Html(swatch(Series(codec.name, place, ()), line=False))
    return el("th", sign, codec.name, scope="row", title=codec.facts.title, data_value=codec.name)


def cards(view: View) -> Html:
    """Return the headline numbers: the subject against each other codec by the main metric."""
    metric = view.metrics[0]
    made = []
    for row in view.tables[metric.name]:
        s = row.summary
        if row.published:
            continue
        value, note = s.percent, interval_text(s)
        if value is None and s.of_mean_curve is not None:
            value, note = s.of_mean_curve, "of the mean curves; items were refused"
        elif value is None:
            note = s.reasons[0][1] if s.reasons else "not measured"
        direction = "" if value is None else "fewer bits" if value < 0 else "more bits" if value > 0 else "as many bits"
        made.append(
            el(
                "li",
                el("span", join(["against ", el("strong", row.anchor)])),
                el("b", percent(value)),
                el("span", direction),
                el("small", note),
            )
        )
    return el("ul", *made, class_="cards") if made else el("p", "There is no other codec to compare with.")


def interval_text(s: BdSummary) -> str:
    """Say how sure a mean is."""
    total = s.items + s.refused
    of_items = f"{s.items} of {total} items" if s.refused else f"{total} item{'s' * (total != 1)}"
    if s.low is None or s.high is None:
        return of_items
    return f"95{THIN}% CI {fixed(s.low, 1)} to {fixed(s.high, 1)}, {of_items}"


def bd_tables(view: View) -> Html:
    """Return, for each metric, the BD-rates of the subject against the others."""
    return join(
        el("div", el("h3", metric.title), _bd_table(view, metric), data_metric=metric.name) for metric in view.metrics
    )


def _bd_table(view: View, metric: MetricFacts) -> Html:
    rows = view.tables[metric.name]
    if not rows:
        return el("p", "There is no other codec to compare with.", class_="caption")
    places = {codec.name: place for place, codec in enumerate(view.results.codecs)}
    values = [0.0]
    for row in rows:
        s = row.summary
        values += [v for v in (s.percent, s.low, s.high, s.of_mean_curve, *(v for _, v in s.per_item)) if v is not None]
    span = _span(values)
    gain = f"BD-gain, {metric.unit}" if metric.unit else "BD-gain"
    heads = [
        head("Against"),
        head("BD-rate", number=True),
        head(f"95{THIN}% CI", number=True, sort=False),
        head(f"Each item, {fixed(span[0], 0)} to {fixed(span[1], 0)}{THIN}%", sort=False),
        head(gain, number=True),
        head("Fewer bits on", number=True),
        head("Overlap", number=True),
        head("Refused", number=True),
    ]
    body = []
    for row in rows:
        first = codec_head(view, places[row.anchor]) if not row.published else _published_head(view, row)
        body.append(el("tr", first, *_bd_cells(row, metric, span)))
    return table(heads, body, f"BD-rate by {metric.title}", class_="sortable")


def _published_head(view: View, row: BdRow) -> Html:
    curves = [curve.name for curve in view.results.published]
    place = len(view.results.codecs) + curves.index(row.anchor)
    sign = Html(swatch(Series(row.anchor, place, (), dashed=True), line=False))
    return el("th", sign, row.anchor, el("small", " as published"), scope="row", title=row.title, data_value=row.anchor)


def _bd_cells(row: BdRow, metric: MetricFacts, span: tuple[float, float]) -> list[Html]:
    s = row.summary
    value = s.percent if s.percent is not None else s.of_mean_curve
    interval = f"{fixed(s.low, 1)} to {fixed(s.high, 1)}" if s.low is not None else DASH
    if s.percent is None and value is not None:
        interval = "of mean curves"
    better = sum(v < 0 for _, v in s.per_item)
    reasons = "\n".join(f"{item}: {reason}" for item, reason in s.reasons)
    return [
        cell(percent(value), value),
        el("td", interval, class_="number"),
        el("td", _strip(s, value, span)),
        cell(plus(s.gain, metric.digits), s.gain),
        cell(f"{better} of {s.items}" if s.items else DASH, better / s.items if s.items else None),
        cell(DASH if s.overlap is None else f"{100 * s.overlap:.0f}{THIN}%", s.overlap),
        el(
            "td",
            str(s.refused) if not row.published else DASH,
            class_="number",
            data_value=s.refused,
            title=reasons or None,
        ),
    ]


def _span(values: Sequence[float]) -> tuple[float, float]:
    """Return the ends of an axis for percentages: round, and not ruled by a few outliers."""
    ordered = sorted(v for v in values if math.isfinite(v))
    low, high = ordered[0], ordered[round(0.98 * (len(ordered) - 1))]
    step = 10 if high - low < 200 else 50
    return step * math.floor(low / step), max(step * math.ceil(high / step), step * math.floor(low / step) + step)


def _strip(s: BdSummary, mean: float | None, span: tuple[float, float]) -> Html:
    def x(value: float) -> str:
        return f"{min(100.0, max(0.0, 100 * (value - span[0]) / (span[1] - span[0]))):.1f}%"

    parts = [el("line", class_="zero", x1=x(0), x2=x(0), y1=0, y2=26)]
    parts += [el("circle", class_="dot", cx=x(value), cy=13, r=2.6) for _, value in s.per_item if math.isfinite(value)]
    if s.low is not None and s.high is not None:
        parts.append(el("line", class_="interval", x1=x(s.low), x2=x(s.high), y1=13, y2=13))
    if mean is not None:
        parts.append(el("circle", class_="mean", cx=x(mean), cy=13, r=4.5))
    return el("svg", *parts, class_="strip", role="img", aria_label=f"mean {percent(mean)}")


def matrices(view: View) -> Html:
    """Return, for each metric, the BD-rate of every codec (rows) against every other (columns)."""
    made = []
    for metric in view.metrics:
        found = {(one.test, one.anchor): one for one in view.comparisons[metric.name]}
        codecs = view.results.codecs
        if any((a, b) not in found for a in range(len(codecs)) for b in range(len(codecs)) if a != b):
            note = el("p", "All pairs are compared by the main metric only, as there are many items.", class_="caption")
            made.append(el("div", el("h3", metric.title), note, data_metric=metric.name))
            continue
        heads = [el("th", "codec \\ against", scope="col"), *(el("th", codec.name, scope="col") for codec in codecs)]
        rows = [
            el(
                "tr",
                codec_head(view, test),
                *(_matrix_cell(found.get((test, anchor))) for anchor in range(len(codecs))),
            )
            for test in range(len(codecs))
        ]
        label = f"BD-rate in % of each codec against each other, by {metric.title}"
        made.append(
            el("div", el("h3", metric.title), table(heads, rows, label, class_="matrix"), data_metric=metric.name)
        )
    return join(made)


def _matrix_cell(one: Comparison | None) -> Html:
    if one is None or one.mean is None:
        return el("td", "·" if one is None else DASH)
    shade = min(5, math.ceil(abs(math.log1p(one.mean / 100)) / math.log(2) * 5)) if one.mean > -100 else 5
    return el("td", percent(one.mean, 0), class_=f"{'less' if one.mean < 0 else 'more'} shade{shade}")


def complexity_table(view: View) -> Html:
    """Return what each codec computes and how long it takes."""
    metric = view.metrics[0]
    target = view.targets[metric.name]
    equal = {one.codec: one for one in view.equal[metric.name] if not one.published}
    kmac = f"kMAC/{'pixel' if view.results.media != 'audio' else 'sample'}"
    heads = [
        head("Codec"),
        head("Kind"),
        head(f"Encode, {view.speed_unit}", number=True),
        head(f"Decode, {view.speed_unit}", number=True),
        head("Peak memory", number=True),
        head("Parameters", number=True),
        head(f"Encode, {kmac}", number=True),
        head(f"Decode, {kmac}", number=True),
    ]
    if target is not None:
        at = f"{fixed(target, metric.digits)}{THIN}{metric.unit}".strip()
        heads.insert(2, head(f"{view.results.rate_unit} at {at}", number=True))
    rows = []
    for place, (codec, totals) in enumerate(zip(view.results.codecs, view.totals, strict=True)):
        facts = codec.facts
        cells = [
            cell(significant(totals.encode), totals.encode),
            cell(significant(totals.decode), totals.decode),
            cell(DASH if totals.peak is None else bytes_text(totals.peak), totals.peak),
            cell(DASH if facts.parameters is None else _count(facts.parameters), facts.parameters),
            cell(significant(facts.encode_kmac), facts.encode_kmac),
            cell(significant(facts.decode_kmac), facts.decode_kmac),
        ]
        if target is not None:
            rate = equal[codec.name].rate
            cells.insert(0, cell(significant(rate), rate))
        rows.append(el("tr", codec_head(view, place), el("td", facts.kind), *cells))
    return table(heads, rows, "Complexity and speed", class_="sortable")


def _count(value: int) -> str:
    return f"{significant(value / 1e6)}{THIN}M" if value >= 1e6 else f"{value:,}"


def breakdown_tables(view: View) -> Html:
    """Return, for each codec that tells, the mean bytes of its files by part, as bars; the subject's are open."""
    made = []
    for one in sorted(view.breakdowns, key=lambda one: one.codec != view.subject):
        shown = one.codec == view.subject or len(view.breakdowns) == 1
        name = view.results.codecs[one.codec].name
        made.append(el("details", el("summary", name), *_breakdown(view, one), open=shown))
    return join(made)


def _breakdown(view: View, one: Breakdown) -> list[Html]:
    most = max(sum(sizes) for _, sizes in one.rows) or 1
    key = el("ul", *(el("li", el("i", class_=f"part{n % 6}"), name) for n, name in enumerate(one.names)), class_="key")
    heads = [
        head("Quality", number=True, sort=False),
        head("Mean bytes of a file", sort=False),
        *(head(name, number=True, sort=False) for name in one.names),
        head("File", number=True, sort=False),
    ]
    rows = []
    for quality, sizes in one.rows:
        total, start, bars = sum(sizes), 0.0, []
        for n, (name, size) in enumerate(zip(one.names, sizes, strict=True)):
            width = 100 * size / most
            tip = el("title", f"{name}: {bytes_text(size)}, {100 * size / (total or 1):.1f} %")
            bars.append(
                el("rect", tip, class_=f"part{n % 6}", x=f"{start:.2f}%", width=f"{width:.2f}%", y=0, height=18)
            )
            start += width
        bar = el("svg", *bars, class_="bar", role="img", aria_label=f"quality {quality:g}: {bytes_text(total)}")
        shares = (cell(f"{size:,.0f} ({100 * size / (total or 1):.1f}{THIN}%)", size) for size in sizes)
        rows.append(
            el(
                "tr",
                el("th", f"{quality:g}", scope="row", class_="number"),
                el("td", bar),
                *shares,
                cell(f"{total:,.0f}", total),
            )
        )
    name = view.results.codecs[one.codec].name
    return [key, table(heads, rows, f"Parts of the files of {name}")]


def mean_tables(view: View) -> Html:
    """Return the mean operating points of every codec, with all metrics."""
    pooled = [m for m in view.metrics if any(p.pooled is not None for c in view.means[m.name] for p in c)]
    heads = [
        head("Codec"),
        head("Quality", number=True),
        head(f"Rate, {view.results.rate_unit}", number=True),
        head(f"Payload, {view.results.rate_unit}", number=True),
        *(head(f"{m.title}{f', {m.unit}' if m.unit else ''}", number=True) for m in view.metrics),
        *(head(f"{m.title} of mean MSE, {m.unit}", number=True) for m in pooled),
        head("Items", number=True),
    ]
    rows = []
    for place in range(len(view.results.codecs)):
        curves = {m.name: {p.quality: p for p in view.means[m.name][place]} for m in view.metrics}
        points = {quality: point for curve in curves.values() for quality, point in curve.items()}
        for quality, point in sorted(points.items(), key=lambda pair: pair[1].rate):
            payload = view.payloads[place].get(quality)
            values = [(m, curves[m.name].get(quality)) for m in view.metrics]
            both = [(m, p) for m, p in values if m in pooled]
            rows.append(
                el(
                    "tr",
                    codec_head(view, place),
                    cell(f"{quality:g}", quality),
                    cell(significant(point.rate), point.rate),
                    cell(significant(payload), payload),
                    *(cell(fixed(p.value, m.digits) if p else DASH, p.value if p else None) for m, p in values),
                    *(cell(fixed(p.pooled, m.digits) if p else DASH, p.pooled if p else None) for m, p in both),
                    cell(str(point.items), point.items),
                )
            )
    return table(heads, rows, "Mean over items at each operating point", class_="sortable")


def failure_table(view: View) -> Html:
    """Return every failure, plainly, and what could not be measured."""
    failed = [m for m in view.results.measurements if m.error is not None]
    total = len(view.results.measurements)
    notes = view.results.notes
    unmeasured = [el("ul", join([el("li", note) for note in notes]))] if notes else []
    if not failed:
        return join([el("p", f"None: all {total:,} measurements succeeded."), *unmeasured])
    heads = [head("Item"), head("Codec"), head("Quality", number=True), head("Error", sort=False)]
    rows = [
        el("tr", el("td", m.item), el("td", m.codec), cell(f"{m.quality:g}", m.quality), el("td", m.error))
        for m in failed[:LISTED_FAILURES]
    ]
    more = len(failed) - len(rows)
    note = f" The first {LISTED_FAILURES} are listed; the rest are in the data." if more else ""
    return join(
        [
            el(
                "p", f"{len(failed):,} of {total:,} measurements failed and are left out of all curves and means.{note}"
            ),
            table(heads, rows, "Failed measurements", class_="sortable"),
            *unmeasured,
        ]
    )

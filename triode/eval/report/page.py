"""The page: its sections, its script and style inside it, and nothing outside of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from string import Template
from typing import Final

from triode.eval.report import tables
from triode.eval.report.data import View, page_data, to_script
from triode.eval.report.markup import DASH, THIN, TIMES, Html, bytes_text, el, fixed, join, significant
from triode.eval.report.samples import Embedded, Group, Samples
from triode.eval.report.style import asset, digest, style_sheet
from triode.eval.report.svg import Series, line_chart, swatch
from triode.version import __version__

__all__ = ["make_page"]

SCRIPTS: Final = (
    "core.js",
    "scales.js",
    "chart.js",
    "sections.js",
    "tables.js",
    "samples.js",
    "viewer.js",
    "listener.js",
    "report.js",
)
EARLY: Final = (
    'document.documentElement.classList.add("js");'
    'addEventListener("error",(e)=>{document.documentElement.dataset.error=e.message});'
    'addEventListener("unhandledrejection",(e)=>{document.documentElement.dataset.error=String(e.reason)});'
    "{const t=/[#&](?:theme=)?(dark|light)(?:&|$)/.exec(location.hash);"
    "if(t)document.documentElement.dataset.theme=t[1]}"
)
"""Runs before anything is painted, so that nothing moves or changes colour afterwards."""
_PLURAL: Final = {"image": "images", "audio": "recordings", "video": "clips"}


def make_page(view: View, samples: Samples) -> str:
    """Return the page, whole: data, style, script and samples are inside, and its policy forbids any connection."""
    script = "(() => {\n'use strict';\n" + "\n".join(map(asset, SCRIPTS)) + "})();\n"
    style = style_sheet()
    policy = (
        f"default-src 'none'; script-src {digest(EARLY)} {digest(script)}; style-src {digest(style)}; "
        "img-src data:; media-src data:; base-uri 'none'; form-action 'none'"
    )
    sections = [*_sections(view, samples)]
    return Template(asset("report.html")).substitute(
        policy=policy,
        generator=f"triode {__version__}",
        title=el("x", view.title)[3:-4],
        style=style,
        early=EARLY,
        lead=_lead(view),
        facts=_facts(view),
        links="\n".join(el("li", el("a", short, href=f"#{name}")) for name, short, _, _ in sections),
        sections="\n".join(
            el(
                "section",
                el("h2", title, id=f"{name}-title"),
                body,
                id=name,
                tabindex=-1,
                aria_labelledby=f"{name}-title",
            )
            for name, _, title, body in sections
        ),
        colophon=f"Made by triode {__version__} from results of schema triode-bench/1. This file needs no network.",
        data=to_script(page_data(view, samples.groups)),
        script=script,
    )


def _sections(view: View, samples: Samples) -> Iterable[tuple[str, str, str, Html]]:
    """Yield the sections as identifier, name in the bar, title and body."""
    metric = view.metrics[0]
    subject = view.results.codecs[view.subject].name
    yield "summary", "Summary", f"{subject} at equal {metric.title}", _summary(view)
    yield "rd", "Curves", "Rate and distortion", _curves(view)
    yield "bd", "BD-rate", "BD-rate", _bd(view)
    yield "speed", "Speed", "Speed and rate at equal quality", _speed(view)
    if len(view.results.items) > 1 and len(view.results.codecs) > 1:
        yield "items", "Items", "Item by item", _items(view)
    if view.breakdowns:
        yield "parts", "Parts", "What the files are made of", _parts(view)
    if samples.groups or samples.notes:
        name, title = (
            ("Listen", "Listening at matched rate") if samples.kind == "audio" else ("Look", "Samples at matched rate")
        )
        yield "samples", name, title, _samples(view, samples)
    yield "failures", "Failures", "Failures", tables.failure_table(view)
    yield "data", "Data", "Measurements", _data(view)
    yield "provenance", "Provenance", "Provenance", _provenance(view)


def _lead(view: View) -> Html:
    r = view.results
    items = f"{len(r.items)} {_PLURAL[r.media]}" if len(r.items) != 1 else f"One {_PLURAL[r.media][:-1]}"
    codecs = f"{len(r.codecs)} codecs" if len(r.codecs) != 1 else "one codec"
    return el(
        "p",
        f"{items} through {codecs}, {len(r.measurements):,} measurements. Rates are those of whole files, as written "
        "to disk; times are of one thread.",
        class_="lead",
    )


def _facts(view: View) -> Html:
    p = view.results.provenance
    machine = ", ".join(
        f"{value} {name.removesuffix('s') if value == '1' else name}" if value.isdecimal() else value
        for name, value in p.machine.items()
    )
    facts = (
        ("Measured", _time(p.created)),
        ("Triode", p.triode),
        ("Machine", machine or "not recorded"),
        ("Run", p.engine),
    )
    pairs = [el("div", el("dt", name), el("dd", value)) for name, value in facts]
    return el("dl", *pairs, el("div", el("dt", "Command"), el("dd", el("code", p.command))), class_="facts")


def _time(text: str) -> str:
    """Write a UTC time in ISO 8601 for people; anything else stays as it is."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return text
    return time.strftime("%Y-%m-%d %H:%M UTC") if time.utcoffset() == timedelta(0) else text


def _summary(view: View) -> Html:
    text = (
        "BD-rate: how many more or fewer bits it takes for the same quality, averaged over the range of quality that "
        "both curves reach, then over the items. Intervals are over items."
    )
    return join([el("p", text, class_="caption"), tables.cards(view)])


def _curves(view: View) -> Html:
    r, metric = view.results, view.metrics[0]
    series = [
        Series(
            codec.name,
            place,
            [(p.rate, p.value) for p in view.means[metric.name][place]],
            subject=place == view.subject,
        )
        for place, codec in enumerate(r.codecs)
    ]
    series += [
        Series(curve.name, len(r.codecs) + place, curve.points.get(metric.name, ()), dashed=True)
        for place, curve in enumerate(r.published)
        if curve.name not in view.hidden
    ]
    chart = line_chart(
        series, x_label=f"rate in {r.rate_unit}", title=f"{metric.title} against rate, mean of all items"
    )
    legend = (
        el("span", Html(swatch(one)), el("span", one.name, el("small", " as published" if one.dashed else "")))
        for one in series
    )
    way = "higher" if metric.up else "lower"
    axis = f"{metric.title}{f', {metric.unit}' if metric.unit else ''} {DASH} {way} is better"
    hint = (
        "Points are operating points that were measured. Hover, tap or use the arrow keys for their values; drag to "
        "zoom; click a name to switch it off, with Shift to see it alone."
    )
    published = [
        el(
            "p",
            "Dashed curves are as published by others and were not measured here; see the provenance.",
            class_="caption",
        )
    ]
    return join(
        [
            el("div", id="rd-controls", class_="controls script"),
            el("p", axis, class_="axis", id="rd-axis"),
            el(
                "figure",
                el("div", Html(chart), class_="plot-box", id="rd-plot"),
                el("div", *legend, class_="legend", role="group", aria_label="Curves", id="rd-legend"),
                class_="chart aside",
            ),
            el("p", hint, class_="caption script hint"),
            *(published if r.published else ()),
        ]
    )


def _bd(view: View) -> Html:
    subject = view.results.codecs[view.subject].name
    text = (
        f"Rate of {subject} over that of each other codec at equal quality, less one: below zero, {subject} needs "
        "fewer bits. Curves are interpolated by PCHIP over the logarithm of the rate (Bjøntegaard, VCEG-M33), item by "
        "item. Dots are items; the bar is the 95 % interval of their mean by bootstrap. Items whose curves have fewer "
        "than 4 points or share less than half of their range are refused and counted."
    )
    return join(
        [
            el("p", text, class_="caption"),
            el("div", class_="controls script", data_metric_choice=True),
            tables.bd_tables(view),
            el(
                "details",
                el("summary", "Every codec against every other"),
                el("p", "Rows are compared with columns: below zero, the row needs fewer bits.", class_="caption"),
                tables.matrices(view),
            )
            if len(view.results.codecs) > 2
            else None,
        ]
    )


def _speed(view: View) -> Html:
    box = [
        el(
            "figure",
            el("div", class_="plot-box", id=f"speed-{which}"),
        )
        for which in ("encode", "decode")
    ]
    unit = "seconds for a megapixel" if view.results.media == "image" else "seconds of work for a second of media"
    note = (
        f"Charts show time and rate at one quality, interpolated between operating points; the table's times are means "
        f"over all measurements, in {unit}. Memory is the peak over all measurements."
    )
    return join(
        [
            el("div", id="speed-controls", class_="controls script", data_metric_choice=True),
            el("p", class_="axis script", id="speed-axis"),
            el("div", *box, class_="pair script", id="speed-plots"),
            el("div", class_="legend script", role="group", aria_label="Codecs", data_published="no"),
            tables.complexity_table(view),
            el("p", note, class_="caption"),
        ]
    )


def _items(view: View) -> Html:
    text = (
        "BD-rate of each item in %. Below the line a codec needs fewer bits than the one compared with. Click a point "
        "for the item's curves."
    )
    return join(
        [
            el("p", text, class_="caption"),
            el("div", id="items-controls", class_="controls script", data_metric_choice=True),
            el("figure", el("div", class_="plot-box low", id="items-plot"), class_="script"),
            el("div", class_="legend script", role="group", aria_label="Codecs", data_published="no"),
            Html(
                '<noscript><p class="caption">This chart needs JavaScript; the table of BD-rates has its values as '
                "dots.</p></noscript>"
            ),
        ]
    )


def _parts(view: View) -> Html:
    return join(
        [el("p", "Mean over items of the bytes of a file, by part.", class_="caption"), tables.breakdown_tables(view)]
    )


def _samples(view: View, samples: Samples) -> Html:
    sound = samples.kind == "audio"
    what = (
        "At each level, every codec plays the operating point whose rate is nearest to the level's. All run at once, "
        "so switching keeps the position. Keys: Space plays, 1 to 9 and the arrows choose."
        if sound
        else "At each level, every codec shows the operating point whose rate is nearest to the level's; rates and "
        "quality are of the whole item. Hold the picture or Space for the original; keys 1 to 9 and the arrows choose."
    )
    parts: list[Html] = [el("p", what, class_="caption script hint")]
    if samples.groups:
        parts.append(
            el("div", id="listener" if sound else "viewer", class_="script " + ("listener" if sound else "viewer"))
        )
        parts.append(
            el(
                "div",
                *(_sample_set(view, group, place, sound=sound) for place, group in enumerate(samples.groups)),
                class_="gallery",
            )
        )
    cuts = Counter(group.cut for group in samples.groups if group.cut)
    parts += [el("p", f"Shown: {cut}.", class_="caption") for cut in cuts]
    parts += [el("p", note, class_="caption") for note in samples.notes[:20]]
    return join(parts)


def _sample_set(view: View, group: Group, place: int, *, sound: bool) -> Html:
    levels: dict[str, list[str]] = {}
    for level in group.levels:
        for one in level.shown:
            levels.setdefault(one.id, []).append(level.name)
    figures = [_sample(view, group, one, " ".join(levels.get(one.id, ())), sound=sound) for one in group.embedded]
    return el("div", el("h3", group.item), el("div", *figures, class_="set"), class_="item", data_group=place)


def _sample(view: View, group: Group, one: Embedded, levels: str, *, sound: bool) -> Html:
    if one.row is None:
        text = "original"
    else:
        m = view.results.measurements[one.row]
        metric = view.metrics[0]
        value = m.metrics.get(metric.name)
        quality = "" if value is None else f", {metric.title} {fixed(value, metric.digits)}{THIN}{metric.unit}"
        rate = f"{significant(view.results.rate(m))}{THIN}{view.results.rate_unit}"
        text = f"{m.codec}, quality {m.quality:g}: {bytes_text(m.bytes)}, {rate}{quality}"
    if sound:
        media = el("audio", id=one.id, src=one.uri, controls=True, preload="none")
    else:
        media = el("img", id=one.id, src=one.uri, alt=f"{group.item}, {text}", width=group.width, height=group.height)
    return el("figure", media, el("figcaption", text), data_levels=levels or None)


def _data(view: View) -> Html:
    return join(
        [
            el("div", id="downloads", class_="controls script"),
            Html("<noscript><p>All measurements are in <code>results.json</code>, beside this page.</p></noscript>"),
            el("details", el("summary", "Every measurement"), el("div", id="rows"), class_="script"),
            el(
                "details",
                el("summary", "Mean over items at each operating point"),
                tables.mean_tables(view),
                open=True,
            ),
        ]
    )


def _definitions(pairs: Iterable[tuple[str, str | Html]]) -> Html:
    return el("dl", *(one for name, value in pairs for one in (el("dt", name), el("dd", value))), class_="defs")


def _provenance(view: View) -> Html:
    r, p = view.results, view.results.provenance
    run = [("Command", el("code", p.command)), ("Created", p.created), ("Triode", p.triode), ("Engine", p.engine)]
    run += [("Seed", str(p.seed)), *((name.capitalize(), value) for name, value in p.machine.items())]
    run.append(("Versions", ", ".join(f"{name} {version}" for name, version in p.versions.items()) or "not recorded"))
    codecs = []
    for codec in r.codecs:
        facts = codec.facts
        lines = [facts.title, f"qualities {', '.join(f'{q:g}' for q in codec.qualities)}"]
        if facts.options:
            lines.append("options " + ", ".join(f"{name}={value}" for name, value in facts.options.items()))
        if facts.versions:
            lines.append(", ".join(f"{name} {version}" for name, version in facts.versions.items()))
        digest_of = el("span", " weights ", facts.digest, class_="digest") if facts.digest else None
        codecs.append((codec.name, join(["; ".join(lines), digest_of])))
    metrics = [
        (m.title, f"{m.source or 'as measured by the caller'}; {'higher' if m.up else 'lower'} is better")
        for m in view.metrics
    ]
    published = [
        (curve.name, "; ".join(filter(None, (curve.title, curve.dataset, curve.source, curve.licence))))
        for curve in r.published
    ]
    items = [
        (item.name, el("span", f"{TIMES.join(map(str, item.shape))}, SHA-256 {item.sha256}", class_="digest"))
        for item in r.items
    ]
    parts = [_definitions(run), el("h3", "Codecs"), _definitions(codecs), el("h3", "Metrics"), _definitions(metrics)]
    if published:
        parts += [el("h3", "Published curves"), _definitions(published)]
    parts.append(el("details", el("summary", f"Digests of the {len(items)} items"), _definitions(items)))
    return join(parts)

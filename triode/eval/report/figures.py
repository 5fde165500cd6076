"""Figures for papers, as SVG and PNG: curves, items, speed and parts, in the page's colours and markers."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from triode.errors import UnsupportedError
from triode.eval.report.data import Breakdown, MetricFacts, View
from triode.eval.report.style import MARKERS, PALETTE
from triode.eval.results import Measurement
from triode.io.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["write_figures"]

STYLE: Final[Mapping[str, Any]] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e4e8ed",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "axes.edgecolor": "#8a94a0",
    "axes.linewidth": 0.7,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.5,
    "lines.markeredgecolor": "white",
    "lines.markeredgewidth": 0.5,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.hashsalt": "triode",  # the same results give the same file
    "svg.fonttype": "path",
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
}

_CLIPS = 12  # more are not looked at one by one
_LONG_NAME = 14  # characters; of such names no four stand side by side


def write_figures(view: View, folder: Path) -> list[Path]:
    """Write all figures.

    Args:
        view: What the page shows.
        folder: Made if it is not there; files of the same names are replaced.

    Returns:
        The files: for each metric ``rd-METRIC`` and ``items-METRIC``; ``speed``; ``parts-CODEC`` of codecs that are not
        classical; ``frames-ITEM`` of the first clips; each as ``.svg`` and ``.png``.

    Raises:
        UnsupportedError: If matplotlib is missing.
        OSError: If a file cannot be written.
    """
    try:
        import matplotlib
    except ImportError:
        raise UnsupportedError("Figures need matplotlib: pip install 'triode[bench]'") from None
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    style: Any = dict(STYLE)
    with matplotlib.rc_context(style):
        for name, figure in _figures(view):
            for ending, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
                data = io.BytesIO()
                figure.savefig(data, format=ending, dpi=200, metadata=metadata, bbox_inches="tight")
                path = folder / f"{name}.{ending}"
                with atomic_write(path, overwrite=True) as file:
                    file.write(data.getvalue())
                written.append(path)
    return written


def _figures(view: View) -> Iterator[tuple[str, Figure]]:
    for metric in view.metrics:
        yield f"rd-{_file_name(metric.name)}", _curves(view, metric)
        if any(value is not None for one in view.comparisons[metric.name] for value in one.items):
            yield f"items-{_file_name(metric.name)}", _items(view, metric)
    yield "speed", _speed(view)
    for one in view.breakdowns:
        if view.results.codecs[one.codec].facts.kind == "classical" and one.codec != view.subject:
            continue
        yield f"parts-{_file_name(view.results.codecs[one.codec].name)}", _parts(view, one)
    for item in view.results.items[:_CLIPS]:
        if chosen := _alike(view, item.name):
            yield f"frames-{_file_name(item.name)}", _frames(chosen)


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "x"


def _printable(text: str) -> str:
    """Replace what no font or file can hold: halves of surrogate pairs and control characters."""
    return "".join(c if c.isprintable() and not 0xD800 <= ord(c) < 0xE000 else "?" for c in text)


def _axes(width: float = 4.8, height: float = 3.5) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _look(place: int) -> dict[str, Any]:
    return {"color": PALETTE[place % len(PALETTE)], "marker": MARKERS[place % len(MARKERS)]}


def _legend(owner: Axes | Figure, handles: list[Any], names: list[str], **options: Any) -> None:
    """Add a legend; matplotlib leaves out labels that start with an underscore, so names are set afterwards."""
    if handles:
        legend = owner.legend(handles, [str(place) for place in range(len(names))], **options)
        for text, name in zip(legend.get_texts(), names, strict=True):
            text.set_text(_printable(name))


def _label(metric: MetricFacts) -> str:
    return _printable(f"{metric.title}{f' [{metric.unit}]' if metric.unit else ''}")


def _curves(view: View, metric: MetricFacts) -> Figure:
    figure, axes = _axes()
    handles, names = [], []
    for place, (codec, curve) in enumerate(zip(view.results.codecs, view.means[metric.name], strict=True)):
        if curve:
            bold: dict[str, Any] = {"linewidth": 2, "zorder": 3} if place == view.subject else {}
            handles += axes.plot([p.rate for p in curve], [p.value for p in curve], **_look(place), **bold)
            names.append(codec.name)
    for place, published in enumerate(view.results.published, len(view.results.codecs)):
        points = published.points.get(metric.name, ())
        if points and published.name not in view.hidden:
            colour = PALETTE[place % len(PALETTE)]
            look = {
                **_look(place),
                "linestyle": "--",
                "linewidth": 1,
                "markerfacecolor": "white",
                "markeredgecolor": colour,
            }
            handles += axes.plot(*zip(*points, strict=True), **look)
            names.append(f"{published.name} (as published)")
    axes.set_xlabel(f"Rate [{view.results.rate_unit}]")
    axes.set_ylabel(_label(metric))
    # Below the axes, where it covers no curve however many there are.
    columns = 2 if max(map(len, names), default=0) > _LONG_NAME else 4
    figure.set_figheight(figure.get_figheight() + 0.18 * -(-len(names) // columns))
    _legend(figure, handles, names, loc="outside lower center", ncols=columns)
    return figure


def _items(view: View, metric: MetricFacts) -> Figure:
    """Draw the BD-rates of the subject: a dot for each item, the mean with its interval."""
    found = [one for one in view.comparisons[metric.name] if one.test == view.subject]
    rows = [(one, one.mean) for one in found if one.mean is not None]
    figure, axes = _axes(4.8, 0.8 + 0.38 * max(2, len(rows)))
    for height, (one, mean) in enumerate(reversed(rows)):
        values = [value for value in one.items if value is not None]
        axes.plot(values, [height] * len(values), "o", color="#59636f", alpha=0.45, markersize=3.5, markeredgewidth=0)
        if one.low is not None and one.high is not None:
            axes.plot([one.low, one.high], [height, height], color=PALETTE[0], linewidth=2, solid_capstyle="butt")
        axes.plot([mean], [height], "D", color=PALETTE[0], markersize=5)
    axes.axvline(0, color="#59636f", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [_printable(view.results.codecs[one.anchor].name) for one, _ in reversed(rows)])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel(_printable(f"BD-rate of {view.results.codecs[view.subject].name} by {metric.title} [%]"))
    return figure


def _speed(view: View) -> Figure:
    from matplotlib.figure import Figure

    metric = view.metrics[0]
    figure = Figure(figsize=(6.8, 3.2), layout="constrained")
    both = figure.subplots(1, 2, sharey=True)
    for axes, which in zip(both, ("encode", "decode"), strict=True):
        shown = False
        for place, one in enumerate(found for found in view.equal[metric.name] if not found.published):
            speed = one.encode_speed if which == "encode" else one.decode_speed
            if one.rate is not None and speed:
                axes.plot([view.per_unit / speed], [one.rate], linestyle="", **{**_look(place), "markersize": 7})
                axes.annotate(
                    _printable(one.codec), (view.per_unit / speed, one.rate), (5, 4), textcoords="offset points"
                )
                shown = True
        if shown:
            axes.set_xscale("log")
            axes.margins(x=0.2, y=0.12)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.xaxis.set_minor_formatter(lambda *_: "")
        axes.set_xlabel(f"Time to {which} [{view.speed_unit}]")
    target = view.targets[metric.name]
    at = "" if target is None else f" at {metric.title} {target:.{metric.digits}f} {metric.unit}".rstrip()
    both[0].set_ylabel(_printable(f"Rate{at} [{view.results.rate_unit}]"))
    return figure


def _parts(view: View, one: Breakdown) -> Figure:
    figure, axes = _axes(4.8, 0.9 + 0.3 * max(2, len(one.rows)))
    colours = [PALETTE[n] for n in (4, 1, 0, 2, 5, 3)]
    starts = [0.0] * len(one.rows)
    handles = []
    for n, _ in enumerate(one.names):
        sizes = [row[1][n] for row in one.rows]
        handles.append(axes.barh(range(len(one.rows)), sizes, left=starts, height=0.7, color=colours[n % len(colours)]))
        starts = [start + size for start, size in zip(starts, sizes, strict=True)]
    axes.set_yticks(range(len(one.rows)), [f"{quality:g}" for quality, _ in one.rows])
    axes.set_ylabel("Quality")
    axes.set_xlabel(_printable(f"Mean bytes of a file of {view.results.codecs[one.codec].name}"))
    axes.grid(visible=False, axis="y")
    if math.fsum(starts) > 0:
        _legend(axes, handles, list(one.names), loc="lower right")
    return figure


def _alike(view: View, item: str) -> list[tuple[int, Measurement]]:
    """Return of each codec the measurement of a clip whose rate is nearest to the middle one of the subject.

    Only those with what each frame is like; none where the subject has none.
    """
    known = [m for m in view.results.measurements if m.item == item and m.frame_psnr]
    names = [codec.name for codec in view.results.codecs]
    own = sorted(m.bytes for m in known if m.codec == names[view.subject])
    if not own:
        return []
    found = []
    for place, name in enumerate(names):
        mine = [m for m in known if m.codec == name]
        if mine:
            found.append((place, min(mine, key=lambda m: abs(math.log(m.bytes / own[len(own) // 2])))))
    return found


def _frames(chosen: list[tuple[int, Measurement]]) -> Figure:
    """Draw what each frame of a clip takes, where the codec tells, and its quality, over time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.8, 4.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    handles, names = [], []
    for place, m in chosen:
        look = {"color": PALETTE[place % len(PALETTE)], "linewidth": 1}
        if m.frame_bytes:
            upper.plot([8 * size / 1000 for size in m.frame_bytes], **look)
        handles += lower.plot(m.frame_psnr, **look)
        names.append(f"{m.codec} at {m.quality:g}")
    upper.set_ylabel("Bits of a frame [1000]")
    upper.set_ylim(0, 1.08 * max((8 * max(m.frame_bytes) / 1000 for _, m in chosen if m.frame_bytes), default=1))
    lower.set_ylabel("PSNR of luma [dB]")
    lower.set_xlabel(_printable(f"Frame of {chosen[0][1].item}"))
    _legend(figure, handles, names, loc="outside lower center", ncols=3)
    return figure

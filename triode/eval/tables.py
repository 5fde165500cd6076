"""Tables of results in Markdown, with columns set so that they read well on a terminal too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from triode.eval.results import Measurement, Results
from triode.eval.summary import AtQuality, BdRow, at_quality, bd_table, equal_quality, main_codec, mean_curve

__all__ = ["bd_markdown", "curve_markdown", "failures", "markdown", "speed_markdown", "summary_text"]

_NOTHING: Final = "-"
_SHOWN_FAILURES: Final = 20
_SIDES_OF_CLIP: Final = 3


def markdown(rows: Sequence[Sequence[str]], right: str) -> str:
    """Set a Markdown table, its columns padded to one width.

    Args:
        rows: Equally many cells each; the first row is the head.
        right: A letter a column, ``r`` where it is set flush right and ``l`` where left.

    Returns:
        Lines without a newline at the end.
    """
    safe = [[" ".join(cell.replace("|", "\\|").split()) for cell in row] for row in rows]
    widths = [max(3, *(len(row[place]) for row in safe)) for place in range(len(right))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if side == "r" else cell.ljust(width)
            for cell, width, side in zip(cells, widths, right, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    rule = ("-" * (width - 1) + ":" if side == "r" else "-" * width for width, side in zip(widths, right, strict=True))
    return "\n".join([line(safe[0]), line(list(rule)), *map(line, safe[1:])])


def bd_markdown(results: Results, metric: str | None = None, test: str | None = None, *, payload: bool = False) -> str:
    """Return the table of BD-rates of a codec against all others and the published curves.

    Args:
        results: The results.
        metric: Name of the metric that is quality; None for the main one.
        test: Name of the codec; None for that of :func:`triode.eval.summary.main_codec`.
        payload: Whether to count what carries the medium alone, and not the whole file.

    Raises:
        ValueError: If there is no such codec or metric.
        UnsupportedError: If SciPy is missing.
    """
    metric, test = _metric(results, metric), test or main_codec(results)
    head = (f"{test} against", f"BD-rate, {metric}", "95 % interval", "of mean curves", "gain", "items", "overlap")
    rows = [_bd_row(row) for row in bd_table(results, test, metric, payload=payload)]
    return markdown([head, *rows], "lrrrrrr")


def _bd_row(row: BdRow) -> tuple[str, ...]:
    s = row.summary
    interval = _NOTHING if s.low is None or s.high is None else f"{s.low:+.1f} to {s.high:+.1f} %"
    items = "published" if row.published else f"{s.items} of {s.items + s.refused}" if s.refused else str(s.items)
    overlap = _NOTHING if s.overlap is None else f"{100 * s.overlap:.0f} %"
    return row.title, _percent(s.percent), interval, _percent(s.of_mean_curve), _number(s.gain, "+.2f"), items, overlap


def speed_markdown(results: Results, metric: str | None = None, target: float | None = None) -> str:
    """Return the table of rate and speed of all codecs at equal quality.

    Args:
        results: The results.
        metric: Name of the metric that is quality; None for the main one.
        target: Its value; None for that of :func:`triode.eval.summary.equal_quality`.

    Raises:
        ValueError: If there is no such metric.
        UnsupportedError: If SciPy is missing.
    """
    metric = _metric(results, metric)
    target = equal_quality(results, metric) if target is None else target
    unit, scale = ("Mpx/s", 1e-6) if results.media == "image" else ("x real time", 1.0)
    if results.media == "video" and all(len(item.shape) == _SIDES_OF_CLIP for item in results.items):
        # Width, height, frames: clips in one report may differ in their rates, and the mean is over all of them.
        unit = "frames/s"
        scale = sum(item.shape[2] for item in results.items) / sum(item.units for item in results.items)
    where = _NOTHING if target is None else f"{target:.4g}"
    head = (f"at {metric} {where}", results.rate_unit, "encode s", "decode s", f"encode {unit}", f"decode {unit}")
    rows = [_speed_row(entry, scale) for entry in at_quality(results, metric, target)]
    return markdown([head, *rows], "lrrrrr")


def _speed_row(entry: AtQuality, scale: float) -> tuple[str, ...]:
    seconds = (entry.encode_seconds, entry.decode_seconds)
    speeds = (entry.encode_speed, entry.decode_speed)
    return (
        entry.title,
        _number(entry.rate, ".4g"),
        *(_number(value, ".3g") for value in seconds),
        *(_number(None if value is None else value * scale, ".3g") for value in speeds),
    )


def curve_markdown(results: Results, codec: str, metric: str | None = None, *, payload: bool = False) -> str:
    """Return the table of a codec's mean curve.

    Args:
        results: The results.
        codec: Name of the codec.
        metric: Name of the metric; None for the main one.
        payload: Whether to count what carries the medium alone, and not the whole file.
    """
    metric = _metric(results, metric)
    points = mean_curve(results, codec, metric, payload=payload)
    pooled = any(point.pooled is not None for point in points)
    head = ("quality", results.rate_unit, metric, *(["of mean MSE"] * pooled), "encode s", "decode s", "items")
    rows = [
        (
            f"{point.quality:g}",
            f"{point.rate:.4f}",
            f"{point.value:.4f}",
            *([_number(point.pooled, ".4f")] * pooled),
            f"{point.encode_seconds:.3g}",
            f"{point.decode_seconds:.3g}",
            str(point.items),
        )
        for point in points
    ]
    return markdown([head, *rows], "r" * len(head))


def failures(results: Results) -> tuple[Measurement, ...]:
    """Return the measurements that failed."""
    return tuple(m for m in results.measurements if m.error is not None)


def summary_text(results: Results, metric: str | None = None, test: str | None = None) -> str:
    """Return what a bench prints at its end: counts, BD-rates, speed, failures.

    Args:
        results: The results.
        metric: Name of the metric that is quality; None for the main one.
        test: Name of the codec that is compared with the others; None for the first learned one.

    Raises:
        ValueError: If there is no such codec or metric.
        UnsupportedError: If SciPy is missing.
    """
    failed = failures(results)
    counts = (
        f"{_count(len(results.items), 'item')}, {_count(len(results.codecs), 'codec')}, "
        f"{_count(len(results.measurements), 'measurement')}, {len(failed) or 'none'} failed"
    )
    parts = [counts]
    if len(results.codecs) + len(results.published) > 1:
        parts.append(bd_markdown(results, metric, test))
    if results.codecs:
        parts.append(speed_markdown(results, metric))
    if failed:
        shown = [f"{m.codec} at {m.quality:g} on {m.item}: {m.error}" for m in failed[:_SHOWN_FAILURES]]
        more = len(failed) - len(shown)
        parts.append("\n".join(["failed:", *shown, *([f"and {more} more, all in the results"] if more else [])]))
    return "\n\n".join(parts)


def _metric(results: Results, metric: str | None) -> str:
    if metric is None and not results.metrics:
        raise ValueError("The results have no metric")
    return results.metrics[0] if metric is None else metric


def _percent(value: float | None) -> str:
    return _NOTHING if value is None else f"{value:+.1f} %"


def _number(value: float | None, form: str) -> str:
    return _NOTHING if value is None else format(value, form)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

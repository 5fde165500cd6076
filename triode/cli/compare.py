"""`triode compare`: how far one file is from another."""

from __future__ import annotations

import argparse
import json
import math
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from triode.cli import arguments
from triode.cli.common import UsageError, describe
from triode.cli.text import table
from triode.errors import UnsupportedError

if TYPE_CHECKING:
    from triode.eval.items import Item
    from triode.eval.metrics import MetricInfo, RegisteredMetric

__all__ = ["Comparison", "add_parser"]

_MEDIA: Final = ("image", "audio", "video")
_DEFAULTS: Final = {
    "image": ("psnr", "ms-ssim"),
    "audio": ("si-sdr", "mel"),
    "video": ("psnr-yuv611", "ms-ssim-y"),
}


class _InputError(Exception):
    """A file cannot be read; the message begins with its name."""

    def __init__(self, path: str, error: Exception) -> None:
        message, self.exit_code = describe(error, path)
        self.kind = type(error).__name__
        super().__init__(f"{path}: {message}")


@dataclass(frozen=True, slots=True)
class Comparison:
    """A file compared with its original.

    Attributes:
        reference: Name of the original, as it was given.
        distorted: Name of the other file, as it was given.
        media: ``image``, ``audio`` or ``video``.
        bytes: Size of the other file.
        rate: Its bits over pixels, or its thousands of bits over seconds; None where the original lasts no time.
        infos: The metrics, in the order of the request.
        metrics: Values by name.
        errors: Why a metric has no value, by name.
    """

    reference: str
    distorted: str
    media: str
    bytes: int
    rate: float | None
    infos: tuple[MetricInfo, ...]
    metrics: Mapping[str, float]
    errors: Mapping[str, str]

    def json(self) -> str:
        """Return a JSON object on one line; values that are not finite are null."""
        values = {
            info.name: _finite(self.metrics[info.name]) if info.name in self.metrics else None for info in self.infos
        }
        fields: dict[str, Any] = {
            "reference": self.reference,
            "distorted": self.distorted,
            "media": self.media,
            "metrics": values,
            "bytes": self.bytes,
            "bpp" if self.media == "image" else "kbps": None if self.rate is None else round(self.rate, 6),
        }
        return json.dumps({**fields, "errors": dict(self.errors)} if self.errors else fields)

    def text(self) -> str:
        """Return a table for people."""
        unit = "bpp" if self.media == "image" else "kb/s"
        rows = [("metric", "value", "unit", "better")]
        for info in self.infos:
            value = f"{self.metrics[info.name]:.4f}" if info.name in self.metrics else "-"
            rows.append((info.name, value, info.unit, _better(info)))
        rows.append(("size", str(self.bytes), "bytes", ""))
        if self.rate is not None:
            rows.append(("rate", f"{self.rate:.4f}", unit, ""))
        return table(rows, "lrll")


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "compare",
        help="measure how far one file is from another",
        description="Measure how far one file is from another of the same medium and size: images, recordings, clips. "
        ".tri files are decoded first.",
    )
    parser.add_argument("reference", nargs="?", metavar="REF", help="the original")
    parser.add_argument("distorted", nargs="?", metavar="DIST", help="what became of it")
    defaults = "; ".join(f"{media}: {', '.join(names)}" for media, names in _DEFAULTS.items())
    parser.add_argument("--metrics", metavar="NAME,...", help=f"what to measure (default for {defaults})")
    parser.add_argument("--media", choices=_MEDIA, help="what both files hold; default: as their names or bytes say")
    parser.add_argument("--list-metrics", action="store_true", help="list the metrics (of --media), and stop")
    arguments.add_report_options(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if args.list_metrics:
        _list_metrics(args.media, as_json=args.json)
        return 0
    if args.distorted is None:
        raise UsageError("compare needs two files: triode compare REF DIST")
    try:
        found = _compare(args.reference, args.distorted, args.media, args.metrics)
    except _InputError as error:
        if args.verbose and error.__cause__ is not None:
            traceback.print_exception(error.__cause__)
        print(f"triode: {error}", file=sys.stderr)
        if args.json:
            names = {"reference": args.reference, "distorted": args.distorted}
            print(json.dumps({**names, "error": str(error), "kind": error.kind, "exit_code": error.exit_code}))
        return error.exit_code
    for name, message in found.errors.items():
        print(f"triode: {message if message.startswith(name) else f'{name}: {message}'}", file=sys.stderr)
    print(found.json() if args.json else found.text())
    # A default that cannot be measured, such as MS-SSIM of a thumbnail, is told but is no failure.
    return 1 if found.errors and (args.metrics is not None or not found.metrics) else 0


def _compare(reference: str, distorted: str, media: str | None, names: str | None) -> Comparison:
    wanted = None if names is None else tuple(dict.fromkeys(filter(None, (name.strip() for name in names.split(",")))))
    if wanted == ():
        raise UsageError("--metrics must name at least one metric; --list-metrics lists them")
    media = media or _one_medium(reference, distorted)
    metrics = [_find(name, media) for name in wanted or _DEFAULTS[media]]
    original, other = _load(reference, media), _load(distorted, media)
    if _size(original) != _size(other):
        raise UsageError(f"{reference} has {_size(original)}, but {distorted} has {_size(other)}")
    values, errors = {}, {}
    for metric in metrics:
        try:
            values[metric.info.name] = float(metric.measure(other, original))
        except (UnsupportedError, ValueError, ImportError) as error:
            errors[metric.info.name] = str(error)
    size = Path(distorted).stat().st_size
    infos = tuple(metric.info for metric in metrics)
    return Comparison(reference, distorted, media, size, _rate(size, original), infos, values, errors)


def _one_medium(reference: str, distorted: str) -> str:
    from triode.eval.items import guess_media

    found = []
    for name in (reference, distorted):
        try:
            found.append(guess_media(Path(name)))
        except Exception as error:
            raise _InputError(name, error) from error
    if found[0] != found[1]:
        raise UsageError(f"{reference} is {found[0]}, but {distorted} is {found[1]}; --media says what both are")
    return found[0]


def _find(name: str, media: str) -> RegisteredMetric:
    from triode.eval.metrics import list_metrics, metric

    known = [info.name for info in list_metrics(media)]
    if name not in known:
        raise UsageError(f"{name!r} is no metric for {media}; there are {', '.join(known)}")
    return metric(name)


def _load(name: str, media: str) -> Item:
    from triode.eval.items import load_item

    try:
        return load_item(Path(name), media)
    except Exception as error:
        raise _InputError(name, error) from error


def _size(item: Item) -> str:
    """Describe what two items must have in common to be compared."""
    from triode.media import Clip, Sound

    if isinstance(item, Sound):
        channels = f"{item.channels} channel{'s' * (item.channels != 1)}"
        return f"{channels} of {item.samples.shape[1]} samples at {item.rate} Hz"
    if isinstance(item, Clip):
        return f"{item.frames} frame{'s' * (item.frames != 1)} of {item.width} x {item.height} pixels"
    return f"{item.shape[1]} x {item.shape[0]} pixels"


def _rate(size: int, item: Item) -> float | None:
    from triode.media import Clip, Sound

    if isinstance(item, (Sound, Clip)):
        return 8 * size / item.seconds / 1000 if item.seconds > 0 else None
    return 8 * size / (item.shape[0] * item.shape[1])


def _list_metrics(media: str | None, *, as_json: bool) -> None:
    from triode.eval.metrics import list_metrics

    found = list_metrics(media)
    if as_json:
        for info in found:
            fields = {name: getattr(info, name) for name in ("name", "title", "unit", "media")}
            direction = {
                "higher_is_better": info.higher_is_better,
                "low": _finite(info.low),
                "high": _finite(info.high),
            }
            print(json.dumps({**fields, **direction, "source": info.source, "requires": info.requires}))
        return
    rows = [("name", "what it is", "media", "better", "range", "needs")]
    for info in found:
        title = info.title if not info.unit or info.unit in info.title else f"{info.title}, {info.unit}"
        reach = f"{info.low:g} to {info.high:g}"
        rows.append((info.name, title, ", ".join(info.media), _better(info), reach, info.requires))
    print(table(rows, "llllll"))


def _better(info: MetricInfo) -> str:
    return "higher" if info.higher_is_better else "lower"


def _finite(value: float) -> float | None:
    return float(f"{value:.7g}") if math.isfinite(value) else None

"""`triode bench`: codecs side by side on real files, with a report."""

from __future__ import annotations

import argparse
import json
import os
from argparse import Namespace, _SubParsersAction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from triode.cli.arguments import Parser, positive_int
from triode.cli.bench_progress import BenchProgress
from triode.cli.common import UsageError
from triode.codecs.processes import THREADS
from triode.errors import CodecError, ModelMismatchError

if TYPE_CHECKING:
    from triode.eval.results import PublishedCurve, Results

__all__ = ["add_parser"]

_MEDIA: Final = ("image", "audio", "video")
_ENGINES: Final = ("serial", "process", "ray")
_ANCHORS: Final = {"image": "jpeg,webp,avif", "audio": "opus,aac,mp3", "video": "x264,x265"}
_NONE: Final = "none"

_DESCRIPTION: Final = """\
Code files with learned and classical codecs, decode them, and report rate, distortion and speed.

Every codec makes real bytes and decodes them. Results, report and figures are written to the folder given by -o,
and what is measured is kept there at once: the same command goes on where it was stopped.
"""
_EPILOG: Final = """\
codecs are written NAME or NAME:OPTION=VALUE,OPTION=VALUE
examples:
  triode bench image photos -o out --anchors jpeg,webp,avif,jxl
  triode bench image photos -o out --anchor avif:speed=4,subsampling=4:2:0 --qualities avif=30,60,90
  triode bench image photos -o out --codec my_codec.py:CODEC --published kodak
  triode bench --report-only out
"""


def add_parser(commands: _SubParsersAction[Parser]) -> None:
    """Add this command's parser."""
    parser = commands.add_parser(
        "bench",
        help="measure codecs side by side, with a report",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("media", nargs="?", metavar="image|audio|video", help="what the files are")
    parser.add_argument("paths", nargs="*", metavar="PATH", help="files, or folders to search for files")
    parser.add_argument(
        "-o", "--output-dir", metavar="DIR", help="folder for results and report, made if it is missing"
    )
    parser.add_argument("-f", "--force", action="store_true", help="start anew: forget what DIR has measured already")
    parser.add_argument(
        "--report-only",
        metavar="DIR",
        help="write the report of the results that are in DIR again, and measure nothing",
    )
    _add_codec_options(parser)
    run = parser.add_argument_group("how it runs")
    run.add_argument("--engine", default="process", metavar="ENGINE", help="serial, process (default), or ray")
    run.add_argument(
        "-j", "--jobs", type=positive_int, metavar="N", help="worker processes, of one thread each (default: all cores)"
    )
    run.add_argument(
        "--ray-address", metavar="ADDRESS", help="a Ray cluster that sees the same files (default: one on this machine)"
    )
    run.add_argument("--limit", type=positive_int, metavar="N", help="take the first N files only")
    run.add_argument("--seed", type=int, default=0, metavar="N", help="seed of all random choices (default 0)")
    told = parser.add_argument_group("what is told")
    told.add_argument(
        "--samples", type=_count_or_zero, metavar="N", help="keep decoded samples of the first N files (default 4)"
    )
    told.add_argument("--no-report", action="store_true", help="write results.json only, no report and figures")
    told.add_argument("--json", action="store_true", help="print the results as JSON, not a summary")
    talk = told.add_mutually_exclusive_group()
    talk.add_argument("--quiet", action="store_true", help="print errors only")
    talk.add_argument("-v", "--verbose", action="store_true", help="print every measurement, and where an error arose")
    parser.set_defaults(run=run_bench)


def _add_codec_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is measured")
    group.add_argument(
        "--models",
        metavar="NAMES",
        help="Triode weights, with commas between (default: the medium's own); none for none",
    )
    group.add_argument(
        "--anchors",
        metavar="NAMES",
        help="codecs to compare with, with commas between; none for none "
        "(default: jpeg,webp,avif, or opus,aac,mp3, or x264,x265)",
    )
    group.add_argument(
        "--anchor", action="append", default=[], metavar="CODEC", help="one more codec, with options; can be repeated"
    )
    group.add_argument(
        "--codec",
        action="append",
        default=[],
        metavar="MODULE:OBJECT",
        help="a codec of your own, in a module or a .py file; can be repeated",
    )
    group.add_argument(
        "--qualities",
        action="append",
        default=[],
        metavar="[CODEC=]Q,Q,...",
        help="operating points of all codecs, or of the one named; can be repeated (default: each codec's own)",
    )
    group.add_argument(
        "--metrics", metavar="NAMES", help="metrics, the main one first (default: the medium's usual ones)"
    )
    group.add_argument(
        "--published",
        action="append",
        default=[],
        metavar="DATASET[:GLOB]",
        help="published curves to draw beside, such as kodak or kodak:compressai-*; can be repeated",
    )
    group.add_argument("--skip-missing", action="store_true", help="leave out codecs whose packages are not installed")


def _count_or_zero(text: str) -> int:
    return 0 if text == "0" else positive_int(text)


def run_bench(args: Namespace) -> int:
    """Run the command; return its exit code."""
    if args.report_only is not None:
        return _report_again(args)
    _check(args)
    if args.engine == "serial":
        # Before anything loads the libraries that read them: timings are of one thread.
        os.environ.update(dict.fromkeys(THREADS, "1"))
    from triode.eval.plan import Given
    from triode.eval.provenance import shown_command
    from triode.eval.runner import bench

    codecs: list[Given] = _codecs(args)
    with BenchProgress(quiet=args.quiet, verbose=args.verbose) as progress:
        try:
            results = bench(
                args.media,
                [Path(path) for path in args.paths],
                codecs,
                metrics=None if args.metrics is None else _words(args.metrics),
                qualities=_qualities(args.qualities),
                out=Path(args.output_dir),
                engine=args.engine,
                jobs=args.jobs,
                ray_address=args.ray_address,
                samples=args.samples,
                limit=args.limit,
                published=_published(args.published, args.media),
                seed=args.seed,
                anew=args.force,
                skip_missing=args.skip_missing,
                report=not args.no_report,
                command=shown_command(["triode", *args.words]),
                on_progress=progress.show,
            )
        except CodecError:
            raise
        except ValueError as error:  # wrong names, options and numbers
            raise UsageError(str(error)) from error
    _print(results, as_json=args.json)
    return int(any(found.error is not None for found in results.measurements))


def _check(args: Namespace) -> None:
    if args.media not in _MEDIA:
        raise UsageError(f"the first argument is one of {', '.join(_MEDIA)}, got {args.media or 'none'}")
    if not args.paths:
        raise UsageError("name files or folders to measure")
    if args.output_dir is None:
        raise UsageError("name a folder for the results with -o")
    if args.engine not in _ENGINES:
        raise UsageError(f"--engine is one of {', '.join(_ENGINES)}, got {args.engine!r}")
    if args.ray_address is not None and args.engine != "ray":
        raise UsageError("--ray-address belongs to --engine ray")


def _codecs(args: Namespace) -> list[Any]:
    from triode.eval.sources import CodecReference

    return [
        *(f"triode:model={name}" for name in _models(args.models, args.media)),
        *(CodecReference(text, str(Path.cwd())) for text in args.codec),
        *(_words(_ANCHORS[args.media] if args.anchors is None else args.anchors)),
        *args.anchor,
    ]


def _models(text: str | None, media: str) -> list[str]:
    if text is not None:
        return _words(text)
    from triode.models.weights import default_weights

    try:
        return [default_weights(media)]
    except ModelMismatchError:  # there are none yet for this medium
        return []


def _words(text: str) -> list[str]:
    words = [word for word in text.split(",") if word]
    return [] if words == [_NONE] else words


def _qualities(texts: list[str]) -> dict[str, list[float]] | list[float] | None:
    """Read `--qualities`: a list for all codecs, or lists for some of them."""
    found: dict[str, list[float]] = {}
    for text in texts:
        name, equals, numbers = text.rpartition("=")
        try:
            values = [float(number) for number in numbers.split(",")]
        except ValueError:
            raise UsageError(f"--qualities takes numbers with commas between, got {text!r}") from None
        if name in found or (equals and not name):
            raise UsageError(f"--qualities is given twice for the same codecs, or for none: {text!r}")
        found[name] = values
    if "" in found:
        if len(found) > 1:
            raise UsageError("--qualities is either for all codecs or for those named; leave out one of them")
        return found[""]
    return found or None


def _published(texts: list[str], media: str) -> list[PublishedCurve]:
    from triode.eval.published import list_datasets, published

    found: dict[str, PublishedCurve] = {}
    for text in texts:
        dataset, colon, pattern = text.partition(":")
        known = list_datasets(media)
        if dataset not in known:
            names = ", ".join(known) or "none"
            raise UsageError(f"there are no published curves of {dataset!r} for {media}; there are of: {names}")
        try:
            found |= {curve.name: curve for curve in published(pattern if colon else "*", dataset, media)}
        except ValueError as error:
            raise UsageError(str(error)) from error
    return list(found.values())


def _report_again(args: Namespace) -> int:
    if args.paths or args.output_dir is not None:
        raise UsageError("--report-only DIR takes neither files nor -o: it reads DIR/results.json and writes beside it")
    from triode.eval.report import write_report
    from triode.eval.results import Results
    from triode.eval.runner import RESULTS

    folder = Path(args.report_only)
    results = Results.load(folder / RESULTS)
    if args.media not in (None, results.media):
        raise UsageError(f"the results in {folder} are of {results.media}, not of {args.media}")
    write_report(results, folder)
    _print(results, as_json=args.json)
    return 0


def _print(results: Results, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(results.to_json(), allow_nan=False), flush=True)
        return
    from triode.eval.tables import summary_text

    print(summary_text(results), flush=True)

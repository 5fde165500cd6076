"""`triode verify`: whether `.tri` files are whole and decode here."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from triode.cli import arguments
from triode.cli.batch import Report, run
from triode.cli.common import limits_of, open_tri, shown
from triode.cli.targets import Job

if TYPE_CHECKING:
    from triode.container import DecodeLimits

__all__ = ["VerifyRecord", "VerifyTask", "add_parser"]


@dataclass(frozen=True, slots=True)
class VerifyRecord:
    """A file that is whole.

    Attributes:
        input: The input as it was given.
        media: Kind of media.
        model: Name of the weights.
        bytes: Size of the file.
        units: Units whose symbols were decoded and checked.
        width: Pixels.
        height: Pixels.
        seconds: Wall-clock time.
    """

    input: str
    media: str
    model: str
    bytes: int
    units: int
    width: int
    height: int
    seconds: float

    def json(self) -> str:
        """Return a JSON object on one line."""
        return json.dumps({**asdict(self), "verified": True})

    def summary(self) -> str:
        """Return text for people."""
        units = f"{self.units} {'unit' if self.units == 1 else 'units'}"
        return f"{shown(self.input, 'input')}: ok, {units}, {self.seconds:.2f} s"


@dataclass(frozen=True, slots=True)
class VerifyTask:
    """Checks files.

    Attributes:
        limits: What a file may ask for.
    """

    limits: DecodeLimits

    def run(self, job: Job, progress: Callable[[float], None] | None) -> VerifyRecord:
        """Check one file."""
        from triode.codecs.image import verify

        begin = time.perf_counter()
        with open_tri(job.source) as file:
            info = verify(file, limits=self.limits)
        seconds = round(time.perf_counter() - begin, 4)
        return VerifyRecord(
            job.source, info.media, info.model, info.bytes, info.tiles, info.width, info.height, seconds
        )


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "verify",
        help="check that .tri files are whole",
        description="Check every checksum of .tri files, and decode every symbol of them. No pixels are made.",
    )
    parser.add_argument("inputs", nargs="+", metavar="FILE", help="file, or - for standard input")
    arguments.add_limit_options(parser)
    arguments.add_report_options(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    jobs = [Job(name, "") for name in args.inputs]
    report = Report(json=args.json, quiet=args.quiet, verbose=args.verbose)
    return run(VerifyTask(limits_of(args)), jobs, report)

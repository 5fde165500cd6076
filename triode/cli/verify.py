"""`triode verify`: whether `.tri` files are whole and decode here."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from triode.cli.common import open_tri, shown
from triode.cli.inspection import add_inspection, describe_file
from triode.cli.media.kinds import codec_of
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
        size: Size of what is in it: width and height (and frames), or rate, channels and samples.
        seconds: Wall-clock time.
    """

    input: str
    media: str
    model: str
    bytes: int
    units: int
    size: Mapping[str, int | float]
    seconds: float

    def json(self) -> str:
        """Return a JSON object on one line."""
        first = {name: getattr(self, name) for name in ("input", "media", "model", "bytes", "units")}
        return json.dumps({**first, **self.size, "seconds": self.seconds, "verified": True})

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
        begin = time.perf_counter()
        with open_tri(job.source) as file:
            info = codec_of(file, self.limits).verify(file)
        seconds = round(time.perf_counter() - begin, 4)
        told = describe_file(info)
        return VerifyRecord(job.source, info.media, info.model, info.bytes, told.count, told.size, seconds)


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "verify",
        help="check that .tri files are whole",
        description="Check every checksum of .tri files, and decode every symbol of them. No pixels or samples are "
        "made.",
    )
    add_inspection(parser, VerifyTask, text_is_data=False)

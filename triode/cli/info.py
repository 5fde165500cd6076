"""`triode info`: what a `.tri` file says of itself."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from triode.cli.common import open_tri, shown
from triode.cli.inspection import add_inspection, describe_file
from triode.cli.targets import Job
from triode.cli.text import table

if TYPE_CHECKING:
    from triode.codecs.info import AudioInfo, ImageInfo, VideoInfo
    from triode.container import DecodeLimits

__all__ = ["InfoRecord", "InfoTask", "add_parser"]

_SIGNATURE_BYTES = 8


@dataclass(frozen=True, slots=True)
class InfoRecord:
    """The facts of a file.

    Attributes:
        input: The input as it was given.
        info: What it says.
    """

    input: str
    info: ImageInfo | AudioInfo | VideoInfo

    def json(self) -> str:
        """Return a JSON object on one line."""
        return json.dumps({"input": self.input, **describe_file(self.info).fields}, default=str)

    def summary(self) -> str:
        """Return text for people."""
        info, told = self.info, describe_file(self.info)
        points = sorted(info.rate_points)
        rate = str(points[0]) if len(points) == 1 else f"{points[0]}..{points[-1]}"
        facts = [
            ("media", told.media),
            ("model", info.model),
            ("digests", f"entropy {info.entropy_digest}, synthesis {info.synthesis_digest}"),
            ("units", f"{told.units}, rate point {rate}"),
            ("size", f"{info.bytes} bytes, {told.rate}; entropy-coded {self._share(info.payload_bytes)}"),
            ("metadata", ", ".join(f"{kind} {size} bytes" for kind, size in info.metadata) or "none"),
            *told.tags,
        ]
        return "\n".join((shown(self.input, "input"), _indent(table(facts, "ll")), _indent(self._chunks())))

    def _chunks(self) -> str:
        """List the chunks by type, in the order in which the types first come."""
        counts: Counter[str] = Counter()
        sizes: Counter[str] = Counter()
        for chunk in self.info.structure:
            counts[str(chunk.type)] += 1
            sizes[str(chunk.type)] += chunk.size
        rows = [("chunk", "count", "bytes", "share"), ("signature", "", *self._cells(_SIGNATURE_BYTES))]
        rows += [(kind, str(counts[kind]), *self._cells(sizes[kind])) for kind in counts]
        return table(rows, "lrrr")

    def _cells(self, size: int) -> tuple[str, str]:
        return str(size), f"{100 * size / self.info.bytes:.1f} %"

    def _share(self, size: int) -> str:
        return f"{size} bytes, {100 * size / self.info.bytes:.1f} %"


@dataclass(frozen=True, slots=True)
class InfoTask:
    """Reads what files say of themselves.

    Attributes:
        limits: What a file may ask for.
    """

    limits: DecodeLimits

    def run(self, job: Job, progress: Callable[[float], None] | None) -> InfoRecord:
        """Read one file."""
        from triode.codecs.info import read_info

        with open_tri(job.source) as file:
            return InfoRecord(job.source, read_info(file, self.limits))


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "info",
        help="print what .tri files contain",
        description="Print header, units, sizes and metadata of .tri files, without decoding them.",
    )
    add_inspection(parser, InfoTask, text_is_data=True)


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())

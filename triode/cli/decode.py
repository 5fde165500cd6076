"""`triode decode`: `.tri` files to media files."""

from __future__ import annotations

import argparse
import io
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from triode.cli import arguments
from triode.cli.batch import Report, run
from triode.cli.common import STDIO, UsageError, limits_of, open_tri, shown, write_stdout
from triode.cli.targets import Job, plan
from triode.cli.text import size_text
from triode.errors import UnsupportedError

if TYPE_CHECKING:
    from triode.codecs.image import ImageCodec
    from triode.container import DecodeLimits
    from triode.media import Picture

__all__ = ["DecodeRecord", "DecodeTask", "add_parser"]


@dataclass(frozen=True, slots=True)
class DecodeRecord:
    """A file that was decoded.

    Attributes:
        input: The input as it was given.
        output: The output, `-` for standard output.
        media: Kind of media.
        model: Name of the weights that the file names.
        quality: Quality that it was encoded at, 0 to 100.
        rate_point: Rate point of the model, 0 to 63.
        bytes: Size of the `.tri` file.
        payload_bytes: Entropy-coded bytes in it.
        bpp: Bits of the file over pixels.
        width: Pixels.
        height: Pixels.
        seconds: Wall-clock time from opening the input to the finished output.
    """

    input: str
    output: str
    media: str
    model: str
    quality: float
    rate_point: int
    bytes: int
    payload_bytes: int
    bpp: float
    width: int
    height: int
    seconds: float

    def json(self) -> str:
        """Return a JSON object on one line."""
        return json.dumps(asdict(self))

    def summary(self) -> str:
        """Return text for people."""
        return (
            f"{shown(self.input, 'input')} -> {shown(self.output, 'output')}: "
            f"{self.width} x {self.height} from {size_text(self.bytes)}, {self.seconds:.2f} s"
        )


@dataclass(frozen=True)
class DecodeTask:
    """Decodes images.

    Attributes:
        model: Name or path of weights to use; None for what each file names.
        fmt: Format of the outputs, as a suffix; None to go by each output's own suffix.
        force: Whether to overwrite.
        limits: What a file may ask for.
    """

    model: str | None
    fmt: str | None
    force: bool
    limits: DecodeLimits

    @cached_property
    def codec(self) -> ImageCodec:
        """The codec, made when the first input needs it."""
        from triode.codecs.image import ImageCodec

        return ImageCodec(self.model, limits=self.limits)

    def run(self, job: Job, progress: Callable[[float], None] | None) -> DecodeRecord:
        """Decode one input."""
        from triode.codecs.search import point_to_quality

        begin = time.perf_counter()
        job.claim(overwrite=self.force)
        with open_tri(job.source) as file:
            info = self.codec.info(file)
            file.seek(0)
            picture = self.codec.decode(file, progress=progress)
        self._write(picture, job.target)
        return DecodeRecord(
            input=job.source,
            output=job.target,
            media=info.media,
            model=info.model,
            quality=point_to_quality(info.rate_points[0]),
            rate_point=info.rate_points[0],
            bytes=info.bytes,
            payload_bytes=info.payload_bytes,
            bpp=round(8 * info.bytes / (info.width * info.height), 6),
            width=info.width,
            height=info.height,
            seconds=round(time.perf_counter() - begin, 4),
        )

    def _write(self, picture: Picture, target: str) -> None:
        from triode.io.files import atomic_write
        from triode.io.image import write_picture

        if target == STDIO:
            buffer = io.BytesIO()
            write_picture(picture, buffer, self.fmt)
            write_stdout(buffer.getvalue())
            return
        with atomic_write(Path(target), overwrite=self.force) as out:
            write_picture(picture, out, self.fmt or Path(target).suffix)


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "decode",
        help="decode .tri files to images",
        description="Decode .tri files to images. The suffix of OUT says which kind: png (the default), jpg, webp, "
        "avif, tif, ppm or bmp.",
    )
    parser.add_argument("inputs", nargs="+", metavar="IN", help="file, folder (with -r), or - for standard input")
    arguments.add_output_options(parser, ".png for .tri")
    parser.add_argument("--format", metavar="FMT", help="format to write, whatever the suffix of OUT says")
    parser.add_argument("-m", "--model", help="weights to use in place of those that the file names")
    arguments.add_batch_options(parser)
    arguments.add_limit_options(parser)
    arguments.add_report_options(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from triode.io.image import find_format

    try:
        named = args.format or (Path(args.output).suffix if args.output else "")
        suffix = find_format(named).suffixes[0]
    except UnsupportedError as error:
        raise UsageError(str(error)) from None
    jobs = plan(
        args.inputs,
        output=args.output,
        output_dir=args.output_dir,
        recursive=args.recursive,
        rename=lambda path: path.with_name(path.name.removesuffix(".tri") + suffix),
        wanted=lambda path: path.suffix.lower() == ".tri",
    )
    if args.json and any(job.target == STDIO for job in jobs):
        raise UsageError("--json and the decoded image both want standard output; name a file with -o")
    task = DecodeTask(model=args.model, fmt=args.format, force=args.force, limits=limits_of(args))
    report = Report(json=args.json, quiet=args.quiet, verbose=args.verbose)
    return run(task, jobs, report, workers=args.jobs)

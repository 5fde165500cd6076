"""`triode decode`: `.tri` files to media files."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from triode.cli import arguments
from triode.cli.batch import convert
from triode.cli.common import UsageError, limits_of, open_tri
from triode.cli.media.audio import AudioDecoder
from triode.cli.media.base import Conversion, DecodeOptions, Run
from triode.cli.media.image import ImageDecoder
from triode.cli.media.kinds import is_sound_file, read_head
from triode.cli.span import span
from triode.cli.targets import Job, plan
from triode.errors import UnsupportedError

__all__ = ["DecodeTask", "add_parser"]


@dataclass(frozen=True)
class DecodeTask:
    """Decodes files, each as the medium that it holds.

    Attributes:
        options: How.
    """

    options: DecodeOptions

    @cached_property
    def image(self) -> ImageDecoder:
        """What decodes images."""
        return ImageDecoder(self.options)

    @cached_property
    def audio(self) -> AudioDecoder:
        """What decodes recordings."""
        return AudioDecoder(self.options)

    def run(self, job: Job, progress: Callable[[float], None] | None) -> Conversion:
        """Decode one input."""
        from triode.container import Media

        run = Run(job, time.perf_counter(), progress)
        job.claim(overwrite=self.options.force)
        with open_tri(job.source) as file:
            head = read_head(file, self.options.limits)
            if head.media == Media.AUDIO:
                return self.audio.decode(file, head, run)
            return self.image.decode(file, run)


@dataclass(frozen=True, slots=True)
class _Suffixes:
    """Suffixes of outputs.

    Attributes:
        image: Of images.
        audio: Of recordings.
        is_audio: Whether a format that was named is one of recordings.
    """

    image: str
    audio: str
    is_audio: bool

    def rename(self, path: Path) -> Path:
        """Name the output of a file."""
        suffix = self.audio if is_sound_file(path) else self.image
        return path.with_name(path.name.removesuffix(".tri") + suffix)


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "decode",
        help="decode .tri files to images and recordings",
        description="Decode .tri files. The suffix of OUT says to what: images to png (the default), jpg, webp, avif, "
        "tif, ppm or bmp; recordings to wav (the default) or flac.",
    )
    arguments.add_inputs(parser, folders=True)
    arguments.add_output_options(parser, ".png or .wav for .tri")
    parser.add_argument("--format", metavar="FMT", help="format to write, whatever the suffix of OUT says")
    parser.add_argument("-m", "--model", help="weights to use in place of those that the file names")
    parser.add_argument(
        "--range",
        type=span,
        metavar="A:B",
        help="part of a recording, from A to B: times such as 10s:20s or 1m30s:, or numbers of samples",
    )
    parser.add_argument(
        "--partial", action="store_true", help="of a damaged recording, write what is left and conceal the rest"
    )
    arguments.add_batch_options(parser)
    arguments.add_limit_options(parser)
    arguments.add_report_options(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    suffixes = _suffixes(args.format or (Path(args.output).suffix if args.output else ""), args.inputs)
    jobs = plan(
        args.inputs,
        output=args.output,
        output_dir=args.output_dir,
        recursive=args.recursive,
        rename=suffixes.rename,
        wanted=lambda path: path.suffix.lower() == ".tri",
    )
    # Among many files a format is meant for those of its medium; one that is named must have it.
    one = args.output is not None
    options = DecodeOptions(
        model=args.model,
        image=args.format if one or not suffixes.is_audio else None,
        audio=args.format if one or suffixes.is_audio else None,
        span=args.range,
        partial=args.partial,
        force=args.force,
        limits=limits_of(args),
    )
    return convert(DecodeTask(options), jobs, args, "the decoded file")


def _suffixes(named: str, inputs: Sequence[str]) -> _Suffixes:
    """Return the suffixes of outputs where a format is named, or none.

    Raises:
        UsageError: Neither images nor recordings are written in that format; the message says in which those are.
    """
    from triode.io import audio, image

    try:
        if named:
            return _Suffixes(".png", f".{audio.find_format(named)}", is_audio=True)
    except UnsupportedError as error:
        of_sound = str(error)
    try:
        return _Suffixes(image.find_format(named).suffixes[0], ".wav", is_audio=False)
    except UnsupportedError as error:
        raise UsageError(of_sound if is_sound_file(Path(inputs[0])) else str(error)) from None

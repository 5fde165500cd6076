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
from triode.cli.common import STDIO, UsageError, limits_of, open_tri
from triode.cli.media.audio import AudioDecoder
from triode.cli.media.base import Conversion, DecodeOptions, Run
from triode.cli.media.image import ImageDecoder
from triode.cli.media.kinds import Medium, medium_of_tri, read_head
from triode.cli.media.video import VideoDecoder
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

    @cached_property
    def video(self) -> VideoDecoder:
        """What decodes videos."""
        return VideoDecoder(self.options)

    def run(self, job: Job, progress: Callable[[float], None] | None) -> Conversion:
        """Decode one input."""
        from triode.container import Media

        run = Run(job, time.perf_counter(), progress)
        job.claim(overwrite=self.options.force)
        with open_tri(job.source, flow=job.target == STDIO and not self.options.partial) as file:
            head = read_head(file, self.options.limits)
            if head.media == Media.AUDIO:
                return self.audio.decode(file, head, run)
            if head.media == Media.VIDEO:
                return self.video.decode(file, head, run)
            return self.image.decode(file, run)


@dataclass(frozen=True, slots=True)
class _Suffixes:
    """Suffixes of outputs.

    Attributes:
        image: Of images.
        audio: Of recordings.
        video: Of videos.
        named: The medium of the format that was named; None where none was.
    """

    image: str = ".png"
    audio: str = ".wav"
    video: str = ".mkv"
    named: Medium | None = None

    def rename(self, path: Path) -> Path:
        """Name the output of a file."""
        suffix: str = getattr(self, medium_of_tri(path))
        return path.with_name(path.name.removesuffix(".tri") + suffix)


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "decode",
        help="decode .tri files to images, recordings and videos",
        description="Decode .tri files. The suffix of OUT says to what: images to png (the default), jpg, webp, avif, "
        "tif, ppm or bmp; recordings to wav (the default) or flac; videos, without loss, to mkv (the default, with "
        "sound), mp4 or y4m (the default of a pipe).",
    )
    arguments.add_inputs(parser, folders=True)
    arguments.add_output_options(parser, ".png, .wav or .mkv for .tri")
    parser.add_argument("--format", metavar="FMT", help="format to write, whatever the suffix of OUT says")
    parser.add_argument("-m", "--model", help="weights to use in place of those that the file names")
    parser.add_argument(
        "--range",
        type=span,
        metavar="A:B",
        help="part of a recording or a video, from A to B: times such as 10s:20s or 1m30s:, or numbers of samples or "
        "frames",
    )
    parser.add_argument(
        "--partial",
        action="store_true",
        help="of a damaged recording or video, write what is left, the rest concealed",
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

    def of(medium: Medium) -> str | None:
        # Among many files a format is meant for those of its medium; one that is named must have it.
        return args.format if args.output is not None or suffixes.named == medium else None

    options = DecodeOptions(
        model=args.model,
        image=of("image"),
        audio=of("audio"),
        video=of("video"),
        span=args.range,
        partial=args.partial,
        force=args.force,
        limits=limits_of(args),
    )
    return convert(DecodeTask(options), jobs, args, "the decoded file", workers=args.jobs or 1)


def _suffixes(named: str, inputs: Sequence[str]) -> _Suffixes:
    """Return the suffixes of outputs where a format is named, or none.

    Raises:
        UsageError: No medium is written in that format; the message says in which that of the first input is.
    """
    from triode.io import audio, image, video_writing

    if not named:
        return _Suffixes()
    errors: dict[str, str] = {}
    try:
        return _Suffixes(audio=f".{audio.find_format(named)}", named="audio")
    except UnsupportedError as error:
        errors["audio"] = str(error)
    try:
        return _Suffixes(video=f".{video_writing.find_format(named)}", named="video")
    except UnsupportedError as error:
        errors["video"] = str(error)
    try:
        return _Suffixes(image=image.find_format(named).suffixes[0], named="image")
    except UnsupportedError as error:
        errors["image"] = str(error)
    raise UsageError(errors[medium_of_tri(Path(inputs[0]))])

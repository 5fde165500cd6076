"""`triode encode`: media files to `.tri` files."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import get_args

from triode.cli import arguments
from triode.cli.batch import convert
from triode.cli.common import limits_of, open_any
from triode.cli.media.audio import AudioEncoder
from triode.cli.media.base import Conversion, Effort, EncodeOptions, Run
from triode.cli.media.image import ImageEncoder
from triode.cli.media.kinds import is_recording
from triode.cli.targets import Job, plan

__all__ = ["Effort", "EncodeTask", "add_parser"]


@dataclass(frozen=True)
class EncodeTask:
    """Encodes files, each as the medium that it is.

    Attributes:
        options: How.
    """

    options: EncodeOptions

    @cached_property
    def image(self) -> ImageEncoder:
        """What encodes images."""
        return ImageEncoder(self.options)

    @cached_property
    def audio(self) -> AudioEncoder:
        """What encodes recordings."""
        return AudioEncoder(self.options)

    def run(self, job: Job, progress: Callable[[float], None] | None) -> Conversion:
        """Encode one input."""
        run = Run(job, time.perf_counter(), progress)
        job.claim(overwrite=self.options.force)
        with open_any(job.source) as file:
            return (self.audio if is_recording(file, job.source) else self.image).encode(file, run)


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "encode",
        help="encode images and recordings to .tri files",
        description="Encode images (PNG, JPEG, WebP, AVIF, TIFF and whatever else Pillow reads) and recordings (WAV, "
        "FLAC, MP3, Opus, Ogg and more) to .tri files.",
    )
    arguments.add_inputs(parser, folders=True)
    arguments.add_output_options(parser, ".tri as its suffix")
    parser.add_argument(
        "-m",
        "--model",
        help="name of weights (see `triode models`) or path of a .safetensors; by default those for the kind of media, "
        "and for recordings by sample rate and channels",
    )
    target = parser.add_mutually_exclusive_group()
    target.add_argument("-q", "--quality", type=arguments.quality, metavar="0..100", help="quality (default 50)")
    target.add_argument("--bpp", type=arguments.positive, metavar="X", help="largest rate of an image, in bits a pixel")
    target.add_argument(
        "--kbps", type=arguments.positive, metavar="X", help="largest rate of a recording, in thousand bits a second"
    )
    target.add_argument("--size", type=arguments.count, metavar="N", help="largest file, for example 20k or 1.5M")
    target.add_argument("--psnr", type=arguments.positive, metavar="DB", help="smallest PSNR of an image, in dB")
    parser.add_argument(
        "--effort",
        choices=get_args(Effort),
        default="none",
        help="how long to search for a smaller file of equal quality, of an image (default none)",
    )
    parser.add_argument("--verify", action="store_true", help="decode the result and compare before it is written")
    parser.add_argument(
        "--convert", action="store_true", help="convert CMYK, Lab, 16-bit and float pixels instead of refusing them"
    )
    parser.add_argument("--strip", action="store_true", help="leave out ICC, EXIF, XMP and the tags of recordings")
    arguments.add_batch_options(parser)
    arguments.add_limit_options(parser)
    arguments.add_report_options(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from triode.io import audio, image

    jobs = plan(
        args.inputs,
        output=args.output,
        output_dir=args.output_dir,
        recursive=args.recursive,
        rename=lambda path: path.with_suffix(".tri"),
        wanted=lambda path: path.suffix.lower() in image.READABLE | audio.READABLE,
    )
    options = EncodeOptions(
        model=args.model,
        quality=args.quality,
        bpp=args.bpp,
        kbps=args.kbps,
        size=args.size,
        psnr=args.psnr,
        effort=args.effort,
        verify=args.verify,
        force=args.force,
        convert=args.convert,
        strip=args.strip,
        limits=limits_of(args),
    )
    return convert(EncodeTask(options), jobs, args, "the encoded file")

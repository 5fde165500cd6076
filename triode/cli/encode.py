"""`triode encode`: media files to `.tri` files."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final, get_args

from triode.cli import arguments
from triode.cli.batch import convert
from triode.cli.common import UsageError, limits_of, open_any
from triode.cli.media.audio import AudioEncoder
from triode.cli.media.base import Conversion, Effort, EncodeOptions, Run, SoundMode
from triode.cli.media.image import ImageEncoder
from triode.cli.media.kinds import medium_of
from triode.cli.media.video_encoder import VideoEncoder
from triode.cli.targets import Job, plan

__all__ = ["Effort", "EncodeTask", "add_parser"]

_LONGEST_GOP: Final = 65535


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

    @cached_property
    def video(self) -> VideoEncoder:
        """What encodes videos."""
        return VideoEncoder(self.options)

    def run(self, job: Job, progress: Callable[[float], None] | None) -> Conversion:
        """Encode one input."""
        run = Run(job, time.perf_counter(), progress)
        job.claim(overwrite=self.options.force)
        with open_any(job.source) as file:
            medium = medium_of(file, job.source)
            if medium == "video":
                return self.video.encode(file, run)
            return (self.audio if medium == "audio" else self.image).encode(file, run)


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "encode",
        help="encode images, recordings and videos to .tri files",
        description="Encode images (PNG, JPEG, WebP, AVIF, TIFF and whatever else Pillow reads), recordings (WAV, "
        "FLAC, MP3, Opus, Ogg and more) and videos (MP4, Matroska, y4m and whatever else FFmpeg reads) to .tri files.",
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
        "--kbps",
        type=arguments.positive,
        metavar="X",
        help="largest rate of a recording or a video, in thousand bits a second",
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
    _add_video_options(parser)
    arguments.add_batch_options(parser, ", or on N groups of a video")
    arguments.add_limit_options(parser)
    arguments.add_report_options(parser)
    parser.set_defaults(run=_run)


def _add_video_options(parser: argparse.ArgumentParser) -> None:
    options = parser.add_argument_group("of videos, which do nothing to other media")
    options.add_argument(
        "--audio",
        choices=get_args(SoundMode),
        default="copy",
        help="what becomes of the sound: its packets are copied as they are (default), it is coded by the weights for "
        "sound, or left out",
    )
    options.add_argument(
        "--gop", type=arguments.positive_int, metavar="N", help="most frames of a group of pictures (default 32)"
    )
    options.add_argument("--no-scene-cuts", action="store_true", help="begin groups only where one is full")
    options.add_argument(
        "--resume", action="store_true", help="keep OUT.journal, and go on from the one of an encoding that was stopped"
    )
    options.add_argument(
        "--engine",
        choices=("process", "ray"),
        default="process",
        help="where -j codes groups (default process)",
    )
    options.add_argument(
        "--ray-address", metavar="ADDRESS", help="a Ray cluster that runs (default: one on this machine)"
    )


def _run(args: argparse.Namespace) -> int:
    from triode.io import audio, image, video

    if args.ray_address is not None and args.engine != "ray":
        raise UsageError("--ray-address belongs to --engine ray")
    if args.gop is not None and args.gop > _LONGEST_GOP:
        raise UsageError(f"--gop must be 1 to {_LONGEST_GOP}, got {args.gop}")

    jobs = plan(
        args.inputs,
        output=args.output,
        output_dir=args.output_dir,
        recursive=args.recursive,
        rename=lambda path: path.with_suffix(".tri"),
        wanted=lambda path: path.suffix.lower() in image.READABLE | audio.READABLE | video.READABLE,
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
        sound=args.audio,
        gop=args.gop,
        scenes=not args.no_scene_cuts,
        resume=args.resume,
        groups=None if args.jobs is None else max(1, args.jobs // len(jobs)),
        ray=False,
        limits=limits_of(args),
    )
    if args.engine == "process":
        return convert(EncodeTask(options), jobs, args, "the encoded file", workers=args.jobs or 1)
    from triode.eval.ray_engine import ray_cluster

    with ray_cluster(args.ray_address, args.jobs) as groups:
        task = EncodeTask(replace(options, ray=True, groups=groups))
        return convert(task, jobs, args, "the encoded file", workers=1)

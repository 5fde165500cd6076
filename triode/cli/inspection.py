"""What `triode info` and `triode verify` have in common."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from triode.cli import arguments
from triode.cli.batch import Report, Task, run
from triode.cli.common import limits_of
from triode.cli.media.audio import describe_audio
from triode.cli.media.base import Description
from triode.cli.media.image import describe_image
from triode.cli.media.video import describe_video
from triode.cli.targets import Job

if TYPE_CHECKING:
    from triode.codecs.info import AudioInfo, ImageInfo, VideoInfo
    from triode.container import DecodeLimits

__all__ = ["add_inspection", "describe_file"]


def add_inspection(
    parser: argparse.ArgumentParser, task: Callable[[DecodeLimits], Task], *, text_is_data: bool
) -> None:
    """Complete a command that reads `.tri` files and writes none.

    Args:
        parser: Its parser.
        task: Makes what it does, given the limits.
        text_is_data: Whether what it tells belongs on standard output.
    """

    def command(args: argparse.Namespace) -> int:
        quiet = text_is_data or args.quiet
        report = Report(json=args.json, quiet=quiet, verbose=args.verbose, text_is_data=text_is_data)
        return run(task(limits_of(args)), [Job(name, "") for name in args.inputs], report)

    arguments.add_inputs(parser, folders=False)
    arguments.add_limit_options(parser)
    arguments.add_report_options(parser)
    parser.set_defaults(run=command)


def describe_file(info: ImageInfo | AudioInfo | VideoInfo) -> Description:
    """Describe a file, whatever it holds."""
    if info.media == "video":
        return describe_video(info)  # type: ignore[arg-type]
    return describe_audio(info) if info.media == "audio" else describe_image(info)  # type: ignore[arg-type]

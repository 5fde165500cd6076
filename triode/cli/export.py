"""`triode export`: a training checkpoint to a weights file."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path

from triode.cli import arguments
from triode.cli.common import UsageError
from triode.cli.text import size_text

__all__ = ["add_parser"]

_SUFFIX = ".safetensors"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "export",
        help="make weights of a training checkpoint",
        description="Make a weights file (safetensors) of a training checkpoint: floats take 12 or 16 bits, the "
        "entropy networks become integers.",
    )
    parser.add_argument("checkpoint", metavar="CKPT", help="checkpoint that `triode train fit` wrote")
    parser.add_argument("-o", "--output", metavar="WEIGHTS", required=True, help="file to write, NAME.safetensors")
    parser.add_argument("-n", "--name", help="name of the weights, family-size.vN; default the name of the file")
    parser.add_argument(
        "--base", metavar="NAME", help="leave out what the weights of this name have; the file needs them beside it"
    )
    parser.add_argument("-f", "--force", action="store_true", help="overwrite a file that exists")
    arguments.add_report_options(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    output = Path(args.output)
    if output.suffix != _SUFFIX:
        raise UsageError(f"weights are {_SUFFIX} files, got -o {args.output}")

    from triode.io.files import atomic_path, check_target

    check_target(output, overwrite=args.force)
    Path(args.checkpoint).open("rb").close()

    from triode.train.export import export_checkpoint

    with atomic_path(output, overwrite=args.force) as path:
        name = args.name or output.name.removesuffix(_SUFFIX)
        info = export_checkpoint(Path(args.checkpoint), path, name, args.base)
    info = replace(info, path=output)
    if args.json:
        print(json.dumps(asdict(info), default=str))
    elif not args.quiet:
        print(f"{output}: {info.name}, {info.parameters} parameters, {size_text(info.bytes)}")
    return 0

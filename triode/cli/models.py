"""`triode models`: the weights that are installed."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from triode.cli import arguments
from triode.cli.text import size_text, table

__all__ = ["add_parser"]


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "models",
        help="list the weights that are installed",
        description="List the weights in the package and in $TRIODE_HOME. kMAC is thousands of multiplications a "
        "pixel or sample, entropy networks included.",
    )
    arguments.add_report_options(parser)
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    from triode.models.weights import list_weights

    found = list_weights()
    if args.json:
        for info in found:
            print(json.dumps(asdict(info), default=str))
        return 0
    rows = [("name", "media", "parameters", "kMAC encode", "kMAC decode", "size", "entropy digest")]
    rows += [
        (
            info.name,
            info.media,
            str(info.parameters),
            f"{info.kmac_encode:.1f}",
            f"{info.kmac_decode:.1f}",
            size_text(info.bytes),
            info.entropy_digest[:8],
        )
        for info in found
    ]
    print(table(rows, "llrrrrl"))
    return 0

"""`triode train`: LightningCLI, which has its own arguments."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from triode.errors import UnsupportedError

__all__ = ["add_parser", "run"]


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the list; `run` takes its arguments unparsed."""
    commands.add_parser(
        "train", help="train a model: `triode train fit --config FILE`, `triode train --help`", add_help=False
    )


def run(args: Sequence[str]) -> int:
    """Pass the arguments behind `triode train` on.

    Raises:
        UnsupportedError: The packages for training are not installed.
    """
    try:
        from triode.train.cli import train
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("triode"):
            raise
        raise UnsupportedError(
            f"training needs the package {error.name}, which is not installed; pip install 'triode[train]'"
        ) from error
    train(list(args))
    return 0

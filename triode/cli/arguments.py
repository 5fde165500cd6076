"""Argument types and the options that several commands share."""

from __future__ import annotations

import argparse
import math
import re
from typing import Final, NoReturn

__all__ = [
    "Parser",
    "add_batch_options",
    "add_inputs",
    "add_limit_options",
    "add_output_options",
    "add_report_options",
    "count",
    "positive",
    "positive_int",
    "quality",
]

_UNITS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}
_COUNT: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([kmg]?i?)b?", re.IGNORECASE)


class Parser(argparse.ArgumentParser):
    """A parser that answers wrong arguments with what is wrong, and where to read more, instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        """Print the message and end with exit code 2."""
        self.exit(2, f"triode: {message}; see `{self.prog} --help`\n")


def quality(text: str) -> float:
    """Read a quality, 0 to 100."""
    value = _number(text)
    if value is None or not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 100, got {text!r}")
    return value


def positive(text: str) -> float:
    """Read a finite number above 0."""
    value = _number(text)
    if value is None or value <= 0:
        raise argparse.ArgumentTypeError(f"must be a number above 0, got {text!r}")
    return value


def positive_int(text: str) -> int:
    """Read an integer above 0."""
    if not (text.isascii() and text.isdigit()) or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be an integer above 0, got {text!r}")
    return int(text)


def count(text: str) -> int:
    """Read a count above 0 with an optional unit: k, M, G are powers of 1000, Ki, Mi, Gi of 1024; a final B is ignored.

    `20k` is 20000, `1.5M` is 1500000, `64KiB` is 65536.
    """
    match = _COUNT.fullmatch(text.strip())
    scale = _UNITS.get(match[2].lower()) if match else None
    if match is None or scale is None or (value := int(float(match[1]) * scale)) <= 0:
        raise argparse.ArgumentTypeError(
            f"must be a number above 0, with k, M, G (1000) or Ki, Mi, Gi (1024) after it if you like, got {text!r}"
        )
    return value


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def add_inputs(parser: argparse.ArgumentParser, *, folders: bool) -> None:
    """Add the inputs; `folders` says whether they may be folders."""
    if folders:
        parser.add_argument("inputs", nargs="+", metavar="IN", help="file, folder (with -r), or - for standard input")
    else:
        parser.add_argument("inputs", nargs="+", metavar="FILE", help="file, or - for standard input")


def add_output_options(parser: argparse.ArgumentParser, suffix: str) -> None:
    """Add the options that say where results go; `suffix` names what the results are."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "-o", "--output", metavar="OUT", help=f"file to write, - for standard output; default IN with {suffix}"
    )
    where.add_argument("--output-dir", metavar="DIR", help="folder to write to, made if it is missing")
    parser.add_argument("-f", "--force", action="store_true", help="overwrite files that exist")


def add_batch_options(parser: argparse.ArgumentParser, more: str = "") -> None:
    """Add the options for many inputs; `more` says what else may be worked on at a time."""
    parser.add_argument(
        "-r", "--recursive", action="store_true", help="take folders, and mirror their tree under --output-dir"
    )
    parser.add_argument(
        "-j", "--jobs", type=positive_int, metavar="N", help=f"work on N files at a time{more} (default 1)"
    )


def add_limit_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that bound what a file may ask for."""
    parser.add_argument("--strict-limits", action="store_true", help="accept only what a server would take")
    parser.add_argument(
        "--max-pixels", type=count, metavar="N", help="largest image, for example 200M (default 179M, strict 33.5M)"
    )


def add_report_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what is printed."""
    parser.add_argument("--json", action="store_true", help="print one JSON object an input on standard output")
    talk = parser.add_mutually_exclusive_group()
    talk.add_argument("--quiet", action="store_true", help="print errors only")
    talk.add_argument("-v", "--verbose", action="store_true", help="print logs, and where an internal error arose")

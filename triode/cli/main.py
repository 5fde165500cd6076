"""The entry point: parses arguments, runs a command, turns every error into a message and an exit code."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Sequence

from triode.cli import bench, compare, decode, encode, export, info, models, train, verify
from triode.cli.arguments import Parser
from triode.cli.common import INTERRUPTED, USAGE, describe
from triode.cli.logs import set_up
from triode.version import __version__

__all__ = ["build_parser", "main"]

_EXIT_CODES = """\
exit codes:
  0 ok, 1 some inputs failed, 2 usage, 3 bad bitstream, 4 limit exceeded,
  5 model missing or mismatched, 6 verify failed, 130 interrupted
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; parsed arguments have the function of their command in `run`."""
    parser = Parser(
        prog="triode",
        description="Learned codecs for images, audio and video.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"triode {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for module in (encode, decode, info, verify, compare, bench, models, export, train):
        module.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; None for those of the process.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    verbose = "-v" in words or "--verbose" in words
    try:
        with _sigterm_cleans_up():
            return _dispatch(words)
    except SystemExit as stop:  # argparse, LightningCLI, SIGTERM
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        print("triode: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read standard output has left; point it elsewhere, or the interpreter complains at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        message, code = describe(error)
        if verbose and message.startswith("internal error"):
            traceback.print_exc()
        print(f"triode: {message}", file=sys.stderr)
        return code


def _dispatch(words: list[str]) -> int:
    if words[:1] == ["train"]:
        return train.run(words[1:])
    parser = build_parser()
    if not words:
        parser.print_help(sys.stderr)
        return USAGE
    args = parser.parse_args(words, argparse.Namespace(words=words))
    set_up(quiet=args.quiet, verbose=args.verbose)
    code: int = args.run(args)
    sys.stdout.flush()
    return code


@contextlib.contextmanager
def _sigterm_cleans_up() -> Iterator[None]:
    """Let SIGTERM unwind the stack, so that unfinished files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

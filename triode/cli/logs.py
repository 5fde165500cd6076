"""Logs and warnings, on standard error, one line each."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import TextIO

__all__ = ["set_up"]


def set_up(*, quiet: bool, verbose: bool) -> None:
    """Send logs and warnings to standard error.

    Args:
        quiet: Whether to leave out what is not an error.
        verbose: Whether to include information.
    """
    level = logging.ERROR if quiet else logging.INFO if verbose else logging.WARNING
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("triode: %(levelname)s: %(message)s"))
    logger = logging.getLogger("triode")
    logger.handlers[:] = [handler]
    logger.setLevel(level)

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if not quiet:
            print(f"triode: warning: {message}", file=file or sys.stderr, flush=True)

    warnings.showwarning = show

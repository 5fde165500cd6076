"""How far `triode bench` is, told on standard error."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

from triode.cli.progress import Bar

if TYPE_CHECKING:
    from triode.eval.runner import Status

__all__ = ["BenchProgress"]

_LINE_SECONDS: Final = 10.0


class BenchProgress(Bar):
    """How far the bench is, on standard error: a bar on a terminal, else a line now and then.

    Args:
        quiet: Whether to tell failures alone.
        verbose: Whether to tell every measurement.
    """

    def __init__(self, *, quiet: bool, verbose: bool) -> None:
        super().__init__()
        self._quiet, self._verbose = quiet, verbose
        self._last = time.monotonic()

    def show(self, status: Status) -> None:
        """Show a status."""
        latest = status.latest
        if latest is None:
            self._begin(status)
            return
        where = f"{latest.item}, {latest.codec} at {latest.quality:g}"
        if latest.error is not None:
            self.say(f"triode: {where}: failed: {latest.error}")
        elif self._verbose:
            seconds = f"{latest.encode_seconds:.3g} + {latest.decode_seconds:.3g} s"
            self.say(f"triode: {where}: {latest.bytes} bytes, {seconds}")
        left = _duration(status.seconds_left)
        if self._bar is not None:
            self._bar.set_description_str(left, refresh=False)
            self._bar.update(status.done - self._bar.n)
        elif not self._quiet and (time.monotonic() - self._last >= _LINE_SECONDS or status.done == status.total):
            self._last = time.monotonic()
            failed = f", {status.failed} failed" * bool(status.failed)
            self.say(f"triode: {status.done} of {status.total}{failed}, {left} left")

    def _begin(self, status: Status) -> None:
        if status.reused and not self._quiet:
            self.say(f"triode: {status.reused} of {status.total} are measured already; -f starts anew")
        if self._quiet or not sys.stderr.isatty() or status.done == status.total:
            return
        from tqdm import tqdm

        self._bar = tqdm(
            total=status.total,
            initial=status.done,
            file=sys.stderr,
            leave=False,
            desc="?",
            bar_format="{n}/{total} |{bar}| {elapsed}<{desc}",
            dynamic_ncols=True,
        )


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

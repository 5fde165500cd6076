"""How far `triode bench` is, told on standard error."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Final, NoReturn, Self

if TYPE_CHECKING:
    from tqdm import tqdm

    from triode.eval.runner import Status

__all__ = ["BenchProgress"]

_LINE_SECONDS: Final = 10.0


class BenchProgress:
    """How far the bench is, on standard error: a bar on a terminal, else a line now and then.

    To be used in a `with` statement.

    Args:
        quiet: Whether to tell failures alone.
        verbose: Whether to tell every measurement.
    """

    def __init__(self, *, quiet: bool, verbose: bool) -> None:
        self._quiet, self._verbose = quiet, verbose
        self._bar: tqdm[NoReturn] | None = None
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        """Return this object."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wipe the bar."""
        if self._bar is not None:
            self._bar.close()

    def show(self, status: Status) -> None:
        """Show a status."""
        latest = status.latest
        if latest is None:
            self._begin(status)
            return
        where = f"{latest.item}, {latest.codec} at {latest.quality:g}"
        if latest.error is not None:
            self._say(f"{where}: failed: {latest.error}")
        elif self._verbose:
            seconds = f"{latest.encode_seconds:.3g} + {latest.decode_seconds:.3g} s"
            self._say(f"{where}: {latest.bytes} bytes, {seconds}")
        left = _duration(status.seconds_left)
        if self._bar is not None:
            self._bar.set_description_str(left, refresh=False)
            self._bar.update(status.done - self._bar.n)
        elif not self._quiet and (time.monotonic() - self._last >= _LINE_SECONDS or status.done == status.total):
            self._last = time.monotonic()
            self._say(
                f"{status.done} of {status.total}{f', {status.failed} failed' * bool(status.failed)}, {left} left"
            )

    def _begin(self, status: Status) -> None:
        if status.reused and not self._quiet:
            self._say(f"{status.reused} of {status.total} are measured already; -f starts anew")
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

    def _say(self, text: str) -> None:
        if self._bar is None:
            print(f"triode: {text}", file=sys.stderr, flush=True)
        else:
            self._bar.write(f"triode: {text}", file=sys.stderr)


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

"""A progress bar on standard error, where that is a terminal."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self

if TYPE_CHECKING:
    from tqdm import tqdm

__all__ = ["Bar", "Progress"]

_DELAY_SECONDS = 0.5


class Bar:
    """A bar that is wiped at the end, if there is one; to be used in a `with` statement.

    Messages go through `say`, so that they do not tear the bar.
    """

    def __init__(self) -> None:
        self._bar: tqdm[NoReturn] | None = None

    def __enter__(self) -> Self:
        """Return the bar."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wipe the bar."""
        if self._bar is not None:
            self._bar.close()

    def say(self, text: str) -> None:
        """Print a line on standard error."""
        if self._bar is None:
            print(text, file=sys.stderr, flush=True)
        else:
            self._bar.write(text, file=sys.stderr)


class Progress(Bar):
    """A bar over all inputs; every input counts 1, and part of it while it is being worked on."""

    def __init__(self, total: int, *, quiet: bool = False) -> None:
        """Make the bar, if there is anybody to see it; it appears only if the work takes longer than a moment.

        Args:
            total: Number of inputs.
            quiet: Whether to show no bar.
        """
        super().__init__()
        self._done = 0
        if quiet or not sys.stderr.isatty():
            return
        from tqdm import tqdm

        layout = (
            "{percentage:3.0f}% |{bar}| {elapsed}" if total == 1 else "{n:.1f}/{total} |{bar}| {elapsed}<{remaining}"
        )
        self._bar = tqdm(
            total=total, file=sys.stderr, leave=False, delay=_DELAY_SECONDS, bar_format=layout, dynamic_ncols=True
        )

    def part(self, share: float) -> None:
        """Show how much of the present input is done, 0 to 1."""
        self._to(self._done + min(max(share, 0.0), 1.0))

    def advance(self) -> None:
        """Show that one more input is done."""
        self._done += 1
        self._to(self._done)

    def _to(self, position: float) -> None:
        if self._bar is not None and position > self._bar.n:
            self._bar.update(position - self._bar.n)

"""How much memory work takes at its worst, as Linux counts it; elsewhere nothing is measured."""

from __future__ import annotations

import ctypes
import gc
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

__all__ = ["MemoryMeter"]

_PROC: Final = Path("/proc")
_RESET_PEAK: Final = "5"
_PERIOD_SECONDS: Final = 0.02


class MemoryMeter:
    """Measures the most memory that was resident while its `with` block ran, less what was resident before.

    The kernel's own high-water mark (``VmHWM`` in proc(5)) is reset and read, so that no peak is missed. Programs that
    the block starts count as well: their marks are looked at every 20 ms while they live.

    Attributes:
        peak: Bytes, after the block; None where the system does not tell.
    """

    def __init__(self) -> None:
        self.peak: int | None = None
        self._before: int | None = None
        self._children = 0
        self._over = threading.Event()
        self._watch: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Give back what is free, and reset the mark."""
        gc.collect(1)  # the young generations, where earlier work is; all of them takes as long as coding an image
        _trim()
        try:
            (_PROC / "self/clear_refs").write_text(_RESET_PEAK)
        except OSError:  # not Linux, or forbidden
            return self
        self._before = _status(os.getpid(), "VmRSS")
        self._watch = threading.Thread(target=self._watch_children, daemon=True)
        self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Read the mark."""
        after = _status(os.getpid(), "VmHWM")
        if self._watch is not None:
            self._over.set()
            self._watch.join()
        if self._before is not None and after is not None:
            self.peak = max(0, after - self._before) + self._children

    def _watch_children(self) -> None:
        while not self._over.wait(_PERIOD_SECONDS):
            found = sum(_status(process, "VmHWM") or 0 for process in _descendants(os.getpid()))
            self._children = max(self._children, found)


def _status(process: int, field: str) -> int | None:
    """Return a field of a process's status in bytes; None where there is no such process or field."""
    try:
        text = (_PROC / str(process) / "status").read_text()
    except OSError:
        return None
    values = (line.split() for line in text.splitlines() if line.startswith(f"{field}:"))
    return next((1024 * int(words[1]) for words in values), None)


def _descendants(process: int) -> list[int]:
    found: list[int] = []
    for thread in (_PROC / str(process) / "task").glob("*/children"):
        try:
            children = [int(word) for word in thread.read_text().split()]
        except OSError:  # it has ended meanwhile
            continue
        for child in children:
            found += [child, *_descendants(child)]
    return found


def _trim() -> None:
    """Let glibc return freed memory, which would count as resident before the block and hide what the block takes."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError, TypeError):  # another C library
        return

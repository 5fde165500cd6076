"""Run a command as a process of its own; measure its peak memory and its seconds."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process took.

    Attributes:
        peak_bytes: Its peak resident memory.
        seconds: Wall time from its start to its end.
    """

    peak_bytes: int
    seconds: float

    @property
    def mebibytes(self) -> dict[str, float]:
        """Return it as a report has it: ``peak_mib`` and ``seconds``."""
        return {"peak_mib": round(self.peak_bytes / 2**20, 1), "seconds": round(self.seconds, 1)}


def measured(command: Sequence[object]) -> Usage:
    """Run a command, whose output on stdout is dropped.

    The kernel counts the peak of this process to that of a process that it starts, so nothing large may have been done
    here before.

    Raises:
        SystemExit: If it fails.
    """
    start = time.perf_counter()
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        raise SystemExit(f"{' '.join(map(str, command))} failed: {os.waitstatus_to_exitcode(status)}")
    return Usage(usage.ru_maxrss * 1024, seconds)


def growth(short: dict[str, dict[str, float]], long: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return by how many MiB the peaks of the steps of a long input exceed those of a short one."""
    return {what: round(long[what]["peak_mib"] - short[what]["peak_mib"], 1) for what in long}

"""What worker processes of this package have in common: one thread each, and an end with their parent's."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["THREADS", "belong_to_parent", "one_thread_each"]

THREADS: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Variables of the environment that say how many threads a process computes in."""


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let processes started meanwhile compute in one thread; libraries read these variables when they are loaded."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def belong_to_parent() -> None:
    """Let this process, a worker, leave Ctrl-C to its parent, and end when that is gone, however it went."""
    # Ctrl-C reaches every process of a terminal; the parent alone decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)

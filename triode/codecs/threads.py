"""Tasks that several threads of this process work on, their results in order.

The operations of a frame are too small to be shared well: two threads with a group of pictures each get more done than
two that share every operation. PyTorch, NumPy and the range coder leave the interpreter to others while they compute.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import Final, TypeVar

import torch

__all__ = ["MOST_WORKERS", "Check", "in_order"]

MOST_WORKERS: Final = 8
"""More would wait for the interpreter rather than work."""

Result = TypeVar("Result")
Check = Callable[[], None]
"""What a task calls now and then: it raises where nobody waits for the result any more."""


class _AbandonedError(Exception):
    """Nobody waits for the result."""


def in_order(tasks: Iterable[Callable[[Check], Result]], workers: int) -> Iterator[Result]:
    """Run tasks, several at once, and yield what they return, in order.

    The threads of PyTorch are shared out among the workers. No more tasks are drawn than are worked on. A single task
    runs in the thread of the caller, with all of PyTorch's.

    Args:
        tasks: Functions of no state in common; drawn in the thread of the caller.
        workers: How many run at once, at most :data:`MOST_WORKERS`.

    Raises:
        Exception: What a task raises, or what drawing one raises, once all results before it are yielded.
    """
    source = _to_the_end(tasks)
    threads, workers = torch.get_num_threads(), min(workers, MOST_WORKERS)
    begun = list(islice(source, 2 if workers > 1 else 0))
    if len(begun) < 2:
        yield from (task(_go_on) for task in chain(begun, source))
        return
    stop = threading.Event()

    def check() -> None:
        if stop.is_set():
            raise _AbandonedError

    share = max(1, threads // workers)
    # This sets the number of threads of the worker that calls it, and what threads that begin later start with.
    pool = ThreadPoolExecutor(workers, "triode", torch.set_num_threads, (share,))
    waiting: deque[Future[Result]] = deque(pool.submit(task, check) for task in begun)
    try:
        while waiting:
            while len(waiting) < workers and (task := next(source, None)) is not None:
                waiting.append(pool.submit(task, check))
            yield waiting.popleft().result()
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def _go_on() -> None:
    """Raise nothing: the caller itself works."""


def _to_the_end(tasks: Iterable[Callable[[Check], Result]]) -> Iterator[Callable[[Check], Result]]:
    """Pass on tasks; if drawing one fails, the last one fails like it."""
    try:
        yield from tasks
    except Exception as error:
        cause = error

        def fail(check: Check) -> Result:
            raise cause

        yield fail

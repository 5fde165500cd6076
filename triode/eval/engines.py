"""Where the tasks of a bench run: in this process, in several processes, or on Ray.

Each engine draws tasks from a schedule and yields what came of them as it comes. This module imports nothing heavy, for
worker processes must set how many threads libraries take before they load them.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.reduction import ForkingPickler
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Final

from triode.codecs.processes import belong_to_parent, one_thread_each

if TYPE_CHECKING:
    from types import FrameType

    from triode.eval.schedule import Schedule
    from triode.eval.task import Outcome, Setup, Task, Worker

__all__ = [
    "DIED",
    "ENGINES",
    "Outcomes",
    "SetupError",
    "check_portable",
    "cores",
    "run",
    "start_worker",
]

ENGINES: Final = ("serial", "process", "ray")

_GRACE_SECONDS: Final = 5.0
DIED: Final = "the worker process died twice, perhaps for lack of memory"

Outcomes = Generator[tuple["Task", "Outcome"], None, None]


def cores() -> int:
    """Return how many processor cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def run(engine: str, setup: Setup, schedule: Schedule, jobs: int) -> Outcomes:
    """Run all tasks of a schedule.

    Args:
        engine: ``serial``, ``process``, or ``ray``, which must be started: see ``triode.eval.ray_engine``.
        setup: What the tasks share.
        schedule: The tasks; the caller tells it of those that are done.
        jobs: Number of worker processes.

    Yields:
        Each task with its outcome, in the order in which they end.

    Raises:
        ValueError: If there is no such engine, or a codec or metric cannot be had in another process.
    """
    if engine == "serial":
        return _serial(setup, schedule)
    if engine == "process":
        return _processes(setup, schedule, jobs)
    if engine == "ray":
        from triode.eval.ray_engine import run_on_ray

        return run_on_ray(setup, schedule, jobs)
    raise ValueError(f"Unknown engine {engine!r}; there are {', '.join(ENGINES)}")


def _serial(setup: Setup, schedule: Schedule) -> Outcomes:
    import torch

    from triode.eval.task import Worker

    threads = torch.get_num_threads()
    worker = Worker(setup)
    try:
        while (task := schedule.next()) is not None:
            yield task, worker.run(task)
    finally:
        worker.close()
        torch.set_num_threads(threads)


class SetupError(ValueError):
    """What tasks share cannot be had in another process."""


def check_portable(setup: Setup, engine: str) -> None:
    """Check that a setup can be sent to another process.

    Raises:
        SetupError: If it cannot be; the message names what cannot.
    """
    for part in (*setup.codecs, *setup.metrics, *setup.items):
        try:
            ForkingPickler.dumps(part)
        except Exception as error:  # objects may raise anything here
            name = getattr(part, "name", None) or part
            raise SetupError(
                f"{name!r} cannot be sent to another process ({error}), which the engine {engine!r} needs: make it of "
                "functions and classes that stand at the top of a module, or take the engine 'serial'"
            ) from None


def start_worker(load: Callable[[], Setup]) -> Worker:
    """Make a worker in its process.

    Args:
        load: Returns the setup that was sent.

    Raises:
        SetupError: If that fails.
    """
    try:
        from triode.eval.task import Worker

        return Worker(load())
    except Exception as error:
        raise SetupError(
            f"a worker process cannot load what it is sent ({type(error).__name__}: {error}): codecs and metrics must "
            "stand in modules that it can import, or take the engine 'serial'"
        ) from None


def _processes(setup: Setup, schedule: Schedule, jobs: int) -> Outcomes:
    check_portable(setup, "process")
    with one_thread_each():
        pool = _Pool(setup, jobs)
        try:
            while True:
                while len(pool.running) < jobs and not pool.is_broken and (task := schedule.next()) is not None:
                    pool.submit(task)
                if not pool.running:
                    break
                lost = []
                for task, outcome in pool.finished():
                    if outcome is None:
                        lost.append(task)
                    else:
                        yield task, outcome
                if lost:
                    # Any of them may have killed its worker; alone, each shows whether it does.
                    pool.stop()
                    yield from _one_by_one(setup, lost)
                    pool = _Pool(setup, jobs)
        except BaseException:
            pool.stop()
            raise
        pool.shutdown()


def _one_by_one(setup: Setup, tasks: list[Task]) -> Outcomes:
    """Try tasks once more, each alone in a worker."""
    from triode.eval.task import failure

    pool = _Pool(setup, 1)
    try:
        for task in tasks:
            pool.submit(task)
            [(_, outcome)] = pool.finished()
            if outcome is None:
                pool.stop()
                outcome = failure(setup, task, DIED)
                pool = _Pool(setup, 1)
            yield task, outcome
    except BaseException:
        pool.stop()
        raise
    pool.shutdown()


class _Pool:
    """Worker processes, and the tasks that they have now.

    Attributes:
        running: Tasks by what will hold their outcome.
        is_broken: Whether a worker died.
    """

    def __init__(self, setup: Setup, jobs: int) -> None:
        self.running: dict[Future[Outcome], Task] = {}
        self.is_broken = False
        # A fork would copy the locks of libraries with threads.
        context = multiprocessing.get_context("spawn")
        before = set(multiprocessing.active_children())
        self._others = before
        # As bytes, so that what cannot be loaded there is told of, and does not end the process.
        sent = bytes(ForkingPickler.dumps(setup))
        self._pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start, initargs=(sent,))

    def submit(self, task: Task) -> None:
        """Hand over a task."""
        try:
            future = self._pool.submit(_work, task)
        except BrokenProcessPool as error:
            future = Future()
            future.set_exception(error)
        self.running[future] = task

    def finished(self) -> Iterator[tuple[Task, Outcome | None]]:
        """Wait for tasks, and yield those that ended, with None those that a dead worker had."""
        done, _ = wait(self.running, return_when=FIRST_COMPLETED)
        if any(isinstance(future.exception(), BrokenProcessPool) for future in done):
            self.is_broken = True
            done, _ = wait(self.running)  # the pool fails them all
        for future in done:
            task = self.running.pop(future)
            yield task, None if isinstance(future.exception(), BrokenProcessPool) else future.result()

    def shutdown(self) -> None:
        """End the workers in their own time."""
        self._pool.shutdown()

    def stop(self) -> None:
        """End the workers now; each unwinds, so that programs that it started end and temporary files go."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        workers = [child for child in multiprocessing.active_children() if child not in self._others]
        for child in workers:
            child.terminate()
        for child in workers:
            child.join(_GRACE_SECONDS)
            if child.is_alive():
                child.kill()


class _Terminated(BaseException):
    """The parent ends this worker."""


_sent = b""
_worker: Worker | None = None


def _start(sent: bytes) -> None:
    """Prepare a worker process."""
    global _sent
    _sent = sent
    belong_to_parent()


def _work(task: Task) -> Outcome:
    global _worker
    try:
        before = signal.signal(signal.SIGTERM, _terminate)
        if _worker is None:
            _worker = start_worker(lambda: ForkingPickler.loads(_sent))
            Finalize(None, _worker.close, exitpriority=0)
        outcome = _worker.run(task)
        signal.signal(signal.SIGTERM, before)
    except _Terminated:
        # The pool would take this for a result and go on; what had to be cleaned up is cleaned up by now.
        os._exit(128 + signal.SIGTERM)
    return outcome


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated

"""Many inputs: one after the other or in worker processes, each failing for itself."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import traceback
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from typing import Protocol

from triode.cli.common import STDIO, Failure, UsageError, describe, shown
from triode.cli.logs import set_up
from triode.cli.progress import Progress
from triode.cli.targets import Job

__all__ = ["Record", "Report", "Task", "convert", "run"]

_GRACE_SECONDS = 5.0


class Record(Protocol):
    """What came of an input."""

    def json(self) -> str:
        """Return a JSON object on one line."""

    def summary(self) -> str:
        """Return text for people."""


class Task(Protocol):
    """What is done to every input. It is sent to the workers, so it holds options only until it first runs."""

    def run(self, job: Job, progress: Callable[[float], None] | None) -> Record:
        """Work on one input, and raise what keeps it from being done."""


@dataclass(frozen=True, slots=True)
class Report:
    """How results are told.

    Attributes:
        json: Whether to print JSON objects on standard output.
        quiet: Whether to tell people of errors only.
        verbose: Whether to print where internal errors arose.
        text_is_data: Whether summaries are the data that was asked for, and belong on standard output.
    """

    json: bool
    quiet: bool
    verbose: bool
    text_is_data: bool = False

    def tell(self, outcome: Record | Failure, bar: Progress) -> None:
        """Print one outcome."""
        if isinstance(outcome, Failure):
            bar.say(f"triode: {shown(outcome.input, 'input')}: {outcome.error}")
            if self.json:
                fields = {key: value for key, value in asdict(outcome).items() if value is not None}
                print(json.dumps(fields), flush=True)
        elif self.json:
            print(outcome.json(), flush=True)
        elif self.text_is_data:
            print(outcome.summary(), flush=True)
        elif not self.quiet:
            bar.say(outcome.summary())


def run(task: Task, jobs: Sequence[Job], report: Report, *, workers: int = 1) -> int:
    """Run a task on every job and report each, in their order.

    Args:
        task: What to do.
        jobs: On what.
        report: How to tell of it.
        workers: Number of processes; with 1, the work is done in this one.

    Returns:
        Exit code: 0 if all went well, the failures' own code if all failed alike, 1 otherwise.

    Raises:
        UsageError: Several workers would have to share a standard stream.
    """
    codes: list[int] = []
    workers = min(workers, len(jobs))
    if workers > 1 and any(STDIO in (job.source, job.target) for job in jobs):
        raise UsageError("-j works on files, and - is a standard stream; leave out one of them")
    with Progress(len(jobs), quiet=report.quiet) as bar:
        outcomes = _here(task, jobs, report, bar) if workers <= 1 else _in_workers(task, jobs, report, workers)
        for outcome in outcomes:
            codes.append(outcome.exit_code if isinstance(outcome, Failure) else 0)
            report.tell(outcome, bar)
            bar.advance()
    return codes[0] if len(set(codes)) == 1 else int(any(codes))


def convert(task: Task, jobs: Sequence[Job], args: Namespace, what: str, *, workers: int) -> int:
    """Run a task that writes files, as the options of the command line say; see :func:`run`.

    Args:
        task: What to do.
        jobs: On what.
        args: Parsed arguments.
        what: What the task writes, for messages.
        workers: Number of processes.

    Raises:
        UsageError: Standard output would get both data and JSON.
    """
    if args.json and any(job.target == STDIO for job in jobs):
        raise UsageError(f"--json and {what} both want standard output; name a file with -o")
    return run(task, jobs, Report(json=args.json, quiet=args.quiet, verbose=args.verbose), workers=workers)


def _here(task: Task, jobs: Sequence[Job], report: Report, bar: Progress) -> Iterator[Record | Failure]:
    for job in jobs:
        yield _attempt(task, job, bar.part, verbose=report.verbose)


def _attempt(task: Task, job: Job, progress: Callable[[float], None] | None, *, verbose: bool) -> Record | Failure:
    try:
        return task.run(job, progress)
    except BrokenPipeError:
        raise  # nobody reads standard output any more
    except Exception as error:
        message, code = describe(error, job.source)
        if verbose and message.startswith("internal error"):
            traceback.print_exc()
        return Failure(job.source, job.target if job.target else None, message, type(error).__name__, code)


def _in_workers(task: Task, jobs: Sequence[Job], report: Report, workers: int) -> Iterator[Record | Failure]:
    pool = ProcessPoolExecutor(
        workers,
        mp_context=multiprocessing.get_context("spawn"),  # a fork would copy the locks of libraries with threads
        initializer=_start,
        initargs=(task, max(1, _cores() // workers), report.quiet, report.verbose),
    )
    try:
        for job, future in [(job, _submit(pool, job)) for job in jobs]:
            try:
                yield future.result()
            except BrokenProcessPool:
                text = "a worker process died, perhaps for lack of memory; try a smaller -j"
                yield Failure(job.source, job.target, text, "BrokenProcessPool", 1)
    except BaseException:
        _stop(pool)
        raise
    pool.shutdown()


def _submit(pool: ProcessPoolExecutor, job: Job) -> Future[Record | Failure]:
    try:
        return pool.submit(_work, job)
    except BrokenProcessPool as error:  # a worker died while jobs were still being handed over
        failed: Future[Record | Failure] = Future()
        failed.set_exception(error)
        return failed


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _stop(pool: ProcessPoolExecutor) -> None:
    """End the workers now; each removes its unfinished file."""
    pool.shutdown(wait=False, cancel_futures=True)
    children = multiprocessing.active_children()
    for child in children:
        child.terminate()
    for child in children:
        child.join(_GRACE_SECONDS)
        if child.is_alive():
            child.kill()


_task: Task | None = None
_verbose = False


def _start(task: Task, threads: int, quiet: bool, verbose: bool) -> None:
    """Prepare a worker process, before anything has loaded torch."""
    global _task, _verbose
    _task, _verbose = task, verbose
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    # Ctrl-C reaches every process of a terminal; the parent alone decides, and ends its workers by SIGTERM.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    set_up(quiet=quiet, verbose=verbose)


def _work(job: Job) -> Record | Failure:
    assert _task is not None  # noqa: S101  # set by _start
    try:
        return _attempt(_task, job, None, verbose=_verbose)
    except SystemExit:
        # The pool would take this for a result and go on; what had to be cleaned up is cleaned up by now.
        os._exit(128 + signal.SIGTERM)

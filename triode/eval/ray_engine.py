"""Tasks of a bench on Ray (https://www.ray.io): on this machine, or on a cluster whose nodes see the same files."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from triode.codecs.processes import one_thread_each
from triode.errors import UnsupportedError
from triode.eval.engines import DIED, Outcomes, check_portable, cores, start_worker
from triode.eval.task import Outcome, Setup, Task, Worker, failure

if TYPE_CHECKING:
    from triode.eval.schedule import Schedule

__all__ = ["ray_cluster", "run_on_ray"]

_STORE_BYTES: Final = 100 << 20


def _import_ray() -> Any:
    # Ray would rewrite these variables on machines with accelerators, and say so.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a bench reports to nobody
    try:
        import ray
    except ImportError as error:
        raise UnsupportedError("the engine 'ray' needs Ray: pip install 'triode[ray]'") from error
    return ray


@contextlib.contextmanager
def ray_cluster(address: str | None, jobs: int | None) -> Iterator[int]:
    """Connect to a cluster, or start one on this machine, until the block ends.

    A Ray that this process has started before is used as it is, and left running.

    Args:
        address: As Ray takes it, such as ``auto`` or ``ray://HOST:10001``; None for a cluster of one's own.
        jobs: Number of workers; None for one a processor core of the cluster.

    Yields:
        The number of workers.

    Raises:
        UnsupportedError: If Ray is not installed.
        ConnectionError: If there is no cluster at the address.
    """
    ray = _import_ray()
    if ray.is_initialized():
        yield jobs or _cluster_cores(ray)
        return
    options: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        options |= {"num_cpus": jobs or cores(), "object_store_memory": _STORE_BYTES}
    else:
        options = {"address": address, "log_to_driver": False, "logging_level": logging.ERROR}
    with one_thread_each():  # processes that are started now inherit it
        ray.init(**options)
    try:
        yield jobs or _cluster_cores(ray)
    finally:
        ray.shutdown()


def _cluster_cores(ray: Any) -> int:
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def run_on_ray(setup: Setup, schedule: Schedule, jobs: int) -> Outcomes:
    """Run all tasks of a schedule on the Ray of :func:`ray_cluster`; see ``triode.eval.engines.run``.

    Each worker is an actor with one core, for which Ray sets one thread.

    Raises:
        ValueError: If a codec or metric cannot be had in another process.
    """
    check_portable(setup, "ray")
    ray = _import_ray()
    actor_class = ray.remote(num_cpus=1, max_restarts=0)(_Actor)
    # In a list, so that the actor fetches it when its path is set, and can say what is wrong with it.
    shared = [ray.put(setup)]

    def new_actor() -> Any:
        return actor_class.remote(sys.path, shared)

    idle = [new_actor() for _ in range(jobs)]
    running: dict[Any, tuple[Any, Task]] = {}
    try:
        while True:
            while idle and (task := schedule.next()) is not None:
                actor = idle.pop()
                running[actor.run.remote(task)] = actor, task
            if not running:
                return
            for reference in ray.wait(list(running), num_returns=1)[0]:
                actor, task = running.pop(reference)
                outcome = _outcome(ray, reference)
                if outcome is None:
                    actor = new_actor()
                    outcome = _outcome(ray, actor.run.remote(task))
                if outcome is None:
                    actor, outcome = new_actor(), failure(setup, task, DIED)
                idle.append(actor)
                yield task, outcome
    finally:
        for actor in [*idle, *(actor for actor, _ in running.values())]:
            ray.kill(actor)


def _outcome(ray: Any, reference: Any) -> Outcome | None:
    """Return what came of a task; None where its worker died."""
    try:
        found: Outcome = ray.get(reference)
    except ray.exceptions.RayActorError:
        return None
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    return found


class _Actor:
    """A worker process on Ray."""

    def __init__(self, path: list[str], shared: list[Any]) -> None:
        sys.path += [folder for folder in path if folder not in sys.path]
        self._shared = shared
        self._worker: Worker | None = None

    def run(self, task: Task) -> Outcome:
        """Measure a task."""
        if self._worker is None:
            self._worker = start_worker(lambda: _import_ray().get(self._shared[0]))
        return self._worker.run(task)

"""Which task is next: long ones first, by what the codecs turn out to take; and how long it all will last."""

from __future__ import annotations

from collections.abc import Sequence

from triode.eval.task import Task

__all__ = ["Schedule"]


class Schedule:
    """Hands out tasks such that workers end at about the same time.

    One short task of every codec comes first, to learn how many seconds a unit of the item (a pixel or a second) takes
    it; then the longest ones, as they are expected to be (R. L. Graham, "Bounds on multiprocessing timing anomalies",
    SIAM J. Appl. Math. 17(2), 1969).

    Args:
        tasks: All of them.
        units: Size of each item, by its place in the setup.
    """

    def __init__(self, tasks: Sequence[Task], units: Sequence[float]) -> None:
        self._units = units
        self._waiting: dict[int, list[Task]] = {}
        # Small items first, to be popped from the end; tasks of one item are neighbours, so that it is loaded once.
        for task in sorted(tasks, key=lambda task: (units[task.item], task.item, task.quality)):
            self._waiting.setdefault(task.codec, []).append(task)
        self._unknown = list(self._waiting)
        self._spent: dict[int, tuple[float, float]] = {}
        self._running: list[Task] = []

    def next(self) -> Task | None:
        """Return the next task, which counts as running until :meth:`done`; None when all are handed out."""
        if self._unknown:
            task = self._take(self._unknown.pop(0), 0)
        elif self._waiting:
            longest = max(self._waiting, key=lambda codec: self._expected(self._waiting[codec][-1]))
            task = self._take(longest, -1)
        else:
            return None
        self._running.append(task)
        return task

    def done(self, task: Task, seconds: float) -> None:
        """Note how long a task took."""
        self._running.remove(task)
        time, units = self._spent.get(task.codec, (0.0, 0.0))
        self._spent[task.codec] = time + seconds, units + self._units[task.item]

    def seconds_left(self, workers: int) -> float | None:
        """Return how long so many workers will need; None while nothing is known."""
        if not self._spent:
            return None
        left = sum(self._expected(task) for tasks in self._waiting.values() for task in tasks)
        running = sum(self._expected(task) for task in self._running)
        return (left + running / 2) / workers  # those that run are half done, on average

    def _take(self, codec: int, place: int) -> Task:
        task = self._waiting[codec].pop(place)
        if not self._waiting[codec]:
            del self._waiting[codec]
        return task

    def _expected(self, task: Task) -> float:
        """Return the expected seconds of a task; of a codec not yet known, the mean of the others."""
        time, units = self._spent.get(task.codec, (0.0, 0.0))
        if not units:
            time, units = (sum(values) for values in zip(*self._spent.values(), strict=True)) if self._spent else (1, 1)
        return time * self._units[task.item] / units

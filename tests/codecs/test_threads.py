"""Tasks in threads: results in order, errors at their place, nothing left running."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
import torch

from triode.codecs.threads import MOST_WORKERS, Check, in_order


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    assert torch.get_num_threads() == 4
    torch.set_num_threads(before)


def tasks(count: int, run: Callable[[int, Check], object]) -> Iterator[Callable[[Check], object]]:
    for number in range(count):
        yield lambda check, n=number: run(n, check)


@pytest.mark.parametrize("workers", [1, 2, 3, 100])
@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_results_in_order(workers: int, count: int) -> None:
    def run(number: int, _: Check) -> int:
        time.sleep(0.002 * (count - number))  # The later the faster.
        return number

    assert list(in_order(tasks(count, run), workers)) == list(range(count))


def test_runs_as_many_at_once_as_there_are_workers() -> None:
    together = threading.Barrier(3)  # It breaks where fewer come.

    def run(_: int, __: Check) -> int:
        together.wait(10)
        return torch.get_num_threads()

    assert list(in_order(tasks(6, run), 3)) == [1] * 6  # Of four threads each worker has its share, one.


def test_more_workers_than_are_of_use() -> None:
    names = set(in_order(tasks(40, lambda _, __: time.sleep(0.01) or threading.current_thread().name), 1000))
    assert 1 < len(names) <= MOST_WORKERS


@pytest.mark.parametrize(("workers", "count"), [(1, 3), (2, 1)])
def test_what_is_alone_runs_in_the_thread_of_the_caller_with_all_of_its_threads(workers: int, count: int) -> None:
    found = in_order(tasks(count, lambda _, __: (threading.current_thread(), torch.get_num_threads())), workers)
    assert set(found) == {(threading.main_thread(), 4)}


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_no_more_are_drawn_than_are_worked_on(workers: int) -> None:
    drawn: list[int] = []

    def source() -> Iterator[Callable[[Check], object]]:
        for number in range(12):
            drawn.append(number)
            yield lambda _, n=number: n

    for number in in_order(source(), workers):
        assert len(drawn) <= number + workers


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_an_error_of_a_task_comes_at_its_place(workers: int) -> None:
    def run(number: int, _: Check) -> int:
        if number == 3:
            raise KeyError("three")
        time.sleep(0.01)
        return number

    found: list[object] = []
    with pytest.raises(KeyError, match="three"):
        found.extend(in_order(tasks(8, run), workers))
    assert found == [0, 1, 2]


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("count", [0, 1, 3])
def test_an_error_of_drawing_comes_after_all_results(workers: int, count: int) -> None:
    def source() -> Iterator[Callable[[Check], object]]:
        yield from tasks(count, lambda number, _: number)
        raise OSError("no more")

    found: list[object] = []
    with pytest.raises(OSError, match="no more"):
        found.extend(in_order(source(), workers))
    assert found == list(range(count))


def test_whoever_leaves_early_waits_for_no_task_that_checks() -> None:
    begun = threading.Semaphore(0)

    def run(number: int, check: Check) -> int:
        begun.release()
        for _ in range(6000 if number else 0):
            check()
            time.sleep(0.01)
        return number

    results = in_order(tasks(4, run), 2)
    assert next(results) == 0
    begun.acquire()
    before = time.perf_counter()
    results.close()
    assert time.perf_counter() - before < 30, "the task ran to its end"
    assert not [t for t in threading.enumerate() if t.name.startswith("triode")]

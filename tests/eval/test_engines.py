"""Engines of the bench: the order of tasks, and that every engine gives what one process gives."""

import os
from dataclasses import replace

import pytest
from eval.bench_codecs import INFINITE, REFUSES, Bits, photo

from triode.eval.coder import FunctionCoder
from triode.eval.engines import SetupError, check_portable, cores, run, start_worker
from triode.eval.schedule import Schedule
from triode.eval.sources import CodecSource, ItemSource
from triode.eval.task import Outcome, Setup, Task

QUALITIES = (2.0, 4.0, 6.0)


def setup(*coders, items=2, metrics=("psnr",)):
    return Setup(
        tuple(ItemSource(f"item{seed}", "image", item=photo(seed)) for seed in range(items)),
        tuple(CodecSource(coder, "image", coder.name) for coder in coders),
        tuple(metrics),
    )


def tasks_of(given, qualities=QUALITIES):
    places = ((i, c) for i in range(len(given.items)) for c in range(len(given.codecs)))
    return [Task(item, codec, quality) for item, codec in places for quality in qualities]


def measure(engine, given, jobs=1, qualities=QUALITIES):
    schedule = Schedule(tasks_of(given, qualities), [1.0] * len(given.items))
    found = {}
    for task, outcome in run(engine, given, schedule, jobs):
        assert isinstance(outcome, Outcome)
        assert task not in found
        schedule.done(task, outcome.seconds)
        found[task] = outcome.measurement
    return found


def without_times(found):
    return {
        task: replace(m, encode_seconds=0, decode_seconds=0, peak_memory_bytes=None, error=m.error and "failed")
        for task, m in found.items()
    }


class TestSchedule:
    def drain(self, schedule, seconds):
        order = []
        while (task := schedule.next()) is not None:
            order.append(task)
            schedule.done(task, seconds(task))
        return order

    def test_every_task_once(self):
        tasks = [Task(item, codec, quality) for item in range(3) for codec in range(4) for quality in (1.0, 2.0)]
        order = self.drain(Schedule(tasks, [5.0, 1.0, 2.0]), lambda task: 1.0)
        assert sorted(order, key=repr) == sorted(tasks, key=repr)
        assert Schedule([], []).next() is None

    def test_short_ones_first_to_learn_then_the_longest(self):
        units, speed = [3.0, 1.0, 2.0], [1.0, 100.0, 10.0]
        tasks = [Task(item, codec, 1.0) for item in range(3) for codec in range(3)]
        order = self.drain(Schedule(tasks, units), lambda task: units[task.item] * speed[task.codec])
        assert [(task.item, task.codec) for task in order[:3]] == [(1, 0), (1, 1), (1, 2)]
        rest = [units[task.item] * speed[task.codec] for task in order[3:]]
        assert rest == sorted(rest, reverse=True)

    def test_expected_time(self):
        schedule = Schedule([Task(item, codec, 1.0) for item in range(2) for codec in range(2)], [1.0, 2.0])
        assert schedule.seconds_left(1) is None
        first, second = schedule.next(), schedule.next()
        schedule.done(first, 3.0)
        # Codec 0: 2 units at 3 s; codec 1, not known, as codec 0: 2 units waiting, half of 1 running.
        assert schedule.seconds_left(1) == pytest.approx(6 + 6 + 1.5)
        schedule.done(second, 1.0)
        assert schedule.seconds_left(2) == pytest.approx((6 + 2) / 2)
        for _ in range(2):
            schedule.done(schedule.next(), 1.0)
        assert schedule.seconds_left(2) == 0


def test_serial_closes_only_what_it_made():
    given = setup(Bits())
    coder = given.codecs[0].given
    assert {m.error for m in measure("serial", given).values()} == {None}
    assert coder.closed == 0


def test_processes_give_the_same_and_outlive_a_worker(tmp_path):
    given = setup(Bits("a"), Bits("b", trouble="raise"), Bits("c", trouble="die", log=tmp_path / "log"), items=1)
    found = measure("process", given, jobs=2)
    died = {task for task in found if task.codec == 2 and task.quality == 4}
    assert {found[task].error for task in died} == {"the worker process died twice, perhaps for lack of memory"}
    calls = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    whole = [quality for size, _, quality in calls if size == "whole"]
    assert (len(died), whole.count("4")) == (1, 2), "it is tried twice"
    others = setup(Bits("a"), Bits("b", trouble="raise"), Bits("c"), items=1)
    alone = without_times(measure("serial", others))
    both = without_times(found)
    assert {task: both[task] for task in both.keys() - died} == {task: alone[task] for task in alone.keys() - died}
    assert {m.error for task, m in alone.items() if task.codec == 1 and task.quality == 4} == {"failed"}


def test_what_cannot_be_sent():
    functions = FunctionCoder("mine", lambda item, quality: b"x", lambda data: data, (1,))
    with pytest.raises(ValueError, match="'mine' cannot be sent to another process"):
        list(run("process", setup(functions), Schedule([], []), 1))
    with pytest.raises(ValueError, match="serial"):
        check_portable(setup(Bits(), metrics=("psnr", INFINITE)), "process")
    check_portable(setup(Bits(), metrics=("psnr", REFUSES)), "process")

    def load():
        raise ModuleNotFoundError("No module named 'mine'")

    with pytest.raises(SetupError, match=r"cannot load what it is sent .*'mine'"):
        start_worker(load)
    with pytest.raises(ValueError, match="Unknown engine 'cloud'; there are serial, process, ray"):
        run("cloud", setup(), Schedule([], []), 1)


def test_environment_is_as_before():
    before = dict(os.environ)
    assert list(run("process", setup(Bits()), Schedule([], []), 1)) == []
    assert dict(os.environ) == before
    assert cores() >= 1


@pytest.mark.slow
def test_ray_gives_the_same_and_outlives_a_worker():
    ray = pytest.importorskip("ray")
    from triode.eval.ray_engine import ray_cluster

    given = setup(Bits("a"), Bits("b", trouble="die"), items=1)
    with ray_cluster(None, 2) as workers:
        assert workers == 2
        found = measure("ray", given, jobs=2, qualities=(4.0, 6.0))
    assert not ray.is_initialized()
    died = Task(0, 1, 4.0)
    assert found[died].error == "the worker process died twice, perhaps for lack of memory"
    alone = without_times(measure("serial", setup(Bits("a"), Bits("b"), items=1), qualities=(4.0, 6.0)))
    both = without_times(found)
    assert {task: both[task] for task in both.keys() - {died}} == {task: alone[task] for task in alone.keys() - {died}}

from types import SimpleNamespace
from typing import Any, cast

import pytest

from triode.train.remaining import Remaining


def trainer(step: int, processes: int = 1, rank: int = 0) -> Any:
    return cast(Any, SimpleNamespace(global_step=step, world_size=processes, global_rank=rank))


def test_a_run_that_begins_has_all():
    assert list(Remaining(None, 2, 3)) == [0, 1, 2, 3, 4, 5]
    assert len(Remaining(None, 2, 3)) == 6


@pytest.mark.parametrize("step", [1, 2])
def test_a_resumed_run_has_the_rest_and_the_length_of_the_whole(step):
    rest = Remaining(trainer(step), 2, 3)
    assert list(rest) == list(range(2 * step, 6))
    assert len(rest) == 6


def test_processes_share_the_samples_of_a_step():
    parts = [Remaining(trainer(1, 3, rank), 2, 3) for rank in range(3)]
    assert [list(part) for part in parts] == [[6, 9, 12, 15], [7, 10, 13, 16], [8, 11, 14, 17]]
    assert {len(part) for part in parts} == {6}
    assert {part.total for part in parts} == {18}


@pytest.mark.parametrize("step", [3, 4])
def test_nothing_remains_of_a_run_that_is_done(step):
    rest = Remaining(trainer(step), 2, 3)
    assert list(rest) == []
    assert len(rest) == 0

"""Coding orders cover everything once, and show each step what it may see."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from triode.entropy.context.schedule import (
    Entry,
    Schedule,
    channel_groups,
    checkerboard,
    parallel,
    quadtree,
    space_channel,
    time_quadtree,
)

SCHEDULES = {
    "parallel": parallel(8),
    "checkerboard": checkerboard(8),
    "channel_groups": channel_groups([1, 2, 5]),
    "space_channel": space_channel([2, 2, 4]),
    "quadtree": quadtree(8),
}
STEPS = {"parallel": 1, "checkerboard": 2, "channel_groups": 3, "space_channel": 6, "quadtree": 4}


def step_of_each(schedule: Schedule, height: int, width: int) -> torch.Tensor:
    """Return the number of the step that codes each element, (C, h, w)."""
    steps = torch.full((1, schedule.channels, height, width), -1)
    for number, step in enumerate(schedule.steps):
        for entry in step:
            view = entry.view(steps)
            assert (view == -1).all(), "coded twice"
            view.fill_(number)
    return steps[0]


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_element_is_coded_exactly_once(name: str) -> None:
    schedule = SCHEDULES[name]
    assert schedule.channels == 8
    assert len(schedule.steps) == STEPS[name]
    for height, width in ((schedule.multiple, schedule.multiple), (4, 6), (2, 8)):
        assert (step_of_each(schedule, height, width) >= 0).all()


@pytest.mark.parametrize("name", SCHEDULES)
def test_valid_counts_what_lies_inside(name: str) -> None:
    for step in SCHEDULES[name].steps:
        for entry in step:
            for height in range(1, 7):
                for width in range(1, 7):
                    inside = torch.zeros(1, 8, 6, 6)
                    inside[:, :, :height, :width] = 1
                    rows, columns = entry.valid(height, width)
                    view = entry.view(inside)
                    assert view[:, :, :rows, :columns].all()
                    assert view.sum() == (entry.stop - entry.start) * rows * columns


@settings(max_examples=60, deadline=None)
@given(quarter=st.integers(1, 5), runs=st.integers(1, 6), valid=st.integers(0, 24))
def test_time_quadtree_codes_each_element_once(quarter: int, runs: int, valid: int) -> None:
    schedule, frames = time_quadtree(4 * quarter), 4 * runs
    assert (schedule.channels, schedule.multiple, len(schedule.steps)) == (4 * quarter, 4, 4)
    steps = step_of_each(schedule, 1, frames)
    assert (steps >= 0).all()
    for number in range(4):
        assert ((steps == number).sum(0) == quarter).all()
    valid = min(valid, frames)
    inside = torch.zeros(1, 4 * quarter, 1, frames)
    inside[..., :valid] = 1
    counted = 0
    for step in schedule.steps:
        for entry in step:
            rows, columns = entry.valid(1, valid)
            assert entry.view(inside)[:, :, :rows, :columns].all()
            counted += quarter * rows * columns
    assert counted == inside.sum()


def test_time_quadtree_goes_from_halves_to_quarters() -> None:
    steps = step_of_each(time_quadtree(4), 1, 8)
    assert steps[:, 0].tolist() == [[0, 2, 1, 3] * 2, [3, 1, 0, 2] * 2, [2, 0, 3, 1] * 2, [1, 3, 2, 0] * 2]
    with pytest.raises(ValueError, match="multiple of 4, but got 6"):
        time_quadtree(6)


@given(
    offsets=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    strides=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_strides_of_rows_and_columns_differ(
    offsets: tuple[int, int], strides: tuple[int, int], size: tuple[int, int]
) -> None:
    entry = Entry(0, 1, *offsets, *strides)
    assert entry.strides == strides
    expected = [(y, x) for y in range(offsets[0], size[0], strides[0]) for x in range(offsets[1], size[1], strides[1])]
    places = torch.arange(size[0] * size[1]).reshape(1, 1, *size)
    assert entry.view(places).flatten().tolist() == [y * size[1] + x for y, x in expected]
    rows, columns = entry.valid(*size)
    assert rows * columns == len(expected)
    assert Entry(0, 1, 0, 0, 3).strides == (3, 3)


def test_entry_starts_may_lie_outside() -> None:
    assert Entry(0, 1, 1, 1, 2).valid(1, 1) == (0, 0)
    assert Entry(0, 1, 0, 0, 2).valid(1, 1) == (1, 1)


def test_checkerboard_anchors_touch_every_other_element() -> None:
    steps = step_of_each(checkerboard(2), 4, 4)
    row, column = torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")
    assert torch.equal(steps[0], (row + column) % 2)
    assert torch.equal(steps[0], steps[1])


def test_space_channel_is_a_board_a_group() -> None:
    steps = step_of_each(space_channel([2, 6]), 2, 2)
    assert steps[:2].tolist() == [[[0, 1], [1, 0]]] * 2
    assert steps[2:].tolist() == [[[2, 3], [3, 2]]] * 6


def test_quadtree_codes_a_quarter_everywhere_each_step() -> None:
    steps = step_of_each(quadtree(8), 2, 2)
    for number in range(4):
        assert ((steps == number).sum(0) == 2).all()
    assert steps[::2, 0, 0].tolist() == [0, 3, 2, 1]
    assert steps[0].tolist() == [[0, 2], [3, 1]]


def test_quadtree_needs_multiples_of_four() -> None:
    with pytest.raises(ValueError, match="multiple of 4, but got 6"):
        quadtree(6)

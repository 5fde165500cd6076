import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from triode.codecs.search import largest_point, smallest_point
from triode.errors import UnsupportedError

rising = st.lists(st.integers(1, 1000), min_size=1, max_size=70).map(sorted)
any_order = st.lists(st.integers(1, 1000), min_size=1, max_size=70)


@given(rising, st.integers(1, 1000))
def test_largest_point_is_the_best_within_the_budget(costs, budget):
    within = [p for p, cost in enumerate(costs) if cost <= budget]
    if within:
        assert largest_point(lambda p: p, lambda p: costs[p], budget, len(costs)) == within[-1]
    else:
        with pytest.raises(UnsupportedError, match=f"quality 0 takes {costs[0]} bytes"):
            largest_point(lambda p: p, lambda p: costs[p], budget, len(costs))


@given(rising, st.integers(1, 1000))
def test_smallest_point_is_the_first_that_reaches_the_target(gains, target):
    reach = [p for p, gain in enumerate(gains) if gain >= target]
    if reach:
        assert smallest_point(lambda p: p, lambda p: gains[p], target, len(gains)) == reach[0]
    else:
        with pytest.raises(UnsupportedError, match=f"quality 100 reaches {gains[-1]}"):
            smallest_point(lambda p: p, lambda p: gains[p], target, len(gains))


@given(any_order, st.integers(1, 1000))
def test_whatever_the_order_a_result_keeps_its_promise(values, bound):
    try:
        assert values[largest_point(lambda p: p, lambda p: values[p], bound, len(values))] <= bound
    except UnsupportedError:
        assert values[0] > bound
    try:
        assert values[smallest_point(lambda p: p, lambda p: values[p], bound, len(values))] >= bound
    except UnsupportedError:
        assert values[-1] < bound


@pytest.mark.parametrize("bound", [0, 30, 64])
def test_64_points_take_at_most_seven_probes(bound):
    probes = []

    def run(point):
        probes.append(point)
        return point

    for search in (largest_point, smallest_point):
        probes.clear()
        with contextlib.suppress(UnsupportedError):
            search(run, lambda p: p + 0.5, bound, 64)
        assert len(probes) == len(set(probes)) <= 7

"""Integer tables: invariants, quantisation of probabilities, and that the coder sees exactly these integers."""

from __future__ import annotations

import copy
import gc
import weakref

import constriction
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from triode.entropy.gaussian import gaussian_tables
from triode.entropy.tables import PRECISION, SYMBOL_MAX, CdfTables, fitted_tables

TOTAL = 1 << PRECISION
PMFS = hnp.arrays(np.float64, st.integers(2, 300), elements=st.floats(0, 1)).filter(lambda p: p.sum() > 1e-300)


def arrays(masses: list[int], sizes: list[int], offsets: list[int]) -> tuple[np.ndarray, ...]:
    return tuple(np.array(a, dtype=np.int32) for a in (masses, sizes, offsets))


@given(st.lists(st.tuples(PMFS, st.integers(-1000, 1000)), min_size=1, max_size=4))
@settings(max_examples=50, deadline=None)
def test_from_pmfs(pairs: list[tuple[np.ndarray, int]]) -> None:
    pmfs, offsets = zip(*pairs, strict=True)
    tables = CdfTables.from_pmfs(pmfs, offsets)
    assert len(tables) == len(pmfs)
    assert tables.offsets.tolist() == list(offsets)
    for i, pmf in enumerate(pmfs):
        masses = tables.table(i)
        assert len(masses) == len(pmf) == tables.sizes[i]
        assert masses.sum() == TOTAL
        assert masses.min() >= 1
        # Each entry loses at most its share of the reserve of one unit an entry; the largest gets what is over.
        assert np.abs(masses - pmf / pmf.sum() * TOTAL).max() <= len(pmf) + 1
    assert np.allclose(2.0**-tables.bits, tables.masses / TOTAL, rtol=1e-12)


@given(PMFS)
@settings(max_examples=30, deadline=None)
def test_coder_uses_exactly_these_masses(pmf: np.ndarray) -> None:
    tables = CdfTables.from_pmfs([np.ones(3), pmf], [0, 0])
    scale = (2**64 - 1) >> PRECISION
    low = 0
    for entry, mass in enumerate(tables.table(1).tolist()):
        encoder = constriction.stream.queue.RangeEncoder()
        encoder.encode(np.array([entry], dtype=np.int32), tables.model(1))
        assert encoder.pos() == (0, (scale * low, scale * mass))
        low += mass


@pytest.mark.parametrize("pmf", [[0.5, 0], [1e-300, 1e-300], [1e300, 1e300, 1e-300], [1.0] * 65536])
def test_extreme_pmfs(pmf: list[float]) -> None:
    table = CdfTables.from_pmfs([np.array(pmf)], [0]).table(0)
    assert table.sum() == TOTAL
    assert table.min() >= 1


@pytest.mark.parametrize(
    "pmf", [[], [1.0], [1.0, -0.1], [1.0, np.nan], [1.0, np.inf], [0.0, 0.0], np.ones((2, 2)), np.ones(65537)]
)
def test_from_pmfs_refuses(pmf: object) -> None:
    with pytest.raises(ValueError, match="2 to 65536 finite, non-negative"):
        CdfTables.from_pmfs([np.asarray(pmf, dtype=np.float64)], [0])


def test_from_pmfs_refuses_no_table_and_other_precisions() -> None:
    with pytest.raises(ValueError, match="at least one table"):
        CdfTables.from_pmfs([], [])
    with pytest.raises(ValueError, match="must be 24"):
        CdfTables.from_pmfs([np.ones(2)], [0], precision=16)


@pytest.mark.parametrize(
    ("masses", "sizes", "offsets", "message"),
    [
        ([TOTAL - 1, 1, 1], [2], [0], "add up to 2 entries"),
        ([TOTAL - 1, 1], [2, 2], [0, 0], "add up to 4 entries"),
        ([TOTAL - 1, 2], [2], [0], "must sum to"),
        ([TOTAL - 2, 1], [2], [0], "must sum to"),
        ([TOTAL, 0], [2], [0], "mass must be >= 1"),
        ([TOTAL + 1, -1], [2], [0], "mass must be >= 1"),
        ([TOTAL], [1], [0], "2 to 65536"),
        ([], [], [], "one size and one offset"),
        ([TOTAL - 1, 1], [2], [0, 0], "one size and one offset"),
        ([TOTAL - 1, 1], [2], [-SYMBOL_MAX - 1], "symbols within"),
        ([TOTAL - 1, 1], [2], [SYMBOL_MAX + 1], "symbols within"),
        ([TOTAL - 2, 1, 1], [3], [SYMBOL_MAX], "symbols within"),
    ],
)
def test_invariants(masses: list[int], sizes: list[int], offsets: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CdfTables(*arrays(masses, sizes, offsets))


def test_refuses_other_types_and_too_long_tables() -> None:
    masses, sizes, offsets = arrays([TOTAL - 1, 1], [2], [0])
    with pytest.raises(ValueError, match="int32"):
        CdfTables(masses.astype(np.int64), sizes, offsets)
    long = 65537
    with pytest.raises(ValueError, match="2 to 65536"):
        CdfTables(*arrays([TOTAL - long + 1] + [1] * (long - 1), [long], [0]))


def test_models_are_built_at_first_use_and_die_with_their_tables() -> None:
    tables = CdfTables.from_pmfs([np.ones(4), np.ones(5)], [0, 0])
    model = tables.model(1)
    assert tables.model(1) is model
    assert [m is None for m in tables._models] == [True, False]
    clone = copy.deepcopy(tables)
    assert clone.model(1) is not model
    assert np.array_equal(clone.masses, tables.masses)
    alive = weakref.ref(tables)
    del tables
    gc.collect()
    assert alive() is None


class TestFitted:
    def test_nothing_met_changes_nothing(self) -> None:
        base = gaussian_tables()
        made = fitted_tables(base, [np.zeros(int(size), dtype=np.int64) for size in base.sizes], 1000)
        assert np.array_equal(made.sizes, base.sizes)
        assert np.array_equal(made.offsets, base.offsets)
        # Masses of at least 1 are added anew: of the escape and the tails, a few units in 2**24.
        assert np.abs(made.masses - base.masses).max() <= base.sizes.max()

    def test_many_met_are_what_counts(self) -> None:
        base = CdfTables.from_pmfs([np.array([1.0, 2, 1, 0.1])], [-1])
        counts = np.array([100, 600, 300, 10], dtype=np.int64) * 10**6
        masses = fitted_tables(base, [counts], 1000).table(0) / 2**PRECISION
        # Both signs alike.
        np.testing.assert_allclose(masses, np.array([200, 600, 200, 10]) / 1010, atol=1e-5)

    def test_codes_what_it_was_fitted_to_shorter(self) -> None:
        base, rng = gaussian_tables(), np.random.default_rng(0)
        table = 20
        symbols = np.rint(rng.laplace(0, 0.6, 20_000)).astype(np.int64)
        counts = [np.zeros(int(size), dtype=np.int64) for size in base.sizes]
        entries = symbols - int(base.offsets[table])
        last = int(base.sizes[table]) - 1
        entries[(entries < 0) | (entries >= last)] = last
        counts[table] += np.bincount(entries, minlength=last + 1)
        made = fitted_tables(base, counts, 1000)
        spent = [float(t.bits[t.starts[table] + entries].sum()) for t in (base, made)]
        assert spent[1] < 0.98 * spent[0]

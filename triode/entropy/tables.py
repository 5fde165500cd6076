"""Integer cumulative distribution tables: the only probabilities that the range coder ever sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import constriction
import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.integer[Any]]
Int32Array = NDArray[np.int32]
Int64Array = NDArray[np.int64]
FloatArray = NDArray[np.float64]

PRECISION = 24
"""Bits of every table's total; the precision of constriction's default models, so that tables go through unchanged."""
SYMBOL_MAX = (1 << 23) - 1
"""Largest magnitude of a symbol."""
_ENTRIES_MAX = 1 << 16


@dataclass(frozen=True, eq=False)
class CdfTables:
    """A set of integer probability tables over ``offset .. offset + n - 2`` plus an escape as last entry.

    Every entry has a mass of at least 1, so that any symbol can be coded; values outside a table's range are coded as
    the escape, followed by their distance from the range in Elias-gamma style (see :mod:`triode.entropy.coder`).

    Attributes:
        masses: (total entries,) int32, the tables one after the other; each table sums to ``2**PRECISION``.
        sizes: (tables,) int32, entries of each table, the escape included; 2 to 65536.
        offsets: (tables,) int32, the symbol that entry 0 stands for; all symbols lie within ``+-SYMBOL_MAX``.
    """

    masses: Int32Array
    sizes: Int32Array
    offsets: Int32Array

    def __post_init__(self) -> None:
        """Check the invariants.

        Raises:
            ValueError: If a table has too few or too many entries, stands for symbols beyond ``SYMBOL_MAX``, has a mass
                below 1, or does not sum to ``2**PRECISION``.
        """
        if not (self.masses.dtype == self.sizes.dtype == self.offsets.dtype == np.int32):
            raise ValueError("Tables must be int32")
        if self.sizes.ndim != 1 or self.sizes.shape != self.offsets.shape or len(self.sizes) == 0:
            raise ValueError(f"Need one size and one offset a table, but got {self.sizes.shape}, {self.offsets.shape}")
        if self.sizes.min() < 2 or self.sizes.max() > _ENTRIES_MAX:
            raise ValueError(
                f"Tables need 2 to {_ENTRIES_MAX} entries, but got {self.sizes.min()} to {self.sizes.max()}"
            )
        total = int(self.sizes.sum(dtype=np.int64))
        if self.masses.shape != (total,):
            raise ValueError(f"Sizes add up to {total} entries, but masses have shape {self.masses.shape}")
        lows = self.offsets.astype(np.int64)
        if lows.min() < -SYMBOL_MAX or (lows + self.sizes - 2).max() > SYMBOL_MAX:
            raise ValueError(f"Tables must stand for symbols within +-{SYMBOL_MAX}")
        if self.masses.min() < 1:
            raise ValueError(f"Every mass must be >= 1, but the smallest is {self.masses.min()}")
        sums = np.add.reduceat(self.masses.astype(np.int64), self.starts)
        if (sums != 1 << PRECISION).any():
            raise ValueError(f"Every table must sum to 2**{PRECISION}, but got {sums[sums != 1 << PRECISION][:3]}")

    def __getstate__(self) -> dict[str, Int32Array]:
        # Copies leave the caches behind: constriction's models cannot be copied.
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def starts(self) -> Int64Array:
        """(tables,) int64, where each table begins in ``masses``."""
        starts: Int64Array = np.cumsum(self.sizes, dtype=np.int64) - self.sizes
        return starts

    @cached_property
    def escapes(self) -> Int32Array:
        """(tables,) int32, what would be the symbol of each table's escape: one above its largest."""
        escapes: Int32Array = self.offsets + self.sizes - 1
        return escapes

    @cached_property
    def bits(self) -> FloatArray:
        """(total entries,) float64, ideal code length of every entry in bits."""
        bits: FloatArray = np.subtract(PRECISION, np.log2(self.masses))
        return bits

    @cached_property
    def rows(self) -> FloatArray | None:
        """(tables, entries) float64, what constriction takes as parameters of all tables; None if sizes differ."""
        size = int(self.sizes[0])
        return None if (self.sizes != size).any() else (self.masses - 1.0).reshape(-1, size)

    @cached_property
    def _models(self) -> list[Any]:
        return [None] * len(self)

    def __len__(self) -> int:
        """Return the number of tables."""
        return len(self.sizes)

    def table(self, index: int) -> Int32Array:
        """Return the masses of one table, escape last, as int32."""
        start = int(self.starts[index])
        return self.masses[start : start + int(self.sizes[index])]

    def model(self, index: int) -> Any:
        """Return constriction's model of one table, built at its first use and kept as long as the tables."""
        if self._models[index] is None:
            # Masses minus one, adding up to 2**24 - n, make constriction's own scale factor exactly 1, so its
            # cumulative table is floor(sum of masses - 1) + i: ours, to the integer.
            probabilities = (self.table(index) - 1).astype(np.float64)
            self._models[index] = constriction.stream.model.Categorical(probabilities, perfect=False)
        return self._models[index]

    @classmethod
    def from_pmfs(cls, pmfs: Sequence[FloatArray], offsets: Sequence[int], precision: int = PRECISION) -> CdfTables:
        """Quantise probability tables to integers that sum to ``2**24`` with every mass >= 1.

        Args:
            pmfs: One array a table, >= 0, the escape's probability last; need not be normalised.
            offsets: The symbol of each table's first entry.
            precision: Must be 24.

        Returns:
            The integer tables; what rounding leaves over goes to each table's largest entry.

        Raises:
            ValueError: If a table is empty, negative, not finite or too long for the precision.
        """
        if precision != PRECISION:
            raise ValueError(f"Argument `precision` must be {PRECISION}, but got {precision}")
        masses = []
        for pmf in pmfs:
            p = np.asarray(pmf, dtype=np.float64)
            valid = p.ndim == 1 and 2 <= len(p) <= _ENTRIES_MAX and np.isfinite(p).all() and (p >= 0).all() and p.any()
            if not valid:
                raise ValueError("A table needs 2 to 65536 finite, non-negative probabilities with a positive sum")
            total = 1 << PRECISION
            mass = 1 + np.floor(p / p.sum() * (total - len(p))).astype(np.int64)
            mass[int(mass.argmax())] += total - int(mass.sum())
            masses.append(mass.astype(np.int32))
        if not masses:
            raise ValueError("Need at least one table")
        sizes = np.array([len(m) for m in masses], dtype=np.int32)
        return cls(np.concatenate(masses), sizes, np.asarray(offsets, dtype=np.int32))


def fitted_tables(base: CdfTables, counts: Sequence[Int64Array], weight: float) -> CdfTables:
    """Make tables of what symbols were met, where enough of them were, and of other tables, where not.

    Args:
        base: The other tables.
        counts: For each table, how often each of its entries was met, the escape last. Symbols of either sign are
            taken to be as likely, so the tables of `base` must be symmetric.
        weight: How many symbols `base` counts for.

    Returns:
        Tables like ``base``.
    """
    pmfs = []
    for k, found in enumerate(counts):
        inner = found[:-1] + found[-2::-1]
        met = np.append(inner / 2, found[-1])
        pmfs.append(met + weight * (base.table(k) / 2**PRECISION))
    return CdfTables.from_pmfs(pmfs, [int(offset) for offset in base.offsets])

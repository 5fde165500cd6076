"""The range coder behind one interface: integers in, bytes out, grouped by table.

Symbols arrive with the index of their table. Within one call they are coded table by table (stable order), because
constriction codes a run of symbols under one table 3 to 6 times faster than under changing ones. A symbol outside of
its table is coded as the table's escape; the distances of all escapes of the call follow after the runs, in the order
in which the escapes were coded:

* ``e = 2 * d + side`` where ``d >= 0`` is the distance from the nearest symbol of the table, ``side`` 1 above it;
* the number of bits ``k`` of ``e + 1`` under a uniform distribution of 32 values, all escapes one after the other;
* then the ``k - 1`` low bits of ``e + 1``, uniform, for the escapes of each ``k > 1`` in ascending order of ``k``: the
  low 16 bits first where there are more.

Symbols are limited to int24 and saturate there when written. The bytes are the shortest whose value, continued with
zeros, lies in the coder's final interval, most significant byte first. ``docs/entropy.md`` has the arithmetic.
"""

from __future__ import annotations

import zlib
from typing import Any, Protocol

import constriction
import numpy as np

from triode.entropy.tables import SYMBOL_MAX, CdfTables, FloatArray, Int32Array, Int64Array, IntArray
from triode.errors import BitstreamError, EntropyMismatchError

_CLASSES = 32
_HALF = 16
_Uniform = constriction.stream.model.Uniform
_Each = constriction.stream.model.Categorical(perfect=False)

Run = tuple[int, int, int]
"""A table and the range, start and stop, of the symbols in coding order that it codes."""


class SymbolWriter(Protocol):
    """Takes symbols with the index of the table each is coded under."""

    def write(self, symbols: IntArray, index: IntArray, tables: CdfTables) -> Int32Array:
        """Write symbols (N,) under tables ``index`` (N,); return them as coded (int32, saturated to int24)."""
        ...


class SymbolReader(Protocol):
    """Gives back what a writer took, in the same order of calls."""

    def read(self, index: IntArray, tables: CdfTables) -> Int32Array:
        """Read the symbols (N,) int32 coded under tables ``index`` (N,)."""
        ...


def _runs(index: IntArray, tables: CdfTables) -> tuple[Int64Array, list[Run]]:
    """Return the stable order by table and the runs in it."""
    if index.ndim != 1:
        raise ValueError(f"Table indices must be one-dimensional, but got shape {index.shape}")
    if len(index) == 0:
        return np.zeros(0, dtype=np.int64), []
    if int(index.min()) < 0 or int(index.max()) >= len(tables):
        raise ValueError(f"Table indices must be in [0, {len(tables)}), but got {index.min()} to {index.max()}")
    narrowest = np.uint8 if len(tables) <= 256 else np.uint16 if len(tables) <= 65536 else np.int32
    narrow = index.astype(narrowest, copy=False)
    order = np.argsort(narrow, kind="stable")  # A radix sort for 8 and 16 bits.
    stops = np.cumsum(np.bincount(narrow, minlength=len(tables)))
    starts = np.concatenate([[0], stops[:-1]])
    return order, [(int(t), int(starts[t]), int(stops[t])) for t in np.flatnonzero(stops > starts)]


def _rows(ordered: IntArray, runs: list[Run], tables: CdfTables) -> FloatArray | None:
    """Return a row of parameters a symbol where most runs have one symbol; the same bytes, in one call to the coder."""
    if 2 * len(runs) <= len(ordered) or tables.rows is None:
        return None
    return tables.rows if len(runs) == len(tables) == len(ordered) else tables.rows[ordered]


def _saturate(symbols: IntArray, index: IntArray) -> Int32Array:
    if symbols.shape != index.shape:
        raise ValueError(f"Need one table index a symbol, but got {symbols.shape} and {index.shape}")
    if not np.can_cast(symbols.dtype, np.int64):
        raise ValueError(f"Symbols must be integers of at most 64 bits with sign, but are {symbols.dtype}")
    if symbols.dtype != np.int32:
        symbols = symbols.astype(np.int64)
    return np.clip(symbols, -SYMBOL_MAX, SYMBOL_MAX).astype(np.int32, copy=False)


def _escape(entries: Int32Array, last: int) -> Int64Array:
    """Turn entries outside of a table into its escape, ``last``, in place; return their ``e + 1``."""
    at = np.flatnonzero(entries.view(np.uint32) >= last)  # Negative entries are large without their sign.
    outside = entries[at].astype(np.int64)
    entries[at] = last
    return np.where(outside < 0, -2 * outside - 1, 2 * (outside - last) + 2)


def _to_entries(grouped: Int32Array, runs: list[Run], tables: CdfTables) -> Int64Array:
    """Turn symbols in coding order into the entries of their tables, in place; return ``e + 1`` of the escapes."""
    values: list[Int64Array] = []
    for table, start, stop in runs:
        entries = grouped[start:stop]
        entries -= tables.offsets[table]
        values.append(_escape(entries, int(tables.sizes[table]) - 1))
    return np.concatenate(values) if values else np.zeros(0, dtype=np.int64)


def _crc32(symbols: Int32Array, crc: int) -> int:
    return zlib.crc32(symbols.astype("<i4", copy=False).data, crc)


def _bit_lengths(values: Int64Array) -> Int32Array:
    """Bit length of positive integers below 2**53, exactly."""
    return np.frexp(values.astype(np.float64))[1].astype(np.int32)


def _pieces(bits: int) -> list[tuple[int, int]]:
    """Cut a field of bits into (shift, width) pieces of at most 16 bits, low piece first."""
    return [(shift, min(_HALF, bits - shift)) for shift in range(0, bits, _HALF)]


class RangeWriter:
    """Writes symbols to bytes with a range coder (constriction ``queue``, 24-bit tables)."""

    def __init__(self) -> None:
        self._encoder = constriction.stream.queue.RangeEncoder()
        self._crc = 0
        self._count = 0

    def write(self, symbols: IntArray, index: IntArray, tables: CdfTables) -> Int32Array:
        """Write symbols under their tables.

        Args:
            symbols: (N,) integers, int64 or narrower; saturated to int24.
            index: (N,) integers, the table of each symbol.
            tables: The tables.

        Returns:
            (N,) int32, the symbols as the reader will see them.

        Raises:
            ValueError: If shapes differ, symbols are no integers, or an index names no table.
        """
        coded = _saturate(symbols, index)
        order, runs = _runs(index, tables)
        grouped = coded[order]
        rows = _rows(index[order], runs, tables)
        if rows is not None:
            grouped -= tables.offsets[index[order]]
            escapes = _escape(grouped, rows.shape[1] - 1)
            self._encoder.encode(grouped, _Each, rows)
        else:
            escapes = _to_entries(grouped, runs, tables)
            for table, start, stop in runs:
                self._encoder.encode(grouped[start:stop], tables.model(table))
        if len(escapes):
            self._write_escapes(escapes)
        self._crc = _crc32(coded, self._crc)
        self._count += len(coded)
        return coded

    def _write_escapes(self, values: Int64Array) -> None:
        lengths = _bit_lengths(values)
        self._encoder.encode(lengths - 1, _Uniform(_CLASSES))
        for k in np.unique(lengths[lengths > 1]):
            rest = values[lengths == k] - (1 << (int(k) - 1))
            for shift, width in _pieces(int(k) - 1):
                self._encoder.encode(((rest >> shift) & ((1 << width) - 1)).astype(np.int32), _Uniform(1 << width))

    @property
    def crc(self) -> int:
        """CRC-32 of all symbols written so far, as int32 little-endian in the order of the calls."""
        return self._crc

    @property
    def count(self) -> int:
        """Number of symbols written so far."""
        return self._count

    def getvalue(self) -> bytes:
        """Return the shortest bytes that decode to what was written; they never end in a zero byte.

        Writing may go on afterwards.
        """
        position: int
        low: int
        width: int
        position, (low, width) = self._encoder.pos()
        words: Int32Array = self._encoder.get_compressed()
        # The library's own choice lies in the final interval, so its distance from the lower end gives that end.
        chosen = int.from_bytes(words.astype(">u4").tobytes(), "big") << (32 * (position + 2 - len(words)))
        bottom = chosen - (chosen - low) % (1 << 64)
        for shift in range(64, -1, -1):
            best = -(-low >> shift) << shift
            if best < low + width:
                break
        return (bottom - low + best).to_bytes(4 * position + 8, "big").rstrip(b"\0")


class RangeReader:
    """Reads symbols back from bytes.

    Args:
        data: What :meth:`RangeWriter.getvalue` gave.
    """

    def __init__(self, data: bytes) -> None:
        words = np.frombuffer(data + b"\0" * (-len(data) % 4), dtype=">u4").astype(np.uint32)
        self._decoder = constriction.stream.queue.RangeDecoder(words)
        self._crc = 0

    def _decode(self, model: Any, amount: int | FloatArray) -> Int32Array:
        try:
            out: Int32Array = self._decoder.decode(model, amount)
        except AssertionError as error:  # What constriction raises when data fit no model.
            raise BitstreamError("Entropy coded data is corrupt: it decodes to no symbol") from error
        return out

    def read(self, index: IntArray, tables: CdfTables) -> Int32Array:
        """Read the symbols coded under the given tables.

        Args:
            index: (N,) integers, the table of each symbol.
            tables: The tables.

        Returns:
            (N,) int32.

        Raises:
            ValueError: If an index names no table.
            BitstreamError: If the data cannot have come from a writer.
        """
        order, runs = _runs(index, tables)
        grouped = np.empty(len(index), dtype=np.int32)
        ordered = index[order]
        rows = _rows(ordered, runs, tables)
        if rows is not None:
            np.add(self._decode(_Each, rows), tables.offsets[ordered], out=grouped)
        else:
            for table, start, stop in runs:
                np.add(self._decode(tables.model(table), stop - start), tables.offsets[table], out=grouped[start:stop])
        at = np.flatnonzero(grouped == tables.escapes[ordered])
        if len(at):
            self._read_escapes(grouped, at, tables.sizes[ordered[at]].astype(np.int64) - 1)
        symbols = np.empty_like(grouped)
        symbols[order] = grouped
        self._crc = _crc32(symbols, self._crc)
        return symbols

    def _read_escapes(self, grouped: Int32Array, at: Int64Array, last: Int64Array) -> None:
        """Replace escapes, which stand one above the largest symbol of their table, by what they stand for.

        Args:
            grouped: The symbols.
            at: Where escapes are, ascending.
            last: Their entries in their tables.
        """
        beyond = grouped[at].astype(np.int64)
        below = beyond - 1 - last
        lengths = self._decode(_Uniform(_CLASSES), len(at)).astype(np.int64) + 1
        values = np.int64(1) << (lengths - 1)
        for k in np.unique(lengths[lengths > 1]):
            mask = lengths == k
            for shift, width in _pieces(int(k) - 1):
                values[mask] += self._decode(_Uniform(1 << width), int(mask.sum())).astype(np.int64) << shift
        distance, above = (values - 1) >> 1, (values - 1) & 1
        wide = np.where(above == 1, beyond + distance, below - distance)
        if int(np.abs(wide).max()) > SYMBOL_MAX:
            raise BitstreamError(f"Entropy coded data is corrupt: a symbol exceeds +-{SYMBOL_MAX}")
        grouped[at] = wide

    @property
    def crc(self) -> int:
        """CRC-32 of all symbols read so far, computed like the writer's."""
        return self._crc

    def check(self, expected: int) -> None:
        """Compare the symbols' CRC-32 with the writer's.

        Args:
            expected: The writer's CRC-32.

        Raises:
            EntropyMismatchError: If they differ.
        """
        if self._crc != expected:
            raise EntropyMismatchError(
                f"Decoded symbols have CRC {self._crc:08x}, the encoder's had {expected:08x}: "
                "the data is corrupt or the entropy model is not the encoder's"
            )


class CountingWriter:
    """Adds up the ideal code length of symbols instead of coding them."""

    def __init__(self) -> None:
        self.bits = 0.0

    def write(self, symbols: IntArray, index: IntArray, tables: CdfTables) -> Int32Array:
        """Count symbols as :class:`RangeWriter` would code them; returns them as coded."""
        coded = _saturate(symbols, index)
        order, runs = _runs(index, tables)
        grouped = coded[order]
        escapes = _to_entries(grouped, runs, tables)
        for table, start, stop in runs:
            self.bits += float(tables.bits[tables.starts[table] + grouped[start:stop]].sum())
        self.bits += float((np.log2(_CLASSES) + _bit_lengths(escapes) - 1).sum())
        return coded

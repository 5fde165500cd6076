"""Symbols to bytes and back, on good and on bad bytes, beside an implementation in Python integers."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.decoder import CorruptError, SymbolDecoder, Tables

from triode.entropy.coder import CountingWriter, RangeReader, RangeWriter
from triode.entropy.gaussian import gaussian_tables
from triode.entropy.tables import SYMBOL_MAX, CdfTables
from triode.errors import BitstreamError, EntropyMismatchError

GAUSSIAN = gaussian_tables()
FAR = (SYMBOL_MAX, -SYMBOL_MAX, SYMBOL_MAX + 1, -(2**31), 2**31 - 1, 70_000, -70_000, 300, -300)


@dataclass(frozen=True)
class Call:
    symbols: np.ndarray
    index: np.ndarray
    tables: CdfTables


@st.composite
def table_sets(draw: st.DrawFn) -> CdfTables:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.sampled_from([1, 2, 5, 300]))
    sizes = rng.integers(2, draw(st.sampled_from([3, 20, 300])) + 1, count)
    if draw(st.booleans()):  # Tables of one size are coded together where each has few symbols.
        sizes[:] = sizes[0]
    power = draw(st.sampled_from([0, 1, 8, 60]))
    pmfs = [rng.random(n) ** power for n in sizes]
    offsets = rng.integers(-200, 100, count)
    offsets[0] = draw(st.sampled_from([0, -SYMBOL_MAX, SYMBOL_MAX - 400]))
    return CdfTables.from_pmfs(pmfs, offsets.tolist())


@st.composite
def calls(draw: st.DrawFn) -> Call:
    tables = draw(table_sets())
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.sampled_from([0, 1, 2, 7, 100, 2000]))
    index = rng.integers(0, len(tables), count)
    symbols = tables.offsets[index] + rng.integers(0, tables.sizes[index] + draw(st.integers(0, 1)), count) - 1
    far = rng.random(count) < draw(st.sampled_from([0, 0.1, 1]))
    symbols = np.where(far, rng.choice(np.array(FAR), count), symbols)
    return Call(symbols, index.astype(draw(st.sampled_from([np.uint16, np.int32, np.int64]))), tables)


def write(stream: list[Call]) -> tuple[RangeWriter, list[np.ndarray]]:
    writer = RangeWriter()
    return writer, [writer.write(call.symbols, call.index, call.tables) for call in stream]


def read(data: bytes, stream: list[Call]) -> tuple[RangeReader, list[np.ndarray]]:
    reader = RangeReader(data)
    return reader, [reader.read(call.index, call.tables) for call in stream]


def read_reference(data: bytes, stream: list[Call]) -> tuple[SymbolDecoder, list[np.ndarray]]:
    decoder = SymbolDecoder(data)
    sets = [Tables(c.tables.masses, c.tables.sizes, c.tables.offsets) for c in stream]
    return decoder, [decoder.read(call.index, tables) for call, tables in zip(stream, sets, strict=True)]


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def gaussian_call(count: int, seed: int = 0, low: int = 1) -> Call:
    rng = np.random.default_rng(seed)
    index = np.clip(np.round(rng.normal(14, 10, count)), low, 63).astype(np.uint8)
    return Call(np.round(rng.normal(0, 0.11, count) * 1.13 ** index.astype(float)).astype(np.int32), index, GAUSSIAN)


@given(st.lists(calls(), max_size=4))
@settings(max_examples=60, deadline=None)
def test_round_trip(stream: list[Call]) -> None:
    writer, coded = write(stream)
    data = writer.getvalue()
    assert data == writer.getvalue()
    assert not data.endswith(b"\0")
    wanted = [np.clip(call.symbols, -SYMBOL_MAX, SYMBOL_MAX) for call in stream]
    assert same(coded, wanted)
    assert all(c.dtype == np.int32 for c in coded)
    assert writer.count == sum(len(c) for c in coded)
    assert writer.crc == zlib.crc32(b"".join(w.astype("<i4").tobytes() for w in wanted))

    reader, symbols = read(data, stream)
    assert same(symbols, wanted)
    assert all(s.dtype == np.int32 for s in symbols)
    reader.check(writer.crc)

    reference, symbols = read_reference(data, stream)
    assert same(symbols, wanted)
    assert reference.crc == writer.crc

    counter = CountingWriter()
    assert same([counter.write(c.symbols, c.index, c.tables) for c in stream], wanted)
    # Below the ideal is possible: zeros at the end cost nothing.
    assert len(data) * 8 <= counter.bits * 1.01 + 64


@pytest.mark.parametrize("likely", [0.5, 0.99, 0.99999])
def test_length_is_ideal_for_long_streams(likely: float) -> None:
    tables = CdfTables.from_pmfs([np.array([likely, 1 - likely, 0])], [0])
    symbols = (np.random.default_rng(1).random(200_000) > likely).astype(np.int32)
    counter, writer = CountingWriter(), RangeWriter()
    for target in (counter, writer):
        target.write(symbols, np.zeros(len(symbols), dtype=np.int64), tables)
    assert len(writer.getvalue()) * 8 == pytest.approx(counter.bits, rel=0.005, abs=16)
    share = symbols.mean()
    entropy = -(share * np.log2(1 - likely) + (1 - share) * np.log2(likely))
    assert counter.bits == pytest.approx(len(symbols) * entropy, rel=1e-3)


@given(st.lists(calls(), min_size=1, max_size=2))
@settings(max_examples=15, deadline=None)
def test_no_shorter_bytes_decode_the_same(stream: list[Call]) -> None:
    writer, coded = write(stream)
    data = writer.getvalue()
    for end in {0, len(data) // 2, len(data) - 2, len(data) - 1} & set(range(len(data))):
        try:
            reader, symbols = read(data[:end], stream)
        except BitstreamError:
            continue
        assert not same(symbols, coded)
        with pytest.raises(EntropyMismatchError, match="corrupt or the entropy model"):
            reader.check(writer.crc)


RUNS = st.lists(st.tuples(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]), st.integers(1, 20)), max_size=5)


@given(RUNS, st.integers(1, 200), table_sets(), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_what_decodes_encodes_again(runs: list[tuple[int, int]], count: int, tables: CdfTables, seed: int) -> None:
    """Long runs of zeros and ones make carries travel far, which no random symbols do."""
    data = b"".join(bytes([byte]) * times for byte, times in runs)
    index = np.random.default_rng(seed).integers(0, len(tables), count)
    try:
        _, (symbols,) = read(data, [Call(index, index, tables)])
    except BitstreamError:
        return
    call = Call(symbols, index, tables)
    again = write([call])[0].getvalue()
    assert len(again) <= len(data.rstrip(b"\0"))
    assert same(read(again, [call])[1], [symbols])
    assert same(read_reference(again, [call])[1], [symbols])


def test_carry_over_many_words() -> None:
    tables = CdfTables.from_pmfs([np.array([0.3, 0.4, 0.3, 0.0])], [0])
    index = np.zeros(550, dtype=np.uint8)
    # The interval of these 500 symbols holds one half and what comes just before it: no word of it is settled.
    symbols = RangeReader(b"\x80").read(index[:500], tables)
    assert np.array_equal(symbols, RangeReader(b"\x7f" + b"\xff" * 200).read(index[:500], tables))
    assert write([Call(symbols, index[:500], tables)])[0].getvalue() == b"\x80"
    starts = set()
    for end in (0, 2):
        call = Call(np.append(symbols, [end] * 50), index, tables)
        data = write([call])[0].getvalue()
        starts.add(data[:90])
        assert same(read(data, [call])[1], [call.symbols])
        assert same(read_reference(data, [call])[1], [call.symbols])
    assert starts == {b"\x7f" + b"\xff" * 89, b"\x80" + b"\0" * 89}


def test_writing_goes_on_after_getvalue() -> None:
    call = gaussian_call(100)
    writer = RangeWriter()
    assert writer.getvalue() == b""
    writer.write(call.symbols, call.index, GAUSSIAN)
    first = writer.getvalue()
    writer.write(call.symbols, call.index, GAUSSIAN)
    _, symbols = read(writer.getvalue(), [call, call])
    assert same(symbols, [call.symbols] * 2)
    assert same(read(first, [call])[1], [call.symbols])


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64])
def test_any_width_of_symbols(dtype: type) -> None:
    info = np.iinfo(dtype)
    symbols = np.array([info.min, 0, 1, info.max], dtype=dtype)
    call = Call(symbols, np.full(4, 20), GAUSSIAN)
    writer, coded = write([call])
    assert coded[0].tolist() == [min(max(int(s), -SYMBOL_MAX), SYMBOL_MAX) for s in symbols]
    assert same(read(writer.getvalue(), [call])[1], coded)


def test_very_many_tables() -> None:
    count = 70_000
    tables = CdfTables(
        np.tile(np.array([2**24 - 3, 2, 1], dtype=np.int32), count),
        np.full(count, 3, dtype=np.int32),
        np.zeros(count, dtype=np.int32),
    )
    call = Call(np.array([0, 1, 1, 5]), np.array([65_536, 0, count - 1, 65_536]), tables)
    assert same(read(write([call])[0].getvalue(), [call])[1], [call.symbols])


def test_a_table_a_symbol_gives_the_same_bytes() -> None:
    # Two sets of tables, that differ in one size nothing uses: one is coded in one call to the coder, one by runs.
    rng = np.random.default_rng(0)
    pmfs = [rng.random(33) ** 4 for _ in range(200)]
    even, uneven = CdfTables.from_pmfs(pmfs, [0] * 200), CdfTables.from_pmfs([*pmfs, np.ones(2)], [0] * 201)
    symbols, index = rng.integers(-3, 40, 200), rng.permutation(200)
    parts = []
    for tables in (even, uneven):
        writer, _ = write([Call(symbols, index, tables)])
        parts.append(writer.getvalue())
    assert even.rows is not None
    assert uneven.rows is None
    assert parts[0] == parts[1]
    assert same(read(parts[0], [Call(symbols, index, uneven)])[1], [symbols])
    assert same(read(parts[0], [Call(symbols, index, even)])[1], [symbols])


class TestWrongUse:
    @pytest.mark.parametrize("make", [RangeWriter, CountingWriter])
    def test_writers(self, make: type[RangeWriter]) -> None:
        two, three = np.zeros(2, dtype=np.int32), np.zeros(3, dtype=np.int32)
        with pytest.raises(ValueError, match="one table index a symbol"):
            make().write(two, three, GAUSSIAN)
        with pytest.raises(ValueError, match="integers"):
            make().write(two.astype(np.float32), two, GAUSSIAN)
        with pytest.raises(ValueError, match=r"\[0, 64\), but got 64"):
            make().write(two, two + 64, GAUSSIAN)
        with pytest.raises(ValueError, match=r"\[0, 64\), but got -1"):
            make().write(two, two - 1, GAUSSIAN)
        with pytest.raises(ValueError, match="one-dimensional"):
            make().write(two[None], two[None], GAUSSIAN)

    def test_reader(self) -> None:
        with pytest.raises(ValueError, match=r"\[0, 64\), but got 0 to 64"):
            RangeReader(b"").read(np.array([0, 64]), GAUSSIAN)
        with pytest.raises(ValueError, match="one-dimensional"):
            RangeReader(b"").read(np.zeros((1, 1), dtype=np.int32), GAUSSIAN)


class TestBadBytes:
    """Whatever the bytes, reading ends with symbols in range or a BitstreamError, as the reference decoder does."""

    ESCAPING = CdfTables.from_pmfs(
        [np.array([1e-3, 1.0]), np.array([0.3, 0.3, 0.4]), np.array([1.0, 0.1])], [0, -5, SYMBOL_MAX]
    )
    EVEN = CdfTables.from_pmfs([np.array([1e-3 * k, 0.2, 0.5, 1e-4 * k]) for k in range(200)], [-1] * 200)

    def compare(self, data: bytes, call: Call) -> str:
        try:
            wanted = read_reference(data, [call])[1]
        except CorruptError:
            with pytest.raises(BitstreamError, match="corrupt"):
                read(data, [call])
            return "error"
        symbols = read(data, [call])[1]
        assert same(symbols, wanted)
        assert len(symbols[0]) == 0 or np.abs(symbols[0]).max() <= SYMBOL_MAX
        return "symbols"

    @given(
        st.binary(max_size=80), st.integers(0, 60), st.integers(0, 2**32), st.sampled_from([GAUSSIAN, ESCAPING, EVEN])
    )
    @settings(max_examples=200, deadline=None)
    def test_random(self, data: bytes, count: int, seed: int, tables: CdfTables) -> None:
        index = np.random.default_rng(seed).integers(0, len(tables), count)
        self.compare(data, Call(index, index, tables))

    def test_flipped_bits_and_cuts(self) -> None:
        call = Call(np.array([0, 3, -100_000, 1, 9, -7]), np.array([2, 14, 20, 5, 1, 14]), GAUSSIAN)
        writer, coded = write([call])
        data = writer.getvalue()
        outcomes = set()
        for bit in range(8 * len(data)):
            damaged = bytearray(data)
            damaged[bit // 8] ^= 1 << bit % 8
            outcomes.add(self.compare(bytes(damaged), call))
            try:
                reader, symbols = read(bytes(damaged), [call])
            except BitstreamError:
                continue
            assert (reader.crc == writer.crc) == same(symbols, coded)
        for end in range(len(data)):
            outcomes.add(self.compare(data[:end], call))
        for tail in (b"\0", b"\0" * 9, b"\xff" * 9):
            self.compare(data + tail, call)
        assert outcomes == {"error", "symbols"}

    def test_symbols_beyond_24_bits(self) -> None:
        # Bit lengths above 24 can be coded, but stand for no symbol.
        writer = RangeWriter()
        writer._encoder.encode(np.array([1], dtype=np.int32), self.ESCAPING.model(0))
        writer._write_escapes(np.array([2 * (SYMBOL_MAX + 1)]))
        with pytest.raises(BitstreamError, match="exceeds"):
            RangeReader(writer.getvalue()).read(np.array([0]), self.ESCAPING)

    def test_few_bytes_for_many_symbols(self) -> None:
        call = gaussian_call(300_000)
        reader = RangeReader(b"\x12\x34\x56")
        try:
            reader.read(call.index, GAUSSIAN)
        except BitstreamError:
            return
        with pytest.raises(EntropyMismatchError):
            reader.check(0)


class TestGolden:
    """Bytes written in the past decode for ever; the writer may change, these may not."""

    TABLES = CdfTables(
        np.array([1 << 23, 1 << 22, (1 << 22) - 1, 1, 1 << 24 - 1, 1 << 24 - 1, 5, 2**24 - 10, 5], dtype=np.int32),
        np.array([4, 2, 3], dtype=np.int32),
        np.array([-1, 7, -3], dtype=np.int32),
    )
    INDEX = (np.array([0, 1, 2, 0, 0, 1, 2, 2, 0, 0]), np.array([], dtype=np.int64), np.array([1, 0, 1, 1]))
    SYMBOLS = ([0, 7, -2, 1, -1, 6, -3, 500, 8_388_607, -8_388_607], [], [8, 0, 70_000, 7])
    DATA = bytes.fromhex("b7ffffdffcc01a01c013fd7af31143a69ae752f9c3fe0fa3d118")
    CRC = 0x22878CE7

    def calls(self) -> list[Call]:
        return [
            Call(np.array(s, dtype=np.int64), i, self.TABLES) for s, i in zip(self.SYMBOLS, self.INDEX, strict=True)
        ]

    def test_decodes(self) -> None:
        reader, symbols = read(self.DATA, self.calls())
        assert [s.tolist() for s in symbols] == list(self.SYMBOLS)
        reader.check(self.CRC)

    def test_reference_decodes(self) -> None:
        assert [s.tolist() for s in read_reference(self.DATA, self.calls())[1]] == list(self.SYMBOLS)

    def test_is_what_the_writer_gives(self) -> None:
        writer, _ = write(self.calls())
        assert (writer.getvalue(), writer.crc) == (self.DATA, self.CRC)

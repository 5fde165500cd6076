import io
import tracemalloc
import zlib

import pytest
from abuse import samples
from hypothesis import given, settings
from hypothesis import strategies as st

from triode.container.chunks import (
    MAX_LENGTH,
    MAX_VARINT,
    ByteSink,
    ByteSource,
    ChunkReader,
    Cursor,
    encode_varint,
    read_chunk_header,
    write_chunk,
)
from triode.container.limits import DecodeLimits
from triode.errors import BitstreamError, LimitExceededError, TruncatedError, UnsupportedError

relaxed = settings(deadline=None, max_examples=60)  # no deadline: a busy machine is no failure


class Trickle:
    """A source that cannot seek and gives at most `size` bytes at a time."""

    def __init__(self, data, size=1):
        self.fp, self.size = io.BytesIO(data), size

    def read(self, count):
        return self.fp.read(min(count, self.size))


def chunk_reader(data, limits=None):
    return ChunkReader(ByteSource(io.BytesIO(data)), limits or DecodeLimits(), 0)


@relaxed
@given(st.integers(0, MAX_VARINT))
def test_varint_round_trip(value):
    coded = encode_varint(value)
    cursor = Cursor(coded, "test")
    assert cursor.varint() == value
    cursor.end()
    assert coded == samples.varint(value)


@pytest.mark.parametrize(
    ("value", "coded"),
    [
        (0, "00"),
        (127, "7f"),
        (128, "80 01"),
        (300, "ac 02"),
        (16383, "ff 7f"),
        (16384, "80 80 01"),
        (MAX_VARINT, "ff ff ff ff 0f"),
    ],
)
def test_varint_known_values(value, coded):
    assert encode_varint(value).hex(" ") == coded


@pytest.mark.parametrize("value", [-1, MAX_VARINT + 1])
def test_varint_refuses_to_write(value):
    with pytest.raises(ValueError, match="varint holds"):
        encode_varint(value)


@pytest.mark.parametrize(
    ("coded", "message"),
    [
        ("80 00", "shortest"),
        ("ff 80 00", "shortest"),
        ("80 80 80 80 00", "shortest"),
        ("80 80 80 80 10", "above"),
        ("ff ff ff ff 7f", "above"),
        ("80 80 80 80 80 01", "longer than 5"),
        ("80", "ends inside"),
        ("", "ends inside"),
    ],
)
def test_varint_refuses_to_read(coded, message):
    with pytest.raises(BitstreamError, match=message):
        Cursor(bytes.fromhex(coded), "test").varint()


@relaxed
@given(st.binary(max_size=6))
def test_accepted_varints_are_canonical(data):
    cursor = Cursor(data, "test")
    try:
        value = cursor.varint()
    except BitstreamError:
        return
    assert encode_varint(value) + cursor.rest() == data


def test_cursor_fields():
    cursor = Cursor(b"\x07\x01\x02\x03\x04abcde", "test")
    assert cursor.u8() == 7
    assert cursor.u32() == 0x04030201
    assert cursor.take(2) == b"ab"
    with pytest.raises(BitstreamError, match="3 bytes left over"):
        cursor.end()
    with pytest.raises(BitstreamError, match="ends inside a field"):
        cursor.take(4)
    assert cursor.rest() == b"cde"
    cursor.end()


@relaxed
@given(st.lists(st.tuples(st.sampled_from(["DATA", "zz_9", "ABCD"]), st.binary(max_size=300))))
def test_chunks_round_trip(chunks):
    fp = io.BytesIO()
    sink = ByteSink(fp)
    written = [write_chunk(sink, kind, payload[:7], payload[7:]) for kind, payload in chunks]
    assert fp.getvalue() == b"".join(samples.chunk(kind.encode(), payload) for kind, payload in chunks)
    reader = chunk_reader(fp.getvalue())
    found = []
    while (header := reader.next_header()) is not None:
        found.append((header.type, reader.payload(header)))
    assert found == chunks
    assert reader.chunks == written
    assert reader.at_end()
    assert sum(info.size for info in written) == len(fp.getvalue()) == sink.position


def test_chunk_bytes_are_as_specified():
    fp = io.BytesIO()
    info = write_chunk(ByteSink(fp), "abcd", b"123")
    assert fp.getvalue() == b"abcd\x03123" + zlib.crc32(b"abcd123").to_bytes(4, "little")
    assert (info.type, info.offset, info.size, info.payload_size) == ("abcd", 0, 12, 3)
    assert zlib.crc32(b"123456789") == 0xCBF43926


def test_a_payload_longer_than_a_chunk_is_refused():
    class Long(bytes):
        def __len__(self):
            return MAX_LENGTH + 1

    fp = io.BytesIO()
    with pytest.raises(ValueError, match="at most"):
        write_chunk(ByteSink(fp), "DATA", Long())
    assert fp.getvalue() == b""


@pytest.mark.parametrize("kind", ["ABCD", "abcd", "a_09", "Zzzz"])
def test_header_reads_types(kind):
    header = read_chunk_header(ByteSource(io.BytesIO(kind.encode() + b"\x80\x01")))
    assert header.type == kind
    assert header.length == 128
    assert header.payload_offset == 6
    assert header.end == 6 + 128 + 4
    assert header.critical == kind[0].isupper()


def test_header_at_the_end_is_none():
    assert read_chunk_header(ByteSource(io.BytesIO(b""))) is None


@pytest.mark.parametrize("start", [b"D", b"DAT", b"1?", b"DATA", b"DATA\x80"])
def test_header_cut_short(start):
    with pytest.raises(TruncatedError):
        read_chunk_header(ByteSource(io.BytesIO(start)))


def test_skip_checks_the_crc_in_pieces():
    payload = bytes(1 << 22)
    good = samples.chunk(b"zzzz", payload)
    reader = chunk_reader(good)
    tracemalloc.start()
    reader.skip(reader.next_header())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reader.at_end()
    assert peak < len(payload) // 2
    reader = chunk_reader(good[:-1] + b"\0")
    with pytest.raises(BitstreamError, match="damaged"):
        reader.skip(reader.next_header())


@pytest.mark.parametrize("method", ["payload", "skip"])
def test_a_declared_gigabyte_is_not_allocated(method):
    data = b"DATA" + encode_varint(1 << 30) + bytes(100)
    reader = chunk_reader(data)
    header = reader.next_header()
    tracemalloc.start()
    with pytest.raises(TruncatedError):
        getattr(reader, method)(header)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_limits_hold_before_the_payload_is_read():
    data = samples.chunk(b"DATA", bytes(11))
    with pytest.raises(LimitExceededError, match="max_chunk_bytes=10"):
        chunk_reader(data, DecodeLimits(max_chunk_bytes=10)).next_header()
    with pytest.raises(LimitExceededError, match="max_memory_bytes=10"):
        chunk_reader(data, DecodeLimits(max_memory_bytes=10)).next_header()
    reader = chunk_reader(data * 3, DecodeLimits(max_chunks=2))
    reader.skip(reader.next_header())
    reader.skip(reader.next_header())
    with pytest.raises(LimitExceededError, match="max_chunks=2"):
        reader.next_header()


@relaxed
@given(st.binary(max_size=40), st.integers(1, 7), st.integers(0, 50))
def test_short_reads_are_completed(data, size, count):
    source = ByteSource(Trickle(data, size))
    assert source.read_up_to(count) == data[:count]
    assert source.position == min(count, len(data))
    assert not source.seekable


def test_sources_that_cannot_seek_say_so():
    source = ByteSource(Trickle(b"abcdef"))
    source.read_exactly(2, "test")
    source.seek(2)
    with pytest.raises(UnsupportedError, match="cannot seek"):
        source.seek(0)


def test_positions_count_from_where_the_source_was_handed_over():
    fp = io.BytesIO(b"before" + b"abcdef")
    fp.seek(6)
    source = ByteSource(fp)
    assert source.size() == 6
    source.seek(2)
    fp.seek(0)  # the owner moves the file
    source.seek(4)
    assert source.read_exactly(2, "test") == b"ef"


def test_non_blocking_files_are_an_io_error():
    class Empty:
        def read(self, count):
            return None

        def write(self, data):
            return None

    with pytest.raises(BlockingIOError):
        ByteSource(Empty()).read_up_to(1)
    with pytest.raises(BlockingIOError):
        ByteSink(Empty()).write(b"x")


@relaxed
@given(st.binary(max_size=50))
def test_short_writes_are_completed(data):
    class Slow(io.BytesIO):
        def write(self, piece):
            return super().write(bytes(piece[:3]))

    fp = Slow()
    sink = ByteSink(fp)
    sink.write(data)
    assert fp.getvalue() == data
    assert sink.position == len(data)

import pytest
from abuse import samples
from hypothesis import given, settings
from hypothesis import strategies as st

from triode.container.records import (
    DONE_CHUNK_BYTES,
    Done,
    Metadata,
    MetadataKind,
    Unit,
    pack_done,
    pack_index,
    pack_unit_prefix,
    unpack_done,
    unpack_index,
    unpack_unit,
)
from triode.errors import BitstreamError, UnsupportedError

relaxed = settings(deadline=None, max_examples=60)  # no deadline: a busy machine is no failure

u32 = st.integers(0, (1 << 32) - 1)


@relaxed
@given(u32, st.integers(0, 63), u32, st.binary(max_size=50), st.booleans())
def test_unit_round_trip(index, rate_point, crc, payload, single):
    unit = Unit(0 if single else index, rate_point, crc, payload)
    coded = pack_unit_prefix(unit, single=single) + payload
    assert unpack_unit(coded, single=single) == unit
    assert coded == samples.data(None if single else index, rate=rate_point, crc=crc, payload=payload)


@pytest.mark.parametrize("fields", [(-1, 0, 0), (1 << 32, 0, 0), (0, -1, 0), (0, 64, 0), (0, 0, -1), (0, 0, 1 << 32)])
def test_unit_values_out_of_range(fields):
    with pytest.raises(ValueError, match=r"must be|CRC-32 is"):
        Unit(*fields, b"")


def test_reserved_bits_of_the_rate_point():
    with pytest.raises(UnsupportedError, match="0x54"):
        unpack_unit(samples.data(0, rate=0x40 | 20), single=False)


@relaxed
@given(st.lists(st.integers(9, 1 << 32).map(lambda d: d - 1 if d == 1 << 32 else d), min_size=1, max_size=30))
def test_index_round_trip(distances):
    offsets = [sum(distances[: i + 1]) for i in range(len(distances))]
    payload = pack_index(offsets)
    assert unpack_index(payload, len(offsets), offsets[-1] + 9) == tuple(offsets)


def test_index_that_does_not_fit_is_not_written():
    assert pack_index([50, 49 + (1 << 32), 100 + (1 << 32)]) is not None
    assert pack_index([50, 50 + (1 << 32)]) is None


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"\x30\x10", "cannot hold 3"),
        (b"\x30" * 16, "cannot hold 3"),
        (b"\x30\x10\x08", "entry 2 is 8"),
        (b"\x30\x10\x10\x10", "left over"),
        (b"\x30\x10\x7f", "but the index begins at byte 150"),
        (b"\x30\x90\x00", "shortest"),
        (b"\x30\x10\x90", "ends inside"),
    ],
)
def test_index_that_is_refused(payload, message):
    with pytest.raises(BitstreamError, match=message):
        unpack_index(payload, 3, 150)


@relaxed
@given(u32, u32)
def test_done_round_trip(units, size):
    done = Done(units, size)
    assert unpack_done(pack_done(done)) == done
    assert pack_done(done) == samples.done(units, size)
    assert len(samples.chunk(b"DONE", pack_done(done))) == DONE_CHUNK_BYTES == 17


@pytest.mark.parametrize("length", [0, 4, 7, 9])
def test_done_of_another_length(length):
    with pytest.raises(BitstreamError):
        unpack_done(bytes(length))


def test_metadata_by_kind():
    metadata = Metadata(icc=b"1", exif=b"2", xmp=b"3", text=b"4", track=b"5")
    assert [metadata.get(kind) for kind in MetadataKind] == [b"1", b"2", b"3", b"4", b"5"]
    assert [kind.value for kind in MetadataKind] == ["iccp", "exif", "xmp_", "text", "trak"]
    assert all(Metadata().get(kind) is None for kind in MetadataKind)

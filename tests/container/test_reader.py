import io
import itertools

import pytest
from abuse import samples
from abuse.attacks import valid_files
from hypothesis import given, settings
from hypothesis import strategies as st

from triode.container import (
    ContainerReader,
    ContainerWriter,
    DecodeLimits,
    Head,
    ImageHead,
    Layout,
    Metadata,
    MetadataKind,
    Unit,
)
from triode.errors import BitstreamError, LimitExceededError, TruncatedError, UnsupportedError

FILES = dict(valid_files())
KINDS = [kind for kind in MetadataKind if kind is not MetadataKind.TRACK]  # of images
each_file = pytest.mark.parametrize("data", FILES.values(), ids=FILES.keys())


class Pipe:
    """A source with `read` only, which gives `size` bytes at a time and counts what it gave."""

    def __init__(self, data, size=1):
        self.fp, self.size, self.given = io.BytesIO(data), size, 0

    def read(self, count):
        piece = self.fp.read(min(count, self.size))
        self.given += len(piece)
        return piece


class Contents(tuple):
    """Head, metadata, alpha and units of a file."""


def read_all(source):
    reader = ContainerReader(source)
    return Contents((reader.head, reader.metadata, reader.alpha, list(reader.units())))


@st.composite
def contents(draw):
    """A file's contents, and whether it has an index."""
    side = st.integers(1, 150)
    body = ImageHead(
        draw(side),
        draw(side),
        layout=draw(st.sampled_from(Layout)),
        alpha=draw(st.booleans()),
        bit_depth=draw(st.integers(1, 16)),
        tile_log2=draw(st.sampled_from([None, 5, 6])),
    )
    blocks = {kind: draw(st.one_of(st.none(), st.binary(min_size=1, max_size=30))) for kind in KINDS}
    alpha = draw(st.binary(min_size=1, max_size=30)) if body.alpha else None
    units = [
        Unit(i, draw(st.integers(0, 63)), draw(st.integers(0, (1 << 32) - 1)), draw(st.binary(max_size=200)))
        for i in range(body.units)
    ]
    metadata = Metadata(**{kind.name.lower(): block for kind, block in blocks.items()})
    return Contents((Head("some-model.v3", b"abcd", b"efgh", body), metadata, alpha, units)), draw(st.booleans())


def write_all(content, index):
    head, metadata, alpha, units = content
    fp = io.BytesIO()
    with ContainerWriter(fp, head, index=index) as writer:
        for kind in KINDS:
            if (block := metadata.get(kind)) is not None:
                writer.metadata(kind, block)
        if alpha is not None:
            writer.alpha(alpha)
        for unit in units:
            writer.unit(unit)
    return fp.getvalue()


@settings(max_examples=60, deadline=None)
@given(contents())
def test_round_trip(drawn):
    content, index = drawn
    data = write_all(content, index)
    assert read_all(io.BytesIO(data)) == content
    assert read_all(Pipe(data, 7)) == content
    reader = ContainerReader(io.BytesIO(data))
    assert [reader.at(i) for i in range(reader.head.units)] == content[3]
    assert sum(info.size for info in reader.structure()) == len(data) - 8
    assert write_all(read_all(io.BytesIO(data)), index) == data


@each_file
def test_one_byte_at_a_time(data):
    assert read_all(Pipe(data)) == read_all(io.BytesIO(data))


def test_contents_of_a_file_made_by_hand():
    head, metadata, alpha, units = read_all(io.BytesIO(samples.tiled()))
    assert head == Head(
        "image-light.v2", b"\1\2\3\4", b"\5\6\7\x08", ImageHead(40, 70, Layout.RGB, alpha=True, tile_log2=5)
    )
    assert metadata == Metadata(b"profile", b"II*\0", b"<x/>", b"hello")
    assert alpha == b"\x01alpha plane"
    assert units == [Unit(i, 20, 0xC0FFEE11, b"unit %d" % i) for i in range(6)]


@each_file
def test_random_access_equals_sequential(data):
    units = list(ContainerReader(io.BytesIO(data)).units())
    for order in (range(len(units)), reversed(range(len(units)))):
        reader = ContainerReader(io.BytesIO(data))
        for index in order:
            assert reader.at(index) == units[index]


@each_file
def test_random_access_between_units(data):
    """Neither access moves the other."""
    reader = ContainerReader(io.BytesIO(data))
    units = []
    for unit in reader.units():
        assert reader.at(reader.head.units - 1).index == reader.head.units - 1
        reader.structure()
        units.append(unit)
    assert units == list(reader.units())


def test_random_access_by_index_reads_only_the_end_and_the_unit():
    class Counting(io.BytesIO):
        given = 0

        def read(self, count=-1):
            piece = super().read(count)
            self.given += len(piece)
            return piece

    head = Head("m", bytes(4), bytes(4), ImageHead(32 * 50, 1, tile_log2=5))
    units = [Unit(i, 0, 0, bytes(1000)) for i in range(50)]
    with_index = Counting(write_all((head, Metadata(), None, units), index=True))
    assert ContainerReader(with_index).at(30) == units[30]
    assert with_index.given < 2000
    without = Counting(write_all((head, Metadata(), None, units), index=False))
    assert ContainerReader(without).at(30) == units[30]
    assert without.given > 50_000


@each_file
@pytest.mark.parametrize("index", [-1, 6, 1 << 40])
def test_unit_that_does_not_exist(data, index):
    with pytest.raises(IndexError, match="out of range"):
        ContainerReader(io.BytesIO(data)).at(index)


def test_a_pipe_is_read_once():
    reader = ContainerReader(Pipe(samples.tiled()))
    assert not reader.seekable
    assert len(list(reader.units())) == 6
    assert reader.metadata.text == b"hello"
    for again in (reader.units, reader.structure):
        with pytest.raises(UnsupportedError, match="cannot seek"):
            again()
    with pytest.raises(UnsupportedError, match="seek"):
        reader.at(0)


def test_structure_of_a_pipe():
    assert (
        ContainerReader(Pipe(samples.tiled())).structure() == ContainerReader(io.BytesIO(samples.tiled())).structure()
    )


@each_file
def test_structure(data):
    chunks = ContainerReader(io.BytesIO(data)).structure()
    assert [(info.type.encode(), info.payload_size) for info in chunks] == [
        (kind, len(payload)) for kind, payload in samples.split(data)
    ]
    assert chunks[0].offset == 8
    for info, after in itertools.pairwise(chunks):
        assert after.offset == info.offset + info.size
    assert chunks[-1].offset + chunks[-1].size == len(data)
    for info in chunks:
        assert data[info.offset : info.offset + 4] == info.type.encode()


def test_reading_is_lazy():
    data = samples.plain_tiled()
    pipe = Pipe(data)
    reader = ContainerReader(pipe)
    chunks = ContainerReader(io.BytesIO(data)).structure()
    assert pipe.given == chunks[1].offset
    units = reader.units()
    assert pipe.given <= chunks[1].offset + 5
    for info in chunks[1:7]:
        next(units)
        assert pipe.given == info.offset + info.size
    assert list(units) == []
    assert pipe.given == len(data)


def test_a_unit_is_read_before_the_next_is_written():
    class Queue:
        """Fails where a pipe would block: when more is read than has been written."""

        def __init__(self):
            self.data, self.open = b"", True

        def read(self, count):
            assert self.data or not self.open, "the reader waits for bytes that it does not need yet"
            piece, self.data = self.data[:count], self.data[count:]
            return piece

        def write(self, piece):
            self.data += bytes(piece)
            return len(piece)

    queue = Queue()
    writer = ContainerWriter(queue, Head("m", bytes(4), bytes(4), ImageHead(64, 1, tile_log2=5)))
    reader = ContainerReader(queue)
    writer.unit(Unit(0, 1, 2, b"first"))
    units = reader.units()
    assert next(units).payload == b"first"
    writer.unit(Unit(1, 1, 2, b"second"))
    assert next(units).payload == b"second"
    writer.close()
    queue.open = False
    assert list(units) == []


def test_a_file_inside_another():
    outer = io.BytesIO(b"something before" + samples.tiled())
    outer.seek(16)
    reader = ContainerReader(outer)
    assert reader.at(4).payload == b"unit 4"
    assert len(list(reader.units())) == 6


def test_intact_units_come_before_the_truncation():
    data = samples.plain_tiled()
    units = ContainerReader(io.BytesIO(data[:-40])).units()
    assert [next(units).payload for _ in range(4)] == [b"unit %d" % i for i in range(4)]
    with pytest.raises(TruncatedError, match="the DATA chunk at byte 131"):
        next(units)


def test_the_only_unit_comes_after_the_check_of_the_end():
    with pytest.raises(BitstreamError, match="after the end"):
        next(ContainerReader(io.BytesIO(samples.single() + b"x")).units())


@pytest.mark.parametrize("source", [io.BytesIO, Pipe])
def test_damage_before_the_units_is_reported_again(source):
    """A second call must not find the file in order because it starts behind the damage."""
    front, *rest = samples.tiled_chunks()
    bad = samples.chunk(b"iccp", b"profile", crc=0)
    data = samples.SIGNATURE + samples.chunk(*front) + bad + samples.join(*rest, (b"DONE", samples.done(6)))[8:]
    reader = ContainerReader(source(data))
    for attempt in (lambda: reader.metadata, lambda: reader.metadata, reader.units, lambda: reader.alpha):
        with pytest.raises(BitstreamError, match=r"iccp chunk .* is damaged"):
            attempt()


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        (DecodeLimits(max_metadata_bytes=19), "max_metadata_bytes"),
        (DecodeLimits(max_chunk_bytes=29), "max_chunk_bytes"),
        (DecodeLimits(max_memory_bytes=29), "max_memory_bytes"),
        (DecodeLimits(max_chunks=14), "max_chunks"),
        (DecodeLimits(max_chunks=5), "max_chunks"),
        (DecodeLimits(max_units=5), "max_units"),
        (DecodeLimits(max_pixels=2799), "max_pixels"),
        (DecodeLimits(max_model_name=13), "max_model_name"),
    ],
)
def test_limits(limits, name):
    """The tiled sample has 20 bytes of metadata, a HEAD of 30 bytes, 15 chunks, 6 units and 40 x 70 pixels."""
    with pytest.raises(LimitExceededError, match=name):
        ContainerReader(io.BytesIO(samples.tiled()), limits).structure()
    exact = DecodeLimits(
        max_metadata_bytes=20,
        max_chunk_bytes=30,
        max_memory_bytes=30,
        max_chunks=15,
        max_units=6,
        max_pixels=2800,
        max_model_name=14,
    )
    ContainerReader(io.BytesIO(samples.tiled()), exact).structure()


def test_strict_limits_read_ordinary_files():
    assert ContainerReader(io.BytesIO(samples.tiled()), DecodeLimits.strict()).structure()


def test_errors_of_the_source_pass_through():
    class Broken:
        def read(self, count):
            raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        ContainerReader(Broken())

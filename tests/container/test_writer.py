import io

import pytest
from abuse import samples

from triode.container import ContainerReader, ContainerWriter, Head, ImageHead, MetadataKind, Unit
from triode.errors import TruncatedError

SINGLE = Head("image-light.v2", b"\1\2\3\4", b"\5\6\7\x08", ImageHead(7, 5))
TILED = Head("image-light.v2", b"\1\2\3\4", b"\5\6\7\x08", ImageHead(40, 70, tile_log2=5))
ALPHA = Head("image-light.v2", b"\1\2\3\4", b"\5\6\7\x08", ImageHead(40, 70, alpha=True, tile_log2=5))
CRC = 0xC0FFEE11


def unit(index, payload=b"payload"):
    return Unit(index, 20, CRC, payload)


def write(head, units, **options):
    fp = io.BytesIO()
    with ContainerWriter(fp, head, **options) as writer:
        for one in units:
            writer.unit(one)
        assert writer.size == len(fp.getvalue())
    return fp.getvalue()


def test_single_file_equals_the_one_made_by_hand():
    assert write(SINGLE, [unit(0)]) == samples.single()
    assert write(SINGLE, [unit(0)], index=False) == samples.single()


def test_tiled_file_equals_the_one_made_by_hand():
    units = [unit(i, b"unit %d" % i) for i in range(6)]
    assert write(TILED, units) == samples.with_index(*samples.tiled_chunks())
    assert write(TILED, units, index=False) == samples.plain_tiled()


def test_everything_in_a_file():
    fp = io.BytesIO()
    with ContainerWriter(fp, ALPHA) as writer:
        writer.metadata(MetadataKind.ICC, b"profile")
        writer.metadata(MetadataKind.EXIF, b"II*\0")
        writer.metadata(MetadataKind.XMP, b"<x/>")
        writer.metadata(MetadataKind.TEXT, b"hello")
        writer.alpha(b"\x01alpha plane")
        for i in range(6):
            writer.unit(unit(i, b"unit %d" % i))
    front, *rest = samples.tiled_chunks(alpha=True)
    blocks = [(b"iccp", b"profile"), (b"exif", b"II*\0"), (b"xmp_", b"<x/>"), (b"text", b"hello")]
    assert fp.getvalue() == samples.with_index(front, *blocks, *rest)


@pytest.mark.parametrize(("length", "overhead"), [(0, 62), (100, 62), (15_000, 63), (60_000, 64), (2_000_000, 64)])
def test_overhead_of_an_image_in_one_unit(length, overhead):
    """The design allows 64 bytes."""
    head = Head("image-light.v2", bytes(4), bytes(4), ImageHead(768, 512, tile_log2=10))
    assert len(write(head, [unit(0, bytes(length))])) - length == overhead


def test_units_out_of_order_write_nothing():
    fp = io.BytesIO()
    writer = ContainerWriter(fp, TILED)
    writer.unit(unit(0))
    before = fp.getvalue()
    for index in (0, 2, 5, 6):
        with pytest.raises(ValueError, match="expected unit 1"):
            writer.unit(unit(index))
    with pytest.raises(ValueError, match="needs 6 units, 1 were written"):
        writer.close()
    assert fp.getvalue() == before


def test_too_many_units():
    writer = ContainerWriter(io.BytesIO(), SINGLE)
    writer.unit(unit(0))
    with pytest.raises(ValueError, match="all 1 units"):
        writer.unit(unit(1))


def test_alpha_rules():
    with pytest.raises(ValueError, match="announces no alpha"):
        ContainerWriter(io.BytesIO(), TILED).alpha(b"\1")
    writer = ContainerWriter(io.BytesIO(), ALPHA)
    with pytest.raises(ValueError, match="must come before the first unit"):
        writer.unit(unit(0))
    with pytest.raises(ValueError, match="empty"):
        writer.alpha(b"")
    writer.alpha(b"\1")
    with pytest.raises(ValueError, match="already"):
        writer.alpha(b"\1")
    with pytest.raises(ValueError, match="before the alpha plane"):
        writer.metadata(MetadataKind.TEXT, b"x")


def test_metadata_rules():
    writer = ContainerWriter(io.BytesIO(), TILED)
    with pytest.raises(ValueError, match="empty"):
        writer.metadata(MetadataKind.TEXT, b"")
    writer.metadata(MetadataKind.TEXT, b"x")
    with pytest.raises(ValueError, match="already"):
        writer.metadata(MetadataKind.TEXT, b"y")
    writer.unit(unit(0))
    with pytest.raises(ValueError, match="before"):
        writer.metadata(MetadataKind.ICC, b"x")


def test_closed_writer():
    fp = io.BytesIO()
    writer = ContainerWriter(fp, TILED)
    for i in range(6):
        writer.unit(unit(i))
    writer.close()
    size = len(fp.getvalue())
    writer.close()
    for call in (
        lambda: writer.unit(unit(0)),
        lambda: writer.metadata(MetadataKind.ICC, b"x"),
        lambda: writer.alpha(b"x"),
    ):
        with pytest.raises(ValueError, match="closed"):
            call()
    assert len(fp.getvalue()) == size
    assert not fp.closed


def test_a_failing_block_leaves_no_complete_file():
    fp = io.BytesIO()
    writer = ContainerWriter(fp, TILED)
    for i in range(6):
        writer.unit(unit(i))
    with pytest.raises(RuntimeError, match="encoder"), writer:
        raise RuntimeError("the encoder failed")
    with pytest.raises(TruncatedError):
        ContainerReader(io.BytesIO(fp.getvalue())).structure()


def test_a_block_that_forgets_units_fails():
    with pytest.raises(ValueError, match="needs 6 units"), ContainerWriter(io.BytesIO(), TILED):
        pass

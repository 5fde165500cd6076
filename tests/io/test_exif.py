import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from triode.io.exif import orientation, reset_exif, reset_xmp, without_prefix


def block(value, *, endian="<", before=(), kind=3):
    """Return an EXIF block with tags of one short each before the orientation."""
    order = "little" if endian == "<" else "big"

    def number(n, size):
        return n.to_bytes(size, order)

    tags = [*((tag, 3, 7) for tag in before), (0x0112, kind, value), (0x0132, 3, 9)]
    out = (b"II*\0" if endian == "<" else b"MM\0*") + number(8, 4) + number(len(tags), 2)
    for tag, tag_kind, content in tags:
        size = 2 if tag_kind == 3 else 4
        out += number(tag, 2) + number(tag_kind, 2) + number(1, 4) + number(content, size).ljust(4, b"\0")
    return out + bytes(4) + b"the maker's own notes"


@pytest.mark.parametrize("endian", "<>")
@pytest.mark.parametrize("kind", [3, 4])
@pytest.mark.parametrize("value", range(1, 9))
def test_read_and_reset_in_place(value, kind, endian):
    before = block(value, endian=endian, before=(0x010F, 0x0110), kind=kind)
    after = reset_exif(before)
    assert orientation(before) == value
    assert orientation(after) == 1
    assert len(after) == len(before)
    assert sum(a != b for a, b in zip(before, after, strict=True)) == (value != 1)


def test_agrees_with_pillow():
    tags = Image.Exif()
    tags[0x010F], tags[0x0112] = "Maker", 6
    data = without_prefix(tags.tobytes())
    assert orientation(data) == 6
    again = Image.Exif()
    again.load(reset_exif(data))
    assert dict(again) == {0x010F: "Maker", 0x0112: 1}


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_values_out_of_range_mean_upright(value):
    assert orientation(block(value)) == 1
    assert orientation(reset_exif(block(value))) == 1


@pytest.mark.parametrize(
    "data", [b"", b"II*\0", b"XX*\0" + bytes(20), block(6)[:12], b"II*\0\xff\xff\xff\xff", b"II*\0" + bytes(40)]
)
def test_damaged_blocks_stay_as_they_are(data):
    assert orientation(data) == 1
    assert reset_exif(data) == data


@given(st.binary(max_size=80), st.sampled_from([b"", b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08"]))
def test_any_bytes(data, start):
    after = reset_exif(start + data)
    assert len(after) == len(start + data)
    assert orientation(after) == 1


@pytest.mark.parametrize(
    "text", ['<x tiff:Orientation="6"/>', "<x tiff:Orientation='6'/>", "<tiff:Orientation>6</tiff:Orientation>"]
)
def test_xmp(text):
    assert orientation(None, text.encode()) == 6
    assert reset_xmp(text.encode()) == text.replace("6", "1").encode()


def test_exif_goes_before_xmp():
    xmp = b'tiff:Orientation="3"'
    assert orientation(block(8), xmp) == 8
    assert orientation(b"II*\0" + bytes(40), xmp) == 3
    assert orientation(None, b'tiff:Orientation="12"') == 1


def test_prefix():
    assert without_prefix(b"Exif\0\0Exif\0\0II*\0") == b"II*\0"
    assert without_prefix(b"II*\0") == b"II*\0"

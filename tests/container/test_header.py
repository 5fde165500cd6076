import dataclasses

import pytest
from abuse import samples
from hypothesis import given, settings
from hypothesis import strategies as st

from triode.container.header import (
    MAX_SIDE,
    Colour,
    Head,
    ImageHead,
    Layout,
    Media,
    Tile,
    TileGrid,
    pack_head,
    tile_grid,
    unpack_head,
)
from triode.container.limits import DecodeLimits
from triode.errors import BitstreamError, LimitExceededError, UnsupportedError

relaxed = settings(deadline=None, max_examples=60)  # no deadline: a busy machine is no failure

WHO = samples.ANYONE
sides = st.one_of(st.integers(1, 300), st.integers(1, MAX_SIDE))
names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True)


@st.composite
def heads(draw):
    width, height = draw(sides), draw(sides)
    tile = draw(st.one_of(st.none(), st.integers(5, 16)))
    if tile is not None and len(TileGrid(width, height, 1 << tile)) >= 1 << 32:
        tile = None
    body = ImageHead(
        width,
        height,
        layout=draw(st.sampled_from(Layout)),
        alpha=draw(st.booleans()),
        bit_depth=draw(st.integers(1, 16)),
        tile_log2=tile,
    )
    four = st.binary(min_size=4, max_size=4)
    return Head(draw(names), draw(four), draw(four), body)


def image(**fields):
    return Head("m", bytes(4), bytes(4), ImageHead(**{"width": 7, "height": 5, **fields}))


@relaxed
@given(heads())
def test_round_trip(head):
    assert unpack_head(pack_head(head), DecodeLimits.unlimited()) == head


@relaxed
@given(st.binary(max_size=60))
def test_accepted_payloads_are_canonical(data):
    """Whatever follows a valid beginning is refused, or is what the writer would have written."""
    payload = samples.head(WHO)[:25] + data
    try:
        head = unpack_head(payload, DecodeLimits.unlimited())
    except (BitstreamError, UnsupportedError):
        return
    assert pack_head(head) == payload


def test_payload_is_as_specified():
    head = Head("image-light.v2", WHO.entropy, WHO.synthesis, ImageHead(7, 5))
    assert pack_head(head) == samples.head()
    assert head.media is Media.IMAGE
    assert (head.single, head.units) == (True, 1)
    head = Head("image-light.v2", WHO.entropy, WHO.synthesis, ImageHead(40, 70, alpha=True, tile_log2=5))
    assert pack_head(head) == samples.head(width=40, height=70, tile=5, alpha=True)
    assert (head.single, head.units) == (False, 6)


@pytest.mark.parametrize(
    ("fields", "sample"),
    [
        ({"bit_depth": 1, "layout": Layout.GREY}, 0x00),
        ({"bit_depth": 16, "layout": Layout.GREY}, 0x0F),
        ({"bit_depth": 8, "layout": Layout.GREY, "alpha": True}, 0x17),
        ({"bit_depth": 16, "layout": Layout.RGB, "alpha": True}, 0x3F),
    ],
)
def test_sample_format_byte(fields, sample):
    head = image(**fields)
    payload = pack_head(head)
    assert payload[-2:] == bytes([sample, Colour.SRGB])
    assert unpack_head(payload) == head


def test_layout_channels():
    assert Layout.GREY.channels == 1
    assert Layout.RGB.channels == 3


@pytest.mark.parametrize(
    "fields",
    [
        {"width": 0},
        {"height": 0},
        {"width": -1},
        {"width": MAX_SIDE + 1},
        {"height": MAX_SIDE + 1},
        {"bit_depth": 0},
        {"bit_depth": 17},
        {"tile_log2": 4},
        {"tile_log2": 17},
        {"width": MAX_SIDE, "height": MAX_SIDE, "tile_log2": 5},
    ],
)
def test_image_values_out_of_range(fields):
    with pytest.raises(ValueError, match=r"must be|at most"):
        image(**fields)


@pytest.mark.parametrize("name", ["", ".", "..", "-a", "A", "a/b", "a b", "a\n", "ä", "x" * 65])
def test_model_names_that_are_refused(name):
    with pytest.raises(ValueError, match="model name"):
        Head(name, bytes(4), bytes(4), ImageHead(1, 1))


@pytest.mark.parametrize("field", ["entropy_digest", "synthesis_digest"])
def test_digest_length(field):
    with pytest.raises(ValueError, match="4 bytes, got 32"):
        dataclasses.replace(image(), **{field: bytes(32)})


def test_an_image_that_fits_is_not_tiled():
    assert image(width=64, height=64, tile_log2=6).body.tile_log2 is None
    assert image(width=65, height=1, tile_log2=6).body.tile_log2 == 6
    assert image(width=1, height=65, tile_log2=6).units == 2


def test_a_file_of_one_tile_must_be_single():
    with pytest.raises(BitstreamError, match="64 x 33 fits into one tile"):
        unpack_head(samples.head(width=64, height=33, tile=6))
    assert unpack_head(samples.head(width=65, height=33, tile=6)).units == 2


@pytest.mark.parametrize(
    ("limits", "payload"),
    [
        (DecodeLimits(max_pixels=34), samples.head()),
        (DecodeLimits(max_units=5), samples.head(width=40, height=70, tile=5)),
        (DecodeLimits(max_model_name=13), samples.head()),
    ],
)
def test_limits(limits, payload):
    with pytest.raises(LimitExceededError):
        unpack_head(payload, limits)
    unpack_head(payload)


@pytest.mark.parametrize(("media", "name"), [(0, "reserved code 0"), (9, "reserved code 9")])
def test_other_media_are_named(media, name):
    with pytest.raises(UnsupportedError, match=name):
        unpack_head(samples.head(media=media))


@relaxed
@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from([5, 6, 7, None]))
def test_tiles_cover_the_image_once(width, height, tile):
    body = ImageHead(width, height, tile_log2=tile)
    grid = tile_grid(body)
    tiles = list(grid)
    assert len(tiles) == len(grid) == body.units == grid.columns * grid.rows
    assert sum(t.width * t.height for t in tiles) == width * height
    assert [(t.y, t.x) for t in tiles] == sorted({(t.y, t.x) for t in tiles})
    side = max(width, height) if body.tile_log2 is None else 1 << body.tile_log2
    for t in tiles:
        assert t.x % side == t.y % side == 0
        assert t.width == min(side, width - t.x)
        assert t.height == min(side, height - t.y)


def test_grid_is_a_sequence_of_any_size():
    grid = tile_grid(ImageHead(40, 70, tile_log2=5))
    assert (grid.columns, grid.rows) == (2, 3)
    assert grid[0] == Tile(0, 0, 32, 32)
    assert grid[5] == grid[-1] == Tile(32, 64, 8, 6)
    assert grid[1:3] == (Tile(32, 0, 8, 32), Tile(0, 32, 32, 32))
    for index in (6, -7):
        with pytest.raises(IndexError, match="6 tiles"):
            grid[index]
    huge = TileGrid(MAX_SIDE, MAX_SIDE, 32)
    assert huge[len(huge) - 1] == Tile(MAX_SIDE - 31, MAX_SIDE - 31, 31, 31)

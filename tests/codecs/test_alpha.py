import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from triode.codecs.alpha import decode_alpha, encode_alpha
from triode.errors import BitstreamError, UnsupportedError

planes = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40))


@given(planes)
def test_round_trip(plane):
    decoded = decode_alpha(encode_alpha(plane), plane.shape[1], plane.shape[0])
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded, plane)


@given(planes, st.integers(0, 2))
def test_every_filter_decodes(plane, kind):
    wide = plane.astype(int)
    if kind:
        wide = np.diff(wide, axis=2 - kind, prepend=0)
    data = bytes([kind]) + zlib.compress((wide % 256).astype(np.uint8).tobytes())
    assert np.array_equal(decode_alpha(data, plane.shape[1], plane.shape[0]), plane)


@pytest.mark.parametrize("view", [np.s_[:, ::-1], np.s_[::2, 1::3], np.s_[:, :]])
def test_any_memory_layout(view):
    plane = np.asfortranarray(np.random.default_rng(0).integers(0, 256, (30, 40), dtype=np.uint8))[view]
    assert np.array_equal(decode_alpha(encode_alpha(plane), plane.shape[1], plane.shape[0]), plane)


def test_filters_pay():
    ramp = np.add.outer(np.arange(200), 3 * np.arange(200)).astype(np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (200, 200), dtype=np.uint8)
    assert len(encode_alpha(ramp)) < 500
    assert len(encode_alpha(np.full((1000, 1000), 255, dtype=np.uint8))) < 1200
    assert len(encode_alpha(noise)) < noise.size + 100


def test_input_is_not_changed():
    plane = np.arange(12, dtype=np.uint8).reshape(3, 4)
    encode_alpha(plane)
    assert np.array_equal(plane, np.arange(12).reshape(3, 4))


@pytest.mark.parametrize("size", [(4, 2), (4, 4), (3, 3), (5, 3), (1, 1), (1000, 1000), (12, 2)])
def test_wrong_size(size):
    data = encode_alpha(np.zeros((3, 4), dtype=np.uint8))
    with pytest.raises(BitstreamError, match="exactly"):
        decode_alpha(data, *size)


def test_bomb_is_not_unpacked():
    import tracemalloc

    bomb = b"\0" + zlib.compress(bytes(50_000_000), 9)
    tracemalloc.start()
    try:
        with pytest.raises(BitstreamError, match="exactly"):
            decode_alpha(bomb, 10, 10)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000


def test_every_truncation():
    plane = np.random.default_rng(0).integers(0, 3, (20, 20), dtype=np.uint8)
    data = encode_alpha(plane)
    for length in range(len(data)):
        with pytest.raises(BitstreamError):
            decode_alpha(data[:length], 20, 20)


def test_a_flipped_bit_never_changes_the_plane():
    plane = np.random.default_rng(0).integers(0, 3, (12, 12), dtype=np.uint8)
    data = encode_alpha(plane)
    refused = 0
    for bit in range(8, 8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            decoded = decode_alpha(bytes(damaged), 12, 12)
        except BitstreamError:
            refused += 1
        else:  # Some bits of deflate mean nothing: the padding of its last byte, for one.
            assert np.array_equal(decoded, plane)
    assert refused > 8 * len(data) - 32


def test_garbage_behind_the_plane():
    data = encode_alpha(np.zeros((3, 4), dtype=np.uint8))
    with pytest.raises(BitstreamError, match="exactly"):
        decode_alpha(data + b"\0", 4, 3)
    with pytest.raises(BitstreamError, match="exactly"):
        decode_alpha(data + data[1:], 4, 3)


@pytest.mark.parametrize("kind", [3, 4, 128, 255])
def test_unknown_filter(kind):
    with pytest.raises(UnsupportedError, match=f"filter {kind}"):
        decode_alpha(bytes([kind]) + zlib.compress(bytes(12)), 4, 3)


@given(st.binary(max_size=60))
def test_random_bytes(data):
    with pytest.raises((BitstreamError, UnsupportedError)):
        decode_alpha(data, 7, 5)


def test_preset_dictionary_is_refused():
    packer = zlib.compressobj(zdict=b"abc")
    data = b"\0" + packer.compress(bytes(12)) + packer.flush()
    with pytest.raises(BitstreamError, match="damaged"):
        decode_alpha(data, 4, 3)

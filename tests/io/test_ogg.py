"""Pages of Ogg, and Opus files that were cut without coding them again."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest

from triode.errors import BitstreamError, TruncatedError
from triode.io.audio import read_sound
from triode.io.ogg import counts_oddly, pages

soundfile = pytest.importorskip("soundfile")


def tone(seconds=2.5, rate=48000):
    return 0.3 * np.sin(2 * np.pi * 440 * np.arange(int(seconds * rate)) / rate).astype(np.float32)


@pytest.fixture(scope="module")
def opus():
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(), 48000, format="OGG", subtype="OPUS")
    return buffer.getvalue()


def crc(data):
    """The checksum as RFC 3533 puts it, bit by bit."""
    register = 0
    for byte in data:
        register ^= byte << 24
        for _ in range(8):
            register = (register << 1 ^ (0x04C11DB7 if register & 0x80000000 else 0)) & 0xFFFFFFFF
    return register


def starts(data):
    found, at = [], 0
    while at < len(data):
        found.append(at)
        segments = data[at + 26]
        at += 27 + segments + sum(data[at + 27 : at + 27 + segments])
    return [*found, at]


def recounted(data, change, which=2):
    """Return a file in which a page, and all after it if it is the first with sound, count `change` samples more."""
    out, at = bytearray(data), starts(data)
    for number in range(which, len(at) - 1):
        begin, end = at[number], at[number + 1]
        granule = struct.unpack_from("<q", out, begin + 6)[0]
        struct.pack_into("<q", out, begin + 6, granule + change)
        out[begin + 22 : begin + 26] = bytes(4)
        struct.pack_into("<I", out, begin + 22, crc(out[begin:end]))
    return bytes(out)


def test_pages_and_their_checksums(opus):
    found = list(pages(io.BytesIO(opus)))
    assert b"".join(page.lacing + page.body for page in found) == b"".join(
        opus[a + 27 : b] for a, b in zip(starts(opus), starts(opus)[1:], strict=False)
    )
    assert [page.last for page in found] == [False] * (len(found) - 1) + [True]
    assert [len(page.body) for page in found] == [sum(page.lacing) for page in found]


def test_a_regular_file_is_left_to_libsndfile(opus):
    assert not counts_oddly(io.BytesIO(opus))
    assert soundfile.read(io.BytesIO(opus))[0].shape == (120000,)


@pytest.mark.parametrize("which", [2, 3])
def test_a_file_that_was_cut_is_read_all_the_same(opus, which):
    pytest.importorskip("av")
    cut = recounted(opus, -100, which)
    assert counts_oddly(io.BytesIO(cut))
    with pytest.raises(soundfile.LibsndfileError):
        soundfile.read(io.BytesIO(cut))
    samples = read_sound(io.BytesIO(cut)).samples
    assert abs(samples.shape[1] - 120000) <= 960
    middle = samples[0, 48000:72000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert np.argmax(spectrum) == 440 * len(middle) // 48000


def test_a_stream_from_the_middle_of_another_is_regular(opus):
    assert not counts_oddly(io.BytesIO(recounted(opus, 96000)))


def test_damage_is_told(opus):
    at = starts(opus)
    flipped = bytearray(opus)
    flipped[at[3] + 60] ^= 1
    with pytest.raises(BitstreamError, match="another checksum"):
        list(pages(io.BytesIO(bytes(flipped))))
    with pytest.raises(BitstreamError, match="page 3 follows page 1"):
        list(pages(io.BytesIO(opus[: at[2]] + opus[at[3] :])))
    with pytest.raises(TruncatedError):
        list(pages(io.BytesIO(opus[:-1])))
    with pytest.raises(TruncatedError):
        list(pages(io.BytesIO(opus[: at[2] + 5])))
    with pytest.raises(BitstreamError, match="no page"):
        list(pages(io.BytesIO(opus[: at[2]] + b"x" * 100)))


@pytest.mark.parametrize("cut", [0, 1, 30, 70, 200])
def test_what_is_cut_short_is_not_odd(opus, cut):
    assert not counts_oddly(io.BytesIO(recounted(opus, -100)[:cut]))


def test_an_odd_file_that_is_damaged_is_refused(opus):
    damaged = bytearray(recounted(opus, -100))
    damaged[-50] ^= 1
    assert not counts_oddly(io.BytesIO(bytes(damaged)))
    with pytest.raises(BitstreamError):
        read_sound(io.BytesIO(bytes(damaged)))


def test_other_formats():
    for data in (b"", b"RIFF....WAVE", b"OggS" + bytes(60), zlib.compress(b"OpusHead")):
        assert not counts_oddly(io.BytesIO(data))

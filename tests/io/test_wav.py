"""WAV in plain Python against libsndfile, which reads the same files."""

import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triode.errors import BitstreamError, CodecError, TruncatedError, UnsupportedError
from triode.io.audio import SoundWriter
from triode.io.wav import WavSource, is_wav

RNG = np.random.default_rng(4)
SUBTYPES = ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")


def wav(subtype="PCM_16", channels=2, frames=501, fmt="WAV", **tags):
    soundfile = pytest.importorskip("soundfile")
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", 22050, channels, subtype=subtype, format=fmt) as out:
        for key, value in tags.items():
            setattr(out, key, value)
        out.write(RNG.uniform(-1, 1, (frames, channels)))
    return file.getvalue()


def sample_of(data, count=1 << 20):
    source = WavSource(io.BytesIO(data))
    blocks = [np.empty((source.channels, 0), np.float32)]
    while (block := source.read(count)).shape[1]:
        blocks.append(block)
    return np.concatenate(blocks, axis=1)


@pytest.mark.parametrize("fmt", ["WAV", "WAVEX"])
@pytest.mark.parametrize("subtype", SUBTYPES)
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_samples_are_those_of_libsndfile(subtype, channels, fmt):
    soundfile = pytest.importorskip("soundfile")
    data = wav(subtype, channels, fmt=fmt)
    expected = soundfile.read(io.BytesIO(data), dtype="float32", always_2d=True)[0].T
    source = WavSource(io.BytesIO(data))
    assert (source.rate, source.channels, source.frames) == (22050, channels, 501)
    assert source.format == f"WAV {subtype}"
    for count in (100, 501, 5000):
        np.testing.assert_array_equal(sample_of(data, count), expected)
    assert is_wav(data)


def test_tags_are_those_of_libsndfile():
    soundfile = pytest.importorskip("soundfile")
    data = wav(title="Däs", artist="A & B", date="1999", comment="x" * 101, software="nobody")
    found = dict(WavSource(io.BytesIO(data)).tags)
    expected = soundfile.SoundFile(io.BytesIO(data)).copy_metadata()
    assert found == {key.upper(): value for key, value in expected.items() if key != "software"}


def test_a_length_that_is_not_known():
    data = bytearray(wav("PCM_16", 1, 10))
    at = data.index(b"data") + 4
    data[at : at + 4] = b"\xff\xff\xff\xff"
    assert WavSource(io.BytesIO(data)).frames == 10


def test_half_a_frame_at_the_end_is_none():
    data = bytearray(wav("PCM_16", 2, 10))
    at = data.index(b"data") + 4
    data[at : at + 4] = (39).to_bytes(4, "little")
    assert sample_of(bytes(data)).shape == (2, 9)


def test_what_is_not_read():
    data = bytearray(wav("PCM_16", 1, 10))
    at = data.index(b"fmt ") + 8
    data[at : at + 2] = struct.pack("<H", 7)
    with pytest.raises(UnsupportedError, match="coding 7 with 16 bits"):
        WavSource(io.BytesIO(data))
    data[at : at + 4] = struct.pack("<HH", 1, 0)
    with pytest.raises(BitstreamError, match="0 channels"):
        WavSource(io.BytesIO(data))


@pytest.mark.parametrize("tags", [(), (("TITLE", "odd"), ("COMMENT", "Ünïcode\nlines")), (("LICENSE", "CC0"),)])
def test_what_triode_writes(tags):
    file = io.BytesIO()
    samples = (RNG.integers(-32768, 32768, (3, 77)) / 32768).astype(np.float32)
    with SoundWriter(file, 48000, 3, tags=tags) as writer:
        writer.write(samples)
    np.testing.assert_array_equal(sample_of(file.getvalue()), samples)
    assert WavSource(file).tags == tuple(tag for tag in tags if tag[0] != "LICENSE")
    soundfile = pytest.importorskip("soundfile")
    file.seek(0)
    with soundfile.SoundFile(file) as found:
        assert {key.upper(): value for key, value in found.copy_metadata().items()} == dict(WavSource(file).tags)


def test_every_cut_is_an_error():
    data = wav("PCM_16", 1, 40)
    for end in range(12, len(data)):
        with pytest.raises(TruncatedError):
            sample_of(data[:end])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damage_is_an_error_or_sound(data):
    file = bytearray(DAMAGED)
    for _ in range(data.draw(st.integers(1, 4))):
        file[data.draw(st.integers(12, len(file) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = sample_of(bytes(file), 64)
    except CodecError:
        return
    assert found.dtype == np.float32
    assert found.size <= 8 * len(file)


with io.BytesIO() as _file:
    with SoundWriter(_file, 8000, 2, tags=(("TITLE", "a title"), ("ALBUM", "b"))) as _writer:
        _writer.write(np.zeros((2, 20), np.float32))
    DAMAGED = _file.getvalue()

"""Damaged and hostile sounds through the whole codec: `CodecError`, or the very samples that were encoded."""

import dataclasses
import io
import tracemalloc
import warnings

import numpy as np
import pytest
from abuse import corrupt, samples
from abuse.attacks import all_attacks, valid_files, valid_sounds
from abuse.samples import Identity
from hypothesis import given, settings
from hypothesis import strategies as st
from models.tiny_sound import RATE, smooth_sound, tiny_sound

from triode.codecs.audio import AudioCodec
from triode.container import ContainerReader, ContainerWriter, DecodeLimits, read_sound_unit
from triode.errors import BitstreamError, CodecError, TruncatedError
from triode.media import Sound

WEIGHTS = tiny_sound()
CODEC = AudioCodec(WEIGHTS, chunk_seconds=0.1)
WHO = Identity(b"tiny-sound.v1", b"\xa1\xb2\xc3\xd4", b"\x0b\xad\xca\xfe")


def encoded(channels, count, rate=RATE):
    x = smooth_sound(channels, count, rate)
    x[-1, count // 2 :] = 0  # a silent channel somewhere
    return CODEC.encode(Sound(x, rate), quality=30).data


FILES = {
    "single": encoded(2, 60),
    "chunks": encoded(2, 330),
    "resampled": encoded(1, 200, 1600),
    "empty": encoded(1, 0),
}
SOUNDS = {name: CODEC.decode(data).samples for name, data in FILES.items()}
each_file = pytest.mark.parametrize("name", FILES)


def refused(data, original=None, codec=CODEC):
    """Decode; return whether it was refused. What is not refused must be the original."""
    try:
        found = codec.decode(data).samples
    except CodecError:
        return True
    assert original is not None
    assert np.array_equal(found, original)
    return False


def with_payload(data, change):
    """Change the payload of every unit; every checksum of the container is right."""
    reader, out = ContainerReader(io.BytesIO(data)), io.BytesIO()
    with ContainerWriter(out, reader.head) as writer:
        for unit in reader.units():
            writer.unit(dataclasses.replace(unit, payload=change(unit.payload)))
    return out.getvalue()


def coded_at(data):
    """Return how many bytes of the only unit's payload come before the coded ones."""
    (unit,) = ContainerReader(io.BytesIO(data)).units()
    head = ContainerReader(io.BytesIO(data)).head.audio
    return len(unit.payload) - len(read_sound_unit(unit.payload, head, 0).coded)


def test_attacks_on_the_container():
    for attack in all_attacks(WHO):
        for ask in (CODEC.decode, CODEC.verify):
            with pytest.raises(CodecError):
                pytest.fail(f"{attack.name}: {ask(attack.data)}")
        with pytest.raises(CodecError):
            pytest.fail(f"{attack.name}: {CODEC.info(attack.data)}")
    for name, data in (*valid_files(WHO), *valid_sounds(WHO)):  # Units of bytes that no entropy coder wrote.
        with pytest.raises(CodecError):
            pytest.fail(f"{name}: {CODEC.decode(data)}")


def test_attacks_and_concealment():
    """Concealment forgives units, not headers; what it makes is of the length that `HEAD` says."""
    careful = AudioCodec(WEIGHTS, limits=DecodeLimits(max_samples=10_000))
    for attack in all_attacks(WHO):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = careful.decode(attack.data, conceal=True)
            except CodecError:
                continue
        assert found.samples.shape[1] == careful.blocks(attack.data).samples, attack.name


@each_file
def test_cut_at_every_byte(name):
    for cut, damaged in corrupt.truncations(FILES[name]):
        with pytest.raises(TruncatedError):
            pytest.fail(f"{cut}: {CODEC.decode(damaged)}")


@each_file
def test_bits_flipped(name):
    data = FILES[name]
    unit = data.index(b"DATA")
    for flip, damaged in (*corrupt.bit_flips(data, 0, unit), *corrupt.bit_flips(data, unit, step=13)):
        assert refused(damaged), flip
        with pytest.raises(CodecError):
            pytest.fail(f"{flip}: {CODEC.verify(damaged)}")


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_every_byte_of_the_coded_bytes_flipped(flip):
    data, kept = FILES["single"], 0
    begin = coded_at(data)
    (unit,) = ContainerReader(io.BytesIO(data)).units()
    for place in range(begin, len(unit.payload)):
        damaged = bytearray(unit.payload)
        damaged[place] ^= flip
        kept += not refused(with_payload(data, lambda _, d=damaged: bytes(d)), SOUNDS["single"])
    assert kept <= 1  # Only the last byte may have bits to spare.


def test_payload_cut_at_every_byte():
    data = FILES["single"]
    (unit,) = ContainerReader(io.BytesIO(data)).units()
    for length in range(len(unit.payload)):
        assert refused(with_payload(data, lambda p, n=length: p[:n]))


@pytest.mark.parametrize(
    "payload", [b"", b"\0", b"\x40", b"\x40" * 3, b"\xff" * 100, b"\x40\x40\0" + bytes(5000)], ids=len
)
def test_made_up_payloads(payload):
    for data in (FILES["single"], FILES["chunks"], FILES["resampled"]):
        assert refused(with_payload(data, lambda _: payload))


def test_levels_and_rotations_are_taken_as_they_are():
    """They have no checksum of their own but that of the chunk: a changed one is another sound, never an error."""
    data = FILES["single"]
    for place, value in ((0, 0x01), (0, 0x7F), (1, 0x7F), (2, 0x10), (2, 0x3F)):
        changed = with_payload(data, lambda p, i=place, v=value: p[:i] + bytes([v]) + p[i + 1 :])
        try:
            found = CODEC.decode(changed).samples
        except BitstreamError:
            assert place == 1  # a silent channel that is said to have symbols
        else:
            assert found.shape == SOUNDS["single"].shape
            assert np.isfinite(found).all()


@pytest.mark.filterwarnings("ignore:.*other samples")
@pytest.mark.parametrize("name", ["single", "chunks", "resampled"])
def test_changes_behind_right_checksums(name):
    """Such a file may be another valid one, of another length for example."""
    careful = AudioCodec(WEIGHTS, limits=DecodeLimits(max_samples=1 << 16, max_memory_bytes=1 << 26))
    count = 0
    for kinds in ((b"DATA",), (b"HEAD",)):
        for what, damaged in corrupt.payload_mutations(FILES[name], 250, kinds=kinds):
            try:
                found = careful.decode(damaged)
            except CodecError:
                count += 1
            else:
                assert np.isfinite(found.samples).all(), what
                assert found.samples.shape[1] == careful.info(damaged).samples
    assert count > 250


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([0, 1, 300, (1 << 33) - 1]),
    st.sampled_from([1, 7, RATE, (1 << 24) - 1]),
    st.integers(1, 8),
    st.sampled_from([None, 1, 5, 1 << 20]),
    st.binary(max_size=40),
    st.booleans(),
)
def test_extreme_heads_over_any_unit(count, rate, channels, chunk, payload, conceal):
    head = samples.sound_head(WHO, samples=count, rate=rate, channels=channels, model_rate=RATE, hop=8, chunk=chunk)
    unit = samples.data(None if chunk is None else 0, payload=payload)
    data = samples.join((b"HEAD", head), (b"DATA", unit), *([] if chunk is None else [(b"DONE", samples.done(1))]))
    careful = AudioCodec(WEIGHTS, limits=DecodeLimits(max_memory_bytes=1 << 24))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = careful.decode(data, conceal=conceal)
        except CodecError:
            return
    assert found.samples.shape == (channels, count)
    assert np.isfinite(found.samples).all()


def test_attacks_take_little_memory():
    worst = {}
    tracemalloc.start()
    try:
        for attack in all_attacks(WHO):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            with pytest.raises(CodecError):
                CODEC.decode(attack.data)
            worst[attack.name] = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert max(worst.values()) < 4 << 20, max(worst, key=worst.get)

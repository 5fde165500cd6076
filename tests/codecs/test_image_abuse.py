"""Damaged and hostile files through the whole image codec: `CodecError`, or the very picture that was encoded."""

import io

import numpy as np
import pytest
from abuse import corrupt
from abuse.attacks import all_attacks, valid_files
from abuse.samples import Identity
from models.tiny import smooth_image

from triode.codecs.image import ImageCodec
from triode.container import ContainerReader, ContainerWriter, DecodeLimits, Unit
from triode.errors import BitstreamError, CodecError
from triode.media import Picture


@pytest.fixture(scope="module")
def files(codec):
    """Small files of one and of several units, with all that a file can have."""
    rich = Picture(smooth_image(140, 20, 4), icc=b"profile", exif=b"II*\0", xmp=b"<x/>")
    tiled = ImageCodec(codec._model, tile_log2=7)
    return {"single": codec.encode(Picture(smooth_image(40, 50))).data, "tiled": tiled.encode(rich).data}


@pytest.fixture(scope="module")
def pictures(codec, files):
    return {name: codec.decode(data).pixels for name, data in files.items()}


def with_payload(data, change):
    """Change the entropy-coded bytes of every unit; every checksum of the container is right."""
    reader, out = ContainerReader(io.BytesIO(data)), io.BytesIO()
    with ContainerWriter(out, reader.head) as writer:
        if reader.alpha is not None:
            writer.alpha(reader.alpha)
        for u in reader.units():
            writer.unit(Unit(u.index, u.rate_point, u.symbols_crc32, change(u.payload)))
    return out.getvalue()


def refused(codec, data, original=None):
    """Decode; return whether it was refused. What is not refused must be the original."""
    try:
        pixels = codec.decode(data).pixels
    except CodecError:
        return True
    assert original is not None
    assert np.array_equal(pixels, original)
    return False


def test_attacks_on_the_container(codec, weights):
    digests = [bytes.fromhex(d)[:4] for d in (weights.entropy_digest, weights.synthesis_digest)]
    who = Identity(weights.name.encode(), *digests)
    for attack in all_attacks(who):
        with pytest.raises(CodecError):
            pytest.fail(f"{attack.name}: {codec.decode(attack.data)}")
        with pytest.raises(CodecError):
            pytest.fail(f"{attack.name}: {codec.verify(attack.data)}")
        with pytest.raises(attack.error):
            pytest.fail(f"{attack.name}: {codec.info(attack.data)}")
    for name, data in valid_files(who):  # Valid containers of bytes that no entropy coder wrote.
        with pytest.raises(BitstreamError):
            pytest.fail(f"{name}: {codec.decode(data)}")


@pytest.mark.parametrize("flip", [0x01, 0x80, 0xFF])
def test_every_byte_of_the_payload_flipped(codec, files, pictures, flip):
    data = files["single"]
    payload = next(ContainerReader(io.BytesIO(data)).units()).payload
    kept = 0
    for place in range(len(payload)):
        damaged = bytearray(payload)
        damaged[place] ^= flip
        kept += not refused(codec, with_payload(data, lambda _, d=damaged: bytes(d)), pictures["single"])
    assert kept <= 1  # Only the last byte may have bits to spare.


def test_payload_cut_at_every_byte(codec, files, pictures):
    payload = next(ContainerReader(io.BytesIO(files["single"])).units()).payload
    for length in range(len(payload)):
        assert refused(codec, with_payload(files["single"], lambda p, n=length: p[:n]))


@pytest.mark.parametrize("payload", [b"", b"\0", b"\xff" * 100, b"\0" * 5000, bytes(range(256)) * 20], ids=len)
def test_made_up_payloads(codec, files, payload):
    for data in files.values():
        assert refused(codec, with_payload(data, lambda _: payload))


def test_files_cut_short(codec, files):
    for name, data in files.items():
        for cut, damaged in corrupt.truncations(data, step=3):
            assert refused(codec, damaged), (name, cut)


def test_bits_flipped(codec, files):
    for name, data in files.items():
        first_unit = data.index(b"DATA")
        for flip, damaged in corrupt.bit_flips(data, 0, min(first_unit, 90)):
            assert refused(codec, damaged), (name, flip)
        for flip, damaged in corrupt.bit_flips(data, first_unit, step=29):
            assert refused(codec, damaged), (name, flip)


@pytest.mark.filterwarnings("ignore:.*other pixels")
def test_changes_behind_right_checksums(files):
    """Such a file may be another valid one, of another size for example; symbols of a changed unit never pass."""
    careful = ImageCodec(limits=DecodeLimits(max_pixels=1 << 18))
    for data in files.values():
        original, points = careful.decode(data).pixels, careful.info(data).rate_points
        count = 0
        for name, damaged in corrupt.payload_mutations(data, 250, kinds=(b"DATA",)):
            count += 1
            try:
                pixels = careful.decode(damaged).pixels
            except CodecError:
                continue
            assert careful.info(damaged).rate_points != points or np.array_equal(pixels, original), name
        for _, damaged in corrupt.payload_mutations(data, 250, kinds=(b"HEAD", b"ALPH")):
            try:
                careful.decode(damaged)
            except CodecError:
                count += 1
        assert count > 300

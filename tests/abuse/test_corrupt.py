"""Damage to whole files: nothing but `CodecError` may come of it."""

import io

import pytest
from abuse import corrupt
from abuse.samples import SIGNATURE, plain_tiled, single, single_sound, sound, split, tiled, video

from triode.container import ContainerReader
from triode.errors import BitstreamError, CodecError, TruncatedError

FILES = {
    "single": single(),
    "tiled": tiled(),
    "plain tiled": plain_tiled(),
    "sound": sound(),
    "single sound": single_sound(),
    "video": video(),
}
each_file = pytest.mark.parametrize("data", FILES.values(), ids=FILES.keys())


def read_all(data):
    reader = ContainerReader(io.BytesIO(data))
    return reader.head, reader.metadata, reader.alpha, list(reader.units())


def try_at(data):
    """Random access to every unit; only its errors matter."""
    try:
        reader = ContainerReader(io.BytesIO(data))
        for index in range(min(reader.head.units, 10)):
            assert reader.at(index).index == index
    except CodecError:
        pass
    except IndexError:
        assert not reader.head.counted


@each_file
def test_cut_at_every_byte(data):
    for name, damaged in corrupt.truncations(data):
        with pytest.raises(TruncatedError):
            pytest.fail(f"{name}: {read_all(damaged)}")
        with pytest.raises(TruncatedError):
            ContainerReader(io.BytesIO(damaged)).at(0)
        with pytest.raises(TruncatedError):
            ContainerReader(io.BytesIO(damaged)).structure()


@each_file
def test_every_bit_flipped(data):
    for name, damaged in corrupt.bit_flips(data):
        with pytest.raises(CodecError):
            pytest.fail(f"{name}: {read_all(damaged)}")
        try_at(damaged)


@each_file
def test_flips_inside_checked_parts_are_called_damage(data):
    """A flipped bit of a payload or a CRC-32 is a bad bitstream, whatever the payload would then have said."""
    at = len(SIGNATURE)
    for kind, payload in split(data):
        begin = at + 5
        at = begin + len(payload) + 4
        for name, damaged in corrupt.bit_flips(data, begin, at):
            with pytest.raises(BitstreamError, match="damaged"):
                pytest.fail(f"{kind} {name}: {read_all(damaged)}")


@each_file
def test_random_changes(data):
    for _, damaged in corrupt.mutations(data, 1500):
        with pytest.raises(CodecError):
            read_all(damaged)
        try_at(damaged)


@each_file
def test_payload_changes_behind_a_right_checksum(data):
    """Such a file may be another valid file; then the units still come in order."""
    refused = 0
    for name, damaged in corrupt.payload_mutations(data, 1500):
        try:
            head, _, _, units = read_all(damaged)
        except CodecError:
            refused += 1
        else:
            count = head.units if head.counted else len(units)
            assert [unit.index for unit in units] == list(range(count)), name
        try_at(damaged)
    assert refused > 100


@each_file
def test_chunks_dropped_repeated_and_moved(data):
    original = read_all(data)
    for name, damaged in corrupt.chunk_shuffles(data, 800):
        try:
            found = read_all(damaged)
        except CodecError:
            pass
        else:
            assert found == original, name
        try_at(damaged)


@pytest.mark.parametrize("prefix", [b"", SIGNATURE, SIGNATURE + b"HEAD", single()[:48]], ids=len)
def test_random_bytes(prefix):
    for _, damaged in corrupt.random_files(1000, prefix=prefix):
        with pytest.raises(CodecError):
            read_all(damaged)


def test_generators_damage_and_repeat():
    data = tiled()
    assert len(list(corrupt.truncations(data))) == len(data)
    assert len(list(corrupt.bit_flips(data))) == 8 * len(data)
    assert len(list(corrupt.bit_flips(data, 8, 20, step=4))) == 24
    for make in (corrupt.mutations, corrupt.payload_mutations, corrupt.chunk_shuffles):
        once = list(make(data, 50))
        assert once == list(make(data, 50))
        assert once != list(make(data, 50, seed=1))
        assert all(variant.data != data for variant in once)
        assert len(once) > 30
    kinds = [split(v.data)[0].payload for v in corrupt.payload_mutations(data, 50, kinds=(b"HEAD",))]
    assert all(payload != split(data)[0].payload for payload in kinds)

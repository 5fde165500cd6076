import io
import tracemalloc

import pytest
from abuse.attacks import ATTACKS, all_attacks, false_indexes, valid_files, valid_sounds, valid_videos
from abuse.samples import ANYONE, Identity

from triode.container import ContainerReader
from triode.errors import BitstreamError, CodecError

ALL = list(all_attacks())
MEMORY = 3 << 20


def read_all(data):
    reader = ContainerReader(io.BytesIO(data))
    return reader.metadata, reader.alpha, list(reader.units())


@pytest.mark.parametrize(("name", "data"), [*valid_files(), *valid_sounds(), *valid_videos()])
def test_what_the_attacks_vary_is_valid(name, data):
    units = read_all(data)[2]
    assert [unit.index for unit in units] == list(range(len(units)))
    reader = ContainerReader(io.BytesIO(data))
    assert [reader.at(i) for i in range(len(units))] == units


@pytest.mark.parametrize("attack", ALL, ids=[attack.name for attack in ALL])
def test_attack_fails_with_the_right_error(attack):
    with pytest.raises(attack.error) as caught:
        read_all(attack.data)
    assert type(caught.value) is attack.error
    assert len(str(caught.value)) > 10


@pytest.mark.parametrize("attack", ALL, ids=[attack.name for attack in ALL])
def test_attack_on_structure_fails_alike(attack):
    with pytest.raises(attack.error):
        ContainerReader(io.BytesIO(attack.data)).structure()


def test_random_access_gives_the_right_unit_or_an_error():
    """Random access need not see every defect, but must never give a unit that is not the one asked for."""
    for attack in ALL:
        try:
            reader = ContainerReader(io.BytesIO(attack.data))
        except CodecError:
            continue
        for index in range(min(reader.head.units, 8)):
            try:
                unit = reader.at(index)
            except CodecError:
                continue
            except IndexError:
                assert not reader.head.counted
                break
            assert unit.index == index, attack.name
            assert not reader.head.counted or unit.payload in (b"payload", b"unit %d" % index), attack.name


def test_random_access_refuses_what_is_not_the_unit():
    lies = {attack.name: attack.data for attack in false_indexes()}
    with pytest.raises(BitstreamError, match="no DATA is there"):
        ContainerReader(io.BytesIO(lies["index takes a text for a unit"])).at(0)
    with pytest.raises(BitstreamError, match="unit 2 is where unit 1 should be"):
        ContainerReader(io.BytesIO(lies["index skips unit 1"])).at(1)


@pytest.mark.parametrize(
    "name",
    [
        "index and DONE agree on 5 of 6",
        "another chunk plays the index",
        "index size spans two chunks",
        "DONE behind an index counts 7 of 6",
    ],
)
def test_random_access_refuses_a_false_end(name):
    (data,) = (attack.data for attack in false_indexes() if attack.name == name)
    reader = ContainerReader(io.BytesIO(data))
    for index in range(6):
        with pytest.raises(BitstreamError, match="DONE says"):
            reader.at(index)


def test_attacks_take_little_memory():
    worst = {}
    tracemalloc.start()
    try:
        for attack in ALL:
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            with pytest.raises(CodecError):
                read_all(attack.data)
            worst[attack.name] = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert max(worst.values()) < MEMORY, max(worst, key=worst.get)


def test_attacks_have_distinct_names():
    assert len({attack.name for attack in ALL}) == len(ALL)


@pytest.mark.parametrize("idea", ATTACKS, ids=[idea.__name__ for idea in ATTACKS])
def test_attacks_can_be_made_for_any_model(idea):
    attacks = list(idea(Identity(b"other.v2", b"abcd", b"efgh")))
    assert any(b"other.v2" in attack.data for attack in attacks)
    for attack in attacks:
        assert ANYONE.model not in attack.data
        with pytest.raises(attack.error):
            read_all(attack.data)

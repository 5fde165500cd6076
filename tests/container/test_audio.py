import io
import random

import pytest
from abuse import corrupt, samples
from hypothesis import given, settings
from hypothesis import strategies as st

from triode.container import (
    AudioHead,
    ContainerReader,
    ContainerWriter,
    DecodeLimits,
    Head,
    ImageHead,
    Media,
    SoundUnit,
    Unit,
    pack_head,
    pack_packet,
    pack_sound_unit,
    read_sound_unit,
    unpack_head,
    unpack_packet,
    unpack_sound_unit,
)
from triode.container.audio import MAX_CHUNK_FRAMES, MAX_HOP, MAX_RATE, MAX_SAMPLES
from triode.errors import BitstreamError, LimitExceededError, TruncatedError, UnsupportedError

relaxed = settings(deadline=None, max_examples=60)  # no deadline: a busy machine is no failure

WHO = samples.ANYONE


def head(**fields):
    body = AudioHead(
        **{"samples": 7000, "rate": 8000, "channels": 1, "model_rate": 8000, "hop": 100, "chunk_frames": None, **fields}
    )
    return Head("image-light.v2", WHO.entropy, WHO.synthesis, body)


@st.composite
def heads(draw):
    edges = st.one_of(st.integers(0, 5000), st.integers(0, MAX_SAMPLES))
    fields = {
        "samples": draw(edges),
        "rate": draw(st.one_of(st.integers(1, 300), st.integers(1, MAX_RATE))),
        "channels": draw(st.integers(1, 8)),
        "model_rate": draw(st.one_of(st.integers(1, 300), st.integers(1, MAX_RATE))),
        "hop": draw(st.integers(1, MAX_HOP)),
    }
    chunk = draw(st.one_of(st.none(), st.integers(1, 200), st.integers(1, MAX_CHUNK_FRAMES)))
    if chunk is not None and -(-AudioHead(**fields).frames // chunk) >= 1 << 32:
        chunk = None
    return head(**fields, chunk_frames=chunk)


@st.composite
def sound_units(draw):
    channels = draw(st.integers(1, 8))
    levels = st.one_of(st.none(), st.integers(-63, 63))
    return SoundUnit(
        draw(st.one_of(st.none(), st.integers(1, MAX_CHUNK_FRAMES))),
        tuple(draw(levels) for _ in range(channels)),
        tuple(draw(st.integers(0, 63)) for _ in range(channels // 2)),
        draw(st.binary(max_size=20)),
    )


class TestHead:
    @relaxed
    @given(heads())
    def test_round_trip(self, head):
        assert unpack_head(pack_head(head), DecodeLimits.unlimited()) == head

    @relaxed
    @given(st.binary(max_size=40))
    def test_accepted_payloads_are_canonical(self, data):
        for flags in (0, 0x10):
            payload = samples.sound_head(flags=flags, fields=data)
            try:
                found = unpack_head(payload, DecodeLimits.unlimited())
            except (BitstreamError, UnsupportedError):
                continue
            assert pack_head(found) == payload

    def test_payload_is_as_specified(self):
        assert pack_head(head()) == samples.sound_head()
        big = {"samples": (5 << 32) + 7, "rate": 44_100, "channels": 6, "model_rate": 16_000, "hop": 320}
        assert pack_head(head(**big, chunk_frames=1 << 20)) == samples.sound_head(**big, chunk=1 << 20)
        assert head().media is Media.AUDIO
        assert not head().alpha

    @relaxed
    @given(heads())
    def test_units_share_the_frames(self, head):
        body = head.audio
        least = body.samples * body.model_rate
        assert (body.model_samples - 1) * body.rate < least <= body.model_samples * body.rate
        assert (body.frames - 1) * body.hop < body.model_samples <= body.frames * body.hop
        last = body.units - 1
        assert body.unit_frames(0) * last + body.unit_frames(last) == body.frames
        if not body.single:
            assert body.unit_frames(0) == body.chunk_frames >= body.unit_frames(last) > 0
        for index in (-1, body.units):
            with pytest.raises(IndexError, match="out of range"):
                body.unit_frames(index)

    @pytest.mark.parametrize(
        "fields",
        [
            {"samples": -1},
            {"samples": MAX_SAMPLES + 1},
            {"rate": 0},
            {"rate": MAX_RATE + 1},
            {"channels": 0},
            {"channels": 9},
            {"model_rate": 0},
            {"model_rate": MAX_RATE + 1},
            {"hop": 0},
            {"hop": MAX_HOP + 1},
            {"chunk_frames": -1},
            {"chunk_frames": MAX_CHUNK_FRAMES + 1},
            {"samples": MAX_SAMPLES, "hop": 1, "chunk_frames": 1},
        ],
    )
    def test_values_out_of_range(self, fields):
        with pytest.raises(ValueError, match=r"must be|at most"):
            head(**fields)

    def test_a_sound_that_fits_is_not_cut(self):
        assert head(chunk_frames=70).audio.chunk_frames is None
        assert head(chunk_frames=69).audio.chunk_frames == 69
        assert head(samples=0, chunk_frames=1).audio.single
        assert head(samples=0).units == 1
        with pytest.raises(BitstreamError, match="70 frames fits into one unit"):
            unpack_head(samples.sound_head(chunk=70))

    @pytest.mark.parametrize(
        ("limits", "fields"),
        [
            (DecodeLimits(max_samples=6999), {}),
            (DecodeLimits(max_samples=7000), {"model_rate": 8001}),
            (DecodeLimits(max_channels=1), {"channels": 2}),
            (DecodeLimits(max_units=2), {"chunk": 25}),
        ],
    )
    def test_limits(self, limits, fields):
        with pytest.raises(LimitExceededError):
            unpack_head(samples.sound_head(**fields), limits)
        unpack_head(samples.sound_head(**fields))

    def test_asking_for_the_wrong_medium(self):
        picture = Head("m", bytes(4), bytes(4), ImageHead(7, 5))
        with pytest.raises(UnsupportedError, match="holds image, not audio"):
            _ = picture.audio
        with pytest.raises(UnsupportedError, match="holds audio, not an image"):
            _ = head().image
        assert picture.image.width == 7


class TestUnit:
    @relaxed
    @given(sound_units())
    def test_round_trip(self, unit):
        assert unpack_sound_unit(pack_sound_unit(unit), len(unit.levels)) == unit

    @relaxed
    @given(st.binary(max_size=30), st.integers(1, 8))
    def test_accepted_payloads_are_canonical(self, payload, channels):
        try:
            unit = unpack_sound_unit(payload, channels)
        except (BitstreamError, UnsupportedError):
            return
        assert pack_sound_unit(unit) == payload

    def test_bytes_are_as_specified(self):
        unit = SoundUnit(300, (None, -63, 63), (16,), b"xy")
        assert pack_sound_unit(unit) == bytes([0x80, 1, 127, 0xAC, 2, 16]) + b"xy"
        assert pack_sound_unit(SoundUnit(None, (0,), (), b"")) == bytes([64])

    @pytest.mark.parametrize(
        ("payload", "channels", "error"),
        [
            (b"", 1, BitstreamError),
            (b"\x40", 2, BitstreamError),
            (b"\x40\x40", 2, BitstreamError),
            (b"\xc0", 1, BitstreamError),
            (b"\xc0\x00", 1, BitstreamError),
            (b"\xc0\x85\x00", 1, BitstreamError),
            (b"\xc0\x81\x80\x40", 1, BitstreamError),
            (b"\x40\x80\x00", 2, UnsupportedError),
            (b"\x40\x40\x40", 2, UnsupportedError),
            (b"\x40\x40\xff", 2, UnsupportedError),
        ],
    )
    def test_broken_payloads(self, payload, channels, error):
        with pytest.raises(error) as caught:
            unpack_sound_unit(payload, channels)
        assert type(caught.value) is error

    @pytest.mark.parametrize(
        "fields",
        [
            {"frames": 0},
            {"frames": MAX_CHUNK_FRAMES + 1},
            {"levels": ()},
            {"levels": (0,) * 9, "rotations": (0,) * 4},
            {"levels": (64,)},
            {"levels": (-64,)},
            {"rotations": (0,)},
            {"levels": (0, 0), "rotations": (64,)},
            {"levels": (0, 0), "rotations": (-1,)},
        ],
    )
    def test_values_out_of_range(self, fields):
        with pytest.raises(ValueError, match=r"must be|fit no sound"):
            SoundUnit(**{"frames": None, "levels": (0,), "rotations": (), "coded": b"", **fields})

    def test_frames_must_be_those_of_the_head(self):
        body = head(chunk_frames=25).audio  # 25, 25 and 20 frames

        def payload(frames):
            return pack_sound_unit(SoundUnit(frames, (0,), (), b""))

        assert read_sound_unit(payload(None), body, 1).frames is None
        assert read_sound_unit(payload(20), body, 2).frames == 20
        assert read_sound_unit(payload(None), head().audio, 0).frames is None
        for frames, index in ((25, 0), (20, 1), (None, 2), (19, 2), (21, 2)):
            with pytest.raises(BitstreamError, match=f"unit {index}"):
                read_sound_unit(payload(frames), body, index)
        with pytest.raises(BitstreamError, match="unit 0"):
            read_sound_unit(payload(70), head().audio, 0)


class TestPackets:
    UNIT = Unit(300, 20, 0xC0FFEE11, b"payload")

    def test_a_packet_is_the_chunk_of_a_file(self):
        for i, chunk in enumerate(samples.sound_chunks()[1:]):
            packet = samples.chunk(*chunk)
            unit = unpack_packet(packet)
            assert unit.index == i
            assert pack_packet(unit) == packet
            assert packet in samples.sound()
        assert unpack_packet(pack_packet(self.UNIT)) == self.UNIT

    def test_every_damage_is_seen(self):
        packet = pack_packet(self.UNIT)
        for _, damaged in corrupt.bit_flips(packet):
            with pytest.raises((BitstreamError, UnsupportedError, LimitExceededError)):
                unpack_packet(damaged)
        for _, damaged in corrupt.truncations(packet):
            with pytest.raises(TruncatedError):
                unpack_packet(damaged)
        with pytest.raises(BitstreamError, match="after the end"):
            unpack_packet(packet + b"\0")
        with pytest.raises(BitstreamError, match="found text"):
            unpack_packet(samples.chunk(b"text", b"hello"))
        with pytest.raises(LimitExceededError):
            unpack_packet(packet, DecodeLimits(max_chunk_bytes=5))


def units_of(data, limits=None):
    reader = ContainerReader(io.BytesIO(data), limits or DecodeLimits())
    return {unit.index: unit.payload for unit in reader.salvage()}


def file_of(count, size=200, *, seed=0):
    """Return a file of units of random bytes, and these by index."""
    rng, out = random.Random(seed), io.BytesIO()
    payloads = {i: rng.randbytes(size) for i in range(count)}
    with ContainerWriter(out, head(samples=100 * count, chunk_frames=1)) as writer:
        for index, payload in payloads.items():
            writer.unit(Unit(index, 5, 0, payload))
    return out.getvalue(), payloads


class TestSalvage:
    def test_intact_files(self):
        for make in (samples.sound, samples.tiled, samples.plain_tiled):
            data = make()
            whole = {unit.index: unit.payload for unit in ContainerReader(io.BytesIO(data)).units()}
            assert units_of(data) == whole
        assert units_of(samples.single()) == {0: b"payload"}

    def test_one_bit_costs_one_unit(self):
        data, payloads = file_of(6, size=30)
        first = data.index(b"DATA")
        for place, damaged in corrupt.bit_flips(data, first, step=3):
            found = units_of(damaged)
            assert len(found) >= 5, place
            assert found.items() <= payloads.items(), place

    @relaxed
    @given(st.data())
    def test_holes_cost_what_they_touch(self, draw):
        data, payloads = file_of(20, size=50)
        places = {i: (data.index(payload) - 12, data.index(payload) + 54) for i, payload in payloads.items()}
        begin = draw.draw(st.integers(data.index(b"DATA"), len(data)))
        end = draw.draw(st.integers(begin, len(data)))
        filler = draw.draw(st.one_of(st.binary(max_size=40), st.just(b"DATA" * 8), st.just(b"DATA\xff\xff\x03" * 8)))
        found = units_of(data[:begin] + filler + data[end:])
        untouched = {i for i, (a, b) in places.items() if b <= begin or a >= end}
        assert untouched <= found.keys()
        assert found.items() <= payloads.items()

    def test_units_in_the_wrong_place_are_passed_over(self):
        front, *units = samples.sound_chunks()
        assert list(units_of(samples.join(front, units[2], units[0], units[1]))) == [2]
        assert list(units_of(samples.join(front, units[0], units[0], units[2]))) == [0, 2]
        beyond = (b"DATA", samples.data(3))
        assert list(units_of(samples.join(front, units[1], beyond))) == [1]

    def test_needs_a_source_that_can_seek(self):
        class Pipe(io.BytesIO):
            def seekable(self):
                return False

        with pytest.raises(UnsupportedError, match="can seek"):
            ContainerReader(Pipe(samples.sound())).salvage()

    def test_a_head_that_is_damaged_is_an_error(self):
        with pytest.raises(BitstreamError):
            units_of(samples.sound().replace(b"image-light", b"image-right"))

    def test_limits(self):
        data, _ = file_of(6)
        assert units_of(data, DecodeLimits(max_chunk_bytes=205)) == {}
        with pytest.raises(LimitExceededError):
            units_of(data, DecodeLimits(max_chunks=3))

    def test_a_trap_is_given_up(self):
        """Each of many beginnings declares a chunk as long as the rest of the file."""

        class Counting(io.BytesIO):
            taken = 0

            def read(self, size=-1):
                data = super().read(size)
                self.taken += len(data)
                return data

        front = samples.join(samples.sound_chunks()[0])
        size = 1 << 20
        trap = b"".join(b"DATA" + samples.varint(size - 20 * i) + bytes(12) for i in range(size // 20))
        source = Counting(front + trap)
        assert list(ContainerReader(source).salvage()) == []
        assert source.taken < 12 * len(trap)

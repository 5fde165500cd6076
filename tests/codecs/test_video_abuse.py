"""Damaged and hostile video through the whole codec: `CodecError` that names the group, or the frames as they were."""

import dataclasses
import io
import tracemalloc
import warnings

import numpy as np
import pytest
from abuse import corrupt
from abuse.attacks import all_attacks, valid_files, valid_sounds, valid_videos
from abuse.samples import Identity, chunk, data
from models.clip_source import cut
from models.tiny_video import moving_clip, tiny_video

from triode.codecs.video import VideoCodec
from triode.container import ContainerReader, ContainerWriter, DecodeLimits, pack_video_unit, unpack_video_unit
from triode.errors import BitstreamError, CodecError, EntropyMismatchError, TruncatedError

CODEC = VideoCodec(tiny_video(), gop=4)
WHO = Identity(b"tiny-video.v1", b"\xa1\xb2\xc3\xd4", b"\x0b\xad\xca\xfe")
FILE = CODEC.encode(moving_clip(14, 16, 12), quality=30).data
WHOLE = CODEC.decode(FILE)
DATA = [at for at in range(len(FILE)) if FILE.startswith(b"DATA", at)]


def flipped(place, bit=3):
    damaged = bytearray(FILE)
    damaged[place] ^= 1 << bit
    return bytes(damaged)


def same(one, other):
    return all(np.array_equal(getattr(one, plane), getattr(other, plane)) for plane in "yuv")


def with_units(change):
    """Change units; every checksum of the container is right."""
    reader, out = ContainerReader(io.BytesIO(FILE)), io.BytesIO()
    with ContainerWriter(out, reader.head) as writer:
        for unit in reader.units():
            writer.unit(change(unit))
    return out.getvalue()


def with_frame(number, change):
    """Change the coded bytes of a frame of each unit."""

    def changed(unit):
        video = unpack_video_unit(unit.payload, ContainerReader(io.BytesIO(FILE)).head.video)
        frames = list(video.frames)
        if number < len(frames):
            frames[number] = dataclasses.replace(frames[number], coded=change(frames[number].coded))
        video = dataclasses.replace(video, frames=tuple(frames))
        return dataclasses.replace(unit, payload=pack_video_unit(video))

    return with_units(changed)


class TestOneGroup:
    """A flipped bit costs the group that it lies in."""

    @pytest.mark.parametrize("group", range(4))
    def test_error_names_it(self, group):
        damaged = flipped(DATA[group] + 40)
        first, last = 4 * group, min(4 * group + 3, 13)
        named = rf"group {group}, frames {first} to {last}, at {first / 25:.2f} s: the DATA chunk at byte .* is damaged"
        for ask in (CODEC.decode, CODEC.verify):
            with pytest.raises(BitstreamError, match=named if ask == CODEC.decode else f"group {group}, "):
                ask(damaged)

    @pytest.mark.parametrize("group", range(4))
    def test_others_are_as_they_were(self, group):
        damaged = flipped(DATA[group] + 40)
        for begin in range(0, 14, 4):
            if begin != 4 * group:
                part = CODEC.decode(damaged, start=begin, stop=begin + 4)
                assert same(part, cut(WHOLE, begin, min(begin + 4, 14)))

    @pytest.mark.parametrize("group", range(4))
    def test_partial(self, group):
        damaged = flipped(DATA[group] + 40)
        with pytest.warns(UserWarning, match=rf"1 groups of pictures were lost .*: {group}$"):
            found = CODEC.decode(damaged, conceal=True)
        assert found.frames == 14
        lost = range(4 * group, min(4 * group + 4, 14))
        for number in range(14):
            shown = number if number not in lost else max(lost[0] - 1, 0) if group else 4
            assert same(cut(found, number, number + 1), cut(WHOLE, shown, shown + 1)), number

    def test_partial_of_a_part(self):
        damaged = flipped(DATA[1] + 40)
        with pytest.warns(UserWarning, match="lost"):
            found = CODEC.decode(damaged, start=6, stop=10, conceal=True)
        assert same(cut(found, 2, 4), cut(WHOLE, 8, 10))
        assert found.frames == 4

    def test_partial_without_an_index(self):
        damaged = flipped(DATA[1] + 40)[: FILE.index(b"indx")]
        with pytest.warns(UserWarning, match="lost"):
            assert CODEC.decode(damaged, conceal=True).frames == 14
        damaged = flipped(DATA[3] + 40)[: FILE.index(b"indx")]  # nothing says that there was more
        assert same(CODEC.decode(damaged, conceal=True), cut(WHOLE, 0, 12))

    def test_partial_with_a_number_that_is_made_up(self):
        """More groups cannot be lost than frames are, and none are told of."""
        first, second, *_ = ContainerReader(io.BytesIO(FILE)).units()
        far = dataclasses.replace(second, index=3_000_000)
        made = [data(u.index, rate=u.rate_point, crc=u.symbols_crc32, payload=u.payload) for u in (first, far)]
        file = FILE[: DATA[0]] + b"".join(chunk(b"DATA", payload) for payload in made)
        frames = CODEC.frames(file, conceal=True)
        assert sum(clip.frames for clip in frames) == 4
        assert frames.lost == []

    def test_partial_of_nothing(self):
        damaged = bytearray(FILE)
        for place in DATA:
            damaged[place + 40] ^= 1
        with pytest.raises(BitstreamError, match="no group of pictures is intact"):
            CODEC.decode(bytes(damaged), conceal=True)

    def test_intact_files_are_not_concealed(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert same(CODEC.decode(FILE, conceal=True), WHOLE)


class TestSymbols:
    @pytest.mark.parametrize("frame", range(4))
    def test_changed_behind_a_right_checksum(self, frame):
        """No frame is made of a unit whose symbols are not the encoder's."""
        data = with_frame(frame, lambda coded: bytes([coded[0] ^ 0x55]) + coded[1:])
        with pytest.raises((EntropyMismatchError, BitstreamError), match="group 0, frames 0 to 3"):
            CODEC.decode(data)
        with pytest.raises(CodecError):
            CODEC.verify(data)

    def test_cut(self):
        for length in (0, 1, 5):
            with pytest.raises(CodecError):
                CODEC.decode(with_frame(1, lambda coded, n=length: coded[:n]))

    def test_another_checksum(self):
        data = with_units(lambda unit: dataclasses.replace(unit, symbols_crc32=unit.symbols_crc32 ^ 1))
        with pytest.raises(EntropyMismatchError, match="group 0"):
            CODEC.decode(data)

    def test_sound_that_is_not_announced(self):
        def changed(unit):
            video = unpack_video_unit(unit.payload, ContainerReader(io.BytesIO(FILE)).head.video)
            return dataclasses.replace(unit, payload=pack_video_unit(dataclasses.replace(video, sound=b"\1\0\0\0\0")))

        with pytest.raises(BitstreamError, match="no trak"):
            CODEC.decode(with_units(changed))


def test_attacks_on_the_container():
    for attack in all_attacks(WHO):
        for ask in (CODEC.decode, CODEC.verify, CODEC.info):
            with pytest.raises(CodecError):
                pytest.fail(f"{attack.name}: {ask(attack.data)}")
    for name, file in (*valid_files(WHO), *valid_sounds(WHO), *valid_videos(WHO)):
        with pytest.raises(CodecError):  # other media, or units of bytes that no entropy coder wrote
            pytest.fail(f"{name}: {CODEC.decode(file)}")


def test_cut_anywhere():
    for name, damaged in corrupt.truncations(FILE):
        if len(damaged) % 7 == 0:
            with pytest.raises(TruncatedError):
                pytest.fail(f"{name}: {CODEC.decode(damaged)}")


def test_bits_flipped():
    for place in range(0, len(FILE), 5):
        with pytest.raises(CodecError):
            pytest.fail(f"byte {place}: {CODEC.decode(flipped(place, place % 8))}")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("conceal", [False, True])
def test_changes_behind_right_checksums(conceal):
    """Such a file may be another valid one."""
    careful = VideoCodec(tiny_video(), limits=DecodeLimits(max_pixels=4096, max_frames=500, max_memory_bytes=1 << 24))
    refused = 0
    for kinds in ((b"DATA",), (b"HEAD",), (b"indx",)):
        for what, damaged in corrupt.payload_mutations(FILE, 150, kinds=kinds):
            try:
                found = careful.decode(damaged, conceal=conceal)
            except CodecError:
                refused += 1
            else:
                assert 1 <= found.frames <= 500, what
    assert refused > (60 if conceal else 200)


@pytest.mark.filterwarnings("ignore")
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

"""Sound that travels with a video: copied, or coded by a model; whole, in parts, and beside damage."""

import io
from fractions import Fraction

import numpy as np
import pytest
from models.movies import movie
from models.tiny_sound import smooth_sound, tiny_sound
from models.tiny_video import moving_clip, tiny_video

from triode.codecs.video import VideoCodec
from triode.codecs.video_sound import CopiedSound, DecodedSound, TriodeSoundOfVideo, decode_triode_sound
from triode.container import ContainerReader, unpack_packets, unpack_video_unit
from triode.errors import ModelMismatchError, UnsupportedError
from triode.io.tracks import PacketReader
from triode.io.video import ClipReader, read_clip, write_clip

CODEC = VideoCodec(tiny_video(), gop=5, scenes=False)


def encoded(data):
    with ClipReader(io.BytesIO(data)) as frames, PacketReader(io.BytesIO(data)) as packets:
        return CODEC.encode(frames, sound=CopiedSound(packets)).data


def packets_of(frames):
    """Go through frames, and return their packets."""
    found = []
    for _ in frames:
        found += frames.take_packets()
    return found + frames.take_packets()


@pytest.fixture(scope="module")
def film():
    pytest.importorskip("av")
    return movie(24, seconds=1.1)


@pytest.fixture(scope="module")
def packets(film):
    with PacketReader(io.BytesIO(film)) as reader:
        return reader.until(None)


@pytest.fixture(scope="module")
def data(film):
    return encoded(film)


class TestCopied:
    def test_come_through(self, data, packets):
        assert packets_of(CODEC.frames(data)) == packets
        assert packets[0].time < 0
        assert CODEC.info(data).sound == "copied"

    def test_lie_in_the_group_that_they_are_heard_with(self, data):
        reader = ContainerReader(io.BytesIO(data))
        head = reader.head.video
        for unit, span in zip(reader.units(), reader.spans(), strict=True):
            found = unpack_packets(unpack_video_unit(unit.payload, head).sound)
            times = [(packet.time - 1024) / Fraction(48_000) for packet in found]
            assert found
            assert unit.index == 0 or min(times) >= span.start * head.tick
            assert unit.index == 4 or max(times) < span.end * head.tick

    def test_into_a_file(self, data, film):
        out = io.BytesIO()
        frames = CODEC.frames(data)
        write_clip(out, frames, "mp4", frames.sound)
        with PacketReader(io.BytesIO(out.getvalue())) as one, PacketReader(io.BytesIO(film)) as other:
            assert one.until(None) == other.until(None)
        assert read_clip(io.BytesIO(out.getvalue())).frames == 24

    @pytest.mark.parametrize(("start", "stop"), [(7, 13), (0, 3), (10, 15), (22, None)])
    def test_of_a_part(self, data, packets, start, stop):
        found = packets_of(CODEC.frames(data, start=start, stop=stop))
        begin = Fraction(start * 1001, 30_000)
        end = Fraction(stop * 1001, 30_000) if stop else Fraction(99)
        wanted = [p for p in packets if (not start or begin <= Fraction(p.time, 48_000)) and p.time < end * 48_000]
        assert [p.data for p in found] == [p.data for p in wanted]
        assert [p.time for p in found] == [p.time - round(begin * 48_000) for p in wanted]

    def test_beside_damage(self, data, packets):
        reader = ContainerReader(io.BytesIO(data))
        second = [c.offset for c in reader.structure() if c.type == "DATA"][1]
        damaged = bytearray(data)
        damaged[second + 30] ^= 1
        with pytest.warns(UserWarning, match="lost"):
            found = packets_of(CODEC.frames(bytes(damaged), conceal=True))
        assert 0 < len(found) < len(packets)
        assert all(packet in packets for packet in found)


class Recording:
    """Gives samples block by block."""

    channels, frames = 2, None

    def __init__(self, rate=1000, samples=1500):
        self.rate, self.samples = rate, smooth_sound(2, samples, rate)

    def read(self, count):
        block, self.samples = self.samples[:, :count], self.samples[:, count:]
        return block


class TestTriode:
    def encoded(self, recording, frames=30):
        sound = TriodeSoundOfVideo(tiny_sound(), recording, 50, seconds=0.1)
        return CODEC.encode(moving_clip(frames), sound=sound).data

    def test_is_what_a_stream_of_it_is(self):
        from triode.codecs.audio import AudioCodec
        from triode.codecs.search import point_to_quality

        codec = AudioCodec(tiny_sound(), chunk_seconds=0.1)
        stream = codec.stream_encoder(1000, 2, quality=point_to_quality(50))
        samples = Recording().samples
        expected = [*stream.push(samples), *stream.finish()]
        frames = CODEC.frames(self.encoded(Recording()))
        found = packets_of(frames)
        assert [packet.data for packet in found] == expected
        assert [packet.time for packet in found] == list(range(len(expected)))
        assert frames.sound is None
        assert CODEC.info(self.encoded(Recording())).sound == "triode"

    @pytest.mark.parametrize("rate", [1000, 1600])
    def test_decodes(self, rate):
        recording = Recording(rate, 2000)
        samples = recording.samples
        frames = CODEC.frames(self.encoded(recording, 50))
        track = frames.track
        found = decode_triode_sound(track, packets_of(frames), tiny_sound())
        assert found.rate == rate
        count = samples.shape[1]
        assert found.samples.shape[1] >= count
        noise = found.samples[:, :count] - samples
        assert 10 * np.log10(np.square(samples).mean() / np.square(noise).mean()) > 10

    def test_decodes_while_the_frames_come(self):
        data = self.encoded(Recording(1600, 4000), 60)
        frames = CODEC.frames(data)
        sound = DecodedSound(frames, tiny_sound())
        blocks = []
        for clip in frames:
            blocks.append(sound.take())
            assert clip.frames == 5
        assert sum(block.shape[1] > 0 for block in blocks) > 1
        blocks += [sound.take(), sound.take()]
        whole = CODEC.frames(data)
        expected = decode_triode_sound(whole.track, packets_of(whole), tiny_sound()).samples
        assert np.array_equal(np.concatenate(blocks, axis=1), expected)
        assert blocks[-1].shape == (2, 0)

    def test_of_a_part_begins_with_its_first_packet(self):
        frames = CODEC.frames(self.encoded(Recording()), start=13)
        sound = DecodedSound(frames, tiny_sound())
        samples = np.concatenate([sound.take() for _ in frames] + [sound.take()], axis=1)
        assert sound.start == 6 * Fraction(12, 125) - Fraction(13, 25), "to the sample, though a packet lasts 96 ms"
        assert 0 <= samples.shape[1] - (1500 - 576) < 32
        with pytest.raises(UnsupportedError, match="no sound"):
            DecodedSound(CODEC.frames(CODEC.encode(moving_clip(2)).data))

    def test_shorter_and_longer_than_the_frames(self):
        for frames in (1, 100):
            found = packets_of(CODEC.frames(self.encoded(Recording(), frames)))
            assert len(found) == 16

    def test_no_sound_at_all(self):
        found = CODEC.frames(self.encoded(Recording(samples=0)))
        assert packets_of(found) == []

    def test_weights_of_another(self):
        frames = CODEC.frames(self.encoded(Recording()))
        packets = packets_of(frames)
        with pytest.raises(ModelMismatchError):
            decode_triode_sound(frames.track, packets, None)

    def test_copied_sound_is_not_decoded(self):
        pytest.importorskip("av")
        frames = CODEC.frames(encoded(movie(5)))
        with pytest.raises(UnsupportedError, match="copied"):
            decode_triode_sound(frames.track, packets_of(frames), tiny_sound())

import contextlib
import dataclasses
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models.tiny_sound import RATE, smooth_sound, tiny_sound

from triode.codecs.audio import AudioCodec
from triode.codecs.resample import resample
from triode.container import ContainerReader, DecodeLimits, pack_packet, unpack_packet
from triode.errors import (
    BitstreamError,
    CodecError,
    EntropyMismatchError,
    LimitExceededError,
    ModelMismatchError,
    TruncatedError,
    UnsupportedError,
)
from triode.media import Sound

CHUNK = 0.25


def codec(multiple=1, **options):
    return AudioCodec(tiny_sound(multiple), **{"chunk_seconds": CHUNK, **options})


def packets_of(samples, rate=RATE, coder=None, **options):
    encoder = (coder or codec()).stream_encoder(rate, len(samples), **options)
    return [*encoder.push(samples), *encoder.finish()], encoder.format


def decoded(packets, fmt, samples=None, **options):
    decoder = codec().stream_decoder(fmt, **options)
    pieces = [decoder.push(packet) for packet in packets]
    return np.concatenate([*pieces, decoder.finish(samples)], axis=1)


class TestParity:
    @settings(max_examples=25, deadline=None)
    @given(
        st.integers(1, 3),
        st.integers(0, 1500),
        st.sampled_from([RATE, 1600, 441]),
        st.sampled_from([1, 2, 4]),
        st.data(),
    )
    def test_a_stream_gives_what_a_file_gives(self, channels, samples, rate, multiple, data):
        x = smooth_sound(channels, samples, rate, seed=samples)
        coder = codec(multiple)
        file = coder.encode(Sound(x, rate)).data
        encoder, packets, at = coder.stream_encoder(rate, channels), [], 0
        while at < samples:
            step = data.draw(st.one_of(st.integers(0, 20), st.integers(0, 700)))
            packets += encoder.push(x[:, at : at + step])
            at += step
        packets += encoder.finish()
        units = list(ContainerReader(io.BytesIO(file)).units())
        if len(packets) > 1:
            assert [unpack_packet(packet) for packet in packets] == units
            assert all(packet in file for packet in packets)
        elif packets:
            # The only unit of a file leaves the number of its frames to HEAD.
            assert unpack_packet(packets[0]).symbols_crc32 == units[0].symbols_crc32
        decoder = coder.stream_decoder(encoder.format)
        pieces = [decoder.push(packet) for packet in packets]
        found = np.concatenate([*pieces, decoder.finish(samples)], axis=1)
        assert np.array_equal(found, coder.decode(file).samples)
        assert decoder.lost == ()

    @pytest.mark.parametrize("rate", [RATE, 1600])
    def test_without_the_length_the_last_frame_is_whole(self, rate):
        x = smooth_sound(1, 1003, rate)
        packets, fmt = packets_of(x, rate)
        known, unknown = decoded(packets, fmt, 1003), decoded(packets, fmt)
        assert known.shape[1] == 1003
        assert 1003 <= unknown.shape[1] < 1003 + 8 * rate / RATE + 1
        assert np.array_equal(unknown[:, :1003], known)

    def test_pushing_nothing(self):
        encoder = codec().stream_encoder(RATE, 2)
        assert encoder.push(np.zeros((2, 0), np.float32)) == []
        assert encoder.finish() == []
        assert decoded([], encoder.format).shape == (2, 0)
        assert decoded([], encoder.format, 0).shape == (2, 0)


class TestLatency:
    @pytest.mark.parametrize("rate", [RATE, 1600, 441, 3000])
    @pytest.mark.parametrize("chunk", [0.05, 0.25])
    def test_of_the_encoder(self, rate, chunk):
        """Samples that were pushed when a packet came, less those before its first one."""
        coder = codec(chunk_seconds=chunk)
        x, worst, count = smooth_sound(1, 4 * rate, rate), 0, 0
        encoder = coder.stream_encoder(rate, 1, quality=0)
        for n in range(x.shape[1]):
            for _ in encoder.push(x[:, n : n + 1]):
                begin = count * encoder.format.chunk_frames * 8 * rate / RATE
                worst, count = max(worst, n + 1 - begin), count + 1
        assert count > 3
        slack = 0 if rate == RATE else 1100 * max(rate / RATE, 1)  # a block of the resampler
        assert encoder.latency - slack <= worst <= encoder.latency
        assert encoder.latency <= (2.1 if chunk > 0.1 else 4.1) * chunk * rate + 2 * slack

    @pytest.mark.parametrize("rate", [RATE, 1600, 441])
    def test_of_the_decoder(self, rate):
        """Samples that packets stand for, less those that came out."""
        packets, fmt = packets_of(smooth_sound(1, 6 * rate, rate), rate)
        decoder, worst, made = codec().stream_decoder(fmt), 0, 0
        for i, packet in enumerate(packets[:-1]):
            made += decoder.push(packet).shape[1]
            worst = max(worst, (i + 1) * fmt.chunk_frames * 8 * rate / RATE - made)
        slack = 0 if rate == RATE else 1100 * max(rate / RATE, 1)
        assert decoder.latency - slack <= worst <= decoder.latency

    def test_shorter_chunks_have_less(self):
        long, short = (codec(chunk_seconds=s).stream_encoder(RATE, 1).latency for s in (1, 0.1))
        assert short < long / 5


class TestLoss:
    @pytest.fixture(scope="class")
    @classmethod
    def stream(cls):
        x = smooth_sound(2, 2000)
        packets, fmt = packets_of(x)
        return packets, fmt, decoded(packets, fmt, 2000)

    @pytest.mark.parametrize("how", ["missing", "none", "damaged", "cut", "empty", "wrong symbols"])
    def test_one_packet(self, stream, how):
        packets, fmt, whole = stream
        lost = {
            "none": None,
            "damaged": packets[3][:-3] + bytes([packets[3][-3] ^ 1]) + packets[3][-2:],
            "cut": packets[3][:20],
            "empty": b"",
            "wrong symbols": pack_packet(dataclasses.replace(unpack_packet(packets[3]), symbols_crc32=5)),
        }
        middle = [] if how == "missing" else [lost[how]]
        damaged = [*packets[:3], *middle, *packets[4:]]
        error = {"cut": TruncatedError, "empty": TruncatedError, "wrong symbols": EntropyMismatchError}
        with pytest.raises(error.get(how, BitstreamError), match="chunk 3"):
            decoded(damaged, fmt, 2000)
        decoder = codec().stream_decoder(fmt, conceal=True)
        pieces = [decoder.push(packet) for packet in damaged]
        found = np.concatenate([*pieces, decoder.finish(2000)], axis=1)
        assert decoder.lost == (3,)
        assert found.shape == whole.shape
        size = fmt.chunk_frames * 8
        assert np.array_equal(found[:, : 2 * size], whole[:, : 2 * size])
        assert np.array_equal(found[:, 5 * size :], whole[:, 5 * size :])

    def test_a_file_conceals_alike(self, stream):
        packets, fmt, _ = stream
        x = smooth_sound(2, 2000)
        file = codec().encode(Sound(x, RATE)).data
        assert packets[3] in file
        with pytest.warns(UserWarning, match="concealed: 3"):
            expected = codec().decode(file.replace(packets[3], b""), conceal=True).samples
        found = decoded([*packets[:3], *packets[4:]], fmt, 2000, conceal=True)
        assert np.array_equal(found, expected)

    def test_the_last_packets(self, stream):
        packets, fmt, whole = stream
        decoder = codec().stream_decoder(fmt, conceal=True)
        pieces = [decoder.push(packet) for packet in [*packets[:-2], None, None]]
        found = np.concatenate([*pieces, decoder.finish(2000)], axis=1)
        assert found.shape == whole.shape
        assert decoder.lost == (7, 8)

    def test_late_and_repeated_packets(self, stream):
        packets, fmt, whole = stream
        assert np.array_equal(decoded([packets[0], *packets], fmt, 2000, conceal=True), whole)
        with pytest.raises(BitstreamError, match="chunk 0 comes after chunk 0"):
            decoded([packets[0], *packets], fmt)
        late = [*packets[:2], packets[3], packets[2], *packets[4:]]
        decoder = codec().stream_decoder(fmt, conceal=True)
        for packet in late:
            decoder.push(packet)
        assert decoder.lost == (2,)

    def test_a_gap_that_is_too_long(self, stream):
        packets, fmt, _ = stream
        far = pack_packet(dataclasses.replace(unpack_packet(packets[1]), index=1 << 31))
        with pytest.raises(BitstreamError, match="more than can be concealed"):
            decoded([packets[0], far], fmt, conceal=True)

    def test_nothing_comes_after_the_last(self, stream):
        packets, fmt, _ = stream
        again = pack_packet(dataclasses.replace(unpack_packet(packets[1]), index=len(packets)))
        for conceal in (False, True):
            with pytest.raises(BitstreamError, match="after the last"):
                decoded([*packets, again], fmt, conceal=conceal)

    @settings(max_examples=40, deadline=None)
    @given(st.lists(st.one_of(st.none(), st.binary(max_size=60), st.integers(0, 8)), max_size=8), st.booleans())
    def test_whatever_comes(self, stream, items, conceal):
        packets, fmt, _ = stream
        decoder = codec().stream_decoder(fmt, conceal=conceal)
        with contextlib.suppress(CodecError):
            for item in items:
                assert decoder.push(packets[item] if isinstance(item, int) else item).shape[0] == 2
            assert decoder.finish().shape[0] == 2


class TestUse:
    def test_finished_streams(self):
        encoder = codec().stream_encoder(RATE, 1)
        encoder.finish()
        for call in (encoder.finish, lambda: encoder.push(np.zeros((1, 5), np.float32))):
            with pytest.raises(ValueError, match="finished"):
                call()
        decoder = codec().stream_decoder(encoder.format)
        decoder.finish()
        for call in (decoder.finish, lambda: decoder.push(b"")):
            with pytest.raises(ValueError, match="finished"):
                call()

    @pytest.mark.parametrize("x", [np.zeros((2, 5), np.float32), np.zeros(5, np.float32), np.zeros((1, 5))])
    def test_shapes(self, x):
        with pytest.raises(ValueError, match=r"\(1, T\) float32"):
            codec().stream_encoder(RATE, 1).push(x)

    @pytest.mark.parametrize(("rate", "channels"), [(0, 1), (1 << 24, 1), (RATE, 0), (RATE, 9)])
    def test_sound_that_cannot_be_coded(self, rate, channels):
        with pytest.raises(UnsupportedError, match="1 to 8 channels"):
            codec().stream_encoder(rate, channels)
        fmt = dataclasses.replace(codec().stream_encoder(RATE, 1).format, rate=rate, channels=channels)
        with pytest.raises(UnsupportedError, match="1 to 8 channels"):
            codec().stream_decoder(fmt)

    def test_formats_that_cannot_be_decoded(self):
        fmt = codec().stream_encoder(RATE, 2).format
        with pytest.raises(UnsupportedError, match="multiple of 4 frames"):
            codec(4).stream_decoder(fmt)
        with pytest.raises(ModelMismatchError, match="digest 01020304"):
            codec().stream_decoder(dataclasses.replace(fmt, entropy_digest=b"\1\2\3\4"))
        with pytest.raises(LimitExceededError, match="2 channels"):
            codec(limits=DecodeLimits(max_channels=1)).stream_decoder(fmt)
        with pytest.raises(ModelMismatchError, match="no name of weights"):
            AudioCodec().stream_decoder(dataclasses.replace(fmt, model="evil.safetensors"))

    def test_formats_that_ask_for_too_much(self):
        """A packet of a few bytes makes a whole chunk of silence, so chunks must fit the limits."""
        fmt = codec().stream_encoder(RATE, 2).format
        for frames in (1 << 20, 1 << 40):
            with pytest.raises(LimitExceededError, match="max_memory_bytes"):
                codec().stream_decoder(dataclasses.replace(fmt, chunk_frames=frames))
        with pytest.raises(LimitExceededError, match="max_memory_bytes"):
            codec(limits=DecodeLimits(max_memory_bytes=100_000)).stream_decoder(fmt)

    def test_lengths_that_do_not_fit(self):
        packets, fmt = packets_of(smooth_sound(1, 1000))
        for samples in (-1, 1001):
            with pytest.raises(ValueError, match=r"must be in 0\.\.1000"):
                decoded(packets, fmt, samples)
        assert decoded(packets, fmt, 3).shape[1] >= 3

    def test_short_packets_of_a_full_chunk(self):
        packets, fmt = packets_of(smooth_sound(1, 100))
        short = dataclasses.replace(fmt, chunk_frames=13)
        with pytest.raises(BitstreamError, match="a short chunk of 13 frames"):
            decoded(packets, short)

    def test_quality(self):
        x = smooth_sound(1, 1000)
        sizes = [sum(map(len, packets_of(x, quality=quality)[0])) for quality in (0, 50, 100)]
        assert sizes == sorted(sizes)
        assert sizes[0] < sizes[2] / 1.5

    def test_the_resampled_sound_is_what_is_coded(self):
        x = smooth_sound(1, 4000, 2000)
        packets, fmt = packets_of(x, 2000, quality=100)
        expected = resample(resample(x, 2000, RATE), RATE, 2000)
        assert np.square(decoded(packets, fmt, 4000) - expected).mean() < 0.02 * np.square(expected).mean()

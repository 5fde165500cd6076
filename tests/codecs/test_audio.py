import dataclasses
import io
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models.tiny_audio import tiny_sound_model, tone
from models.tiny_sound import HOP, RATE, TinySound, smooth_sound, tiny_sound

from triode.codecs import audio as module
from triode.codecs.audio import AudioCodec, AudioInfo
from triode.codecs.levels import MID_SIDE, gains, rotate
from triode.codecs.resample import resample
from triode.codecs.search import point_to_quality, quality_to_point
from triode.container import (
    AudioHead,
    ContainerReader,
    ContainerWriter,
    DecodeLimits,
    Head,
    ImageHead,
    Unit,
    pack_sound_unit,
    read_sound_unit,
)
from triode.container.audio import MAX_CHUNK_FRAMES
from triode.entropy.coder import RangeReader
from triode.errors import (
    BitstreamError,
    EntropyMismatchError,
    LimitExceededError,
    ModelMismatchError,
    TruncatedError,
    UnsupportedError,
)
from triode.media import Sound
from triode.models.weights import Loaded, save_weights

CHUNK = 0.25
WEIGHTS = tiny_sound()


def sound(channels=1, samples=1000, rate=RATE, seed=0):
    return Sound(smooth_sound(channels, samples, rate, seed), rate)


def tiny_codec(multiple=1, reach=2, **options):
    return AudioCodec(tiny_sound(multiple, reach), **{"chunk_seconds": CHUNK, **options})


def head_of(data):
    return ContainerReader(io.BytesIO(data)).head


def units_of(data):
    return list(ContainerReader(io.BytesIO(data)).units())


def layouts_of(data):
    """Return what each unit says of levels and rotations."""
    head = head_of(data).audio
    return [read_sound_unit(unit.payload, head, unit.index) for unit in units_of(data)]


def rebuild(data, head=None, unit=lambda u: u):
    """Write a file again with parts changed; every checksum of the container is right."""
    out = io.BytesIO()
    with ContainerWriter(out, head or head_of(data)) as writer:
        for u in units_of(data):
            writer.unit(unit(u))
    return out.getvalue()


def changed_head(data, **fields):
    return dataclasses.replace(head_of(data), **fields)


def error_db(found, original):
    return 10 * np.log10(np.square(found - original).mean() / np.square(original).mean())


class Pipe(io.RawIOBase):
    """A source that cannot seek and gives few bytes at a time."""

    def __init__(self, data):
        self._data = io.BytesIO(data)

    def readable(self):
        return True

    def seekable(self):
        return False

    def read(self, size=-1):
        return self._data.read(min(size, 7) if size >= 0 else -1)


class Blocks:
    """A source of samples, such as a sound file."""

    def __init__(self, sound, frames=None):
        self.rate, self.channels, self.frames = sound.rate, sound.channels, frames
        self._samples, self._at = sound.samples, 0

    def read(self, count):
        block = self._samples[:, self._at : self._at + min(count, 777)]
        self._at += block.shape[1]
        return block


class TestRoundTrip:
    @settings(max_examples=25, deadline=None)
    @given(
        st.integers(1, 8),
        st.one_of(st.integers(0, 40), st.integers(0, 1200)),
        st.sampled_from([RATE, 300, 997, 1600, 44_100, 1]),
        st.integers(1, 3),
        st.sampled_from([0.02, 0.25, 1.0]),
        st.integers(0, 100),
        st.data(),
    )
    def test_any_sound(self, channels, samples, rate, multiple, chunk, quality, data):
        codec = tiny_codec(multiple, chunk_seconds=chunk)
        original = sound(channels, samples if rate > 1 else samples % 4, rate, seed=samples)
        for channel in data.draw(st.sets(st.integers(0, channels - 1))):
            original.samples[channel] = 0
        encoded = codec.encode(original, quality=quality)
        decoded = codec.decode(encoded.data)
        assert decoded.rate == rate
        assert decoded.samples.shape == original.samples.shape
        assert decoded.samples.dtype == np.float32
        assert codec.encode(original, quality=quality).data == encoded.data
        assert np.array_equal(codec.decode(encoded.data).samples, decoded.samples)
        assert codec.verify(encoded.data) == codec.info(encoded.data)
        start, stop = sorted(data.draw(st.integers(0, original.samples.shape[1] + 3)) for _ in range(2))
        part = codec.decode(encoded.data, start=start, stop=stop)
        assert np.array_equal(part.samples, decoded.samples[:, start:stop])

    @pytest.mark.parametrize("channels", [1, 2, 5])
    @pytest.mark.parametrize("rate", [RATE, 2000])
    def test_reconstruction_resembles_the_sound(self, channels, rate):
        original = sound(channels, 3 * rate, rate)
        limited = Sound(resample(resample(original.samples, rate, RATE), RATE, rate), rate)
        decoded = tiny_codec().decode(tiny_codec().encode(original, quality=100).data)
        assert error_db(decoded.samples, limited.samples) < -19
        coarse = tiny_codec().decode(tiny_codec().encode(original, quality=0).data)
        assert error_db(coarse.samples, limited.samples) > -16

    @pytest.mark.parametrize("loudness", [0.01, 1.0, 1000.0])
    def test_loudness_does_not_matter(self, loudness):
        original = sound(1, 2000)
        loud = Sound(original.samples * np.float32(loudness), RATE)
        decoded = tiny_codec().decode(tiny_codec().encode(loud, quality=90).data)
        assert error_db(decoded.samples, loud.samples) < -19

    def test_silent_channels_and_chunks_are_silent_and_cost_nothing(self):
        samples = smooth_sound(3, 1500)
        samples[1] = 0
        samples[2, 496:1000] = 0  # chunks have 248 samples
        data = tiny_codec().encode(Sound(samples, RATE)).data
        decoded = tiny_codec().decode(data).samples
        assert not decoded[1].any()
        assert not decoded[2, 496:992].any()
        assert decoded[2, 992:].any()
        levels = [layout.levels for layout in layouts_of(data)]
        assert {level[1] for level in levels} == {None}
        quiet = tiny_codec().encode(Sound(np.zeros((2, 5000), np.float32), RATE))
        assert not tiny_codec().decode(quiet.data).samples.any()
        assert {layout.coded for layout in layouts_of(quiet.data)} == {b""}

    @pytest.mark.parametrize("peak", [1e-45, 1e-38, 1e-12, 4e-8])
    def test_what_24_bits_cannot_hold_is_silence(self, peak):
        faint = smooth_sound(2, 1000)
        faint *= np.float32(peak) / np.abs(faint).max()
        data = tiny_codec().encode(Sound(faint, RATE), quality=100).data
        assert {layout.coded for layout in layouts_of(data)} == {b""}
        assert not tiny_codec().decode(data).samples.any()
        heard = faint * np.float32(2.0**-22 / np.abs(faint).max())
        data = tiny_codec().encode(Sound(heard, RATE), quality=100).data
        assert {layout.levels for layout in layouts_of(data)} != {(None, None)}

    def test_read_only_and_strided_samples(self):
        samples = np.asfortranarray(smooth_sound(2, 900))[::-1, ::2]
        samples.flags.writeable = False
        data = tiny_codec().encode(Sound(samples, RATE)).data
        assert data == tiny_codec().encode(Sound(np.ascontiguousarray(samples), RATE)).data

    def test_extreme_lengths(self):
        for samples in (0, 1, HOP, 248, 249, 256):
            for rate in (RATE, 8000, 44_100):
                original = sound(2, samples, rate)
                decoded = tiny_codec().decode(tiny_codec().encode(original).data)
                assert decoded.samples.shape == (2, samples)


class TestSeams:
    @pytest.mark.parametrize(("multiple", "reach"), [(1, 0), (1, 2), (2, 2), (4, 3)])
    def test_chunks_equal_the_whole(self, multiple, reach):
        """Latents made of all frames at once, by all samples at once, give what the chunks give."""
        codec = tiny_codec(multiple, reach)
        model = codec._model.model
        original = sound(2, 3000)
        original.samples[1, :1500] = smooth_sound(1, 1500, seed=9)
        original.samples[:, 900:1700] *= 0.02  # so that levels change
        original.samples[1, 1500:] = original.samples[0, 1500:]  # so that rotations do
        data = codec.encode(original, quality=80).data
        head, layouts = head_of(data).audio, layouts_of(data)
        assert len({layout.rotations for layout in layouts}) == 2
        assert len({layout.levels for layout in layouts}) > 3
        size = head.unit_frames(0) * HOP

        normal, turned, latents = [], [], [[], []]
        q = torch.tensor([quality_to_point(80)])
        for i, (layout, unit) in enumerate(zip(layouts, units_of(data), strict=True)):
            before, after = (layouts[max(i - 1, 0)], layouts[i + 1] if i + 1 < len(layouts) else None)
            frames = -(-head.unit_frames(i) // multiple) * multiple
            n, coder = frames * HOP, RangeReader(layout.coded)
            gain = np.ones((2, n), np.float32)
            for c in range(2):
                if layout.levels[c] is None:
                    latents[c].append(torch.zeros(1, HOP, 1, frames))
                    continue
                levels = (before.levels[c] if i else None, layout.levels[c], after.levels[c] if after else None)
                gain[c] = gains(*levels, size)[:n]
                latents[c].append(model.dequantise(model.decode(frames, q, coder), q))
            coder.check(unit.symbols_crc32)
            x = np.pad(original.samples[:, i * size : i * size + n], ((0, 0), (0, n)))[:, :n]
            normal.append(gain)
            turned.append(rotate(x, before.rotations, layout.rotations, size) * gain)

        # The encoder's latents are those of the whole, but for the rounding.
        for c in range(2):
            whole = model.analysis(torch.from_numpy(np.concatenate(turned, axis=1)[c])[None, None], q)
            far = (torch.cat(latents[c], 3) - whole).abs()
            silent = torch.cat([torch.full((frames.shape[3],), not frames.any()) for frames in latents[c]])
            assert far[..., ~silent].max() <= model.step(q) / 2 * 1.001 + 1e-6

        # So are the decoder's samples.
        whole = np.stack([model.synthesis(torch.cat(one, 3), q)[0, 0].numpy() for one in latents])
        whole = whole / np.concatenate(normal, axis=1)
        expected, decoded = [], codec.decode(data).samples
        for i, layout in enumerate(layouts):
            x = whole[:, i * size : i * size + size].copy()
            for c in range(2):
                if layout.levels[c] is None:
                    x[c] = 0
            expected.append(rotate(x, layouts[max(i - 1, 0)].rotations, layout.rotations, size, back=True))
        assert np.abs(np.concatenate(expected, axis=1)[:, :3000] - decoded).max() < 1e-5

    @pytest.mark.parametrize("rate", [RATE, 1600, 441])
    @pytest.mark.parametrize("out", [None, 700])
    def test_any_range_has_the_bits_of_the_whole(self, rate, out):
        codec = tiny_codec(2)
        data = codec.encode(sound(2, 5 * rate, rate)).data
        whole = codec.decode(data, rate=out)
        assert whole.rate == (out or rate)
        assert whole.samples.shape == (2, 5 * (out or rate))
        rng, total = np.random.default_rng(0), whole.samples.shape[1]
        for _ in range(25):
            start = int(rng.integers(0, total))
            stop = start + int(rng.choice([0, 1, 5, 300, total]))
            for source in (data, Pipe(data)):
                part = codec.decode(source, start=start, stop=stop, rate=out)
                assert np.array_equal(part.samples, whole.samples[:, start:stop])

    def test_blocks_join_to_the_whole(self):
        codec = tiny_codec()
        data = codec.encode(sound(2, 6000, 1600)).data
        blocks = codec.blocks(data, start=100)
        assert (blocks.rate, blocks.channels, blocks.samples) == (1600, 2, 5900)
        pieces = list(blocks)
        assert len(pieces) > 4
        assert all(piece.shape[1] for piece in pieces)
        assert np.array_equal(np.concatenate(pieces, axis=1), codec.decode(data).samples[:, 100:])

    def test_a_part_reads_only_its_chunks(self):
        codec = AudioCodec(WEIGHTS, chunk_seconds=0.05)
        data = codec.encode(sound(1, 5000)).data
        assert head_of(data).units > 64
        whole = codec.decode(data).samples

        class Counting(io.BytesIO):
            taken = 0

            def read(self, size=-1):
                found = super().read(size)
                self.taken += len(found)
                return found

        source = Counting(data)
        assert np.array_equal(codec.decode(source, start=2500, stop=2600).samples, whole[:, 2500:2600])
        assert source.taken < len(data) / 5

    @pytest.mark.parametrize(("start", "stop"), [(-1, None), (5, 4), (0, -3)])
    def test_no_ranges(self, start, stop):
        with pytest.raises(ValueError, match="range"):
            tiny_codec().decode(tiny_codec().encode(sound()).data, start=start, stop=stop)

    def test_ranges_beyond_the_end_are_cut(self):
        data = tiny_codec().encode(sound()).data
        assert tiny_codec().decode(data, start=5000, stop=6000).samples.shape == (1, 0)
        assert tiny_codec().decode(data, start=900, stop=6000).samples.shape == (1, 100)

    @pytest.mark.parametrize("rate", [0, -5, 1 << 24])
    def test_rates_out_of_range(self, rate):
        with pytest.raises(ValueError, match="`rate` must be"):
            tiny_codec().decode(tiny_codec().encode(sound()).data, rate=rate)


class TestStereo:
    def test_mid_and_side_where_that_is_smaller(self):
        """Never larger than left and right, and much smaller where channels are alike."""

        def size(samples, force=None):
            with pytest.MonkeyPatch.context() as patch:
                if force is not None:
                    patch.setattr("triode.codecs.chunk_encoder.choose_rotation", lambda *_: force)
                data = tiny_codec().encode(Sound(samples, RATE), quality=60).data
            return len(data), {layout.rotations[0] for layout in layouts_of(data)}

        common, other = smooth_sound(1, 2000)[0], smooth_sound(1, 2000, seed=7)[0]
        alike = np.stack((common, common + 0.05 * other))
        chosen, how = size(alike)
        assert how == {MID_SIDE}
        assert chosen < 0.9 * size(alike, 0)[0]
        mixed = np.stack((common, common + 0.5 * other))
        assert size(mixed)[0] <= 1.01 * min(size(mixed, 0)[0], size(mixed, MID_SIDE)[0])
        apart = np.stack((common, other))
        assert size(apart)[1] == {0}

    def test_equal_channels_cost_as_one(self):
        one = smooth_sound(1, 2000)
        data = tiny_codec().encode(Sound(np.concatenate((one, one)), RATE)).data
        alone = tiny_codec().encode(Sound(one, RATE)).data
        assert len(data) < len(alone) + 3 * head_of(data).units
        decoded = tiny_codec().decode(data).samples
        assert np.array_equal(decoded[0], decoded[1])

    def test_pairs_of_many_channels(self):
        x = smooth_sound(7, 1000)
        x[4] = x[5]
        data = tiny_codec().encode(Sound(x, RATE)).data
        assert all(len(layout.rotations) == 3 and layout.rotations[2] == MID_SIDE for layout in layouts_of(data))

    @pytest.mark.parametrize("channels", [9, 12])
    def test_too_many_channels(self, channels):
        with pytest.raises(UnsupportedError, match="1 to 8 channels"):
            tiny_codec().encode(sound(channels, 100))


class TestEncoded:
    def test_fields(self):
        encoded = tiny_codec().encode(sound(2, 2500, 2000), quality=33)
        info = tiny_codec().info(encoded.data)
        assert isinstance(info, AudioInfo)
        assert encoded.model == info.model == "tiny-sound.v1"
        assert encoded.rate_point == quality_to_point(33)
        assert encoded.quality == point_to_quality(encoded.rate_point)
        assert info.rate_points == (encoded.rate_point,)
        assert (info.media, info.rate, info.model_rate, info.channels, info.samples) == ("audio", 2000, RATE, 2, 2500)
        assert info.seconds == encoded.seconds == 1.25
        assert info.chunks == 6
        assert info.chunk_seconds == 0.248
        assert encoded.bytes == info.bytes == len(encoded.data)
        assert encoded.kbps == info.kbps == pytest.approx(8 * len(encoded.data) / 1250)
        assert encoded.payload_bytes == info.payload_bytes == sum(len(unit.payload) for unit in units_of(encoded.data))
        assert info.entropy_digest == "a1b2c3d4"
        assert info.synthesis_digest == "0badcafe"
        assert [chunk.type for chunk in info.structure] == ["HEAD", *["DATA"] * 6, "DONE"]
        assert info.metadata == ()

    def test_overhead(self):
        """A unit of a second costs 17 bytes beside its symbols, a file of one unit 62."""
        encoded = tiny_codec(chunk_seconds=1).encode(sound(1, 900))
        (layout,) = layouts_of(encoded.data)
        assert len(encoded.data) - len(layout.coded) <= 66
        long = tiny_codec(chunk_seconds=1).encode(sound(1, 10_000))
        coded = sum(len(layout.coded) for layout in layouts_of(long.data))
        assert len(long.data) - coded <= 52 + 17 + 18 * 10

    def test_50_is_the_default(self):
        assert tiny_codec().encode(sound()) == tiny_codec().encode(sound(), quality=50)

    @pytest.mark.parametrize("quality", [-1, 100.5, float("nan")])
    def test_quality_out_of_range(self, quality):
        with pytest.raises(ValueError, match=r"0\.\.100"):
            tiny_codec().encode(sound(), quality=quality)

    @pytest.mark.parametrize("seconds", [0, -1, 3601, float("nan"), float("inf")])
    def test_chunks_out_of_range(self, seconds):
        with pytest.raises(ValueError, match="`chunk_seconds`"):
            AudioCodec(chunk_seconds=seconds)

    def test_chunks_are_never_longer_than_the_format_allows(self):
        weights = tiny_sound(4, rate=48_000)
        found = AudioCodec(weights, chunk_seconds=3600).stream_encoder(48_000, 1).format.chunk_frames
        assert MAX_CHUNK_FRAMES - 4 < found <= MAX_CHUNK_FRAMES
        assert found % 4 == 0

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
    def test_samples_that_cannot_be_coded(self, value):
        broken = sound()
        broken.samples[0, 700] = value
        with pytest.raises(UnsupportedError, match="65536"):
            tiny_codec().encode(broken)

    def test_a_target_gets_the_bytes(self):
        out = io.BytesIO()
        encoded = tiny_codec().encode(sound(), out)
        assert encoded.data is None
        assert out.getvalue() == tiny_codec().encode(sound()).data

    @pytest.mark.parametrize("target", [{}, {"size": 900}])
    def test_a_source_gives_the_same_as_its_sound(self, target):
        original = sound(2, 3000, 1600)
        expected = tiny_codec().encode(original, **target)
        for frames in (None, 3000, 10):
            assert tiny_codec().encode(Blocks(original, frames), **target) == expected


class TestTargets:
    @pytest.mark.parametrize("size", [600, 900, 1500, 10_000])
    def test_size_is_never_exceeded(self, size):
        found = tiny_codec().encode(sound(1, 2000), size=size)
        assert found.bytes == len(found.data) <= size
        if found.rate_point < 63:
            above = tiny_codec().encode(sound(1, 2000), quality=point_to_quality(found.rate_point + 1))
            assert len(above.data) > size
        assert found == tiny_codec().encode(sound(1, 2000), quality=found.quality)

    @pytest.mark.parametrize("rate", [RATE, 1600])
    def test_kbps_counts_the_whole_file(self, rate):
        original = sound(2, 3 * rate, rate)
        found = tiny_codec().encode(original, kbps=6.5)
        assert 5.5 < found.kbps <= 6.5
        assert found == tiny_codec().encode(original, size=int(6.5 * 3 * 125))

    @pytest.mark.parametrize("target", [{"size": 60}, {"kbps": 0.01}])
    def test_unreachable_targets(self, target):
        with pytest.raises(UnsupportedError, match="cannot be met"):
            tiny_codec().encode(sound(), **target)

    @pytest.mark.parametrize("name", ["kbps", "size"])
    @pytest.mark.parametrize("value", [0, -5, float("nan"), float("inf")])
    def test_targets_out_of_range(self, name, value):
        with pytest.raises(ValueError, match=f"`{name}` must be positive"):
            tiny_codec().encode(sound(), **{name: value})

    def test_one_target_at_a_time(self):
        with pytest.raises(ValueError, match="at most one"):
            tiny_codec().encode(sound(), quality=0, kbps=1)

    def test_progress_rises_to_one(self):
        original = sound(1, 200_000, 200_000)
        data = tiny_codec().encode(original).data
        for call in (
            lambda p: tiny_codec().encode(original, progress=p),
            lambda p: tiny_codec().encode(Blocks(original, 200_000), progress=p),
            lambda p: tiny_codec().encode(Blocks(original), progress=p),
            lambda p: tiny_codec().encode(original, size=1000, progress=p),
            lambda p: tiny_codec().decode(data, progress=p),
            lambda p: tiny_codec().decode(data, start=50_000, progress=p),
        ):
            shares = []
            call(shares.append)
            assert shares == sorted(shares)
            assert shares[-1] == 1.0
            assert shares[0] > 0


class TestMemory:
    def test_long_sounds_take_little(self):
        """Minutes, of which neither samples nor file ever lie in memory whole."""

        class Endless:
            rate, channels, frames, left = RATE, 1, None, 300 * RATE

            def read(self, count):
                count = min(count, self.left, 5000)
                self.left -= count
                return np.sin(np.arange(count, dtype=np.float32) / 7)[None] * np.float32(0.1)

        class Null(io.RawIOBase):
            def write(self, data):
                return len(data)

        codec = tiny_codec(chunk_seconds=1)
        data = codec.encode(Endless(), quality=0).data
        tracemalloc.start()
        try:
            codec.encode(Endless(), Null(), quality=0)
            encoding = tracemalloc.get_traced_memory()[1]
            tracemalloc.reset_peak()
            total = sum(block.shape[1] for block in codec.blocks(data))
            decoding = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert total == 300 * RATE
        assert encoding - len(data) < 600_000
        assert decoding < 600_000


class TestIdentity:
    def test_other_entropy_digest(self):
        data = tiny_codec().encode(sound()).data
        with pytest.raises(ModelMismatchError, match="01020304"):
            tiny_codec().decode(rebuild(data, changed_head(data, entropy_digest=b"\1\2\3\4")))

    def test_other_synthesis_digest_warns(self):
        data = tiny_codec().encode(sound()).data
        changed = rebuild(data, changed_head(data, synthesis_digest=b"\1\2\3\4"))
        with pytest.warns(UserWarning, match="other samples") as caught:
            found = tiny_codec().decode(changed)
        assert np.array_equal(found.samples, tiny_codec().decode(data).samples)
        assert len(caught) == 1

    def test_missing_weights(self):
        data = tiny_codec().encode(sound()).data
        with pytest.raises(ModelMismatchError, match=r"tiny-sound\.v1"):
            AudioCodec().decode(data)

    def test_a_name_in_a_stream_never_becomes_a_path(self):
        data = tiny_codec().encode(sound()).data
        with pytest.raises(ModelMismatchError, match="no name of weights"):
            AudioCodec().decode(rebuild(data, changed_head(data, model="evil.safetensors")))

    def test_info_needs_no_model(self, monkeypatch):
        data = tiny_codec().encode(sound()).data
        monkeypatch.setattr(module, "load_weights", lambda *_: pytest.fail("a model was loaded"))
        assert AudioCodec().info(data).samples == 1000

    @pytest.mark.parametrize("fields", [{"hop": 16, "chunk_frames": 15}, {"model_rate": 1001}])
    def test_a_head_that_describes_another_model(self, fields):
        data = tiny_codec().encode(sound(1, 1000)).data
        body = dataclasses.replace(head_of(data).audio, **fields)
        out = io.BytesIO()
        with ContainerWriter(out, changed_head(data, body=body)) as writer:
            for i in range(body.units):
                writer.unit(Unit(i, 0, 0, b"\x40"))
        with pytest.raises(BitstreamError, match="HEAD says that the model"):
            tiny_codec().decode(out.getvalue())

    def test_chunks_that_do_not_suit_the_model(self):
        data = tiny_codec().encode(sound()).data
        with pytest.raises(UnsupportedError, match="multiple of 2 frames"):
            AudioCodec(tiny_sound(2)).decode(data)

    def test_pictures_are_refused(self):
        out = io.BytesIO()
        with ContainerWriter(out, Head("m", bytes(4), bytes(4), ImageHead(7, 5))) as writer:
            writer.unit(Unit(0, 0, 0, b""))
        for ask in (tiny_codec().decode, tiny_codec().info, tiny_codec().verify):
            with pytest.raises(UnsupportedError, match="not audio"):
                ask(out.getvalue())


class TestLimits:
    def test_samples_and_channels(self):
        data = tiny_codec().encode(sound(2, 1000)).data
        for ask in ("decode", "info", "verify"):
            getattr(AudioCodec(WEIGHTS, limits=DecodeLimits(max_samples=1000, max_channels=2)), ask)(data)
            for limits in (DecodeLimits(max_samples=999), DecodeLimits(max_channels=1), DecodeLimits(max_units=3)):
                with pytest.raises(LimitExceededError):
                    getattr(AudioCodec(WEIGHTS, limits=limits), ask)(data)

    def test_memory_is_checked_before_anything_is_decoded(self, monkeypatch):
        data = tiny_codec().encode(sound(2, 30_000), quality=0).data
        monkeypatch.setattr(TinySound, "decode", lambda *_: pytest.fail("a unit was decoded"))
        for ask, most in (("decode", 400_000), ("verify", 100_000), ("blocks", 100_000)):
            with pytest.raises(LimitExceededError, match="max_memory_bytes"):
                getattr(AudioCodec(WEIGHTS, limits=DecodeLimits(max_memory_bytes=most)), ask)(data)

    def test_small_files_that_announce_much(self):
        head = AudioHead(1 << 28, RATE, 1, RATE, HOP, chunk_frames=1 << 10)
        out = io.BytesIO()
        writer = ContainerWriter(out, Head("tiny-sound.v1", b"\xa1\xb2\xc3\xd4", b"\x0b\xad\xca\xfe", head))
        writer.unit(Unit(0, 0, 0, b"\x00"))
        tracemalloc.start()
        try:
            with pytest.raises(TruncatedError, match="chunk 1 of 32768"):
                AudioCodec(WEIGHTS).decode(out.getvalue())
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()

    def test_one_unit_of_hours_counts_whole(self):
        head = AudioHead(1 << 30, RATE, 1, RATE, HOP)
        out = io.BytesIO()
        with ContainerWriter(out, Head("tiny-sound.v1", b"\xa1\xb2\xc3\xd4", b"\x0b\xad\xca\xfe", head)) as writer:
            writer.unit(Unit(0, 0, 0, b"\x40"))
        with pytest.raises(LimitExceededError, match="max_memory_bytes"):
            AudioCodec(WEIGHTS).blocks(out.getvalue())


class TestErrors:
    @pytest.fixture(scope="class")
    @classmethod
    def data(cls):
        return tiny_codec().encode(sound(1, 1500)).data

    def test_errors_name_the_chunk(self, data):
        units = units_of(data)
        place = data.index(units[3].payload) + 5
        damaged = bytearray(data)
        damaged[place] ^= 1
        with pytest.raises(BitstreamError, match=r"chunk 3 of 7, at 0\.74 s: .*damaged"):
            tiny_codec().decode(bytes(damaged))
        with pytest.raises(BitstreamError, match=r"chunk 3 of 7.*damaged"):
            tiny_codec().decode(bytes(damaged), start=800, stop=900)
        assert tiny_codec().decode(bytes(damaged), start=0, stop=400).samples.shape == (1, 400)
        with pytest.raises(TruncatedError, match="chunk 3"):
            tiny_codec().decode(data[:place])

    def test_symbols_are_checked(self, data):
        wrong = rebuild(data, unit=lambda u: dataclasses.replace(u, symbols_crc32=u.symbols_crc32 ^ (u.index == 2)))
        with pytest.raises(EntropyMismatchError, match="chunk 2 of 7"):
            tiny_codec().decode(wrong)
        with pytest.raises(EntropyMismatchError, match="chunk 2 of 7"):
            tiny_codec().verify(wrong)

    def test_coded_bytes_without_a_channel(self, data):
        def silence(unit):
            layout = read_sound_unit(unit.payload, head_of(data).audio, unit.index)
            changed = pack_sound_unit(dataclasses.replace(layout, levels=(None,)))
            return dataclasses.replace(unit, symbols_crc32=0, payload=changed)

        with pytest.raises(BitstreamError, match="no channel has any"):
            tiny_codec().decode(rebuild(data, unit=silence))

    def test_samples_beyond_any_loudness(self, monkeypatch, data):
        monkeypatch.setattr(TinySound, "dequantise", lambda self, y_hat, q: y_hat * float("inf"))
        with pytest.raises(BitstreamError, match="chunk 0 decodes to samples beyond"):
            tiny_codec().decode(data)


class TestConcealment:
    @staticmethod
    def drop(data, *lost):
        """Damage units of a file."""
        damaged = bytearray(data)
        for index in lost:
            payload = units_of(data)[index].payload
            damaged[data.index(payload) + len(payload) // 2] ^= 0x55
        return bytes(damaged)

    @pytest.fixture(scope="class")
    @classmethod
    def data(cls):
        return AudioCodec(WEIGHTS, chunk_seconds=0.8).encode(sound(2, 8000), quality=70).data

    @pytest.fixture(scope="class")
    @classmethod
    def whole(cls, data):
        return tiny_codec().decode(data).samples

    def test_only_around_the_loss_anything_changes(self, data, whole):
        with pytest.warns(UserWarning, match="1 chunks were lost and are concealed: 4"):
            found = tiny_codec().decode(self.drop(data, 4), conceal=True).samples
        assert found.shape == whole.shape
        assert np.isfinite(found).all()
        size, reach = 800, 200 + 5 * HOP  # a ramp of the levels, and the frames that chunks share
        assert np.array_equal(found[:, : 4 * size - reach], whole[:, : 4 * size - reach])
        assert np.array_equal(found[:, 5 * size + reach :], whole[:, 5 * size + reach :])
        gap = found[:, 4 * size : 5 * size]
        assert np.abs(gap[:, :100]).mean() > 0.2 * np.abs(whole[:, 4 * size : 4 * size + 100]).mean()
        assert not gap[:, 300:700].any()
        assert np.abs(gap[:, -40:]).mean() > 0.1 * np.abs(whole[:, 5 * size - 40 : 5 * size]).mean()
        # Neither end of the gap clicks.
        steps = np.abs(np.diff(found, axis=1))
        for seam in (4 * size, 5 * size):
            assert steps[:, seam - 3 : seam + 3].max() <= 1.5 * np.abs(np.diff(whole, axis=1)).max()

    @pytest.mark.parametrize("lost", [(0,), (9,), (0, 1, 2), (3, 4, 5), (2, 4, 6), (1, 2, 3, 4, 5, 6, 7, 8, 9)])
    def test_any_chunks(self, data, whole, lost):
        blocks = tiny_codec().blocks(self.drop(data, *lost), conceal=True)
        with pytest.warns(UserWarning, match="concealed"):
            found = np.concatenate(list(blocks), axis=1)
        assert blocks.lost == list(lost)
        assert found.shape == whole.shape
        for index in set(range(10)) - {j for i in lost for j in (i - 1, i, i + 1)}:
            assert np.array_equal(found[:, index * 800 : index * 800 + 800], whole[:, index * 800 : index * 800 + 800])
        assert np.abs(found).max() < 2 * np.abs(whole).max()

    def test_missing_and_truncated_units(self, data, whole):
        start = data.index(units_of(data)[5].payload)
        end = data.index(units_of(data)[6].payload)
        for damaged, lost in ((data[:start] + data[end:], [5, 6]), (data[:start], [5, 6, 7, 8, 9])):
            blocks = tiny_codec().blocks(damaged, conceal=True)
            with pytest.warns(UserWarning, match="concealed"):
                found = np.concatenate(list(blocks), axis=1)
            assert blocks.lost == lost
            assert found.shape == whole.shape
            assert np.array_equal(found[:, :3500], whole[:, :3500])

    def test_wrong_symbols_are_concealed_too(self, data):
        wrong = rebuild(data, unit=lambda u: dataclasses.replace(u, symbols_crc32=u.symbols_crc32 ^ (u.index == 2)))
        with pytest.warns(UserWarning, match="concealed: 2"):
            tiny_codec().decode(wrong, conceal=True)

    def test_ranges(self, data):
        damaged = self.drop(data, 4)
        with pytest.warns(UserWarning, match="concealed"):
            whole = tiny_codec().decode(damaged, conceal=True).samples
        with pytest.warns(UserWarning, match="concealed"):
            part = tiny_codec().decode(damaged, start=3500, stop=4500, conceal=True).samples
        assert np.array_equal(part, whole[:, 3500:4500])

    @pytest.mark.parametrize("lost", [(0, 1, 2, 3, 4, 5, 6), (3, 4, 5, 6, 7, 8, 9), (2, 3, 4, 5, 6, 7, 8)])
    def test_ranges_where_all_is_lost(self, data, lost):
        """They are concealed as the whole is, as long as there is an intact chunk anywhere."""
        damaged = self.drop(data, *lost)
        with pytest.warns(UserWarning, match="concealed"):
            whole = tiny_codec().decode(damaged, conceal=True).samples
        with pytest.warns(UserWarning, match="concealed"):
            part = tiny_codec().decode(damaged, start=4100, stop=4700, conceal=True).samples
        assert np.array_equal(part, whole[:, 4100:4700])

    def test_intact_files_are_not_changed(self, data, whole, recwarn):
        assert np.array_equal(tiny_codec().decode(data, conceal=True).samples, whole)
        assert not recwarn.list

    def test_nothing_is_made_of_nothing(self, data):
        wrong = rebuild(data, unit=lambda u: dataclasses.replace(u, symbols_crc32=u.symbols_crc32 ^ 1))
        for nothing in (self.drop(data, *range(10)), wrong):
            with pytest.raises(BitstreamError, match="no chunk is intact"):
                tiny_codec().decode(nothing, conceal=True)
        with pytest.raises(UnsupportedError, match="can seek"):
            tiny_codec().decode(Pipe(data), conceal=True)


class TestSources:
    def test_kinds_of_sources(self, tmp_path):
        codec, path = tiny_codec(), tmp_path / "x.tri"
        data = codec.encode(sound(2, 1500)).data
        path.write_bytes(data)
        expected, info = codec.decode(data), codec.info(data)
        for make in (bytearray, memoryview, io.BytesIO, Pipe):
            assert np.array_equal(codec.decode(make(data)).samples, expected.samples)
            assert codec.info(make(data)) == codec.verify(make(data)) == info
        with path.open("rb") as file:
            assert np.array_equal(codec.decode(file, start=100).samples, expected.samples[:, 100:])

    def test_a_file_may_begin_where_the_source_stands(self):
        data = tiny_codec().encode(sound()).data
        source = io.BytesIO(b"before" + data)
        source.seek(6)
        part = tiny_codec().decode(source, start=600, stop=700)
        assert np.array_equal(part.samples, tiny_codec().decode(data).samples[:, 600:700])


class TestAudioLight:
    """The real architecture, with random weights from a file."""

    @pytest.fixture(scope="class")
    @classmethod
    def name(cls, weights):
        path = weights.path.parent / "tiny-light.v1.safetensors"
        return save_weights(tiny_sound_model(), path, name="tiny-light.v1", architecture="audio-light").name

    def test_round_trip_by_name(self, name):
        codec = AudioCodec(name)
        x = np.stack((tone(20_000), tone(20_000, 1)))
        encoded = codec.encode(Sound(x, 8000), quality=90)
        decoded = AudioCodec().decode(encoded.data).samples
        assert decoded.shape == x.shape
        assert error_db(decoded, x) < -3
        assert np.array_equal(codec.decode(encoded.data, start=9000, stop=17_345).samples, decoded[:, 9000:17_345])
        assert codec.verify(encoded.data).chunks == 2

    def test_seams_do_not_show(self, name):
        x = tone(24_000)
        parts, whole = (AudioCodec(name, chunk_seconds=s) for s in (0.5, 10))
        first, second = (c.decode(c.encode(Sound(x[None], 8000), quality=90).data).samples[0] for c in (parts, whole))
        assert error_db(first, x) - error_db(second, x) < 0.5
        seams = [np.arange(i * 4096 - 20, i * 4096 + 20) for i in range(1, 6)]
        assert error_db(first[np.concatenate(seams)], x[np.concatenate(seams)]) < error_db(second, x) + 2

    def test_loaded_and_run_under_autocast(self, tmp_path):
        path = tmp_path / "narrow-light.v1.safetensors"
        save_weights(tiny_sound_model(1), path, name="narrow-light.v1", architecture="audio-light")
        with torch.autocast("cpu", dtype=torch.bfloat16):
            codec = AudioCodec(str(path), chunk_seconds=1)
            encoded = codec.encode(Sound(tone(9000)[None], 8000))
            codec.verify(encoded.data)
            wide = codec.decode(encoded.data).samples
        assert codec.verify(encoded.data).chunks == 2
        assert error_db(wide, codec.decode(encoded.data).samples) < -30

    def test_weights_of_another_medium(self, weights, name):
        with pytest.raises(ModelMismatchError, match="weights for image"):
            AudioCodec(weights.name).encode(sound())
        assert isinstance(AudioCodec(name)._weights(8000, 1), Loaded)

    def test_the_default_encodes(self, name, monkeypatch):
        monkeypatch.setattr(module, "default_weights", lambda media, **_: {"audio": name}[media])
        assert AudioCodec().encode(Sound(tone(3000)[None], 8000)).model == name

import contextlib
import io
import re

import numpy as np
import pytest

from triode.errors import CodecError, UnsupportedError
from triode.eval.anchors.resample import resample
from triode.eval.coder import create_coder, list_coders
from triode.media import Sound

av = pytest.importorskip("av")
soundfile = pytest.importorskip("soundfile")
signal = pytest.importorskip("scipy.signal")

LOSSY = ("opus", "aac", "mp3", "vorbis")


def speech(frames, rate, channels=1, seed=0):
    """Make noise in the band of speech, which has a sharp correlation with itself."""
    noise = np.random.default_rng(seed).standard_normal((channels, frames + 200))
    numerator, denominator = signal.butter(2, [300 / (rate / 2), min(3400, 0.4 * rate) / (rate / 2)], "band")
    return Sound((0.2 * signal.lfilter(numerator, denominator, noise)[:, 200:]).astype(np.float32), rate)


def coder(spec):
    return create_coder(spec, "audio")


def lag(one, other):
    return int(np.argmax(signal.correlate(other, one, "full"))) - (len(one) - 1)


def snr(one, other):
    return 10 * np.log10(np.sum(one**2) / np.sum((one - other) ** 2))


class TestDelay:
    @pytest.mark.parametrize("name", LOSSY)
    @pytest.mark.parametrize(
        ("rate", "frames", "channels"), [(16000, 8001, 1), (22050, 11027, 2), (48000, 24000, 1), (96000, 48001, 1)]
    )
    def test_none_and_the_length_is_what_it_was(self, name, rate, frames, channels):
        sound = speech(frames, rate, channels)
        codec = coder(name)
        back = codec.decode(codec.encode(sound, 6 if name == "vorbis" else 64))
        assert back.rate == rate
        assert back.samples.shape == sound.samples.shape
        assert back.samples.dtype == np.float32
        assert [lag(*pair) for pair in zip(sound.samples, back.samples, strict=True)] == [0] * channels
        assert snr(sound.samples, back.samples) > 6

    @pytest.mark.parametrize("quality", [9, 16])
    def test_none_where_opus_codes_by_prediction(self, quality):
        sound = speech(24000, 48000)
        codec = coder("opus:application=voip")
        assert lag(sound.samples[0], codec.decode(codec.encode(sound, quality)).samples[0]) == 0

    @pytest.mark.parametrize("name", LOSSY)
    @pytest.mark.parametrize("rate", [8000, 22222, 44100])
    def test_lengths(self, name, rate):
        codec = coder(name)
        for frames in (1, 2, 575, 577, 1152, 1153, 1199, 2352, 4609):
            sound = speech(frames, rate)
            assert codec.decode(codec.encode(sound, 5 if name == "vorbis" else 40)).samples.shape == (1, frames)

    @pytest.mark.parametrize("frames", [35734, 35730, 16007, 1])
    def test_lengths_where_opus_codes_a_narrow_band(self, frames):
        codec = coder("opus")
        assert codec.decode(codec.encode(speech(frames, 16000), 6)).samples.shape == (1, frames)

    @pytest.mark.parametrize(("name", "ending"), [("opus", ".opus"), ("aac", ".m4a"), ("mp3", ".mp3")])
    def test_a_player_gets_the_same(self, tmp_path, name, ending):
        from triode.io.audio import read_sound

        sound = speech(9999, 48000)
        data = coder(name).encode(sound, 64)
        (tmp_path / f"a{ending}").write_bytes(data)
        played = read_sound(tmp_path / f"a{ending}")
        assert played.rate == 48000
        assert lag(sound.samples[0], played.samples[0]) == 0


class TestBytes:
    @pytest.mark.parametrize("name", LOSSY)
    def test_more_quality_is_more_bytes_and_less_noise(self, name):
        sound = speech(12000, 24000)
        codec = coder(name)
        files = [codec.encode(sound, quality) for quality in ((1, 5, 9) if name == "vorbis" else (16, 32, 64))]
        noise = [snr(sound.samples, codec.decode(data).samples) for data in files]
        assert sorted(map(len, files)) == list(map(len, files))
        assert sorted(noise) == noise

    @pytest.mark.parametrize("name", ["opus", "aac", "mp3"])
    def test_quality_is_the_rate_in_kilobits(self, name):
        sound = speech(48000, 24000)
        codec = coder(name)
        for quality in (24, 48):
            found = codec.payload_bytes(codec.encode(sound, quality)) * 8 / sound.seconds / 1000
            assert found == pytest.approx(quality, rel=0.15)

    @pytest.mark.parametrize(("name", "headers"), [("opus", 2), ("vorbis", 3)])
    def test_payload_is_what_ogg_pages_carry(self, name, headers):
        """Count packets by RFC 3533: lengths are sums of bytes of the segment table up to one below 255."""
        data = coder(name).encode(speech(24000, 48000), 4)
        packets, length, at = [], 0, 0
        while at < len(data):
            assert data[at : at + 4] == b"OggS"
            table = data[at + 27 : at + 27 + data[at + 26]]
            for size in table:
                length += size
                if size < 255:
                    packets.append(length)
                    length = 0
            at += 27 + len(table) + sum(table)
        payload = coder(name).payload_bytes(data)
        assert payload == sum(packets[headers:]) > 0
        assert coder(name).parts(data) == {"header": len(data) - payload, "payload": payload}

    @pytest.mark.parametrize("name", ["aac", "mp3"])
    def test_payload_leaves_out_tables_and_tags(self, name):
        codec = coder(name)
        data = codec.encode(speech(24000, 48000), 48)
        payload = codec.payload_bytes(data)
        assert 150 < len(data) - payload < 1500
        assert sum(codec.parts(data).values()) == len(data)

    @pytest.mark.parametrize("name", ["opus", "aac", "mp3", "flac"])
    def test_the_same_sound_makes_the_same_file(self, name):
        codec = coder(name)
        quality = codec.qualities[-1]
        assert codec.encode(speech(9000, 44100), quality) == codec.encode(speech(9000, 44100), quality)


class TestOpus:
    def test_header_names_the_rate_and_the_delay(self):
        """RFC 7845, 5.1: pre-skip at byte 10, input sample rate at byte 12."""
        data = coder("opus").encode(speech(8000, 16000), 16)
        head = data[data.index(b"OpusHead") :]
        assert int.from_bytes(head[10:12], "little") == 312
        assert int.from_bytes(head[12:16], "little") == 16000

    def test_libsndfile_reads_the_same_length(self):
        data = coder("opus").encode(speech(8123, 16000), 32)
        samples, rate = soundfile.read(io.BytesIO(data))
        assert (rate, len(samples)) == (16000, 8123)

    def test_options_reach_the_encoder(self):
        sound = speech(48000, 48000)
        sizes = {}
        for options in ("", ":frame=60", ":vbr=off", ":complexity=0", ":application=voip"):
            codec = coder(f"opus{options}")
            sizes[options] = codec.payload_bytes(codec.encode(sound, 24))
        assert len(set(sizes.values())) == 5
        assert sizes[":vbr=off"] == pytest.approx(3060, abs=61)  # 51 packets of 60 bytes

    def test_decoders_agree(self):
        sound = speech(24000, 48000)
        data = coder("opus").encode(sound, 96)
        one, other = (coder(f"opus:decoder={name}").decode(data).samples for name in ("ffmpeg", "libopus"))
        assert snr(one, other) > 40


class TestFlac:
    @pytest.mark.parametrize("bits", [16, 24])
    def test_without_loss(self, bits):
        most = 1 << (bits - 1)
        values = np.random.default_rng(1).integers(-most, most, (2, 4000))
        values[:, 0], values[:, 1] = -most, most - 1
        sound = Sound((values / most).astype(np.float32), 44100)
        codec = coder("flac")
        data = codec.encode(sound, 8)
        back = codec.decode(data)
        np.testing.assert_array_equal(back.samples, sound.samples)
        assert back.rate == 44100
        assert soundfile.info(io.BytesIO(data)).subtype == f"PCM_{bits}"

    def test_other_samples_are_rounded_to_24_bits(self):
        sound = Sound(np.array([[0.1, -0.3, 1.5, -1.5, 1.0, -1.0]], np.float32), 8000)
        codec = coder("flac")
        back = codec.decode(codec.encode(sound, 5))
        np.testing.assert_allclose(back.samples, sound.samples.clip(-1, 1), rtol=0, atol=2**-23)

    def test_payload_is_the_frames(self):
        codec = coder("flac")
        data = codec.encode(speech(4000, 44100), 8)
        frames = data[len(data) - codec.payload_bytes(data) :]
        assert frames[:2] == b"\xff\xf8"  # RFC 9639, 9.1: sync code of a frame of fixed block size
        assert data.index(b"\xff\xf8") == len(data) - len(frames)

    def test_levels(self):
        tone = Sound(np.sin(np.arange(20000) / 20).astype(np.float32)[None] / 2, 44100)
        assert len(coder("flac").encode(tone, 8)) < len(coder("flac").encode(tone, 0))


class TestFacts:
    def test_names(self):
        assert {"opus", "aac", "mp3", "vorbis", "flac"} <= set(list_coders("audio"))

    @pytest.mark.parametrize("name", [*LOSSY, "flac"])
    def test_of_each(self, name):
        codec = coder(name)
        facts = codec.facts()
        assert codec.name == name
        assert codec.media == "audio"
        assert facts.kind == "classical"
        assert list(codec.qualities) == sorted(codec.qualities)
        package = "soundfile" if name in ("vorbis", "flac") else "PyAV"
        assert re.match(r"\d+\.\d+", facts.versions[package])
        assert all(isinstance(value, str) for value in facts.versions.values())

    def test_options_are_recorded(self):
        options = coder("opus:application=voip,frame=60,complexity=5,vbr=constrained").facts().options
        expected = {"application": "voip", "frame_duration": "60", "compression_level": "5", "vbr": "constrained"}
        assert expected.items() <= options.items()
        assert "resample_poly" in options["resampler"]
        assert coder("opus:application=voip").facts().title == "Opus (libopus, application voip)"
        assert coder("mp3:mode=cbr,effort=0").facts().options["abr"] == "0"
        assert coder("aac:coder=fast").facts().options["aac_coder"] == "fast"

    def test_vorbis_names_libvorbis(self):
        assert coder("vorbis").facts().versions["libvorbis"].startswith("Xiph.Org libVorbis")


class TestWrongUse:
    @pytest.mark.parametrize(
        "spec",
        ["opus:application=music", "opus:bitrate=3", "mp3:effort=10", "aac:coder=slow", "vorbis:x=1", "flac:x=1"],
    )
    def test_options(self, spec):
        with pytest.raises(ValueError, match=spec.split(":")[0]):
            coder(spec)

    @pytest.mark.parametrize(("name", "quality"), [("opus", 1), ("mp3", 321), ("aac", 0), ("vorbis", 11), ("flac", 9)])
    def test_quality(self, name, quality):
        with pytest.raises(ValueError, match="Quality"):
            coder(name).encode(speech(100, 8000), quality)

    @pytest.mark.parametrize("name", [*LOSSY, "flac"])
    def test_items(self, name):
        codec = coder(name)
        quality = codec.qualities[-1]
        with pytest.raises(UnsupportedError, match="without samples"):
            codec.encode(Sound(np.empty((1, 0), np.float32), 8000), quality)
        with pytest.raises(ValueError, match="Sound"):
            codec.encode(np.zeros((4, 4, 3), np.uint8), quality)
        with pytest.raises(UnsupportedError, match="channels"):
            codec.encode(speech(100, 8000, 256), quality)

    @pytest.mark.parametrize("name", [*LOSSY, "flac"])
    def test_damaged_files(self, name):
        codec = coder(name)
        data = codec.encode(speech(4000, 16000), codec.qualities[-1])
        rng = np.random.default_rng(2)
        for cut in (0, 10):
            with pytest.raises(CodecError):
                codec.decode(data[:cut])
        for number in range(12):
            damaged = bytearray(data)
            for place in rng.integers(0, len(data) if number % 2 else 200, 4):
                damaged[place] = rng.integers(256)
            for read in (codec.decode, codec.payload_bytes):
                with contextlib.suppress(CodecError):
                    read(bytes(damaged))


class TestResample:
    @pytest.mark.parametrize(("source", "target"), [(16000, 48000), (48000, 16000), (44100, 48000), (22050, 48000)])
    def test_tones_stay_where_they_are(self, source, target):
        frequencies = np.linspace(50, 0.9 * min(source, target) / 2, 9)

        def tones(rate):
            t = np.arange(rate // 5) / rate
            return np.sin(2 * np.pi * frequencies[:, None] * t).astype(np.float32)

        found = resample(tones(source), source, target)
        middle = slice(found.shape[1] // 4, -found.shape[1] // 4)
        np.testing.assert_allclose(found[:, middle], tones(target)[:, middle], atol=3e-4)

    def test_what_the_lower_rate_cannot_hold_is_cut(self):
        t = np.arange(9600) / 48000
        high = np.sin(2 * np.pi * 8200 * t).astype(np.float32)[None]
        assert np.abs(resample(high, 48000, 16000)[:, 500:-500]).max() < 1e-4

    def test_lengths(self):
        for frames in (1, 2, 479, 480, 481):
            assert resample(np.zeros((2, frames), np.float32), 44100, 48000).shape == (2, -(-frames * 160 // 147))
        with pytest.raises(UnsupportedError, match="1000000007 Hz"):
            resample(np.zeros((1, 5), np.float32), 1000000007, 48000)
        same = np.zeros((1, 5), np.float32)
        assert resample(same, 8000, 8000) is same

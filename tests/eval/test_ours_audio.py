"""The codec of sound on the bench: as a coder, as an item, in `triode compare`, and in a report to listen to."""

import base64
import hashlib
import io
import json
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from eval.anchors.pictures import check_parts
from models.tiny_audio import tiny_sound_model, tone
from models.tiny_sound import RATE, TinySound, smooth_sound, tiny_sound
from models.tiny_vq import tiny_vq

from triode.cli.main import main
from triode.codecs.audio import AudioCodec
from triode.codecs.chunks import Chunking
from triode.codecs.search import quality_to_point
from triode.container import ContainerReader, read_sound_unit
from triode.entropy.coder import CountingWriter, RangeReader
from triode.errors import BitstreamError, ModelMismatchError, UnsupportedError
from triode.eval import bench
from triode.eval.anchors.common import torch_threads
from triode.eval.coder import create_coder, list_coders
from triode.eval.items import guess_media, item_facts, load_item
from triode.media import Sound
from triode.models.weights import load_weights, save_weights

NAME = "tiny-light.v1"
MODEL_RATE = 8000


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / f"{NAME}.safetensors"
    return save_weights(tiny_sound_model(), path, name=NAME, architecture="audio-light", kmac=(1.5, 2.5))


@pytest.fixture(scope="module")
def coder(weights):
    return create_coder(f"triode:model={weights.path}", "audio")


@pytest.fixture
def home(weights, monkeypatch):
    monkeypatch.setenv("TRIODE_HOME", str(weights.path.parent))


def recording(samples=12_000, channels=1, rate=MODEL_RATE):
    return Sound(np.stack([tone(samples, seed, rate) for seed in range(channels)]), rate)


def noise(found, original):
    return float(np.square(found.samples - original.samples).sum() / np.square(original.samples).sum())


class TestCoder:
    def test_codes_better_with_more_bytes(self, coder):
        sound, sizes, errors = recording(), [], []
        for quality in coder.qualities:
            data = coder.encode(sound, quality)
            decoded = coder.decode(data)
            assert (decoded.samples.shape, decoded.rate) == (sound.samples.shape, sound.rate)
            check_parts(coder, data)
            sizes.append(len(data))
            errors.append(noise(decoded, sound))
        assert all(a < b for a, b in pairwise(sizes)), sizes
        assert all(a > b for a, b in pairwise(errors)), errors

    @pytest.mark.parametrize(("rate", "channels", "samples"), [(16_000, 2, 9001), (11_025, 1, 5000), (8000, 8, 1)])
    def test_codes_other_rates_and_channels(self, coder, rate, channels, samples):
        sound = recording(samples, channels, rate)
        decoded = coder.decode(coder.encode(sound, 90))
        assert (decoded.samples.shape, decoded.rate) == (sound.samples.shape, rate)
        assert samples == 1 or noise(decoded, sound) < 0.9

    def test_is_the_codec_that_users_have(self, coder, weights):
        sound, codec = recording(9000, 2), AudioCodec(str(weights.path))
        with torch_threads(1):  # As the coder; on more, floats of the analysis differ in the last digit.
            encoded = codec.encode(sound, quality=30)
            decoded = codec.decode(encoded.data)
        assert coder.encode(sound, 30) == encoded.data
        assert coder.payload_bytes(encoded.data) == encoded.payload_bytes
        assert np.array_equal(coder.decode(encoded.data).samples, decoded.samples)

    def test_tags_are_left_out(self, coder):
        plain = recording(3000)
        tagged = Sound(plain.samples, plain.rate, (("TITLE", "A long talk"),))
        assert coder.encode(tagged, 50) == coder.encode(plain, 50)

    def test_rate_is_what_the_file_takes(self, weights):
        coder = create_coder(f"triode:model={weights.path},target=kbps", "audio")
        sound = recording(16_000)
        low, high = (8 * len(coder.encode(sound, kbps)) / sound.seconds / 1000 for kbps in (12, 18))
        assert 9 < low <= 12 < high <= 18
        assert coder.name == f"{NAME}-kbps"
        assert coder.facts().options["target"] == "kbps"
        with pytest.raises(UnsupportedError, match="cannot be met"):
            coder.encode(sound, 0.1)

    def test_chunks_are_as_long_as_asked(self, weights):
        coder = create_coder(f"triode:model={weights.path},chunk=0.1", "audio")
        assert AudioCodec().info(coder.encode(recording(8000), 20)).chunk_seconds == pytest.approx(0.1, abs=0.02)

    def test_refuses_what_is_not_valid(self, coder):
        with pytest.raises(ValueError, match="must be a Sound"):
            coder.encode(np.zeros((1, 5), np.float32), 50)
        with pytest.raises(UnsupportedError, match="without samples"):
            coder.encode(Sound(np.zeros((1, 0), np.float32), 8000), 50)
        with pytest.raises(UnsupportedError, match="8 channels at most, not 9"):
            coder.encode(Sound(np.zeros((9, 50), np.float32), 8000), 50)
        for quality in (-1, 101):
            with pytest.raises(ValueError, match=f"Quality .*{quality}"):
                coder.encode(recording(100), quality)
        data = coder.encode(recording(3000), 50)
        for bad in (b"", data[:20], data[:-4]):
            with pytest.raises(BitstreamError):
                coder.decode(bad)

    def test_options_are_checked(self, weights):
        with pytest.raises(ModelMismatchError, match="No weights named 'nope'"):
            create_coder("triode:model=nope", "audio")
        for option, message in (
            ("threads=0", "integer in 1..64"),
            ("chunk=0", "number in"),
            ("target=bpp", "one of quality, kbps"),
            ("effort=low", "it has: model, target, chunk, threads"),
        ):
            with pytest.raises(ValueError, match=message):
                create_coder(f"triode:model={weights.path},{option}", "audio")
        assert "triode" in list_coders("audio")

    def test_weights_of_pictures(self):
        with pytest.raises(ModelMismatchError, match="weights for image"):
            create_coder("triode:model=image-light.v2", "audio")

    def test_facts(self, coder, weights):
        facts = coder.facts()
        assert coder.name == NAME == facts.options["model"]
        assert (facts.kind, facts.parameters) == ("learned", weights.parameters)
        assert (facts.encode_kmac, facts.decode_kmac) == (1.5, 2.5)
        assert facts.options["model_rate"] == MODEL_RATE
        assert facts.digest == hashlib.sha256(weights.path.read_bytes()).hexdigest()
        assert json.loads(json.dumps(dict(facts.options))) == dict(facts.options)
        assert {"triode", "torch"} <= facts.versions.keys()

    def test_threads_are_set_while_coding_only(self, weights, monkeypatch):
        seen, before = [], torch.get_num_threads()
        original = AudioCodec.decode
        monkeypatch.setattr(
            AudioCodec, "decode", lambda self, data: seen.append(torch.get_num_threads()) or original(self, data)
        )
        coders = [create_coder(f"triode:model={weights.path},threads={count}", "audio") for count in (1, 2)]
        data = coders[0].encode(recording(1000), 50)
        for one in coders:
            one.decode(data)
        assert (seen, torch.get_num_threads()) == ([1, 2], before)


class Splitting(RangeReader):
    """Counts the ideal code length of the first call for each channel, which is z, and of the others."""

    def __init__(self, data):
        super().__init__(data)
        self.counts = [CountingWriter(), CountingWriter()]
        self.first = True

    def read(self, index, tables):
        symbols = super().read(index, tables)
        self.counts[not self.first].write(symbols, index, tables)
        self.first = False
        return symbols


class TestParts:
    @pytest.mark.parametrize("quality", [10, 90])
    def test_weigh_what_their_symbols_do(self, coder, weights, quality):
        data = coder.encode(recording(40_000, 2), quality)
        parts, reader = coder.parts(data), ContainerReader(io.BytesIO(data))
        head, model, z, y, units, levels = reader.head.audio, load_weights(str(weights.path), object).model, 0, 0, 0, 0
        for unit in reader.units():
            sound = read_sound_unit(unit.payload, head, unit.index)
            splitting = Splitting(sound.coded)
            for _ in range(2):
                splitting.first = True
                frames = Chunking.of_file(model, head).padded(head.unit_frames(unit.index))
                model.decode(frames, torch.tensor([unit.rate_point]), splitting)
            z, y = (sum_ + count.bits / 8 for sum_, count in zip((z, y), splitting.counts, strict=True))
            units, levels = units + 1, levels + len(unit.payload) - len(sound.coded)
        assert units == 3
        assert set(parts) == {"header", "index", "levels", "z", "y"}
        assert (parts["index"], parts["levels"]) == (0, levels)
        assert z <= parts["z"] <= z + 2 * units
        assert abs(parts["y"] - y) <= 2 * units
        assert sum(parts.values()) == len(data)
        assert coder.payload_bytes(data) == parts["levels"] + parts["z"] + parts["y"]

    def test_long_files_have_an_index(self, weights):
        coder = create_coder(f"triode:model={weights.path},chunk=0.032", "audio")
        data = coder.encode(recording(20_000), 20)
        reader = ContainerReader(io.BytesIO(data))
        assert reader.head.units > 64
        assert coder.parts(data)["index"] == next(c.size for c in reader.structure() if c.type == "indx") > 64
        check_parts(coder, data)

    def test_silence_has_no_symbols(self, coder):
        data = coder.encode(Sound(np.zeros((2, 20_000), np.float32), MODEL_RATE), 50)
        parts = coder.parts(data)
        assert (parts["z"], parts["y"]) == (0, 0)
        check_parts(coder, data)

    def test_of_a_model_without_side_information(self, monkeypatch):
        monkeypatch.setattr("triode.eval.ours.load_weights", lambda *_: tiny_sound())
        coder = create_coder("triode:model=tiny-sound.v1", "audio")
        data = coder.encode(Sound(smooth_sound(2, 3000), RATE), 50)
        assert set(coder.parts(data)) == {"header", "index", "levels", "y"}
        check_parts(coder, data)


class TestCodebooks:
    @pytest.fixture(scope="class")
    @classmethod
    def coder(cls, tmp_path_factory):
        path = tmp_path_factory.mktemp("weights") / "tiny-dac.v1.safetensors"
        save_weights(tiny_vq("dac"), path, name="tiny-dac.v1", architecture="dac")
        return create_coder(f"triode:model={path}", "audio")

    def test_each_number_of_stages_is_a_quality(self, coder):
        model = coder._weights.model
        sound = recording(3000, rate=model.sample_rate)
        files = [coder.encode(sound, quality) for quality in coder.qualities]
        assert len(coder.qualities) == model.stages > 1
        assert all(len(a) < len(b) for a, b in pairwise(files))
        for data in files:
            assert coder.decode(data).samples.shape == (1, 3000)
            assert set(coder.parts(data)) == {"header", "index", "levels", "y"}
            check_parts(coder, data)

    def test_of_many_stages_some(self, monkeypatch):
        class Deep(TinySound):
            rates = tuple(range(1, 33))

            def rate_point(self, stages):
                return 2 * (stages - 1)

        deep = replace(tiny_sound(), model=Deep().eval())
        monkeypatch.setattr("triode.eval.ours.load_weights", lambda *_: deep)
        qualities = create_coder("triode:model=deep.v1", "audio").qualities
        assert [quality_to_point(quality) for quality in qualities] == [0, 8, 18, 26, 36, 44, 54, 62]


@pytest.mark.usefixtures("home")
class TestItems:
    @pytest.fixture
    def file(self, tmp_path, coder):
        path = tmp_path / "a.tri"
        path.write_bytes(coder.encode(recording(12_000, 2, 16_000), 70))
        return path

    def test_are_decoded(self, file):
        item = load_item(file)
        assert np.array_equal(item.samples, AudioCodec().decode(file.read_bytes()).samples)
        assert guess_media(file) == "audio"
        assert np.array_equal(load_item(file, "audio").samples, item.samples)
        facts = item_facts(file, item)
        assert (facts.units, facts.shape, facts.raw_bytes) == (0.75, (2, 16_000), 48_000)
        with pytest.raises(UnsupportedError, match="holds audio, where image"):
            load_item(file, "image")

    def test_damage(self, file):
        file.write_bytes(file.read_bytes()[:-60])
        with pytest.raises(BitstreamError):
            load_item(file)

    def test_compare(self, tmp_path, file, capsys):
        soundfile = pytest.importorskip("soundfile")
        sound = recording(12_000, 2, 16_000)
        soundfile.write(tmp_path / "a.wav", sound.samples.T, 16_000, "FLOAT")
        assert main(["compare", str(tmp_path / "a.wav"), str(file), "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["media"] == "audio"
        assert found["kbps"] == pytest.approx(8 * file.stat().st_size / 750, rel=1e-6)
        error = load_item(file).samples - sound.samples
        assert set(found["metrics"]) == {"si-sdr", "mel"}
        assert abs(found["metrics"]["si-sdr"] - 10 * np.log10(0.02 / np.square(error).mean())) < 10
        assert found["metrics"]["mel"] > 0
        assert main(["compare", str(file), str(file), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["metrics"]["mel"] == 0
        soundfile.write(tmp_path / "b.wav", sound.samples.T[:-1], 16_000, "FLOAT")
        assert main(["compare", str(tmp_path / "b.wav"), str(file)]) == 2
        assert "11999 samples" in capsys.readouterr().err


class TestReport:
    def test_to_listen_to(self, tmp_path, weights):
        """Our codec and one of the anchors, with the samples of both in the page, each as long as the original."""
        soundfile = pytest.importorskip("soundfile")
        sound = recording(12_000, 2, 12_000)
        own = f"triode:model={weights.path}"
        results = bench(
            "audio",
            [("talk", sound)],
            [own, f"{own},target=kbps", "flac"],
            qualities={NAME: (20, 50, 80), f"{NAME}-kbps": (24, 30, 36)},
            metrics=["si-sdr", "mel"],
            out=tmp_path,
            samples=1,
        )
        assert [m.error for m in results.measurements] == [None] * 7
        measured = {(m.codec, m.quality): m for m in results.measurements}
        for quality in (20, 50, 80):
            m = measured[NAME, quality]
            assert m.bytes == sum(m.parts.values())
            assert m.metrics["mel"] > 0
        assert all(8 * measured[f"{NAME}-kbps", k].bytes <= 1000 * k for k in (24, 30, 36))
        page = (tmp_path / "report.html").read_text()
        assert 'id="listener"' in page
        samples = re.findall(r'data:audio/flac;base64,([^"&]+)', page)
        assert len(samples) >= 7
        for text in samples:
            x, rate = soundfile.read(io.BytesIO(base64.b64decode(text)))
            assert (x.shape, rate) == ((12_000, 2), 12_000)
        for part in ("levels", NAME, f"Triode {NAME}, searched for kb/s"):
            assert part in page

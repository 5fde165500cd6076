import hashlib
import importlib
import math
import sys
import types
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from triode.errors import BitstreamError, UnsupportedError
from triode.eval.anchors.neural_audio import _pack, _unpack
from triode.eval.coder import create_coder, list_coders
from triode.media import Sound

HOP = 320
NAMES = {"encodec": "encodec", "dac": "dac", "snac": "snac"}


def noise(frames, rate, channels=1):
    samples = np.random.default_rng(frames).uniform(-0.5, 0.5, (channels, frames))
    return Sound(samples.astype(np.float32), rate)


def levels(waves, bins):
    """Make codes of a sound: a sample in every hop, in so many levels."""
    at_hop = nn.functional.pad(waves, (0, -waves.shape[-1] % HOP))[..., ::HOP]
    return ((at_hop + 1) / 2 * (bins - 1)).round().long()


def wave(codes, bins):
    return (codes.float() / (bins - 1) * 2 - 1).repeat_interleave(HOP, dim=-1)


class FakeEncodec(nn.Module):
    """A model with EnCodec's interface that keeps one sample in 320."""

    calls: ClassVar[list[tuple[str, bool, object]]] = []

    def __init__(self, rate, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.sample_rate, self.channels, self.bits_per_codebook = rate, channels, 10
        self.target_bandwidths = [1.5, 3.0] if channels == 1 else [3.0, 6.0]

    @classmethod
    def encodec_model_24khz(cls, pretrained=True, repository=None):
        cls.calls.append(("24khz", pretrained, repository))
        return cls(24000, 1)

    @classmethod
    def encodec_model_48khz(cls, pretrained=True, repository=None):
        cls.calls.append(("48khz", pretrained, repository))
        return cls(48000, 2)

    def set_target_bandwidth(self, bandwidth):
        if bandwidth not in self.target_bandwidths:
            raise ValueError("no such bandwidth")
        self.books = int(bandwidth / 0.75)

    def encode(self, x):
        assert x.shape[1] == self.channels
        if self.channels == 1:
            return [(levels(x, 1024).expand(-1, self.books, -1), None)]
        frames = []
        for start in range(0, x.shape[2], self.sample_rate):
            part = x[:, :, start : start + self.sample_rate]
            scale = part.abs().amax(dim=(1, 2))[:, None]
            codes = levels(part / scale[:, :, None], 1024)  # one book a channel
            frames.append((codes.repeat(1, self.books // 2, 1), scale))
        return frames

    def decode(self, frames):
        if self.channels == 1:
            ((codes, scale),) = frames
            assert scale is None
            return wave(codes[:, :1], 1024)
        return torch.cat([wave(codes[:, :2], 1024) * scale[:, :, None] for codes, scale in frames], dim=2)


class FakeQuantizer:
    def from_codes(self, codes):
        return wave(codes[:, :1], 1024), None, codes


class FakeDac(nn.Module):
    def __init__(self, sample_rate=44100, n_codebooks=9, **rest):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(5))
        self.sample_rate, self.n_codebooks, self.codebook_size = sample_rate, n_codebooks, 1024
        self.quantizer, self.hop_length = FakeQuantizer(), HOP
        assert (
            math.prod(rest["encoder_rates"]) == math.prod(rest["decoder_rates"]) == {44100: 512}.get(sample_rate, HOP)
        )

    def preprocess(self, waves, rate):
        assert rate == self.sample_rate
        return nn.functional.pad(waves, (0, -waves.shape[-1] % HOP))

    def encode(self, waves, n_quantizers=None):
        return None, levels(waves, 1024).expand(-1, n_quantizers, -1), None, None, None

    def decode(self, z):
        return z[..., :-8]  # as the real ones with a layer of odd stride


class FakeSnac(nn.Module):
    def __init__(self, sampling_rate, vq_strides, codebook_size=4096, **rest):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(7))
        self.sampling_rate, self.strides, self.codebook_size = sampling_rate, vq_strides, codebook_size
        self.n_codebooks = len(vq_strides)

    def encode(self, waves):
        waves = nn.functional.pad(waves, (0, -waves.shape[-1] % (HOP * self.strides[0])))
        fine = levels(waves, 4096)[:, 0]
        return [fine[:, ::stride] for stride in self.strides]

    def decode(self, codes):
        assert [code.shape[1] * stride for code, stride in zip(codes, self.strides, strict=True)] == [
            codes[-1].shape[1]
        ] * self.n_codebooks
        return wave(codes[-1][:, None], 4096) + 1e-9 * torch.randn(1)


@pytest.fixture
def fakes(monkeypatch, tmp_path):
    """Put packages in place that have the interfaces of the real ones, and caches without files."""
    pytest.importorskip("scipy")
    FakeEncodec.calls.clear()
    for name, attribute, kind in (("encodec", "EncodecModel", FakeEncodec), ("dac", "DAC", FakeDac)):
        module = types.ModuleType(name)
        setattr(module, attribute, kind)
        monkeypatch.setitem(sys.modules, name, module)
    snac = types.ModuleType("snac")
    snac.SNAC = FakeSnac
    monkeypatch.setitem(sys.modules, "snac", snac)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setenv("HOME", str(tmp_path))
    # Not set_dir: it could not be undone, as it hides TORCH_HOME from then on.
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "hub"))
    return tmp_path


class TestPacking:
    @given(st.integers(1, 16), st.data())
    def test_round_trip_in_as_few_bytes_as_there_can_be(self, bits, data):
        values = data.draw(st.lists(st.integers(0, (1 << bits) - 1), max_size=50))
        packed = _pack([np.array(values[:7], np.int64), np.array(values[7:], np.int64)], bits)
        assert len(packed) == math.ceil(len(values) * bits / 8)
        assert _unpack(packed, len(values), bits).tolist() == values

    def test_bits_by_hand(self):
        assert _pack([np.array([[1, 2], [1023, 0]])], 10) == bytes(
            [0b00000000, 0b01000000, 0b00101111, 0b11111100, 0b00000000]
        )


SPECS = [("encodec", 24000), ("encodec:model=48khz", 48000), ("dac:model=16khz", 16000), ("dac:model=24khz", 24000)]
SPECS += [("dac", 44100), ("snac", 24000), ("snac:model=32khz", 32000), ("snac:model=44khz", 44100)]


@pytest.mark.usefixtures("fakes")
class TestCodesCoder:
    @pytest.mark.parametrize(("spec", "rate"), SPECS)
    @pytest.mark.parametrize("channels", [1, 2])
    def test_what_the_network_keeps_comes_back(self, spec, rate, channels):
        sound = noise(5 * rate // 2 + 1, rate, channels)
        codec = create_coder(spec, "audio")
        for quality in codec.qualities:
            back = codec.decode(codec.encode(sound, quality))
            assert back.rate == rate
            assert back.samples.shape == sound.samples.shape
        np.testing.assert_allclose(back.samples[:, :rate:HOP], sound.samples[:, :rate:HOP], atol=1e-3)

    def test_bytes_are_those_of_the_codes(self):
        codec = create_coder("encodec", "audio")
        data = codec.encode(noise(24000, 24000), 3.0)
        payload = math.ceil(4 * 75 * 10 / 8)  # 4 books at 75 Hz, 10 bits each: 3 kb/s
        assert codec.payload_bytes(data) == payload == 375
        assert codec.parts(data) == {"header": 20, "payload": payload}
        assert len(data) == 20 + payload
        stereo = codec.encode(noise(24000, 24000, 2), 3.0)
        assert codec.payload_bytes(stereo) == 2 * payload

    def test_scales_are_counted(self):
        codec = create_coder("encodec:model=48khz", "audio")
        data = codec.encode(noise(3 * 48000 // 2, 48000, 2), 6.0)
        codes = 8 * (150 + 75)
        assert codec.payload_bytes(data) == 2 * 4 + math.ceil(codes * 10 / 8)
        assert codec.parts(data)["header"] == 13 + 2 * 7

    def test_snac_s_scales_of_time(self):
        codec = create_coder("snac", "audio")
        data = codec.encode(noise(24000, 24000), 3)
        assert codec.payload_bytes(data) == math.ceil((19 + 38 + 76) * 12 / 8)

    @pytest.mark.parametrize("spec", ["encodec", "dac", "snac"])
    def test_other_rates_are_resampled(self, spec):
        codec = create_coder(spec, "audio")
        for rate, frames in ((16000, 8001), (48000, 1), (22050, 999)):
            back = codec.decode(codec.encode(noise(frames, rate), codec.qualities[0]))
            assert (back.rate, back.samples.shape) == (rate, (1, frames))

    def test_decoding_is_repeatable_and_leaves_torch_s_generator_alone(self):
        codec = create_coder("snac", "audio")
        data = codec.encode(noise(4000, 24000), 3)
        state = torch.get_rng_state()
        one, other = codec.decode(data), codec.decode(data)
        np.testing.assert_array_equal(one.samples, other.samples)
        assert torch.equal(torch.get_rng_state(), state)

    @pytest.mark.parametrize("name", NAMES)
    def test_damage(self, name):
        codec = create_coder(name, "audio")
        data = codec.encode(noise(4000, codec._network.rate), codec.qualities[-1])
        for damaged in (b"", data[:5], data[:-1], data + b"\0", bytes(13), bytes(len(data))):
            with pytest.raises(BitstreamError):
                codec.decode(damaged)
            with pytest.raises(BitstreamError):
                codec.payload_bytes(damaged)

    def test_wrong_use(self):
        for spec, quality in (("encodec", 2.0), ("dac", 10), ("dac", 1.5), ("snac", 2)):
            with pytest.raises(ValueError):  # noqa: PT011  # EnCodec's own words
                create_coder(spec, "audio").encode(noise(100, 24000), quality)
        codec = create_coder("encodec:model=48khz", "audio")
        with pytest.raises(UnsupportedError, match="2 channels"):
            codec.encode(noise(100, 48000, 3), 3.0)
        with pytest.raises(UnsupportedError, match="without samples"):
            codec.encode(noise(0, 48000), 3.0)
        for spec in ("encodec:model=16khz", "dac:weights=mine", "snac:x=1", "snac:threads=0"):
            with pytest.raises(ValueError, match=spec.split(":")[0]):
                create_coder(spec, "audio")

    def test_facts(self):
        facts = create_coder("encodec", "audio").facts()
        assert (facts.kind, facts.title, facts.parameters) == ("learned", "EnCodec (24khz, random weights)", 3)
        assert facts.digest is None
        assert facts.options["weights"] == "random"
        assert facts.encode_kmac == facts.decode_kmac == 0
        assert "torch" in facts.versions


class TestWeights:
    def test_published_ones_are_taken_from_the_cache(self, fakes):
        folder = fakes / "hub" / "checkpoints"
        folder.mkdir(parents=True)
        (folder / "encodec_24khz-d7cc33bc.th").write_bytes(b"weights")
        codec = create_coder("encodec", "audio")
        assert FakeEncodec.calls == [("24khz", True, folder)]
        assert codec.facts().digest == hashlib.sha256(b"weights").hexdigest()
        assert codec.facts().title == "EnCodec (24khz)"
        FakeEncodec.calls.clear()
        create_coder("encodec:weights=random", "audio")
        assert FakeEncodec.calls == [("24khz", False, None)]

    def test_dac_s_cache(self, fakes, monkeypatch):
        path = fakes / ".cache" / "descript" / "dac" / "weights_16khz_8kbps_0.0.5.pth"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"weights")
        rates = {"encoder_rates": [2, 4, 5, 8], "decoder_rates": [8, 5, 4, 2]}
        paths = []

        def load(name):
            paths.append(name)
            return FakeDac(16000, 12, **rates)

        monkeypatch.setattr(FakeDac, "load", load, raising=False)
        assert create_coder("dac:model=16khz,weights=published", "audio").facts().options["weights"] == "published"
        assert paths == [str(path)]

    def test_snac_s_cache(self, fakes, monkeypatch):
        hub = types.ModuleType("huggingface_hub")
        hub.try_to_load_from_cache = lambda repo, name: str(fakes / name) if repo.endswith("snac_24khz") else None
        monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
        for name in ("config.json", "pytorch_model.bin"):
            (fakes / name).write_bytes(b"weights")
        load = lambda folder: FakeSnac(24000, [4, 2, 1]) if folder == str(fakes) else None  # noqa: E731
        monkeypatch.setattr(FakeSnac, "from_pretrained", load, raising=False)
        assert create_coder("snac", "audio").facts().digest == hashlib.sha256(b"weights").hexdigest()
        assert create_coder("snac:model=32khz", "audio").facts().digest is None

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.usefixtures("fakes")
    def test_nothing_is_downloaded(self, name):
        with pytest.raises(UnsupportedError, match="are not there"):
            create_coder(f"{name}:weights=published", "audio")
        create_coder(name, "audio")
        assert not any(pretrained for _, pretrained, _ in FakeEncodec.calls)


@pytest.mark.parametrize(
    ("name", "package"), [("encodec", "encodec"), ("dac", "descript-audio-codec"), ("snac", "snac")]
)
def test_missing_package(monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UnsupportedError, match=package):
        create_coder(name, "audio")
    assert name in list_coders("audio")


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["encodec:weights=random", "snac:weights=random", "dac:model=16khz,weights=random"])
def test_real_packages(spec):
    """Where they are installed: the published architectures, whose rates their papers state."""
    name = spec.partition(":")[0]
    try:
        importlib.import_module(name)
    except ImportError as error:
        pytest.skip(str(error))
    sound = noise(24000, 24000)
    codec = create_coder(spec, "audio")
    low, high = codec.qualities[0], codec.qualities[-1]
    back = codec.decode(codec.encode(sound, low))
    assert back.samples.shape == sound.samples.shape
    found = codec.payload_bytes(codec.encode(sound, high)) * 8 / 1000
    assert found == pytest.approx({"encodec": 24, "snac": 0.984, "dac": 6}[name], rel=0.05)
    assert codec.facts().parameters > 10_000_000
    assert codec.facts().decode_kmac > 50

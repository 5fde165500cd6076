"""What codecs with vector quantisers share: rates by stages, bits by the prior, codes through real bytes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models.tiny_audio import tone
from models.tiny_vq import CONFIGS, RATE, tiny_vq
from torch import Tensor, nn

from triode.codecs.audio import AudioCodec
from triode.entropy.coder import CountingWriter, RangeReader, RangeWriter
from triode.entropy.vq.plain import PlainVQ
from triode.entropy.vq.residual import ResidualVQ
from triode.errors import CodecError, UnsupportedError
from triode.media import Sound
from triode.models.audio.vq_codec import VqCodec, VqConfig, make_prior
from triode.models.base import AudioModel
from triode.models.registry import create_model, get_architecture
from triode.models.weights import load_weights, save_weights

NAMES = sorted(CONFIGS)
PRIORS = {"static": {}, "context": {"prior": "context", "prior_width": 4, "prior_hidden": 6, "prior_depth": 2}}


def sound(model: VqCodec, frames: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(tone(frames * model.hop, seed))[None, None]


def frames_of(model: VqCodec, least: int) -> int:
    return -(-least // model.multiple) * model.multiple


class Symbols:
    """A writer that keeps what is written."""

    def __init__(self):
        self.all = []

    def write(self, symbols, index, tables):
        self.all += symbols.tolist()
        return symbols


def tiny_chain(stages: int, gain: float = 1.0) -> VqCodec:
    """A codec whose networks do next to nothing: two samples a frame, as channels."""
    torch.manual_seed(0)
    encoder, decoder = nn.Conv1d(1, 2, 2, stride=2), nn.ConvTranspose1d(2, 1, 2, stride=2)
    quantizer = ResidualVQ([PlainVQ(2, 5, kmeans_iterations=0) for _ in range(stages)])
    config = VqConfig(sample_rate=100, input_gain=gain)
    return VqCodec(config, encoder, quantizer, decoder, hop=2, analysis_halo=0, synthesis_halo=0).eval()


class TestRatePoints:
    @given(stages=st.integers(1, 64), q=st.integers(0, 63))
    def test_stages_rise_evenly_from_one_to_all(self, stages, q):
        codec = VqCodec.__new__(VqCodec)
        nn.Module.__init__(codec)
        codec.quantizer = ResidualVQ([PlainVQ(1, 2) for _ in range(stages)])
        counts = codec.stage_counts(torch.arange(64))
        assert (int(counts[0]), int(counts[-1])) == (1, stages)
        assert set(counts.diff().tolist()) <= {0, 1}
        sizes = torch.bincount(counts)[1:]
        assert int(sizes.max()) - int(sizes.min()) <= 1
        point = codec.rate_point(int(counts[q]))
        assert point <= q
        assert counts[point] == counts[q]
        assert point == 0 or counts[point - 1] == counts[q] - 1
        assert counts[q] <= int(codec.stage_counts(torch.tensor([min(q + 0.5, 63.0)]))[0]) <= counts[min(q + 1, 63)]

    def test_bounds(self):
        codec = tiny_chain(3)
        for stages in (0, 4):
            with pytest.raises(ValueError, match=r"must be in 1\.\.3"):
                codec.rate_point(stages)
        with pytest.raises(ValueError, match="at most 64 stages, but got 65"):
            tiny_chain(65)

    def test_lambda_does_not_weigh(self):
        assert tiny_chain(2).rate_lambda(torch.tensor([0, 20, 63])).tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("name", NAMES)
class TestForward:
    def test_shapes_and_bits_by_stage(self, name):
        model = tiny_vq(name)
        x = torch.cat([sound(model, frames_of(model, 12), i) for i in range(3)])
        q = torch.tensor([0.0, 30.0, 63.0])
        out = model(x, q)
        assert out.x_hat.shape == x.shape
        assert list(out.bits) == [f"stage{n + 1}" for n in range(model.stages)]
        bits = torch.stack(list(out.bits.values()), 1)
        assert ((bits > 0).sum(1) == model.stage_counts(q)).all()
        codes = model.codes(x)
        assert torch.allclose(bits.sum(1), model.prior(codes, model.stage_counts(q)))

    def test_reconstructs_what_the_codec_decodes(self, name):
        model = tiny_vq(name)
        model.export()
        x = sound(model, frames_of(model, 16))
        for point in (0, 40, 63):
            q = torch.tensor([point])
            with torch.no_grad():
                expected = model(x, q).x_hat
                y_hat = model.encode(model.analysis(x, q), q, CountingWriter())
                found = model.synthesis(model.dequantise(y_hat, q), q)
            assert torch.allclose(found, expected, atol=1e-5)

    def test_gradient_reaches_what_learns_by_it(self, name):
        model = tiny_vq(name).train()
        x = torch.cat([sound(model, frames_of(model, 24), i) for i in range(4)])
        coded = model.quantised(x, torch.tensor([model.stages] * 3 + [1]))
        assert coded.counts.tolist() == [model.stages] * 3 + [1]
        bits = sum(model.code_bits(coded.quantized.codes, coded.counts).values())
        ((coded.x_hat - x).square().mean() + coded.quantized.loss.mean() + bits.mean()).backward()
        idle = [n for n, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())]
        assert idle == []
        assert all(bool(p.grad.isfinite().all()) for p in model.parameters())

    def test_bits_teach_the_prior_alone(self, name):
        model = tiny_vq(name).train()
        x = sound(model, frames_of(model, 12))
        coded = model.quantised(x)
        sum(model.code_bits(coded.quantized.codes, coded.counts).values()).sum().backward()
        reached = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is not None}
        assert reached == {"prior"}

    def test_without_quantiser(self, name):
        model = tiny_vq(name)
        x = sound(model, frames_of(model, 12))
        with torch.no_grad():
            expected = model.sound(model.quantizer.bypass(model.features(x)))
            assert torch.equal(model.unquantised(x), expected)
            assert not torch.allclose(model.unquantised(x), model.quantised(x).x_hat, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("prior", sorted(PRIORS))
class TestEntropyPath:
    def test_codes_return(self, name, prior):
        model = tiny_vq(name, **PRIORS[prior])
        model.export()
        frames = frames_of(model, 18)
        y = model.analysis(sound(model, frames), torch.tensor([0])).detach()
        for point in (0, 31, 63):
            q, writer = torch.tensor([point]), RangeWriter()
            written = model.encode(y, q, writer)
            stages = int(model.stage_counts(q)[0])
            assert written.shape == (1, stages, 1, frames)
            assert written.dtype == torch.float32
            assert torch.equal(model.decode(frames, q, RangeReader(writer.getvalue())), written)
            codes = model.quantizer.encode(y[:, :, 0], stages)
            for row, code, stride in zip(written[0, :, 0], codes, model.quantizer.strides, strict=False):
                assert torch.equal(row.long(), code[0].repeat_interleave(stride))
            assert torch.equal(model.dequantise(written, q)[:, :, 0], model.quantizer.decode(codes))

    def test_a_lower_rate_is_a_prefix(self, name, prior):
        model = tiny_vq(name, **PRIORS[prior])
        model.export()
        y = model.analysis(sound(model, frames_of(model, 18)), torch.tensor([0])).detach()
        before: list[int] = []
        for stages in model.rates:
            symbols = Symbols()
            model.encode(y, torch.tensor([model.rate_point(stages)]), symbols)
            assert symbols.all[: len(before)] == before
            assert len(symbols.all) > len(before)
            before = symbols.all

    def test_costs_what_training_measures(self, name, prior):
        model = tiny_vq(name, **PRIORS[prior])
        model.fit_prior([tone(2 * RATE, 3)])
        model.export()
        x, q = sound(model, frames_of(model, 100)), torch.tensor([63])
        writer = CountingWriter()
        with torch.no_grad():
            model.encode(model.analysis(x, q), q, writer)
            bits = float(sum(model(x, q).bits.values()))
        assert writer.bits == pytest.approx(bits, rel=0.02)


@pytest.mark.parametrize(("name", "prior"), [*((name, "static") for name in NAMES), ("snac", "context")])
class TestFiles:
    def test_weights_through_a_file(self, name, prior, tmp_path):
        model = tiny_vq(name, **PRIORS[prior])
        model.fit_prior([tone(RATE, 3)])
        path = tmp_path / "tiny-vq.v1.safetensors"
        info = save_weights(model, path, name="tiny-vq.v1", architecture=name)
        again = load_weights(str(path), AudioModel)
        assert (again.info.media, again.info.architecture) == ("audio", name)
        assert again.model.config == model.config
        assert info.known_answer == again.info.known_answer
        codec = AudioCodec(str(path), chunk_seconds=0.1)
        samples = np.stack([tone(RATE // 2, 1), 0.3 * tone(RATE // 2, 2)])
        sizes = []
        for quality in (0, 100):
            coded = codec.encode(Sound(samples, RATE), quality=quality)
            whole = codec.decode(coded.data)
            assert whole.samples.shape == samples.shape
            assert bool(np.isfinite(whole.samples).all())
            part = codec.decode(coded.data, start=1234, stop=3210)
            assert np.array_equal(part.samples, whole.samples[:, 1234:3210])
            assert codec.verify(coded.data).chunks > 1
            sizes.append(len(coded.data))
        assert sizes[0] < sizes[1]


class TestFitPrior:
    def test_takes_its_recordings_to_the_level_and_lowers_the_bits(self):
        model = tiny_vq("dac")
        sounds = [tone(RATE, i) for i in range(3)]
        x = torch.from_numpy(sounds[0][: RATE // model.hop * model.hop])[None, None]
        before = float(model.prior(model.codes(x)).detach())
        assert before == pytest.approx(np.log2(24) * 3 * x.shape[-1] / model.hop, rel=1e-5)
        model.fit_prior([*sounds, np.zeros(RATE, np.float32), tone(model.hop - 1)])
        after = float(model.prior(model.codes(x)).detach())
        assert after < 0.95 * before
        assert not model.training
        louder = tiny_vq("dac")
        louder.fit_prior([4 * s for s in sounds])
        assert float(louder.prior(louder.codes(x)).detach()) == pytest.approx(after, rel=1e-3)

    @pytest.mark.parametrize("sounds", [[], [np.zeros(RATE, np.float32)], [tone(7)]])
    def test_wants_sound(self, sounds):
        with pytest.raises(ValueError, match="must hold sound that is not silent"):
            tiny_vq("dac").fit_prior(sounds)


class TestArguments:
    def test_input_gain(self):
        plain, scaled = tiny_chain(2), tiny_chain(2, gain=0.5)
        x = torch.randn(1, 1, 20)
        assert torch.allclose(scaled.features(x), plain.features(0.5 * x))
        y = torch.randn(1, 2, 10)
        assert torch.allclose(scaled.sound(y), 2 * plain.sound(y))
        with pytest.raises(ValueError, match="`input_gain` must be positive"):
            tiny_chain(2, gain=0.0)

    def test_unknown_prior(self):
        with pytest.raises(ValueError, match="'static' or 'context', but got 'oracle'"):
            make_prior(VqConfig(prior="oracle"), (4,))

    def test_not_exported(self):
        model = tiny_vq("dac")
        y = model.analysis(sound(model, 4), torch.tensor([0])).detach()
        with pytest.raises(UnsupportedError, match="export"):
            model.encode(y, torch.tensor([0]), RangeWriter())

    @pytest.mark.parametrize("name", NAMES)
    def test_registered(self, name):
        assert get_architecture(name).media == "audio"
        changes = {k: v for k, v in dataclasses.asdict(CONFIGS[name]).items() if k != "sample_rate"}
        assert isinstance(create_model(name, **changes), VqCodec)


def test_damage_is_found(tmp_path):
    model = tiny_vq("snac")
    path = tmp_path / "tiny-vq.v1.safetensors"
    save_weights(model, path, name="tiny-vq.v1", architecture="snac")
    codec = AudioCodec(str(path))
    data = codec.encode(Sound(tone(RATE)[None], RATE), quality=60).data
    for place in range(len(data) // 2, len(data), 37):
        broken = bytearray(data)
        broken[place] ^= 0x10
        with pytest.raises(CodecError):
            codec.decode(bytes(broken))

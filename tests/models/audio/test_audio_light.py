"""`audio-light`: shapes, halos, the integer path, and the transform codec that it starts from."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from models.tiny_audio import TINY_SOUND, tiny_sound_model, tone
from torch import Tensor

from triode.entropy.coder import CountingWriter, RangeReader, RangeWriter
from triode.errors import UnsupportedError
from triode.models.audio.audio_light import AudioLight, AudioLightConfig
from triode.models.complexity import count_sound_macs
from triode.models.registry import create_model, get_architecture

HOP, LATENT = TINY_SOUND.hop, TINY_SOUND.coefficients + TINY_SOUND.envelope


def sound(frames: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(tone(frames * HOP, seed))[None, None]


@pytest.fixture(scope="module")
def model() -> AudioLight:
    """An exported model that rounds to nearest, whose ladder indices keep away from 0, as for `image-light`."""
    net = tiny_sound_model()
    net.rdoq = 0.0
    with torch.no_grad():
        net.entropy.context.parameter_net.index_bias.bias.add_(12)
    net.export()
    return net


class TestForward:
    @pytest.mark.parametrize(("batch", "frames"), [(1, 4), (3, 12)])
    @pytest.mark.parametrize("training", [True, False])
    def test_shapes(self, batch, frames, training):
        net = tiny_sound_model().train(training)
        x = torch.cat([sound(frames, i) for i in range(batch)])
        out = net(x, torch.linspace(0, 63, batch))
        assert out.x_hat.shape == x.shape
        assert out.bits.keys() == {"y", "z"}
        assert all(bits.shape == (batch,) and bool((bits > 0).all()) for bits in out.bits.values())

    def test_samples_do_not_mix(self):
        net, q = tiny_sound_model(), torch.tensor([5.0, 60.0])
        x = torch.cat([sound(8, i) for i in range(2)])
        with torch.no_grad():
            together = net(x, q)
            for i in range(2):
                alone = net(x[i : i + 1], q[i : i + 1])
                assert torch.allclose(alone.x_hat[0], together.x_hat[i], atol=1e-5)
                assert float(alone.bits["y"]) == pytest.approx(float(together.bits["y"][i]), rel=1e-3)

    def test_rate_and_quality_rise_with_the_rate_point(self):
        net, x = tiny_sound_model(), sound(60)
        with torch.no_grad():
            outs = [net(x, torch.tensor([float(q)])) for q in (0, 20, 40, 63)]
        bits = [float(sum(o.bits.values())) for o in outs]
        errors = [float((o.x_hat - x).square().mean()) for o in outs]
        assert bits == sorted(bits)
        assert errors == sorted(errors, reverse=True)

    def test_gradient_reaches_every_parameter(self):
        torch.manual_seed(0)
        net = tiny_sound_model(noise=0.6).train()
        x = torch.cat([sound(12, i) for i in range(8)])
        out = net(x, torch.linspace(0, 63, 8))
        (sum(out.bits.values()).mean() / 1000 + (out.x_hat - x).square().mean() * 1000).backward()
        grads = {n: p.grad for n, p in net.named_parameters()}
        assert [n for n, g in grads.items() if g is None or float(g.abs().sum()) == 0] == []
        assert all(bool(g.isfinite().all()) for g in grads.values())

    def test_silence_has_finite_gradients(self):
        net = tiny_sound_model().train()
        out = net(torch.zeros(1, 1, 8 * HOP), torch.tensor([30.0]))
        (sum(out.bits.values()).mean() + out.x_hat.square().mean()).backward()
        assert all(bool(p.grad.isfinite().all()) for p in net.parameters() if p.grad is not None)

    def test_while_settling_rates_and_errors_reach_different_parameters(self):
        net, x, q = tiny_sound_model(), sound(12), torch.tensor([20.0])
        settled = net(x, q)
        net.settling = True
        out = net(x, q)
        assert torch.allclose(out.x_hat, settled.x_hat, atol=1e-5)
        assert torch.allclose(out.bits["y"], settled.bits["y"])

        def reached(loss):
            net.zero_grad()
            loss.backward(retain_graph=True)
            return {n.split(".")[0] for n, p in net.named_parameters() if p.grad is not None and bool(p.grad.any())}

        assert reached(sum(out.bits.values()).sum()) == {"entropy"}
        assert reached(out.x_hat.square().sum()) == {"g_a", "g_s", "inverse_gain"}


class TestHalos:
    """A chunk with its halo gives inside what the whole gives, and one frame less would not do."""

    CHUNK = 8

    def difference(self, whole: Tensor, part: Tensor, start: int, unit: int, margin: int) -> float:
        inside = part[..., margin * unit : (margin + self.CHUNK) * unit]
        return float((whole[..., start * unit : (start + self.CHUNK) * unit] - inside).abs().max())

    @pytest.mark.parametrize("config", [TINY_SOUND, replace(TINY_SOUND, block=64, kernel=5, encoder_blocks=2)])
    def test_analysis(self, config):
        net, x, q, start = tiny_sound_model(config=config, noise=1.0), sound(60), torch.tensor([20]), 24
        with torch.no_grad():
            whole = net.analysis(x, q)
            errors = []
            for halo in (net.analysis_halo, net.analysis_halo - 1):
                part = net.analysis(x[..., (start - halo) * HOP : (start + self.CHUNK + halo) * HOP], q)
                errors.append(self.difference(whole, part, start, 1, halo))
        assert errors[0] < 1e-5
        assert errors[1] > 4 * errors[0]

    @pytest.mark.parametrize("config", [TINY_SOUND, replace(TINY_SOUND, block=64, kernel=5, decoder_blocks=1)])
    def test_synthesis(self, config):
        net, q, start = tiny_sound_model(config=config, noise=1.0), torch.tensor([20]), 24
        with torch.no_grad():
            y = net.analysis(sound(60), q)
            whole = net.synthesis(y, q)
            errors = []
            for halo in (net.synthesis_halo, net.synthesis_halo - 1):
                part = net.synthesis(y[..., start - halo : start + self.CHUNK + halo], q)
                errors.append(self.difference(whole, part, start, HOP, halo))
        assert errors[0] < 1e-5
        assert errors[1] > 4 * errors[0]

    def test_begin_and_end_are_those_of_the_whole(self):
        net, x, q = tiny_sound_model(), sound(40), torch.tensor([20])
        halo = net.analysis_halo
        with torch.no_grad():
            whole = net.analysis(x, q)
            first = net.analysis(x[..., : (10 + halo) * HOP], q)[..., :10]
            last = net.analysis(x[..., -(10 + halo) * HOP :], q)[..., -10:]
        assert torch.allclose(whole[..., :10], first, atol=1e-5)
        assert torch.allclose(whole[..., -10:], last, atol=1e-5)


class TestEntropyPath:
    @pytest.mark.parametrize("point", [0, 31, 63])
    def test_integers_cost_what_training_estimates(self, model, point):
        x, q = sound(120), torch.tensor([point])
        with torch.no_grad():
            out = model(x, q.float())
            counter = CountingWriter()
            y_hat = model.encode(model.analysis(x, q), q, counter)
            x_hat = model.synthesis(model.dequantise(y_hat, q), q)
        assert counter.bits == pytest.approx(float(sum(out.bits.values())), rel=0.03)
        mse, expected = (float((p - x).square().mean()) for p in (x_hat, out.x_hat))
        assert mse == pytest.approx(expected, rel=0.03)

    @pytest.mark.parametrize("rdoq", [0.0, 1.0])
    @pytest.mark.parametrize("frames", [4, 8, 52])
    def test_round_trip(self, frames, rdoq):
        net = tiny_sound_model(3)
        net.rdoq = rdoq
        net.export()
        for point in (0, 31, 63):
            y, q, writer = torch.randn(1, LATENT, 1, frames), torch.tensor([point]), RangeWriter()
            sent = net.encode(y, q, writer)
            reader = RangeReader(writer.getvalue())
            got = net.decode(frames, q, reader)
            reader.check(writer.crc)
            assert got.dtype == torch.float32
            assert got.shape == y.shape
            assert torch.equal(sent, got)

    def test_odd_numbers_of_frames_round_trip_too(self, model):
        """The context pads to whole runs of four without coding what it adds."""
        q = torch.tensor([40])
        for frames in (1, 2, 3, 7):
            y, writer, counter = torch.randn(1, LATENT, 1, frames), RangeWriter(), CountingWriter()
            sent = model.encode(y, q, writer)
            assert torch.equal(sent, model.decode(frames, q, RangeReader(writer.getvalue())))
            model.encode(torch.cat([y, y[..., -1:].expand(-1, -1, -1, -frames % 4)], 3), q, counter)
            assert len(writer.getvalue()) * 8 < counter.bits

    def test_less_is_coded_with_optimised_quantisation(self):
        bits = {}
        net, y, q = tiny_sound_model(), tiny_sound_model().analysis(sound(60), torch.tensor([30])), torch.tensor([30])
        net.export()
        for rdoq in (0.0, 4.0, 1.0):
            net.rdoq = rdoq
            counter = CountingWriter()
            net.encode(y.detach(), q, counter)
            bits[rdoq] = counter.bits
        assert bits[0.0] > bits[4.0] > bits[1.0]

    def test_needs_an_export(self):
        with pytest.raises(UnsupportedError, match="export"):
            tiny_sound_model().decode(4, torch.tensor([0]), RangeReader(b""))


class TestLinearPath:
    def test_gives_back_what_it_was_given_before_training(self):
        config = replace(TINY_SOUND, coefficients=64)
        torch.manual_seed(0)
        net = AudioLight(config).eval()
        net.init_from_data([tone(4000, 1)])
        x, q = sound(20), torch.tensor([63])
        with torch.no_grad():
            x_hat = net.synthesis(net.analysis(x, q), q)
        assert float((x_hat - x).abs().max()) < 1e-5

    def test_leaves_out_high_frequencies_where_coefficients_are_fewer(self):
        net = AudioLight(TINY_SOUND).eval()
        net.init_from_data([tone(4000, 1)])
        q, n = torch.tensor([63]), torch.arange(40 * HOP)
        for frequency, lost in ((0.3, False), (0.45, True)):
            x = 0.1 * torch.sin(2 * math.pi * frequency * n)[None, None]
            with torch.no_grad():
                x_hat = net.synthesis(net.analysis(x, q), q)
            error = float((x_hat - x)[..., 200:-200].square().mean() / x.square().mean())
            assert error > 0.95 if lost else error < 0.01

    def test_envelope_channels_are_principal_components(self):
        net, sounds = AudioLight(TINY_SOUND).eval(), [tone(4000, i) for i in range(3)]
        net.init_from_data(sounds)
        q = torch.tensor([0])
        with torch.no_grad():
            parts = [net.analysis(torch.from_numpy(s[: len(s) // HOP * HOP])[None, None], q)[0, :, 0] for s in sounds]
        channels = torch.cat(parts, 1)[net.order()[TINY_SOUND.coefficients :]].double()
        covariance = torch.cov(channels)
        assert float(channels.mean(1).abs().max()) < 1e-4
        variances = covariance.diagonal()
        assert torch.equal(variances.sort(descending=True)[0], variances)
        assert float((covariance - variances.diag()).abs().max()) < 1e-4 * float(variances[0])

    def test_ladder_starts_at_the_deviations(self):
        net = AudioLight(TINY_SOUND).eval()
        deviations = torch.linspace(0.05, 4, LATENT)
        net.init_linear(torch.eye(10)[:8], torch.zeros(10), deviations)
        parameters = net.entropy.context.parameter_net
        with torch.no_grad():
            for fuse in parameters.fuse:
                fuse.weight.zero_()
                fuse.bias.zero_()
            for step in range(4):
                hyper, y_hat, q = torch.zeros(1, 12, 1, 8), torch.zeros(1, LATENT, 1, 8), torch.tensor([63.0])
                index = torch.cat([i[0, :, 0, 0] for _, i in parameters(step, y_hat, hyper, q)])
                scale = 0.11 * torch.exp(index * math.log(256 / 0.11) / 63)
                expected = deviations * 0.5 * net.gain.gain(q)[0, 0]
                assert torch.allclose(scale[net.order()], expected, rtol=1e-3)

    @pytest.mark.parametrize("sounds", [[], [np.zeros(4000, np.float32)], [tone(63)], [tone(64 * 9)]])
    def test_needs_enough_sound(self, sounds):
        with pytest.raises(ValueError, match="Need at least 10 frames"):
            AudioLight(TINY_SOUND).init_from_data(sounds)


class TestConfig:
    def test_order_deals_neighbours_to_different_groups(self):
        place = AudioLight(TINY_SOUND).order()
        assert sorted(place.tolist()) == list(range(LATENT))
        groups = place // (LATENT // 4)
        assert groups[:8].tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
        assert groups[-4:].tolist() == [0, 1, 2, 3]

    def test_rate_lambda_spans_its_range(self):
        net = AudioLight(TINY_SOUND)
        lam = net.rate_lambda(torch.linspace(0, 63, 64))
        assert float(lam[0]) == pytest.approx(TINY_SOUND.lambda_min)
        assert float(lam[-1]) == pytest.approx(TINY_SOUND.lambda_max)
        steps = lam[1:] / lam[:-1]
        assert torch.allclose(steps, steps[0].expand_as(steps))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"envelope": 7}, "multiple of 4"),
            ({"coefficients": 49, "envelope": 7}, "multiple of 2"),
            ({"coefficients": 68}, r"in 1\.\.64"),
            ({"block": 24}, "divide the hop"),
            ({"kernel": 4}, "must be odd"),
            ({"companding": 0.0}, "positive"),
        ],
    )
    def test_widths_that_do_not_suit(self, change, message):
        with pytest.raises((ValueError, ZeroDivisionError), match=message):
            AudioLight(replace(TINY_SOUND, **change))

    def test_is_registered_and_within_its_budget(self):
        entry = get_architecture("audio-light")
        assert (entry.media, entry.config) == ("audio", AudioLightConfig)
        found = count_sound_macs(create_model("audio-light"), 16000)
        assert found.parameters < 5_000_000
        # Forty times real time on a core that does 10 thousand million a second.
        assert 1 < found.kmac_decode <= 12
        assert 1 < found.kmac_encode <= 12

    def test_names_of_parameters(self):
        """Checkpoints hold these: a renamed parameter would make them useless."""
        names = set(AudioLight(TINY_SOUND).state_dict())
        assert {n.split(".")[0] for n in names} == {"g_a", "g_s", "gain", "inverse_gain", "entropy"}
        for name in (
            "g_a.linear.weight",
            "g_a.head.weight",
            "g_a.head_bias.bias",
            "g_a.blocks.0.expand.weight",
            "g_a.tail.bias",
            "g_s.linear.weight",
            "g_s.head_gain.log_gain",
            "g_s.blocks.1.merge.weight",
            "g_s.tail.weight",
            "entropy.h_a.net.2.conv.weight",
            "entropy.h_s.net.3.conv.weight",
            "entropy.prior.matrices.0",
            "entropy.context.parameter_net.project.0.weight",
            "entropy.context.parameter_net.temporal.2.weight",
            "entropy.context.parameter_net.output.3.bias",
            "entropy.context.parameter_net.index_bias.bias",
        ):
            assert name in names

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from models.tiny import TINY, smooth_image, tiny_model

from triode.entropy.coder import CountingWriter, RangeReader, RangeWriter
from triode.errors import UnsupportedError
from triode.models.image.image_light import ImageLight, ImageLightConfig
from triode.models.layers.pca import principal_components

POINTS = [0, 9, 20, 31, 45, 63]


@pytest.fixture(scope="module")
def model():
    """An exported model that rounds to nearest, as the training pass does.

    Its ladder indices keep away from 0, whose elements are not coded: training does not know of that, and predictions
    that were never trained would cost an error there instead of bits.
    """
    net = tiny_model()
    net.rdoq = 0.0
    with torch.no_grad():
        net.entropy.context.parameter_net.index_bias.bias.add_(12)
    net.export()
    return net


def photo(height=128, width=192, seed=0):
    return torch.from_numpy(smooth_image(height, width, seed=seed)).permute(2, 0, 1)[None].float() / 255


class TestForward:
    @pytest.mark.parametrize("shape", [(1, 64, 64), (3, 128, 64), (2, 64, 192)])
    @pytest.mark.parametrize("training", [True, False])
    def test_shapes(self, shape, training):
        net = tiny_model().train(training)
        b, h, w = shape
        out = net(torch.rand(b, 3, h, w), torch.linspace(0, 63, b))
        assert out.x_hat.shape == (b, 3, h, w)
        assert out.bits.keys() == {"y", "z"}
        assert all(bits.shape == (b,) and bool((bits > 0).all()) for bits in out.bits.values())

    def test_evaluation_is_deterministic_and_training_is_noisy(self):
        net, x, q = tiny_model(), photo(), torch.tensor([20.0])
        with torch.no_grad():
            one, two = net.eval()(x, q), net(x, q)
            assert torch.equal(one.x_hat, two.x_hat)
            assert torch.equal(one.bits["y"], two.bits["y"])
            three, four = net.train()(x, q), net(x, q)
            assert not torch.equal(three.bits["y"], four.bits["y"])

    def test_samples_do_not_mix(self):
        net, x = tiny_model(), torch.cat([photo(seed=i) for i in range(3)])
        q = torch.tensor([5.0, 30.0, 60.0])
        with torch.no_grad():
            together = net(x, q)
            for i in range(3):
                alone = net(x[i : i + 1], q[i : i + 1])
                assert torch.allclose(alone.x_hat[0], together.x_hat[i], atol=1e-4)
                assert float(alone.bits["y"]) == pytest.approx(float(together.bits["y"][i]), rel=1e-3)

    def test_pictures_of_a_batch_have_rate_points_of_their_own(self):
        torch.manual_seed(0)
        model = ImageLight().eval()
        with torch.no_grad():
            for gain in (model.g_s.head_gain, model.g_s.up_gain):
                gain.log_gain.copy_(torch.randn_like(gain.log_gain) * 0.3)
            model.g_s.tail[0].weight.copy_(torch.randn_like(model.g_s.tail[0].weight) * 0.05)
        y, q = torch.randn(2, 256, 32, 32).contiguous(memory_format=torch.channels_last), torch.tensor([3, 50])
        with torch.inference_mode():
            both = model.synthesis(y, q)
            for k in range(2):
                alone = model.synthesis(y[k : k + 1].contiguous(memory_format=torch.channels_last), q[k : k + 1])
                torch.testing.assert_close(both[k : k + 1], alone, rtol=1e-3, atol=1e-3)

    def test_rate_and_quality_rise_with_the_rate_point(self):
        net, x = tiny_model(), photo()
        with torch.no_grad():
            outs = [net(x, torch.tensor([float(q)])) for q in (0, 20, 40, 63)]
        bits = [float(sum(o.bits.values())) for o in outs]
        errors = [float((o.x_hat - x).square().mean()) for o in outs]
        assert bits == sorted(bits)
        assert errors == sorted(errors, reverse=True)

    def test_runs_under_autocast(self):
        net, x, q = tiny_model().train(), photo(), torch.tensor([30.0])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = net(x, q)
        loss = sum(out.bits.values()).mean() + out.x_hat.float().square().mean()
        loss.backward()
        assert bool(loss.isfinite())
        assert all(bool(p.grad.isfinite().all()) for p in net.parameters() if p.grad is not None)
        with torch.no_grad():
            net.eval()
            full = net(x, q)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                narrow = net(x, q)
        assert out.x_hat.dtype == torch.float32  # The linear path carries the image.
        assert float((full.x_hat - narrow.x_hat).abs().mean()) < 0.01
        assert float(full.bits["y"]) == pytest.approx(float(narrow.bits["y"]), rel=0.05)

    def test_gradient_reaches_every_parameter(self):
        torch.manual_seed(0)
        net = tiny_model(noise=0.6).train()
        x = torch.cat([photo(seed=i) for i in range(8)])
        q = torch.linspace(0, 63, 8)  # Every anchor.
        out = net(x, q)
        loss = sum(out.bits.values()).mean() / 1000 + (out.x_hat - x).square().mean() * 1000
        loss.backward()
        idle = [n for n, p in net.named_parameters() if p.grad is None or float(p.grad.abs().sum()) == 0]
        assert idle == []


class TestEntropyPath:
    @pytest.mark.parametrize("point", POINTS)
    def test_integers_cost_what_training_estimates(self, model, point):
        x, q = photo(192, 256), torch.tensor([point])
        with torch.no_grad():
            out = model(x, q.float())
            counter = CountingWriter()
            y_hat = model.encode(model.analysis(x, q), q, counter)
            x_hat = model.synthesis(model.dequantise(y_hat, q), q)
        assert counter.bits == pytest.approx(float(sum(out.bits.values())), rel=0.015)
        mse, expected = (float((p - x).square().mean()) for p in (x_hat, out.x_hat))
        assert mse == pytest.approx(expected, rel=0.02)

    @pytest.mark.parametrize("rdoq", [0.0, 1.0])
    @pytest.mark.parametrize("size", [(1, 1), (1, 4), (3, 5), (8, 8), (7, 2)])
    def test_round_trip(self, model, size, rdoq):
        net = tiny_model(3)
        net.rdoq = rdoq
        net.export()
        for point in (0, 31, 63):
            y, q, writer = torch.randn(1, 16, *size), torch.tensor([point]), RangeWriter()
            sent = net.encode(y, q, writer)
            reader = RangeReader(writer.getvalue())
            got = net.decode(size, q, reader)
            reader.check(writer.crc)
            assert got.dtype == torch.float32
            assert torch.equal(sent, got)

    def test_rate_distortion_optimised_quantisation_pays(self):
        x, costs = photo(192, 256), {}
        net = tiny_model()
        net.export()
        for rdoq in (0.0, 1.0):
            net.rdoq = rdoq
            total = 0.0
            for point in (10, 31, 50):
                q, counter = torch.tensor([point]), CountingWriter()
                with torch.no_grad():
                    y_hat = net.encode(net.analysis(x, q), q, counter)
                    mse = (net.synthesis(net.dequantise(y_hat, q), q) - x).square().mean()
                total += counter.bits / (192 * 256) + float(net.rate_lambda(q) * 255**2 * mse)
            costs[rdoq] = total
        assert costs[1.0] < costs[0.0]

    def test_needs_an_export(self):
        net = tiny_model()
        with pytest.raises(UnsupportedError, match="export"):
            net.decode((2, 2), torch.tensor([0]), RangeReader(b""))
        with pytest.raises(UnsupportedError, match="export"):
            net.encode(torch.zeros(1, 16, 2, 2), torch.tensor([0]), CountingWriter())

    def test_every_integer_rate_point_works(self, model):
        y = model.analysis(photo(64, 64), torch.tensor([0])).detach()
        bits = []
        for point in range(64):
            counter = CountingWriter()
            model.encode(y, torch.tensor([point]), counter)
            bits.append(counter.bits)
        assert all(math.isfinite(b) for b in bits)
        assert bits[63] > bits[0]


class TestLinearPath:
    def test_reconstructs_as_principal_components_do(self):
        """Before any training the model is a block transform: its error is the energy that the components leave out."""
        images = [smooth_image(96, 128, seed=i) for i in range(6)]
        net = ImageLight(TINY).eval()
        net.init_from_data(images)
        x = photo(seed=2)
        components = principal_components(images, 16, 16)[0].flatten(1)
        blocks = (x - 0.5).unfold(2, 16, 16).unfold(3, 16, 16)[0].permute(1, 2, 0, 3, 4).reshape(-1, 768)
        left = blocks - blocks @ components.t() @ components
        with torch.no_grad():
            q = torch.tensor([63])
            x_hat = net.synthesis(net.analysis(x, q), q)
        assert float((x_hat - x).square().mean()) == pytest.approx(float(left.square().mean()), rel=1e-3)
        assert -10 * np.log10(float((x_hat - x).square().mean())) > 30

    def test_random_orthonormal_components(self):
        torch.manual_seed(0)
        basis = torch.linalg.qr(torch.randn(768, 16))[0].t().reshape(16, 3, 16, 16)
        net = ImageLight(TINY).eval()
        net.init_linear(basis, torch.ones(16))
        y, q = torch.randn(1, 16, 3, 4), torch.tensor([10])
        with torch.no_grad():
            assert torch.allclose(net.analysis(net.synthesis(y, q), q), y, atol=1e-4)

    def test_ladder_starts_at_the_deviations(self):
        """The first step's index, with no context, is that of a component's deviation times the gain."""
        net = ImageLight(TINY).eval()
        deviations = torch.linspace(0.05, 4, 16)
        net.init_linear(torch.zeros(16, 3, 16, 16), deviations)
        parameters = net.entropy.context.parameter_net
        with torch.no_grad():
            for fuse in parameters.fuse:
                fuse.weight.zero_()
                fuse.bias.zero_()
        for point in (0, 63):
            q = torch.tensor([float(point)])
            with torch.no_grad():
                maps = parameters(0, torch.zeros(1, 16, 4, 4), torch.zeros(1, 12, 4, 4), q)
                gain = net.gain.gain(q)[0]
            for group, (_, index) in enumerate(maps):
                scale = 0.11 * torch.exp(index * math.log(256 / 0.11) / 63)
                expected = deviations[4 * group : 4 * group + 4] * 0.5 * gain[4 * group : 4 * group + 4]
                assert torch.allclose(scale[0, :, 0, 0], expected, rtol=1e-3)


class TestConfig:
    def test_rate_lambda_spans_its_range(self):
        net = tiny_model()
        q = torch.linspace(0, 63, 64)
        lam = net.rate_lambda(q)
        assert float(lam[0]) == pytest.approx(net.config.lambda_min)
        assert float(lam[-1]) == pytest.approx(net.config.lambda_max)
        steps = lam[1:] / lam[:-1]
        assert torch.allclose(steps, steps[0].expand_as(steps))

    def test_gain_goes_as_the_root_of_lambda(self):
        net = ImageLight(TINY)
        for point in (0.0, 31.5, 63.0):
            q = torch.tensor([point])
            expected = 2 * math.sqrt(float(net.rate_lambda(q)) / 0.0018)
            assert torch.allclose(net.gain.gain(q), torch.full((1, 16), expected), rtol=1e-3)
            assert torch.allclose(net.gain.gain(q) * net.inverse_gain.gain(q), torch.ones(1, 16), rtol=1e-4)

    @pytest.mark.parametrize("depths", [(0, 0, 0, 0), (1, 1, 1, 1), (3, 3, 3, 2), (4, 0, 0, 5)])
    def test_halos_follow_the_depths(self, depths):
        widths = {"latent": 8, "hyper": 4, "fine": 4, "coarse": 4, "context": 4, "features": 4, "parameters": 4}
        names = ("encoder_fine", "encoder_coarse", "decoder_fine", "decoder_coarse")
        net = ImageLight(ImageLightConfig(**dict(zip(names, depths, strict=True)), **widths))
        fine, coarse, back_fine, back_coarse = depths
        assert net.analysis_halo >= 8 * fine + 16 * coarse > net.analysis_halo - 16
        assert net.synthesis_halo >= back_fine / 2 + back_coarse > net.synthesis_halo - 1

    def test_models_without_a_mechanism_are_smaller(self):
        size = sum(p.numel() for p in tiny_model().parameters())
        for changes in ({"gated": False}, {"context": 0}):
            net = tiny_model(config=replace(TINY, **changes))
            assert sum(p.numel() for p in net.parameters()) < size

    @pytest.mark.parametrize(
        "changes",
        [{"gated": False}, {"context": 0}, {"narrow": True}, {"decoder_int8": True}, {"narrow": True, "context": 0}],
    )
    def test_variants_decode_what_was_encoded(self, changes):
        net = tiny_model(config=replace(TINY, **changes))
        net.export()
        q = torch.tensor([40])
        with torch.inference_mode():
            y = net.analysis(photo(), q)
            writer = RangeWriter()
            coded = net.encode(y, q, writer)
            assert coded.unique().numel() > 2
            assert torch.equal(net.decode((8, 12), q, RangeReader(writer.getvalue())), coded)

    def test_latent_must_be_a_multiple_of_four(self):
        with pytest.raises(ValueError, match="multiple of 4"):
            ImageLight(ImageLightConfig(latent=18))

    def test_names_of_parameters(self):
        """Checkpoints hold these: a renamed parameter would make them useless."""
        heads = {n.split(".")[0] for n in ImageLight(TINY).state_dict()}
        assert heads == {"g_a", "g_s", "gain", "inverse_gain", "entropy"}
        names = set(ImageLight(TINY).state_dict())
        for name in (
            "g_a.linear.weight",
            "g_a.head.1.weight",
            "g_a.head_gain.log_gain",
            "g_a.fine.0.expand.weight",
            "g_a.down.1.bias",
            "g_a.coarse.0.merge.bias",
            "g_a.tail.weight",
            "g_s.linear.0.weight",
            "g_s.tail.0.weight",
            "g_s.up.0.weight",
            "entropy.h_a.net.0.weight",
            "entropy.h_a.gain.log_gain",
            "entropy.h_s.stem.weight",
            "entropy.h_s.bias.bias",
            "entropy.h_s.net.3.0.weight",
            "entropy.prior.matrices.0",
            "entropy.prior.factors.3",
            "entropy.context.parameter_net.project.0.weight",
            "entropy.context.parameter_net.output.3.bias",
            "entropy.context.parameter_net.normalise.log_gain",
            "entropy.context.parameter_net.index_bias.bias",
            "gain.log_gain",
        ):
            assert name in names

"""``stem``: exact coding against the frames before, and a start that is the image model itself."""

import copy
import dataclasses
import io

import numpy as np
import pytest
import torch
from models.learned_video import (
    INTER,
    INTRA,
    TINY_WIDTHS,
    decode_group,
    encode_group,
    moving_frames,
    same_frame,
    same_latent,
    steps_of,
    stir,
    synthesise,
    threads,
    tiny_stem,
    total_bits,
)
from models.tiny import TINY, tiny_model
from models.tiny_video import moving_clip

from triode.codecs.video import VideoCodec
from triode.container import ContainerReader, unpack_video_unit
from triode.entropy.coder import CountingWriter, RangeWriter
from triode.models.base import GopFormat, VideoModel
from triode.models.image.image_light import ImageLightConfig
from triode.models.registry import create_model, get_architecture
from triode.models.video.colour import yuv_to_rgb
from triode.models.video.intra import Intra
from triode.models.video.stem import Stem, StemConfig
from triode.models.weights import load_weights, save_weights
from triode.train.exact import integer_networks

FORMAT = GopFormat(48, 80)
POINTS = (40, 40, 12, 63, 40)


@pytest.fixture(scope="module")
def model():
    return tiny_stem()


@pytest.fixture(scope="module")
def coded(model):
    return encode_group(model, moving_frames(5), steps_of(model, POINTS))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("stem") / "tiny-stem.v1.safetensors"
    save_weights(tiny_stem(export=False), path, name="tiny-stem.v1", architecture="stem")
    return load_weights(str(path), VideoModel)


class TestRegistry:
    def test_is_registered(self):
        entry = get_architecture("stem")
        assert (entry.media, entry.config()) == ("video", StemConfig())
        net = create_model("stem", image=dataclasses.asdict(TINY), **TINY_WIDTHS)
        assert isinstance(net, Stem)
        assert net.config.image == TINY
        assert (net.stride, net.multiple, net.kinds, net.independent) == (16, 16, frozenset({INTRA, INTER}), True)

    def test_configuration_from_a_file(self):
        config = StemConfig(image={"latent": 64}, temporal=32)
        assert config.image == ImageLightConfig(latent=64)
        assert StemConfig(**dataclasses.asdict(config)) == config

    def test_fits_into_a_wheel(self):
        """float16, and the entropy networks once more in 16-bit integers: at most 16 MB."""
        net = create_model("stem")
        floats = sum(p.numel() for p in net.parameters())
        exact = [e for e in (net.image.entropy, net.entropy) for e in (e.h_s, e.context.parameter_net)]
        assert 2 * (floats + sum(p.numel() for e in exact for p in e.parameters())) < 15e6


class TestCoding:
    def test_decode_gives_what_encode_gave(self, model, coded):
        assert [step.kind for step in coded.steps] == [INTRA, INTER, INTER, INTER, INTER]
        for one, other in zip(decode_group(model, coded, FORMAT), coded.latents, strict=True):
            assert same_latent(one, other)

    def test_what_frames_know_are_integers(self, coded):
        for latent in coded.latents:
            assert [t.dtype for t in latent.integers] == [torch.int32] * 2
        first, second, third = (latent.integers for latent in coded.latents[:3])
        assert torch.equal(first[0], first[1])
        assert torch.equal(second[1], first[0])
        assert torch.equal(third[1], second[0])

    def test_what_frames_know_does_not_depend_on_the_rate_point(self, model, coded):
        """Gains are taken out, in integers: the latents of points 40, 12 and 63 are on one scale."""
        for latent, point in zip(coded.latents, POINTS, strict=True):
            q = torch.tensor([point])
            normalise = model.image.entropy.context.parameter_net.normalise
            with torch.no_grad():
                expected = normalise(latent.values[0], q)
            assert torch.allclose(latent.integers[0] / 1024, expected, atol=2e-3, rtol=1e-3)

    def test_symbols_depend_on_the_frame_before(self, model, coded):
        one = encode_group(model, moving_frames(5)[1:2] + moving_frames(2)[1:], steps_of(model, (40, 40)))
        assert one.payloads[1] != coded.payloads[1]

    def test_threads(self, model, coded):
        for count in (1, 2):
            with threads(count):
                assert all(map(same_latent, decode_group(model, coded, FORMAT), coded.latents))

    def test_intra_frames_are_those_of_the_image_model(self, model, coded):
        frame, writer = moving_frames(1)[0], RangeWriter()
        intra = Intra(model.image)
        with torch.inference_mode():
            latent = intra.encode(frame, coded.steps[0], intra.start(FORMAT), writer)
        assert writer.getvalue() == coded.payloads[0]
        assert torch.equal(latent.values[0], coded.latents[0].values[0])

    def test_samples_follow_from_a_latent_alone(self, model, coded):
        """The third frame is made from its own latent; those before it were skipped."""
        frames, states = synthesise(model, coded, FORMAT)
        state = model.start(FORMAT)
        for latent in coded.latents[:2]:
            state = model.skip(latent, state)
        with torch.inference_mode():
            frame, after = model.synthesis(coded.latents[2], coded.steps[2], state)
        assert same_frame(frame, frames[2])
        assert same_frame(frame, coded.frames[2])
        assert after.features == states[2].features == ()
        assert after.index == 3

    @pytest.mark.parametrize("shape", [(16, 16), (48, 16), (80, 112)])
    def test_sizes(self, model, shape):
        group = encode_group(model, moving_frames(3, *shape), steps_of(model, (50, 50, 50)))
        for one, other in zip(decode_group(model, group, GopFormat(*shape)), group.latents, strict=True):
            assert same_latent(one, other)


class TestStart:
    """Without training the temporal path adds nothing: rates are those of the image model."""

    def test_same_bytes_as_the_image_model(self):
        net = tiny_stem(noise=0)
        coded = encode_group(net, moving_frames(3), steps_of(net, (30, 30, 55)))
        intra = Intra(net.image)
        with torch.inference_mode():
            for frame, step, payload in zip(moving_frames(3), coded.steps, coded.payloads, strict=True):
                writer = RangeWriter()
                intra.encode(frame, step, intra.start(FORMAT), writer)
                assert writer.getvalue() == payload

    def test_same_rates_in_training(self):
        net = tiny_stem(noise=0, export=False)
        q = torch.tensor([20.0, 50.0])
        frames = moving_frames(3, 64, 128, batch=2)
        with torch.no_grad():
            out = net(frames, q)
            images = [net.image(yuv_to_rgb(frame, "bt709").clamp(0, 1), q) for frame in frames]
        for part in ("y", "z"):
            assert torch.allclose(out.bits[part], torch.stack([i.bits[part] for i in images], 1), rtol=1e-5)

    def test_every_zero_is_left_at_once(self):
        """Whatever starts at zero has a gradient."""
        net = tiny_stem(noise=0, export=False).train()
        q = torch.tensor([40.0])
        bits = net.rates(net.latents(moving_frames(3, 64, 128), q), q)
        sum(b.sum() for b in bits.values()).backward()
        zeros = [p for p in net.entropy.parameters() if p.dim() == 4 and not p.any()]
        assert len(zeros) == 1 + 1 + 3 + 4
        assert all(p.grad.abs().sum() > 0 for p in zeros)

    def test_learns_that_nothing_moves(self):
        """A few steps on a still picture with noise of its own in each frame cut the rate of inter frames."""
        torch.manual_seed(0)
        net = tiny_stem(noise=0, export=False).train()
        q = torch.tensor([45.0])
        latents = net.latents(moving_frames(2, 64, 64, still=True), q)
        latents = latents + 0.01 * torch.randn(latents.shape)
        optimizer = torch.optim.Adam(net.trained(), lr=2e-2)
        rates = []
        for _ in range(16):
            bits = net.rates(latents, q)
            loss = sum(b[:, 1:].sum() for b in bits.values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rates.append(float(loss.detach()))
        assert rates[-1] < 0.75 * rates[0]


class TestTraining:
    def test_bits_are_those_of_the_coder(self):
        """Evaluation without rate-distortion optimised quantisation, which training does not know."""
        net = tiny_stem()
        net.image.rdoq = 0.0
        frames, q = moving_frames(4, 64, 128), torch.tensor([50.0])
        with torch.no_grad(), integer_networks(net):
            out = net(frames, q)
        state, counted = net.start(GopFormat(64, 128)), []
        with torch.inference_mode():
            for index, frame in enumerate(frames):
                writer = CountingWriter()
                latent = net.encode(frame, net.step(index, 50), state, writer)
                state = net.skip(latent, state)
                counted.append(writer.bits)
        assert np.allclose(total_bits(out.bits)[0], counted, rtol=0.03)

    def test_shapes_and_gradients(self):
        net = tiny_stem(export=False).train()
        assert net.entropy.training
        assert not net.image.training
        out = net(moving_frames(3, 64, 64, batch=2), torch.tensor([10.0, 60.0]))
        assert {part: tuple(bits.shape) for part, bits in out.bits.items()} == {"y": (2, 3), "z": (2, 3)}
        assert out.frames[2].uv.shape == (2, 2, 32, 32)
        sum(bits.sum() for bits in out.bits.values()).backward()
        assert all(p.grad is None for p in net.image.parameters())
        assert all(p.grad is not None for p in net.trained())

    def test_rate_points_of_frames(self):
        """Points (B, T) are those of each frame: as far as frame 1, these are the same groups."""
        net, frames = tiny_stem(export=False), moving_frames(3, 64, 64)
        with torch.no_grad():
            one = net(frames, torch.tensor([[40.0, 40.0, 40.0]]))
            other = net(frames, torch.tensor([[40.0, 40.0, 5.0]]))
        assert np.allclose(total_bits(one.bits)[:, :2], total_bits(other.bits)[:, :2])
        assert total_bits(other.bits)[0, 2] < 0.8 * total_bits(one.bits)[0, 2]
        assert torch.equal(one.frames[1].y, other.frames[1].y)

    def test_rates_of_stored_latents(self):
        net, q = tiny_stem(export=False), torch.tensor([33.0])
        frames = moving_frames(3, 64, 64)
        with torch.no_grad():
            latents = net.latents(frames, q)
            assert latents.shape == (1, 3, 16, 4, 4)
            assert np.allclose(total_bits(net.rates(latents, q)), total_bits(net(frames, q).bits))

    def test_weights_of_an_image_model(self):
        net, image = tiny_stem(), tiny_model(5)
        stir(net.entropy, 0.1)
        image.export()
        net.load_image(image.state_dict())
        fresh = Stem.from_image(image, **TINY_WIDTHS)
        fresh.entropy.h_s.reduce.load_state_dict(net.entropy.h_s.reduce.state_dict())
        assert torch.equal(net.entropy.h_s.expand.weight, torch.zeros_like(net.entropy.h_s.expand.weight))
        assert torch.equal(net.image.g_a.tail.weight, image.g_a.tail.weight)
        assert torch.equal(net.entropy.h_a.inner.gain.log_gain, image.entropy.h_a.gain.log_gain)
        assert torch.equal(net.entropy.prior.matrices[0], image.entropy.prior.matrices[0])
        assert net.entropy.prior.matrices[0] is not net.image.entropy.prior.matrices[0]
        with pytest.raises(ValueError, match="other widths"):
            net.load_image(tiny_model(config=dataclasses.replace(TINY, fine=12)).state_dict())

    def test_needs_the_context_of_the_image_model(self):
        with pytest.raises(ValueError, match=r"image\.context"):
            create_model("stem", image=dataclasses.asdict(dataclasses.replace(TINY, context=0)), **TINY_WIDTHS)


class TestCodec:
    def test_there_and_back(self, weights):
        clip, codec = moving_clip(7), VideoCodec(weights, gop=5)
        data = codec.encode(clip, quality=70).data
        whole = codec.decode(data)
        assert np.abs(whole.y.astype(int) - clip.y).mean() < 20
        part = codec.decode(data, start=3, stop=6)
        assert part.frames == 3
        for plane in "yuv":
            assert np.array_equal(getattr(part, plane), getattr(whole, plane)[3:6])
        assert codec.verify(data).frames == 7

    def test_frames_that_nobody_wants_are_not_made(self, weights, monkeypatch):
        made = []
        synthesis = Stem.synthesis
        monkeypatch.setattr(Stem, "synthesis", lambda *a: made.append(1) or synthesis(*a))
        codec = VideoCodec(weights, gop=8)
        data = codec.encode(moving_clip(8), quality=50).data
        assert len(made) == 0
        codec.decode(data, start=6, stop=8)
        assert len(made) == 2


def test_export_leaves_the_floats(model):
    before = copy.deepcopy({k: v for k, v in model.state_dict().items() if v.is_floating_point()})
    model.export()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items() if k in before)


@pytest.mark.parametrize("growth", [0.0, 3.0])
def test_what_runs_away_is_coded_on_its_own(growth, tmp_path):
    """An entropy model that expects ever larger latents, and is so sure that it codes nothing."""
    model = tiny_stem(export=False)
    with torch.no_grad():
        net = model.entropy.context.parameter_net
        for weight, output in zip(net.weight, net.inner.output, strict=True):
            weight.bias.fill_(growth)
            if growth:
                output.bias.view(4, 2, -1)[:, 1] = -100.0
    path = tmp_path / "sure.v1.safetensors"
    save_weights(model, path, name="sure.v1", architecture="stem")
    weights = load_weights(str(path), VideoModel)
    clip = moving_clip(8, 80, 48)
    coded = VideoCodec(weights).encode(clip, quality=60)
    reader = ContainerReader(io.BytesIO(coded.data))
    [unit] = reader.units()
    kinds = {frame.kind for frame in unpack_video_unit(unit.payload, reader.head.video).frames[1:]}
    assert kinds == ({INTRA} if growth else {INTER})
    errors = np.abs(VideoCodec(weights).decode(coded.data).y.astype(int) - clip.y).mean((1, 2))
    assert errors.max() < 2 * errors[0] + 1


def test_frames_before_are_of_wide_integers():
    with pytest.raises(ValueError, match=r"image.narrow"):
        Stem(StemConfig(image=ImageLightConfig(narrow=True)))

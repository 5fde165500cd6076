"""``video-light``: symbols that depend on integers alone, a start that is a plain codec, and what it costs."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
import torch
from models.learned_video import (
    INTER,
    INTRA,
    REFRESH,
    TINY_LIGHT,
    decode_group,
    encode_group,
    moving_frames,
    same_frame,
    same_latent,
    steps_of,
    synthesise,
    threads,
    tiny_light,
    total_bits,
)
from models.tiny import TINY, tiny_model
from models.tiny_video import moving_clip
from torch.utils._python_dispatch import TorchDispatchMode

from triode.codecs.video import VideoCodec
from triode.entropy.coder import CountingWriter, RangeReader, RangeWriter
from triode.errors import UnsupportedError
from triode.models.base import FrameStep, GopFormat, VideoModel
from triode.models.complexity import count_video_macs
from triode.models.image.image_light import ImageLightConfig
from triode.models.registry import create_model, get_architecture
from triode.models.video.intra import Intra
from triode.models.video.shuffle import shuffle
from triode.models.video.video_light import VideoLight, VideoLightConfig
from triode.models.weights import load_weights, save_weights
from triode.train.exact import integer_networks

FORMAT = GopFormat(48, 80)
POINTS = (40, 44, 12, 63, 40)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "motion"])
def model(request):
    return tiny_light(motion=request.param)


@pytest.fixture(scope="module")
def coded(model):
    return encode_group(model, moving_frames(5), steps_of(model, POINTS))


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "motion"])
def weights(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("light") / "tiny-light.v1.safetensors"
    net = tiny_light(0.1, export=False, motion=request.param)
    save_weights(net, path, name="tiny-light.v1", architecture="video-light")
    return load_weights(str(path), VideoModel)


class TestRegistry:
    def test_is_registered(self):
        entry = get_architecture("video-light")
        assert (entry.media, entry.config()) == ("video", VideoLightConfig())
        net = create_model("video-light", image=dataclasses.asdict(TINY), **TINY_LIGHT)
        assert isinstance(net, VideoLight)
        assert net.config.image == TINY
        assert (net.stride, net.multiple, net.kinds, net.independent) == (16, 16, {INTRA, INTER, REFRESH}, False)

    def test_configuration_from_a_file(self):
        config = VideoLightConfig(image={"latent": 64}, layers=[1, 0])
        assert (config.image, config.layers) == (ImageLightConfig(latent=64), (1, 0))
        assert VideoLightConfig(**dataclasses.asdict(config)) == config

    @pytest.mark.parametrize("changes", [{"layers": []}, {"refresh": 0}])
    def test_bad_configurations(self, changes):
        with pytest.raises(ValueError, match="must"):
            VideoLightConfig(**changes)


@pytest.fixture(
    scope="module", params=[{}, {"motion": True, "refresh": 1, "context_blocks": 1}], ids=["plain", "motion"]
)
def full(request):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = create_model("video-light", **request.param).eval()
        net.export()
    return net


class Operators(TorchDispatchMode):
    """Counts the operators that compute or move data: all but views."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        views = [r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns]
        self.count += not any(views)
        return func(*args, **(kwargs or {}))


class TestCost:
    def test_multiplications(self, full):
        found = count_video_macs(full, 128, 128)
        assert 4 < found.kmac_decode <= 20
        assert found.kmac_decode < found.kmac_encode <= 30

    def test_operators_of_a_decoded_frame(self, full):
        """At most 150, entropy networks included, at 352 x 288."""
        fmt, step = GopFormat(288, 352), FrameStep(INTER, 30)
        frames = moving_frames(2, 288, 352)
        with torch.inference_mode():
            first = full.encode(frames[0], full.step(0, 30), full.start(fmt), RangeWriter())
            _, state = full.synthesis(first, full.step(0, 30), full.start(fmt))
            writer = RangeWriter()
            full.encode(frames[1], step, state, writer)
            reader = RangeReader(writer.getvalue())
            full.synthesis(full.decode(step, state, reader), step, state)  # What is made once is made now.
            reader = RangeReader(writer.getvalue())
            with Operators() as counted:
                full.synthesis(full.decode(step, state, reader), step, state)
        assert 100 < counted.count <= 150

    def test_fits_into_a_wheel(self, full):
        """float16, and the entropy networks once more in integers: at most 16 MB."""
        size = sum((2 if t.is_floating_point() else t.element_size()) * t.numel() for t in full.state_dict().values())
        assert size < 15e6


class TestCoding:
    def test_decode_gives_what_encode_gave(self, model, coded):
        assert [step.kind for step in coded.steps] == [INTRA, INTER, INTER, REFRESH, INTER]
        for one, other in zip(decode_group(model, coded, FORMAT), coded.latents, strict=True):
            assert same_latent(one, other)

    def test_symbols_do_not_depend_on_features(self, model, coded):
        """Not on what they are, nor on whether there are any."""
        for one, other in zip(decode_group(model, coded, FORMAT, rng=True), coded.latents, strict=True):
            assert same_latent(one, other)

    def test_synthesis_and_skip_leave_the_same_integers(self, model, coded):
        frames, states = synthesise(model, coded, FORMAT)
        state = model.start(FORMAT)
        for latent, made in zip(coded.latents, states, strict=True):
            state = model.skip(latent, state)
            assert state.index == made.index
            assert all(map(torch.equal, state.integers, made.integers))
        assert all(map(same_frame, frames, coded.frames))

    def test_integers(self, coded):
        """The latent of the frame before, gain taken out, and the decaying sum of its magnitudes."""
        activity = coded.latents[0].integers[0][:, 16:]
        assert bool((coded.latents[0].integers[0][:, :16] == 0).all())
        assert bool((activity >= 0).all())
        for latent in coded.latents[1:]:
            past = latent.integers[0]
            assert {t.dtype for t in latent.integers} == {torch.int32}
            activity = (activity + past[:, :16].abs()) // 2
            assert torch.equal(past[:, 16:], activity)

    def test_symbols_depend_on_the_frames_before(self, model, coded):
        frames, states = moving_frames(5), synthesise(model, coded, FORMAT)[1]
        past, *rest = states[1].integers
        changed = replace(states[1], integers=(past + 4096, *rest))
        writer = RangeWriter()
        with torch.inference_mode():
            model.encode(frames[2], coded.steps[2], changed, writer)
        assert writer.getvalue() != coded.payloads[2]

    def test_threads(self, model, coded):
        for count in (1, 2):
            with threads(count):
                assert all(map(same_latent, decode_group(model, coded, FORMAT), coded.latents))

    def test_intra_frames_are_those_of_the_image_model(self, model, coded):
        writer, intra = RangeWriter(), Intra(model.image)
        with torch.inference_mode():
            latent = intra.encode(moving_frames(1)[0], coded.steps[0], intra.start(FORMAT), writer)
            frame, _ = intra.synthesis(latent, coded.steps[0], intra.start(FORMAT))
        assert writer.getvalue() == coded.payloads[0]
        assert same_frame(frame, coded.frames[0])

    def test_a_refresh_hands_on_the_frame_alone(self, model, coded):
        """Whatever the features were, those after a refresh are made of the decoded frame."""
        states = synthesise(model, coded, FORMAT)[1]
        frames = [shuffle(frame) for frame in coded.frames]
        with torch.no_grad():
            assert torch.allclose(states[3].features[-1], model.embed(frames[3]), atol=1e-5)
            assert not torch.allclose(states[2].features[-1], model.embed(frames[2]), atol=1e-3)

    @pytest.mark.parametrize("shape", [(16, 16), (48, 16), (80, 112)])
    def test_sizes(self, model, shape):
        group = encode_group(model, moving_frames(3, *shape), steps_of(model, (50, 50, 50)))
        for one, other in zip(decode_group(model, group, GopFormat(*shape)), group.latents, strict=True):
            assert same_latent(one, other)

    def test_what_is_handed_on_stays_within_the_range_of_samples(self, model, coded):
        """Errors that a network makes of a bad frame must not grow from frame to frame."""
        state = model.start(FORMAT)
        for step, latent in zip(coded.steps, coded.latents, strict=True):
            far = replace(latent, values=(1000 * latent.values[0], *latent.values[1:]))
            frame, state = model.synthesis(far, step, state)
            assert float((frame.y - 0.5).abs().max()) <= 0.6 + 1e-6
            assert float(frame.uv.abs().max()) <= 0.74
            assert all(float(kept.abs().max()) <= 0.6 + 1e-6 for kept in state.features[:-1])

    def test_needs_an_export(self):
        net = tiny_light(export=False)
        net.image.export()
        with pytest.raises(UnsupportedError, match="export"):
            encode_group(net, moving_frames(1), steps_of(net, (20,)))


class TestStart:
    """Without training: a codec of differences, by blocks that move where motion is coded."""

    def test_still_frames_cost_next_to_nothing(self):
        """Without training the prediction is the frame before, and the difference what quantisation left."""
        net = tiny_light(noise=0)
        frames = moving_frames(4, still=True)
        coded = encode_group(net, frames, steps_of(net, (40,) * 4))
        intra = encode_group(Intra(net.image), frames, steps_of(Intra(net.image), (40,) * 4))
        assert len(coded.payloads[3]) < 0.5 * len(intra.payloads[3])

    def test_frames_converge(self):
        """What the transform can hold of a still picture is there after a few frames."""
        net, frames = tiny_light(noise=0, latent=128), moving_frames(6, still=True)
        coded = encode_group(net, frames, steps_of(net, (63,) * 6))
        errors = [float((a.y - b.y).square().mean()) for a, b in zip(coded.frames, frames, strict=True)]
        assert errors[5] < 0.7 * errors[0]
        assert errors[5] <= errors[1] * 1.05

    def test_motion_saves_what_moved(self):
        """A picture that moves by three samples a frame: without training, in half the bits and closer to the frame."""
        frames, steps = moving_frames(4, 96, 128), None
        sizes, errors = [], []
        for motion in (False, True):
            net = tiny_light(noise=0, motion=motion, latent=128)
            steps = steps or steps_of(net, (63,) * 4)
            coded = encode_group(net, frames, steps)
            sizes.append(sum(map(len, coded.payloads[1:])))
            errors.append(float((coded.frames[3].y - frames[3].y).square().mean()))
        assert sizes[1] < 0.8 * sizes[0]
        assert errors[1] < errors[0]

    def test_without_a_network_the_decoder_is_linear(self):
        net = tiny_light(noise=0)
        coded = encode_group(net, moving_frames(2), steps_of(net, (50, 50)))
        y = coded.latents[1].values[0]
        with torch.no_grad():
            difference = net.decoder.linear(net.inverse_gain(y, torch.tensor([50])))
            expected = shuffle(coded.frames[0]) + difference
        assert torch.allclose(shuffle(coded.frames[1]), expected, atol=1e-5)

    def test_components_of_data(self):
        net = tiny_light(noise=0, export=False)
        net.init_from_data([moving_frames(4, 64, 64)])
        weight = net.encoder.linear.weight.flatten(1)
        assert torch.allclose(weight @ weight.T, torch.eye(16), atol=1e-4)
        back = net.decoder.linear[0].weight[:, :, 0, 0]
        assert torch.allclose(weight @ back, torch.eye(16), atol=1e-4)
        x = torch.randn(1, 16, 3, 4)
        with torch.no_grad():
            assert torch.allclose(net.encoder.linear(net.decoder.linear(x)), x, atol=1e-4)

    def test_learns(self):
        """A few steps on one clip lower the loss that training minimises."""
        torch.manual_seed(0)
        net, q = tiny_light(noise=0, export=False).train(), torch.tensor([40.0])
        frames = moving_frames(3, 64, 64)
        made, _, latent = net.intra(frames[0], q)
        optimizer, losses = torch.optim.Adam(net.trained(), lr=3e-3), []
        for _ in range(20):
            state, loss = net.begin(made, latent), 0.0
            for frame in frames[1:]:
                out, bits, state = net.inter(frame, q, state)
                errors = 6 * (out.y - frame.y).square().mean() + 2 * (out.uv - frame.uv).square().mean()
                loss = loss + net.rate_lambda(q) * 255**2 * errors / 8 + sum(bits.values()) / 4096
            optimizer.zero_grad()
            loss.sum().backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        assert losses[-1] < 0.85 * losses[0]


class TestTraining:
    @pytest.mark.parametrize("motion", [False, True])
    def test_bits_are_those_of_the_coder(self, motion):
        """Evaluation without rate-distortion optimised quantisation, which training does not know."""
        net = tiny_light(refresh=2, motion=motion)
        net.rdoq = net.image.rdoq = 0.0
        frames = moving_frames(4, 64, 128)
        with torch.no_grad(), integer_networks(net):
            out = net(frames, torch.tensor([50.0]))
        state, counted, made = net.start(GopFormat(64, 128)), [], []
        with torch.inference_mode():
            for index, frame in enumerate(frames):
                writer, step = CountingWriter(), net.step(index, 50)
                latent = net.encode(frame, step, state, writer)
                decoded, state = net.synthesis(latent, step, state)
                counted.append(writer.bits)
                made.append(decoded)
        assert np.allclose(total_bits(out.bits)[0], counted, rtol=0.05)
        for one, other in zip(out.frames, made, strict=True):
            # Where two vectors are as good, floats decide. Only the codec's frames are clipped.
            assert motion or float((one.y.clamp(-0.1, 1.1) - other.y).abs().mean()) < 2e-3

    @pytest.mark.parametrize("motion", [False, True])
    def test_shapes_and_gradients(self, motion):
        net = tiny_light(export=False, motion=motion).train()
        assert net.encoder.training
        assert not net.image.training
        out = net(moving_frames(4, 64, 64, batch=2), torch.tensor([10.0, 60.0]))
        assert list(out.bits) == ["y", "z", "motion"][: 2 + motion]
        assert {tuple(bits.shape) for bits in out.bits.values()} == {(2, 4)}
        assert not motion or not out.bits["motion"].any()  # Nothing learns from them.
        assert len(out.frames) == 4
        assert out.frames[3].uv.shape == (2, 2, 32, 32)
        errors = sum(frame.y.square().mean() + frame.uv.square().mean() for frame in out.frames)
        (sum(bits.sum() for bits in out.bits.values()) + errors).backward()
        assert all(p.grad is None for p in net.image.parameters())
        idle = [name for name, p in net.named_parameters() if not name.startswith("image.") and p.grad is None]
        assert idle == []

    def test_cut_off_from_the_frames_before(self):
        net, q, frames = tiny_light(export=False), torch.tensor([30.0]), moving_frames(3, 64, 64)
        state = net.begin(*net.intra(frames[0], q)[::2])
        _, _, state = net.inter(frames[1], q, state)
        assert state.feature.requires_grad
        cut = state.detach()
        assert not any(t.requires_grad for t in (*cut.frame, cut.feature, cut.past))
        assert (cut.index, torch.equal(cut.frame[0], state.frame[0])) == (2, True)

    def test_points_of_frames(self):
        net = tiny_light(export=False)
        points = net.points(torch.tensor([30.0, 62.0]), 6)
        assert points.tolist() == [[34, 28, 30, 28, 32, 28], [63, 60, 62, 60, 63, 60]]
        assert [net.step(index, 30).point for index in range(6)] == points[0].int().tolist()
        assert [net.step(index, 0).point for index in range(3)] == [4, 0, 0]
        frames = moving_frames(3, 64, 64)
        with torch.no_grad():
            one = net(frames, torch.tensor([30.0]))
            other = net(frames, points[:1, :3])
        assert torch.equal(one.bits["y"], other.bits["y"])

    @pytest.mark.parametrize("motion", [False, True])
    def test_runs_under_autocast(self, motion):
        net = tiny_light(export=False, motion=motion).train()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = net(moving_frames(2, 64, 64), torch.tensor([30.0]))
        loss = sum(out.bits.values()).mean() + out.frames[1].y.square().mean()
        assert out.frames[1].y.dtype == torch.float32
        loss.backward()
        assert bool(loss.isfinite())

    def test_weights_of_an_image_model(self):
        net, image = tiny_light(export=False), tiny_model(5)
        net.load_image(image.state_dict())
        assert torch.equal(net.image.g_a.tail.weight, image.g_a.tail.weight)
        with pytest.raises(ValueError, match="other widths"):
            net.load_image(tiny_model(config=dataclasses.replace(TINY, fine=12)).state_dict())


class TestCodec:
    def test_there_and_back(self, weights):
        clip, codec = moving_clip(7), VideoCodec(weights, gop=5)
        data = codec.encode(clip, quality=70).data
        whole = codec.decode(data)
        part = codec.decode(data, start=3, stop=6)
        assert (whole.frames, part.frames) == (7, 3)
        for plane in "yuv":
            assert np.array_equal(getattr(part, plane), getattr(whole, plane)[3:6])
        assert codec.verify(data).frames == 7
        better = np.abs(whole.y.astype(int) - clip.y).mean()
        worse = np.abs(codec.decode(codec.encode(clip, quality=5).data).y.astype(int) - clip.y).mean()
        assert better < worse < 60


def test_frames_before_are_of_wide_integers():
    with pytest.raises(ValueError, match=r"image.narrow"):
        VideoLight(VideoLightConfig(image=ImageLightConfig(narrow=True)))

"""``ssf2020``: symbols that decode without samples, frames made again, gradients, and the way through the codec."""

import numpy as np
import pytest
import torch
from models.learned_video import (
    INTER,
    INTRA,
    decode_group,
    encode_group,
    moving_frames,
    same_frame,
    same_latent,
    steps_of,
    stir,
    synthesise,
    total_bits,
)
from models.tiny_video import moving_clip

from triode.codecs.video import VideoCodec
from triode.models.base import GopFormat
from triode.models.registry import create_model, get_architecture
from triode.models.video.colour import rgb_to_yuv
from triode.models.video.ssf2020 import Ssf2020, Ssf2020Config
from triode.models.weights import save_weights

TINY = Ssf2020Config(N=8, M=12, lmbda=0.02)
FORMAT = GopFormat(48, 80)


def tiny(noise=0.5):
    """A model whose latents are not all zero, and whose flow moves by pixels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Ssf2020(TINY).eval()
    stir(model, noise)
    with torch.no_grad():
        for branch in (model.img, model.motion, model.res):
            branch.encoder[-1].weight.mul_(30)
            branch.entropy.h_a[-1].weight.mul_(10)
            branch.entropy.h_s.scale[-2].bias.add_(1)
    return model


@pytest.fixture(scope="module")
def model():
    net = tiny()
    net.export()
    return net


@pytest.fixture(scope="module")
def coded(model):
    return encode_group(model, moving_frames(4), steps_of(model, (30,) * 4))


def test_is_registered():
    entry = get_architecture("ssf2020")
    assert (entry.media, entry.config()) == ("video", Ssf2020Config(128, 192, 0.01, 5, 1.5))
    model = create_model("ssf2020", N=8, M=12)
    assert isinstance(model, Ssf2020)
    assert [model.step(i, 5).kind for i in range(3)] == [INTRA, INTER, INTER]
    assert not model.independent
    assert torch.equal(model.rate_lambda(torch.tensor([1.0, 60.0])), torch.full((2,), 0.01))


@pytest.mark.parametrize("changes", [{"N": 0}, {"M": 0}, {"lmbda": 0.0}, {"levels": 6}, {"sigma": 0.0}])
def test_bad_widths(changes):
    with pytest.raises(ValueError, match="must be"):
        create_model("ssf2020", **changes)


class TestCoding:
    def test_decoding_needs_no_samples(self, model, coded):
        assert [len(latent.values) for latent in coded.latents] == [1, 2, 2, 2]
        assert all(float(v.std()) > 0.1 for latent in coded.latents for v in latent.values)
        decoded = decode_group(model, coded, FORMAT, rng=True)
        assert all(same_latent(one, other) for one, other in zip(decoded, coded.latents, strict=True))

    def test_frames_are_made_again(self, model, coded):
        frames, states = synthesise(model, coded, FORMAT)
        assert all(same_frame(one, other) for one, other in zip(frames, coded.frames, strict=True))
        assert [state.index for state in states] == [1, 2, 3, 4]

    @torch.no_grad()
    def test_training_pass_is_what_is_coded(self, model):
        frames = moving_frames(3, 128, 128)
        out = model(frames, torch.tensor([30.0]))
        coded = encode_group(model, frames, steps_of(model, (30,) * 3))
        _, states = synthesise(model, coded, GopFormat(128, 128))
        for one, state in zip(out.frames, states, strict=True):
            # The means of integer networks differ a little, which moves a few symbols.
            assert float((one.y - rgb_to_yuv(state.features[0], "bt709").y).abs().mean()) < 0.01
        bits, sent = total_bits(out.bits)[0], [8 * len(payload) for payload in coded.payloads]
        assert np.allclose(bits, sent, rtol=0.1, atol=100)

    @torch.inference_mode()
    def test_frames_depend_on_those_before(self, model, coded):
        inter = coded.latents[1]
        still, _ = synthesise(model, type(coded)(coded.steps[:2], (), coded.latents[:2], ()), FORMAT)
        state = model.synthesis(coded.latents[0], coded.steps[0], model.start(FORMAT))[1]
        state = type(state)(state.format, state.index, (), (state.features[0] + 0.2,))
        moved, _ = model.synthesis(inter, coded.steps[1], state)
        assert not torch.allclose(still[1].y, moved.y, atol=0.01)

    def test_through_the_codec(self, tmp_path):
        info = save_weights(tiny(), tmp_path / "ssf.v1.safetensors", name="ssf.v1", architecture="ssf2020")
        codec, clip = VideoCodec(str(info.path)), moving_clip(3, 50, 38)
        data = codec.encode(clip, quality=50).data
        one, two = codec.decode(data), codec.decode(data)
        assert one.y.shape == clip.y.shape
        assert np.array_equal(one.y, two.y)
        assert np.array_equal(one.u, two.u)


def test_gradients_reach_every_parameter_but_through_the_first_frame():
    model = tiny().train()
    out = model(moving_frames(3, 128, 128), torch.tensor([0.0]))
    assert {part: tuple(bits.shape) for part, bits in out.bits.items()} == dict.fromkeys(
        ("y", "z", "motion_y", "motion_z"), (1, 3)
    )
    assert float(out.bits["motion_y"][0, 0].detach()) == 0
    (sum(bits[:, 1:].sum() for bits in out.bits.values()) + out.frames[2].y.square().sum()).backward()
    idle = {n.split(".")[0] for n, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())}
    assert idle == {"img"}
    assert not any(bool(p.grad is not None and p.grad.any()) for p in model.img.parameters())

"""Frames coded as images, the colour conversion they need, and what the base class of video models does."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from models.tiny import tiny_model
from models.tiny_video import TinyVideo

from triode.container import FrameKind
from triode.entropy.coder import RangeReader, RangeWriter
from triode.models.base import FrameStep, GopFormat, VideoModel, Yuv
from triode.models.registry import create_model, get_architecture
from triode.models.video.colour import rgb_to_yuv, yuv_to_rgb
from triode.models.video.intra import Intra, IntraConfig
from triode.models.weights.digest import known_answer

# ITU-T H.273, of each matrix: R, G and B, and their Y, Cb and Cr.
COLOURS = {
    "bt709": [
        ((1, 1, 1), (1, 0, 0)),
        ((1, 0, 0), (0.2126, -0.2126 / 1.8556, 0.5)),
        ((0, 0, 1), (0.0722, 0.5, -0.0722 / 1.5748)),
    ],
    "bt601": [
        ((1, 1, 1), (1, 0, 0)),
        ((1, 0, 0), (0.299, -0.299 / 1.772, 0.5)),
        ((0, 0, 1), (0.114, 0.5, -0.114 / 1.402)),
    ],
}


def flat(rgb):
    return torch.tensor(rgb, dtype=torch.float32).reshape(1, 3, 1, 1).expand(1, 3, 4, 6)


def random_frame(height=32, width=48, seed=0):
    generator = torch.Generator().manual_seed(seed)
    y = torch.rand((1, 1, height, width), generator=generator)
    return Yuv(y, 0.2 * torch.randn((1, 2, height // 2, width // 2), generator=generator))


class TestColour:
    @pytest.mark.parametrize("matrix", COLOURS)
    def test_known_colours(self, matrix):
        for rgb, (y, cb, cr) in COLOURS[matrix]:
            frame = rgb_to_yuv(flat(rgb), matrix)
            assert frame.y.shape == (1, 1, 4, 6)
            assert frame.uv.shape == (1, 2, 2, 3)
            assert torch.allclose(frame.y, torch.tensor(float(y)), atol=1e-6)
            assert torch.allclose(frame.uv[:, 0], torch.tensor(float(cb)), atol=1e-6)
            assert torch.allclose(frame.uv[:, 1], torch.tensor(float(cr)), atol=1e-6)
            assert torch.allclose(yuv_to_rgb(frame, matrix), flat(rgb).float(), atol=1e-6)

    @pytest.mark.parametrize("matrix", COLOURS)
    def test_there_and_back(self, matrix):
        frame = random_frame()
        back = rgb_to_yuv(yuv_to_rgb(frame, matrix), matrix)
        assert torch.allclose(back.y, frame.y, atol=1e-5)
        assert torch.allclose(back.uv, frame.uv, atol=1e-5)

    def test_other_matrices(self):
        for convert, x in ((rgb_to_yuv, flat((1, 1, 1))), (yuv_to_rgb, random_frame())):
            with pytest.raises(ValueError, match="must be one of bt709, bt601"):
                convert(x, "bt2020")


class TestIntra:
    def model(self):
        image = tiny_model()
        image.export()
        return Intra(image)

    def test_is_registered(self):
        entry = get_architecture("intra")
        assert (entry.media, entry.config()) == ("video", IntraConfig())
        model = create_model("intra")
        assert isinstance(model, VideoModel)
        assert (model.stride, model.multiple, model.kinds) == (16, 16, frozenset({FrameKind.INTRA}))
        with pytest.raises(ValueError, match="'audio-light' is not for images"):
            create_model("intra", image="audio-light")

    @pytest.mark.parametrize("point", [0, 40, 63])
    def test_decode_gives_what_encode_gave(self, point):
        model, fmt, writer = self.model(), GopFormat(32, 48, "bt601"), RangeWriter()
        step = model.step(5, point)
        assert step == FrameStep(FrameKind.INTRA, point)
        with torch.inference_mode():
            coded = model.encode(random_frame(), step, model.start(fmt), writer)
            read = model.decode(step, model.start(fmt), RangeReader(writer.getvalue()))
        assert torch.equal(coded.values[0], read.values[0])

    def test_samples_are_those_of_the_image(self):
        model, fmt, q = self.model(), GopFormat(32, 48), torch.tensor([50])
        frame, step = random_frame(), FrameStep(FrameKind.INTRA, 50)
        with torch.inference_mode():
            latent = model.encode(frame, step, model.start(fmt), RangeWriter())
            out, state = model.synthesis(latent, step, model.start(fmt))
            y = model.image.analysis(yuv_to_rgb(frame, "bt709").clamp(0, 1), q)
            y_hat = model.image.dequantise(model.image.encode(y, q, RangeWriter()), q)
            expected = rgb_to_yuv(model.image.synthesis(y_hat, q).clamp(0, 1), "bt709")
        assert torch.allclose(out.y, expected.y, atol=1e-5)
        assert torch.allclose(out.uv, expected.uv, atol=1e-5)
        assert (state.index, state.integers, state.features) == (1, (), ())

    def test_training_pass(self):
        model = Intra(tiny_model())
        q = torch.tensor([20.0, 50.0])
        frames = [Yuv(torch.rand(2, 1, 64, 64), torch.zeros(2, 2, 32, 32)) for _ in range(3)]
        output = model(frames, q)
        assert len(output.frames) == 3
        assert output.frames[0].uv.shape == (2, 2, 32, 32)
        assert all(bits.shape == (2, 3) for bits in output.bits.values())
        sum(bits.sum() for bits in output.bits.values()).backward()
        assert model.image.g_a.linear.weight.grad.abs().sum() > 0
        assert torch.equal(model.rate_lambda(q), model.image.rate_lambda(q))


class TestBase:
    def test_state_is_a_value(self):
        model = TinyVideo()
        start = model.start(GopFormat(8, 12))
        with torch.inference_mode():
            frame = random_frame(8, 12)
            latent = model.encode(frame, model.step(0, 30), start, RangeWriter())
            skipped = model.skip(latent, start)
            made = model.synthesis(latent, model.step(0, 30), start)[1]
        assert (start.index, start.integers, start.features) == (0, (), ())
        assert skipped.index == made.index == 1
        assert torch.equal(skipped.integers[0], made.integers[0])
        assert (skipped.features, len(made.features)) == ((), 1)

    def test_frames_that_look_at_no_others_are_independent(self):
        assert TinyVideo([FrameKind.INTRA]).independent
        assert not TinyVideo([FrameKind.INTRA, FrameKind.INTER]).independent

    def test_default_step(self):
        model = TinyVideo([FrameKind.INTRA, FrameKind.INTER])
        kinds = [VideoModel.step(model, index, 9).kind for index in range(3)]
        assert kinds == [FrameKind.INTRA, FrameKind.INTER, FrameKind.INTER]

    def test_known_answer_depends_on_the_entropy_path(self):
        one, other = TinyVideo(), TinyVideo([FrameKind.INTRA])
        assert known_answer(one) == known_answer(TinyVideo())
        assert known_answer(one) != known_answer(other)

    def test_frames_know_only_those_before_them_in_integers(self):
        """The entropy path goes through a group without features."""
        model, payloads, latents = TinyVideo(), [], []
        state = model.start(GopFormat(8, 12))
        with torch.inference_mode():
            for index in range(6):
                writer, step = RangeWriter(), model.step(index, 30)
                latent = model.encode(random_frame(8, 12, index), step, state, writer)
                state = model.synthesis(latent, step, state)[1]
                payloads.append(writer.getvalue())
                latents.append(latent)
            state = model.start(GopFormat(8, 12))
            for index, payload in enumerate(payloads):
                bare = replace(state, features=())
                latent = model.decode(model.step(index, 30), bare, RangeReader(payload))
                assert np.array_equal(latent.values[0].numpy(), latents[index].values[0].numpy())
                state = model.skip(latent, bare)

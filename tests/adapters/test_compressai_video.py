"""CompressAI's scale-space flow in ours: the same names and shapes, bits and frames; other state dicts refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from literature import picture
from torch import Tensor, nn

from triode.adapters.compressai_video import video_from_compressai
from triode.errors import ModelMismatchError, UnsupportedError
from triode.models.base import Yuv
from triode.models.video.colour import rgb_to_yuv, yuv_to_rgb


@pytest.fixture(scope="module")
def theirs() -> nn.Module:
    """A CompressAI model; its widths are fixed. Latents, scales, flow and medians of some size."""
    pytest.importorskip("compressai")
    from compressai.models.video.google import ScaleSpaceFlow

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        model = ScaleSpaceFlow().eval()
        for part in (model.img_hyperprior, model.motion_hyperprior, model.res_hyperprior):
            part.hyper_encoder[-1].weight.mul_(30)
            part.hyper_decoder_scale.deconv3.bias.add_(torch.rand(192))
            bottleneck = part.entropy_bottleneck
            bottleneck.biases[4].add_(torch.randn(bottleneck.biases[4].shape) * 2)
            bottleneck._update_quantiles()
        for part in (model.img_encoder, model.motion_encoder, model.res_encoder):
            part[-1].weight.mul_(300)
    return model


@pytest.fixture(scope="module")
def clip() -> tuple[list[Yuv], list[Tensor]]:
    """Three frames in YUV, and as the RGB that models see."""
    wide = picture(128, 160)
    frames = [rgb_to_yuv(wide[..., 4 * n : 4 * n + 128], "bt709") for n in range(3)]
    return frames, [yuv_to_rgb(frame, "bt709").clamp(0, 1) for frame in frames]


@torch.no_grad()
def test_forward_equals_compressai(theirs: Any, clip: tuple[list[Yuv], list[Tensor]]) -> None:
    ours, (frames, pictures) = video_from_compressai(theirs, lmbda=0.07), clip
    expected, found = theirs(pictures), ours(frames, torch.zeros(1))
    assert ours.config.lmbda == 0.07
    for x_hat, frame in zip(expected["x_hat"], found.frames, strict=True):
        whole = rgb_to_yuv(x_hat, "bt709")
        assert float(whole.y.std()) > 1e-3
        for plane, wanted in ((frame.y, whole.y), (frame.uv, whole.uv)):
            # Predictions differ in their last bits; a latent on the edge of rounding may then fall to the other side.
            torch.testing.assert_close(plane, wanted, rtol=0, atol=1e-2)
            assert float((plane - wanted).abs().mean()) < 1e-4
    parts = {"y": ("keyframe", "residual"), "motion_y": ("motion",)}
    for number, likelihoods in enumerate(expected["likelihoods"]):
        for part, names in parts.items():
            for latent in "yz":
                bits = [-likelihoods[n][latent].double().log2().sum() for n in names if n in likelihoods]
                got = found.bits[part[:-1] + latent][0, number].double()
                wanted = bits[0] if bits else torch.zeros(()).double()
                torch.testing.assert_close(got, wanted, rtol=1e-2 if number else 1e-4, atol=0)
                assert not bits or float(got) > 100, "a test of nothing"


@torch.no_grad()
def test_prediction_equals_compressai(theirs: Any, clip: tuple[list[Yuv], list[Tensor]]) -> None:
    ours, before = video_from_compressai(theirs), clip[1][0]
    motion = 30 * torch.randn(1, 192, 8, 8, generator=torch.Generator().manual_seed(0))
    found, expected = ours.predict(before, motion), theirs.forward_prediction(before, theirs.motion_decoder(motion))
    assert float((found - before).abs().mean()) > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_every_tensor_is_taken(theirs: Any) -> None:
    state = theirs.state_dict()
    ours = video_from_compressai(state)
    learned = {n: p for n, p in theirs.named_parameters() if "quantiles" not in n}
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in learned.values())
    medians = state["res_hyperprior.entropy_bottleneck.quantiles"][:, 0, 1]
    assert torch.equal(ours.res.entropy.prior.medians, medians)
    spelled = {n.replace("entropy_bottleneck.matrices.", "entropy_bottleneck._matrix"): t for n, t in state.items()}
    again = video_from_compressai(spelled)
    assert all(torch.equal(p, q) for p, q in zip(again.parameters(), ours.parameters(), strict=True))


def test_other_state_dicts(theirs: Any) -> None:
    state = dict(theirs.state_dict())
    with pytest.raises(UnsupportedError, match="ssf2020"):
        video_from_compressai(state, "dcvc")
    with pytest.raises(ModelMismatchError, match="no convolution"):
        video_from_compressai({})
    with pytest.raises(ModelMismatchError, match="surprise"):
        video_from_compressai({**state, "surprise": torch.zeros(1)})
    bias = state.pop("motion_decoder.0.bias")
    with pytest.raises(ModelMismatchError, match="1 tensors missing"):
        video_from_compressai(state)
    with pytest.raises(ModelMismatchError, match="shape"):
        video_from_compressai({**state, "motion_decoder.0.bias": bias[:5]})
    name = "img_hyperprior.entropy_bottleneck.quantiles"
    with pytest.raises(ModelMismatchError, match="Quantiles"):
        video_from_compressai({**state, "motion_decoder.0.bias": bias, name: state[name][..., :2]})

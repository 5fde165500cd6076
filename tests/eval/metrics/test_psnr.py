"""MSE and PSNR: closed forms, and agreement with torchmetrics, scikit-image and CompressAI's colour transform."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from triode.eval.metrics import metric
from triode.eval.metrics.psnr import MSE, PSNR, PSNRY, PSNRYUV, mse, psnr, psnr_of_mean_mse, psnr_y, psnr_yuv


def batch(seed, size=(2, 3, 37, 53), noise=9.0):
    g = torch.Generator().manual_seed(seed)
    target = torch.randint(0, 256, size, generator=g, dtype=torch.uint8)
    preds = (target + torch.randn(size, generator=g) * noise).round().clamp(0, 255).to(torch.uint8)
    return preds, target


def test_mse_is_exact_for_uint8():
    preds, target = batch(0)
    gaps = preds.numpy().astype(np.int64) - target.numpy()
    assert mse(preds, target).tolist() == [int((g**2).sum()) / g.size for g in gaps]
    assert mse(preds, target).dtype == torch.float64


def test_psnr_agrees_with_torchmetrics():
    functional = pytest.importorskip("torchmetrics.functional.image")
    preds, target = batch(1)
    expected = functional.peak_signal_noise_ratio(
        preds.double(), target.double(), data_range=255.0, reduction="none", dim=(1, 2, 3)
    )
    torch.testing.assert_close(psnr(preds, target), expected, rtol=1e-6, atol=0)  # they take logarithms in float32


def test_psnr_agrees_with_scikit_image():
    metrics = pytest.importorskip("skimage.metrics")
    preds, target = batch(2)
    expected = [metrics.peak_signal_noise_ratio(t.numpy(), p.numpy()) for p, t in zip(preds, target, strict=True)]
    assert psnr(preds, target).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("peak", [1.0, 255.0, 1023.0])
def test_psnr_does_not_depend_on_scale(peak):
    preds, target = batch(3)
    scaled = psnr(preds.double() * (peak / 255), target.double() * (peak / 255), data_range=peak)
    torch.testing.assert_close(scaled, psnr(preds, target), rtol=1e-12, atol=0)


def test_largest_and_least():
    white, black = torch.full((1, 3, 4, 4), 255, dtype=torch.uint8), torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
    assert mse(white, black).tolist() == [255**2]
    assert psnr(white, black).tolist() == [0]
    for function in (psnr, psnr_y, psnr_yuv):
        assert function(white, white).tolist() == [math.inf]
    for twin in (PSNR, PSNRY, PSNRYUV):
        assert twin().values(white, white) == [100]


def test_luma_and_chroma_agree_with_compressai():
    transforms = pytest.importorskip("compressai.transforms.functional")
    preds, target = batch(4)
    planes = [transforms.rgb2ycbcr(x.double() / 255) for x in (preds, target)]
    expected = psnr(planes[0].flatten(0, 1)[:, None], planes[1].flatten(0, 1)[:, None], data_range=1.0).view(2, 3)
    torch.testing.assert_close(psnr_y(preds, target), expected[:, 0], rtol=1e-9, atol=0)
    weighted = (6 * expected[:, 0] + expected[:, 1] + expected[:, 2]) / 8
    torch.testing.assert_close(psnr_yuv(preds, target), weighted, rtol=1e-9, atol=0)


def test_grey_error_is_all_luma():
    target = torch.full((1, 3, 8, 8), 100, dtype=torch.uint8)
    assert psnr_y(target + 5, target).item() == pytest.approx(20 * math.log10(255 / 5))
    chroma = PSNRYUV().values(target + 5, target)[0] * 8 - 6 * psnr_y(target + 5, target).item()
    assert chroma == pytest.approx(200)  # each chroma plane is identical, but for rounding, and capped


def test_float16_and_bfloat16_are_measured_in_float64():
    preds, target = torch.tensor([[[1.0]]], dtype=torch.bfloat16), torch.tensor([[[0.5]]], dtype=torch.bfloat16)
    assert mse(preds, target, data_range=1.0).tolist() == [0.25]


def test_class_twins_give_the_mean_of_items():
    preds, target = batch(5, (3, 3, 16, 16))
    for twin, function in ((MSE(), mse), (PSNR(), psnr), (PSNRY(), psnr_y), (PSNRYUV(), psnr_yuv)):
        twin.update(preds[:1], target[:1])
        twin.update(preds[1:], target[1:])
        assert twin.compute() == pytest.approx(function(preds, target).mean().item(), rel=1e-12)
    twin = PSNR(data_range=1.0)
    twin.update(preds[0].float() / 255, target[0].float() / 255)
    assert twin.compute() == pytest.approx(psnr(preds, target)[0].item(), abs=1e-4)


def test_bench_measures_what_the_function_does():
    preds, target = batch(6, (3, 20, 30))
    decoded, original = (x.permute(1, 2, 0).numpy() for x in (preds, target))
    for name, function in (("mse", mse), ("psnr", psnr), ("psnr-y", psnr_y), ("psnr-yuv", psnr_yuv)):
        assert metric(name).measure(decoded, original) == function(preds, target).item()


def test_psnr_of_mean_mse():
    assert psnr_of_mean_mse([1.0, 3.0]) == pytest.approx(10 * math.log10(255**2 / 2))
    assert psnr_of_mean_mse([0.25], 1.0) == pytest.approx(10 * math.log10(4))
    assert psnr_of_mean_mse([0.0, 0.0]) == 100
    assert psnr_of_mean_mse([1e-30]) == 100
    assert math.isnan(psnr_of_mean_mse([]))


@given(st.lists(st.floats(1e-4, 65025), min_size=1, max_size=20))
def test_psnr_of_mean_mse_is_at_most_the_mean_of_psnrs(errors):
    mean = sum(10 * math.log10(255**2 / e) for e in errors) / len(errors)
    assert psnr_of_mean_mse(errors) <= mean + 1e-9


@pytest.mark.parametrize("values", [[-1.0], [math.nan], [math.inf]])
def test_psnr_of_mean_mse_refuses(values):
    with pytest.raises(ValueError, match="mse_values"):
        psnr_of_mean_mse(values)
    with pytest.raises(ValueError, match="data_range"):
        psnr_of_mean_mse([1.0], abs(values[0]) if math.isinf(values[0]) else values[0])


BYTES = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
FLOATS = torch.zeros(1, 3, 4, 4)


@pytest.mark.parametrize(
    ("preds", "target", "data_range", "message"),
    [
        (BYTES, BYTES[..., :3], None, "one shape"),
        (BYTES, BYTES[0], None, "one shape"),
        (BYTES[0, 0], BYTES[0, 0], None, "must be"),
        (BYTES[:0], BYTES[:0], None, "must be"),
        (BYTES, FLOATS, None, "both"),
        (BYTES.int(), BYTES.int(), 255, "uint8 or floating"),
        (BYTES, BYTES, 1.0, "255 for uint8"),
        (FLOATS, FLOATS, None, "must be given"),
        (FLOATS, FLOATS, 0.0, "positive"),
        (FLOATS, FLOATS, -1.0, "positive"),
        (FLOATS, FLOATS, math.nan, "positive"),
        (FLOATS, FLOATS / 0, 1.0, "finite"),
        (FLOATS + math.inf, FLOATS, 1.0, "finite"),
        (FLOATS, FLOATS.to("meta"), 1.0, "one device"),
    ],
)
@pytest.mark.parametrize("function", [mse, psnr, psnr_y, psnr_yuv])
def test_bad_arguments_are_refused(function, preds, target, data_range, message):
    with pytest.raises(ValueError, match=message):
        function(preds, target, data_range=data_range)


@pytest.mark.parametrize("function", [psnr_y, psnr_yuv])
def test_luma_needs_three_channels(function):
    with pytest.raises(ValueError, match="three channels"):
        function(BYTES[:, :1], BYTES[:, :1])
    assert psnr(BYTES[:, :1], BYTES[:, :1]).tolist() == [math.inf]

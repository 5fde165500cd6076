"""SSIM and MS-SSIM: agreement with pytorch-msssim, torchmetrics and scikit-image, and what they refuse."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter

from triode.errors import UnsupportedError
from triode.eval.metrics import metric
from triode.eval.metrics.msssim import MSSSIM, MSSSIMDB, SSIM, ms_ssim, ms_ssim_db, ssim

WINDOW = torch.exp(-(torch.arange(-5, 6).double() ** 2) / 4.5)
WINDOW = (WINDOW / WINDOW.sum()).repeat(3, 1, 1, 1)  # pytorch-msssim's own is made in float32
PHOTO = Path(__file__).resolve().parents[3] / "examples" / "kodim23.png"


def pair(kind, size=(224, 240)):
    """Give a distorted photo and the photo, (1, 3, H, W) uint8."""
    with Image.open(PHOTO) as image:
        target = image.convert("RGB").crop((200, 100, 200 + size[1], 100 + size[0]))
    preds = {
        "slight": lambda: target.quantize(200).convert("RGB"),
        "strong": lambda: target.filter(ImageFilter.GaussianBlur(3)),
        "other": lambda: target.transpose(Image.Transpose.ROTATE_180),
        "inverse": lambda: Image.eval(target, lambda v: 255 - v),
    }[kind]()
    return tuple(torch.from_numpy(np.array(i)).permute(2, 0, 1)[None] for i in (preds, target))


KINDS = ["slight", "strong", "other", "inverse"]


@pytest.mark.parametrize("size", [(224, 240), (161, 181), (219, 162)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_ms_ssim_agrees_with_pytorch_msssim(kind, size):
    reference = pytest.importorskip("pytorch_msssim")
    preds, target = pair(kind, size)
    expected = reference.ms_ssim(preds.double(), target.double(), data_range=255, size_average=False)
    assert ms_ssim(preds, target).item() == pytest.approx(expected.item(), abs=1e-5)
    expected = reference.ms_ssim(preds.double(), target.double(), data_range=255, size_average=False, win=WINDOW)
    found = ms_ssim(preds.double(), target.double(), data_range=255)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)  # their weights stay float32
    assert ms_ssim(preds, target).item() == pytest.approx(found.item(), abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_ssim_agrees_with_pytorch_msssim_and_scikit_image(kind):
    reference = pytest.importorskip("pytorch_msssim")
    metrics = pytest.importorskip("skimage.metrics")
    preds, target = pair(kind, (61, 83))
    expected = reference.ssim(preds.double(), target.double(), data_range=255, size_average=False, win=WINDOW)
    assert ssim(preds, target).item() == pytest.approx(expected.item(), abs=1e-6)
    expected = metrics.structural_similarity(
        preds[0].numpy(),
        target[0].numpy(),
        channel_axis=0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
    )
    assert ssim(preds.double(), target.double(), data_range=255).item() == pytest.approx(expected, abs=1e-9)
    assert ssim(preds, target).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", ["slight", "strong"])
def test_ms_ssim_agrees_with_torchmetrics_maps(kind):
    """Put together from torchmetrics' maps, less the padded border that its MS-SSIM keeps at the last scale."""
    functional = pytest.importorskip("torchmetrics.functional.image")
    preds, target = (x.double() for x in pair(kind, (176, 176)))
    products = [1.0] * 3
    p, t = preds, target
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        for channel in range(3):
            planes = p[:, channel, None], t[:, channel, None]
            measure = partial(functional.structural_similarity_index_measure, *planes, data_range=255.0)
            if scale < 4:
                term = measure(return_contrast_sensitivity=True)[1].mean()
            else:
                term = measure(return_full_image=True)[1][..., 5:-5, 5:-5].mean()
            products[channel] *= term.item() ** weight
        p, t = F.avg_pool2d(p, 2), F.avg_pool2d(t, 2)
    assert ms_ssim(preds, target, data_range=255).item() == pytest.approx(sum(products) / 3, abs=1e-5)


def test_identical_is_one_and_infinite_decibels():
    _, target = pair("slight")
    assert ssim(target, target).tolist() == [1]
    assert ms_ssim(target, target).tolist() == [1]
    assert ms_ssim_db(target, target).tolist() == [math.inf]
    assert MSSSIMDB().values(target, target) == [100]


def test_decibels_and_least_value():
    preds, target = pair("strong")
    assert ms_ssim_db(preds, target).item() == pytest.approx(-10 * math.log10(1 - ms_ssim(preds, target).item()))
    preds, target = pair("inverse")
    assert ms_ssim(preds, target).item() == 0  # negative terms count as 0
    assert ms_ssim_db(preds, target).item() == 0
    checks = (torch.arange(40)[:, None] + torch.arange(40)).remainder(2)[None, None] * 255.0
    assert ssim(255 - checks, checks, data_range=255).item() == pytest.approx(-1, abs=0.01)


def test_items_of_a_batch_are_on_their_own_and_order_does_not_matter():
    pairs = [pair(kind) for kind in KINDS]
    preds, target = (torch.cat([p[i] for p in pairs]) for i in range(2))
    for function in (ssim, ms_ssim):
        alone = torch.cat([function(*p) for p in pairs])
        torch.testing.assert_close(function(preds, target), alone, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(function(target, preds), alone, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(function(pairs[0][0][0], pairs[0][1][0]), alone[:1], rtol=1e-6, atol=1e-7)


def test_scale_and_type_do_not_matter():
    preds, target = pair("strong")
    for kind, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-6), (torch.float16, 1e-4)):
        p, t = (preds / 255).to(kind), (target / 255).to(kind)
        assert ms_ssim(p, t, data_range=1.0).item() == pytest.approx(ms_ssim(preds, target).item(), abs=tolerance)


def test_flat_images_keep_float32_stable():
    target = torch.full((1, 1, 170, 170), 250, dtype=torch.uint8)
    preds = target.clone()
    preds[..., ::2, :] += 1
    exact = ms_ssim(preds.double(), target.double(), data_range=255).item()
    assert ms_ssim(preds, target).item() == pytest.approx(exact, abs=1e-6)


def test_gradient_reaches_the_prediction():
    preds, target = (x.float() / 255 for x in pair("strong", (161, 161)))
    preds.requires_grad_()
    ms_ssim(preds, target, data_range=1.0).sum().backward()
    assert preds.grad.isfinite().all()
    assert preds.grad.abs().max() > 0


@pytest.mark.parametrize(("function", "side"), [(ssim, 11), (ms_ssim, 161), (ms_ssim_db, 161)])
def test_small_images_are_refused(function, side):
    enough = torch.zeros(1, 3, side, side, dtype=torch.uint8)
    function(enough, enough)
    for small in (enough[..., 1:], enough[..., 1:, :]):
        with pytest.raises(ValueError, match=f"{side} x {side}"):
            function(small, small)


@pytest.mark.parametrize(("name", "side"), [("ssim", 11), ("ms-ssim", 161), ("ms-ssim-db", 161)])
def test_bench_goes_on_without_small_images(name, side):
    pixels = np.zeros((side - 1, side, 3), np.uint8)
    with pytest.raises(UnsupportedError, match=f"{name} needs images of at least {side} x {side}"):
        metric(name).measure(pixels, pixels)


def test_bench_measures_what_the_function_does():
    preds, target = pair("strong")
    decoded, original = (x[0].permute(1, 2, 0).numpy() for x in (preds, target))
    for name, function, twin in (
        ("ssim", ssim, SSIM),
        ("ms-ssim", ms_ssim, MSSSIM),
        ("ms-ssim-db", ms_ssim_db, MSSSIMDB),
    ):
        assert metric(name).measure(decoded, original) == function(preds, target).item()
        assert twin().values(preds, target) == function(preds, target).tolist()


@pytest.mark.parametrize("function", [ssim, ms_ssim, ms_ssim_db])
def test_bad_arguments_are_refused(function):
    images = torch.zeros(1, 3, 170, 170)
    with pytest.raises(ValueError, match="data_range"):
        function(images, images)
    with pytest.raises(ValueError, match="one shape"):
        function(images, images[:, :1], data_range=1.0)
    with pytest.raises(ValueError, match="finite"):
        function(images, images / 0, data_range=1.0)

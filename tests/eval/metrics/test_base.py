"""The list of metrics, what each says of itself, and the class twin's mean."""

from __future__ import annotations

import math
import re
import subprocess
import sys

import numpy as np
import pytest

from triode.eval.metrics import Metric, MetricInfo, list_metrics, metric, register_metric

IMAGE = {"mse", "psnr", "psnr-y", "psnr-yuv", "ssim", "ms-ssim", "ms-ssim-db", "lpips", "lpips-vgg", "dists", "lite0"}
ALL = list_metrics()


class Gap(Metric):
    info = MetricInfo("gap", "Gap", "", ("audio",), False, 0, math.inf, "this test")

    def values(self, preds, target):
        return [abs(p - t) for p, t in zip(preds, target, strict=True)]


def test_class_twin_averages_over_items_not_batches():
    twin = Gap()
    assert math.isnan(twin.compute())
    twin.update([1, 2, 3], [1, 1, 1])
    twin.update([5], [1])
    assert twin.compute() == (0 + 1 + 2 + 4) / 4
    twin.reset()
    assert math.isnan(twin.compute())
    twin.update([3], [1])
    assert twin.compute() == 2


def test_image_metrics_are_listed_by_name_in_order():
    names = [info.name for info in list_metrics("image")]
    assert set(names) >= IMAGE
    assert names == sorted(names)
    assert not {info.name for info in list_metrics("audio")} & IMAGE
    assert {info.name for info in ALL} == {i.name for m in ("image", "audio", "video") for i in list_metrics(m)}


@pytest.mark.parametrize("info", ALL, ids=lambda info: info.name)
def test_metric_says_what_it_is(info):
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", info.name)
    assert info.media
    assert set(info.media) <= {"image", "audio", "video"}
    assert info.low < info.high
    assert info.title
    assert info.source
    assert metric(info.name).info is info


def test_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'vibes'.*ms-ssim.*psnr"):
        metric("vibes")


def test_name_can_be_taken_once():
    with pytest.raises(ValueError, match="psnr"):
        register_metric(metric("psnr").info)(lambda decoded, original: 0.0)


def test_listing_imports_no_optional_package():
    code = (
        "import sys; from triode.eval.metrics import list_metrics; list_metrics();"
        "print({'torchmetrics', 'torchvision', 'scipy', 'pytorch_msssim', 'skimage', 'pesq', 'av'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("set()", "")


@pytest.mark.parametrize("name", ["mse", "psnr", "psnr-y", "psnr-yuv", "ssim", "ms-ssim", "ms-ssim-db"])
class TestImageOnTheBench:
    def test_value_is_finite_and_in_range(self, name):
        found = metric(name)
        rng = np.random.default_rng(0)
        original = rng.integers(0, 256, (163, 170, 3), np.uint8)
        for decoded in (original, 255 - original, rng.integers(0, 256, original.shape, np.uint8)):
            value = found.measure(decoded, original)
            assert type(value) is float
            assert found.info.low <= value <= found.info.high
        best = found.measure(original, original)
        assert best == (found.info.high if found.info.higher_is_better else found.info.low)

    def test_worse_is_worse(self, name):
        found = metric(name)
        rng = np.random.default_rng(1)
        original = np.clip(rng.normal(128, 30, (163, 170, 3)).cumsum(0) % 256, 0, 255).astype(np.uint8)
        values = []
        for strength in (2, 8, 32):
            noise = rng.normal(0, strength, original.shape)
            values.append(found.measure(np.clip(original + noise, 0, 255).round().astype(np.uint8), original))
        assert values == sorted(values, reverse=found.info.higher_is_better)

    def test_read_only_pixels_are_fine_and_stay(self, name):
        original = np.random.default_rng(2).integers(0, 256, (161, 161, 3), np.uint8)
        original.flags.writeable = False
        kept = original.copy()
        metric(name).measure(original[:, ::-1], original)
        assert (original == kept).all()

    @pytest.mark.parametrize(
        ("decoded", "original"),
        [
            (np.zeros((170, 170), np.uint8), np.zeros((170, 170), np.uint8)),
            (np.zeros((170, 170, 4), np.uint8), np.zeros((170, 170, 4), np.uint8)),
            (np.zeros((170, 170, 3), np.float32), np.zeros((170, 170, 3), np.float32)),
            (np.zeros((170, 171, 3), np.uint8), np.zeros((170, 170, 3), np.uint8)),
            (np.zeros((0, 170, 3), np.uint8), np.zeros((0, 170, 3), np.uint8)),
            ([[1]], [[1]]),
        ],
    )
    def test_other_pixels_are_refused(self, name, decoded, original):
        with pytest.raises(ValueError, match=r"Pixels must be|Images must have one shape"):
            metric(name).measure(decoded, original)

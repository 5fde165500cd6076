"""Metrics of video against FFmpeg's own filters, pytorch-msssim and values by hand."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from triode.errors import UnsupportedError
from triode.eval.metrics import video
from triode.eval.metrics.base import list_metrics, metric
from triode.eval.metrics.video import (
    VMAF,
    XPSNRY,
    Flicker,
    VideoMSSSIMY,
    VideoPSNRY,
    VideoPSNRYUV611,
    flicker,
    frame_psnr,
    video_ms_ssim_y,
    video_psnr_y,
    video_psnr_yuv611,
    vmaf,
    xpsnr_y,
)
from triode.media import Clip

TWINS = {
    "flicker": Flicker,
    "ms-ssim-y": VideoMSSSIMY,
    "psnr-yuv611": VideoPSNRYUV611,
    "video-psnr-y": VideoPSNRY,
    "vmaf": VMAF,
    "xpsnr-y": XPSNRY,
}


def moving(frames: int = 4, height: int = 162, width: int = 195, rate: Fraction = Fraction(30000, 1001)) -> Clip:
    """Make a clip of sliding waves; sides are odd unless told otherwise."""
    t, y, x = np.mgrid[0:frames, 0:height, 0:width]
    luma = 120 + 60 * np.sin((x + 3 * t) / 7) * np.cos(y / 11) + 30 * np.sin(x * y / 400)
    t, y, x = np.mgrid[0:frames, 0 : (height + 1) // 2, 0 : (width + 1) // 2]
    chroma = [128 + s * np.cos(x / 9 + y / 14 + t / 5) for s in (40, -25)]
    return Clip(*(p.astype(np.uint8) for p in (luma, *chroma)), rate)


def noisy(clip: Clip, sigma: float, seed: int = 0) -> Clip:
    generator = np.random.default_rng(seed)

    def plane(p: np.ndarray, s: float) -> np.ndarray:
        return (p + np.rint(generator.normal(0, s, p.shape))).clip(0, 255).astype(np.uint8)

    return Clip(plane(clip.y, sigma), plane(clip.u, sigma / 2), plane(clip.v, sigma / 3), clip.rate)


def flat(*luma: int, size: int = 4) -> Clip:
    y = np.stack([np.full((size, size), value, np.uint8) for value in luma])
    return Clip(y, y[:, ::2, ::2].copy(), y[:, ::2, ::2].copy(), Fraction(25))


def by_ffmpeg(decoded: Clip, original: Clip, name: str, option: str, log: Path) -> str:
    """Run a filter of FFmpeg on Y4M files, and return its log."""
    binary = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    inputs = []
    for label, clip in (("a", decoded), ("b", original)):
        path = log.with_name(f"{label}.y4m")
        head = f"YUV4MPEG2 W{clip.width} H{clip.height} F{clip.rate.numerator}:{clip.rate.denominator} Ip C420jpeg\n"
        frames = [b"FRAME\n" + b"".join(p[i].tobytes() for p in (clip.y, clip.u, clip.v)) for i in range(clip.frames)]
        path.write_bytes(head.encode() + b"".join(frames))
        inputs += ["-i", path]
    graph = f"[0:v][1:v]{name}={option}={log.name}"
    subprocess.run([binary, "-v", "error", *inputs, "-lavfi", graph, "-f", "null", "-"], check=True, cwd=log.parent)
    return log.read_text()


def test_frame_psnr_is_that_of_ffmpeg(tmp_path):
    original = moving()
    decoded = noisy(original, 4)
    log = by_ffmpeg(decoded, original, "psnr", "stats_file", tmp_path / "log")
    for plane in ("y", "u", "v"):
        expected = [float(value) for value in re.findall(rf"psnr_{plane}:(\S+)", log)]
        assert len(expected) == 4
        np.testing.assert_allclose(frame_psnr(decoded, original, plane), expected, atol=0.006)


def test_psnrs_by_hand():
    original, decoded = flat(100, 100), flat(100, 110)
    one = 10 * np.log10(255**2 / 100)
    assert frame_psnr(decoded, original).tolist() == pytest.approx([100, one])
    decoded.u[0] += 1
    decoded.v[1] = 100
    full, step = 100, 10 * np.log10(255**2)
    assert video_psnr_y(decoded, original) == pytest.approx((full + one) / 2)
    frames = [(6 * full + step + full) / 8, (6 * one + one + full) / 8]
    assert video_psnr_yuv611(decoded, original) == pytest.approx(np.mean(frames))
    assert video_psnr_yuv611(flat(255), flat(0)) == 0


def test_ms_ssim_is_that_of_pytorch_msssim():
    reference = pytest.importorskip("pytorch_msssim").ms_ssim
    original = moving()
    decoded = noisy(original, 8)
    a, b = (torch.from_numpy(c.y[:, None]).float() for c in (decoded, original))
    assert video_ms_ssim_y(decoded, original) == pytest.approx(reference(a, b, data_range=255).item(), abs=1e-5)
    with pytest.raises(UnsupportedError, match="161 x 161"):
        video_ms_ssim_y(flat(1, size=160), flat(1, size=160))


class TestFlicker:
    def test_static_error_costs_nothing_and_a_pulse_its_height(self):
        original = moving()
        static = Clip(original.y + np.arange(195, dtype=np.uint8) % 5, original.u, original.v, original.rate)
        assert flicker(static, original) == 0
        pulse = Clip(original.y.copy(), original.u, original.v, original.rate)
        pulse.y[2] += 3
        assert flicker(pulse, original) == pytest.approx(3 * 2 / 3)

    def test_value_is_that_of_the_formula(self):
        original = moving()
        decoded = noisy(original, 5)
        steps = [np.diff(c.y.astype(float), axis=0) for c in (decoded, original)]
        assert flicker(decoded, original) == pytest.approx(np.abs(steps[0] - steps[1]).mean())

    def test_limits(self):
        assert flicker(flat(0, 255), flat(255, 0)) == 510
        with pytest.raises(UnsupportedError, match="two frames"):
            flicker(flat(1), flat(1))


class TestFfmpeg:
    @pytest.fixture(autouse=True)
    def binary(self):
        pytest.importorskip("imageio_ffmpeg")

    def test_vmaf_is_that_of_a_run_on_y4m(self, tmp_path):
        original = moving()
        decoded = noisy(original, 9)
        log = by_ffmpeg(decoded, original, "libvmaf", "log_fmt=json:log_path", tmp_path / "log")
        expected = np.mean([frame["metrics"]["vmaf"] for frame in json.loads(log)["frames"]])
        assert vmaf(decoded, original) == pytest.approx(expected, abs=1e-4)
        # The order of the two matters: the other way round it is another value.
        assert abs(vmaf(original, decoded) - expected) > 0.5

    def test_xpsnr_is_that_of_a_run_on_y4m(self, tmp_path):
        original = moving()
        decoded = noisy(original, 9)
        log = by_ffmpeg(decoded, original, "xpsnr", "stats_file", tmp_path / "log")
        expected = float(log.splitlines()[-1].split("y:")[1].split()[0])
        assert xpsnr_y(decoded, original) == pytest.approx(expected, abs=1e-4)
        assert 20 < expected < 50

    def test_better_is_higher(self):
        original = moving()
        for function in (vmaf, xpsnr_y):
            worse, better, same = (function(noisy(original, s), original) for s in (20, 4, 0))
            assert worse < better < same <= 100
        assert xpsnr_y(original, original) == 100

    def test_paths_of_any_characters_will_do(self, tmp_path, monkeypatch):
        folder = tmp_path / "a, b;[c]'d' e=f:g\\h%i"
        folder.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        original = moving()
        assert vmaf(original, original) > 90
        assert xpsnr_y(original, original) == 100
        assert list(folder.iterdir()) == []

    def test_what_it_cannot_measure_is_said(self, monkeypatch):
        with pytest.raises(UnsupportedError, match="32 x 32"):
            vmaf(flat(1), flat(1))
        odd = moving(2, 40, 40, Fraction(1, 10**12))
        with pytest.raises(UnsupportedError, match="libvmaf failed"):
            vmaf(odd, odd)
        assert 0 < xpsnr_y(noisy(flat(9, 9, size=1), 1), flat(0, 0, size=1)) < 100
        monkeypatch.setattr("triode.eval.anchors.ffmpeg.has_filter", lambda name: False)
        for function in (vmaf, xpsnr_y):
            with pytest.raises(UnsupportedError, match="no filter"):
                function(odd, odd)

    def test_a_log_without_average_is_refused(self, monkeypatch):
        monkeypatch.setattr(video, "_by_ffmpeg", lambda *args: "")
        with pytest.raises(UnsupportedError, match="no average"):
            xpsnr_y(flat(1), flat(1))


def test_every_metric_of_video_says_what_it_is():
    infos = list_metrics("video")
    assert [info.name for info in infos] == sorted(TWINS)
    assert all(info.low < info.high and info.source and info.title for info in infos)
    assert [info.name for info in infos if not info.higher_is_better] == ["flicker"]


@pytest.mark.parametrize("name", sorted(TWINS))
def test_bench_and_class_measure_the_same_within_the_stated_range(name):
    if name in ("vmaf", "xpsnr-y"):
        pytest.importorskip("imageio_ffmpeg")
    original = moving()
    decoded = noisy(original, 6)
    registered, mean = metric(name), TWINS[name]()
    value = registered.measure(decoded, original)
    mean.update(decoded, original)
    mean.update(original, original)
    assert mean.info == registered.info
    assert mean.compute() == pytest.approx((value + registered.measure(original, original)) / 2)
    assert registered.info.low < value < registered.info.high
    with pytest.raises(ValueError, match="equal frames, heights and widths"):
        registered.measure(moving(3), original)


def test_plane_is_checked():
    with pytest.raises(ValueError, match="'y', 'u' or 'v'"):
        frame_psnr(flat(1), flat(1), "x")

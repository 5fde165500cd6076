"""`triode compare`: values, sizes that differ, media that differ, what cannot be read or measured."""

import json
import math
import wave
from pathlib import Path

import numpy as np
import pytest
from cli.conftest import make_photo
from PIL import Image

from triode.eval import metrics
from triode.eval.metrics import list_metrics

RATE = 16_000


def save_image(path, pixels):
    Image.fromarray(pixels).save(path)
    return Path(path)


def save_sound(path, samples, rate=RATE):
    with wave.open(str(path), "wb") as file:
        file.setparams((samples.shape[0], 2, rate, 0, "NONE", ""))
        file.writeframes(np.round(samples.T * 32767).astype("<i2").tobytes())
    return Path(path)


@pytest.fixture
def tone():
    return 0.5 * np.sin(np.arange(RATE) * 0.1)[None]


@pytest.fixture
def pair(folder):
    """Two images of 200 x 180 pixels, one with noise."""
    rng = np.random.default_rng(1)
    pixels = np.full((180, 200, 3), 128, np.uint8) + rng.integers(0, 20, (180, 200, 3), np.uint8)
    noisy = pixels + rng.integers(0, 9, pixels.shape, np.uint8)
    return save_image("a.png", pixels), save_image("b.png", noisy), pixels, noisy


class TestImages:
    def test_values_bytes_and_rate(self, triode, pair):
        first, second, pixels, noisy = pair
        [found] = triode("compare", first, second, "--json").objects
        error = np.mean((pixels.astype(float) - noisy) ** 2)
        assert found["metrics"]["psnr"] == pytest.approx(10 * math.log10(255**2 / error), rel=1e-6)
        assert 0.5 < found["metrics"]["ms-ssim"] < 1
        assert found["bytes"] == second.stat().st_size
        assert found["bpp"] == pytest.approx(8 * found["bytes"] / (200 * 180), abs=1e-6)
        assert {key: found[key] for key in ("reference", "distorted", "media")} == {
            "reference": "a.png",
            "distorted": "b.png",
            "media": "image",
        }
        assert set(found) == {"reference", "distorted", "media", "metrics", "bytes", "bpp"}

    def test_the_reference_comes_first(self, triode, pair, monkeypatch):
        """The metric is given what became of the original, and then the original."""
        calls = []

        def measure(distorted, original):
            calls.append((distorted, original))
            return 1.0

        real = metrics.metric("psnr")
        monkeypatch.setattr(metrics, "metric", lambda name: type(real)(real.info, measure))
        assert triode("compare", *pair[:2], "--metrics", "psnr").code == 0
        [(distorted, original)] = calls
        assert np.array_equal(distorted, pair[3])
        assert np.array_equal(original, pair[2])

    def test_metrics_come_in_the_order_asked_for(self, triode, pair):
        [found] = triode("compare", *pair[:2], "--metrics", "mse, psnr,,mse", "--json").objects
        assert list(found["metrics"]) == ["mse", "psnr"]
        lines = triode("compare", *pair[:2], "--metrics", "mse,psnr").out.splitlines()
        assert [line.split()[0] for line in lines] == ["metric", "mse", "psnr", "size", "rate"]
        assert [line.split()[-1] for line in lines[1:3]] == ["lower", "higher"]

    def test_tri_files_are_decoded(self, triode, photo):
        assert triode("encode", photo).code == 0
        [found] = triode("compare", photo, "photo.tri", "--metrics", "psnr", "--json").objects
        assert (found["metrics"]["psnr"], found["bytes"]) == (100, Path("photo.tri").stat().st_size)
        assert triode("compare", "photo.tri", photo, "--metrics", "psnr", "--json").code == 0

    def test_a_default_that_needs_more_pixels_is_told(self, triode, photo):
        result = triode("compare", photo, photo, "--json")
        [found] = result.objects
        assert (result.code, found["metrics"], list(found["errors"])) == (
            0,
            {"psnr": 100, "ms-ssim": None},
            ["ms-ssim"],
        )
        assert result.err.startswith("triode: ms-ssim needs images of at least 161")
        asked = triode("compare", photo, photo, "--metrics", "ms-ssim")
        assert asked.code == 1
        assert asked.out.splitlines()[1].split() == ["ms-ssim", "-", "higher"]

    def test_sizes_that_differ(self, triode, pair, photo):
        result = triode("compare", pair[0], photo)
        assert (result.code, result.out) == (2, "")
        assert "a.png has 200 x 180 pixels, but" in result.err
        assert "photo.png has 12 x 8 pixels" in result.err

    @pytest.mark.parametrize(("name", "what"), [("loudness", "is no metric for image"), ("pesq", "psnr, psnr-y, ")])
    def test_metrics_of_no_use(self, triode, pair, name, what):
        result = triode("compare", *pair[:2], "--metrics", f"psnr,{name}")
        assert (result.code, result.out) == (2, "")
        assert repr(name) in result.err
        assert what in result.err

    def test_no_metrics(self, triode, pair):
        assert "must name at least one" in triode("compare", *pair[:2], "--metrics", " ,").err


class TestInputs:
    @pytest.mark.parametrize("words", [[], ["a.png"]])
    def test_two_files_are_needed(self, triode, words):
        result = triode("compare", *words)
        assert (result.code, "needs two files" in result.err) == (2, True)

    def test_missing(self, triode, photo):
        result = triode("compare", photo, "missing.png", "--json")
        assert (result.code, result.err) == (1, "triode: missing.png: No such file or directory\n")
        [found] = result.objects
        assert (found["kind"], found["exit_code"]) == ("FileNotFoundError", 1)
        assert "missing.png" in found["error"]

    def test_damaged(self, triode, photo):
        Path("cut.png").write_bytes(photo.read_bytes()[:-30])
        result = triode("compare", photo, "cut.png")
        assert (result.code, result.out) == (3, "")
        assert result.err.startswith("triode: cut.png: ")

    def test_text(self, triode, photo):
        Path("notes").write_text("This is no picture.")
        result = triode("compare", photo, "notes")
        assert (result.code, result.out) == (1, "")
        assert result.err.startswith("triode: notes: ")

    def test_media_that_differ(self, triode, photo, tone):
        save_sound("tone.wav", tone)
        result = triode("compare", photo, "tone.wav")
        assert (result.code, "is image, but tone.wav is audio" in result.err) == (2, True)

    def test_a_bug_is_shown_on_request(self, triode, photo, monkeypatch):
        def load(path, media):
            raise RuntimeError("a bug")

        monkeypatch.setattr("triode.eval.items.load_item", load)
        quiet, loud = triode("compare", photo, photo), triode("compare", photo, photo, "-v")
        assert (quiet.code, "Traceback" in quiet.err, "Traceback" in loud.err) == (1, False, True)
        assert "internal error: RuntimeError: a bug" in quiet.err


class TestSounds:
    @pytest.fixture(autouse=True)
    def package(self):
        pytest.importorskip("soundfile")

    def test_values_and_rate(self, triode, tone):
        noise = np.random.default_rng(1).normal(0, 0.005, tone.shape)
        save_sound("a.wav", tone)
        save_sound("b.wav", tone + noise)
        [found] = triode("compare", "a.wav", "b.wav", "--metrics", "snr,mel", "--json").objects
        expected = 10 * math.log10(np.sum(tone**2) / np.sum(noise**2))
        assert found["metrics"]["snr"] == pytest.approx(expected, abs=0.05)
        assert found["metrics"]["mel"] > 0
        assert found["kbps"] == pytest.approx(8 * Path("b.wav").stat().st_size / 1000, abs=1e-6)
        assert "bpp" not in found
        text = triode("compare", "a.wav", "b.wav").out
        assert [line.split()[0] for line in text.splitlines()] == ["metric", "si-sdr", "mel", "size", "rate"]
        assert text.rstrip().endswith("kb/s")

    def test_sizes_that_differ(self, triode, tone):
        save_sound("a.wav", tone)
        for name, samples, rate, found in (
            ("short.wav", tone[:, :-1], RATE, "1 channel of 15999 samples at 16000 Hz"),
            ("stereo.wav", np.vstack([tone, tone]), RATE, "2 channels of 16000 samples at 16000 Hz"),
            ("slow.wav", tone, 8000, "1 channel of 16000 samples at 8000 Hz"),
        ):
            save_sound(name, samples, rate)
            result = triode("compare", "a.wav", name)
            assert result.code == 2
            assert f"a.wav has 1 channel of 16000 samples at 16000 Hz, but {name} has {found}" in result.err

    def test_no_time_at_all(self, triode, tone):
        save_sound("a.wav", tone[:, :0])
        result = triode("compare", "a.wav", "a.wav", "--metrics", "snr", "--json")
        if result.code == 0:  # a reader may refuse it as well
            assert result.objects[0]["kbps"] is None
        assert "internal error" not in result.err


class TestClips:
    def test_values_rate_and_size(self, triode, folder):
        pytest.importorskip("av")

        def save(name, frames, shade):
            header = b"YUV4MPEG2 W64 H48 F25:1 Ip A1:1 C420\n"
            frame = b"FRAME\n" + bytes([shade]) * (64 * 48) + bytes([128]) * (64 * 48 // 2)
            Path(name).write_bytes(header + frame * frames)

        save("a.y4m", 5, 100)
        save("b.y4m", 5, 104)
        save("short.y4m", 4, 100)
        result = triode("compare", "a.y4m", "b.y4m", "--metrics", "psnr-yuv611,video-psnr-y", "--json")
        assert result.code == 0, result.err
        [found] = result.objects
        luma = 20 * math.log10(255 / 4)
        assert found["metrics"]["video-psnr-y"] == pytest.approx(luma, abs=1e-3)
        assert found["metrics"]["psnr-yuv611"] == pytest.approx((6 * luma + 200) / 8, abs=1e-3)
        assert found["kbps"] == pytest.approx(8 * Path("b.y4m").stat().st_size / 0.2 / 1000, rel=1e-6)
        result = triode("compare", "a.y4m", "short.y4m")
        assert result.code == 2
        assert "a.y4m has 5 frames of 64 x 48 pixels, but short.y4m has 4 frames of 64 x 48 pixels" in result.err


class TestListMetrics:
    def test_all(self, triode):
        result = triode("compare", "--list-metrics")
        lines = result.out.splitlines()
        assert (result.code, len(lines)) == (0, 1 + len(list_metrics()))
        assert [line.split()[0] for line in lines[1:]] == [info.name for info in list_metrics()]
        assert "nan" not in result.out

    def test_of_a_medium_as_json(self, triode):
        result = triode("compare", "--list-metrics", "--media", "audio", "--json")
        [mel] = [found for found in result.objects if found["name"] == "mel"]
        assert (mel["higher_is_better"], mel["low"], mel["high"], mel["media"]) == (False, 0, None, ["audio"])
        assert [found["name"] for found in result.objects] == [info.name for info in list_metrics("audio")]

    def test_defaults_exist(self):
        from triode.cli.compare import _DEFAULTS

        for media, names in _DEFAULTS.items():
            assert set(names) <= {info.name for info in list_metrics(media)}


def test_json_has_no_nan(triode, photo, monkeypatch):
    real = metrics.metric("psnr")
    monkeypatch.setattr(metrics, "metric", lambda name: type(real)(real.info, lambda *_: math.inf))
    result = triode("compare", photo, photo, "--metrics", "psnr", "--json")
    assert json.loads(result.out, parse_constant=pytest.fail)["metrics"] == {"psnr": None}
    assert " inf " in triode("compare", photo, photo, "--metrics", "psnr").out


def test_alpha_and_orientation_are_no_obstacle(triode, folder):
    make_photo("a.png", mode="RGBA")
    make_photo("b.png", mode="RGB")
    assert triode("compare", "a.png", "b.png", "--metrics", "psnr").code == 0

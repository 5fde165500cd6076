"""PESQ and STOI against torchmetrics, and the items for which they are not defined."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch

from triode.errors import UnsupportedError
from triode.eval.metrics import speech
from triode.eval.metrics.base import metric
from triode.eval.metrics.speech import ESTOI, PESQ, STOI, estoi, pesq, stoi
from triode.media import Sound

signal = pytest.importorskip("scipy.signal")
pytest.importorskip("pesq")
pytest.importorskip("pystoi")


def speaking(seconds: float, rate: int = 16000, seed: int = 0) -> np.ndarray:
    """Make a buzz of formants that comes and goes like syllables, (T,)."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    buzz = signal.square(2 * np.pi * (120 * time + 3 * np.sin(2 * np.pi * 2 * time)), 0.1)
    sides = [signal.butter(2, (f * 0.85, f * 1.15), "band", fs=rate, output="sos") for f in (600, 1500, 2800)]
    voiced = sum(signal.sosfilt(s, buzz) for s in sides) + 0.01 * generator.normal(size=len(time))
    syllables = np.clip(np.sin(2 * np.pi * 1.5 * time), 0, 1) ** 0.5
    return 0.3 * voiced * syllables / np.abs(voiced).max()


def batch(rate: int = 16000, seconds: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    target = torch.from_numpy(np.stack([speaking(seconds, rate, seed) for seed in (0, 1)]))
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return target + torch.tensor([[0.003], [0.03]]) * noise, target


def test_pesq_is_that_of_torchmetrics():
    reference = pytest.importorskip("torchmetrics.functional.audio.pesq").perceptual_evaluation_speech_quality
    pair = batch()
    found = pesq(*pair, 16000)
    np.testing.assert_allclose(found, reference(*pair, 16000, "wb"), atol=1e-5)
    assert 1 < found[1] < found[0] < 4.65
    assert PESQ(16000).values(*pair) == found.tolist()


@pytest.mark.parametrize(("function", "twin", "extended"), [(stoi, STOI, False), (estoi, ESTOI, True)])
@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_stoi_is_that_of_torchmetrics(function, twin, extended, rate):
    reference = pytest.importorskip("torchmetrics.functional.audio.stoi").short_time_objective_intelligibility
    pair = batch(rate)
    found = function(*pair, rate)
    np.testing.assert_allclose(found, reference(*pair, rate, extended), atol=1e-6)
    assert 0 < found[1] < found[0] < 1
    assert twin(rate).values(*pair) == found.tolist()


def test_same_speech_is_perfect():
    target = batch()[1]
    assert pesq(target, target, 16000).tolist() == pytest.approx([4.6439] * 2, abs=1e-3)
    assert stoi(target, target, 16000).tolist() == pytest.approx([1] * 2)


def test_channels_are_mixed_to_mono():
    preds, target = batch()
    for function in (pesq, stoi, estoi):
        stereo = [torch.stack((2 * x, 0 * x), 1) for x in (preds, target)]
        assert function(*stereo, 16000).tolist() == pytest.approx(function(preds, target, 16000).tolist(), abs=1e-6)


def test_pesq_resamples_to_16_khz():
    preds, target = batch(48000)
    package = pytest.importorskip("pesq")
    pair = [signal.resample_poly(x[1].numpy(), 1, 3).astype(np.float32) for x in (target, preds)]
    assert pesq(preds, target, 48000)[1].item() == pytest.approx(package.pesq(16000, *pair, "wb"), abs=1e-6)


def test_bench_measures_the_same():
    preds, target = (x[0].float() for x in batch())
    for name, function in (("pesq", pesq), ("stoi", stoi), ("estoi", estoi)):
        found = metric(name).measure(Sound(preds[None].numpy(), 16000), Sound(target[None].numpy(), 16000))
        assert found == pytest.approx(function(preds[None], target[None], 16000).item(), abs=1e-6)


def test_global_random_numbers_are_left_alone_and_do_not_matter():
    preds, target = batch()
    preds[:, :24000] = 0  # where ESTOI's own noise shows
    state = np.random.get_state()[1].tolist()  # noqa: NPY002
    found = estoi(preds, target, 16000)
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002
    np.random.standard_normal()  # noqa: NPY002
    assert estoi(preds, target, 16000).tolist() == found.tolist()


class TestUndefined:
    def test_silence(self):
        target = batch()[1]
        for function in (pesq, stoi, estoi):
            with pytest.raises(UnsupportedError, match="original is silent"):
                function(target, 0 * target, 16000)
        with pytest.raises(UnsupportedError, match="decoded is silent"):
            pesq(0 * target, target, 16000)
        assert stoi(0 * target, target, 16000).tolist() == [0, 0]
        assert estoi(0 * target, target, 16000).tolist() == [0, 0]

    def test_no_utterance(self):
        x = torch.zeros(1, 17600)
        x[0, 16000:16500] = torch.randn(500, generator=torch.Generator().manual_seed(0))
        with pytest.raises(UnsupportedError, match="No utterances"):
            pesq(x, x, 16000)

    @pytest.mark.filterwarnings("error")
    @pytest.mark.parametrize("length", [1, 2, 100, 257, 2000])
    def test_short(self, length):
        x = torch.rand(1, length) + 0.1
        for function in (pesq, stoi, estoi):
            with pytest.raises(UnsupportedError, match="not defined"):
                function(x, x, 16000)

    @pytest.mark.parametrize("rate", [1, 7999, 192001, 2**40])
    def test_strange_rates(self, rate):
        x = torch.rand(1, 8000)
        for function in (pesq, stoi, estoi):
            with pytest.raises(UnsupportedError, match="Hz"):
                function(x, x, rate)

    def test_arguments(self):
        x = torch.rand(1, 8000)
        for function in (pesq, stoi, estoi):
            with pytest.raises(ValueError, match="`rate` must be positive"):
                function(x, x, 0)
            with pytest.raises(ValueError, match="finite"):
                function(x * math.nan, x, 16000)

    @pytest.mark.parametrize("name", ["pesq", "pystoi"])
    def test_missing_package(self, monkeypatch, name):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(UnsupportedError, match=rf"needs the package {name}: pip install 'triode\[bench\]'"):
            {"pesq": pesq, "pystoi": stoi}[name](torch.rand(1, 8000), torch.rand(1, 8000), 16000)


class TestLongSpeech:
    def test_child_process_gives_the_same(self, monkeypatch):
        pair = batch()
        expected = pesq(*pair, 16000).tolist()
        monkeypatch.setattr(speech, "_SAFE_SECONDS", 0)
        assert pesq(*pair, 16000).tolist() == pytest.approx(expected, abs=1e-6)

    def test_child_process_tells_why_not(self, monkeypatch):
        monkeypatch.setattr(speech, "_SAFE_SECONDS", 0)
        with pytest.raises(UnsupportedError, match="at least 1/4 of a second"):
            pesq(torch.rand(1, 3000), torch.rand(1, 3000), 16000)

    def test_a_crash_of_the_package_does_not_end_this_process(self, monkeypatch):
        monkeypatch.setattr(speech, "_SAFE_SECONDS", 0)
        monkeypatch.setattr(speech, "_CHILD", "import os; os.abort()")
        with pytest.raises(UnsupportedError, match="too many utterances"):
            pesq(torch.rand(1, 8000), torch.rand(1, 8000), 16000)

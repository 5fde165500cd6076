"""SNR and SI-SDR against torchmetrics, and what they do with silence, several channels and unlike pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from triode.errors import UnsupportedError
from triode.eval.metrics.base import list_metrics, metric
from triode.eval.metrics.signal import SISDR, SNR, si_sdr, snr
from triode.media import Sound

AUDIO = ("estoi", "mel", "mr-stft", "pesq", "si-sdr", "snr", "stoi")


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    target = 0.1 * torch.randn(4, 5000, generator=generator, dtype=torch.float64)
    noise = torch.randn(4, 5000, generator=generator, dtype=torch.float64)
    return 0.7 * target + torch.tensor([[0.001], [0.03], [0.3], [3]]) * noise + 0.01, target


def sound(samples: torch.Tensor | np.ndarray, rate: int = 16000) -> Sound:
    return Sound(np.asarray(samples, np.float32), rate)


@pytest.mark.parametrize("zero_mean", [False, True])
def test_si_sdr_is_that_of_torchmetrics(pair, zero_mean):
    reference = pytest.importorskip("torchmetrics.functional.audio").scale_invariant_signal_distortion_ratio
    torch.testing.assert_close(
        si_sdr(*pair, zero_mean=zero_mean), reference(*pair, zero_mean=zero_mean), rtol=0, atol=2e-4
    )
    assert SISDR(zero_mean=zero_mean).values(*pair) == si_sdr(*pair, zero_mean=zero_mean).tolist()


def test_snr_is_that_of_torchmetrics(pair):
    reference = pytest.importorskip("torchmetrics.functional.audio").signal_noise_ratio
    torch.testing.assert_close(snr(*pair), reference(*pair), rtol=0, atol=2e-4)


def test_values_by_hand():
    target = torch.tensor([[3.0, 0, 4, 0]])
    error = torch.tensor([[0.0, 0.5, 0, 0]])
    assert snr(target + error, target).item() == pytest.approx(20, abs=1e-6)
    assert si_sdr(0.5 * target + error, target).item() == pytest.approx(10 * math.log10(6.25 / 0.25), abs=1e-6)


@given(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_si_sdr_does_not_see_scale(a, b):
    generator = torch.Generator().manual_seed(2)
    target = torch.randn(1, 200, generator=generator, dtype=torch.float64)
    preds = target + 0.2 * torch.randn(1, 200, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(si_sdr(a * preds, b * target), si_sdr(preds, target), rtol=0, atol=1e-6)


def test_channels_are_averaged_in_decibels_and_silent_ones_left_out(pair):
    preds, target = pair
    for function in (si_sdr, snr):
        assert function(preds[None], target[None]).item() == pytest.approx(function(preds, target).mean().item())
        padded = [torch.cat((x, torch.zeros(1, 5000))) for x in (preds, target)]
        padded[0][-1] = 0.1
        assert function(*(x[None] for x in padded)).item() == pytest.approx(function(preds, target).mean().item())


def test_limits_stand_for_infinity():
    x = torch.rand(1, 100)
    for function in (si_sdr, snr):
        assert function(x, x).item() == 100
        assert function(x, 0 * x).isnan().all()
        assert function(0 * x, 0 * x).isnan().all()
    assert si_sdr(0 * x, x).item() == pytest.approx(-90)
    assert si_sdr(torch.tensor([[1.0, 0]]), torch.tensor([[0.0, 1]])).item() == pytest.approx(-90)
    assert snr(0 * x, x).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("a", "b"),
    [((2, 10), (2, 11)), ((10,), (10,)), ((1, 1, 1, 10), (1, 1, 1, 10)), ((0, 10), (0, 10)), ((2, 0), (2, 0))],
)
def test_shapes_are_checked(a, b):
    for function in (si_sdr, snr):
        with pytest.raises(ValueError, match="one shape"):
            function(torch.zeros(a), torch.zeros(b))


def test_pcm_is_refused():
    with pytest.raises(ValueError, match=r"`preds` must be floating point, but got torch\.int16"):
        snr(torch.zeros(1, 10, dtype=torch.int16), torch.zeros(1, 10))


def test_class_twins_average_over_items(pair):
    mean = SNR()
    assert math.isnan(mean.compute())
    mean.update(pair[0][:1], pair[1][:1])
    mean.update(pair[0][1:], pair[1][1:])
    assert mean.compute() == pytest.approx(snr(*pair).mean().item())


def test_bench_measures_the_same(pair):
    preds, target = (x.float() for x in pair)
    decoded, original = sound(preds), sound(target)
    assert metric("si-sdr").measure(decoded, original) == pytest.approx(si_sdr(preds, target).mean().item())
    assert metric("snr").measure(decoded, original) == pytest.approx(snr(preds, target).mean().item())


def test_every_metric_of_audio_says_what_it_is():
    infos = list_metrics("audio")
    assert tuple(info.name for info in infos) == AUDIO
    assert all(info.low < info.high and info.source and info.title for info in infos)
    assert [info.name for info in infos if not info.higher_is_better] == ["mel", "mr-stft"]


@pytest.mark.parametrize("name", AUDIO)
class TestBench:
    def test_unlike_pairs_are_refused(self, name):
        measure, one = metric(name).measure, sound(np.ones((1, 4000)))
        with pytest.raises(ValueError, match="8000 Hz for 16000 Hz"):
            measure(sound(one.samples, 8000), one)
        with pytest.raises(ValueError, match="lengths must be equal"):
            measure(sound(np.ones((1, 3999))), one)
        with pytest.raises(ValueError, match="Channels"):
            measure(sound(np.ones((2, 4000))), one)
        with pytest.raises(ValueError, match="finite"):
            measure(sound(np.full((1, 4000), np.nan)), one)

    def test_items_that_cannot_be_measured_are_said_to_be_so(self, name):
        for samples in (np.zeros((1, 0)), np.full((1, 4000), np.inf)):
            with pytest.raises(UnsupportedError):
                metric(name).measure(sound(samples), sound(samples))

    def test_silence_is_not_measured_or_alike(self, name):
        silent = sound(np.zeros((1, 8000)))
        if name in ("mel", "mr-stft"):
            assert metric(name).measure(silent, silent) == 0
        else:
            with pytest.raises(UnsupportedError, match="silent"):
                metric(name).measure(silent, silent)

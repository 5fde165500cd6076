"""The distortion of sound against the metric it stands for, and against what it should not mind."""

from __future__ import annotations

import pytest
import torch
from models.tiny_audio import tone

from triode.eval.metrics.spectral import mel_distance
from triode.train.audio_loss import SoundDistortion


@pytest.fixture(scope="module")
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.stack([torch.from_numpy(tone(6000, i, rate=16000))[None] for i in range(2)])
    generator = torch.Generator().manual_seed(0)
    return x + 0.03 * torch.randn(x.shape, generator=generator), x


def test_equal_sounds_are_at_no_distance(pair):
    errors = SoundDistortion(16000)(pair[1], pair[1])
    assert float(errors.total.abs().max()) < 1e-6


def test_mel_is_that_of_the_bench(pair):
    errors = SoundDistortion(16000)(*pair)
    assert errors.mel.shape == (2,)
    assert torch.allclose(errors.mel.double(), mel_distance(*pair, 16000), rtol=0.01)


def test_total_is_the_weighted_sum(pair):
    errors = SoundDistortion(16000, mel=2.0, spectral=3.0, wave=5.0)(*pair)
    assert torch.allclose(errors.total, 2 * errors.mel + 3 * errors.spectral + 5 * errors.wave)
    loudness = pair[1].square().mean((1, 2)).sqrt()
    assert torch.allclose(errors.wave, (pair[0] - pair[1]).abs().mean((1, 2)) / loudness)


def test_spectral_error_is_that_of_compressed_spectra(pair):
    """A sinusoid on a bin, by hand: one coefficient of the window's sum, its neighbours half of it."""
    amplitudes, errors, window = (0.2, 0.1), SoundDistortion(16000, windows=[256]), torch.hann_window(256)
    n = torch.arange(256 * 20 + 1)  # Mirrored at its ends, the cosine goes on.
    x, x_hat = (a * torch.cos(2 * torch.pi * 32 / 256 * n)[None, None] for a in amplitudes)
    found = float(errors(x_hat, x).spectral)
    unit, expected = float(window.square().sum().sqrt()), 0.0
    for part in (1.0, 0.5, 0.5):
        big, small = (part * a / 2 * float(window.sum()) / unit for a in amplitudes)
        expected += (big**0.3 - small**0.3) ** 2
    assert found == pytest.approx(expected / (2 * 129), rel=0.05)


def test_minds_the_phase_where_mel_does_not(pair):
    errors = SoundDistortion(16000)(-pair[1], pair[1])
    assert float(errors.mel.max()) < 1e-5
    assert float(errors.spectral.min()) > 0.01
    assert float(errors.wave.min()) > 1


def test_gradient_is_finite_for_silence_on_either_side(pair):
    for target in (pair[1], torch.zeros_like(pair[1])):
        x_hat = torch.zeros_like(target, requires_grad=True)
        SoundDistortion(16000)(x_hat, target).total.sum().backward()
        assert bool(x_hat.grad.isfinite().all())


@pytest.mark.parametrize("options", [{"mel": -1.0}, {"windows": [300]}, {"windows": []}])
def test_arguments(options):
    with pytest.raises(ValueError, match="must be"):
        SoundDistortion(16000, **options)

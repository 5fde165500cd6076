"""The mel distance against torchaudio and NumPy, the multi-resolution STFT distance against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from triode.eval.metrics import spectral
from triode.eval.metrics.base import metric
from triode.eval.metrics.spectral import MEL_SCALES, MRSTFT, MelDistance, mel_bank, mel_distance, mel_loss, mr_stft
from triode.media import Sound


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Two items of two channels, one of them mostly under the floors."""
    generator = torch.Generator().manual_seed(1)
    target = torch.randn(2, 2, 6001, generator=generator, dtype=torch.float64).cumsum(-1)
    target = (target - target.mean(-1, keepdim=True)) / target.abs().amax(-1, keepdim=True)
    target[1] *= 1e-5
    noise = torch.randn(2, 2, 6001, generator=generator, dtype=torch.float64)
    return target + target.std(-1, keepdim=True) * 0.1 * noise, target


def frames(x: np.ndarray, points: int, hop: int, window: int) -> np.ndarray:
    """Cut a waveform into windowed frames, (frames, points), with a loop and no library of transforms."""
    padded = np.pad(x, points // 2, mode="reflect")
    lobe = np.zeros(points)
    start = (points - window) // 2
    lobe[start : start + window] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    return np.stack([padded[i * hop : i * hop + points] * lobe for i in range(1 + len(x) // hop)])


def mel_by_numpy(x: np.ndarray, y: np.ndarray, rate: int) -> float:
    total = 0.0
    for window, bands in MEL_SCALES:
        bank = mel_bank(rate, window, bands).numpy()
        mels = [np.abs(np.fft.rfft(frames(s, window, window // 4, window))) @ bank.T for s in (x, y)]
        logs = [np.log10(np.maximum(m, 1e-5)) for m in mels]
        total += np.abs(logs[0] - logs[1]).mean()
    return total


def mr_stft_by_numpy(x: np.ndarray, y: np.ndarray) -> float:
    total = 0.0
    for points, hop, window in ((1024, 120, 600), (2048, 240, 1200), (512, 50, 240)):
        a, b = (
            np.sqrt(np.maximum(np.abs(np.fft.rfft([frames(c, points, hop, window) for c in s])) ** 2, 1e-7))
            for s in (x, y)
        )
        total += np.linalg.norm(a - b) / np.linalg.norm(b) + np.abs(np.log(a) - np.log(b)).mean()
    return total / 3


class TestMel:
    @pytest.mark.filterwarnings("ignore:At least one mel filterbank")
    @pytest.mark.parametrize("rate", [1000, 16000, 44100])
    def test_bank_is_that_of_torchaudio(self, rate):
        functional = pytest.importorskip("torchaudio.functional")
        for window, bands in MEL_SCALES:
            bank = functional.melscale_fbanks(window // 2 + 1, 0, rate / 2, bands, rate, "slaney", "slaney").T
            torch.testing.assert_close(mel_bank(rate, window, bands).float(), bank, rtol=1e-3, atol=5e-5)

    @pytest.mark.parametrize("rate", [16000, 48000])
    def test_distance_is_that_of_a_direct_transform(self, pair, rate):
        expected = [
            np.mean([mel_by_numpy(*c, rate) for c in zip(x.numpy(), y.numpy(), strict=True)])
            for x, y in zip(*pair, strict=True)
        ]
        np.testing.assert_allclose(mel_distance(*pair, rate), expected, rtol=1e-9)
        assert MelDistance(rate).values(*pair) == mel_distance(*pair, rate).tolist()

    def test_distance_is_that_of_torchaudio(self, pair):
        transforms = pytest.importorskip("torchaudio.transforms")
        expected = torch.zeros(2)
        for window, bands in MEL_SCALES[:4]:
            spectrum = transforms.Spectrogram(window, hop_length=window // 4, power=1).double()
            scale = transforms.MelScale(
                bands, 16000, n_stft=window // 2 + 1, norm="slaney", mel_scale="slaney"
            ).double()
            a, b = (scale(spectrum(x)).clamp(min=1e-5).log10() for x in pair)
            expected = expected + (a - b).abs().mean((1, 2, 3))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(spectral, "MEL_SCALES", MEL_SCALES[:4])
            torch.testing.assert_close(mel_distance(*pair, 16000), expected, rtol=1e-5, atol=1e-6)

    def test_ten_times_louder_is_one_at_each_scale(self):
        x = torch.randn(1, 8000, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        # Bands that hold no frequency stay at the floor on both sides.
        held = sum((mel_bank(16000, w, n).sum(1) > 0).double().mean().item() for w, n in MEL_SCALES)
        assert mel_distance(10 * x, x, 16000).item() == pytest.approx(held, rel=1e-3)

    def test_loss_is_the_mean_and_has_gradients(self, pair):
        preds, target = (x.float() for x in pair)
        preds.requires_grad_()
        loss = mel_loss(preds, target, 16000)
        loss.backward()
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(mel_distance(*pair, 16000).mean().item(), rel=1e-3)
        assert preds.grad.isfinite().all()
        same = target.clone().requires_grad_()
        mel_loss(same, target, 16000).backward()
        assert same.grad.isfinite().all()
        assert mel_loss(target.half(), target.half(), 16000).dtype == torch.float32

    def test_gradient_is_the_slope(self, pair):
        preds, target = (x[:1] for x in pair)
        preds = preds.clone().requires_grad_()
        mel_loss(preds, target, 16000).backward()
        way = torch.randn(preds.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
        with torch.no_grad():
            ends = [mel_loss(preds + side * 1e-7 * way, target, 16000) for side in (1, -1)]
        assert ((ends[0] - ends[1]) / 2e-7).item() == pytest.approx((preds.grad * way).sum().item(), rel=1e-3)

    def test_rate_is_checked(self, pair):
        with pytest.raises(ValueError, match="`rate` must be positive"):
            mel_distance(*pair, 0)


class TestMrStft:
    def test_distance_is_that_of_a_direct_transform(self, pair):
        expected = [mr_stft_by_numpy(x, y) for x, y in zip(pair[0].numpy(), pair[1].numpy(), strict=True)]
        np.testing.assert_allclose(mr_stft(*pair), expected, rtol=1e-9)
        assert MRSTFT().values(*pair) == mr_stft(*pair).tolist()

    def test_gradient_is_finite_where_both_are_equal(self, pair):
        same = pair[1].clone().requires_grad_()
        mr_stft(same, pair[1]).sum().backward()
        assert same.grad.isfinite().all()


@pytest.mark.parametrize("length", [1, 2, 3, 16, 255, 1024, 1025])
def test_short_sounds_are_mirrored_as_often_as_it_takes(length):
    x, y = np.random.default_rng(length).normal(0, 0.3, (2, length))
    preds, target = torch.from_numpy(x)[None], torch.from_numpy(y)[None]
    assert mel_distance(preds, target, 16000).item() == pytest.approx(mel_by_numpy(x, y, 16000))
    assert mr_stft(preds, target).item() == pytest.approx(mr_stft_by_numpy(x[None], y[None]))


def test_pieces_give_the_same(pair, monkeypatch):
    whole = mel_distance(*pair, 16000), mr_stft(*pair)
    monkeypatch.setattr(spectral, "_PIECE", 2048 * 3)
    torch.testing.assert_close((mel_distance(*pair, 16000), mr_stft(*pair)), whole)


@pytest.mark.parametrize("name", ["mel", "mr-stft"])
def test_bench_measures_the_same(pair, name):
    preds, target = (x[0].float() for x in pair)
    found = metric(name).measure(Sound(preds.numpy(), 24000), Sound(target.numpy(), 24000))
    expected = mel_distance(preds[None], target[None], 24000) if name == "mel" else mr_stft(preds[None], target[None])
    assert found == expected.item() > 0
    assert metric(name).measure(Sound(target.numpy(), 24000), Sound(target.numpy(), 24000)) == 0

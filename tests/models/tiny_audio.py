"""A tiny `audio-light` with varied weights, and sounds for it."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from triode.models.audio.audio_light import AudioLight, AudioLightConfig

TINY_SOUND = AudioLightConfig(
    sample_rate=8000,
    hop=64,
    block=32,
    coefficients=48,
    envelope=8,
    bands=10,
    hyper=6,
    encoder=8,
    encoder_blocks=1,
    decoder=8,
    decoder_blocks=2,
    kernel=3,
    context=8,
    features=12,
    parameters=8,
)


def tone(samples: int, seed: int = 0, rate: int = 8000) -> NDArray[np.float32]:
    """Return (T,) float32 at a root mean square of 0.1: a few gliding tones below a quarter of the rate, and noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(samples) / rate
    x = rng.normal(0, 0.02, samples)
    for _ in range(4):
        low, glide, phase = rng.uniform(0.01, 0.2) * rate, rng.uniform(-0.05, 0.05) * rate, rng.uniform(0, 6.3)
        swell = 1 + 0.8 * np.sin(2 * np.pi * rng.uniform(0.5, 4) * t + phase)
        x += rng.uniform(0.2, 1) * swell * np.sin(2 * np.pi * (low + glide * t / (1 + t[-1])) * t + phase)
    return (x * (0.1 / np.sqrt(np.mean(x**2)))).astype(np.float32)


def tiny_sound_model(seed: int = 0, config: AudioLightConfig = TINY_SOUND, *, noise: float = 0.3) -> AudioLight:
    """Build a model that reconstructs sounds fairly well, none of whose layers is idle; not exported."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AudioLight(config).eval()
        model.init_from_data(tone(3000, seed=100 + i) for i in range(3))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                scale = 0.01 if ".linear." in name or "gain" in name else noise / 10 if ".tail." in name else noise
                fan_in = parameter[0].numel() if parameter.dim() == 4 else 16
                parameter.add_(torch.randn_like(parameter) * (scale / fan_in**0.5))
    return model

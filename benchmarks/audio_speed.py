"""Speed of the codec of sound beside EnCodec 24 kHz, in one run on one recording, in one thread.

    python benchmarks/audio_speed.py [SOUND] [--models NAME,NAME] [--quality 50] [--seconds 20] [--repeats 5]

Ours runs from samples in memory to the bytes of a file and back, range coder, chunks and container included. EnCodec
(package ``encodec``, random weights, 6 kb/s) runs from samples to codes and back, and makes no bytes of them. Each gets
the recording at its own rate, mono. Without ``--models``, ``audio-light`` of both training configurations is measured
untrained: its linear start codes the recording, at several times the rate that it has after training, which takes the
range coder longer. Without SOUND, the recording is synthetic. Prints one JSON object; times are processor times, which
other programs disturb less than the clock, and the median over the repeats, taken in turn. ``x`` is seconds of sound
over seconds of work.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from triode.codecs.audio import AudioCodec
from triode.codecs.resample import resample
from triode.io.audio import read_sound
from triode.media import Sound
from triode.models.base import AudioModel
from triode.models.complexity import count_sound_macs
from triode.models.registry import create_model
from triode.models.weights import Loaded, load_weights, save_weights

CONFIGS = Path(__file__).parent.parent / "triode" / "train" / "configs"
PEER_KBPS = 6.0


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the processor time that a call takes in seconds, and its result."""
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def synthetic(seconds: float, rate: int) -> Sound:
    """Return a mono sound like a voice: harmonics that glide and come and go, and breath."""
    rng, t = np.random.default_rng(0), np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(120 + 40 * np.sin(2.1 * t) + 15 * np.sin(9.7 * t)) / rate
    x = 0.3 * rng.normal(0, 1, len(t))
    for k in range(1, 40):
        x += np.sin(k * phase + rng.uniform(0, 6)) / k * (1 + np.sin(rng.uniform(2, 9) * t + rng.uniform(0, 6)))
    x *= np.clip(np.sin(4.4 * t) + np.sin(1.3 * t + 1), 0, None) + 0.02
    return Sound((0.5 * x / np.abs(x).max())[None].astype(np.float32), rate)


def at_rate(sound: Sound, rate: int) -> Sound:
    """Return the mean of the channels at another rate."""
    return Sound(resample(sound.samples.mean(axis=0, keepdims=True), sound.rate, rate), rate)


def untrained(name: str, sound: Sound) -> Loaded[AudioModel]:
    """Return a model of a training configuration as if it had been loaded from its weights."""
    import yaml

    given = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["model"]["init_args"]
    torch.manual_seed(0)
    model = create_model(given["model"], **given.get("config", {}))
    if not isinstance(model, AudioModel):
        raise SystemExit(f"{name} is no configuration of a model of sound")
    model.init_from_data([at_rate(sound, model.sample_rate).samples[0]])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.v0.safetensors"
        save_weights(model, path, name=f"{name}.v0", architecture=given["model"])
        return load_weights(str(path), AudioModel)  # type: ignore[type-abstract]


def peer() -> tuple[Any, str | None]:
    """Return EnCodec's network, or why there is none."""
    try:
        from encodec import EncodecModel
    except ImportError as error:
        return None, f"not measured: {error}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        network = EncodecModel.encodec_model_24khz(pretrained=False).eval()
    network.set_target_bandwidth(PEER_KBPS)
    return network, None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sound", nargs="?", type=Path, help="a recording (default: a synthetic one)")
    parser.add_argument("--models", help="names or paths of weights (default: both configurations, untrained)")
    parser.add_argument("--quality", type=float, default=50)
    parser.add_argument("--seconds", type=float, default=20, help="seconds that are coded")
    parser.add_argument("--repeats", type=int, default=5)
    a = parser.parse_args()
    torch.set_num_threads(1)

    sound = synthetic(a.seconds, 48_000) if a.sound is None else read_sound(a.sound)
    sound = Sound(sound.samples[:, : round(a.seconds * sound.rate)], sound.rate)
    if a.models:
        weights = [load_weights(name, AudioModel) for name in a.models.split(",")]  # type: ignore[type-abstract]
    else:
        weights = [untrained(name, sound) for name in ("audio-light-speech", "audio-light-general")]
    codecs = [AudioCodec(one) for one in weights]
    inputs = [at_rate(sound, one.model.sample_rate) for one in weights]
    network, missing = peer()

    times: dict[str, list[float]] = {}
    files: dict[str, bytes] = {}
    with torch.inference_mode():
        for _ in range(a.repeats + 1):  # The first round warms caches and is dropped.
            for one, codec, x in zip(weights, codecs, inputs, strict=True):
                name = one.info.name
                seconds, coded = timed(lambda: codec.encode(x, quality=a.quality))  # noqa: B023
                files[name] = coded.data
                times.setdefault(f"{name} encode", []).append(seconds)
                times.setdefault(f"{name} decode", []).append(timed(lambda: codec.decode(files[name]))[0])  # noqa: B023
            if network is not None:
                wave = torch.from_numpy(at_rate(sound, network.sample_rate).samples)[None]
                seconds, frames = timed(lambda: network.encode(wave))  # noqa: B023
                times.setdefault("peer encode", []).append(seconds)
                times.setdefault("peer decode", []).append(timed(lambda: network.decode(frames))[0])  # noqa: B023
    speed = {name: sound.seconds / statistics.median(found[1:]) for name, found in times.items()}

    report: dict[str, Any] = {
        "sound": "synthetic" if a.sound is None else a.sound.name,
        "seconds": round(sound.seconds, 2),
        "threads": 1,
        "quality": a.quality,
        "peer": missing or f"encodec 24 kHz at {PEER_KBPS:g} kb/s, random weights, codes only",
        **(
            {} if network is None else {f"peer_{way}_x": round(speed[f"peer {way}"], 1) for way in ("encode", "decode")}
        ),
        "models": {},
    }
    for one in weights:
        name, macs = one.info.name, count_sound_macs(one.model, 4 * one.model.sample_rate)
        row = report["models"][name] = {
            "rate": one.model.sample_rate,
            "parameters": macs.parameters,
            "kmac_encode": round(macs.kmac_encode, 1),
            "kmac_decode": round(macs.kmac_decode, 1),
            "kbps": round(8 * len(files[name]) / sound.seconds / 1000, 2),
        }
        for way in ("encode", "decode"):
            row[f"{way}_x"] = round(speed[f"{name} {way}"], 1)
            if network is not None:
                row[f"{way}_ratio"] = round(speed[f"{name} {way}"] / speed[f"peer {way}"], 2)
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()

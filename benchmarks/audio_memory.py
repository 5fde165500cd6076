"""Peak memory of encoding and decoding a long recording, block by block.

    python benchmarks/audio_memory.py [--hours 1] [--channels 2] [--rate 48000] [--model NAME] [--kbps X]

Encodes a synthetic sound of a minute, and one of ``--hours``, from a generator to a file, and decodes the files block
by block, each in a process of its own; neither samples nor file ever lie in memory whole. Without ``--model``, a small
untrained ``audio-light`` is used, which is quick; what another model takes more are its weights and its layers' outputs
for a chunk. With ``--kbps`` the rate is searched, for which the samples are kept in a temporary file. Prints one JSON
object: peak resident memory and seconds of each process, and how much more the long recording took than the short one.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from processes import growth, measured

from triode.codecs.audio import AudioCodec
from triode.models.base import AudioModel
from triode.models.registry import create_model
from triode.models.weights import save_weights

SMALL = {
    "coefficients": 160,
    "envelope": 16,
    "bands": 20,
    "hyper": 16,
    "encoder": 16,
    "encoder_blocks": 1,
    "decoder": 16,
    "decoder_blocks": 2,
    "context": 16,
    "features": 16,
    "parameters": 16,
}


class Drone:
    """A source of samples: a chord that swells, with some noise, for so many seconds."""

    def __init__(self, seconds: float, rate: int, channels: int) -> None:
        self.rate, self.channels, self.frames = rate, channels, round(seconds * rate)
        self._at, self._rng = 0, np.random.default_rng(0)

    def read(self, count: int) -> NDArray[np.float32]:
        """Return the next (C, T) samples."""
        count = min(count, self.frames - self._at)
        t = (self._at + np.arange(count)) / self.rate
        self._at += count
        x = sum(np.sin(2 * np.pi * f * t) * (1 + np.sin(0.3 * f * t / 100)) for f in (110, 165, 220, 277, 440)) / 15
        noise = self._rng.normal(0, 0.01, (self.channels, count))
        return (x * np.linspace(1, 0.7, self.channels)[:, None] + noise).astype(np.float32)


def small_weights(path: Path) -> None:
    """Write the weights of a small untrained model."""
    torch.manual_seed(0)
    model = create_model("audio-light", **SMALL)
    if not isinstance(model, AudioModel):
        raise SystemExit("audio-light is no model of sound")
    model.init_from_data([Drone(20, model.sample_rate, 1).read(1 << 30)[0]])
    save_weights(model, path, name="audio-light-small.v0", architecture="audio-light")


def step(a: argparse.Namespace) -> None:
    """Do what a process of its own does."""
    torch.set_num_threads(1)
    if a.step == "weights":
        small_weights(Path(a.model))
        return
    codec, seconds = AudioCodec(a.model), 3600 * a.hours
    if a.step == "encode":
        with a.file.open("wb") as out:
            codec.encode(Drone(seconds, a.rate, a.channels), out, kbps=a.kbps)
        return
    with a.file.open("rb") as source:
        made = sum(block.shape[1] for block in codec.blocks(source))
    if made != round(seconds * a.rate):
        raise SystemExit(f"{made} samples came back")


def run(what: str, a: argparse.Namespace, **given: object) -> dict[str, float]:
    """Run a step as a process; return its peak memory and its seconds."""
    shared = {name: getattr(a, name) for name in ("rate", "channels", "kbps")}
    words = [f"--{name}={value}" for name, value in {"step": what, **shared, **given}.items() if value is not None]
    return measured([sys.executable, __file__, *words]).mebibytes


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=1)
    parser.add_argument("--channels", type=int, default=2)
    parser.add_argument("--rate", type=int, default=48_000)
    parser.add_argument("--model", help="name or path of weights (default: a small untrained model)")
    parser.add_argument("--kbps", type=float, help="search this rate rather than take quality 50")
    parser.add_argument("--step", choices=("weights", "encode", "decode"), help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.step:
        step(a)
        return
    peaks: dict[str, dict[str, dict[str, float]]] = {}
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        model = a.model or str(Path(folder) / "audio-light-small.v0.safetensors")
        if not a.model:
            run("weights", a, model=model)
        for name, hours in (("minute", 1 / 60), ("long", a.hours)):
            file = Path(folder) / f"{name}.tri"
            peaks[name] = {what: run(what, a, model=model, file=file, hours=hours) for what in ("encode", "decode")}
            sizes[name] = file.stat().st_size
    report = {
        **{name: getattr(a, name) for name in ("hours", "channels", "rate", "kbps")},
        **{name: {**found, "bytes": sizes[name]} for name, found in peaks.items()},
        "growth_mib": growth(peaks["minute"], peaks["long"]),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()

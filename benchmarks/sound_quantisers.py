"""Scalar quantisation with an entropy model against residual vector quantisation with a prior, on the same latents.

    python benchmarks/sound_quantisers.py RECORDINGS [--model audio-light-speech.v1] [--points 14,26,38] [--stages 20]

A trained ``audio-light`` makes latents, gain applied, so that an error of one unit costs about the same in all of
them, and turns quantised ones back into sound. They are quantised in two ways:

* by rounding, with the model's own hyperprior and context, as the codec does it, its rate-distortion optimised
  rounding included: real bytes;
* as vectors, one a frame, by so many stages of 1024 codes each, which k-means and moving averages fit to the frames of
  this model at this rate point; codes of fixed length, and real bytes of a context prior that was trained on them.

Every eighth recording is held back from all fitting of the vector quantiser and its prior (the model itself may know
it, which favours neither), and is what the table counts. Transforms were trained with rounding, which favours
rounding; that vectors are fitted to each rate point, and frames of 20 ms leave their prior little to predict within
one, favours vectors or neither. Prints one JSON object: at each rate point and number of stages thousand bits a
second, SNR of the latent, mel distance and SI-SDR in dB. Needs some minutes a rate point.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from code_priors import Codes, train_context
from torch import Tensor

from triode.codecs.resample import resample
from triode.entropy.coder import RangeWriter
from triode.entropy.vq import PlainVQ, ResidualVQ
from triode.eval.metrics.signal import si_sdr
from triode.eval.metrics.spectral import mel_distance
from triode.io.audio import READABLE, read_sound
from triode.models.audio.audio_light import AudioLight
from triode.models.weights import load_weights

HELD = 8
SIZE = 1024
FIRST, BATCH = 16_384, 4096
LONGEST = 10.0


@dataclass(frozen=True, slots=True)
class Row:
    """What one quantiser makes of the held-back recordings."""

    point: int
    quantiser: str
    stages: int
    kbps: float
    kbps_fixed: float | None
    latent_snr_db: float
    mel: float
    si_sdr_db: float


def samples_of(path: Path, model: AudioLight) -> Tensor:
    """Return (1, 1, T) samples at the model's rate and loudness, T a multiple of what it takes; at most ten seconds."""
    sound = read_sound(path)
    x = torch.from_numpy(resample(sound.samples, sound.rate, model.sample_rate))[0]
    step = model.multiple * model.hop
    x = x[: min(len(x), int(LONGEST * model.sample_rate)) // step * step]
    loudness = float(x.square().mean().sqrt()) if len(x) else 0.0
    return (x * (model.level / loudness) if loudness else x)[None, None]


def fit(frames: Tensor, stages: int, updates: int) -> ResidualVQ:
    """Fit a residual quantiser to frames (N, M) by k-means and moving averages."""
    rvq = ResidualVQ([PlainVQ(frames.shape[1], SIZE, kmeans_iterations=8, decay=0.9) for _ in range(stages)]).train()
    rvq(frames[torch.randperm(len(frames))[:FIRST]].t()[None])
    for _ in range(updates):
        rvq(frames[torch.randint(len(frames), (BATCH,))].t()[None])
    return rvq.eval()


def row(
    name: tuple[int, str, int],
    made: Sequence[tuple[Tensor, int]],
    fixed: float | None,
    held: Sequence[tuple[Tensor, Tensor]],
    model: AudioLight,
) -> Row:
    """Measure quantised latents and their bytes against the recordings and their latents."""
    q = torch.tensor([name[0]])
    snr, mel, sdr = [], [], []
    for (y_hat, _), (x, y) in zip(made, held, strict=True):
        snr.append(float(10 * torch.log10(y.square().sum() / (y - y_hat).square().sum())))
        decoded = model.synthesis(model.dequantise(y_hat, q), q)[0]
        mel.append(float(mel_distance(decoded, x[0], model.sample_rate)))
        sdr.append(float(si_sdr(decoded, x[0])))
    seconds = sum(x.shape[-1] for x, _ in held) / model.sample_rate
    kbps = round(8 * sum(size for _, size in made) / seconds / 1000, 3)
    means = [round(statistics.mean(values), 3) for values in (snr, mel, sdr)]
    return Row(*name, kbps, fixed, *means)


def measure(
    model: AudioLight, point: int, training: list[Tensor], held: list[Tensor], a: argparse.Namespace
) -> list[Row]:
    """Quantise in both ways at a rate point."""
    q = torch.tensor([point])

    def latent(x: Tensor) -> Tensor:
        return model.gain(model.analysis(x, q), q)

    pairs = [(x, latent(x)) for x in held]
    made = []
    for x, _ in pairs:
        writer = RangeWriter()
        y_hat = model.encode(model.analysis(x, q), q, writer).float()
        made.append((y_hat, len(writer.getvalue())))
    rows = [row((point, "scalar", 0), made, None, pairs, model)]
    print(rows[-1], file=sys.stderr, flush=True)
    latents = [latent(x)[0, :, 0] for x in training]
    frames = torch.cat(latents, 1).t()
    mean = frames.mean(0)
    rvq = fit(frames - mean, a.stages, a.updates)

    def codes_of(y: Tensor) -> Codes:
        return rvq.encode((y - mean[:, None])[None])

    with torch.enable_grad():
        prior = train_context([codes_of(y) for y in latents], rvq, a.steps)
    prior.export()
    coded = [codes_of(y[0, :, 0]) for _, y in pairs]
    per_second = model.sample_rate / model.hop
    for stages in sorted({a.stages * k // 5 for k in range(1, 6)} - {0}):
        made = []
        for codes in coded:
            writer = RangeWriter()
            prior.encode(codes[:stages], writer)
            y_hat = (rvq.decode(codes[:stages])[0] + mean[:, None])[None, :, None]
            made.append((y_hat, len(writer.getvalue())))
        rows.append(row((point, "residual", stages), made, round(per_second * 10 * stages / 1000, 3), pairs, model))
        print(rows[-1], file=sys.stderr, flush=True)
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path, help="folder of recordings, searched recursively")
    parser.add_argument("--model", default="audio-light-speech.v1")
    parser.add_argument("--points", type=lambda s: [int(p) for p in s.split(",")], default=[14, 26, 38])
    parser.add_argument("--stages", type=int, default=20)
    parser.add_argument("--updates", type=int, default=40)
    parser.add_argument("--steps", type=int, default=350, help="training steps of the context prior")
    parser.add_argument("--limit", type=int, default=400, help="most recordings, evenly chosen")
    a = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = load_weights(a.model, AudioLight).model
    files = sorted(p for p in a.recordings.rglob("*") if p.suffix.lower() in READABLE)
    files = files[:: -(-len(files) // a.limit)]
    sounds = [x for x in (samples_of(path, model) for path in files) if x.shape[-1] >= 2 * model.sample_rate]
    held, training = sounds[HELD - 1 :: HELD], [x for i, x in enumerate(sounds) if i % HELD != HELD - 1]
    if not held:
        raise SystemExit(f"Need at least {HELD} recordings of 2 seconds under {a.recordings}")
    with torch.no_grad():
        rows = [found for point in a.points for found in measure(model, point, training, held, a)]
    minutes = [round(sum(x.shape[-1] for x in part) / model.sample_rate / 60, 1) for part in (training, held)]
    facts = {"model": a.model, "fitted_on_minutes": minutes[0], "held_back_minutes": minutes[1]}
    print(json.dumps({**facts, "rows": [asdict(found) for found in rows]}, indent=1))


if __name__ == "__main__":
    main()

"""What code priors save against codes of fixed length, and how fast they code; in one run of about two minutes.

    python benchmarks/code_priors.py RECORDINGS [--stages 8] [--size 1024] [--steps 350] [--seed 0] [--json]

Recordings become 80 log mel bands at 75 frames a second (24 kHz, as EnCodec's frames). A residual quantiser learns
them by moving averages, one stage a codebook, and both priors learn its codes; every eighth file is held back from all
three. The table counts real bytes of held-back files: each recording as one payload, and in payloads of one second, as
packets and seeking need it. Every payload is decoded again and compared. Times are processor times of one thread.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from triode.codecs.resample import resample
from triode.entropy.coder import RangeReader, RangeWriter
from triode.entropy.vq import PlainVQ, ResidualVQ
from triode.entropy.vq.context_prior import ContextPrior
from triode.entropy.vq.prior import CodePrior, code_vectors
from triode.entropy.vq.static_prior import StaticPrior
from triode.eval.metrics.spectral import mel_bank
from triode.io.audio import READABLE, read_sound

RATE, HOP, WINDOW, BANDS, FLOOR = 24000, 320, 1024, 80, 1e-4
SECOND = RATE // HOP
HELD = 8
SHIFTS = 4
CROP, BATCH = 64, 16
FRAMES, UPDATES, RVQ_BATCH = 12_288, 40, 4096

Codes = tuple[Tensor, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """Savings of a prior over all held-back files."""

    prior: str
    stages: int
    payload: str
    fixed_bytes: int
    coded_bytes: int
    saved_percent: float
    encode_times_real_time: float
    decode_times_real_time: float


def features(path: Path) -> list[Tensor]:
    """Return log mels (80, F) of a recording from several starts, the first one from its own."""
    sound = read_sound(path)
    samples = torch.from_numpy(resample(sound.samples, sound.rate, RATE).mean(0))
    bank, window = mel_bank(RATE, WINDOW, BANDS).float(), torch.hann_window(WINDOW)
    found = []
    for start in range(0, HOP, HOP // SHIFTS):
        if len(samples) - start > WINDOW:
            spectra = torch.stft(samples[start:], WINDOW, HOP, window=window, return_complex=True).abs()
            found.append((bank @ spectra).clamp_min(FLOOR).log10())
    return found


def train_quantizer(frames: Tensor, stages: int, size: int) -> ResidualVQ:
    """Learn a residual quantiser of frames (N, 80) by k-means and moving averages."""
    rvq = ResidualVQ([PlainVQ(BANDS, size, kmeans_iterations=6, decay=0.9) for _ in range(stages)]).train()
    with torch.no_grad():
        rvq(frames[torch.randperm(len(frames))[:FRAMES]].t()[None])
        for _ in range(UPDATES):
            rvq(frames[torch.randint(len(frames), (RVQ_BATCH,))].t()[None])
    return rvq.eval()


def train_context(codes: Sequence[Codes], rvq: ResidualVQ, steps: int, lr: float = 4e-3) -> ContextPrior:
    """Learn a context prior from the codes of recordings."""
    prior = ContextPrior(rvq.codebook_sizes)
    prior.init_from_vectors(code_vectors(rvq))
    prior.fit(codes)
    optimizer = torch.optim.AdamW(prior.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, lr / 50)
    long = [torch.stack([c[0] for c in code]) for code in codes if code[0].shape[1] >= CROP]
    if not long:
        raise SystemExit(f"Need recordings of at least {CROP / SECOND:.1f} seconds")
    prior.train()
    for _ in range(steps):
        crops = []
        for i in torch.randint(len(long), (BATCH,)).tolist():
            start = int(torch.randint(long[i].shape[1] - CROP + 1, ()))
            crops.append(long[i][:, start : start + CROP])
        loss = prior(torch.stack(crops, 1).unbind(0)).mean() / CROP
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return prior.eval()


def measure(name: str, prior: CodePrior, recordings: Sequence[Codes], stages: int, seconds: int | None) -> Row:
    """Code all recordings, whole or in payloads of so many seconds, with their first stages."""
    coded, spent, frames = 0, [0.0, 0.0], 0
    for recording in recordings:
        length = recording[0].shape[1]
        unit = length if seconds is None else seconds * SECOND
        for start in range(0, length, unit):
            codes = tuple(code[:, start : start + unit] for code in recording[:stages])
            begun = time.process_time()
            writer = RangeWriter()
            prior.encode(codes, writer)
            data = writer.getvalue()
            written = time.process_time()
            decoded = prior.decode(codes[0].shape[1], stages, RangeReader(data))
            spent[1] += time.process_time() - written
            spent[0] += written - begun
            if not all(torch.equal(a, b) for a, b in zip(codes, decoded, strict=True)):
                raise SystemExit(f"The {name} prior did not decode what it encoded")
            coded += len(data)
            frames += codes[0].shape[1]
    fixed = math.ceil(sum(math.ceil(math.log2(size)) for size in prior.codebook_sizes[:stages]) * frames / 8)
    payload = "recording" if seconds is None else f"{seconds} s"
    speeds = [frames / SECOND / each for each in spent]
    return Row(name, stages, payload, fixed, coded, 100 - 100 * coded / fixed, *speeds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path, help="folder of recordings, searched recursively")
    parser.add_argument("--stages", type=int, default=8)
    parser.add_argument("--size", type=int, default=1024, help="entries of each codebook")
    parser.add_argument("--steps", type=int, default=350, help="training steps of the context prior")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    torch.set_num_threads(1)
    begun = time.process_time()
    files = sorted(p for p in args.recordings.rglob("*") if p.suffix.lower() in READABLE)
    mels = [features(path) for path in files]
    training = [mel for i, shifts in enumerate(mels) if i % HELD != HELD - 1 for mel in shifts]
    held = [shifts[0] for i, shifts in enumerate(mels) if i % HELD == HELD - 1 and shifts]
    if not training or not held:
        raise SystemExit(f"Need at least {HELD} recordings of sound under {args.recordings}")
    frames = torch.cat(training, 1).t()
    mean, spread = frames.mean(0), frames.std()
    prepared = time.process_time()
    rvq = train_quantizer((frames - mean) / spread, args.stages, args.size)

    def encode(mel: Tensor) -> Codes:
        return rvq.encode(((mel - mean[:, None]) / spread)[None])

    codes, test = [encode(mel) for mel in training], [encode(mel) for mel in held]
    quantised = time.process_time()
    static = StaticPrior(rvq.codebook_sizes)
    static.fit(codes)
    context = train_context(codes, rvq, args.steps)
    trained = time.process_time()
    noise = [
        ((rvq.decode(c)[0] - (m - mean[:, None]) / spread).square().mean()) for c, m in zip(test, held, strict=True)
    ]
    priors: dict[str, CodePrior] = {"static": static, "context": context}
    rows = []
    for name, prior in priors.items():
        prior.export()
        for stages in sorted({max(1, args.stages >> k) for k in range(3)}):
            rows += [measure(name, prior, test, stages, seconds) for seconds in (None, 1)]
    facts = {
        "files": len(files),
        "minutes": round(frames.shape[0] / SHIFTS / SECOND / 60, 1),
        "held_back_minutes": round(sum(c[0].shape[1] for c in test) / SECOND / 60, 2),
        "quantiser_snr_db": round(float(-10 * torch.stack(noise).mean().log10()), 2),
        "seconds": [round(b - a, 1) for a, b in ((begun, prepared), (prepared, quantised), (quantised, trained))],
    }
    if args.json:
        print(json.dumps({**facts, "rows": [asdict(row) for row in rows]}))
        return
    print(", ".join(f"{key} {value}" for key, value in facts.items()))
    print(f"{'prior':10}{'stages':>7}{'payload':>11}{'fixed B':>10}{'coded B':>10}{'saved %':>9}{'x real time':>16}")
    for r in rows:
        speeds = f"{r.encode_times_real_time:>8.0f}{r.decode_times_real_time:>8.0f}"
        print(
            f"{r.prior:10}{r.stages:>7}{r.payload:>11}{r.fixed_bytes:>10}{r.coded_bytes:>10}{r.saved_percent:>9.1f}{speeds}"
        )


if __name__ == "__main__":
    main()

"""Peak memory of encoding and decoding a long clip, frame by frame.

    python benchmarks/video_memory.py [--minutes 10] [--width 352] [--height 288] [--fps 30] [--model NAME]
        [--quality 50] [--threads 2]

Encodes a synthetic clip of five seconds, and one of ``--minutes``, from a generator to a file, and decodes the files
group by group, each in a process of its own; neither frames nor file ever lie in memory whole. Without ``--model``, a
small untrained ``video-light`` is used, which is quick as it does not search for motion; what another model takes more
are its weights, the latents of a group and its layers' outputs for a frame. Prints one JSON object: peak resident
memory and seconds of each process, and how much more the long clip took than the short one.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from processes import growth, measured

from triode.codecs.video import VideoCodec
from triode.media import Clip
from triode.models.registry import create_model
from triode.models.video.video_light import VideoLight
from triode.models.weights import save_weights

SMALL_IMAGE = {
    "latent": 16,
    "hyper": 8,
    "fine": 8,
    "coarse": 8,
    "encoder_fine": 1,
    "encoder_coarse": 1,
    "decoder_fine": 1,
    "decoder_coarse": 1,
    "context": 8,
    "features": 12,
    "parameters": 8,
}
SMALL = {
    "image": SMALL_IMAGE,
    "latent": 16,
    "hyper": 4,
    "feature": 16,
    "coarse": 16,
    "context_blocks": 1,
    "decoder_blocks": 1,
    "encoder_blocks": 1,
    "encoder_coarse": 1,
    "parameters": 16,
    "neighbours": 8,
}
SHORT = 5.0
"""Seconds of the short clip: some groups."""
REACH = 64


class Drift:
    """A source of frames: a texture over which the view wanders, for so many seconds."""

    matrix, full_range, primaries, transfer, aspect = "bt709", False, 2, 2, Fraction(1)

    def __init__(self, seconds: float, width: int, height: int, fps: float) -> None:
        self.width, self.height, self.rate = width, height, Fraction(fps).limit_denominator(1001)
        self.frames, self.tick = max(1, round(seconds * self.rate)), 1 / self.rate
        self._at, rng = 0, np.random.default_rng(0)
        y, x = np.mgrid[: height + 2 * REACH, : width + 2 * REACH].astype(np.float32)
        waves = rng.uniform(-0.3, 0.3, (8, 2))
        texture = sum(np.sin(fy * y + fx * x + n) for n, (fy, fx) in enumerate(waves)) * 10 + rng.normal(0, 4, y.shape)
        self.texture = (texture + 125).clip(16, 235).astype(np.uint8)
        self._colours = self.texture[::2, ::2], 255 - self.texture[::2, ::2]

    def read(self, count: int) -> Clip | None:
        """Return the next frames, at most so many; None at the end."""
        numbers = range(self._at, min(self._at + count, self.frames))
        self._at = numbers.stop
        if not numbers:
            return None
        # Even numbers, so that chroma moves along.
        corners = [
            (int(REACH // 2 * (1 + np.sin(n / 17))) * 2, int(REACH // 2 * (1 + np.cos(n / 23))) * 2) for n in numbers
        ]
        y = np.stack([self.texture[r : r + self.height, c : c + self.width] for r, c in corners])
        height, width = (self.height + 1) // 2, (self.width + 1) // 2
        u, v = (
            np.stack([plane[r // 2 : r // 2 + height, c // 2 : c // 2 + width] for r, c in corners])
            for plane in self._colours
        )
        return Clip(y, u, v, self.rate)


def small_weights(path: Path) -> None:
    """Write the weights of a small untrained model."""
    torch.manual_seed(0)
    model = create_model("video-light", **SMALL)
    if not isinstance(model, VideoLight):
        raise SystemExit("video-light is no model of video")
    model.image.init_from_data([np.repeat(Drift(1, 256, 256, 30).texture[..., None], 3, 2)])
    save_weights(model, path, name="video-light-small.v0", architecture="video-light")


def step(a: argparse.Namespace) -> None:
    """Do what a process of its own does."""
    torch.set_num_threads(a.threads)
    if a.step == "weights":
        small_weights(Path(a.model))
        return
    clip, codec = Drift(a.seconds, a.width, a.height, a.fps), VideoCodec(a.model)
    if a.step == "encode":
        with a.file.open("wb") as out:
            codec.encode(clip, out, quality=a.quality)
        return
    made = 0
    with a.file.open("rb") as source:
        for group in codec.frames(source):
            made += group.frames
            if (group.width, group.height) != (a.width, a.height):
                raise SystemExit(f"frames of {group.width}x{group.height} came back")
    if made != clip.frames:
        raise SystemExit(f"{made} frames came back, not {clip.frames}")


def run(what: str, a: argparse.Namespace, **given: object) -> dict[str, float]:
    """Run a step as a process; return its peak memory and its seconds."""
    shared = {name: getattr(a, name) for name in ("width", "height", "fps", "quality", "threads")}
    words = [f"--{name}={value}" for name, value in {"step": what, **shared, **given}.items() if value is not None]
    return measured([sys.executable, __file__, *words]).mebibytes


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--width", type=int, default=352)
    parser.add_argument("--height", type=int, default=288)
    parser.add_argument("--fps", type=float, default=30)
    parser.add_argument("--model", help="name or path of weights (default: a small untrained model)")
    parser.add_argument("--quality", type=float, default=50)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--step", choices=("weights", "encode", "decode"), help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.step:
        step(a)
        return
    peaks: dict[str, dict[str, dict[str, float]]] = {}
    sizes = {}
    with tempfile.TemporaryDirectory() as folder:
        model = a.model or str(Path(folder) / "video-light-small.v0.safetensors")
        if not a.model:
            run("weights", a, model=model)
        for name, seconds in (("short", SHORT), ("long", 60 * a.minutes)):
            file = Path(folder) / f"{name}.tri"
            peaks[name] = {what: run(what, a, model=model, file=file, seconds=seconds) for what in ("encode", "decode")}
            sizes[name] = file.stat().st_size
    report = {
        **{name: getattr(a, name) for name in ("minutes", "width", "height", "fps", "quality", "threads")},
        "model": a.model or "small untrained video-light",
        **{name: {**found, "bytes": sizes[name]} for name, found in peaks.items()},
        "growth_mib": growth(peaks["short"], peaks["long"]),
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()

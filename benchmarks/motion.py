"""What motion vectors are worth: how near the frame before is to a frame, as it is and moved, and what vectors cost.

    python benchmarks/motion.py CLIP [CLIP ...] [--frames 4] [--height 256] [--width 320] [--point 32]

Luma of uncoded frames, their upper left corner; vectors are found and coded as `video-light` with ``motion`` does at a
rate point. Means are over frames but the first, those of PSNR over dB. Prints one line a clip.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from triode.io.video import ClipReader
from triode.models.video.block_search import search
from triode.models.video.vectors import BLOCK, VectorCoder, compensate, relative
from triode.models.video.video_light import VideoLight


def lumas(path: Path, frames: int, height: int, width: int) -> list[Tensor]:
    """Return luma (1, 1, H, W) in [0, 1] of the first frames, sides multiples of 64."""
    with ClipReader(path) as reader:
        clip = reader.read(frames)
        if clip is None:
            raise SystemExit(f"{path} has no frames")
        low, span = (0, 255) if reader.full_range else (16, 219)
    height, width = (min(side, most) // 64 * 64 for side, most in zip(clip.y.shape[1:], (height, width), strict=True))
    planes = torch.from_numpy(clip.y[:, :height, :width].astype(np.float32) - low) / span
    return [plane[None, None] for plane in planes]


def psnr(errors: list[Tensor]) -> float:
    """Return the mean over frames, in dB."""
    return float(np.mean([-10 * np.log10(max(float(e.square().mean()), 1e-10)) for e in errors]))


@torch.inference_mode()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--point", type=int, default=32, help="rate point, 0 to 63")
    a = parser.parse_args()
    torch.set_num_threads(1)

    coder = VectorCoder()
    price = (VideoLight().rate_lambda(torch.tensor([float(a.point)])) * 255**2 * 0.75) ** -0.5
    print(f"{'clip':32} {'frame before, dB':>17} {'moved, dB':>10} {'bits a pixel':>13}")
    for path in a.clips:
        frames = lumas(path, a.frames, a.height, a.width)
        height, width = frames[0].shape[2:]
        before = torch.zeros(1, 2, height // BLOCK, width // BLOCK)
        still, moved, bits = [], [], 0.0
        for frame, reference in zip(frames[1:], frames, strict=False):
            vectors = search(frame, reference, before, price)
            (prediction,) = compensate([reference], relative(vectors.float()))
            bits += coder.bits(*(v[0].numpy().astype(np.int64) for v in (vectors, before)))
            still.append(frame - reference)
            moved.append(frame - prediction)
            before = vectors.float()
        rate = bits / (len(still) * height * width)
        print(f"{path.stem:32} {psnr(still):17.1f} {psnr(moved):10.1f} {rate:13.3f}", flush=True)


if __name__ == "__main__":
    main()

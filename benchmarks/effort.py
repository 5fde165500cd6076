"""What ``--effort`` buys: BD-rate against effort ``none`` and encoding time, over a folder of pictures.

    python benchmarks/effort.py PICTURES [--model WEIGHTS ...] [--effort low high] [--quality 6 28 50 72 94] [--crop 0]

Files are made and decoded by the codec itself: rates are those of whole files, PSNR is that of decoded 8-bit pixels.
BD-rate is the mean over pictures. Seconds are those of this process on all its threads, divided by the megapixels
of all pictures at all qualities. Prints one JSON object a model and effort, progress on stderr. Needs SciPy (extra
``bench``).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from triode.codecs.image import ImageCodec
from triode.eval.bdrate import RatePoint, bd_rate
from triode.media import Picture
from triode.models.weights import default_weights

SUFFIXES = {".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".webp"}


def load(folder: Path, crop: int) -> dict[str, NDArray[np.uint8]]:
    """Return the (H, W, 3) pixels of each picture, cropped in its middle to at most ``crop`` a side; 0 for whole."""
    pictures = {}
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
        rgb = np.asarray(Image.open(path).convert("RGB"))
        h, w = (min(s, crop or s) for s in rgb.shape[:2])
        top, left = (rgb.shape[0] - h) // 2, (rgb.shape[1] - w) // 2
        pictures[path.name] = rgb[top : top + h, left : left + w]
    return pictures


def curves(
    codec: ImageCodec, pictures: dict[str, NDArray[np.uint8]], qualities: Sequence[float], effort: str
) -> tuple[list[list[RatePoint]], float]:
    """Return the curve of each picture, in bits a pixel and dB, and the seconds spent encoding."""
    found, seconds = [], 0.0
    for number, (name, rgb) in enumerate(pictures.items()):
        points = []
        for quality in qualities:
            start = time.process_time()
            data = codec.encode(Picture(rgb), quality=quality, effort=effort).data  # type: ignore[arg-type]
            seconds += time.process_time() - start
            error = np.square(codec.decode(data).pixels.astype(np.float64) - rgb).mean()
            points.append(RatePoint(8 * len(data) / (rgb.size / 3), float(-10 * np.log10(max(error, 1e-10) / 255**2))))
        found.append(points)
        print(f"effort {effort}: {number + 1}/{len(pictures)} {name}", file=sys.stderr)
    return found, seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--model", nargs="+", default=[default_weights("image")])
    parser.add_argument("--effort", nargs="+", default=["low", "high"])
    parser.add_argument("--quality", nargs="+", type=float, default=[6, 28, 50, 72, 94])
    parser.add_argument("--crop", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)

    pictures = load(a.pictures, a.crop)
    if not pictures:
        parser.error(f"no pictures in {a.pictures}")
    megapixels = sum(p.size / 3e6 for p in pictures.values()) * len(a.quality)
    for model in a.model:
        codec = ImageCodec(model)
        plain, base = curves(codec, pictures, a.quality, "none")
        for effort in a.effort:
            refined, seconds = curves(codec, pictures, a.quality, effort)
            rates = [bd_rate(p, r).percent for p, r in zip(plain, refined, strict=True)]
            steps = [
                {
                    "quality": quality,
                    "bytes_percent": round(statistics.mean(100 * (r[i].rate / p[i].rate - 1) for p, r in pairs), 2),
                    "psnr_db": round(statistics.mean(r[i].quality - p[i].quality for p, r in pairs), 3),
                }
                for pairs in [list(zip(plain, refined, strict=True))]
                for i, quality in enumerate(a.quality)
            ]
            result = {
                "model": Path(model).name.removesuffix(".safetensors"),
                "effort": effort,
                "pictures": len(pictures),
                "bd_rate_percent": round(statistics.mean(rates), 2),
                "worst_percent": round(max(rates), 2),
                "best_percent": round(min(rates), 2),
                "seconds_a_megapixel": round(seconds / megapixels, 1),
                "seconds_a_megapixel_none": round(base / megapixels, 1),
                "at": steps,
            }
            print(json.dumps(result, indent=1), flush=True)


if __name__ == "__main__":
    main()

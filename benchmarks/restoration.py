"""What the filter that travels with each tile gains: files with it, without it, and those of other weights.

    python benchmarks/restoration.py PICTURE [PICTURE ...] [--model image-light.v5] [--base image-light.v2]
        [--quality 10 30 50 70 90] [--side 768 512]

Of each picture the middle is taken. Files are made and decoded by the codec itself: rates are those of whole files,
PSNR is that of decoded 8-bit pixels. BD-rate is against the model without the filter (its switch says so in each
tile), the mean and the median over pictures; bytes and dB likewise, by quality. Seconds are those of encoding and
decoding, medians. Prints one JSON object. Needs SciPy (extra ``bench``).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from triode.codecs.image import ImageCodec
from triode.eval.bdrate import RatePoint, bd_rate
from triode.media import Picture
from triode.models.restoration import Restoration


@dataclass(frozen=True, slots=True)
class Measured:
    """A picture's curve, and the seconds that it took."""

    curve: list[RatePoint]
    encode: list[float]
    decode: list[float]


def middle(path: Path, side: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the middle of a picture, (H, W, 3)."""
    with Image.open(path) as image:
        rgb = np.asarray(image.convert("RGB"))
    width, height = (min(a, b) for a, b in zip(side, (rgb.shape[1], rgb.shape[0]), strict=True))
    top, left = (rgb.shape[0] - height) // 2, (rgb.shape[1] - width) // 2
    return rgb[top : top + height, left : left + width].copy()


def measured(model: str, rgb: NDArray[np.uint8], qualities: list[float]) -> Measured:
    """Code a picture at all qualities."""
    codec, out = ImageCodec(model), Measured([], [], [])
    for quality in qualities:
        times = [time.perf_counter()]
        data = codec.encode(Picture(rgb), quality=quality).data
        times.append(time.perf_counter())
        pixels = codec.decode(data).pixels
        times.append(time.perf_counter())
        error = np.square(pixels.astype(np.float64) - rgb).mean()
        rate, psnr = 8 * len(data) / (rgb.size / 3), float(-10 * np.log10(max(error, 1e-10) / 255**2))
        out.curve.append(RatePoint(rate, psnr))
        out.encode.append(times[1] - times[0])
        out.decode.append(times[2] - times[1])
    return out


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, nargs="+")
    parser.add_argument("--model", default="image-light.v5")
    parser.add_argument("--base", default="image-light.v2")
    parser.add_argument("--quality", nargs="+", type=float, default=[10, 30, 50, 70, 90])
    parser.add_argument("--side", nargs=2, type=int, default=[768, 512], help="width and height")
    a = parser.parse_args()
    runs: dict[str, list[Measured]] = {"with": [], "without": [], "base": []}
    for path in a.pictures:
        rgb = middle(path, (a.side[0], a.side[1]))
        runs["with"].append(measured(a.model, rgb, a.quality))
        with patch.object(Restoration, "solve", lambda *_: None):
            runs["without"].append(measured(a.model, rgb, a.quality))
        runs["base"].append(measured(a.base, rgb, a.quality))
    result: dict[str, object] = {"model": a.model, "base": a.base, "pictures": len(a.pictures), "qualities": a.quality}
    for name in ("with", "base"):
        pairs = list(zip(runs["without"], runs[name], strict=True))
        rates = [bd_rate(p.curve, r.curve).percent for p, r in pairs]
        result[name] = {
            "bd_rate_percent": round(statistics.mean(rates), 2),
            "median_percent": round(statistics.median(rates), 2),
            "worst_percent": round(max(rates), 2),
            "best_percent": round(min(rates), 2),
            "bytes_percent": [
                round(statistics.mean(100 * (r.curve[i].rate / p.curve[i].rate - 1) for p, r in pairs), 2)
                for i in range(len(a.quality))
            ],
            "psnr_db": [
                round(statistics.mean(r.curve[i].quality - p.curve[i].quality for p, r in pairs), 3)
                for i in range(len(a.quality))
            ],
        }
    for name, found in runs.items():
        result[f"seconds_{name}"] = {
            "encode": round(statistics.median(t for r in found for t in r.encode), 4),
            "decode": round(statistics.median(t for r in found for t in r.decode), 4),
        }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

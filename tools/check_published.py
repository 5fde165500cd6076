"""Compare JPEG and WebP as measured here with the curves that CompressAI published for the Kodak photos.

    python tools/check_published.py DIR [--limit N]

DIR holds the 24 photos. Codes each at CompressAI's own qualities, 5, 10, ..., 95, and at those of ``triode bench``,
with its settings and with ours, and prints a table: the BD-rate of the mean curve here against the published one
(PCHIP; positive means more bits here), also with the PSNR of the mean error for the mean of PSNRs, and how rate and
PSNR differ at the points that both have. Takes two minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from triode.eval.anchors.common import Pixels
from triode.eval.bdrate import RatePoint, bd_rate
from triode.eval.coder import Coder, create_coder
from triode.eval.published import published

THEIRS = tuple(float(q) for q in range(5, 100, 5))
SPECS = {
    "jpeg": ("jpeg:optimize=no", "jpeg", "jpeg:subsampling=4:4:4", "jpeg:optimize=no,subsampling=4:4:4"),
    "webp": ("webp:method=0", "webp:method=4", "webp"),
}


def mse(a: Pixels, b: Pixels) -> float:
    """Return the mean squared error of two images."""
    return float(np.mean((a.astype(np.float64) - b) ** 2))


def measure(coder: Coder, qualities: Sequence[float], photos: Sequence[Pixels]) -> list[list[RatePoint]]:
    """Return mean curves: with the mean of PSNRs, as CompressAI has it, and with the PSNR of the mean error."""
    mean, pooled = [], []
    for quality in qualities:
        rates, errors = [], []
        for pixels in photos:
            data = coder.encode(pixels, quality)
            rates.append(8 * len(data) / (pixels.shape[0] * pixels.shape[1]))
            errors.append(mse(coder.decode(data), pixels))
        rate = float(np.mean(rates))
        mean.append(RatePoint(rate, float(np.mean(10 * np.log10(255**2 / np.array(errors))))))
        pooled.append(RatePoint(rate, float(10 * np.log10(255**2 / np.mean(errors)))))
    return [mean, pooled]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int)
    a = parser.parse_args()
    photos = []
    for path in sorted(a.folder.glob("*.png"))[: a.limit]:
        with Image.open(path) as image:
            photos.append(np.array(image.convert("RGB")))
    print(f"{len(photos)} photos\n")
    print("| codec | qualities | BD-rate | PSNR of mean error | rate at equal settings | PSNR at equal settings |")
    print("|---|---|---|---|---|---|")
    for name, specs in SPECS.items():
        theirs = [RatePoint(*pair) for pair in published(f"compressai-{name}")[0].points["psnr"]]
        for spec in specs:
            coder = create_coder(spec, "image")
            for label, qualities in (("5, 10, ..., 95", THEIRS), ("ours", coder.qualities)):
                mean, pooled = measure(coder, qualities, photos)
                deltas = [bd_rate(theirs, curve).percent for curve in (mean, pooled)]
                points = "| "
                if qualities == THEIRS and len(theirs) == len(mean):
                    ratio = np.array([m.rate / t.rate for m, t in zip(mean, theirs, strict=True)])
                    gap = np.array([m.quality - t.quality for m, t in zip(mean, theirs, strict=True)])
                    points = (
                        f"{100 * (ratio.min() - 1):+.2f} to {100 * (ratio.max() - 1):+.2f} % "
                        f"| {gap.min():+.3f} to {gap.max():+.3f} dB"
                    )
                print(f"| `{spec}` | {label} | {deltas[0]:+.2f} % | {deltas[1]:+.2f} % | {points} |", flush=True)


if __name__ == "__main__":
    main()

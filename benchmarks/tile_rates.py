"""What a rate point for each tile by Lagrangian search would buy over one rate point for all.

    python benchmarks/tile_rates.py PICTURES [--model WEIGHTS] [--tile 256] [--sheet] [--step 3] [--effort none]

Codes every tile at every ``step``-th rate point, and gives each the point of least ``error + slope * bytes`` (Shoham &
Gersho, IEEE TASSP, 1988), for many slopes. BD-rate of the files made so against files with one rate point, whole files
decoded and measured, so that seams between rate points count; the mean over pictures. With ``--sheet`` the middles of
all pictures, a tile each, are one picture: tiles as different as can be. Prints one JSON object, progress on stderr.
Needs SciPy (extra ``bench``).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

import numpy as np
import torch
from effort import load
from numpy.typing import NDArray

from triode.codecs.image_encoding import Encoded, Encoding, Rate
from triode.codecs.search import POINTS
from triode.eval.bdrate import RatePoint, bd_rate
from triode.media import Picture
from triode.models.weights import default_weights, load_weights


def sheet(pictures: dict[str, NDArray[np.uint8]], side: int) -> NDArray[np.uint8]:
    """Return pictures of at least ``side`` each way, cropped in their middles, side by side in rows."""
    cells = []
    for rgb in pictures.values():
        top, left = ((s - side) // 2 for s in rgb.shape[:2])
        if top >= 0 and left >= 0:
            cells.append(rgb[top : top + side, left : left + side])
    columns = max(c for c in range(1, len(cells) + 1) if c * c <= len(cells))
    rows = [np.concatenate(cells[i : i + columns], 1) for i in range(0, len(cells) - columns + 1, columns)]
    return np.concatenate(rows)


def point_of(result: Encoded) -> RatePoint:
    """Return a file's bytes and PSNR."""
    return RatePoint(len(result.data), result.psnr or 0.0)


def compare(job: Encoding, points: list[int], slopes: int) -> tuple[float, float, int]:
    """Compare both ways on a picture.

    Args:
        job: The picture.
        points: Rate points to choose from.
        slopes: How many files to make with a choice for each tile.

    Returns:
        BD-rate in percent as the tiles' own bytes and errors promise, that of whole files, and the largest distance
        between rate points of one file.
    """
    runs = [job.run(p, measure=True) for p in points]
    tiles = range(len(job.tiles))
    sizes = np.array([[job.size(t, Rate(p)) for p in points] for t in tiles], dtype=float)
    errors = np.array([job.errors([Rate(p)] * len(tiles)) for p in points]).T

    def psnr(error: float) -> float:
        return float(-10 * np.log10(error / job.colour.size / 255**2))

    whole = -np.diff(errors.sum(0)) / np.diff(sizes.sum(0))
    choices = sorted(
        {
            tuple((errors + slope * sizes).argmin(1).tolist())
            for slope in np.geomspace(whole.max(), whole.min(), 40 * slopes)
        },
        key=sum,
    )
    uniform = [RatePoint(b, psnr(e)) for b, e in zip(sizes.sum(0), errors.sum(0), strict=True)]
    chosen = [RatePoint(sizes[tiles, list(c)].sum(), psnr(errors[tiles, list(c)].sum())) for c in choices]
    promised = bd_rate(uniform, chosen).percent
    some = [choices[round(i)] for i in np.linspace(0, len(choices) - 1, slopes)]
    mixed = [job.mix([Rate(points[i]) for i in choice], measure=True) for choice in some]
    found = bd_rate([point_of(r) for r in runs], [point_of(r) for r in mixed]).percent
    return promised, found, max(points[max(c)] - points[min(c)] for c in choices)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--model", default=default_weights("image"))
    parser.add_argument("--tile", type=int, default=256, choices=[128, 256, 512, 1024])
    parser.add_argument("--sheet", action="store_true")
    parser.add_argument("--step", type=int, default=3)
    parser.add_argument("--slopes", type=int, default=8)
    parser.add_argument("--effort", default="none")
    parser.add_argument("--threads", type=int, default=1)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)

    pictures = load(a.pictures, 0)
    if a.sheet:
        pictures = {"sheet": sheet(pictures, a.tile)}
    weights = load_weights(a.model)
    results = []
    for name, rgb in pictures.items():
        job = Encoding(weights, Picture(rgb), a.tile.bit_length() - 1, a.effort)
        results.append(compare(job, list(range(0, POINTS, a.step)), a.slopes))
        print(name, len(job.tiles), "tiles", *results[-1], file=sys.stderr)
    promised, found, spread = zip(*results, strict=True)
    summary = {
        "model": Path(a.model).name.removesuffix(".safetensors"),
        "effort": a.effort,
        "pictures": len(pictures),
        "sheet": a.sheet,
        "tile": a.tile,
        "bd_rate_percent": round(statistics.mean(found), 2),
        "best_percent": round(min(found), 2),
        "promised_percent": round(statistics.mean(promised), 2),
        "largest_distance": max(spread),
    }
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()

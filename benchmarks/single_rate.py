"""What one model for all rates costs against models that were trained for one rate each.

    python benchmarks/single_rate.py PICTURES --single WEIGHTS:POINT ... [--model WEIGHTS] [--crop 0]

Each single-rate model codes the pictures at its rate point (0 to 63); the model for all rates at points around it,
whose bytes are interpolated to the same PSNR. Files are made and decoded by the codec itself: rates are those of whole
files, PSNR is that of decoded 8-bit pixels. ``penalty_percent`` is by how much the model for all rates spends more,
mean over pictures. Prints one JSON object, progress on stderr. Needs SciPy (extra ``bench``).
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

import torch
from effort import curves, load

from triode.codecs.image import ImageCodec
from triode.codecs.search import point_to_quality
from triode.eval.bdrate import rate_at
from triode.models.weights import default_weights

AROUND = (-9, -4, 0, 4, 9)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--single", nargs="+", required=True, metavar="WEIGHTS:POINT")
    parser.add_argument("--model", default=default_weights("image"))
    parser.add_argument("--crop", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)

    pictures = load(a.pictures, a.crop)
    if not pictures:
        parser.error(f"no pictures in {a.pictures}")
    found = []
    for single in a.single:
        weights, _, text = single.rpartition(":")
        point = int(text)
        ours, _ = curves(ImageCodec(weights), pictures, [point_to_quality(point)], "none")
        around = [point_to_quality(min(63, max(0, point + step))) for step in AROUND]
        base, _ = curves(ImageCodec(a.model), pictures, around, "none")
        costs = [100 * (rate_at(b, o[0].quality) / o[0].rate - 1) for b, o in zip(base, ours, strict=True)]
        found.append(
            {
                "single": Path(weights).name.removesuffix(".safetensors"),
                "point": point,
                "bpp": round(statistics.mean(o[0].rate for o in ours), 4),
                "psnr": round(statistics.mean(o[0].quality for o in ours), 3),
                "penalty_percent": round(statistics.mean(costs), 2),
                "worst_percent": round(max(costs), 2),
                "best_percent": round(min(costs), 2),
            }
        )
    name = Path(a.model).name.removesuffix(".safetensors")
    print(json.dumps({"model": name, "pictures": len(pictures), "at": found}, indent=1))


if __name__ == "__main__":
    main()

"""How well files use up a target: bytes under ``--size`` and ``--bpp``, errors under ``--psnr``.

    python benchmarks/targets.py PICTURES [--model WEIGHTS] [--tile 2048] [--bpp 0.2 0.5 1] [--psnr 30 34 38]

Compares the files of the codec with the best ones that have a single rate point, over pictures and those targets that
lie within its rate points. Prints one JSON object, progress on stderr.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np
import torch
from effort import load

from triode.codecs.allocation import fit_bytes, reach_psnr
from triode.codecs.image import ImageCodec
from triode.codecs.image_encoding import Encoding
from triode.codecs.search import POINTS, largest_point, smallest_point
from triode.errors import UnsupportedError
from triode.media import Picture
from triode.models.weights import default_weights, load_weights


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--model", default=default_weights("image"))
    parser.add_argument("--tile", type=int, default=2048, choices=[128, 256, 512, 1024, 2048])
    parser.add_argument("--crop", type=int, default=0)
    parser.add_argument("--bpp", nargs="*", type=float, default=[0.2, 0.5, 1.0])
    parser.add_argument("--psnr", nargs="*", type=float, default=[30, 34, 38])
    parser.add_argument("--effort", default="none")
    parser.add_argument("--threads", type=int, default=1)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)

    weights = load_weights(a.model)
    sizes: list[tuple[float, float, float]] = []
    psnrs: list[tuple[float, float, float]] = []
    for name, rgb in load(a.pictures, a.crop).items():
        job = Encoding(weights, Picture(rgb), a.tile.bit_length() - 1, a.effort)
        run = partial(job.run, measure=True)
        for bpp in a.bpp:
            budget = bpp * job.colour.size / 24
            try:
                one = largest_point(run, lambda e: len(e.data), budget, POINTS)
            except UnsupportedError:
                continue
            if one.rate_point == POINTS - 1:
                continue
            found = fit_bytes(job, budget)
            error = np.square(ImageCodec(a.model).decode(found.data).pixels.astype(np.float64) - rgb).mean()
            gain = -10 * np.log10(error / 255**2) - (one.psnr or 0.0)
            sizes.append((100 * len(one.data) / budget, 100 * len(found.data) / budget, gain))
        for psnr in a.psnr:
            try:
                one = smallest_point(run, lambda e: e.psnr or 0.0, psnr, POINTS)
            except UnsupportedError:
                continue
            if one.rate_point == 0:
                continue
            found = reach_psnr(job, psnr)
            saved = 100 * (len(found.data) / len(one.data) - 1)
            psnrs.append(((one.psnr or 0.0) - psnr, (found.psnr or 0.0) - psnr, saved))
        print(name, *sizes[-1:], *psnrs[-1:], file=sys.stderr)
    result = {"model": Path(a.model).name.removesuffix(".safetensors"), "effort": a.effort, "tile": a.tile}
    if sizes:
        used_one, used, gain = np.mean(sizes, 0).round(3).tolist()
        result |= {"used_percent_one_point": used_one, "used_percent": used, "psnr_gain_db": gain, "sizes": len(sizes)}
    if psnrs:
        above_one, above, saved = np.mean(psnrs, 0).round(3).tolist()
        result |= {"above_db_one_point": above_one, "above_db": above, "bytes_percent": saved, "psnrs": len(psnrs)}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

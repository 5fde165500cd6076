"""Give weights the statistics of real photos: tables of their symbols, and what their restorations are like.

    python tools/fit_statistics.py CHECKPOINT PHOTOS --base image-light.v2 -o image-light.v5.safetensors

Codes pictures below the folder (the middle 768 x 512; those held back from training left out) at the middle of each
group of rate points. First it counts the symbols at each index of the ladder: tables of them take the place of
Gaussians (those weigh in as 1,000 symbols). Then it solves for the coefficients of each picture's filter
(docs/restoration.md): weights get each group's clip level (1.6 times the root mean squared error), median coefficients
and tables for the distances from them. What the weights share with the base their file leaves out. Nothing is trained.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from triode.entropy.coder import CountingWriter
from triode.entropy.gaussian import gaussian_tables
from triode.entropy.tables import CdfTables, Int32Array, IntArray, fitted_tables
from triode.models.complexity import count_macs
from triode.models.image.image_light import ImageLight
from triode.models.registry import create_model
from triode.models.restoration import CLIP_STEP, GROUPS, Restoration, table_of
from triode.models.restoration_fit import sampled_sums
from triode.models.weights import Base, save_weights
from triode.train.checkpoint import load_float_state, load_small_checkpoint
from triode.train.holdout import held_back

_CLIP = 1.6
_WEIGHT = 1000
_SIDE = 512


def middle(path: Path) -> NDArray[np.uint8]:
    """Return the middle 768 x 512 of a picture, or less, (H, W, 3), sides multiples of 16."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    height, width = (min(a // 16 * 16, b) for a, b in zip(pixels.shape[:2], (512, 768), strict=True))
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return pixels[top : top + height, left : left + width].copy()


class Histogram(CountingWriter):
    """Counts the symbols that are coded under some tables.

    Args:
        tables: The tables.
    """

    def __init__(self, tables: CdfTables) -> None:
        super().__init__()
        self.tables = tables
        self.counts = [np.zeros(int(size), dtype=np.int64) for size in tables.sizes]

    def write(self, symbols: IntArray, index: IntArray, tables: CdfTables) -> Int32Array:
        """Count."""
        if tables is self.tables:
            for table in np.unique(index):
                last = int(tables.sizes[table]) - 1
                entries = symbols[index == table].astype(np.int64) - int(tables.offsets[table])
                entries[(entries < 0) | (entries >= last)] = last
                self.counts[table] += np.bincount(entries, minlength=last + 1)
        return super().write(symbols, index, tables)


@torch.inference_mode()
def latent(model: ImageLight, pixels: NDArray[np.uint8], point: int, writer: CountingWriter) -> torch.Tensor:
    """Return the quantised latent of a picture."""
    q, x = torch.tensor([point]), torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    return model.encode(model.analysis(x, q), q, writer)


@torch.inference_mode()
def error(model: ImageLight, pixels: NDArray[np.uint8], y_hat: torch.Tensor, point: int) -> float:
    """Return the mean squared error of a decoded picture, full scale being 1."""
    q, x = torch.tensor([point]), torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    return float((model.synthesis(model.dequantise(y_hat, q), q).clamp(0, 1) - x).square().mean())


def main() -> None:
    """Fit and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="small checkpoint of an image-light")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--base", default="image-light.v2")
    parser.add_argument("--every", type=int, default=4, help="take one in so many of the photos")
    parser.add_argument("-o", "--output", type=Path, required=True)
    a = parser.parse_args()
    names = sorted(str(p.relative_to(a.photos)) for p in a.photos.rglob("*") if p.is_file())
    away = set(held_back(names, 20, "extra"))
    photos = [middle(a.photos / name) for k, name in enumerate(names) if k not in away][:: a.every]
    state, facts = load_small_checkpoint(a.checkpoint)
    model = cast(ImageLight, create_model("image-light", **{**facts.config, "restored": True}))
    load_float_state(model, state)
    model.eval().requires_grad_(False).export()
    points = [group * 64 // GROUPS + 4 for group in range(GROUPS)]

    histogram = Histogram(model.entropy.context.tables.get())
    for pixels in photos:
        for point in points:
            latent(model, pixels, point, histogram)
    model.entropy.context.fitted = fitted_tables(gaussian_tables(), histogram.counts, _WEIGHT)
    model.export()
    print(f"{sum(int(c.sum()) for c in histogram.counts)} symbols of {len(photos)} photos", flush=True)

    restoration = cast(Restoration, model.restoration)
    for group, point in enumerate(points):
        coded = [latent(model, pixels, point, CountingWriter()) for pixels in photos]
        errors = [error(model, pixels, y_hat, point) for pixels, y_hat in zip(photos, coded, strict=True)]
        level = _CLIP * float(np.sqrt(np.median(errors)))
        restoration.clip[group] = round(level / CLIP_STEP)
        sums = (sampled_sums(model, restoration, x, y_hat, point) for x, y_hat in zip(photos, coded, strict=True))
        found = np.stack([one.solution() for one in sums])
        mean = np.rint(np.median(found, 0))
        restoration.mean[group] = torch.from_numpy(mean.astype(np.int16))
        restoration.index[group] = torch.from_numpy(table_of(np.abs(found - mean).mean(0)).astype(np.uint8))
        print(f"points {8 * group}..{8 * group + 7}: clip level {255 * level:.2f}", *mean.astype(int), flush=True)

    macs = count_macs(model, _SIDE, _SIDE)
    training = {"steps": facts.steps, "seconds": facts.seconds, "seed": facts.seed, "data": facts.data}
    save_weights(
        model,
        a.output,
        name=a.output.name.removesuffix(".safetensors"),
        architecture="image-light",
        kmac=(round(macs.kmac_encode, 3), round(macs.kmac_decode, 3)),
        training={**training, "settings": facts.settings, "metrics": facts.metrics, "statistics": len(photos)},
        base=Base(a.base, ""),
    )


if __name__ == "__main__":
    main()

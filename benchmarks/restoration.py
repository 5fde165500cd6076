"""What a linear filter of the decoded picture, fitted to each picture as in VVC's adaptive loop filter, would gain.

    python benchmarks/restoration.py PHOTO [PHOTO ...] [--model image-light.v2] [--points 8,20,32,44,56]

The filter adds to each channel of the decoded picture sums of differences between a sample and the pairs of samples
opposite to each other around it, out to a distance of three: ten pairs of the channel itself, ten of a luma of all
three. Least squares on the picture itself give its 60 coefficients, not quantised and not counted. "One for all" is
fitted to all other photos together, and needs no coefficients in the file. Of each photo the middle 768 x 512 is taken.
Prints a line a rate point: bytes, and the PSNR gained in dB, means over photos. No codec here has such a filter.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from triode.entropy.coder import RangeWriter
from triode.models.base import ImageModel
from triode.models.weights import load_weights

_REACH = 3
_PAIRS = [(y, x) for y in range(3) for x in range(-2, 3) if abs(y) + abs(x) <= _REACH and (y, x) > (0, 0)]
_LUMA = np.array([0.299, 0.587, 0.114])
_RIDGE = 1e-5


@dataclass(frozen=True, slots=True)
class Fit:
    """Sums over the samples of one channel of a picture.

    Attributes:
        products: (20, 20) of features with each other.
        targets: (20,) of features with the error.
        error: Squared error.
    """

    products: NDArray[np.float64]
    targets: NDArray[np.float64]
    error: float

    def left(self, coefficients: NDArray[np.float64]) -> float:
        """Return the squared error that a filter leaves."""
        change = coefficients @ self.products @ coefficients - 2 * coefficients @ self.targets
        return float(self.error + change)


def solved(fits: list[Fit]) -> NDArray[np.float64]:
    """Return the best coefficients for channels of pictures together."""
    products = np.sum([fit.products for fit in fits], 0)
    ridge = _RIDGE * np.diag(np.diag(products) + 1e-9)
    solution: NDArray[np.float64] = np.linalg.solve(products + ridge, np.sum([fit.targets for fit in fits], 0))
    return solution


def features(plane: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Return the ten differences of a plane (H, W), the border repeated."""
    height, width = plane.shape
    padded = np.pad(plane, 2, mode="edge")

    def shifted(y: int, x: int) -> NDArray[np.float64]:
        return padded[2 + y : 2 + y + height, 2 + x : 2 + x + width]

    return [shifted(y, x) + shifted(-y, -x) - 2 * plane for y, x in _PAIRS]


@torch.inference_mode()
def fitted(model: ImageModel, path: Path, point: int) -> tuple[int, list[Fit]]:
    """Code and decode a photo; return its bytes and the sums of its three channels."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    (height, width), size = (
        pixels.shape[:2],
        [min(a, b // 64 * 64) for a, b in zip((512, 768), pixels.shape, strict=False)],
    )
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    pixels = pixels[top : top + size[0], left : left + size[1]].copy()
    x, q, writer = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255, torch.tensor([point]), RangeWriter()
    y_hat = model.encode(model.analysis(x, q), q, writer)
    made = 255 * model.synthesis(model.dequantise(y_hat, q), q)[0].permute(1, 2, 0).clamp(0, 1).double().numpy()
    luma, fits = features(made @ _LUMA), []
    for channel in range(3):
        f = np.stack([plane.ravel() for plane in features(made[..., channel]) + luma], 1)
        error = (pixels[..., channel] - made[..., channel]).ravel()
        fits.append(Fit(f.T @ f, f.T @ error, float(error @ error)))
    return len(writer.getvalue()), fits


def gain(fits: list[Fit], filters: list[NDArray[np.float64]]) -> float:
    """Return the PSNR gained in dB by a filter for each channel."""
    left = sum(fit.left(filter_) for fit, filter_ in zip(fits, filters, strict=True))
    return float(10 * np.log10(sum(fit.error for fit in fits) / left))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, nargs="+")
    parser.add_argument("--model", default="image-light.v2")
    parser.add_argument("--points", default="8,20,32,44,56", help="rate points, 0 to 63, commas between")
    a = parser.parse_args()
    if len(a.photos) < 2:
        parser.error("name two photos or more: each is filtered by what the others say, too")
    model = load_weights(a.model).model
    print(f"{'rate point':>10} {'bytes':>8} {'its own filter, dB':>20} {'one for all, dB':>17}")
    for point in map(int, a.points.split(",")):
        coded = [fitted(model, path, point) for path in a.photos]
        own = [gain(fits, [solved([fit]) for fit in fits]) for _, fits in coded]
        others = [
            gain(fits, [solved([f[c] for k, (_, f) in enumerate(coded) if k != number]) for c in range(3)])
            for number, (_, fits) in enumerate(coded)
        ]
        size = np.mean([length for length, _ in coded])
        print(f"{point:10} {size:8.0f} {np.mean(own):20.3f} {np.mean(others):17.3f}", flush=True)


if __name__ == "__main__":
    main()

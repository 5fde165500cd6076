"""PSNR that a linear 16x16 block transform can reach with so many principal components, by photo folder.

    python tools/pca_energy.py PHOTOS

Prints the components and the PSNR (of the mean squared error, pixels in [0, 1]) when all others are left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from triode.models.layers.pca import principal_components

COUNTS = (64, 128, 192, 256, 320, 384)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    a = parser.parse_args()
    paths = sorted(p for p in a.photos.rglob("*") if p.suffix.lower() in {".png", ".jpg", ".webp"})
    images = (np.asarray(Image.open(p).convert("RGB")) for p in paths)
    _, deviations = principal_components(images, 16, 768)
    energy = np.sort(deviations.double().numpy() ** 2)[::-1]
    for count in COUNTS:
        print(f"{count:4d} components: {-10 * np.log10(energy[count:].sum() / 768):.1f} dB")


if __name__ == "__main__":
    main()

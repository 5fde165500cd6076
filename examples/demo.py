"""Encode and decode real media with the bundled weights through the command line; print rate and quality.

Run by ``make demo``. Needs the core dependencies only.
"""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
QUALITIES = (10, 30, 50, 70, 90)
TRIODE = (sys.executable, "-m", "triode")


def triode(*args: object) -> dict[str, object]:
    """Run the command line and return the JSON object that it prints."""
    command = [*TRIODE, *map(str, args), "--json"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    answer: dict[str, object] = json.loads(out)
    return answer


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Return the PSNR of two uint8 arrays in dB."""
    return -10 * math.log10(max(1e-10, float(np.mean((a.astype(float) - b.astype(float)) ** 2)) / 255**2))


def jpeg_at(image: Image.Image, size: int) -> tuple[int, float]:
    """Return the size and PSNR of the best JPEG that is no larger than ``size`` bytes, or of the smallest there is."""
    best = io.BytesIO()
    for quality in range(1, 96):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, optimize=True)
        if quality == 1 or buffer.tell() <= size:
            best = buffer
    return best.tell(), psnr(np.asarray(image), np.asarray(Image.open(best).convert("RGB")))


def photo(path: Path, folder: Path) -> None:
    """Code a photo at five qualities and print a table."""
    image = Image.open(path).convert("RGB")
    reference = np.asarray(image)
    print(f"{path.name}: {image.width} x {image.height} photo, {path.stat().st_size:,} bytes as PNG")
    print(f"{'quality':>8} {'bytes':>8} {'bpp':>7} {'PSNR':>9}   {'JPEG of that size':>24}")
    for quality in QUALITIES:
        coded, decoded = folder / f"{quality}.tri", folder / f"{quality}.png"
        answer = triode("encode", path, "-o", coded, "-q", quality)
        triode("decode", coded, "-o", decoded)
        size, value = jpeg_at(image, coded.stat().st_size)
        own = psnr(reference, np.asarray(Image.open(decoded).convert("RGB")))
        row = f"{quality:>8} {coded.stat().st_size:>8,} {answer['bpp']:>7.3f} {own:>6.2f} dB"
        print(f"{row}   {size:>8,} bytes, {value:>5.2f} dB", flush=True)


def main() -> None:
    """Run the demonstration."""
    with tempfile.TemporaryDirectory() as folder:
        photo(HERE / "kodim23.png", Path(folder))


if __name__ == "__main__":
    main()

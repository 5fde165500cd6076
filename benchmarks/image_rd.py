"""Rate and distortion of the image codec beside JPEG, WebP and AVIF on a folder of photos.

    python benchmarks/image_rd.py DIR [--model NAME] [--qualities 10,30,50,70,90] [--limit N] [-o RESULTS.json]

Every codec makes real bytes and decodes them in this run. Rate is the size of the file over its pixels; PSNR is taken
over the three channels in 8 bits. BD-rate is computed for each photo and then averaged. Prints a table, writes JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image, features

from triode.codecs.image import ImageCodec
from triode.eval.bdrate import RatePoint, bd_rate
from triode.media import Picture
from triode.models.weights import default_weights, load_weights
from triode.version import __version__

ANCHORS: dict[str, tuple[str, tuple[int, ...], dict[str, object]]] = {
    "jpeg": ("JPEG", (5, 10, 20, 35, 50, 65, 80, 90, 95), {"optimize": True}),
    "webp": ("WEBP", (1, 10, 30, 50, 70, 85, 95), {"method": 6}),
    "avif": ("AVIF", (15, 30, 45, 60, 75, 85, 92), {"speed": 6, "subsampling": "4:4:4"}),
}
Coder = Callable[[np.ndarray, float], tuple[int, np.ndarray]]


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Return the PSNR of two uint8 arrays in dB."""
    return float(-10 * np.log10(max(float(np.mean((a.astype(float) - b) ** 2)), 1e-6) / 255**2))


def pillow(fmt: str, options: dict[str, object]) -> Coder:
    """Return a coder through Pillow."""

    def code(pixels: np.ndarray, quality: float) -> tuple[int, np.ndarray]:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, fmt, quality=int(quality), **options)
        return buffer.tell(), np.asarray(Image.open(buffer).convert("RGB"))

    return code


def triode(model: str) -> Coder:
    """Return our own coder."""
    codec = ImageCodec(model)

    def code(pixels: np.ndarray, quality: float) -> tuple[int, np.ndarray]:
        data = codec.encode(Picture(pixels), quality=quality).data
        return len(data), codec.decode(data).pixels

    return code


def measure(code: Coder, qualities: Iterable[float], pixels: np.ndarray) -> list[RatePoint]:
    """Code a photo at each quality."""
    points = []
    for quality in qualities:
        size, decoded = code(pixels, quality)
        points.append(RatePoint(8 * size / (pixels.shape[0] * pixels.shape[1]), psnr(pixels, decoded)))
    return points


def compare(curves: dict[str, dict[str, list[RatePoint]]], test: str, anchor: str) -> dict[str, object]:
    """Average the BD-rates of all photos; say how many were refused."""
    found, refused = [], 0
    for photo in curves.values():
        try:
            found.append(bd_rate(photo[anchor], photo[test]).percent)
        except ValueError:
            refused += 1
    deviation = float(np.std(found, ddof=1) / np.sqrt(len(found))) if len(found) > 1 else None
    mean = round(float(np.mean(found)), 2) if found else None
    return {
        "percent": mean,
        "standard_error": deviation and round(deviation, 2),
        "photos": len(found),
        "refused": refused,
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", default=default_weights("image"))
    parser.add_argument("--qualities", type=lambda s: [float(q) for q in s.split(",")], default=[10, 30, 50, 70, 90])
    parser.add_argument("--limit", type=int)
    parser.add_argument("-o", "--output", type=Path)
    a = parser.parse_args()
    coders = {"triode": (triode(a.model), a.qualities)}
    coders |= {name: (pillow(fmt, options), list(qs)) for name, (fmt, qs, options) in ANCHORS.items()}
    files = sorted(p for p in a.folder.rglob("*") if p.suffix.lower() in {".png", ".jpg", ".webp"})[: a.limit]
    curves: dict[str, dict[str, list[RatePoint]]] = {}
    start = time.perf_counter()
    for path in files:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("RGB"))
        curves[path.stem] = {name: measure(code, qualities, pixels) for name, (code, qualities) in coders.items()}
        print(f"{path.name}: {time.perf_counter() - start:.0f} s", file=sys.stderr)
    info = load_weights(a.model).info
    report = {
        "command": "python benchmarks/image_rd.py " + " ".join(["DIR", *sys.argv[2:]]),
        "folder": a.folder.name,
        "versions": {
            "triode": __version__,
            "torch": torch.__version__.split("+")[0],
            "pillow": PIL.__version__,
            "avif": features.version_module("avif"),
            "webp": features.version_module("webp"),
            "python": platform.python_version(),
        },
        "model": {"name": info.name, "entropy": info.entropy_digest, "synthesis": info.synthesis_digest},
        "anchors": {name: {"options": options, "qualities": qs} for name, (_, qs, options) in ANCHORS.items()},
        "qualities": a.qualities,
        "bd_rate": {name: compare(curves, "triode", name) for name in ANCHORS},
        "mean_curves": {
            name: np.mean([[(p.rate, p.quality) for p in c[name]] for c in curves.values()], axis=0).round(4).tolist()
            for name in coders
        },
        "photos": {
            photo: {name: [(round(p.rate, 5), round(p.quality, 4)) for p in points] for name, points in c.items()}
            for photo, c in curves.items()
        },
    }
    if a.output:
        a.output.parent.mkdir(parents=True, exist_ok=True)
        a.output.write_text(json.dumps(report, indent=1) + "\n")
    print("| quality | bpp | PSNR |\n|---|---|---|")
    for quality, (rate, value) in zip(a.qualities, report["mean_curves"]["triode"], strict=True):  # type: ignore[index]
        print(f"| {quality:g} | {rate:.3f} | {value:.2f} dB |")
    for name, result in report["bd_rate"].items():  # type: ignore[attr-defined]
        print(f"BD-rate against {name}: {result['percent']} % ({result['photos']} photos, {result['refused']} refused)")


if __name__ == "__main__":
    main()

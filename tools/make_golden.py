"""Make golden bitstreams: files that every later release must decode to the same symbols.

    python tools/make_golden.py [--list]

Writes ``tests/golden/NAME.tri`` and its facts into ``tests/golden/golden.json`` for every case that has none yet. Cases
that stand are never made again: a change that breaks one is a change of the format.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from triode.codecs.image import ImageCodec
from triode.container import ContainerReader
from triode.media import Picture

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden"


@dataclass(frozen=True, slots=True)
class Case:
    """A picture and how to code it."""

    picture: Callable[[], Picture]
    quality: float
    model: str
    tile_log2: int = 11


def sample(left: int, top: int, width: int, height: int) -> np.ndarray:
    """Return a rectangle of the sample photo, (height, width, 3) uint8."""
    with Image.open(ROOT / "examples" / "kodim23.png") as image:
        return np.asarray(image.convert("RGB").crop((left, top, left + width, top + height)))


def with_alpha() -> Picture:
    """Return a small picture with an alpha ramp."""
    ramp = np.broadcast_to(np.linspace(0, 255, 96).astype(np.uint8)[None, :, None], (64, 96, 1))
    return Picture(np.concatenate([sample(200, 100, 96, 64), ramp], axis=2), icc=b"not a real profile", exif=b"MM\0*")


CASES = {
    "image-light.v1-photo": Case(lambda: Picture(sample(160, 80, 256, 192)), 50, "image-light.v1"),
    "image-light.v1-best": Case(lambda: Picture(sample(0, 0, 120, 90)), 100, "image-light.v1"),
    "image-light.v1-pixel": Case(lambda: Picture(sample(10, 10, 1, 1)), 30, "image-light.v1"),
    "image-light.v1-grey": Case(lambda: Picture(sample(300, 200, 77, 130)[:, :, 1:2].copy()), 20, "image-light.v1"),
    "image-light.v1-alpha": Case(with_alpha, 60, "image-light.v1"),
    "image-light.v1-tiles": Case(lambda: Picture(sample(100, 50, 330, 150)), 40, "image-light.v1", tile_log2=7),
}


def facts(data: bytes, picture: Picture) -> dict[str, object]:
    """Return what a later decoder must find in a file."""
    decoded = ImageCodec().decode(data).pixels
    error = np.mean((decoded.astype(float) - picture.pixels) ** 2)
    return {
        "bytes": len(data),
        "crc32": zlib.crc32(data),
        "shape": list(decoded.shape),
        "symbols_crc32": [u.symbols_crc32 for u in ContainerReader(io.BytesIO(data)).units()],
        "psnr": round(float(-10 * np.log10(max(error, 1e-6) / 255**2)), 2),
    }


def main() -> None:
    """Make what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="only say which cases are missing")
    a = parser.parse_args()
    index = GOLDEN / "golden.json"
    known = json.loads(index.read_text()) if index.exists() else {}
    missing = [name for name in CASES if name not in known]
    print("missing:", ", ".join(missing) or "none", file=sys.stderr)
    if a.list:
        return
    for name in missing:
        case = CASES[name]
        picture = case.picture()
        data = ImageCodec(case.model, tile_log2=case.tile_log2).encode(picture, quality=case.quality).data
        (GOLDEN / f"{name}.tri").write_bytes(data)
        known[name] = facts(data, picture)
    index.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()

"""Peak memory of encoding and decoding a large photo through the command line.

    python benchmarks/image_memory.py [--megapixels 48] [--model NAME] [--quality 50]

Makes a picture of that size from mirrored copies of the sample photo, runs ``triode encode`` and ``triode decode`` on
it and prints one JSON object: peak resident memory of each process in bytes, seconds, file size.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from processes import measured

SAMPLE = Path(__file__).parent.parent / "examples" / "kodim23.png"


def run(*args: object) -> dict[str, float]:
    """Run triode as a process of its own; return its peak memory in bytes and seconds."""
    usage = measured([sys.executable, "-m", "triode", *args])
    return {"peak_bytes": usage.peak_bytes, "seconds": round(usage.seconds, 2)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megapixels", type=float, default=48)
    parser.add_argument("--model")
    parser.add_argument("--quality", type=float, default=50)
    a = parser.parse_args()
    height = round(math.sqrt(a.megapixels * 1e6 * 3 / 4))
    width = round(a.megapixels * 1e6 / height)
    block = np.asarray(Image.open(SAMPLE).convert("RGB"))
    block = np.concatenate([block, block[:, ::-1]], 1)
    block = np.concatenate([block, block[::-1]])
    repeats = (-(-height // block.shape[0]), -(-width // block.shape[1]), 1)
    model = ["-m", a.model] if a.model else []
    with tempfile.TemporaryDirectory() as folder:
        source, coded, decoded = (Path(folder) / n for n in ("large.png", "large.tri", "decoded.png"))
        Image.fromarray(np.tile(block, repeats)[:height, :width]).save(source, compress_level=1)
        encode = run("encode", source, "-o", coded, "-q", a.quality, *model)
        decode = run("decode", coded, "-o", decoded)
        report = {"width": width, "height": height, "encode": encode, "decode": decode, "bytes": coded.stat().st_size}
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()

"""Check coded symbols against the independent int64 decoder, on whole folders of images.

    python tools/check_reference.py DIR... [--model NAME] [--qualities 10,50,90] [--limit N]

Encodes every image, decodes each unit with the library and with ``tests/reference/decoder.py`` (NumPy int64 and Python
integers; neither torch nor constriction), and compares latents and symbol CRCs. Also compares the size of each file
with the ideal code length of its symbols. Prints one JSON object; exits with 1 on the first difference.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from triode.codecs import image as codec
from triode.container import ContainerReader, tile_grid
from triode.entropy.coder import CountingWriter, RangeReader
from triode.entropy.exact.state import entropy_state
from triode.entropy.tables import CdfTables, Int32Array, IntArray
from triode.media import Picture
from triode.models.weights import default_weights, load_weights

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))


def main() -> None:
    """Check and print."""
    from reference.decoder import decode_unit

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--model", default=default_weights("image"))
    parser.add_argument("--qualities", type=lambda s: [float(q) for q in s.split(",")], default=[10, 50, 90])
    parser.add_argument("--limit", type=int)
    a = parser.parse_args()
    model = load_weights(a.model).model
    state = {k: v.numpy() for k, v in entropy_state(model).items()}
    files = sorted(p for f in a.folders for p in f.rglob("*") if p.suffix.lower() in {".png", ".jpg", ".webp"})
    units, worst = 0, 0.0
    for path in files[: a.limit]:
        with Image.open(path) as image:
            picture = Picture(np.asarray(image.convert("RGB")))
        for quality in a.qualities:
            data, bits = codec.ImageCodec(a.model).encode(picture, quality=quality).data, 0.0
            reader = ContainerReader(io.BytesIO(data))
            grid = tile_grid(reader.head.body)
            for unit in reader.units():
                tile = grid[unit.index]
                shape = (-(-tile.height // model.stride), -(-tile.width // model.stride))
                coder = _Counting(unit.payload)
                with torch.inference_mode():
                    own = model.decode(shape, torch.tensor([unit.rate_point]), coder)
                    if model.restoration is not None:
                        model.restoration.read(unit.rate_point, coder)
                coder.check(unit.symbols_crc32)
                other = decode_unit(state, model.config, unit.payload, shape, unit.rate_point)
                if other.crc != unit.symbols_crc32 or not np.array_equal(other.y_hat / 1024, own[0].double().numpy()):
                    raise SystemExit(f"{path} at quality {quality}, unit {unit.index}: the decoders differ")
                units, bits = units + 1, bits + coder.count.bits
            worst = max(worst, (len(data) - bits / 8 - 64) / (bits / 8))
    worst_percent = round(100 * worst, 3)
    print(
        json.dumps(
            {"images": len(files[: a.limit]), "units": units, "identical": True, "excess_percent": worst_percent}
        )
    )
    if worst_percent > 1:
        raise SystemExit("A file is larger than its ideal code length by more than 1 % and 64 bytes")


class _Counting(RangeReader):
    """A reader that adds up the ideal code length of what it reads."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.count = CountingWriter()

    def read(self, index: IntArray, tables: CdfTables) -> Int32Array:
        symbols = super().read(index, tables)
        self.count.write(symbols, index, tables)
        return symbols


if __name__ == "__main__":
    main()

"""What the integer export costs: coded bytes with integer networks over ideal bits with float networks.

    python tools/export_cost.py CHECKPOINT PHOTOS [--points 6,19,32,44,57] [--crop 512]

The checkpoint is a small one of an image model. Its float networks give the ideal code length of the rounded latent,
and the pixels. Then the model is exported as ``triode export`` does, to a file, loaded from there, and codes the same
crops, the middle of every photo, to real bytes, without the quantiser's rate-distortion optimisation, which float
networks know nothing of. Prints one JSON object: for each rate point both rates in bits per pixel, the cost in percent,
and both PSNRs.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from triode.entropy.coder import RangeWriter
from triode.models.base import ImageModel
from triode.models.registry import create_model
from triode.models.weights import load_weights, save_weights
from triode.train.checkpoint import load_small_checkpoint


def crops(folder: Path, side: int) -> list[Tensor]:
    """Return the middle of each photo of a folder that is large enough, (1, 3, side, side) in [0, 1]."""
    found = []
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in {".png", ".jpg", ".jpeg", ".webp"}):
        with Image.open(path) as image:
            left, top = (image.width - side) // 2, (image.height - side) // 2
            if min(left, top) >= 0:
                pixels = np.asarray(image.convert("RGB").crop((left, top, left + side, top + side)))
                found.append(torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255)
    return found


def psnr(x: Tensor, y: Tensor) -> float:
    """Return the PSNR of clamped pixels in [0, 1], in dB."""
    return -10 * float(torch.log10((x - y.clamp(0, 1)).square().mean()))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--points", type=lambda s: [int(p) for p in s.split(",")], default=[6, 19, 32, 44, 57])
    parser.add_argument("--crop", type=int, default=512, help="a multiple of 64")
    a = parser.parse_args()
    state, facts = load_small_checkpoint(a.checkpoint)
    floats = cast(ImageModel, create_model(facts.model, **facts.config)).eval()
    floats.load_state_dict(state, strict=False)
    photos = crops(a.photos, a.crop)
    if not photos:
        parser.error(f"{a.photos} has no photo of {a.crop} x {a.crop} pixels")
    exported = cast(ImageModel, create_model(facts.model, **facts.config)).eval()
    exported.load_state_dict(state, strict=False)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "exported.v1.safetensors"
        save_weights(exported, path, name="exported.v1", architecture=facts.model)
        integers = load_weights(str(path)).model
    if hasattr(integers, "rdoq"):
        integers.rdoq = 0.0
    rows = []
    with torch.inference_mode():
        for point in a.points:
            q = torch.tensor([point])
            ideal = coded = before = after = 0.0
            for x in photos:
                out = floats(x, q.float())
                ideal += sum(float(bits.sum()) for bits in out.bits.values())
                before += psnr(x, out.x_hat)
                writer = RangeWriter()
                y_hat = integers.encode(integers.analysis(x, q), q, writer)
                coded += 8 * len(writer.getvalue())
                after += psnr(x, integers.synthesis(integers.dequantise(y_hat, q), q))
            pixels = len(photos) * a.crop**2
            rows.append(
                {
                    "point": point,
                    "float_bpp": round(ideal / pixels, 5),
                    "coded_bpp": round(coded / pixels, 5),
                    "cost_percent": round(100 * (coded / ideal - 1), 3),
                    "float_psnr": round(before / len(photos), 3),
                    "coded_psnr": round(after / len(photos), 3),
                }
            )
    print(
        json.dumps({"checkpoint": a.checkpoint.name, "photos": len(photos), "crop": a.crop, "points": rows}, indent=1)
    )


if __name__ == "__main__":
    main()

"""Whether a chunk with its halo gives what the whole gives."""

from __future__ import annotations

import torch
from models.tiny_audio import tone

from triode.models.audio.vq_codec import VqCodec

FRAMES, START, CHUNK = 160, 80, 8


def seam_errors(model: VqCodec, change: int = 0) -> tuple[float, float]:
    """Return how far features and samples of a chunk with its halos are from those of the whole, over their spread.

    Args:
        model: A codec; it is made one of double precision.
        change: Added to the halos, which then are rounded up to what the model takes.
    """
    model.double()
    hop, step, errors = model.hop, model.multiple, []
    x = torch.from_numpy(tone(FRAMES * hop)).double()[None, None]
    with torch.no_grad():
        whole, halo = model.features(x), -(-(model.analysis_halo + change) // step) * step
        part = model.features(x[..., (START - halo) * hop : (START + CHUNK + halo) * hop])
        wrong = (part[..., halo : halo + CHUNK] - whole[..., START : START + CHUNK]).abs().max()
        errors.append(float(wrong / whole.std()))
        halo = -(-(model.synthesis_halo + change) // step) * step
        y = torch.randn(1, model.quantizer.dim, FRAMES, generator=torch.Generator().manual_seed(1)).double()
        whole = model.sound(y)
        part = model.sound(y[..., START - halo : START + CHUNK + halo])[..., halo * hop : (halo + CHUNK) * hop]
        errors.append(float((part - whole[..., START * hop : (START + CHUNK) * hop]).abs().max() / whole.std()))
    return errors[0], errors[1]

"""Speed of the image codec beside CompressAI's ``mbt2018-mean``, in one run on one image.

    python benchmarks/image_speed.py [IMAGE] [--model NAME] [--quality 50] [--threads 2] [--repeats 7] [--no-peer]

Both run from pixels in memory to bytes and back. CompressAI's weights are random, which leaves its transforms' time as
it is; its entropy coder sees fewer distinct symbols than with trained weights, which favours it. ``decode_plain`` is
decoding with layers run as in training: whole pictures in place of strips (:mod:`triode.models.layers.strips`),
convolutions in place of products (:mod:`triode.models.layers.products`), floats in place of bytes. Prints one JSON
object; times are the median over the repeats, in seconds, taken in turn so that a busy machine slows all; ``fastest``
are the shortest.
``--no-peer`` leaves CompressAI out.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from triode.codecs.image import ImageCodec
from triode.entropy.coder import RangeReader, RangeWriter
from triode.entropy.tables import CdfTables
from triode.media import Picture
from triode.models.layers.strips import plain_layers
from triode.models.weights import default_weights

SAMPLE = Path(__file__).parent.parent / "examples" / "kodim23.png"


def timed(call: Callable[[], object]) -> tuple[float, object]:
    """Return the seconds that a call takes, and its result."""
    start = time.perf_counter()
    result = call()
    return time.perf_counter() - start, result


class _Recorder(RangeWriter):
    """A writer that remembers its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[np.ndarray, CdfTables]] = []

    def write(self, symbols: np.ndarray, index: np.ndarray, tables: CdfTables) -> np.ndarray:
        self.calls.append((index, tables))
        return super().write(symbols, index, tables)


def plain(call: Callable[[], object]) -> object:
    """Call something with layers run as in training."""
    with plain_layers():
        return call()


def latents(picture: Picture, model: str, quality: float) -> tuple[list[tuple[np.ndarray, CdfTables]], bytes]:
    """Return the table indices of every call that codes the picture, and the coded bytes."""
    import triode.codecs.image_encoding as module

    recorders: list[_Recorder] = []

    def make() -> _Recorder:
        recorders.append(_Recorder())
        return recorders[-1]

    original, module.RangeWriter = module.RangeWriter, make  # type: ignore[assignment, misc]
    try:
        ImageCodec(model).encode(picture, quality=quality)
    finally:
        module.RangeWriter = original  # type: ignore[misc]
    return recorders[0].calls, recorders[0].getvalue()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", nargs="?", type=Path, default=SAMPLE)
    parser.add_argument("--model", default=default_weights("image"))
    parser.add_argument("--quality", type=float, default=50)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--peer", action=argparse.BooleanOptionalAction, default=True)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)

    rgb = np.asarray(Image.open(a.image).convert("RGB"))
    picture, codec = Picture(rgb), ImageCodec(a.model)
    x = torch.from_numpy(rgb.copy()).permute(2, 0, 1)[None].float() / 255
    peer = None
    if a.peer:
        from compressai.zoo import mbt2018_mean

        peer = mbt2018_mean(quality=5, pretrained=False).eval()
        peer.update()
    calls, data = latents(picture, a.model, a.quality)
    symbols = sum(len(index) for index, _ in calls)

    def read() -> None:
        reader = RangeReader(data)
        for index, tables in calls:
            reader.read(index, tables)

    times: dict[str, list[float]] = {k: [] for k in ("encode", "decode", "decode_plain", "entropy")}
    if peer is not None:
        times |= {"peer_encode": [], "peer_decode": []}
    with torch.inference_mode():
        for _ in range(a.repeats + 1):  # The first round warms caches and is dropped.
            seconds, coded = timed(lambda: codec.encode(picture, quality=a.quality))
            times["encode"].append(seconds)
            times["decode"].append(timed(lambda: codec.decode(coded.data))[0])  # type: ignore[attr-defined]  # noqa: B023
            times["decode_plain"].append(timed(lambda: plain(lambda: codec.decode(coded.data)))[0])  # type: ignore[attr-defined]  # noqa: B023
            times["entropy"].append(timed(read)[0])
            if peer is None:
                continue
            seconds, strings = timed(lambda: peer.compress(x))
            times["peer_encode"].append(seconds)
            times["peer_decode"].append(timed(lambda: peer.decompress(**strings))[0])  # type: ignore[arg-type]  # noqa: B023
    median = {k: statistics.median(v[1:]) for k, v in times.items()}
    fastest = {k: min(v[1:]) for k, v in times.items()}
    beside = {} if peer is None else {"peer": "compressai mbt2018-mean quality 5, random weights"}
    ratios = (
        {} if peer is None else {f"{k}_ratio": round(median[f"peer_{k}"] / median[k], 2) for k in ("encode", "decode")}
    )
    print(
        json.dumps(
            {
                "image": a.image.name,
                "pixels": rgb.shape[0] * rgb.shape[1],
                "threads": a.threads,
                "processor": torch.backends.cpu.get_cpu_capability(),
                "model": a.model,
                "quality": a.quality,
                **beside,
                "seconds": {k: round(v, 4) for k, v in median.items()},
                "fastest": {k: round(v, 4) for k, v in fastest.items()},
                **ratios,
                "coded_symbols": symbols,
                "entropy_decoding_msymbols_a_second": round(symbols / median["entropy"] / 1e6, 1),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()

"""Makes results for reports: 5 codecs x 3 items x 5 qualities that were never measured, with samples on disk."""

from __future__ import annotations

import math
import wave

import numpy as np
from PIL import Image

from triode.eval.coder import CoderFacts
from triode.eval.results import CodecResult, ItemFacts, Measurement, Provenance, PublishedCurve, Results

EVIL = "<script>alert(1)</script>"
CODECS = {  # bytes over JPEG's at equal quality, and seconds
    "ours": (0.6, 0.4),
    "jpeg": (1.0, 0.01),
    "webp": (0.8, 0.1),
    "avif": (0.58, 0.9),
    EVIL: (0.9, 0.2),
}
ITEMS = ("one", "two", "three")
QUALITIES = (10.0, 30.0, 50.0, 70.0, 90.0)
WIDTH, HEIGHT, RATE = 96, 64, 8000


def make_results(folder=None, media="image", metrics=("psnr", "ms-ssim"), codecs=CODECS, items=ITEMS):
    """Make results, and samples in a folder if one is given.

    PSNR rises by 3 dB with each doubling of the bytes. On item `two`, quality 90 of `ours` failed.
    """
    rng = np.random.default_rng(0)
    ending = "wav" if media == "audio" else "png"
    pixels = WIDTH * HEIGHT if media == "image" else 2.0
    found, samples = [], {}
    for place, item in enumerate(items):
        if folder is not None:
            samples[item] = f"samples/{place}.{ending}"
            sample = _sample(rng, media)
            _write(folder / samples[item], sample)
        for number, (codec, (share, seconds)) in enumerate(codecs.items()):
            for step, quality in enumerate(QUALITIES):
                if (item, codec, quality) == ("two", "ours", 90.0):
                    found.append(Measurement(item, codec, quality, error="OSError: <b>no space</b> left"))
                    continue
                size = round(200 * 2**step * share * (1 + 0.05 * place * number))
                psnr = 26 + 3 * step - place
                values = {"psnr": psnr, "ms-ssim": 1 - 0.1 / 2**step, "mel": 3 / (1 + step)}
                parts = {"header": 20, "z": size // 10, "y": size - 20 - size // 10} if codec == "ours" else {}
                path = None
                if folder is not None and step < 4:
                    path = f"samples/{place}-{number}-{step}.{ending}"
                    _write(folder / path, sample + rng.normal(0, 40 / 2**step, sample.shape))
                found.append(
                    Measurement(
                        item,
                        codec,
                        quality,
                        size,
                        size - 20,
                        seconds * (1 + place),
                        seconds / 2,
                        (1 + number) << 20,
                        {name: values.get(name, math.inf) for name in metrics},
                        parts,
                        None,
                        path,
                    )
                )
    learned = CoderFacts(
        "Ours & <i>theirs</i>", "learned", {"effort": 2}, {"torch": "2"}, 2_000_000, 12.0, 9.5, "ab" * 32
    )
    return Results(
        media=media,
        metrics=tuple(metrics),
        items=tuple(ItemFacts(name, "0" * 64, pixels, (WIDTH, HEIGHT), WIDTH * HEIGHT * 3) for name in items),
        codecs=tuple(
            CodecResult(name, learned if name == "ours" else CoderFacts(name, options={"speed": 6}), QUALITIES)
            for name in codecs
        ),
        measurements=tuple(found),
        provenance=Provenance(
            "triode bench <x> -o OUT",
            "2026-01-01T00:00:00Z",
            "0.1",
            {"processor": "abacus", "cores": "2"},
            {"python": "3.11"},
            "serial",
            0,
        ),
        notes=("ms-ssim is not measured: too small <here>",),
        published=(
            PublishedCurve(
                "paper",
                "A paper",
                "kodak",
                "https://example.org/a",
                {"psnr": tuple((0.2 * 2**i, 26.5 + 3 * i) for i in range(5))},
            ),
        ),
        samples=samples,
    )


def _sample(rng, media):
    if media == "audio":
        return 8000 * np.sin(np.arange(2 * RATE) * 0.2)
    return rng.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3)).repeat(8, 0).repeat(8, 1).astype(float)


def _write(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    if values.ndim == 3:
        Image.fromarray(values.round().clip(0, 255).astype(np.uint8)).save(path)
        return
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(values.round().clip(-32768, 32767).astype("<i2").tobytes())

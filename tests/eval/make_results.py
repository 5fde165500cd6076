"""Makes results of a bench that never ran."""

from __future__ import annotations

import math

from triode.eval.coder import CoderFacts
from triode.eval.results import CodecResult, ItemFacts, Measurement, Provenance, PublishedCurve, Results

QUALITIES = (10.0, 30.0, 50.0, 70.0, 90.0)


def make_results(items=("a", "b", "c"), gains=None, media="image"):
    """Make results of two codecs, of which one needs a given share of the other's bytes at equal quality.

    PSNR is a straight line over the logarithm of the rate. One measurement of the learned codec failed, on item `b`.
    MSE is that of the PSNR; `mel` falls as PSNR rises.

    Args:
        items: Names of the items.
        gains: Bytes of the learned codec over those of JPEG, by item.
        media: What the items are.
    """
    gains = gains or {name: 0.5 + 0.1 * place for place, name in enumerate(items)}
    found = []
    for place, name in enumerate(items):
        for codec, share in (("jpeg", 1.0), ("learned", gains[name])):
            for step, quality in enumerate(QUALITIES):
                if (name, codec, quality) == ("b", "learned", 90.0):
                    found.append(Measurement(name, codec, quality, error="OSError: the disk is full"))
                    continue
                size = round(1000 * 2**step * share)
                psnr = 28 - place + 3.5 * math.log2(size / (1000 * share))
                metrics = {"psnr": psnr, "mel": 3 - psnr / 20}
                seconds = 0.01 * (1 + step) * (1 if codec == "jpeg" else 20)
                parts = {"header": size - size * 9 // 10, "data": size * 9 // 10}
                sample = f"samples/{name}/{codec}-{quality:g}.png" if step == 2 else None
                found.append(
                    Measurement(
                        name,
                        codec,
                        quality,
                        size,
                        size * 9 // 10,
                        seconds,
                        seconds / 2,
                        1 << 20,
                        metrics,
                        parts,
                        None,
                        sample,
                    )
                )
    facts = CoderFacts(
        "A learned codec", "learned", {"effort": 2}, {"torch": "2.13"}, 1_000_000, 21.5, 14.25, "ab" * 32
    )
    published = PublishedCurve(
        "paper",
        "A paper",
        "kodak",
        "https://example.org",
        {"psnr": tuple((0.4 * 2**i, 25 + 3.5 * i) for i in range(5))},
    )
    return Results(
        media=media,
        metrics=("psnr", "mel"),
        items=tuple(ItemFacts(name, "0" * 64, 10_000.0, (100, 100), 30_000) for name in items),
        codecs=(
            CodecResult("jpeg", CoderFacts("JPEG (Pillow)", options={"optimize": True}), QUALITIES),
            CodecResult("learned", facts, QUALITIES),
        ),
        measurements=tuple(found),
        provenance=Provenance(
            "triode bench", "2026-01-01T00:00:00Z", "0.1", {"cpu": "x", "cores": "2"}, {"python": "3.11"}, "serial", 0
        ),
        published=(published,),
        samples={name: f"samples/{name}/original.png" for name in items},
        notes=("ms-ssim is not measured: too small (1 of 60 measurements)",),
    )

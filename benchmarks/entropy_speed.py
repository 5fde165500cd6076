"""Speed of the range coder beside per-symbol distributions, in one run on the same symbols.

    python benchmarks/entropy_speed.py [--symbols 2000000] [--call 98304] [--mean-index 10] [--repeats 5] [--json]

Symbols are rounded Gaussians whose scales lie on the ladder of 64, in calls as long as one step of a Kodak image's
latent. Beside ours (tables, symbols sorted by table, sort and CRC included) stand constriction with the parameters of a
quantised Gaussian for each symbol, as its documentation shows, and CompressAI's rANS if installed, fed with lists as
its interface wants. All run on one thread; times are processor times, which other programs disturb less than the
clock. The best of the repeats counts, taken in turn.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import constriction
import numpy as np

from triode.entropy.coder import RangeReader, RangeWriter
from triode.entropy.gaussian import gaussian_tables, scale_ladder

REACH = 2000


@dataclass(frozen=True)
class Backend:
    """A pair of functions over all calls; `decode` takes what `encode` gave."""

    encode: Callable[[], Any]
    decode: Callable[[Any], list[np.ndarray]]
    size: Callable[[Any], int]


def draw(count: int, call: int, mean_index: float) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return symbols (int32) and table indices (uint8, 1 to 63, as index 0 is never coded), cut into calls."""
    rng = np.random.default_rng(0)
    index = np.clip(np.round(rng.normal(mean_index, 9, count)), 1, 63).astype(np.uint8)
    symbols = np.round(rng.normal(0, 1, count) * scale_ladder()[index]).astype(np.int32)
    cuts = range(call, count, call)
    return np.split(symbols, cuts), np.split(index, cuts)


def ours(symbols: list[np.ndarray], index: list[np.ndarray]) -> Backend:
    tables = gaussian_tables()

    def encode() -> bytes:
        writer = RangeWriter()
        for s, i in zip(symbols, index, strict=True):
            writer.write(s, i, tables)
        return writer.getvalue()

    def decode(data: bytes) -> list[np.ndarray]:
        reader = RangeReader(data)
        return [reader.read(i, tables) for i in index]

    return Backend(encode, decode, len)


def per_symbol(symbols: list[np.ndarray], index: list[np.ndarray]) -> Backend:
    family = constriction.stream.model.QuantizedGaussian(-REACH, REACH)
    ladder = scale_ladder()

    def encode() -> np.ndarray:
        encoder = constriction.stream.queue.RangeEncoder()
        for s, i in zip(symbols, index, strict=True):
            encoder.encode(s, family, np.zeros(len(i)), ladder[i])
        return encoder.get_compressed()

    def decode(words: np.ndarray) -> list[np.ndarray]:
        decoder = constriction.stream.queue.RangeDecoder(words)
        return [decoder.decode(family, np.zeros(len(i)), ladder[i]) for i in index]

    return Backend(encode, decode, lambda words: words.nbytes)


def compressai(symbols: list[np.ndarray], index: list[np.ndarray]) -> Backend | None:
    try:
        from compressai.ans import RansDecoder, RansEncoder
        from compressai.entropy_models import GaussianConditional
    except ImportError:
        return None
    model = GaussianConditional([float(s) for s in scale_ladder()])
    model.update()
    tables = (model._quantized_cdf.tolist(), model._cdf_length.reshape(-1).tolist(), model._offset.reshape(-1).tolist())

    def encode() -> list[bytes]:
        pairs = zip(symbols, index, strict=True)
        return [RansEncoder().encode_with_indexes(s.tolist(), i.tolist(), *tables) for s, i in pairs]

    def decode(parts: list[bytes]) -> list[np.ndarray]:
        pairs = zip(parts, index, strict=True)
        return [np.array(RansDecoder().decode_with_indexes(p, i.tolist(), *tables), dtype=np.int32) for p, i in pairs]

    return Backend(encode, decode, lambda parts: sum(map(len, parts)))


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--symbols", type=int, default=2_000_000)
    parser.add_argument("--call", type=int, default=98_304, help="symbols a call")
    parser.add_argument("--mean-index", type=float, default=10.0, help="mean of the table indices (deviation 9)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    symbols, index = draw(args.symbols, args.call, args.mean_index)
    made = {"triode": ours, "constriction, a Gaussian a symbol": per_symbol, "compressai rANS": compressai}
    backends = {name: backend for name, make in made.items() if (backend := make(symbols, index)) is not None}
    best = {name: [float("inf"), float("inf")] for name in backends}
    sizes: dict[str, int] = {}
    for _ in range(args.repeats):
        for name, backend in backends.items():
            encode, data = timed(backend.encode)
            decode, decoded = timed(lambda b=backend, d=data: b.decode(d))
            if not all(np.array_equal(a, b) for a, b in zip(symbols, decoded, strict=True)):
                raise SystemExit(f"{name} did not decode what it encoded")
            sizes[name] = backend.size(data)
            best[name] = [min(best[name][0], encode), min(best[name][1], decode)]

    first = best["triode"]
    rows = [
        {
            "coder": name,
            "encode_msymbols_per_s": round(args.symbols / encode / 1e6, 2),
            "decode_msymbols_per_s": round(args.symbols / decode / 1e6, 2),
            "encode_ratio": round(encode / first[0], 2),
            "decode_ratio": round(decode / first[1], 2),
            "bits_per_symbol": round(sizes[name] * 8 / args.symbols, 5),
        }
        for name, (encode, decode) in best.items()
    ]
    if args.json:
        print(json.dumps({"symbols": args.symbols, "call": args.call, "mean_index": args.mean_index, "coders": rows}))
        return
    print(f"{args.symbols} symbols in calls of {args.call}; ratio: time over ours")
    print(f"{'':36}{'Msymbol/s':>18}{'ratio':>16}{'bits/symbol':>14}")
    for row in rows:
        speeds = f"{row['encode_msymbols_per_s']:>9}{row['decode_msymbols_per_s']:>9}"
        ratios = f"{row['encode_ratio']:>8}{row['decode_ratio']:>8}"
        print(f"{row['coder']:36}{speeds}{ratios}{row['bits_per_symbol']:>14}")


if __name__ == "__main__":
    main()

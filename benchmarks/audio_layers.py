"""Speed of the audio layers on one thread, as how many times faster than the sound lasts.

    python benchmarks/audio_layers.py [--seconds 10] [--repeats 7] [--json]

Front ends run at 16 kHz (frames of 40 ms every 20 ms) and at 48 kHz, by fast transform and by matrix product; a
ConvNeXt backbone of 6 blocks and 256 channels runs on 50 frames a second, whole and streamed; EnCodec's networks stand
beside them. Weights are random, which leaves the speed as it is. Times are processor times, which other programs
disturb less than the clock; the best of the repeats counts, taken in turn.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import torch

from triode.models.layers.audio.conv import fuse_weight_norm
from triode.models.layers.audio.convnext import ConvNeXtBackbone
from triode.models.layers.audio.istft_head import IstftHead
from triode.models.layers.audio.mdct import MdctAnalysis, MdctSynthesis
from triode.models.layers.audio.seanet import SeanetDecoder, SeanetEncoder
from triode.models.layers.audio.spectra import Method
from triode.models.layers.audio.stft import StftAnalysis, StftSynthesis
from triode.models.layers.audio.streaming import StreamModule, stream

FRAMES_A_SECOND = 50
CHANNELS, BLOCKS = 256, 6
METHODS: tuple[Method, ...] = ("fft", "matmul")

Call = Callable[[], object]


def streamed(module: StreamModule, x: torch.Tensor, piece: int) -> Call:
    return lambda: list(stream(module, x.split(piece, -1)))


def front_ends(rate: int, seconds: int) -> dict[str, Call]:
    hop = rate // FRAMES_A_SECOND
    x = torch.randn(1, 1, rate * seconds)
    calls: dict[str, Call] = {}
    for method in METHODS:
        pairs = {
            f"STFT {2 * hop}/{hop}": (
                StftAnalysis(2 * hop, hop, method=method),
                StftSynthesis(2 * hop, hop, method=method),
            ),
            f"MDCT {hop}": (MdctAnalysis(hop, method=method), MdctSynthesis(hop, method=method)),
        }
        for name, (analysis, synthesis) in pairs.items():
            y = analysis(x)
            calls[f"{name} {method}, {rate} Hz, analysis"] = lambda a=analysis: a(x)
            calls[f"{name} {method}, {rate} Hz, synthesis"] = lambda s=synthesis, y=y: s(y)
    return calls


def networks(seconds: int) -> dict[str, Call]:
    frames = FRAMES_A_SECOND * seconds
    x = torch.randn(1, CHANNELS, frames)
    whole = ConvNeXtBackbone(CHANNELS, CHANNELS, BLOCKS)
    causal = ConvNeXtBackbone(CHANNELS, CHANNELS, BLOCKS, causal=True)
    bare = ConvNeXtBackbone(CHANNELS, CHANNELS, BLOCKS, norm="none")
    head = IstftHead(CHANNELS, 640, 320)
    encoder, decoder = SeanetEncoder(), SeanetDecoder()
    fuse_weight_norm(encoder)
    fuse_weight_norm(decoder)
    signal = torch.randn(1, 1, 24000 * seconds)
    features = encoder(signal)
    name = f"ConvNeXt {BLOCKS} x {CHANNELS}"
    return {
        name: lambda: whole(x),
        f"{name}, no norm": lambda: bare(x),
        f"{name}, causal": lambda: causal(x),
        f"{name}, causal, frame by frame": streamed(causal, x, 1),
        f"{name}, causal, 5 frames a step": streamed(causal, x, 5),
        "ISTFT head 640/320": lambda: head(x),
        "EnCodec 24 kHz encoder": lambda: encoder(signal),
        "EnCodec 24 kHz encoder, 80 ms a step": streamed(encoder, signal, 1920),
        "EnCodec 24 kHz decoder": lambda: decoder(features),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10, help="length of the sound")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with torch.inference_mode():
        calls = {**networks(args.seconds), **front_ends(16000, args.seconds), **front_ends(48000, args.seconds)}
        best = dict.fromkeys(calls, float("inf"))
        for _ in range(args.repeats + 1):  # The first round warms caches.
            for name, call in calls.items():
                start = time.process_time()
                call()
                best[name] = min(best[name], time.process_time() - start)
    rows = [
        {"layer": n, "ms_a_second": round(1000 * s / args.seconds, 4), "times_real_time": round(args.seconds / s)}
        for n, s in best.items()
    ]
    if args.json:
        print(json.dumps({"seconds": args.seconds, "threads": 1, "torch": torch.__version__, "layers": rows}))
        return
    print(f"{'':48}{'ms a second':>12}{'x real time':>12}")
    for row in rows:
        print(f"{row['layer']:48}{row['ms_a_second']:>12.3f}{row['times_real_time']:>12}")


if __name__ == "__main__":
    main()

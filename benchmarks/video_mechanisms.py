"""What each mechanism of the encoder of `video-light` is worth: BD-rate of coding without it, over clips.

    python benchmarks/video_mechanisms.py CLIP [CLIP ...] [--model WEIGHTS] [--frames 33] [--size 384x256]
        [--quality 10 30 50 70 90] [--rdoq PRICE] [--only MECHANISM ...] [-o OUT.json]

Files are made and decoded by the codec itself: rates are those of whole files, quality is the mean over frames of
``(6 PSNR_Y + PSNR_U + PSNR_V) / 8`` of 8-bit samples. All of it is the encoder's choice: the weights are the same, and
were trained with all of it. A positive figure is what leaving a mechanism out costs; the mean is over clips. There is
none, null, where curves overlap by less than half. Prints one JSON object, progress on stderr. Needs SciPy (extra
``bench``).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from triode.codecs.video import VideoCodec
from triode.eval.bdrate import RatePoint, bd_rate
from triode.eval.metrics.video import video_psnr_yuv611
from triode.io.video import read_clip
from triode.media import Clip
from triode.models.base import VideoModel
from triode.models.video import block_search, video_light
from triode.models.video.video_light import VideoLight
from triode.models.weights import default_weights, load_weights


def still(_frame: Tensor, _reference: Tensor, before: Tensor, _price: Tensor) -> Tensor:
    """Find no motion."""
    return torch.zeros_like(before, dtype=torch.int32)


def configured(model: VideoLight, **changes: Any) -> Any:
    """Change what the encoder reads of the configuration."""
    return patch.object(model, "config", replace(model.config, **changes))


@contextmanager
def fixed_first(model: VideoLight, finer: int) -> Iterator[None]:
    """Have the first frame of every group finer by the same, whatever follows."""
    with configured(model, intra=finer), patch.object(model, "lookahead", 0.0):
        yield


MECHANISMS: dict[str, Callable[[VideoLight], Any]] = {
    "motion": lambda _: patch.object(video_light, "search", still),
    "vectors chosen as they are coded": lambda _: patch.object(block_search, "ROUNDS", 0),
    "optimised quantisation": lambda model: patch.object(model, "rdoq", 0.0),
    "layers of quality": lambda model: configured(model, layers=(0,)),
    "a finer first frame": lambda model: fixed_first(model, 0),
    "looking ahead (the first frame as fine as in training)": lambda model: fixed_first(model, model.config.intra),
}


@contextmanager
def without(model: VideoLight, name: str | None) -> Iterator[None]:
    """Leave a mechanism out; None leaves none out."""
    with ExitStack() as stack:
        if name is not None:
            stack.enter_context(MECHANISMS[name](model))
        yield


def middle(clip: Clip, width: int, height: int) -> Clip:
    """Return the middle of a clip, of even sides."""
    top, left = ((have - want) // 4 * 2 for have, want in ((clip.height, height), (clip.width, width)))
    top, left = max(top, 0), max(left, 0)
    luma = clip.y[:, top : top + height, left : left + width]
    u, v = (p[:, top // 2 : (top + height) // 2, left // 2 : (left + width) // 2] for p in (clip.u, clip.v))
    return replace(clip, y=luma.copy(), u=u.copy(), v=v.copy())


def curve(codec: VideoCodec, clip: Clip, qualities: list[float]) -> list[RatePoint]:
    """Return rates in bits a pixel and qualities in dB."""
    points = []
    for quality in qualities:
        coded = codec.encode(clip, quality=quality)
        points.append(RatePoint(coded.bpp, video_psnr_yuv611(codec.decode(coded.data), clip)))
    return points


def worth(whole: list[RatePoint], part: list[RatePoint]) -> float | None:
    """Return the BD-rate in percent; None where the curves overlap too little to say."""
    try:
        return round(bd_rate(whole, part).percent, 2)
    except ValueError:
        return None


def mean(found: list[float | None]) -> float | None:
    """Return the mean over clips; None if it would leave one out."""
    known = [value for value in found if value is not None]
    return round(statistics.mean(known), 2) if len(known) == len(found) else None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--model", default=default_weights("video"), help="weights of a video-light with motion")
    parser.add_argument("--frames", type=int, default=33)
    parser.add_argument("--size", default="384x256", help="of the middle that is coded")
    parser.add_argument("--quality", nargs="+", type=float, default=[10, 30, 50, 70, 90])
    parser.add_argument("--rdoq", type=float, help="price of errors in optimised quantisation, instead of the model's")
    parser.add_argument("--only", nargs="+", choices=list(MECHANISMS), default=list(MECHANISMS), metavar="MECHANISM")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, help="where to write the object too")
    a = parser.parse_args()
    torch.set_num_threads(a.threads)

    loaded = load_weights(a.model, VideoModel)  # type: ignore[type-abstract]
    model = loaded.model
    if not isinstance(model, VideoLight):
        raise SystemExit(f"{a.model} is no video-light")
    model.rdoq = model.rdoq if a.rdoq is None else a.rdoq
    codec, found = VideoCodec(loaded), {name: {} for name in a.only}  # type: dict[str, dict[str, float | None]]
    for path in a.clips:
        clip = middle(read_clip(path, 0, a.frames), *map(int, a.size.split("x")))
        whole = curve(codec, clip, a.quality)
        for name in a.only:
            with without(model, name):
                found[name][path.stem] = worth(whole, curve(codec, clip, a.quality))
            print(f"{path.stem}: without {name} {found[name][path.stem]} %", file=sys.stderr, flush=True)
    rows = {name: {"mean": mean(list(by.values())), "clips": by} for name, by in found.items()}
    options = f"--frames {a.frames} --size {a.size} --rdoq {model.rdoq:g}"
    report = {
        "command": f"python benchmarks/video_mechanisms.py CLIPS {options}",
        "model": loaded.info.name,
        "bd_rate_percent_without": rows,
    }
    text = json.dumps(report, indent=1)
    print(text)
    if a.output:
        a.output.write_text(text + "\n")


if __name__ == "__main__":
    main()

"""Speed of the codec of video: frames a second, encoding and decoding, and what came of it.

    python benchmarks/video_speed.py [CLIP] [--models NAME,NAME] [--untrained video-light,stem] [--quality 50]
        [--frames 60] [--size 352x288] [--threads 2] [--repeats 3]

From frames in memory to the bytes of a file and back, networks, range coder, groups and container included; models are
loaded before. Frames are cut, or continued by their mirror image, to ``--size``; ``clip`` leaves them as they are.
Without ``--models`` and ``--untrained``, the default weights for video are measured.

``--untrained`` names training configurations, whose models are measured as training starts them. The model of images
in them has the bundled weights for images if it has their widths, or else a linear transform, the principal components
of this clip, which ``start`` tells. Of `video-light` the rest is a linear transform too, of what changes from frame to
frame, beside networks that add nothing yet; `stem` has the rates of its model of images. Networks take as long as after
training; the range coder takes longer where rates are higher. A configuration without a model of images is measured
with random weights, whose size and quality say nothing.

Groups are coded in threads, as everywhere. Prints one JSON object; times are by the clock, the median over the repeats,
the models taken in turn. ``cpu_ms`` is processor time a frame, of all threads, which other programs disturb less;
``symbols`` is the part of decoding that goes to the symbols (entropy networks, range coder and checksum).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from triode.codecs.planes import from_planes
from triode.codecs.video import VideoCodec
from triode.eval.metrics.video import video_psnr_y
from triode.io.video import read_clip
from triode.media import Clip
from triode.models.base import VideoModel, Yuv
from triode.models.registry import create_model
from triode.models.video.colour import yuv_to_rgb
from triode.models.weights import Loaded, default_weights, load_weights, save_weights

ROOT = Path(__file__).parent.parent
SAMPLE, CONFIGS = ROOT / "examples" / "coffee.mp4", ROOT / "triode" / "train" / "configs"
START_FRAMES = 9


def timed(call: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return the seconds that a call takes, those of the processor, and its result."""
    start, used = time.perf_counter(), time.process_time()
    result = call()
    return time.perf_counter() - start, time.process_time() - used, result


def size_of(text: str) -> tuple[int, int] | None:
    """Return width and height of ``352x288``; None for ``clip``."""
    if text == "clip":
        return None
    width, height = map(int, text.split("x"))
    return width, height


def at_size(clip: Clip, width: int, height: int) -> Clip:
    """Return the upper left of a clip, its mirror image where it is too small."""

    def fitted(planes: np.ndarray, rows: int, columns: int) -> np.ndarray:
        missing = [(0, max(0, wanted - side)) for wanted, side in zip((rows, columns), planes.shape[1:], strict=True)]
        return np.ascontiguousarray(np.pad(planes, [(0, 0), *missing], "symmetric")[:, :rows, :columns])

    u, v = (fitted(planes, (height + 1) // 2, (width + 1) // 2) for planes in (clip.u, clip.v))
    return replace(clip, y=fitted(clip.y, height, width), u=u, v=v)


def pixels(frame: Yuv, matrix: str) -> np.ndarray:
    """Return a frame as (H, W, 3) uint8."""
    return (yuv_to_rgb(frame, matrix)[0].clamp(0, 1).permute(1, 2, 0) * 255).round().to(torch.uint8).numpy()


def untrained(name: str, clip: Clip) -> Loaded[VideoModel]:
    """Return a model of a training configuration as if it had been loaded from its weights."""
    import yaml

    given = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["model"]["init_args"]
    torch.manual_seed(0)
    model: Any = create_model(given["model"], **given.get("config", {}))
    if not isinstance(model, VideoModel):
        raise SystemExit(f"{name} is no configuration of a model of video")
    sides = [-(-side // model.multiple) * model.multiple for side in (clip.height, clip.width)]
    planes = list(zip(clip.y, clip.u, clip.v, strict=True))[:START_FRAMES]
    frames = [from_planes(p, (sides[0], sides[1]), full_range=clip.full_range) for p in planes]
    start = "random"
    if hasattr(model, "load_image"):
        start = default_weights("image")
        try:
            model.load_image(load_weights(start).model.state_dict())
        except ValueError:  # Its widths are others.
            start = "principal components"
            model.image.init_from_data([pixels(frame, clip.matrix) for frame in frames])
            model.load_image(model.image.state_dict())
    if hasattr(model, "init_from_data"):
        model.init_from_data([frames])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.v0.safetensors"
        save_weights(model, path, name=f"{name}.v0", architecture=given["model"], training={"start": start})
        return load_weights(str(path), VideoModel)  # type: ignore[type-abstract]


def measure(codec: VideoCodec, clip: Clip, quality: float, times: dict[str, list[float]]) -> tuple[Any, Clip]:
    """Encode and decode a clip, and add to the times; return the file and the frames that came back."""
    clock, cpu, coded = timed(lambda: codec.encode(clip, quality=quality))
    times["encode"].append(clock)
    times["encode_cpu"].append(cpu)
    clock, cpu, decoded = timed(lambda: codec.decode(coded.data))
    times["decode"].append(clock)
    times["decode_cpu"].append(cpu)
    times["symbols_cpu"].append(timed(lambda: codec.verify(coded.data))[1])
    if (decoded.y.shape, decoded.u.shape) != (clip.y.shape, clip.u.shape):
        raise SystemExit(f"frames of shape {decoded.y.shape} came back, not {clip.y.shape}")
    return coded, decoded


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", nargs="?", type=Path, default=SAMPLE)
    parser.add_argument("--models", default="", help="names or paths of weights, for images or video")
    parser.add_argument("--untrained", default="", help="names of training configurations, such as video-light,stem")
    parser.add_argument("--quality", type=float, default=50)
    parser.add_argument("--frames", type=int, default=60, help="most frames that are coded")
    parser.add_argument("--size", type=size_of, default="352x288", help="such as 352x288 (default), or: clip")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    a = parser.parse_args()
    torch.set_num_threads(a.threads)

    clip = read_clip(a.clip, 0, a.frames)
    clip = at_size(clip, *a.size) if a.size else clip
    names = [name for name in a.models.split(",") if name] or ([] if a.untrained else [default_weights("video")])
    weights: list[Loaded[Any]] = [load_weights(name, nn.Module) for name in names]
    weights += [untrained(name, clip) for name in a.untrained.split(",") if name]
    loaded = {one.info.name: one for one in weights}
    codecs = {name: VideoCodec(one) for name, one in loaded.items()}
    times: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in codecs}
    results: dict[str, tuple[Any, Clip]] = {}
    for _ in range(a.repeats + 1):  # The first round warms caches and is dropped.
        for name, codec in codecs.items():
            results[name] = measure(codec, clip, a.quality, times[name])
    rows: dict[str, Any] = {}
    for name, (coded, decoded) in results.items():
        one = {what: statistics.median(found[1:]) for what, found in times[name].items()}
        ms = {what: round(1000 * seconds / clip.frames, 1) for what, seconds in one.items()}
        rows[name] = {
            "start": loaded[name].info.training.get("start", "trained"),
            "encode_frames_a_second": round(clip.frames / one["encode"], 2),
            "decode_frames_a_second": round(clip.frames / one["decode"], 2),
            "cpu_ms": {part: ms[f"{part}_cpu"] for part in ("encode", "decode", "symbols")},
            "groups": coded.gops,
            "bytes": coded.bytes,
            "kbps": round(coded.kbps, 1),
            "bits_a_pixel": round(coded.bpp, 4),
            "psnr_y": round(video_psnr_y(decoded, clip), 2),
        }
    facts = {name: getattr(clip, name) for name in ("width", "height", "frames")}
    report = {"clip": a.clip.name, **facts, "threads": a.threads, "quality": a.quality, "models": rows}
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()

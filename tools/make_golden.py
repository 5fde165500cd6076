"""Make golden bitstreams: files that every later release must decode to the same symbols.

    python tools/make_golden.py [--list]

Writes ``tests/golden/NAME.tri`` and its facts into ``tests/golden/golden.json`` for every case that has none yet and
whose weights are in the package. Cases that stand are never made again: a change that breaks one is a change of the
format.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from triode.codecs.audio import AudioCodec
from triode.codecs.image import ImageCodec
from triode.codecs.video import VideoCodec
from triode.container import ContainerReader
from triode.media import Clip, Picture, Sound
from triode.models import weights

ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden"


@dataclass(frozen=True, slots=True)
class Case:
    """A picture and how to code it."""

    picture: Callable[[], Picture]
    quality: float
    model: str
    tile_log2: int = 11


def sample(left: int, top: int, width: int, height: int) -> np.ndarray:
    """Return a rectangle of the sample photo, (height, width, 3) uint8."""
    with Image.open(ROOT / "examples" / "kodim23.png") as image:
        return np.asarray(image.convert("RGB").crop((left, top, left + width, top + height)))


def with_alpha() -> Picture:
    """Return a small picture with an alpha ramp."""
    ramp = np.broadcast_to(np.linspace(0, 255, 96).astype(np.uint8)[None, :, None], (64, 96, 1))
    return Picture(np.concatenate([sample(200, 100, 96, 64), ramp], axis=2), icc=b"not a real profile", exif=b"MM\0*")


@dataclass(frozen=True, slots=True)
class SoundCase:
    """A recording and how to code it."""

    sound: Callable[[], Sound]
    quality: float
    model: str
    chunk_seconds: float = 1.0


def voice(seconds: float, rate: int, channels: int = 1, *, silent: tuple[int, ...] = ()) -> Sound:
    """Return a sound like voices and instruments: harmonics that glide and come and go, and breath.

    Channels differ in how loud the parts are; the second half of the `silent` ones is digital silence.
    """
    rng, t = np.random.default_rng(7), np.arange(max(1, round(seconds * rate))) / rate
    x = 0.02 * rng.normal(size=(channels, len(t)))
    for base, glide in ((118.0, 21.0), (311.0, 4.0)):
        phase = 2 * np.pi * (base * t + glide * (1 - np.cos(2.3 * t)) / 2.3)
        for k in range(1, 16):
            swell = np.clip(np.sin(rng.uniform(2, 6) * t + rng.uniform(0, 6)) + 0.4, 0, None)
            x += rng.uniform(0.7, 1, (channels, 1)) * swell * np.sin(k * phase + rng.uniform(0, 6)) / k**1.3
    x *= 0.4 / np.abs(x).max()
    for channel in silent:
        x[channel, len(t) // 2 :] = 0
    return Sound(x.astype(np.float32), rate)


def sound_cases(model: str, rate: int) -> dict[str, SoundCase]:
    """Return the cases of weights for sound, which work at this rate."""
    cases = {
        "voice": SoundCase(lambda: voice(2.4, rate), 50, model),
        "best": SoundCase(lambda: voice(0.7, rate), 100, model),
        "stereo": SoundCase(lambda: voice(1.3, 44_100, 2), 30, model),
        "silence": SoundCase(lambda: voice(2.2, 22_050, 3, silent=(0, 2)), 40, model),
        "sample": SoundCase(lambda: voice(0, 8_000), 60, model),
        "indexed": SoundCase(lambda: voice(6, rate), 0, model, chunk_seconds=0.08),
    }
    return {f"{model}-{name}": case for name, case in cases.items()}


@dataclass(frozen=True, slots=True)
class VideoCase:
    """A clip and how to code it."""

    clip: Callable[[], Clip]
    quality: float
    model: str
    gop: int = 32


def moving(frames: int, width: int, height: int, *, cut: int | None = None) -> Clip:
    """Return a camera that pans over the sample photo, with a piece that crosses it; elsewhere from `cut` on."""
    pixels = []
    for n in range(frames):
        left, top = (40, 60) if cut is None or n < cut else (420, 200)
        frame = sample(left + 2 * n, top + n // 2, width, height).astype(np.float32)
        x = 3 * n % max(1, width - 16)
        frame[height // 3 : height // 3 + 16, x : x + 16] = sample(300, 100, 16, 16)[: len(frame[height // 3 :])]
        pixels.append(frame)
    rgb = np.stack(pixels) / 255
    luma = rgb @ np.array([0.2126, 0.7152, 0.0722])
    planes = [16 + 219 * luma]
    for channel, factor in ((2, 1.8556), (0, 1.5748)):
        plane = 128 + 224 * (rgb[..., channel] - luma) / factor
        plane = np.pad(plane, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
        planes.append(plane.reshape(frames, (height + 1) // 2, 2, (width + 1) // 2, 2).mean((2, 4)))
    y, u, v = (np.rint(plane).astype(np.uint8) for plane in planes)
    return Clip(y, u, v, Fraction(25))


def image_cases(model: str) -> dict[str, Case]:
    """Return the cases of weights for images that are a variant of others."""
    cases = {
        "photo": Case(lambda: Picture(sample(160, 80, 256, 192)), 50, model),
        "best": Case(lambda: Picture(sample(0, 0, 120, 90)), 100, model),
        "grey": Case(lambda: Picture(sample(300, 200, 77, 130)[:, :, 1:2].copy()), 20, model),
    }
    return {f"{model}-{name}": case for name, case in cases.items()}


def video_cases(model: str) -> dict[str, VideoCase]:
    """Return the cases of weights for video; ``long`` is one group of 96 frames."""
    cases = {
        "clip": VideoCase(lambda: moving(9, 96, 64), 50, model),
        "best": VideoCase(lambda: moving(3, 64, 48), 100, model),
        "odd": VideoCase(lambda: moving(5, 53, 37), 20, model, gop=2),
        "cut": VideoCase(lambda: moving(8, 80, 64, cut=5), 30, model),
        "long": VideoCase(lambda: moving(96, 64, 48), 40, model, gop=96),
    }
    return {f"{model}-{name}": case for name, case in cases.items()}


CASES = {
    "image-light.v2-photo": Case(lambda: Picture(sample(160, 80, 256, 192)), 50, "image-light.v2"),
    "image-light.v2-best": Case(lambda: Picture(sample(0, 0, 120, 90)), 100, "image-light.v2"),
    "image-light.v2-pixel": Case(lambda: Picture(sample(10, 10, 1, 1)), 30, "image-light.v2"),
    "image-light.v2-grey": Case(lambda: Picture(sample(300, 200, 77, 130)[:, :, 1:2].copy()), 20, "image-light.v2"),
    "image-light.v2-alpha": Case(with_alpha, 60, "image-light.v2"),
    "image-light.v2-tiles": Case(lambda: Picture(sample(100, 50, 330, 150)), 40, "image-light.v2", tile_log2=7),
    **image_cases("image-light.v5"),
    "image-light.v5-pixel": Case(lambda: Picture(sample(10, 10, 1, 1)), 30, "image-light.v5"),
    "image-light.v5-tiles": Case(lambda: Picture(sample(100, 50, 330, 150)), 40, "image-light.v5", tile_log2=7),
    **image_cases("image-light-ms-ssim.v1"),
    **image_cases("image-light-perceptual.v1"),
}
SOUND_CASES = {
    **sound_cases("audio-light-speech.v1", 16_000),
    **sound_cases("audio-light-general.v2", 48_000),
}
VIDEO_CASES = {
    "image-light.v2-clip": VideoCase(lambda: moving(4, 64, 48), 50, "image-light.v2"),
    **video_cases("stem.v2"),
    **video_cases("video-light.v2"),
}


def bundled(model: str) -> bool:
    """Whether weights are in the package."""
    return (Path(weights.__file__).parent / f"{model}.safetensors").is_file()


AnyCase = Case | SoundCase | VideoCase


def due() -> dict[str, AnyCase]:
    """Return the cases that there must be files of."""
    return {name: case for name, case in {**CASES, **SOUND_CASES, **VIDEO_CASES}.items() if bundled(case.model)}


def psnr(decoded: np.ndarray, original: np.ndarray) -> float:
    """Return the PSNR of pixels in dB."""
    error = float(np.mean((decoded.astype(float) - original) ** 2))
    return float(-10 * np.log10(max(error, 1e-6) / 255**2))


def snr(decoded: np.ndarray, sound: Sound) -> float:
    """Return the ratio of samples to their error in dB."""
    error = float(np.square(decoded.astype(float) - sound.samples).sum())
    return float(10 * np.log10(np.square(sound.samples.astype(float)).sum() / max(error, 1e-12)))


def encode(case: AnyCase) -> tuple[bytes, dict[str, object]]:
    """Return the file of a case, and what a later decoder must find in it."""
    if isinstance(case, VideoCase):
        clip = case.clip()
        made = VideoCodec(case.model, gop=case.gop).encode(clip, quality=case.quality).data
        assert made is not None  # noqa: S101  # no target was given
        data, planes = made, VideoCodec().decode(made)
        special: dict[str, object] = {"frames": planes.frames, "psnr": round(psnr(planes.y, clip.y), 2)}
        shape = planes.y.shape
    elif isinstance(case, SoundCase):
        sound = case.sound()
        samples = AudioCodec(case.model, chunk_seconds=case.chunk_seconds).encode(sound, quality=case.quality).data
        assert samples is not None  # noqa: S101  # no target was given
        data, decoded = samples, AudioCodec().decode(samples)
        special = {"rate": decoded.rate, "snr": round(snr(decoded.samples, sound), 2)}
        shape = decoded.samples.shape
    else:
        picture = case.picture()
        data = ImageCodec(case.model, tile_log2=case.tile_log2).encode(picture, quality=case.quality).data
        pixels = ImageCodec().decode(data).pixels
        special, shape = {"psnr": round(psnr(pixels, picture.pixels), 2)}, pixels.shape
    return data, {
        "bytes": len(data),
        "crc32": zlib.crc32(data),
        "shape": list(shape),
        "symbols_crc32": [u.symbols_crc32 for u in ContainerReader(io.BytesIO(data)).units()],
        **special,
    }


def main() -> None:
    """Make what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true", help="only say which cases are missing")
    a = parser.parse_args()
    index = GOLDEN / "golden.json"
    known = json.loads(index.read_text()) if index.exists() else {}
    missing = {name: case for name, case in due().items() if name not in known}
    print("missing:", ", ".join(missing) or "none", file=sys.stderr)
    if a.list:
        return
    for name, case in missing.items():
        data, known[name] = encode(case)
        (GOLDEN / f"{name}.tri").write_bytes(data)
    index.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()

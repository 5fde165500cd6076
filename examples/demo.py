"""Encode and decode real media with the bundled weights through the command line; print rate and quality.

Run by ``make demo``. The photo and the recording need the core dependencies only, the clip PyAV (``triode[video]``);
where the package pesq is installed, PESQ is printed too.
"""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from triode.errors import CodecError
from triode.eval.metrics import metric
from triode.io.audio import read_sound
from triode.io.tracks import PacketReader
from triode.io.video import read_clip
from triode.models.weights import default_weights

HERE = Path(__file__).parent
QUALITIES = (10, 30, 50, 70, 90)
CLIP_QUALITIES = (20, 50, 80)
TRIODE = (sys.executable, "-m", "triode")


def triode(*args: object) -> dict[str, object]:
    """Run the command line and return the JSON object that it prints."""
    command = [*TRIODE, *map(str, args), "--json"]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    answer: dict[str, object] = json.loads(out)
    return answer


def psnr(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Return the PSNR of two uint8 arrays in dB."""
    return -10 * math.log10(max(1e-10, float(np.mean((a.astype(float) - b.astype(float)) ** 2)) / 255**2))


def jpeg_at(image: Image.Image, size: int) -> tuple[int, float]:
    """Return the size and PSNR of the best JPEG that is no larger than ``size`` bytes, or of the smallest there is."""
    best = io.BytesIO()
    for quality in range(1, 96):
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality, optimize=True)
        if quality == 1 or buffer.tell() <= size:
            best = buffer
    return best.tell(), psnr(np.asarray(image), np.asarray(Image.open(best).convert("RGB")))


def photo(path: Path, folder: Path) -> None:
    """Code a photo at five qualities and print a table."""
    image = Image.open(path).convert("RGB")
    reference = np.asarray(image)
    print(f"{path.name}: {image.width} x {image.height} photo, {path.stat().st_size:,} bytes as PNG")
    print(f"{'quality':>8} {'bytes':>8} {'bpp':>7} {'PSNR':>9}   {'JPEG of that size':>24}")
    for quality in QUALITIES:
        coded, decoded = folder / f"{quality}.tri", folder / f"{quality}.png"
        answer = triode("encode", path, "-o", coded, "-q", quality)
        triode("decode", coded, "-o", decoded)
        size, value = jpeg_at(image, coded.stat().st_size)
        own = psnr(reference, np.asarray(Image.open(decoded).convert("RGB")))
        row = f"{quality:>8} {coded.stat().st_size:>8,} {answer['bpp']:>7.3f} {own:>6.2f} dB"
        print(f"{row}   {size:>8,} bytes, {value:>5.2f} dB", flush=True)


def has_weights_for_sound() -> bool:
    """Say whether there are weights that a recording is coded with by default."""
    try:
        default_weights("audio")
    except CodecError:
        return False
    return True


def recording(path: Path, folder: Path) -> None:
    """Code a recording at five qualities and print a table."""
    original = read_sound(path)
    print(
        f"{path.name}: {original.seconds:.1f} s of speech at {original.rate} Hz, {path.stat().st_size:,} bytes as WAV"
    )
    if not has_weights_for_sound():
        print("skipped: no weights for sound are installed")
        return
    metrics = ["mel", "si-sdr", *(["pesq"] if find_spec("pesq") else [])]
    print(
        f"{'quality':>8} {'bytes':>8} {'kb/s':>7} {'mel dist.':>10} {'SI-SDR':>9}"
        + f"{'PESQ':>7}" * ("pesq" in metrics)
    )
    for quality in QUALITIES:
        coded, decoded = folder / f"speech-{quality}.tri", folder / f"speech-{quality}.wav"
        answer = triode("encode", path, "-o", coded, "-q", quality)
        triode("decode", coded, "-o", decoded)
        back = read_sound(decoded)
        mel, sdr, *pesq = (metric(name).measure(back, original) for name in metrics)
        row = f"{quality:>8} {coded.stat().st_size:>8,} {answer['kbps']:>7.2f} {mel:>10.3f} {sdr:>6.2f} dB"
        print(row + "".join(f"{value:>7.2f}" for value in pesq), flush=True)


def packets(path: Path) -> list[bytes]:
    """Return the coded packets of the sound of a video."""
    with PacketReader(path) as reader:
        return [packet.data for packet in reader.until(None)]


def clip(path: Path, folder: Path) -> None:
    """Code a clip with its sound at three qualities and print a table; then a part of it."""
    if not find_spec("av"):
        print(f"{path.name}: skipped, as reading it needs PyAV: pip install 'triode[video]'")
        return
    original = read_clip(path)
    size = f"{original.width} x {original.height}, {original.frames} frames, {original.seconds:.1f} s with sound"
    print(f"{path.name}: {size}, {path.stat().st_size:,} bytes as MP4")
    print(f"{'quality':>8} {'bytes':>8} {'bpp':>7} {'kb/s':>7} {'YUV-PSNR':>9} {'encode':>10} {'decode':>10}   sound")
    quality_of = metric("psnr-yuv611")
    for quality in CLIP_QUALITIES:
        coded, decoded = folder / f"clip-{quality}.tri", folder / f"clip-{quality}.mkv"
        answer = triode("encode", path, "-o", coded, "-q", quality)
        back = triode("decode", coded, "-o", decoded)
        row = f"{quality:>8} {coded.stat().st_size:>8,} {answer['bpp']:>7.3f} {answer['kbps']:>7.1f}"
        row += f" {quality_of.measure(read_clip(decoded), original):>6.2f} dB"
        row += "".join(f" {original.frames / float(str(done['seconds'])):>5.1f} fr/s" for done in (answer, back))
        same = packets(decoded) == packets(path)
        print(f"{row}   {'as it was' if same else 'differs'}", flush=True)
    part = folder / "part.mkv"
    triode("decode", folder / f"clip-{CLIP_QUALITIES[-1]}.tri", "--range", "1s:1.5s", "-o", part)
    print(f"{'1 s to 1.5 s':>14} alone: {read_clip(part).frames} frames")


def main() -> None:
    """Run the demonstration."""
    with tempfile.TemporaryDirectory() as folder:
        photo(HERE / "kodim23.png", Path(folder))
        print()
        recording(HERE / "kathleen-a0133.wav", Path(folder))
        print()
        clip(HERE / "coffee.mp4", Path(folder))


if __name__ == "__main__":
    main()

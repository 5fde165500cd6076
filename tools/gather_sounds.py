"""Gather recordings for training: short ones of a folder are joined, long ones cut, all written as mono or stereo FLAC.

    python tools/gather_sounds.py FOLDER [FOLDER ...] -o OUT [--piece 12] [--most 12] [--lowest 8000] [--seed 0]

Every folder with sounds in it is a source of its own: a voice, an album, a drum kit. Of each, at most `most` minutes
are taken, spread over its files, so that no source outweighs the others. Pieces have about `piece` seconds; with one in
20 held back in training, every larger source is held back in part. Silence and files below `lowest` Hz are left out.
Recordings that Debian packages may be had by `apt-get download PACKAGE; dpkg -x PACKAGE_*.deb FOLDER`:

- speech: asterisk-core-sounds-{en,es,fr,it,ru}-g722, fillets-ng-data-cs, fillets-ng-data-nl, klettres-data,
  ktuberling-data;
- music: warzone2100-music, singularity-music, colobot-common-sounds, sonic-pi-samples, hydrogen-drumkits.

Prints one line a source. Needs PyAV and soundfile (extra ``media``).
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections import defaultdict
from pathlib import Path

import av
import numpy as np
import soundfile
from numpy.typing import NDArray

SUFFIXES = {".aif", ".aiff", ".flac", ".g722", ".mp3", ".oga", ".ogg", ".opus", ".wav"}
QUIET = 0.02
SHORTEST = 0.3


def read(path: Path) -> tuple[NDArray[np.float32], int]:
    """Return the samples (T, C) of a file, C at most 2, and their rate.

    Raises:
        ValueError: If there is no sound in it.
    """
    parts = []
    with av.open(str(path), format="g722" if path.suffix == ".g722" else None) as container:
        if not container.streams.audio:
            raise ValueError("no sound")
        stream = container.streams.audio[0]
        channels, rate = stream.codec_context.channels, stream.codec_context.sample_rate
        convert = av.AudioResampler(format="flt", layout="mono" if channels == 1 else "stereo", rate=rate)
        for frame in container.decode(stream):
            parts += [out.to_ndarray() for out in convert.resample(frame)]
        parts += [out.to_ndarray() for out in convert.resample(None)]
    if not parts:
        raise ValueError("no samples")
    return np.concatenate(parts, 1).reshape(-1, min(channels, 2)).astype(np.float32), rate


def cut(sound: NDArray[np.float32], rate: int, piece: float, seconds: float) -> list[NDArray[np.float32]]:
    """Return a sound whole, or, of one longer than `seconds`, evenly spread pieces that add up to about as much."""
    size = int(piece * rate)
    if len(sound) <= max(2 * size, int(seconds * rate)):
        count = max(1, round(len(sound) / size))
        return np.array_split(sound, count)
    starts = np.linspace(0, len(sound) - size, max(1, int(seconds / piece))).astype(int)
    return [sound[start : start + size] for start in starts]


class Source:
    """Writes the pieces of one source.

    Args:
        stem: What file names begin with.
        out: Folder.
        piece: Seconds of a file.
    """

    def __init__(self, stem: str, out: Path, piece: float) -> None:
        self.stem, self.out, self.piece = stem, out, piece
        self.held: dict[tuple[int, int], list[NDArray[np.float32]]] = defaultdict(list)
        self.files, self.seconds = 0, 0.0

    def add(self, sound: NDArray[np.float32], rate: int) -> None:
        """Take a sound; sounds of the same rate and channels are joined until they fill a piece."""
        held = self.held[rate, sound.shape[1]]
        held.append(sound)
        self.seconds += len(sound) / rate
        if sum(map(len, held)) >= self.piece * rate * 0.8:
            self._write(held, rate)

    def close(self) -> None:
        """Write what is left."""
        for (rate, _), held in self.held.items():
            if held:
                self._write(held, rate)

    def _write(self, held: list[NDArray[np.float32]], rate: int) -> None:
        name = f"{self.stem}-{self.files:04d}.flac"
        soundfile.write(self.out / name, np.concatenate(held).clip(-1, 1), rate, subtype="PCM_16")
        self.files += 1
        held.clear()


def gather(folder: Path, stem: str, options: argparse.Namespace) -> Source:
    """Write the pieces of one folder."""
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES)
    random.Random(options.seed).shuffle(paths)  # noqa: S311 - no secret
    source = Source(stem, options.out, options.piece)
    share = max(options.piece, 60 * options.most / len(paths))
    for path in paths:
        try:
            sound, rate = read(path)
        except (av.FFmpegError, ValueError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            continue
        if rate < options.lowest or len(sound) < SHORTEST * rate:
            continue
        for part in cut(sound, rate, options.piece, share):
            if np.abs(part).max() >= QUIET:
                source.add(part, rate)
        if source.seconds >= 60 * options.most:
            break
    source.close()
    return source


def main() -> None:
    """Gather."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--piece", type=float, default=12.0, help="seconds of a file")
    parser.add_argument("--most", type=float, default=12.0, help="minutes of a source")
    parser.add_argument("--lowest", type=int, default=8000, help="lowest sampling rate")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    total = 0.0
    for root in options.folders:
        below = sorted(p for p in root.rglob("*") if p.is_dir() and not p.is_symlink())
        for folder in (root, *below):
            if not any(p.suffix.lower() in SUFFIXES for p in folder.iterdir()):
                continue
            stem = "-".join((root.name, *folder.relative_to(root).parts[-3:])).replace(" ", "_")
            source = gather(folder, stem, options)
            total += source.seconds
            print(f"{source.seconds / 60:7.1f} min {source.files:5d} files  {folder.relative_to(root.parent)}")
    print(f"{total / 60:7.1f} min in all" if not math.isclose(total, 0) else "nothing found")


if __name__ == "__main__":
    main()

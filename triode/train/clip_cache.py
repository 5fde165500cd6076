"""Clips of a folder, decoded once to a memory-mapped file of YUV 4:2:0."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from triode.errors import CodecError, UnsupportedError
from triode.io.files import atomic_path
from triode.io.video import READABLE, ClipReader
from triode.models.video.colour import yuv_to_rgb
from triode.train.packing import normalised, packed_planes, unpacked

__all__ = ["ClipCache", "build_clip_cache"]

Planes = tuple[NDArray[np.uint8], NDArray[np.uint8]]
"""(T, H, W) luma and (T, 2, H / 2, W / 2) chroma, uint8."""


@dataclass(frozen=True, slots=True)
class ClipCache:
    """Clips of a folder as YUV 4:2:0 in the limited range, one after the other in one memory-mapped file.

    Attributes:
        path: The file.
        samples: (bytes,) uint8 memory map of it.
        shapes: Frames, height and width of each clip; the sides are even.
        starts: Offset of each clip in ``samples``.
        names: File name of each clip.
    """

    path: Path
    samples: NDArray[np.uint8]
    shapes: list[tuple[int, int, int]]
    starts: list[int]
    names: list[str]

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.shapes)

    def __reduce__(self) -> tuple[Any, ...]:
        # Loader processes map the file themselves; the samples do not travel.
        return _map_cache, (self.path, self.shapes, self.names)

    def clip(self, index: int) -> Planes:
        """Return views of one clip."""
        frames, height, width = self.shapes[index]
        start, luma = self.starts[index], height * width
        rows = self.samples[start : start + _bytes(self.shapes[index])].reshape(frames, luma * 3 // 2)
        return rows[:, :luma].reshape(frames, height, width), rows[:, luma:].reshape(frames, 2, height // 2, width // 2)

    def rgb(self, index: int, every: int) -> Iterator[NDArray[np.uint8]]:
        """Yield one in so many frames of a clip as pictures (H, W, 3) uint8, of BT.709."""
        y, uv = self.clip(index)
        for number in range(0, len(y), every):
            (frame,) = unpacked(normalised(packed_planes(y[number : number + 1], uv[number : number + 1])[None]))
            x = (yuv_to_rgb(frame, "bt709")[0].clamp(0, 1) * 255).round().to(torch.uint8)
            yield x.permute(1, 2, 0).numpy()


def _bytes(shape: tuple[int, int, int]) -> int:
    frames, height, width = shape
    return frames * height * width * 3 // 2


def _map_cache(path: Path, shapes: list[tuple[int, int, int]], names: list[str]) -> ClipCache:
    starts = np.concatenate([[0], np.cumsum([_bytes(shape) for shape in shapes])[:-1]]).astype(int).tolist()
    return ClipCache(path, np.memmap(path, dtype=np.uint8, mode="r"), shapes, starts, names)


def build_clip_cache(folder: Path, cache_dir: Path) -> ClipCache:
    """Decode a folder of clips (searched recursively) once; later calls map the file that is there.

    Samples stay as they are in the files, but for those of the full range, which go to the limited one. The matrix is
    not looked at. A last odd row or column is left out.

    Args:
        folder: Where the clips are.
        cache_dir: Where the cache goes; the file's name depends on the names and sizes in bytes of the clips. A second
            of video of 640 x 360 takes 9 MB.

    Returns:
        The cache.

    Raises:
        FileNotFoundError: If the folder holds no clips.
        UnsupportedError: If a file cannot be read as video.
    """
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in READABLE and p.is_file())
    if not files:
        raise FileNotFoundError(f"No clips found under {folder}")
    stamp = [(str(p.relative_to(folder)), p.stat().st_size) for p in files]
    key = hashlib.sha256(json.dumps(stamp).encode()).hexdigest()[:16]
    data, index = cache_dir / f"clips-{key}.yuv", cache_dir / f"clips-{key}.json"
    names = [name for name, _ in stamp]
    if index.exists() and data.exists():
        shapes = [(int(t), int(h), int(w)) for t, h, w in json.loads(index.read_text())]
        if data.stat().st_size == sum(_bytes(shape) for shape in shapes):
            return _map_cache(data, shapes, names)
    cache_dir.mkdir(parents=True, exist_ok=True)
    shapes = []
    with atomic_path(data, overwrite=True) as partial, partial.open("wb") as out:
        for path in files:
            count, shape = 0, (0, 0)
            for planes in _decode(path):
                count, shape = count + 1, (planes[0].shape[0], planes[0].shape[1])
                for plane in planes:
                    out.write(np.ascontiguousarray(plane).tobytes())
            shapes.append((count, *shape))
    with atomic_path(index, overwrite=True) as partial:
        partial.write_text(json.dumps(shapes))
    return _map_cache(data, shapes, names)


def _decode(path: Path) -> Iterator[tuple[NDArray[np.uint8], ...]]:
    steps = np.arange(256)
    luma = np.rint(16 + steps * (219 / 255)).astype(np.uint8)
    chroma = np.rint(128 + (steps - 128) * (224 / 255)).astype(np.uint8)
    try:
        with ClipReader(path) as reader:
            for y, u, v in reader.planes():
                rows, columns = y.shape[0] // 2, y.shape[1] // 2
                cut = y[: 2 * rows, : 2 * columns], u[:rows, :columns], v[:rows, :columns]
                yield (luma[cut[0]], chroma[cut[1]], chroma[cut[2]]) if reader.full_range else cut
    except CodecError as error:
        raise UnsupportedError(f"{path} is no clip that can be trained on: {error}") from error

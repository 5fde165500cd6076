"""One task of a bench: an item through a codec at a quality, measured in a process that keeps what it has loaded."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from triode.errors import UnsupportedError
from triode.eval.coder import Coder
from triode.eval.memory import MemoryMeter
from triode.eval.metrics import RegisteredMetric, metric
from triode.eval.results import Measurement
from triode.eval.samples import sample_bytes
from triode.eval.sources import CodecSource, ItemSource, check_item
from triode.media import Clip, Sound

__all__ = ["Outcome", "Setup", "Task", "Worker", "describe_failure", "failure", "frame_psnr", "one_thread"]

_WARM_UP_SIDE: Final = 256
_WARM_UP_SECONDS: Final = 1
_WARM_UP_FRAMES: Final = 5
_LONGEST_ERROR: Final = 500
_BEST_PSNR: Final = 100.0


@dataclass(frozen=True, slots=True)
class Setup:
    """What all tasks of a bench share; sent once to every worker process.

    Attributes:
        items: What is coded.
        codecs: What codes, each with its name in the results.
        metrics: Metrics by name, or themselves where the name is not one of this package's.
        seed: Seed of all random choices.
    """

    items: tuple[ItemSource, ...]
    codecs: tuple[CodecSource, ...]
    metrics: tuple[str | RegisteredMetric, ...]
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be measured.

    Attributes:
        item: Place of the item in the setup.
        codec: Place of the codec in the setup.
        quality: The codec's own setting.
        sample: Path for the sample, relative to the results; None if none is kept.
        key: Digest of everything that the result depends on.
    """

    item: int
    codec: int
    quality: float
    sample: str | None = None
    key: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a task.

    Attributes:
        measurement: The result, or the failure.
        notes: What could not be measured, and why.
        sample: Contents of the sample's file; None if none is kept.
        seconds: Time that the task took, metrics included, loading and warming up excluded.
    """

    measurement: Measurement
    notes: tuple[str, ...] = ()
    sample: bytes | None = None
    seconds: float = 0.0


class Worker:
    """Measures tasks, one after the other, in one thread; keeps the coders and the last item.

    Before a coder is first measured at a quality, it codes a small piece of the item once: what it loads, compiles or
    allocates then is not in the seconds that are reported, nor is the start of the process.

    Args:
        setup: What the tasks share.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._coders: dict[int, Coder] = {}
        self._warm: set[tuple[int, float]] = set()
        self._item: tuple[int, Any] | None = None
        self._metrics = [metric(found) if isinstance(found, str) else found for found in setup.metrics]

    def run(self, task: Task) -> Outcome:
        """Measure a task; whatever goes wrong becomes a failed measurement."""
        start = time.perf_counter()
        try:
            item = self._load(task.item)
            coder = self._coder(task.codec)
            if (task.codec, task.quality) not in self._warm:
                self._warm_up(coder, item, task.quality)
                self._warm.add((task.codec, task.quality))
            start = time.perf_counter()
            found = self._measure(task, coder, item)
        except (Exception, SystemExit) as error:
            source = self._setup.items[task.item]
            found = failure(self._setup, task, describe_failure(error, source.path))
        return replace(found, seconds=time.perf_counter() - start)

    def close(self) -> None:
        """Close the coders that were made here."""
        for place, coder in self._coders.items():
            if self._setup.codecs[place].is_made_here:
                coder.close()
        self._coders.clear()

    def _load(self, place: int) -> Any:
        if self._item is None or self._item[0] != place:
            self._item = None  # the old one makes room first
            self._item = place, self._setup.items[place].load()
        return self._item[1]

    def _coder(self, place: int) -> Coder:
        if place not in self._coders:
            self._coders[place] = self._setup.codecs[place].create()
        return self._coders[place]

    def _warm_up(self, coder: Coder, item: Any, quality: float) -> None:
        try:
            coder.decode(_bytes(coder.encode(_piece(item), quality)))
        except (Exception, SystemExit):
            return  # a piece may be too small for it; what ails the coder itself shows when the item is coded

    def _measure(self, task: Task, coder: Coder, item: Any) -> Outcome:
        # A copy, for the coder of a stranger may write into it.
        given = _map(item, np.copy)
        one_thread()
        item_name, codec_name = self._setup.items[task.item].name, self._setup.codecs[task.codec].name
        _seed_all(f"{self._setup.seed} {item_name} {codec_name} {task.quality}")
        with MemoryMeter() as memory:
            begin = time.perf_counter()
            data = coder.encode(given, task.quality)
            middle = time.perf_counter()
            data = _bytes(data)
            before = time.perf_counter()
            decoded = coder.decode(data)
            end = time.perf_counter()
        _check_same(decoded, item)
        notes: list[str] = []
        values = {}
        for found in self._metrics:
            try:
                value = float(found.measure(decoded, item))
            except UnsupportedError as error:
                notes.append(f"{found.info.name} is not measured: {error}")
            else:
                values[found.info.name] = value if math.isfinite(value) else math.nan
        sample = None
        if task.sample is not None:
            try:
                sample = sample_bytes(decoded, item)
            except UnsupportedError as error:
                notes.append(f"no sample is kept: {error}")
        parts = {str(name): int(size) for name, size in coder.parts(data).items()}
        if parts and sum(parts.values()) != len(data):
            notes.append(f"the parts sum to {sum(parts.values())} bytes, not to {len(data)}, and are left out")
            parts = {}
        frame_bytes = tuple(int(size) for size in coder.frame_bytes(data))
        if frame_bytes and not (isinstance(item, Clip) and len(frame_bytes) == item.frames):
            notes.append(f"the bytes of {len(frame_bytes)} frames are told of another number, and are left out")
            frame_bytes = ()
        measurement = Measurement(
            item=item_name,
            codec=codec_name,
            quality=task.quality,
            bytes=len(data),
            payload_bytes=coder.payload_bytes(data),
            encode_seconds=middle - begin,
            decode_seconds=end - before,
            peak_memory_bytes=memory.peak,
            metrics=values,
            parts=parts,
            frame_bytes=frame_bytes,
            frame_psnr=frame_psnr(decoded, item) if isinstance(item, Clip) else (),
            sample=None if sample is None else task.sample,
        )
        return Outcome(measurement, tuple(notes), sample)


def failure(setup: Setup, task: Task, error: str) -> Outcome:
    """Return the outcome of a task that failed."""
    item, codec = setup.items[task.item].name, setup.codecs[task.codec].name
    return Outcome(Measurement(item, codec, task.quality, error=error))


def describe_failure(error: BaseException, path: Path | None = None) -> str:
    """Return what went wrong on one line, without the folder of `path`."""
    text = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    if path is not None:
        for folder in {str(path.parent), str(path.parent.resolve())} - {"."}:
            text = text.replace(f"{folder}/", "").replace(f"{folder}\\", "")
    return text if len(text) <= _LONGEST_ERROR else text[:_LONGEST_ERROR] + "..."


def frame_psnr(decoded: Clip, original: Clip) -> tuple[float, ...]:
    """Return the PSNR of the luma of each frame of a clip in dB, 100 where there is no difference."""
    errors = [np.square(a.astype(np.float32) - b).mean() for a, b in zip(decoded.y, original.y, strict=True)]
    return tuple(min(_BEST_PSNR, 10 * math.log10(255**2 / max(float(error), 1e-10))) for error in errors)


def one_thread() -> None:
    """Make torch compute in one thread."""
    torch.set_num_threads(1)


def _seed_all(seed: str) -> None:
    """Seed every task by itself, so that results do not depend on their order."""
    number = random.Random(seed).getrandbits(32)  # noqa: S311
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002  # a coder may draw from the global generator
    torch.manual_seed(number)


def _bytes(data: Any) -> bytes:
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise TypeError(f"A coder's `encode` must return bytes, but returned {type(data).__name__}")
    if not len(data):
        raise ValueError("A coder's `encode` must return at least one byte, but returned none")
    return bytes(data)


def _map(item: Any, change: Callable[..., Any]) -> Any:
    """Apply a function to the arrays of an item."""
    if isinstance(item, Sound):
        return replace(item, samples=change(item.samples))
    if isinstance(item, Clip):
        return replace(item, y=change(item.y), u=change(item.u), v=change(item.v))
    return change(item)


def _piece(item: Any) -> Any:
    """Return a small piece of an item, to warm up with."""
    if isinstance(item, Sound):
        return _map(item, lambda x: x[:, : _WARM_UP_SECONDS * item.rate].copy())
    if isinstance(item, Clip):
        side, half = _WARM_UP_SIDE, _WARM_UP_SIDE // 2
        y, u, v = item.y[:_WARM_UP_FRAMES], item.u[:_WARM_UP_FRAMES], item.v[:_WARM_UP_FRAMES]
        return replace(item, y=y[:, :side, :side].copy(), u=u[:, :half, :half].copy(), v=v[:, :half, :half].copy())
    return item[:_WARM_UP_SIDE, :_WARM_UP_SIDE].copy()


def _check_same(decoded: Any, original: Any) -> None:
    """Raise `ValueError` if what was decoded is not of the kind and shape of the original."""
    media = "audio" if isinstance(original, Sound) else "video" if isinstance(original, Clip) else "image"
    try:
        check_item(decoded, media)
    except ValueError as error:
        raise ValueError(f"What was decoded is of the wrong kind: {error}") from None
    if isinstance(original, Sound):
        found, wanted = (f"{x.samples.shape} at {x.rate} Hz" for x in (decoded, original))
    elif isinstance(original, Clip):
        found, wanted = str(decoded.y.shape), str(original.y.shape)
    else:
        found, wanted = str(decoded.shape), str(original.shape)
    if found != wanted:
        raise ValueError(f"What was decoded has the shape {found}, but the original has {wanted}")

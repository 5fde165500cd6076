"""Folders of recordings as training data: decoded once to a memory-mapped cache, cropped and augmented per sample."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from triode.codecs.resample import resample
from triode.errors import CodecError, UnsupportedError
from triode.io.audio import READABLE, read_sound
from triode.io.files import atomic_path
from triode.train.holdout import held_back
from triode.train.remaining import Remaining

_FULL = 32767
_QUIETEST = 1e-3
_GRAIN = 32
_TILT_POINTS = 6


@dataclass(frozen=True, slots=True)
class SoundCache:
    """Recordings of a folder at one rate, one after the other in one memory-mapped file; a channel is a recording.

    Attributes:
        path: The file.
        samples: (samples,) int16 memory map of it.
        lengths: Samples of each recording.
        starts: Offset of each recording in ``samples``.
        names: File name of each recording; channels of one file have the same.
    """

    path: Path
    samples: NDArray[np.int16]
    lengths: list[int]
    starts: list[int]
    names: list[str]

    def __len__(self) -> int:
        """Return the number of recordings."""
        return len(self.lengths)

    def __reduce__(self) -> tuple[Any, ...]:
        # Loader processes map the file themselves; the samples do not travel.
        return _map_cache, (self.path, self.lengths, self.names)

    def sound(self, index: int) -> NDArray[np.int16]:
        """Return a view of one recording, (T,) int16."""
        return self.samples[self.starts[index] : self.starts[index] + self.lengths[index]]


def _map_cache(path: Path, lengths: list[int], names: list[str]) -> SoundCache:
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(int).tolist()
    return SoundCache(path, np.memmap(path, dtype=np.int16, mode="r"), lengths, starts, names)


def build_sound_cache(folder: Path, cache_dir: Path, rate: int) -> SoundCache:
    """Decode a folder of recordings (searched recursively) once; later calls map the file that is there.

    Samples are resampled as the codec does it (:mod:`triode.codecs.resample`), clipped and rounded to 16 bits.

    Args:
        folder: Where the recordings are.
        cache_dir: Where the cache goes; the file's name depends on names and sizes in bytes of the recordings, and on
            the rate.
        rate: Samples per second of the cache.

    Returns:
        The cache.

    Raises:
        FileNotFoundError: If the folder holds no recordings.
        UnsupportedError: If a file cannot be read as sound, or none has a sample.
    """
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in READABLE and p.is_file())
    if not files:
        raise FileNotFoundError(f"No recordings found under {folder}")
    stamp = [(str(p.relative_to(folder)), p.stat().st_size) for p in files]
    key = hashlib.sha256(json.dumps([stamp, rate]).encode()).hexdigest()[:16]
    data, index = cache_dir / f"sounds-{key}.i16", cache_dir / f"sounds-{key}.json"
    if index.exists() and data.exists():
        found = json.loads(index.read_text())
        lengths, names = [int(n) for _, n in found], [str(name) for name, _ in found]
        if data.stat().st_size == 2 * sum(lengths):
            return _map_cache(data, lengths, names)
    cache_dir.mkdir(parents=True, exist_ok=True)
    lengths, names = [], []
    with atomic_path(data, overwrite=True) as partial, partial.open("wb") as out:
        for path, (name, _) in zip(files, stamp, strict=True):
            for channel in _decode(path, rate):
                lengths.append(len(channel))
                names.append(name)
                out.write(np.rint(channel.clip(-1, 1) * _FULL).astype(np.int16).tobytes())
        if not sum(lengths):
            raise UnsupportedError(f"No recording under {folder} has a sample")
    with atomic_path(index, overwrite=True) as partial:
        partial.write_text(json.dumps(list(zip(names, lengths, strict=True))))
    return _map_cache(data, lengths, names)


def _decode(path: Path, rate: int) -> NDArray[np.float32]:
    try:
        sound = read_sound(path)
        return resample(sound.samples, sound.rate, rate)
    except CodecError as error:
        raise UnsupportedError(f"{path} is no recording that can be trained on: {error}") from error


class SoundCrops(Dataset[Tensor]):
    """Random crops, each brought to one loudness; everything drawn from (seed, index), so a resumed run goes on.

    Half of the crops are played faster or slower, which moves the pitch too, and half pass a random smooth filter of a
    few decibels: more voices and rooms than were recorded. All get a random gain and, or not, the opposite sign.

    Args:
        cache: The recordings.
        recordings: Which recordings of the cache to use.
        size: Samples of a crop. Recordings that are shorter are filled up with zeros.
        length: Number of crops.
        seed: Seed of all draws.
        level: Root mean square that crops are brought to; those near silence stay below.
        augment: Speed, filter, gain and sign; only place and loudness otherwise.
        slowest: Least factor of the speed.
        fastest: Greatest.
        gain_db: Largest gain, up or down.
        tilt_db: Largest gain of the filter, up or down.
    """

    def __init__(
        self,
        cache: SoundCache,
        recordings: list[int],
        size: int,
        length: int,
        seed: int,
        *,
        level: float = 0.1,
        augment: bool = True,
        slowest: float = 0.7,
        fastest: float = 1.2,
        gain_db: float = 6.0,
        tilt_db: float = 6.0,
    ) -> None:
        self.cache, self.recordings, self.size, self.length = cache, np.array(recordings), size, length
        self.seed, self.level, self.augment = seed, level, augment
        self.slowest, self.fastest, self.gain_db, self.tilt_db = slowest, fastest, gain_db, tilt_db
        lengths = np.array([float(cache.lengths[i]) for i in recordings])
        self.weights = lengths / lengths.sum()

    def __len__(self) -> int:
        """Return the number of crops."""
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        """Return one crop, (1, size) float32."""
        rng = np.random.default_rng((self.seed, index))
        sound = self.cache.sound(int(rng.choice(self.recordings, p=self.weights)))
        size = self.size
        if self.augment and rng.random() < 0.5:
            # Multiples of the grain keep the transforms fast.
            size = round(self.size * float(rng.uniform(self.slowest, self.fastest)) / _GRAIN) * _GRAIN
        start = int(rng.integers(0, max(len(sound) - size, 0) + 1))
        crop = np.zeros(size, np.float32)
        piece = sound[start : start + size]
        crop[: len(piece)] = piece / np.float32(_FULL + 1)
        tilt = rng.uniform(-self.tilt_db, self.tilt_db, _TILT_POINTS) if self.augment and rng.random() < 0.5 else None
        if size != self.size or tilt is not None:
            crop = _filtered(crop, self.size, tilt)
        loudness = max(float(np.sqrt(np.square(crop).mean())), _QUIETEST)
        gain = self.level / loudness
        if self.augment:
            gain *= 10 ** (float(rng.uniform(-self.gain_db, self.gain_db)) / 20) * (1 if rng.random() < 0.5 else -1)
        return torch.from_numpy(crop * np.float32(gain))[None]


def _filtered(crop: NDArray[np.float32], size: int, tilt: NDArray[np.float64] | None) -> NDArray[np.float32]:
    """Play a crop in ``size`` samples, its spectrum weighted by decibels at even distances; in the Fourier domain."""
    spectrum = np.fft.rfft(crop)
    if tilt is not None:
        raster = np.linspace(0, len(tilt) - 1, len(spectrum))
        spectrum *= 10 ** (np.interp(raster, np.arange(len(tilt)), tilt) / 20)
    kept = np.zeros(size // 2 + 1, spectrum.dtype)
    count = min(len(kept), len(spectrum))
    kept[:count] = spectrum[:count]
    return (np.fft.irfft(kept, size) * (size / len(crop))).astype(np.float32)


class SoundFolder(L.LightningDataModule):
    """Crops of a folder of recordings; every ``holdout``-th file is kept for validation.

    Args:
        folder: Training recordings, searched recursively: whatever :mod:`triode.io.audio` reads. Every channel is a
            recording of its own.
        cache_dir: Where decoded recordings are cached.
        rate: Samples per second, the model's.
        crop: Samples of a crop: a multiple of four frames of the model.
        batch_size: Crops a step.
        steps: Training steps the data should last for.
        seed: Seed of the crops.
        holdout: Keep every n-th file for validation.
        validation_crops: Number of fixed validation crops.
        validation_crop: Samples of these; as ``crop`` by default.
        workers: Loader processes.
        level: Root mean square that crops are brought to.
        slowest: Least factor of the speed, see :class:`SoundCrops`.
        fastest: Greatest.
        gain_db: Largest random gain, up or down.
        tilt_db: Largest gain of the random filter, up or down.
        training_only: Recordings below the folder of this name are never held back, and do not shift the split.
    """

    def __init__(
        self,
        folder: str,
        cache_dir: str = ".cache/triode",
        rate: int = 16000,
        crop: int = 16640,
        batch_size: int = 16,
        steps: int = 10_000,
        seed: int = 0,
        holdout: int = 20,
        validation_crops: int = 16,
        validation_crop: int | None = None,
        workers: int = 1,
        level: float = 0.1,
        slowest: float = 0.7,
        fastest: float = 1.2,
        gain_db: float = 6.0,
        tilt_db: float = 6.0,
        training_only: str = "extra",
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.folder, self.cache_dir, self.rate = Path(folder), Path(cache_dir), rate
        self.crop, self.batch_size, self.steps, self.seed = crop, batch_size, steps, seed
        self.holdout, self.workers, self.training_only = holdout, workers, training_only
        self.validation_crops, self.validation_crop = validation_crops, validation_crop or crop
        self.level = level
        self.slowest, self.fastest, self.gain_db, self.tilt_db = slowest, fastest, gain_db, tilt_db

    def prepare_data(self) -> None:
        """Make the cache, in one process."""
        build_sound_cache(self.folder, self.cache_dir, self.rate)

    def setup(self, stage: str) -> None:
        """Map the cache and split it by file."""
        self.cache = build_sound_cache(self.folder, self.cache_dir, self.rate)
        files = sorted(set(self.cache.names))
        kept = {files[i] for i in held_back(files, self.holdout, self.training_only)}
        heard = [i for i in range(len(self.cache)) if self.cache.lengths[i]]
        self.validation_recordings = [i for i in heard if self.cache.names[i] in kept] or heard[:1]
        self.training_recordings = [i for i in heard if self.cache.names[i] not in kept] or heard[:1]

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Return the loader of training crops; after a resume it begins where the run had stopped."""
        remaining = Remaining(self.trainer, self.batch_size, self.steps)
        crops = SoundCrops(
            self.cache,
            self.training_recordings,
            self.crop,
            remaining.total,
            self.seed,
            level=self.level,
            slowest=self.slowest,
            fastest=self.fastest,
            gain_db=self.gain_db,
            tilt_db=self.tilt_db,
        )
        return DataLoader(crops, self.batch_size, sampler=remaining, num_workers=self.workers, drop_last=True)

    def val_dataloader(self) -> DataLoader[Tensor]:
        """Return the loader of the fixed validation crops."""
        recordings, size, count = self.validation_recordings, self.validation_crop, self.validation_crops
        crops = SoundCrops(self.cache, recordings, size, count, 12345, level=self.level, augment=False)
        return DataLoader(crops, self.batch_size)

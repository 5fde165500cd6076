"""Folders of clips as training data: crops in space and time, and clips made of photos, in batches by stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from triode.train.clip_cache import ClipCache, build_clip_cache
from triode.train.holdout import held_back
from triode.train.images import ImageFolder
from triode.train.motion import PhotoMotion
from triode.train.packing import packed_planes
from triode.train.remaining import Remaining

__all__ = ["ClipBatches", "ClipFolder", "Stage", "stages_of"]

_VALIDATION_SEED: Final = 12345
_VALIDATION_BATCH: Final = 4


@dataclass(frozen=True, slots=True)
class Stage:
    """What batches look like up to some point of the run.

    Attributes:
        until: Share of the run at which the next stage begins; 1 for the last one.
        frames: Frames of a clip.
        crop: Side of the crops in pixels, even.
        batch: Clips a step.
    """

    until: float
    frames: int
    crop: int
    batch: int

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: If one is out of its range.
        """
        if not 0 < self.until <= 1 or self.frames < 1 or self.crop < 2 or self.crop % 2 or self.batch < 1:
            raise ValueError(f"A stage must have 0 < until <= 1, frames, an even crop and a batch, but got {self}")


def stages_of(rows: Sequence[Mapping[str, float]]) -> tuple[Stage, ...]:
    """Read stages as configurations have them: a list of mappings with the fields of :class:`Stage`.

    Raises:
        ValueError: If a field is missing or unknown, or the shares do not rise to 1.
    """
    fields = set(Stage.__dataclass_fields__)
    for row in rows:
        if set(row) != fields:
            raise ValueError(f"A stage must have {', '.join(sorted(fields))}, but got {', '.join(sorted(row))}")
    stages = tuple(Stage(float(row["until"]), int(row["frames"]), int(row["crop"]), int(row["batch"])) for row in rows)
    ends = [stage.until for stage in stages]
    if not ends or ends[-1] != 1 or ends != sorted(set(ends)):
        raise ValueError(f"The shares `until` of stages must rise to 1, but are {ends}")
    return stages


class ClipBatches(Dataset[Tensor]):
    """Whole batches of clips, as many as there are steps; batch n depends on the seed and on n alone.

    Real clips are cropped at a random place and begin at a random frame; with ``augment`` half of them are also scaled
    by 0.5 to 1, and all of them played at one or two frames a step, forwards or backwards, and mirrored each way or
    not. Clips that are too short go back and forth. With photos, a share of the clips is made of those.

    Args:
        cache: The clips.
        clips: Which clips of the cache to use.
        stages: What the batches look like.
        steps: Number of batches (of one process).
        seed: Seed of all draws.
        augment: See above; only place and first frame otherwise.
        motion: Makes clips of photos.
        share: Share of the clips that are made of photos.
        processes: Processes that take turns at the batches.
    """

    def __init__(
        self,
        cache: ClipCache,
        clips: list[int],
        stages: tuple[Stage, ...],
        steps: int,
        seed: int,
        *,
        augment: bool = True,
        motion: PhotoMotion | None = None,
        share: float = 0.0,
        processes: int = 1,
    ) -> None:
        self.cache, self.clips, self.stages, self.steps, self.seed = cache, np.array(clips), stages, steps, seed
        self.augment, self.motion, self.share, self.processes = augment, motion, share, processes
        lengths = np.array([float(cache.shapes[i][0]) for i in clips])
        self.weights = lengths / lengths.sum()

    def __len__(self) -> int:
        """Return the number of batches, those of all processes together."""
        return self.steps * self.processes

    def stage(self, step: int) -> Stage:
        """Return the stage of a step."""
        return next((stage for stage in self.stages if step < stage.until * self.steps), self.stages[-1])

    def __getitem__(self, index: int) -> Tensor:
        """Return one batch, (B, T, 6, crop / 2, crop / 2) uint8; see :mod:`triode.train.packing`.

        Raises:
            IndexError: If there are not as many.
        """
        if index >= len(self):
            raise IndexError(f"There are {len(self)} batches, but got {index}")
        stage = self.stage(index // self.processes)
        return torch.stack(
            [self._sample(np.random.default_rng((self.seed, index, i)), stage) for i in range(stage.batch)]
        )

    def _sample(self, rng: np.random.Generator, stage: Stage) -> Tensor:
        if self.motion is not None and rng.random() < self.share:
            return self.motion.clip(rng, stage.frames, stage.crop)
        index = int(rng.choice(self.clips, p=self.weights))
        length, height, width = self.cache.shapes[index]
        scale = float(rng.uniform(0.5, 1.0)) if self.augment and rng.random() < 0.5 else 1.0
        side = min(2 * round(stage.crop / scale / 2), height, width)
        top, left = (2 * int(rng.integers(0, (room - side) // 2 + 1)) for room in (height, width))
        stride = int(rng.integers(1, 3)) if self.augment else 1
        first = int(rng.integers(0, max(length - stride * (stage.frames - 1), 1)))
        numbers = [_back_and_forth(first + stride * n, length) for n in range(stage.frames)]
        if self.augment and rng.random() < 0.5:
            numbers.reverse()
        y, uv = self.cache.clip(index)
        half = slice(top // 2, (top + side) // 2), slice(left // 2, (left + side) // 2)
        y = y[numbers, top : top + side, left : left + side]
        uv = uv[numbers][:, :, *half]
        for axis in (-1, -2):
            if self.augment and rng.random() < 0.5:
                y, uv = np.flip(y, axis), np.flip(uv, axis)
        if side != stage.crop:
            y, uv = _resized(y[:, None], stage.crop)[:, 0], _resized(uv, stage.crop // 2)
        return packed_planes(y, uv)


def _back_and_forth(number: int, length: int) -> int:
    """Return the frame that stands at a place of a clip that is played to its end, back, and so on."""
    if length == 1:
        return 0
    place = number % (2 * (length - 1))
    return min(place, 2 * (length - 1) - place)


def _resized(planes: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    x = torch.from_numpy(np.ascontiguousarray(planes)).float()
    x = F.interpolate(x, (side, side), mode="bicubic", antialias=True, align_corners=False)
    out: NDArray[np.uint8] = x.round_().clamp_(0, 255).to(torch.uint8).numpy()
    return out


class ClipFolder(L.LightningDataModule):
    """Crops of a folder of clips, and clips made of photos; every ``holdout``-th clip is kept for validation.

    Args:
        folder: Training clips, searched recursively: whatever :mod:`triode.io.video` reads.
        cache_dir: Where decoded clips and photos are cached.
        stages: What batches look like as the run goes on: mappings with the fields of :class:`Stage`.
        steps: Training steps the data should last for.
        seed: Seed of the crops.
        holdout: Keep every n-th file for validation.
        photos: Folder of photos to make clips of, if any; those that training of image models would hold back
            (:class:`~triode.train.images.ImageFolder` by default) are not used.
        share: Share of the training clips that are made of photos, where there are some.
        speed: Mean speed of motion in clips made of photos, in pixels a frame.
        validation_crops: Number of fixed validation crops, all of real clips.
        validation_crop: Their side in pixels.
        validation_frames: Their frames.
        workers: Loader processes.
        training_only: Clips and photos below the folder of this name are never held back, and do not shift the split.
    """

    def __init__(
        self,
        folder: str,
        cache_dir: str = ".cache/triode",
        stages: Sequence[Mapping[str, float]] = ({"until": 1.0, "frames": 3, "crop": 128, "batch": 8},),
        steps: int = 10_000,
        seed: int = 0,
        holdout: int = 6,
        photos: str | None = None,
        share: float = 0.5,
        speed: float = 3.0,
        validation_crops: int = 8,
        validation_crop: int = 192,
        validation_frames: int = 8,
        workers: int = 1,
        training_only: str = "extra",
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        if not 0 <= share <= 1:
            raise ValueError(f"Argument `share` must be in [0, 1], but got {share}")
        self.folder, self.cache_dir, self.stages = Path(folder), Path(cache_dir), stages_of(stages)
        self.steps, self.seed, self.holdout, self.workers = steps, seed, holdout, workers
        self.photos, self.share, self.speed, self.training_only = photos, share, speed, training_only
        self.validation_crops = validation_crops
        batch = min(validation_crops, _VALIDATION_BATCH)
        self.validation = Stage(1.0, validation_frames, validation_crop, batch)

    def _photos(self) -> ImageFolder | None:
        if self.photos is None or not self.share:
            return None
        return ImageFolder(self.photos, str(self.cache_dir), training_only=self.training_only)

    def prepare_data(self) -> None:
        """Make the caches, in one process."""
        build_clip_cache(self.folder, self.cache_dir)
        photos = self._photos()
        if photos is not None:
            photos.prepare_data()

    def setup(self, stage: str) -> None:
        """Map the caches and split the clips.

        Raises:
            ValueError: If a clip is smaller than the crops.
        """
        self.cache = build_clip_cache(self.folder, self.cache_dir)
        self.validation_clips = held_back(self.cache.names, self.holdout, self.training_only)
        self.training_clips = sorted({*range(len(self.cache))} - {*self.validation_clips}) or [0]
        for clips, crop in (
            (self.training_clips, max(stage.crop for stage in self.stages)),
            (self.validation_clips, self.validation.crop),
        ):
            for i in clips:
                if min(self.cache.shapes[i][1:]) < crop:
                    raise ValueError(f"Crops of {crop} pixels are larger than the clip {self.cache.names[i]}")
        self.motion = None
        photos = self._photos()
        if photos is not None:
            photos.setup(stage)
            self.motion = PhotoMotion(photos.cache, photos.training_images, self.speed)

    def batches(self, processes: int = 1) -> ClipBatches:
        """Return the training batches."""
        more = {"motion": self.motion, "share": self.share, "processes": processes}
        return ClipBatches(self.cache, self.training_clips, self.stages, self.steps, self.seed, **more)  # type: ignore[arg-type]

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Return the loader of training batches; after a resume it begins where the run had stopped."""
        remaining = Remaining(self.trainer, 1, self.steps)
        data = self.batches(1 if self.trainer is None else self.trainer.world_size)
        return DataLoader(data, batch_size=None, sampler=remaining, num_workers=self.workers)

    def val_dataloader(self) -> DataLoader[Tensor]:
        """Return the loader of the fixed validation crops."""
        return DataLoader(self.validation_batches(), batch_size=None)

    def validation_batches(self) -> ClipBatches:
        """Return the fixed validation crops."""
        count = -(-self.validation_crops // self.validation.batch)
        stages = (self.validation,)
        return ClipBatches(self.cache, self.validation_clips, stages, count, _VALIDATION_SEED, augment=False)

"""Training of entropy models alone: latents of clips, made once and kept, and the rate that they take.

Where the transforms of a model are those of a model of images and stay as they are, as in ``stem``, a step needs no
pixels. Nor does it need a distortion: that does not change.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from triode.errors import ModelMismatchError
from triode.io.files import atomic_path
from triode.models.base import ImageModel
from triode.models.registry import create_model
from triode.models.video.colour import yuv_to_rgb
from triode.train.checkpoint import float_state, load_float_state, load_small_checkpoint
from triode.train.clips import ClipBatches, ClipFolder
from triode.train.exact import integer_networks
from triode.train.packing import normalised, unpacked
from triode.train.remaining import Remaining
from triode.train.video import POINTS, VideoRateDistortion

__all__ = ["LatentCache", "LatentFolder", "LatentRates", "latents_of"]

Batch = tuple[Tensor, Tensor]
"""Latents (B, T, M, h, w) float16, without gain, and their rate points (B,) float."""

_RATES: Final = 64
_VERSION: Final = 1


@torch.no_grad()
def latents_of(image: ImageModel, batch: Tensor, q: Tensor) -> Tensor:
    """Return latents of clips as a model of images makes them.

    Args:
        image: The model.
        batch: (B, T, 6, h, w) uint8; see :mod:`triode.train.packing`. Sides of frames are multiples of the model's.
        q: (B,) rate points.

    Returns:
        (B, T, M, h', w') float16, without gain.
    """
    frames = unpacked(normalised(batch))
    pixels = (yuv_to_rgb(frame, "bt709").clamp(0, 1).contiguous(memory_format=torch.channels_last) for frame in frames)
    return torch.stack([image.analysis(x, q) for x in pixels], 1).half()


@dataclass(frozen=True, slots=True)
class LatentCache:
    """Latents of clips, all of one shape, in one memory-mapped file.

    Attributes:
        path: The file.
        values: (N, T, M, h, w) float16 memory map of it.
        points: Rate point of each clip.
    """

    path: Path
    values: NDArray[np.float16]
    points: list[int]

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.points)

    def __reduce__(self) -> tuple[Any, ...]:
        # Loader processes map the file themselves; the latents do not travel.
        return _map_cache, (self.path, self.values.shape, self.points)


def _map_cache(path: Path, shape: tuple[int, ...], points: list[int]) -> LatentCache:
    return LatentCache(path, np.memmap(path, dtype=np.float16, mode="r", shape=shape), points)


def _build(
    batch: Callable[[int], Tensor],
    points: Callable[[int, int], list[int]],
    count: int,
    path: Path,
    cache_dir: Path,
    what: dict[str, Any],
) -> LatentCache:
    """Make the latents of batches, or map them if they are there.

    Args:
        batch: Makes the clips of batch n.
        points: Rate points of the clips of batch n, of which there are so many.
        count: Number of batches.
        path: Small checkpoint of a model of images.
        cache_dir: Where the cache goes.
        what: What latents depend on beside the model.
    """
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    key = hashlib.sha256(json.dumps([_VERSION, digest, what], sort_keys=True).encode()).hexdigest()[:16]
    data, index = cache_dir / f"latents-{key}.f16", cache_dir / f"latents-{key}.json"
    if index.exists() and data.exists():
        found = json.loads(index.read_text())
        shape = tuple(int(n) for n in found["shape"])
        if data.stat().st_size == 2 * int(np.prod(shape)):
            return _map_cache(data, shape, [int(point) for point in found["points"]])
    image = _image(path)
    cache_dir.mkdir(parents=True, exist_ok=True)
    all_points: list[int] = []
    shape = ()
    with atomic_path(data, overwrite=True) as partial, partial.open("wb") as out:
        for number in range(count):
            clips = batch(number)
            chosen = points(number, len(clips))
            y = latents_of(image, clips, torch.tensor(chosen, dtype=torch.float32))
            all_points += chosen
            shape = (len(all_points), *y.shape[1:])
            out.write(np.ascontiguousarray(y.numpy()).tobytes())
    with atomic_path(index, overwrite=True) as partial:
        partial.write_text(json.dumps({"shape": shape, "points": all_points}))
    return _map_cache(data, shape, all_points)


def _image(path: Path) -> ImageModel:
    state, facts = load_small_checkpoint(path)
    image = create_model(facts.model, **facts.config)
    if not isinstance(image, ImageModel):
        raise ModelMismatchError(f"{path} is of {facts.model}, which is no model of images")
    load_float_state(image, state)
    return image.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


class _Samples(Dataset[Batch]):
    """Batches of a cache: every clip once before any comes again, in orders drawn from (seed, round)."""

    def __init__(self, cache: LatentCache, batch_size: int, steps: int, seed: int | None, processes: int = 1) -> None:
        self.cache, self.batch_size, self.steps, self.seed = cache, batch_size, steps, seed
        self.processes = processes

    def __len__(self) -> int:
        return self.steps * self.processes

    def __getitem__(self, index: int) -> Batch:
        if index >= len(self):
            raise IndexError(f"There are {len(self)} batches, but got {index}")
        places = np.arange(index * self.batch_size, (index + 1) * self.batch_size)
        rounds, places = places // len(self.cache), places % len(self.cache)
        if self.seed is not None:
            orders = {r: np.random.default_rng((self.seed, r)).permutation(len(self.cache)) for r in set(rounds)}
            places = np.array([orders[r][p] for r, p in zip(rounds, places, strict=True)])
        values = torch.from_numpy(np.stack([self.cache.values[p] for p in places]))
        return values, torch.tensor([float(self.cache.points[p]) for p in places])


class LatentFolder(ClipFolder):
    """Latents of crops of clips, and of clips made of photos, by a model of images: made once, then used in turn.

    A clip in the cache takes two bytes a latent element: half a megabyte for four frames of 256 x 256 pixels and 256
    channels.

    Args:
        image: Small checkpoint of the model of images.
        samples: Clips in the cache. Rate points are drawn for each of them, whole numbers.
        batch_size: Clips a step.
        settings: Arguments of the base class. There must be one stage; its batch is what is analysed at a time.

    Raises:
        ValueError: If a number is out of its range, or there are several stages.
    """

    def __init__(
        self,
        *,
        image: str = "checkpoints/image-light.safetensors",
        samples: int = 1000,
        batch_size: int = 8,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if samples < 1 or batch_size < 1:
            raise ValueError(f"Arguments `samples` and `batch_size` must be >= 1, but got {samples} and {batch_size}")
        if len(self.stages) != 1:
            raise ValueError(f"Latents are made of clips of one stage, but got {len(self.stages)}")
        self.image, self.samples, self.batch_size = Path(image), samples, batch_size

    def prepare_data(self) -> None:
        """Make the caches, in one process."""
        super().prepare_data()
        self.setup("fit")

    def setup(self, stage: str) -> None:
        """Map the caches and split the clips; see :class:`~triode.train.clips.ClipFolder`."""
        super().setup(stage)
        (own,) = self.stages
        count = -(-self.samples // own.batch)
        photos = None if self.motion is None else self.motion.cache.path.name
        more: dict[str, Any] = {"motion": self.motion, "share": self.share}
        source = ClipBatches(self.cache, self.training_clips, self.stages, count, self.seed, **more)
        what: dict[str, Any] = {"clips": self.cache.path.name, "used": self.training_clips, "photos": photos}
        what |= {"stage": str(own), "count": count, "seed": self.seed, "share": self.share, "speed": self.speed}
        self.latents = _build(source.__getitem__, self._drawn, count, self.image, self.cache_dir, what)
        checks = self.validation_batches()
        turns = len(checks)
        what = {"clips": self.cache.path.name, "used": self.validation_clips, "stage": str(self.validation)}
        self.checks = _build(
            lambda number: checks[number % turns],
            lambda number, clips: [POINTS[number // turns]] * clips,
            turns * len(POINTS),
            self.image,
            self.cache_dir,
            what | {"count": turns, "points": POINTS},
        )

    def _drawn(self, number: int, count: int) -> list[int]:
        """Draw one rate point in each of as many equal ranges as there are clips."""
        rng = np.random.default_rng((self.seed, number, count))
        drawn = (rng.permutation(count) + rng.random(count)) * _RATES / count
        return [min(int(point), _RATES - 1) for point in drawn]

    def train_dataloader(self) -> DataLoader[Any]:
        """Return the loader of :data:`Batch`; after a resume it begins where the run had stopped."""
        remaining = Remaining(self.trainer, 1, self.steps)
        processes = 1 if self.trainer is None else self.trainer.world_size
        data = _Samples(self.latents, self.batch_size, self.steps, self.seed, processes)
        return DataLoader(data, batch_size=None, sampler=remaining, num_workers=self.workers)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the loader of the fixed validation crops, at each of the validation's rate points."""
        size = self.validation.batch
        return DataLoader(_Samples(self.checks, size, len(self.checks) // size, None), batch_size=None)


class LatentRates(VideoRateDistortion):
    """Minimises ``w(q) * bits per pixel`` of latents, the mean over the frames of a clip.

    The model has ``rates(latents, q)``, which gives bits (B, T) by part of the bitstream, as ``stem`` has. All else is
    as in :class:`~triode.train.video.VideoRateDistortion`.

    Args:
        model: Name of a registered video model.
        settings: Further arguments of the base class.

    Raises:
        ValueError: If an argument is not for video, or the model has no rates of latents.
    """

    def __init__(self, *, model: str = "stem", **settings: Any) -> None:
        super().__init__(model=model, **settings)
        if not hasattr(self.model, "rates"):
            raise ValueError(f"Argument `model` must name a model with rates of latents, but got {model!r}")

    def bits_a_pixel(self, latents: Tensor, q: Tensor) -> Tensor:
        """Return bits per pixel (B, T) of latents (B, T, M, h, w)."""
        bits = cast(Any, self.model).rates(latents.float(), q)
        total: Tensor = sum(bits.values())
        return total / (self.video.stride**2 * latents.shape[3] * latents.shape[4])

    def training_step(self, batch: Any, _: int) -> Tensor:
        """Return the loss of a :data:`Batch`."""
        latents, q = cast(Batch, batch)
        if self.is_exact():
            with integer_networks(self.model):
                bpp = self.bits_a_pixel(latents, q)
        else:
            bpp = self.bits_a_pixel(latents, q)
        loss = (self.importance(q) * bpp.mean(1)).mean()
        self.log("loss", loss, prog_bar=True)
        self.log("bpp", bpp.mean())
        self.log("bpp_first", bpp[:, 0].mean())
        self.log("seconds", time.monotonic() - self.fit_begun)
        self.log("lr", self.optimizers().param_groups[0]["lr"])  # type: ignore[union-attr]
        return loss

    def validation_step(self, batch: Any, index: int) -> None:
        """Log the rate of the averaged weights, noise-free, in floats.

        ``of_intra`` is the rate of frames that know others over that of the same latents as frames on their own.
        """
        latents, q = cast(Batch, batch)
        point, count = int(q[0]), latents.shape[1]
        with self.ema.applied(self.model):
            bpp = self.bits_a_pixel(latents, q)
            alone = self.bits_a_pixel(latents.flatten(0, 1)[:, None], q.repeat_interleave(count))
        alone = alone.reshape(bpp.shape)
        weight = self.model.rate_lambda(q) ** -self.balance
        for name, value in (
            (f"val/bpp_{point}", bpp),
            (f"val/of_intra_{point}", bpp[:, 1:].sum(1) / alone[:, 1:].sum(1)),
            ("val/loss", weight * bpp.mean(1)),
        ):
            self.log(name, value.mean(), batch_size=len(bpp), sync_dist=True)

    def on_fit_start(self) -> None:
        """Start the clock; check that the latents are of the model's own model of images.

        Raises:
            ModelMismatchError: If they are of another.
        """
        self.fit_begun = time.monotonic()
        data, own = getattr(self.trainer, "datamodule", None), getattr(self.model, "image", None)
        if not isinstance(data, LatentFolder) or not isinstance(own, nn.Module):
            return
        given, held = load_small_checkpoint(data.image)[0], float_state(own)
        if given.keys() != held.keys() or not all(torch.equal(held[n].cpu(), t) for n, t in given.items()):
            raise ModelMismatchError(f"The latents are of another model of images than the one inside: {data.image}")

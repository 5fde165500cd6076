"""Image folders as training data: decoded once to a memory-mapped cache, cropped and augmented per sample."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from triode.errors import UnsupportedError
from triode.io.files import atomic_path
from triode.train.holdout import held_back
from triode.train.remaining import Remaining

_SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".avif", ".bmp", ".tif", ".tiff", ".ppm"}


@dataclass(frozen=True, slots=True)
class ImageCache:
    """Images of a folder, decoded to RGB and laid one after the other in one memory-mapped file.

    Attributes:
        path: The file.
        pixels: (bytes,) uint8 memory map of it.
        shapes: Height and width of each image.
        starts: Offset of each image in ``pixels``.
        names: File name of each image.
    """

    path: Path
    pixels: NDArray[np.uint8]
    shapes: list[tuple[int, int]]
    starts: list[int]
    names: list[str]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.shapes)

    def __reduce__(self) -> tuple[Any, ...]:
        # Loader processes map the file themselves; the pixels do not travel.
        return _map_cache, (self.path, self.shapes, self.names)

    def image(self, index: int) -> NDArray[np.uint8]:
        """Return a view of one image, (H, W, 3) uint8."""
        height, width = self.shapes[index]
        start = self.starts[index]
        return self.pixels[start : start + height * width * 3].reshape(height, width, 3)


def _map_cache(path: Path, shapes: list[tuple[int, int]], names: list[str]) -> ImageCache:
    starts = np.concatenate([[0], np.cumsum([h * w * 3 for h, w in shapes])[:-1]]).tolist()
    return ImageCache(path, np.memmap(path, dtype=np.uint8, mode="r"), shapes, starts, names)


def build_cache(folder: Path, cache_dir: Path) -> ImageCache:
    """Decode a folder of images (searched recursively) once; later calls map the file that is there.

    Args:
        folder: Where the images are.
        cache_dir: Where the cache goes; the file's name depends on the names and sizes in bytes of the images.

    Returns:
        The cache.

    Raises:
        FileNotFoundError: If the folder holds no images.
        UnsupportedError: If a file is no image that Pillow reads.
    """
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES and p.is_file())
    if not files:
        raise FileNotFoundError(f"No images found under {folder}")
    stamp = [(str(p.relative_to(folder)), p.stat().st_size) for p in files]
    key = hashlib.sha256(json.dumps(stamp).encode()).hexdigest()[:16]
    data, index = cache_dir / f"images-{key}.u8", cache_dir / f"images-{key}.json"
    names = [name for name, _ in stamp]
    if index.exists() and data.exists():
        shapes = [(int(h), int(w)) for h, w in json.loads(index.read_text())]
        if data.stat().st_size == sum(h * w * 3 for h, w in shapes):
            return _map_cache(data, shapes, names)
    cache_dir.mkdir(parents=True, exist_ok=True)
    shapes = []
    with atomic_path(data, overwrite=True) as partial, partial.open("wb") as out:
        for path in files:
            pixels = _decode(path)
            shapes.append((pixels.shape[0], pixels.shape[1]))
            out.write(pixels.tobytes())
    with atomic_path(index, overwrite=True) as partial:
        partial.write_text(json.dumps(shapes))
    return _map_cache(data, shapes, names)


def _decode(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise UnsupportedError(f"{path} is no image that can be trained on: {error}") from error


class CropDataset(Dataset[Tensor]):
    """Random crops: place, scale 0.5 to 1, flip and quarter turn drawn from (seed, index), so a resumed run goes on.

    Args:
        cache: The images.
        images: Which images of the cache to use.
        size: Side of the crops in pixels.
        length: Number of samples.
        seed: Seed of all draws.
        augment: Scale, flip and turn; only place otherwise.
        colour: Also change exposure, white balance and saturation of half of the crops; see :func:`recoloured`.
    """

    def __init__(
        self,
        cache: ImageCache,
        images: list[int],
        size: int,
        length: int,
        seed: int,
        *,
        augment: bool = True,
        colour: bool = False,
    ) -> None:
        self.cache, self.images, self.size, self.length = cache, np.array(images), size, length
        self.seed, self.augment, self.colour = seed, augment, colour
        areas = np.array([float(np.prod(cache.shapes[i])) for i in images])
        # Between every image alike and every pixel alike: small photos hold fewer, but sharper, details.
        self.weights = np.sqrt(areas) / np.sqrt(areas).sum()

    def __len__(self) -> int:
        """Return the number of samples."""
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        """Return one crop, (3, size, size) uint8."""
        rng = np.random.default_rng((self.seed, index))
        image = self.cache.image(int(rng.choice(self.images, p=self.weights)))
        height, width = image.shape[:2]
        scale = float(rng.uniform(0.5, 1.0)) if self.augment and rng.random() < 0.5 else 1.0
        side = min(round(self.size / scale), height, width)
        top, left = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
        crop = image[top : top + side, left : left + side]
        if side != self.size:
            whole = Image.fromarray(np.ascontiguousarray(crop))
            crop = np.asarray(whole.resize((self.size, self.size), Image.Resampling.BICUBIC))
        if self.augment:
            crop = np.rot90(crop, int(rng.integers(0, 4)))
            crop = crop[:, ::-1] if rng.random() < 0.5 else crop
        if self.colour and rng.random() < 0.5:
            crop = recoloured(crop, rng)
        return torch.from_numpy(np.ascontiguousarray(crop.transpose(2, 0, 1)))


def recoloured(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change the colours of a picture as another camera or another hour would.

    Args:
        pixels: (H, W, 3) uint8.
        rng: Draws a gamma within a factor of 1.35, a gain a channel within 1.1, a saturation of 0.5 to 1.4.

    Returns:
        The same shape; what leaves the range is clipped.
    """
    gamma, gains = math.exp(rng.uniform(-0.3, 0.3)), np.exp(rng.uniform(-0.1, 0.1, 3))
    tables = (255 * np.linspace(0, 1, 256)[:, None] ** gamma * gains).astype(np.float32)
    x = np.stack([tables[:, c][pixels[..., c]] for c in range(3)], -1)
    luma = x @ np.array([0.299, 0.587, 0.114], np.float32)
    x = luma[..., None] + np.float32(rng.uniform(0.5, 1.4)) * (x - luma[..., None])
    out: NDArray[np.uint8] = np.rint(x.clip(0, 255)).astype(np.uint8)
    return out


class ImageFolder(L.LightningDataModule):
    """Crops of an image folder; every ``holdout``-th image is kept for validation.

    Args:
        folder: Training images, searched recursively.
        cache_dir: Where decoded images are cached.
        crop: Side of the crops in pixels.
        batch_size: Crops a step.
        steps: Training steps the data should last for.
        seed: Seed of the crops.
        holdout: Keep every n-th image for validation.
        validation_crops: Number of fixed validation crops.
        workers: Loader processes.
        training_only: Images below the folder of this name are never held back, and do not shift the split, so that
            losses compare between runs with and without them.
        augment: Whether training crops are scaled, flipped and turned.
        colour: Whether the colours of half of the training crops are changed; see :func:`recoloured`.
    """

    def __init__(
        self,
        folder: str,
        cache_dir: str = ".cache/triode",
        crop: int = 256,
        batch_size: int = 8,
        steps: int = 10_000,
        seed: int = 0,
        holdout: int = 20,
        validation_crops: int = 64,
        workers: int = 1,
        training_only: str = "extra",
        *,
        augment: bool = True,
        colour: bool = False,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.folder, self.cache_dir = Path(folder), Path(cache_dir)
        self.crop, self.batch_size, self.steps, self.seed = crop, batch_size, steps, seed
        self.holdout, self.validation_crops, self.workers = holdout, validation_crops, workers
        self.training_only, self.augment, self.colour = training_only, augment, colour

    def prepare_data(self) -> None:
        """Make the cache, in one process."""
        build_cache(self.folder, self.cache_dir)

    def setup(self, stage: str) -> None:
        """Map the cache and split it."""
        self.cache = build_cache(self.folder, self.cache_dir)
        self.validation_images = held_back(self.cache.names, self.holdout, self.training_only)
        self.training_images = sorted({*range(len(self.cache))} - {*self.validation_images}) or [0]

    def train_dataloader(self) -> DataLoader[Tensor]:
        """Return the loader of training crops; after a resume it begins where the run had stopped."""
        remaining = Remaining(self.trainer, self.batch_size, self.steps)
        ways = {"augment": self.augment, "colour": self.colour}
        data = CropDataset(self.cache, self.training_images, self.crop, remaining.total, self.seed, **ways)
        return DataLoader(data, self.batch_size, sampler=remaining, num_workers=self.workers, drop_last=True)

    def val_dataloader(self) -> DataLoader[Tensor]:
        """Return the loader of the fixed validation crops."""
        data = CropDataset(self.cache, self.validation_images, self.crop, self.validation_crops, 12345, augment=False)
        return DataLoader(data, self.batch_size)

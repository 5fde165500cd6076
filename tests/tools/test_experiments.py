"""A plan of experiments: what becomes of its settings, and a run of two tiny ones."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from models.tiny import TINY, smooth_image
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "experiments.py"


def run_tool(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def write_plan(folder: Path, **changes: object) -> Path:
    plan = {
        "config": "triode/train/configs/image-light.yaml",
        "seconds": 1,
        "shared": {
            "config": asdict(TINY),
            "warmup": 2,
            "data.init_args.crop": 64,
            "data.init_args.batch_size": 2,
            "data.init_args.validation_crops": 2,
            "data.init_args.workers": 0,
            "trainer.precision": "32",
            "trainer.accelerator": "cpu",
            "trainer.log_every_n_steps": 1,
        },
        "experiments": {"first": {"note": "as it is"}, "second": {"note": "noise", "quantiser": "noise"}},
    } | changes
    path = folder / "plan.yaml"
    path.write_text(yaml.safe_dump(plan, sort_keys=False))
    return path


def test_two_experiments(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(2):
        Image.fromarray(smooth_image(80, 100, seed=i)).save(photos / f"{i}.png")
    plan = write_plan(tmp_path)
    done = run_tool(plan, "--folder", photos, "--work", tmp_path / "work", "--only", "first")
    assert done.returncode == 0, done.stderr
    first = json.loads((tmp_path / "first.json").read_text())
    assert not (tmp_path / "second.json").exists()
    assert first["note"] == "as it is"
    assert first["steps"] >= 1
    assert first["settings"]["quantiser"] == "mixed"
    assert first["held_back"]["val/bpp_3.5"] < first["held_back"]["val/bpp_59.5"]
    stamp = (tmp_path / "first.json").stat().st_mtime_ns
    done = run_tool(plan, "--folder", photos, "--work", tmp_path / "work")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "first.json").stat().st_mtime_ns == stamp
    assert json.loads((tmp_path / "second.json").read_text())["settings"]["quantiser"] == "noise"
    assert "  first: as it is" in done.stdout
    assert "  second: noise" in done.stdout


def test_one_rate_is_compared_where_it_was_trained(tmp_path: Path) -> None:
    """Its other rate points mean nothing: only the rate at the same PSNR does."""
    plan = write_plan(tmp_path, experiments={name: {"note": name} for name in ("first", "one", "apart")})
    points = [3.5, 11.5, 19.5, 27.5]
    first = {f"val/bpp_{p:g}": 0.1 * 2 ** (p / 8) for p in points} | {f"val/psnr_{p:g}": 26 + p for p in points}
    apart = first | {f"val/psnr_{p:g}": 60 + p for p in points}
    one = dict.fromkeys(first, 1.0) | {"val/bpp_19.5": 0.09 * 2 ** (20 / 8), "val/psnr_19.5": 46.0}
    for name, held, rates in (("first", first, [0.0, 63.0]), ("one", one, [19.5, 19.5]), ("apart", apart, [0.0, 63.0])):
        record = {"note": name, "steps": 7, "settings": {"rate_range": rates}, "held_back": held}
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    done = run_tool(plan, "--folder", tmp_path, "--work", tmp_path / "work")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["+0.00", "-10.00", "apart"]


@pytest.mark.parametrize(
    ("changes", "arguments", "message"),
    [({"minutes": 3}, (), "minutes"), ({}, ("--only", "third"), "third")],
)
def test_what_a_plan_does_not_know(
    tmp_path: Path, changes: dict[str, object], arguments: tuple[str, ...], message: str
) -> None:
    plan = write_plan(tmp_path, **changes)
    done = run_tool(plan, "--folder", tmp_path, "--work", tmp_path / "work", *arguments)
    assert done.returncode != 0
    assert message in done.stderr


def test_the_shipped_plan_trains_what_it_says() -> None:
    plan = yaml.safe_load((ROOT / "results" / "experiments" / "image-light" / "plan.yaml").read_text())
    assert (ROOT / plan["config"]).is_file()
    assert all(entry["note"] for entry in plan["experiments"].values())

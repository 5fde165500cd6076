"""The JSON of an experiment, from the files that Lightning's CSV logger leaves."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

TOOL = Path(__file__).resolve().parents[2] / "tools" / "experiment_log.py"
SETTINGS = {
    "model": "image-light",
    "lr": 0.001,
    "folder": "/home/someone/photos",
    "photos": "/home/someone/more",
    "cache_dir": "deep/below/cache",
    "init": "elsewhere/small.safetensors",
    "distortion": {"mse": 1.0},
}


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("experiment_log", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def write_run(folder: Path, rows: list[dict[str, Any]], **settings: Any) -> Path:
    """Write what a run of the trainer leaves: rows of training and of validation, each with the columns it has."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = dict.fromkeys(["step", *(name for row in rows for name in row)])
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(columns))
        writer.writeheader()
        writer.writerows(rows)
    (folder / "hparams.yaml").write_text(yaml.safe_dump(SETTINGS | settings))
    return folder


def training_rows(count: int = 40, every: int = 20, **more: Any) -> list[dict[str, Any]]:
    """Rows as logged every 20 steps: the loss falls by 0.01 a row, a step takes 0.5 s, and the first comes at 3 s."""
    steps = [every * (i + 1) - 1 for i in range(count)]
    return [
        {"step": step, "loss": 2 - 0.01 * i, "seconds": 3 + 0.5 * step, "skipped": i // 20, **more}
        for i, step in enumerate(steps)
    ]


def test_a_run(tool: ModuleType, tmp_path: Path) -> None:
    held = [{"step": 399, "val/loss": 9.123456}, {"step": 799, "val/loss": 8.5}]
    rows = sorted([*training_rows(), *held], key=lambda row: row["step"])
    found = tool.read(write_run(tmp_path, rows), "a note")
    assert found["note"] == "a note"
    assert found["steps"] == 800
    assert found["seconds"] == round(3 + 0.5 * 799)
    assert found["seconds_per_step"] == pytest.approx(0.5, abs=0.01)
    assert found["training_loss"] == pytest.approx(sum(2 - 0.01 * i for i in range(36, 40)) / 4)
    assert found["held_back_loss"] == [{"step": 400, "loss": 9.1235}, {"step": 800, "loss": 8.5}]
    assert found["skipped_steps"] == 1


def test_a_resumed_run(tool: ModuleType, tmp_path: Path) -> None:
    rows = [row | {"step": row["step"] + 5000} for row in training_rows()]
    found = tool.read(write_run(tmp_path, rows), "")
    assert found["steps"] == 5800
    assert found["seconds_per_step"] == pytest.approx(0.5, abs=0.001)


def test_settings_name_no_folders(tool: ModuleType, tmp_path: Path) -> None:
    found = tool.read(write_run(tmp_path, training_rows()), "")["settings"]
    assert found == SETTINGS | {"folder": "photos", "photos": "more", "cache_dir": "cache", "init": "small.safetensors"}
    assert tool.read(write_run(tmp_path, training_rows(), init=None), "")["settings"]["init"] is None


def test_an_old_log_without_seconds(tool: ModuleType, tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k in ("step", "loss")} for row in training_rows(5)]
    run = write_run(tmp_path, rows)
    os.utime(run / "hparams.yaml", (1000, 1000))
    os.utime(run / "metrics.csv", (1250, 1250))
    found = tool.read(run, "")
    assert (found["steps"], found["seconds"], found["seconds_per_step"]) == (100, 250, 2.5)
    assert (found["held_back_loss"], found["skipped_steps"]) == ([], 0)


def test_a_run_without_a_step(tool: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="no losses"):
        tool.read(write_run(tmp_path, [{"step": 0, "val/loss": 1.0}]), "")


def test_command(tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    run = write_run(tmp_path / "version_0", training_rows(3))
    out = tmp_path / "new" / "name.json"
    monkeypatch.setattr(sys, "argv", [str(TOOL), str(run), "-o", str(out), "--note", "tried"])
    tool.main()
    assert json.loads(out.read_text()) == tool.read(run, "tried")
    assert "60 steps" in capsys.readouterr().out

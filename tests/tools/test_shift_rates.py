"""Another range of lambdas for a model that is partly trained."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from models.tiny import TINY

from triode.entropy.rate import interpolate_anchors
from triode.models.registry import create_model
from triode.train.checkpoint import TrainingFacts, float_state, load_small_checkpoint, save_small_checkpoint

TOOL = Path(__file__).resolve().parents[2] / "tools" / "shift_rates.py"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = create_model("image-light", **asdict(TINY))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith((".log_gain", ".bias")) and parameter.ndim == 2:
                parameter.add_(0.1 * torch.randn_like(parameter))
    path = tmp_path / "small.safetensors"
    facts = TrainingFacts("image-light", asdict(TINY), 5, 1.0, 0, "photos", {}, {})
    save_small_checkpoint(path, float_state(model), facts)
    return path


def shift(checkpoint: Path, out: Path, low: float, high: float) -> subprocess.CompletedProcess[str]:
    options = ["--lambda-min", str(low), "--lambda-max", str(high)]
    return subprocess.run(
        [sys.executable, str(TOOL), str(checkpoint), "-o", str(out), *options],
        capture_output=True,
        text=True,
        check=False,
    )


def test_anchors_stand_where_the_old_ones_had_their_lambda(checkpoint: Path, tmp_path: Path) -> None:
    before, facts = load_small_checkpoint(checkpoint)
    low, high = facts.config["lambda_min"] * 1.5, facts.config["lambda_max"] * 0.7
    done = shift(checkpoint, tmp_path / "out.safetensors", low, high)
    assert done.returncode == 0, done.stderr
    after, shifted = load_small_checkpoint(tmp_path / "out.safetensors")
    assert (shifted.config["lambda_min"], shifted.config["lambda_max"]) == (low, high)
    tables = [
        name for name, t in after.items() if name.endswith((".log_gain", ".bias")) and not torch.equal(t, before[name])
    ]
    assert "gain.log_gain" in tables
    for name in tables:
        anchors = len(after[name])
        lambdas = low * (high / low) ** torch.linspace(0, 1, anchors)
        span = math.log(facts.config["lambda_max"] / facts.config["lambda_min"])
        q = 63 * (lambdas / facts.config["lambda_min"]).log() / span
        assert torch.allclose(after[name], interpolate_anchors(before[name], q), rtol=1e-3, atol=1e-3), name


def test_beyond_the_ends_the_last_two_go_on(checkpoint: Path, tmp_path: Path) -> None:
    before, facts = load_small_checkpoint(checkpoint)
    low, high = facts.config["lambda_min"], facts.config["lambda_max"]
    assert shift(checkpoint, tmp_path / "out.safetensors", low, high * (high / low)).returncode == 0
    after, _ = load_small_checkpoint(tmp_path / "out.safetensors")
    table, old = after["gain.log_gain"], before["gain.log_gain"]
    last = len(old) - 1
    assert torch.allclose(table[-1], old[-1] + last * (old[-1] - old[-2]), atol=2e-2)
    assert torch.allclose(table[0], old[0], atol=1e-3)


@pytest.mark.parametrize(("low", "high"), [(0, 1), (2, 1), (1, 1)])
def test_lambdas_that_are_no_range(checkpoint: Path, tmp_path: Path, low: float, high: float) -> None:
    assert shift(checkpoint, tmp_path / "out.safetensors", low, high).returncode == 2
    assert not (tmp_path / "out.safetensors").exists()

"""Blocks put behind those of a checkpoint, and taken off again."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from models.tiny import TINY

from triode.models.registry import create_model
from triode.train.checkpoint import (
    TrainingFacts,
    float_state,
    load_float_state,
    load_small_checkpoint,
    save_small_checkpoint,
)

TOOL = Path(__file__).resolve().parents[2] / "tools" / "grow_checkpoint.py"


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = create_model("image-light", **asdict(TINY))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    path = tmp_path / "small.safetensors"
    save_small_checkpoint(path, float_state(model), TrainingFacts("image-light", asdict(TINY), 5, 1.0, 0, "p", {}, {}))
    return path


def change(checkpoint: Path, out: Path, *changes: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOL), str(checkpoint), "-o", str(out), *changes]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_grown_model_computes_the_same_and_shrinks_back(checkpoint: Path, tmp_path: Path) -> None:
    grown, back = tmp_path / "grown.safetensors", tmp_path / "back.safetensors"
    more = TINY.decoder_fine + 2
    assert change(checkpoint, grown, f"decoder_fine={more}").returncode == 0
    models = []
    for path in (checkpoint, grown):
        state, facts = load_small_checkpoint(path)
        model = create_model(facts.model, **facts.config)
        load_float_state(model, state)
        models.append(model)
    y, q = torch.randn(1, TINY.latent, 4, 5), torch.tensor([20.0])
    with torch.no_grad():
        assert torch.allclose(models[0].synthesis(y, q), models[1].synthesis(y, q), atol=1e-5)
    assert load_small_checkpoint(grown)[1].config["decoder_fine"] == more

    assert change(grown, back, f"decoder_fine={TINY.decoder_fine}").returncode == 0
    before, after = (load_small_checkpoint(path)[0] for path in (checkpoint, back))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_other_widths_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    done = change(checkpoint, tmp_path / "out.safetensors", f"fine={TINY.fine * 2}")
    assert done.returncode == 2
    assert "do not fit" in done.stderr
    assert not (tmp_path / "out.safetensors").exists()

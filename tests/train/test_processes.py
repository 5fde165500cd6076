"""Two processes of one run: each has batches of its own, in the order of the data, and the run can be resumed."""

import csv
import subprocess
import sys

import pytest
import torch

from triode.train.checkpoint import load_small_checkpoint


@pytest.fixture
def processes(configured, tmp_path):
    """Run two processes up to a step; returns the folder of the run and the steps of its log."""

    def run(until, *arguments):
        folder = tmp_path / str(until)
        folder.mkdir()
        config = configured(folder, until=until, trainer={"devices": 2, "strategy": "ddp"})
        command = [sys.executable, "-m", "triode", "train", "fit", "--config", str(config), *arguments]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        with (folder / "image-light" / "version_0" / "metrics.csv").open() as file:
            return folder, [int(row["step"]) for row in csv.DictReader(file) if row["loss"]]

    return run


def test_two_processes_train_and_resume(processes):
    folder, steps = processes(4)
    assert steps == [0, 1, 2, 3]
    after, steps = processes(8, "--ckpt_path", str(folder / "last.ckpt"))
    assert steps == [4, 5, 6, 7]
    state, facts = load_small_checkpoint(after / "small.safetensors")
    assert facts.steps == 8
    assert all(bool(torch.isfinite(tensor).all()) for tensor in state.values())

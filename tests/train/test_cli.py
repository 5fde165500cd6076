import csv
import sys
from types import SimpleNamespace

import pytest
import torch

from triode.train.cli import emulates_bfloat16, train
from triode.train.image import RateDistortion
from triode.train.images import CropDataset


def rows(folder):
    (path,) = folder.glob("image-light/version_0/metrics.csv")
    with path.open() as file:
        return list(csv.DictReader(file))


def test_fit_with_the_shipped_configuration(trained):
    steps = [int(row["step"]) for row in rows(trained) if row["loss"]]
    assert steps == [0, 1, 2, 3]
    rates = [float(row["lr"]) for row in rows(trained) if row["lr"]]
    assert rates == pytest.approx([5e-4, 1e-3, 1e-3, 1e-3])
    seconds = [float(row["seconds"]) for row in rows(trained) if row["loss"]]
    assert 0 < seconds[0] < seconds[1] < seconds[2] < seconds[3] < 600
    validated = [row for row in rows(trained) if row["val/loss"]]
    assert len(validated) == 2
    assert float(validated[0]["val/bpp_3.5"]) < float(validated[0]["val/bpp_59.5"])
    assert float(validated[0]["val/psnr_3.5"]) < float(validated[0]["val/psnr_59.5"])
    assert sorted(p.name for p in trained.iterdir()) == [
        "config.yaml",
        "image-light",
        "last.ckpt",
        "small.json",
        "small.safetensors",
    ]


def test_resume_goes_on_at_the_step_and_the_crop_where_it_stopped(trained, fit, tmp_path, monkeypatch):
    drawn = []
    get = CropDataset.__getitem__
    monkeypatch.setattr(CropDataset, "__getitem__", lambda self, i: (drawn.append((self.augment, i)), get(self, i))[1])
    fit(tmp_path, until=8, arguments=("--ckpt_path", str(trained / "last.ckpt")))
    assert [int(row["step"]) for row in rows(tmp_path) if row["loss"]] == [4, 5, 6, 7]
    assert [i for augment, i in drawn if augment] == list(range(8, 16))
    module = RateDistortion.load_from_checkpoint(tmp_path / "last.ckpt", map_location="cpu", weights_only=True)
    assert int(module.ema.updates) == 8
    assert module.loaded["global_step"] == 8


def test_an_early_resume_reaches_the_end(fit, tmp_path):
    """What is left of the data may be more than what a run has seen, and less than all of it."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    fit(tmp_path / "one", until=2)
    fit(tmp_path / "two", until=8, arguments=("--ckpt_path", str(tmp_path / "one" / "last.ckpt")))
    assert [int(row["step"]) for row in rows(tmp_path / "two") if row["loss"]] == [2, 3, 4, 5, 6, 7]


def test_a_finished_run_goes_on_with_more_steps(fit, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    fit(tmp_path / "one", until=4, steps=4)
    fit(tmp_path / "two", until=9, steps=9, arguments=("--ckpt_path", str(tmp_path / "one" / "last.ckpt")))
    assert [int(row["step"]) for row in rows(tmp_path / "two") if row["loss"]] == [4, 5, 6, 7, 8]


def test_a_late_resume_reaches_the_end(fit, tmp_path):
    """What is left of the data may be less than what a run has seen."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    fit(tmp_path / "one", until=6)
    fit(tmp_path / "two", until=8, arguments=("--ckpt_path", str(tmp_path / "one" / "last.ckpt")))
    assert [int(row["step"]) for row in rows(tmp_path / "two") if row["loss"]] == [6, 7]


def test_the_command_line_is_not_warned_about(monkeypatch, recwarn):
    monkeypatch.setattr(sys, "argv", ["triode", "train", "--help"])
    with pytest.raises(SystemExit) as done:
        train(["--help"])
    assert done.value.code == 0
    assert [str(w.message) for w in recwarn if "args parameter" in str(w.message)] == []


def test_runs_are_reproducible(trained, fit, tmp_path):
    fit(tmp_path, until=4)
    one, two = (
        RateDistortion.load_from_checkpoint(f / "last.ckpt", map_location="cpu", weights_only=True).state_dict()
        for f in (trained, tmp_path)
    )
    assert all(torch.equal(one[k], two[k]) for k in one)


def test_a_resumed_run_obeys_its_own_settings(trained, fit, tmp_path):
    fit(tmp_path, until=6, arguments=("--ckpt_path", str(trained / "last.ckpt")), lr=3e-4)
    rates = [float(row["lr"]) for row in rows(tmp_path) if row["lr"]]
    assert rates[-1] <= 3e-4


@pytest.mark.parametrize(
    ("precision", "device", "machine", "capability", "slow"),
    [
        ("bf16-mixed", "cpu", "x86_64", "AVX2", True),
        ("bf16-mixed", "cpu", "AMD64", "DEFAULT", True),
        ("bf16-true", "cpu", "x86_64", "AVX512", False),
        ("32-true", "cpu", "x86_64", "AVX2", False),
        ("bf16-mixed", "cuda", "x86_64", "AVX2", False),
        ("bf16-mixed", "cpu", "arm64", "DEFAULT", False),
    ],
)
def test_emulated_bfloat16(monkeypatch, precision, device, machine, capability, slow):
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("torch.backends.cpu.get_cpu_capability", lambda: capability)
    run = SimpleNamespace(precision=precision, strategy=SimpleNamespace(root_device=torch.device(device)))
    assert emulates_bfloat16(run) is slow

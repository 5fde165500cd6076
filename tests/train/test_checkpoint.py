import json
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest
import torch
from models.tiny import TINY, tiny_model
from safetensors.torch import save_file

from triode.errors import ModelMismatchError
from triode.train.checkpoint import (
    SmallCheckpoint,
    TrainingFacts,
    float_state,
    load_float_state,
    load_small_checkpoint,
    save_small_checkpoint,
)

FACTS = TrainingFacts("image-light", asdict(TINY), 123, 45.6, 7, "photos", {"val/loss": 1.5}, {"lr": 0.001})


def test_round_trip(tmp_path):
    path = tmp_path / "sub" / "small.safetensors"
    state = float_state(tiny_model())
    save_small_checkpoint(path, state, FACTS)
    loaded, facts = load_small_checkpoint(path)
    assert facts == FACTS
    assert loaded.keys() == state.keys()
    for name, tensor in state.items():
        assert loaded[name].dtype == torch.float32
        assert torch.equal(loaded[name], tensor.half().float())
    assert json.loads(path.with_suffix(".json").read_text())["steps"] == 123
    assert sorted(p.name for p in path.parent.iterdir()) == ["small.json", "small.safetensors"]
    assert path.stat().st_size < 2 * sum(t.numel() for t in state.values()) + 30_000


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "small.safetensors"
    save_small_checkpoint(path, float_state(tiny_model()), FACTS)
    before = path.read_bytes()
    monkeypatch.setattr("triode.train.checkpoint.save", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_small_checkpoint(path, float_state(tiny_model(1)), replace(FACTS, steps=200))
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e6])
def test_weights_that_float16_cannot_hold(tmp_path, value):
    state = {"a": torch.tensor([1.0, value])}
    with pytest.raises(ValueError, match="finite in float16, but a"):
        save_small_checkpoint(tmp_path / "x.safetensors", state, FACTS)
    assert list(tmp_path.iterdir()) == []


def write(path, meta):
    save_file({"a": torch.zeros(1)}, str(path), meta)
    return path


@pytest.mark.parametrize(
    "meta",
    [
        {},
        {"triode-checkpoint": "no json"},
        {"triode-checkpoint": "[]"},
        {"triode-checkpoint": "5"},
        {"triode-checkpoint": "{}"},
        {"triode-checkpoint": json.dumps({"format": 2, **asdict(FACTS)})},
        {"triode-checkpoint": json.dumps({"format": 1, **asdict(FACTS), "more": 1})},
        {"triode-checkpoint": json.dumps({"format": 1, "model": "image-light"})},
    ],
)
def test_other_files_are_refused(tmp_path, meta):
    with pytest.raises(ModelMismatchError, match=r"x\.safetensors"):
        load_small_checkpoint(write(tmp_path / "x.safetensors", meta))


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "small.safetensors"
    save_small_checkpoint(path, float_state(tiny_model()), FACTS)
    data = path.read_bytes()
    for damaged in (b"", b"hello", data[:100], data[:-1], bytes(1000)):
        path.write_bytes(damaged)
        with pytest.raises(ModelMismatchError):
            load_small_checkpoint(path)
    with pytest.raises(ModelMismatchError):
        load_small_checkpoint(tmp_path / "none.safetensors")


def test_state_must_fit_the_model():
    model, other = tiny_model(0), tiny_model(1)
    load_float_state(model, float_state(other))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    state = float_state(other)
    name = next(iter(state))
    for wrong in (
        {k: v for k, v in state.items() if k != name},
        {**state, "more": torch.zeros(1)},
        {**state, name: torch.zeros(1)},
    ):
        with pytest.raises(ModelMismatchError, match="another model"):
            load_float_state(model, wrong)


def test_interval_must_be_positive():
    with pytest.raises(ValueError, match="every_n_train_steps"):
        SmallCheckpoint("x.safetensors", 0)


class TestCallback:
    def test_facts_of_a_run(self, trained):
        _, facts = load_small_checkpoint(trained / "small.safetensors")
        assert (facts.model, facts.config) == ("image-light", asdict(TINY))
        assert (facts.steps, facts.seed, facts.data) == (4, 0, "photos")
        assert 0 < facts.seconds < 600
        assert facts.settings["steps"] == 8
        assert "val/loss" in facts.metrics

    def test_an_interrupted_run_counts_on(self, trained, fit, tmp_path):
        _, before = load_small_checkpoint(trained / "small.safetensors")
        fit(tmp_path, until=6, arguments=("--ckpt_path", str(trained / "last.ckpt")))
        _, after = load_small_checkpoint(tmp_path / "small.safetensors")
        assert after.steps == 6
        assert after.seconds > 0.3 * before.seconds

    def test_a_run_from_a_small_checkpoint_counts_on(self, trained, fit, tmp_path):
        _, before = load_small_checkpoint(trained / "small.safetensors")
        fit(tmp_path, until=2, init=str(trained / "small.safetensors"))
        _, after = load_small_checkpoint(tmp_path / "small.safetensors")
        assert after.steps == 6
        assert after.seconds >= before.seconds
        assert after.settings["init"] == "small.safetensors"  # Where it lay is nobody's business.

    def test_weights_that_are_not_finite_leave_the_old_file(self, trained, tmp_path):
        callback = SmallCheckpoint(str(tmp_path / "x.safetensors"))
        state, facts = load_small_checkpoint(trained / "small.safetensors")
        save_small_checkpoint(callback.path, state, facts)
        before = callback.path.read_bytes()
        trainer = SimpleNamespace(global_step=10, is_global_zero=True, callback_metrics={}, datamodule=None)
        module = SimpleNamespace(
            averaged_state=lambda: {**state, "g_a.linear.bias": torch.full((16,), float("nan"))},
            architecture="image-light",
            model=SimpleNamespace(config=TINY),
            settings=dict,
        )
        with pytest.warns(UserWarning, match="No small checkpoint at step 10"):
            callback.on_train_end(trainer, module)
        assert callback.path.read_bytes() == before

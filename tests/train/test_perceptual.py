"""Adversarial training: who learns when, what stays as it was, and what leaves the run."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from models.tiny import TINY, smooth_image, tiny_model
from torch import Tensor
from torch.utils.data import DataLoader

from triode.train.checkpoint import (
    SmallCheckpoint,
    TrainingFacts,
    float_state,
    load_small_checkpoint,
    save_small_checkpoint,
)
from triode.train.export import export_checkpoint
from triode.train.image import RateDistortion
from triode.train.perceptual import PerceptualRateDistortion


def module(**changes: Any) -> PerceptualRateDistortion:
    torch.manual_seed(0)
    settings = {"config": asdict(TINY), "steps": 10, "warmup": 1, "distortion": "mse", "discriminator_width": 4}
    net = PerceptualRateDistortion(**{**settings, "adversarial_start": 2, **changes})
    if net.init is None:
        net.model.load_state_dict(tiny_model().state_dict())
        net.ema.reset(net.model)
    return net


def crops(count: int = 4) -> Tensor:
    return torch.stack([torch.from_numpy(smooth_image(64, 64, seed=i)).permute(2, 0, 1) for i in range(count)])


class Watch(L.Callback):
    """Keeps, after each step, the codec's and the discriminator's parameters, averages, gradients and metrics."""

    def __init__(self) -> None:
        self.codec: list[dict[str, Tensor]] = []
        self.averages: list[dict[str, Tensor]] = []
        self.critic: list[dict[str, Tensor]] = []
        self.with_gradient: list[set[str]] = []
        self.metrics: list[dict[str, float]] = []
        self.steps: list[int] = []

    def note(self, net: PerceptualRateDistortion) -> None:
        self.codec.append({n: p.detach().clone() for n, p in net.model.named_parameters()})
        self.averages.append({n: p.clone() for n, p in net.ema.averages().items()})
        self.critic.append({n: p.detach().clone() for n, p in net.discriminator.named_parameters()})

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.note(pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        self.note(pl_module)
        self.with_gradient.append({n for n, p in pl_module.model.named_parameters() if p.grad is not None})
        self.metrics.append({k: float(v) for k, v in trainer.callback_metrics.items()})
        self.steps.append(trainer.global_step)


def fit(net: L.LightningModule, steps: int, *callbacks: L.Callback, batch: Tensor | None = None) -> Watch:
    """Train on pairs of crops, or on one batch again and again."""
    watch = Watch()
    saves = any(isinstance(c, ModelCheckpoint) for c in callbacks)
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=steps,
        logger=False,
        enable_checkpointing=saves,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[watch, *callbacks],
    )
    torch.manual_seed(0)
    source = crops(2) if batch is None else batch
    trainer.fit(net, DataLoader([crop for _ in range(steps) for crop in source], len(source)))
    return watch


def moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    return {n for n in before if not torch.equal(before[n], after[n])}


@pytest.fixture(scope="module")
def watch() -> Watch:
    return fit(module(), 4)


class TestSteps:
    def test_are_counted_once(self, watch: Watch) -> None:
        assert watch.steps == [1, 2, 3, 4]

    def test_the_discriminator_joins_when_it_is_time(self, watch: Watch) -> None:
        still = [bool(moved(a, b)) for a, b in zip(watch.critic[:-1], watch.critic[1:], strict=True)]
        assert still == [False, False, True, True]
        assert ["critic" in m for m in watch.metrics] == still
        assert watch.metrics[2]["critic"] == pytest.approx(2, abs=0.5)

    def test_everything_of_the_codec_learns(self, watch: Watch) -> None:
        assert all(len(names) == len(watch.codec[0]) for names in watch.with_gradient)
        learnt = moved(watch.codec[2], watch.codec[3])
        assert {"g_a.linear.weight", "entropy.h_s.stem.bias", "gain.log_gain", "g_s.up.0.weight"} <= learnt

    def test_averages_follow(self, watch: Watch) -> None:
        expected = watch.averages[0]["g_s.head.weight"].clone()
        for n in range(1, 5):
            expected.lerp_(watch.codec[n]["g_s.head.weight"], 1 - (1 + n) / (10 + n))
        assert torch.allclose(watch.averages[4]["g_s.head.weight"], expected, atol=1e-7)

    def test_are_reproducible(self, watch: Watch) -> None:
        again = fit(module(), 4)
        assert moved(watch.codec[4], again.codec[4]) == moved(watch.critic[4], again.critic[4]) == set()

    def test_the_rate_follows_the_schedule(self, watch: Watch) -> None:
        net = module()
        assert [m["lr"] for m in watch.metrics] == pytest.approx([net.lr * net.schedule(s) for s in range(4)])


class TestLearning:
    def test_cost_falls_on_one_batch(self) -> None:
        batch = crops()
        net = module(adversarial_start=100, lr=1e-3)
        x, q = batch.float() / 255, torch.tensor([5.0, 20.0, 40.0, 60.0])

        def cost() -> float:
            torch.manual_seed(1)
            with torch.no_grad():
                out = net.model.train()(x, q)
                bpp, mse = net.losses(x, out, q)
                return float((net.importance(q) * (bpp + net.price(net.distances(x, out, mse), q))).mean())

        before = cost()
        fit(net, 8, batch=batch)
        assert cost() < 0.97 * before

    def test_the_discriminator_learns_to_tell(self) -> None:
        watch = fit(module(adversarial_start=0, lr=1e-9, discriminator_lr=1e-2), 12, batch=crops())
        losses = [m["critic"] for m in watch.metrics]
        assert losses[0] == pytest.approx(2, abs=0.3)
        assert losses[-1] < 1.75

    def test_the_codec_follows_the_discriminator(self) -> None:
        """With a weight that drowns the rest, and a discriminator that stands still, the score falls."""
        net = module(adversarial_start=0, adversarial=1e4, adversarial_power=0.0, discriminator_lr=0.0, lr=3e-3)
        watch = fit(net, 8, batch=crops())
        assert moved(watch.critic[0], watch.critic[-1]) == set()
        assert watch.metrics[-1]["adversarial"] < watch.metrics[0]["adversarial"]

    def test_a_step_that_is_not_finite_teaches_neither(self) -> None:
        class Poisoned(PerceptualRateDistortion):
            def code(self, batch: Tensor) -> Any:
                x, q, out = super().code(batch)
                if self.global_step == 1:
                    out.x_hat.mul_(math.nan)
                return x, q, out

        torch.manual_seed(0)
        net = Poisoned(
            config=asdict(TINY), warmup=1, distortion="mse", discriminator_width=4, adversarial_start=0, adversarial=1.0
        )
        watch = fit(net, 3)
        assert net.skipped == 1
        assert moved(watch.codec[1], watch.codec[2]) == moved(watch.critic[1], watch.critic[2]) == set()
        assert moved(watch.codec[2], watch.codec[3])
        assert moved(watch.critic[2], watch.critic[3])
        assert all(bool(p.isfinite().all()) for p in watch.averages[3].values())


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint to begin from."""
    path = tmp_path_factory.mktemp("start") / "small.safetensors"
    facts = TrainingFacts("image-light", asdict(TINY), 1, 1.0, 0, "photos", {}, {})
    save_small_checkpoint(path, float_state(tiny_model()), facts)
    return path


class TestFrozenEncoder:
    def test_only_the_synthesis_learns_from_then_on(self) -> None:
        watch = fit(module(freeze_encoder=True), 4)
        synthesis = {n for n in watch.codec[0] if n.startswith("g_s.")}
        assert [names == synthesis for names in watch.with_gradient] == [False, False, True, True]
        assert "g_a.linear.weight" in moved(watch.codec[0], watch.codec[2])
        learnt = moved(watch.codec[2], watch.codec[4])
        assert learnt <= synthesis
        assert "g_s.linear.0.weight" in learnt

    def test_bitstreams_stay(self, start: Path, tmp_path: Path) -> None:
        net = module(freeze_encoder=True, adversarial_start=0, init=str(start))
        fit(net, 2, SmallCheckpoint(str(tmp_path / "small.safetensors")))
        before = export_checkpoint(start, tmp_path / "a.v1.safetensors", "a.v1")
        after = export_checkpoint(tmp_path / "small.safetensors", tmp_path / "b.v1.safetensors", "b.v1")
        assert after.entropy_digest == before.entropy_digest
        assert after.synthesis_digest != before.synthesis_digest

    def test_the_small_checkpoint_holds_the_codec_alone(self, start: Path, tmp_path: Path) -> None:
        fit(module(adversarial_start=0, init=str(start)), 1, SmallCheckpoint(str(tmp_path / "small.safetensors")))
        state, facts = load_small_checkpoint(tmp_path / "small.safetensors")
        assert state.keys() == float_state(tiny_model()).keys()
        assert (facts.steps, facts.settings["adversarial_start"]) == (2, 0)


def test_weight_of_the_discriminator() -> None:
    net = module(adversarial=0.2, adversarial_power=0.5)
    q = torch.linspace(0, 63, 5)
    expected = [0.2 * math.sqrt(float(lam) / 0.0023) for lam in net.model.rate_lambda(q)]
    assert net.adversarial_weight(q).tolist() == pytest.approx(expected)
    assert module(adversarial_power=0.0).adversarial_weight(q).tolist() == pytest.approx([0.1] * 5)


def test_a_resumed_run_has_the_discriminator_and_others_do_without(tmp_path: Path) -> None:
    saver = ModelCheckpoint(tmp_path, "last", every_n_train_steps=1)
    watch = fit(module(adversarial_start=0), 2, saver)
    kept = PerceptualRateDistortion.load_from_checkpoint(tmp_path / "last.ckpt", map_location="cpu", weights_only=True)
    assert moved(watch.critic[-1], dict(kept.discriminator.named_parameters())) == set()
    plain = RateDistortion.load_from_checkpoint(tmp_path / "last.ckpt", map_location="cpu", weights_only=True)
    assert moved(watch.codec[-1], dict(plain.model.named_parameters())) == set()
    assert plain.settings()["adversarial_start"] == 0


def test_bad_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="adversarial_start"):
        module(adversarial_start=-1)
    with pytest.raises(ValueError, match=r"freeze_encoder.*trainable"):
        module(freeze_encoder=True, trainable=["g_a."])
    monkeypatch.setattr(PerceptualRateDistortion, "trainer", SimpleNamespace(precision="16-mixed"))
    with pytest.raises(ValueError, match="bf16-mixed, but got 16-mixed"):
        module().on_fit_start()

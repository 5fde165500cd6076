"""Training of codecs with vector quantisers: milestones, losses and gradients, the second stage, and every config."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
import yaml
from models.tiny_audio import tone
from torch import Tensor
from torch.utils.data import DataLoader

import triode.train
from triode.codecs.audio import AudioCodec
from triode.entropy.vq import codebook as codebook_module
from triode.entropy.vq.context_prior import ContextPrior
from triode.io.audio import write_sound
from triode.media import Sound
from triode.models.audio.vq_codec import VqCodec
from triode.models.base import AudioModel
from triode.models.registry import create_model, get_architecture, list_architectures
from triode.models.weights import load_weights
from triode.train.audio_loss import SoundDistortion
from triode.train.checkpoint import TrainingFacts, float_state, load_small_checkpoint, save_small_checkpoint
from triode.train.cli import train
from triode.train.export import export_checkpoint
from triode.train.vq_adversarial import AdversarialVqSound
from triode.train.vq_audio import VqSound

CONFIGS = Path(triode.train.__file__).parent / "configs"
RATE, HOP, CROP = 8000, 64, 2048
COMMON = {"sample_rate": RATE, "codebook_size": 70, "prior_width": 4, "prior_hidden": 8}
TINY: dict[str, dict[str, Any]] = {
    "encodec": {"dimension": 8, "filters": 4, "strides": [2, 4, 8], "lstm": 1, "stages": 3, "warmup": 2},
    "dac": {"encoder": 4, "strides": [2, 4, 8], "decoder": 32, "stages": 3, "codebook_dim": 4},
    "snac": {"encoder": 4, "strides": [2, 4, 8], "decoder": 32, "vq_strides": [2, 1], "codebook_dim": 4},
    "esc": {
        "n_fft": 46,
        "spectrum_window": 40,
        "spectrum_hop": 16,
        "widths": [6, 8, 12],
        "heads": [2, 2],
        "depth": 1,
        "window": 2,
        "groups": 2,
        "codebook_dims": [4, 4, 4],
    },
    "hifi-codec": {
        "filters": 4,
        "dimension": 16,
        "channels": 16,
        "strides": [8, 4, 2],
        "kernels": [16, 8, 4],
        "residual_kernels": [3],
        "dilations": [1],
        "depth": 1,
    },
    "language-codec": {
        "dimension": 12,
        "filters": 4,
        "strides": [2, 4, 8],
        "lstm": 1,
        "stages": 4,
        "decoder": 16,
        "decoder_hidden": 32,
        "decoder_blocks": 1,
        "warmup": 2,
    },
}
JUDGES: dict[str, dict[str, Any]] = {
    "multi-period": {"periods": [2, 3], "width": 1},
    "multi-scale-stft": {"sizes": [256], "width": 2},
    "multi-band": {"sizes": [256], "width": 2},
    "multi-resolution": {"resolutions": [[256, 64, 256]], "width": 2},
}
SHIPPED = {p.stem: yaml.safe_load(p.read_text()) for p in sorted(CONFIGS.glob("*.yaml"))}
NAMES = [name for name, c in SHIPPED.items() if ".vq_" in c["model"]["class_path"]]


def module(kind: type[VqSound] = VqSound, **changes: Any) -> Any:
    torch.manual_seed(0)
    config = {**COMMON, **TINY["encodec"], **changes.pop("config", {})}
    settings: dict[str, Any] = {"config": config, "steps": 10, "warmup": 1, "windows": [256], "bypass": 0.2}
    net = kind(**{**settings, "prior_start": 0.4, **changes})
    net.ema.reset(net.model)
    return net


def crops(count: int = 4, seed: int = 0) -> Tensor:
    return torch.stack([torch.from_numpy(tone(CROP, seed + i))[None] for i in range(count)])


class Watch(L.Callback):
    """Keeps the state of the model and its averages, and the metrics, before the first step and after each."""

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []
        self.averages: list[dict[str, Tensor]] = []
        self.critic: list[dict[str, Tensor]] = []
        self.metrics: list[dict[str, float]] = []
        self.passed: list[set[str]] = []

    def note(self, net: VqSound) -> None:
        self.states.append({n: t.detach().clone() for n, t in net.model.state_dict().items()})
        self.averages.append({n: t.clone() for n, t in net.ema.averages().items()})
        critic = net.discriminator.state_dict() if isinstance(net, AdversarialVqSound) else {}
        self.critic.append({n: t.detach().clone() for n, t in critic.items()})

    def on_train_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.note(pl_module)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, *_: Any) -> None:
        self.note(pl_module)
        self.metrics.append({k: float(v) for k, v in trainer.callback_metrics.items()})
        self.passed.append(set(pl_module.passed))

    def moved(self, step: int, prefix: str = "", *, critic: bool = False) -> set[str]:
        """Return what the step, counted from 0, changed."""
        states = self.critic if critic else self.states
        before, after = states[step], states[step + 1]
        return {n for n in before if n.startswith(prefix) and not torch.equal(before[n], after[n])}


def fit(net: VqSound, steps: int, *, batch: Tensor | None = None, **options: Any) -> Watch:
    watch = Watch()
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[watch],
        **options,
    )
    torch.manual_seed(0)
    each = [crops(4, 4 * i) if batch is None else batch for i in range(steps)]
    trainer.fit(net, DataLoader([crop for part in each for crop in part], len(each[0])))
    return watch


def attempt(net: VqSound, x: Tensor, monkeypatch: Any, *passed: str) -> tuple[Any, dict[str, float]]:
    """Run a batch as if the run had passed these milestones."""
    logged: dict[str, float] = {}
    monkeypatch.setattr(
        net, "log", lambda name, value, **_: logged.update({name: float(torch.as_tensor(value).detach())})
    )
    net.passed = set(passed)
    monkeypatch.setattr(net, "progress", lambda _: 0.0)
    return net.train().attempt(x), logged


class TestAttempt:
    def test_bypass_costs_the_distance_alone(self, monkeypatch):
        net, x = module(mel=2.0, spectral=3.0, wave=5.0), crops()
        trial, logged = attempt(net, x, monkeypatch)
        expected = SoundDistortion(RATE, 2.0, 3.0, 5.0, [256])(net.vq.unquantised(x), x).total
        assert torch.allclose(trial.cost, expected, rtol=1e-5)
        assert trial.bits is None
        assert "commitment" not in logged
        assert not any(book.started for book in net.codebooks())

    def test_codes_cost_their_commitment_too(self, monkeypatch):
        net, x = module(commitment=7.0, dropout=0.0), crops()
        for book in net.codebooks():
            book.mark_started()
            book.decay = 0.0  # Entries would move before they are compared.
            book.restart_ratio = 0.0
        entries = [book.entries.clone() for book in net.codebooks()]
        trial, logged = attempt(net, x, monkeypatch, "codes")
        for book, before in zip(net.codebooks(), entries, strict=True):
            book.entries.copy_(before)
        coded = net.vq.eval().quantised(x)
        expected = net.distance(coded.x_hat, x).total + 7.0 * coded.quantized.loss
        assert torch.allclose(trial.cost, expected, rtol=1e-4)
        assert trial.bits is None
        assert logged["saved"] == pytest.approx(0)
        assert logged["kbps"] == pytest.approx(3 * 7 * RATE / HOP / 1000)  # Three codes of seven bits a frame.
        assert 0 < logged["usage"] <= 1 <= logged["perplexity"] <= 70

    @pytest.mark.parametrize("prior", ["static", "context"])
    def test_neither_loss_reaches_what_is_the_other_s(self, monkeypatch, prior):
        net = module(config={"prior": prior})
        named = dict(net.model.named_parameters())
        trial, logged = attempt(net, crops(), monkeypatch, "codes", "prior")
        trial.bits.sum().backward(retain_graph=True)
        assert all(n.startswith("prior.") for n, p in named.items() if p.grad is not None)
        assert sum(bool(p.grad.any()) for p in named.values() if p.grad is not None) >= 3
        net.zero_grad()
        trial.cost.sum().backward()
        reached = {n for n, p in named.items() if p.grad is not None}
        assert reached == {n for n in named if not n.startswith("prior.")}
        if prior == "static":
            assert logged["saved"] == pytest.approx(1 - math.log2(70) / 7, abs=1e-4)  # As yet all codes are as likely.

    def test_codes_of_dropped_stages_cost_nothing(self, monkeypatch):
        net = module(dropout=1.0)
        monkeypatch.setattr(net, "draw_rate_points", lambda _: torch.tensor([0.0, 30.0, 63.0]))
        trial, logged = attempt(net, crops(3), monkeypatch, "codes", "prior")
        assert torch.allclose(trial.bits, torch.tensor([1.0, 2.0, 3.0]) * math.log2(70), rtol=1e-4)
        assert logged["saved"] == pytest.approx(1 - math.log2(70) / 7, abs=1e-4)

    @pytest.mark.parametrize(("dropout", "lower"), [(0.0, 0.0), (0.25, 0.25), (1.0, 1.0)])
    def test_share_of_crops_with_fewer_stages(self, dropout, lower):
        torch.manual_seed(0)
        points = module(dropout=dropout).draw_rate_points(2000)
        assert float((points < 63).float().mean()) == pytest.approx(lower, abs=0.04)
        assert float(points.max()) <= 63
        if dropout == 1.0:
            assert float(points.mean()) == pytest.approx(31.5, abs=1)
        low = module(dropout=dropout, rate_range=(0.0, 20.0)).draw_rate_points(200)
        assert float(low.max()) == pytest.approx(20, abs=1)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"settle": 0.1}, "settle"),
            ({"exact_finetune": 0.1}, "exact_finetune"),
            ({"dropout": 1.5}, "dropout"),
            ({"bypass": 0.5, "prior_start": 0.4}, "prior_start"),
            ({"bypass": 1.0, "prior_start": 1.0}, "bypass"),
            ({"commitment": -1.0}, "commitment"),
            ({"start_batches": 0}, "start_batches"),
            ({"distortion": "ms-ssim"}, "for pictures"),
        ],
    )
    def test_arguments(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            module(**arguments)

    def test_other_models_of_sound(self):
        with pytest.raises(ValueError, match="vector quantiser"):
            VqSound(model="audio-light")


@pytest.fixture(scope="module")
def watch() -> Watch:
    """Eight of ten steps: two without codes, two without a prior, then with both."""
    return fit(module(config={"prior": "context"}), 8)


class TestMilestones:
    def test_come_in_their_turn(self, watch):
        assert watch.passed == [set()] * 2 + [{"codes"}] * 2 + [{"codes", "prior"}] * 4
        assert [m["kbps"] > 0 for m in watch.metrics] == [False] * 2 + [True] * 6

    def test_who_learns_when(self, watch):
        for step in range(8):
            assert watch.moved(step, "encoder.")
            assert watch.moved(step, "decoder.")
            assert bool(watch.moved(step, "quantizer.")) == (step >= 2)
            assert bool(watch.moved(step, "prior.networks.")) == (step >= 4)
        # Orders change once, when the prior starts.
        assert [bool(watch.moved(step, "prior.orders.")) for step in range(8)] == [step == 4 for step in range(8)]

    def test_averages_begin_where_things_begin(self, watch):
        name = "prior.networks.0.leaf.rows.bias"
        assert not torch.equal(watch.states[4][name], watch.states[5][name])
        # One step behind the start the average is close to it, and far from the zeros before.
        start = watch.averages[5][name]
        assert float((start - watch.states[5][name]).abs().max()) < 0.1 < float(start.abs().max())

    def test_codebooks_start_from_several_batches(self, monkeypatch):
        seen: list[int] = []
        original = codebook_module.kmeans

        def spy(samples: Tensor, *rest: Any, **options: Any) -> Tensor:
            seen.append(len(samples))
            return original(samples, *rest, **options)

        monkeypatch.setattr(codebook_module, "kmeans", spy)
        fit(module(bypass=0.4, start_batches=3), 5)
        assert seen == [3 * 4 * CROP // HOP] * 3

    def test_the_prior_starts_from_counts(self):
        watch = fit(module(), 5)
        assert watch.metrics[3]["saved"] == pytest.approx(0)
        assert watch.metrics[4]["saved"] > 0.02

    def test_settings_of_codebooks(self):
        net = module(kmeans_iterations=3, restart_ratio=0.5)
        assert {(book.kmeans_iterations, book.restart_ratio) for book in net.codebooks()} == {(3, 0.5)}
        assert {(book.kmeans_iterations, book.restart_ratio) for book in module().codebooks()} == {(10, 0.1)}

    def test_the_cost_falls_on_one_batch(self):
        net = module(lr=2e-3, bypass=0.5, prior_start=0.5, steps=24, dropout=0.0)
        losses = [m["loss"] for m in fit(net, 24, batch=crops()).metrics]
        assert losses[11] < 0.8 * losses[0]
        assert min(losses[-4:]) < 0.97 * losses[12]

    def test_bits_fall_on_one_batch(self):
        still = {"lr": 0.0, "restart_ratio": 0.0, "dropout": 0.0}
        net = module(bypass=0.0, prior_start=0.5, steps=20, prior_lr=0.1, config={"prior": "context"}, **still)
        saved = [m["saved"] for m in fit(net, 20, batch=crops()).metrics]
        assert saved[9] == pytest.approx(0)
        assert saved[10] > 0.02
        assert saved[-1] > saved[10] + 0.05

    def test_norms_of_codec_and_prior_are_apart(self, monkeypatch):
        net = module(clip=1.0)
        monkeypatch.setattr(net, "log", lambda *_, **__: None)
        codec, prior = net.clipped_together()
        assert {id(p) for p in codec} | {id(p) for p in prior} == {id(p) for p in net.model.parameters()}
        for part, size in ((codec, 0.5), (prior, 100.0)):
            for p in part:
                p.grad = torch.full_like(p, size / math.sqrt(sum(q.numel() for q in part)))
        net.configure_gradient_clipping(None)
        norms = [math.sqrt(sum(float(p.grad.square().sum()) for p in part)) for part in (codec, prior)]
        assert norms == pytest.approx([0.5, 1.0], rel=1e-3)
        prior[0].grad.fill_(math.nan)
        net.configure_gradient_clipping(None)
        assert all(p.grad is None for p in net.model.parameters())


def rivals(**changes: Any) -> AdversarialVqSound:
    settings = {"discriminators": {n: JUDGES[n] for n in ("multi-period", "multi-scale-stft")}, "lr": 1e-2}
    net = module(AdversarialVqSound, **{**settings, "adversarial_start": 0.5, "discriminator_every": 2, **changes})
    assert isinstance(net, AdversarialVqSound)
    return net


@pytest.fixture(scope="module")
def duel() -> Watch:
    """Nine of ten steps, the last four in the second stage."""
    return fit(rivals(), 9)


class TestSecondStage:
    START = 5

    def test_the_decoder_alone_learns(self, duel):
        for step in range(9):
            moved = duel.moved(step)
            assert any(n.startswith("decoder.") for n in moved)
            assert any(not n.startswith("decoder.") for n in moved) == (step <= self.START)
        # What is frozen are the averages, which the codec becomes at the first step of the stage.
        frozen = [n for n in duel.averages[0] if not n.startswith("decoder.")]
        for n in frozen:
            assert torch.equal(duel.states[self.START + 1][n], duel.averages[self.START][n])
            assert torch.equal(duel.averages[9][n], duel.averages[self.START][n])

    def test_discriminators_learn_at_every_second_step(self, duel):
        learnt = [bool(duel.moved(step, critic=True)) for step in range(9)]
        assert learnt == [step >= self.START and step % 2 == 0 for step in range(9)]
        assert duel.metrics[6]["critic"] == pytest.approx(2, abs=0.7)
        assert [("adversarial" in m, "feature" in m) for m in duel.metrics] == [
            (step >= self.START,) * 2 for step in range(9)
        ]

    def test_streams_stay(self):
        net = rivals()
        fit(net, self.START + 1)
        x = crops(2, 50)
        before = net.vq.eval().codes(x)
        with net.ema.applied(net.model):
            averaged = net.vq.codes(x)
        bits = net.vq.prior(before)
        again = rivals()
        fit(again, 9)
        assert all(torch.equal(a, b) for a, b in zip(before, again.vq.eval().codes(x), strict=True))
        assert all(torch.equal(a, b) for a, b in zip(before, averaged, strict=True))
        assert torch.equal(bits, again.vq.prior(before))

    def test_the_decoder_follows_the_discriminators(self):
        batch = crops()
        net = rivals(adversarial=1e3, feature=0.0, discriminator_lr=0.0, lr=3e-3, clip=1.0)
        metrics = fit(net, 10, batch=batch).metrics
        assert metrics[-1]["adversarial"] < metrics[self.START]["adversarial"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"discriminators": {"none-such": {}}}, "multi-band, multi-period"),
            ({"adversarial_start": 0.1}, r"\[0.4, 1\]"),
            ({"feature": -1.0}, "feature"),
            ({"discriminator_every": 0}, "discriminator_every"),
        ],
    )
    def test_arguments(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            rivals(**arguments)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "recordings"
    folder.mkdir()
    for i in range(3):
        write_sound(folder / f"{i}.wav", Sound(tone(6000, i)[None], RATE))
    return folder


def run(
    name: str,
    folder: Path,
    recordings: Path,
    *,
    epochs: int = 2,
    steps: int = 4,
    more: tuple[str, ...] = (),
    **model: Any,
) -> Path:
    """Train a shipped configuration at tiny widths, two steps an epoch."""
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    arguments = config["model"]["init_args"]
    arguments |= {"steps": steps, "warmup": 1, "windows": [256], "start_batches": 1, "bypass": 0.25}
    arguments |= {"config": {**arguments["config"], **COMMON, **TINY[name]}}
    arguments["prior_start"] = 0.5
    if "discriminators" in arguments:
        arguments["discriminators"] = {judge: JUDGES[judge] for judge in arguments["discriminators"]}
    arguments |= model
    data = {"folder": str(recordings), "cache_dir": str(recordings.parent / "cache"), "rate": RATE, "crop": CROP}
    config["data"]["init_args"] |= {**data, "batch_size": 2, "steps": steps, "validation_crops": 2, "workers": 0}
    config["trainer"] |= {
        "accelerator": "cpu",
        "max_steps": steps,
        "max_epochs": epochs,
        "limit_train_batches": 2,
        "val_check_interval": 2,
        "log_every_n_steps": 1,
        "reload_dataloaders_every_n_epochs": 1,
    }
    config["trainer"]["logger"]["init_args"]["save_dir"] = str(folder)
    ours = [c["init_args"] for c in config["trainer"]["callbacks"]]
    ours[0] |= {"dirpath": str(folder), "every_n_train_steps": 1}
    ours[1] |= {"path": str(folder / "small.safetensors"), "every_n_train_steps": 1}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    train(["fit", "--config", str(path), *more])
    return folder


@pytest.fixture(scope="module")
def trained(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Give the folder of a configuration's run, which is made once."""
    return cache(lambda name: run(name, tmp_path_factory.mktemp("run"), recordings))


class TestConfigurations:
    def test_every_codec_with_codes_has_one(self):
        sounds = [name for name in list_architectures() if get_architecture(name).media == "audio"]
        assert [name for name in sounds if name != "audio-light"] == NAMES
        assert all(SHIPPED[name]["model"]["init_args"]["model"] == name for name in NAMES)

    @pytest.mark.parametrize("name", NAMES)
    def test_shipped_widths_suit_their_data(self, name):
        data, arguments = SHIPPED[name]["data"]["init_args"], SHIPPED[name]["model"]["init_args"]
        with L.Trainer(accelerator="cpu", logger=False).init_module(empty_init=True):
            model = create_model(name, **arguments["config"])
        assert isinstance(model, VqCodec)
        assert model.sample_rate == data["rate"]
        assert data["crop"] % (model.hop * model.multiple) == 0
        assert 0.4 <= data["crop"] / data["rate"] <= 1.1
        assert isinstance(model.prior, ContextPrior)

    @pytest.mark.parametrize("name", NAMES)
    def test_two_epochs_then_real_bytes(self, name, trained, tmp_path):
        folder = trained(name)
        with (folder / name / "version_0" / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert {row["epoch"] for row in rows} == {"0", "1"}
        losses = [float(row["loss"]) for row in rows if row["loss"]]
        assert len(losses) == 4
        assert all(math.isfinite(loss) for loss in losses)
        adversarial = [bool(row.get("critic")) for row in rows if row["loss"]]
        assert adversarial == [False] * 3 + ["discriminators" in SHIPPED[name]["model"]["init_args"]]
        info = export_checkpoint(folder / "small.safetensors", tmp_path / "mine.safetensors", f"{name}.v0")
        assert (info.architecture, info.training["steps"]) == (name, 4)
        weights = load_weights(str(info.path), AudioModel)
        codec, sound = AudioCodec(weights, chunk_seconds=0.2), Sound(tone(4000, 9)[None], RATE)
        data = [codec.encode(sound, quality=quality).data for quality in (0, 100)]
        decoded = codec.decode(data[1])
        assert decoded.samples.shape == sound.samples.shape
        assert decoded.rate == RATE
        model = weights.model
        assert isinstance(model, VqCodec)
        validated = [row for row in rows if row["val/loss"]][-1]
        several = len(model.rates) > 1
        assert (float(validated["val/kbps_0"]) < float(validated["val/kbps_63"])) == several
        assert (len(data[0]) < len(data[1])) == several
        assert np.isfinite(decoded.samples).all()


def test_both_checkpoints_make_the_same_weights(trained, tmp_path):
    infos = [
        export_checkpoint(trained("encodec") / kind, tmp_path / f"{i}.safetensors", "mine.v0")
        for i, kind in enumerate(("small.safetensors", "last.ckpt"))
    ]
    assert infos[0].entropy_digest == infos[1].entropy_digest
    assert infos[0].synthesis_digest == infos[1].synthesis_digest
    assert infos[0].training["settings"] == infos[1].training["settings"]


class TestGoingOn:
    def test_a_resumed_run_keeps_its_milestones(self, recordings, tmp_path):
        run("encodec", tmp_path, recordings, epochs=1)
        assert torch.load(tmp_path / "last.ckpt", weights_only=True)["milestones"] == ["codes"]
        run("encodec", tmp_path, recordings, more=("--ckpt_path", str(tmp_path / "last.ckpt")))
        assert torch.load(tmp_path / "last.ckpt", weights_only=True)["milestones"] == ["adversary", "codes", "prior"]
        assert load_small_checkpoint(tmp_path / "small.safetensors")[1].steps == 4

    def test_a_small_checkpoint_starts_with_codes(self, trained, recordings, tmp_path, monkeypatch):
        first = trained("encodec")
        state, facts = load_small_checkpoint(first / "small.safetensors")
        assert state["prior.orders.0.codes"].dtype == torch.int32
        assert not torch.equal(state["prior.orders.0.codes"], torch.arange(70, dtype=torch.int32))
        monkeypatch.setattr(codebook_module, "kmeans", None)  # To start again would fail.
        more = {"init": str(first / "small.safetensors"), "lr": 0.0, "prior_lr": 0.0, "adversarial_start": 1.0}
        run("encodec", tmp_path, recordings, epochs=1, steps=2, **more)
        again, facts = load_small_checkpoint(tmp_path / "small.safetensors")
        assert facts.steps == 6
        assert all(torch.allclose(state[n], again[n], atol=1e-3) for n in state if "quantizer" not in n)

    def test_other_integers_are_no_part_of_small_checkpoints(self, tmp_path):
        model = create_model("encodec", **COMMON, **TINY["encodec"], prior="context")
        assert isinstance(model, AudioModel)
        model.export()
        state = float_state(model)
        integers = {n for n, t in state.items() if not t.is_floating_point()}
        books = {f"quantizer.quantizers.{i}.codebook.steps" for i in range(3)}
        assert integers == books | {f"prior.orders.{i}.codes" for i in range(3)}
        assert asdict(model.config)["prior"] == "context"
        save_small_checkpoint(tmp_path / "x.safetensors", state, TrainingFacts("encodec", {}, 0, 0.0, None, "", {}, {}))
        stored, _ = load_small_checkpoint(tmp_path / "x.safetensors")
        assert all(torch.equal(stored[n], state[n]) for n in integers)

"""Training of audio models: the loss by its parts, a run from the command line, and the way to weights that code."""

from __future__ import annotations

import csv
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from models.tiny_audio import TINY_SOUND, tone
from torch import Tensor

import triode.train
from triode.entropy.coder import RangeReader, RangeWriter
from triode.errors import ModelMismatchError
from triode.io.audio import write_sound
from triode.media import Sound
from triode.models.base import AudioModel, ImageModel
from triode.models.complexity import count_sound_macs
from triode.models.registry import create_model, get_architecture
from triode.models.weights import PretrainedSound, load_weights
from triode.train.audio import SoundRateDistortion
from triode.train.audio_loss import SoundDistortion
from triode.train.checkpoint import load_small_checkpoint
from triode.train.cli import train
from triode.train.export import export_checkpoint

CONFIGS = Path(triode.train.__file__).parent / "configs"
CROP = 32 * TINY_SOUND.hop


def module(**changes: Any) -> SoundRateDistortion:
    torch.manual_seed(0)
    net = SoundRateDistortion(**{"config": asdict(TINY_SOUND), "steps": 10, "warmup": 2, **changes})
    net.audio.init_from_data(tone(4000, i) for i in range(3))
    net.ema.reset(net.model)
    return net


def batch(size: int = 4) -> Tensor:
    return torch.stack([torch.from_numpy(tone(CROP, i))[None] for i in range(size)])


def loss_of_a_step(net: SoundRateDistortion, x: Tensor, monkeypatch: Any) -> tuple[Tensor, dict[str, float]]:
    logged: dict[str, float] = {}
    monkeypatch.setattr(net, "log", lambda name, value, **_: logged.update({name: float(value)}))
    monkeypatch.setattr(net, "optimizers", lambda: SimpleNamespace(param_groups=[{"lr": 0.5}]))
    torch.manual_seed(3)
    return net.train().training_step(x, 0), logged


class TestLoss:
    def test_by_its_parts(self, monkeypatch):
        net, x = module(mel=2.0, spectral=3.0, wave=5.0), batch()
        loss, logged = loss_of_a_step(net, x, monkeypatch)
        torch.manual_seed(3)
        q = (torch.randperm(4) + torch.rand(4)) * (63 / 4)
        out = net.model.train()(x, q)
        bits = (out.bits["y"] + out.bits["z"]) / 32
        lam = TINY_SOUND.lambda_min * (TINY_SOUND.lambda_max / TINY_SOUND.lambda_min) ** (q / 63)
        errors = SoundDistortion(8000, 2.0, 3.0, 5.0)(out.x_hat, x)
        weight = lam**-0.4 / (lam**-0.4).mean()
        expected = (weight * (bits + lam * errors.total)).mean() / TINY_SOUND.hop
        assert float(loss) == logged["loss"] == pytest.approx(float(expected), rel=1e-5)
        assert logged["kbps"] == pytest.approx(float(bits.mean()) * 8000 / 64 / 1000, rel=1e-5)
        assert logged["mel"] == pytest.approx(float(errors.mel.mean()), rel=1e-5)

    def test_a_few_steps_lower_it(self, monkeypatch):
        net, x = module(lr=3e-3, clip=10.0), batch()
        optimizer = net.configure_optimizers()["optimizer"]
        losses = []
        for _ in range(12):
            loss, _ = loss_of_a_step(net, x, monkeypatch)  # The same noise and rate points each time.
            losses.append(float(loss))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert losses[-1] < 0.9 * losses[0]

    def test_settling_ends_with_its_share(self, monkeypatch):
        net = module(settle=0.25)
        for done, settling in ((0.0, True), (0.24, True), (0.25, False), (0.9, False)):
            monkeypatch.setattr(net, "progress", lambda _, done=done: done)
            loss_of_a_step(net, batch(), monkeypatch)
            assert net.audio.settling is settling

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"distortion": "ms-ssim"}, "for pictures"),
            ({"mse_start": 0.5}, "for pictures"),
            ({"settle": 1.0}, "settle"),
            ({"wave": -1.0}, ">= 0"),
            ({"model": "image-light", "config": None}, "model of sound"),
        ],
    )
    def test_arguments(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            module(**arguments)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "recordings"
    folder.mkdir()
    for i in range(3):
        write_sound(folder / f"{i}.wav", Sound(tone(6000, i)[None], 8000))
    return folder


def fit(name: str, folder: Path, recordings: Path, *, until: int, more: tuple[str, ...] = (), **model: Any) -> Path:
    """Train a tiny model with a shipped configuration."""
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    tiny = {"config": asdict(TINY_SOUND), "steps": 4, "warmup": 1, "windows": [256, 512]}
    config["model"]["init_args"] |= tiny | model
    data = {"folder": str(recordings), "cache_dir": str(recordings.parent / "cache"), "rate": 8000, "crop": CROP}
    config["data"]["init_args"] |= {**data, "batch_size": 2, "steps": 4, "validation_crops": 2, "workers": 0}
    config["trainer"] |= {"accelerator": "cpu", "max_steps": until, "val_check_interval": 2, "log_every_n_steps": 1}
    config["trainer"]["logger"]["init_args"]["save_dir"] = str(folder)
    ours = [c["init_args"] for c in config["trainer"]["callbacks"]]
    ours[0] |= {"dirpath": str(folder), "every_n_train_steps": 1}
    ours[1] |= {"path": str(folder / "small.safetensors"), "every_n_train_steps": 1}
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    train(["fit", "--config", str(path), *more])
    return folder


@pytest.fixture(scope="module")
def trained(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit("audio-light-speech", tmp_path_factory.mktemp("run"), recordings, until=2)


class TestRun:
    def test_logs_rate_and_quality_of_held_back_recordings(self, trained):
        with (trained / "audio-light-speech" / "version_0" / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        (validated,) = (row for row in rows if row["val/loss"])
        rates = [float(validated[f"val/kbps_{q}"]) for q in (0, 12, 24, 36, 48, 63)]
        assert rates == sorted(rates)
        for name in ("mel", "spectral", "si_sdr"):
            values = [float(validated[f"val/{name}_{q}"]) for q in (0, 63)]
            assert (values[0] < values[1]) == (name == "si_sdr")

    def test_resumes_and_starts_again_from_a_small_checkpoint(self, trained, recordings, tmp_path):
        state, facts = load_small_checkpoint(trained / "small.safetensors")
        assert (facts.model, facts.config) == ("audio-light", asdict(TINY_SOUND))
        assert (facts.steps, facts.data) == (2, "recordings")
        resume = ("--ckpt_path", str(trained / "last.ckpt"))
        fit("audio-light-speech", tmp_path, recordings, until=3, more=resume)
        assert load_small_checkpoint(tmp_path / "small.safetensors")[1].steps == 3
        fit("audio-light-speech", tmp_path, recordings, until=1, init=str(trained / "small.safetensors"), lr=0.0)
        again, facts = load_small_checkpoint(tmp_path / "small.safetensors")
        assert facts.steps == 3
        assert all(torch.allclose(state[n], again[n], atol=1e-3) for n in state)

    @pytest.mark.parametrize("kind", ["small.safetensors", "last.ckpt"])
    def test_exported_weights_code_sound(self, trained, tmp_path, kind):
        info = export_checkpoint(trained / kind, tmp_path / "mine.v1.safetensors", "mine.v1")
        assert (info.architecture, info.media, info.config) == ("audio-light", "audio", asdict(TINY_SOUND))
        assert info.training["settings"]["settle"] == 0.05
        loaded = load_weights(str(info.path), AudioModel)
        assert isinstance(loaded, PretrainedSound)
        model, q = loaded.model, torch.tensor([50])
        macs = count_sound_macs(model, 4 * 8000)
        assert (info.kmac_encode, info.kmac_decode) == (round(macs.kmac_encode, 3), round(macs.kmac_decode, 3))
        x, writer = torch.from_numpy(tone(CROP, 9))[None, None], RangeWriter()
        sent = model.encode(model.analysis(x, q), q, writer)
        got = model.decode(32, q, RangeReader(writer.getvalue()))
        assert torch.equal(sent, got)
        x_hat = model.synthesis(model.dequantise(got, q), q)
        assert float(10 * torch.log10(x.square().sum() / (x_hat - x).square().sum())) > 6

    def test_both_checkpoints_make_the_same_weights(self, trained, tmp_path):
        infos = [
            export_checkpoint(trained / kind, tmp_path / f"{i}.safetensors", "mine.v1")
            for i, kind in enumerate(("small.safetensors", "last.ckpt"))
        ]
        assert infos[0].entropy_digest == infos[1].entropy_digest
        assert infos[0].synthesis_digest == infos[1].synthesis_digest

    def test_weights_of_sound_are_no_weights_of_pictures(self, trained, tmp_path):
        info = export_checkpoint(trained / "small.safetensors", tmp_path / "mine.v1.safetensors", "mine.v1")
        with pytest.raises(ModelMismatchError, match="for audio"):
            load_weights(str(info.path))
        with pytest.raises(ModelMismatchError, match="for audio"):
            load_weights(str(info.path), ImageModel)
        assert isinstance(load_weights(str(info.path), torch.nn.Module).model, AudioModel)


def test_the_general_configuration_trains(recordings, tmp_path):
    fit("audio-light-general", tmp_path, recordings, until=1)
    assert (tmp_path / "small.safetensors").exists()


@pytest.mark.parametrize("name", ["audio-light-speech", "audio-light-general"])
def test_shipped_widths_suit_their_data(name):
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    data, widths = config["data"]["init_args"], config["model"]["init_args"].get("config", {})
    model = create_model("audio-light", **widths)
    assert model.sample_rate == data["rate"]
    assert data["crop"] % (model.hop * model.multiple) == 0
    assert 0.9 <= data["crop"] / data["rate"] <= 2.1
    assert set(widths) <= set(asdict(get_architecture("audio-light").config()))
    x = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, 4 * model.hop).astype(np.float32))[None, None]
    assert model(x, torch.tensor([10.0])).x_hat.shape == x.shape

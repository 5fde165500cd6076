"""Training of video models: the loss by its parts, runs from the command line, and the way to weights that code."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from models.learned_video import TINY_WIDTHS, moving_frames, stir
from models.tiny import TINY, tiny_model
from models.tiny_video import moving_clip
from torch import Tensor

import triode.train
from triode.codecs.video import VideoCodec
from triode.errors import ModelMismatchError
from triode.io.video_writing import write_clip
from triode.models.base import FrameStep, VideoModel
from triode.models.complexity import count_macs, count_video_macs
from triode.models.registry import create_model
from triode.models.video.intra import Intra
from triode.models.weights import load_weights
from triode.train.checkpoint import TrainingFacts, float_state, load_small_checkpoint, save_small_checkpoint
from triode.train.cli import train
from triode.train.clips import ClipFolder
from triode.train.export import export_checkpoint
from triode.train.packing import packed, samples, unpacked
from triode.train.video import VideoRateDistortion, plane_errors, psnr_yuv

CONFIGS = Path(triode.train.__file__).parent / "configs"
TINY_CONFIGS: Mapping[str, dict[str, Any]] = {
    "stem": {"image": asdict(TINY), **TINY_WIDTHS},
    "video-light": {
        "image": asdict(TINY),
        **dict.fromkeys(("latent", "hyper", "feature", "coarse", "parameters", "neighbours"), 8),
        **dict.fromkeys(("context_blocks", "decoder_blocks", "encoder_blocks", "encoder_coarse"), 1),
    },
    "ssf2020": {"N": 8, "M": 8},
}
STAGES = [
    {"until": 0.5, "frames": 2, "crop": 64, "batch": 2},
    {"until": 1.0, "frames": 3, "crop": 64, "batch": 1},
]


def module(**changes: Any) -> VideoRateDistortion:
    """A module around a tiny stem whose weights are varied."""
    torch.manual_seed(0)
    net = VideoRateDistortion(
        **{"model": "stem", "config": TINY_CONFIGS["stem"], "steps": 10, "warmup": 2, "frozen": ["image"], **changes}
    )
    net.model.load_image(tiny_model().state_dict())
    stir(net.model.entropy, 0.3)
    net.ema.reset(net.model)
    return net


def batch(size: int = 4, frames: int = 3) -> Tensor:
    """Clips (B, T, 6, 32, 32) uint8."""
    clips = [moving_frames(frames, 64, 64 + 16 * i) for i in range(size)]
    return samples(torch.cat([packed(clip)[..., :32, -32:] for clip in clips]))


def loss_of_a_step(net: VideoRateDistortion, data: Any, monkeypatch: Any) -> tuple[Tensor, dict[str, float]]:
    logged: dict[str, float] = {}
    monkeypatch.setattr(
        net, "log", lambda name, value, **_: logged.update({name: float(torch.as_tensor(value).detach())})
    )
    monkeypatch.setattr(net, "optimizers", lambda: SimpleNamespace(param_groups=[{"lr": 0.5}]))
    torch.manual_seed(3)
    return net.train().training_step(data, 0), logged


class TestErrors:
    def test_planes(self):
        x = batch(2, 2).float()
        y = x + torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])[:, None, None]
        errors = plane_errors(y, x)
        assert errors.shape == (2, 2, 3)
        assert errors[0, 0].tolist() == [pytest.approx((1 + 4 + 9 + 16) / 4), 25, 36]

    def test_psnr(self):
        """Against numpy, on whole planes: the weighted mean of three ratios."""
        x = batch(2, 2)
        noise = torch.randint(-5, 6, x.shape, generator=torch.Generator().manual_seed(0))
        y = (x.int() + noise).clamp(0, 255).to(torch.uint8)
        got = psnr_yuv(y, x)
        one, two = unpacked(y.double())[1], unpacked(x.double())[1]
        pairs = (one.y, two.y), (one.uv[:, :1], two.uv[:, :1]), (one.uv[:, 1:], two.uv[:, 1:])
        ratios = [10 * np.log10(255**2 / np.square(a.numpy() - b.numpy()).mean((1, 2, 3))) for a, b in pairs]
        assert np.allclose(got[:, 1], (6 * ratios[0] + ratios[1] + ratios[2]) / 8, atol=1e-4)
        assert bool(psnr_yuv(x, x).isfinite().all())


class TestLoss:
    def expected(self, net: VideoRateDistortion, data: Tensor, points: Any) -> tuple[float, Tensor]:
        torch.manual_seed(3)
        q = (torch.randperm(4) + torch.rand(4)) * (63 / 4)
        x = (data.float() - torch.tensor([16.0] * 4 + [128.0] * 2)[:, None, None]) / torch.tensor(
            [219.0] * 4 + [224.0] * 2
        )[:, None, None]
        frames = unpacked(x)
        out = net.model.train()(frames, q)
        bpp = (out.bits["y"] + out.bits["z"]) / 64**2
        distortion = torch.stack(
            [
                (6 * (a.y - b.y).square().mean((1, 2, 3)) + (a.uv - b.uv).square().mean((2, 3)).sum(1)) / 8
                for a, b in zip(out.frames, frames, strict=True)
            ],
            1,
        )
        lam = TINY.lambda_min * (TINY.lambda_max / TINY.lambda_min) ** (points(q) / 63)
        weight = (TINY.lambda_min * (TINY.lambda_max / TINY.lambda_min) ** (q / 63)) ** -0.4
        loss = (weight / weight.mean() * (bpp + lam * 255**2 * distortion).mean(1)).mean()
        return float(loss), bpp

    def test_by_its_parts(self, monkeypatch):
        net, data = module(), batch()
        loss, logged = loss_of_a_step(net, data, monkeypatch)
        expected, bpp = self.expected(net, data, lambda q: q[:, None].expand(-1, 3))
        assert float(loss) == logged["loss"] == pytest.approx(expected, rel=1e-5)
        assert logged["bpp"] == pytest.approx(float(bpp.mean()), rel=1e-5)
        assert logged["bpp_first"] == pytest.approx(float(bpp[:, 0].mean()), rel=1e-5)
        assert logged["frames"] == 3

    def test_each_frame_has_the_price_of_its_own_rate_point(self, monkeypatch):
        net, data, offsets = module(), batch(), torch.tensor([0.0, -6.0, -2.0])
        step = net.video.step
        monkeypatch.setattr(
            net.model, "step", lambda i, p: FrameStep(step(i, p).kind, max(0, min(63, p + int(offsets[i]))))
        )
        loss, _ = loss_of_a_step(net, data, monkeypatch)
        expected, _ = self.expected(net, data, lambda q: (q[:, None] + offsets).clamp(0, 63))
        assert float(loss) == pytest.approx(expected, rel=1e-3)
        own = torch.tensor([[5.0, 1.0, 3.0]])
        monkeypatch.setattr(net.model, "points", lambda q, frames: own, raising=False)
        assert torch.equal(net.points(torch.tensor([9.0]), 3), own)

    def test_a_few_steps_lower_it(self, monkeypatch):
        net, data = module(lr=3e-3, clip=10.0), batch()
        optimizer = net.configure_optimizers()["optimizer"]
        before = {n: p.clone() for n, p in net.model.image.named_parameters()}
        rates = []
        for _ in range(10):
            loss, logged = loss_of_a_step(net, data, monkeypatch)  # The same noise and rate points each time.
            rates.append(logged["bpp"])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert rates[-1] < 0.9 * rates[0]
        assert all(torch.equal(p, before[n]) for n, p in net.model.image.named_parameters())

    def test_integer_networks_at_the_end(self, monkeypatch):
        net, data = module(exact_finetune=0.25), batch(2)
        found = []
        run = net.run
        monkeypatch.setattr(net, "run", lambda x, q: found.append(q) or run(x, q))
        for done in (0.5, 0.9):
            monkeypatch.setattr(net, "progress", lambda _, done=done: done)
            loss_of_a_step(net, data, monkeypatch)
        assert [bool((q == q.round()).all()) for q in found] == [False, True]

    def test_frozen_parts_stay_as_they_are(self):
        net = module(frozen=["entropy.h_a"])
        assert not any(p.requires_grad for p in net.model.entropy.h_a.parameters())
        net.train()
        assert (net.model.training, net.model.entropy.h_a.training) == (True, False)
        trained = {id(p) for group in net.parameter_groups() for p in group["params"]}
        assert trained == {id(p) for p in net.model.parameters() if p.requires_grad}

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"distortion": "ms-ssim"}, "for pictures"),
            ({"mse_start": 0.5}, "for pictures"),
            ({"frozen": ["nothing"]}, "frozen"),
            ({"model": "image-light", "config": asdict(TINY)}, "model of video"),
        ],
    )
    def test_arguments(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            VideoRateDistortion(**{"model": "stem", "config": TINY_CONFIGS["stem"], **arguments})


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint of a tiny model of images."""
    path = tmp_path_factory.mktemp("image") / "image.safetensors"
    facts = TrainingFacts("image-light", asdict(TINY), 7, 1.0, 0, "photos", {}, {})
    save_small_checkpoint(path, float_state(tiny_model()), facts)
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "clips"
    folder.mkdir()
    for i in range(2):
        write_clip(folder / f"{i}.mkv", moving_clip(5, 144, 130, seed=i))
    return folder


@pytest.fixture(scope="module")
def fit(clips: Path, photos: Path, image: Path) -> Any:
    def run(name: str, folder: Path, *, until: int, more: tuple[str, ...] = (), **model: Any) -> Path:
        """Train a tiny model with a shipped configuration."""
        config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
        given = config["model"]["init_args"]
        given |= {"config": TINY_CONFIGS[name], "steps": 4, "warmup": 1}
        if "init" in given:
            given["init"] = str(image)
        given |= model
        data = config["data"]["init_args"]
        data |= {"folder": str(clips), "photos": str(photos), "cache_dir": str(clips.parent / "cache"), "holdout": 2}
        data |= {"steps": 4, "workers": 0, "validation_crops": 1, "validation_crop": 64, "validation_frames": 3}
        side = 128 if name == "ssf2020" else 64
        data |= {"stages": [{**s, "crop": side} for s in (STAGES if len(data["stages"]) > 1 else STAGES[1:])]}
        data |= {"validation_crop": side}
        if "samples" in data:
            data |= {"image": str(image), "samples": 3, "batch_size": 2}
        config["trainer"] |= {"accelerator": "cpu", "max_steps": until, "val_check_interval": 2, "log_every_n_steps": 1}
        config["trainer"]["logger"]["init_args"]["save_dir"] = str(folder)
        ours = [c["init_args"] for c in config["trainer"]["callbacks"]]
        ours[0] |= {"dirpath": str(folder), "every_n_train_steps": 1}
        ours[1] |= {"path": str(folder / "small.safetensors"), "every_n_train_steps": 1}
        path = folder / "config.yaml"
        path.write_text(yaml.safe_dump(config))
        train(["fit", "--config", str(path), *more])
        return folder

    return run


@pytest.fixture(scope="module")
def trained(fit: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function that gives the files of a run of two steps."""

    @lru_cache
    def run(name: str) -> Path:
        return fit(name, tmp_path_factory.mktemp("run"), until=2)

    return run


class TestRun:
    @pytest.mark.parametrize("name", TINY_CONFIGS)
    def test_logs_rate_of_held_back_clips(self, trained, name):
        folder = trained(name)
        with (folder / name / "version_0" / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        (validated,) = (row for row in rows if row["val/loss"])
        rates = [float(validated[f"val/bpp_{q}"]) for q in (8, 24, 40, 56)]
        assert rates == sorted(rates)
        if name == "video-light":
            assert float(validated["val/psnr_8"]) < float(validated["val/psnr_56"])
        ratio = "of_intra" if name == "stem" else "of_first"
        assert all(0 < float(validated[f"val/{ratio}_{q}"]) < 5 for q in (8, 24, 40, 56))

    @pytest.mark.parametrize("name", ["stem", "video-light"])
    def test_resumes_and_starts_again_from_a_small_checkpoint(self, trained, fit, tmp_path, name):
        folder = trained(name)
        state, facts = load_small_checkpoint(folder / "small.safetensors")
        assert (facts.model, facts.steps, facts.data) == (name, 2, "clips")
        fit(name, tmp_path, until=4, more=("--ckpt_path", str(folder / "last.ckpt")))
        assert load_small_checkpoint(tmp_path / "small.safetensors")[1].steps == 4
        fit(name, tmp_path, until=1, init=str(folder / "small.safetensors"), lr=0.0)
        again, facts = load_small_checkpoint(tmp_path / "small.safetensors")
        assert facts.steps == 3
        assert all(torch.allclose(state[n], again[n], atol=1e-3) for n in state)

    @pytest.mark.parametrize("name", TINY_CONFIGS)
    def test_exported_weights_code_clips(self, trained, tmp_path, name):
        folder = trained(name)
        info = export_checkpoint(folder / "small.safetensors", tmp_path / "mine.v1.safetensors", "mine.v1")
        assert (info.architecture, info.media) == (name, "video")
        assert info.training["settings"]["steps"] == 4
        assert info.kmac_encode > info.kmac_decode > 0
        codec, clip = VideoCodec(str(info.path)), moving_clip(4, 70, 50)
        decoded = codec.decode(codec.encode(clip, quality=60).data)
        assert decoded.y.shape == clip.y.shape
        if name != "ssf2020":  # The others hold a model of images that was trained, or nearly.
            assert np.square(decoded.y.astype(float) - clip.y).mean() < 1000

    def test_both_checkpoints_make_the_same_weights(self, trained, tmp_path):
        folder = trained("video-light")
        infos = [
            export_checkpoint(folder / kind, tmp_path / f"{i}.safetensors", "mine.v1")
            for i, kind in enumerate(("small.safetensors", "last.ckpt"))
        ]
        assert infos[0].entropy_digest == infos[1].entropy_digest
        assert infos[0].synthesis_digest == infos[1].synthesis_digest
        assert infos[0].training["settings"] == infos[1].training["settings"]
        macs = count_video_macs(load_weights(str(infos[0].path), VideoModel).model, 512, 512)
        assert (infos[0].kmac_encode, infos[0].kmac_decode) == (round(macs.kmac_encode, 3), round(macs.kmac_decode, 3))

    @pytest.mark.parametrize("name", ["stem", "video-light"])
    def test_starts_from_the_model_of_images(self, trained, image, name):
        folder = trained(name)
        kept = load_small_checkpoint(folder / "small.safetensors")[0]
        given = load_small_checkpoint(image)[0]
        assert all(torch.equal(tensor, kept[f"image.{n}"]) for n, tensor in given.items())


class TestInit:
    def start(self, net: VideoRateDistortion) -> None:
        net.trainer = SimpleNamespace(ckpt_path=None)  # type: ignore[assignment]
        net.setup("fit")

    def test_into_a_submodule(self, image, monkeypatch):
        net = module(model="stem", init=str(image), frozen=[])
        inner = Intra(tiny_model(seed=5))
        monkeypatch.setattr(net, "model", inner)
        net.ema = type(net.ema)(inner, 0.9)
        self.start(net)
        assert net.start is None
        expected = load_small_checkpoint(image)[0]
        assert all(torch.equal(p, expected[n]) for n, p in inner.image.named_parameters())
        assert torch.equal(net.ema.averages()["image.gain.log_gain"], expected["gain.log_gain"])

    def test_of_other_widths(self, tmp_path, image):
        state, facts = load_small_checkpoint(image)
        other = {name: torch.cat([t, t]) if t.dim() else t for name, t in state.items()}
        save_small_checkpoint(tmp_path / "x.safetensors", other, facts)
        with pytest.raises(ModelMismatchError, match="does not fit"):
            self.start(module(init=str(tmp_path / "x.safetensors")))

    def test_without_a_model_of_images(self, image, monkeypatch):
        net = module(init=str(image), frozen=[])
        monkeypatch.setattr(net, "model", torch.nn.Conv2d(1, 1, 1))
        with pytest.raises(ModelMismatchError, match="holds no model of images"):
            self.start(net)


def test_multiplications_of_frames_coded_as_images():
    image = tiny_model()
    video, still = count_video_macs(Intra(image), 128, 64), count_macs(image, 128, 64)
    assert video.kmac_decode == still.kmac_decode
    decoder = sum(p.numel() for p in image.g_s.parameters())
    assert still.kmac_encode < video.kmac_encode < still.kmac_encode + still.kmac_decode
    assert video.parameters == still.parameters > decoder
    with pytest.raises(ValueError, match="Sides"):
        count_video_macs(Intra(image), 0, 64)


@pytest.mark.parametrize("name", [p.stem for p in CONFIGS.glob("*.yaml") if "clips.ClipFolder" in p.read_text()])
def test_shipped_stages_suit_the_model(name):
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    data, given = config["data"]["init_args"], config["model"]["init_args"]
    folder = ClipFolder(data["folder"], stages=data["stages"])
    assert data["steps"] == given["steps"] == config["trainer"]["max_steps"]
    assert all(stage.crop % 64 == 0 for stage in folder.stages)
    with torch.device("meta"):
        model = create_model(given["model"], **given["config"])
    assert isinstance(model, VideoModel)

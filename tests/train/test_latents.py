"""Latents of clips as training data: what the model of images makes, made once, every clip in turn; and their rate."""

from __future__ import annotations

import pickle
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from models.learned_video import TINY_WIDTHS, stir
from models.tiny import TINY, tiny_model
from models.tiny_video import moving_clip

from triode.errors import ModelMismatchError
from triode.io.video_writing import write_clip
from triode.models.image.image_light import ImageLight
from triode.models.video.colour import yuv_to_rgb
from triode.train.checkpoint import TrainingFacts, float_state, save_small_checkpoint
from triode.train.latents import LatentFolder, LatentRates, latents_of
from triode.train.packing import normalised, unpacked

STAGE = {"until": 1.0, "frames": 3, "crop": 64, "batch": 2}


def save(path: Path, seed: int = 0) -> ImageLight:
    """Write a small checkpoint of a tiny model; return the model as the file has it."""
    model = tiny_model(seed)
    save_small_checkpoint(path, float_state(model), TrainingFacts("image-light", asdict(TINY), 7, 1.0, 0, "", {}, {}))
    with torch.no_grad():
        for tensor in float_state(model).values():
            tensor.copy_(tensor.half())
    return model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "clips"
    root.mkdir()
    for i in range(2):
        write_clip(root / f"{i}.mkv", moving_clip(4, 80, 72, seed=i))
    return root


def latent_folder(folder: Path, **options: Any) -> LatentFolder:
    root = folder.parent
    if not (root / "image.safetensors").exists():
        save(root / "image.safetensors")
    few = {"samples": 5, "batch_size": 3, "stages": [STAGE], "steps": 4, "holdout": 2, "workers": 0}
    few |= {"validation_crop": 64, "validation_frames": 2, "validation_crops": 2}
    where = {"folder": str(folder), "cache_dir": str(root / "cache"), "image": str(root / "image.safetensors")}
    data = LatentFolder(**where | few | options)
    data.prepare_data()
    data.setup("fit")
    return data


class TestFolder:
    def test_holds_latents_of_the_clips(self, folder):
        data, model = latent_folder(folder), save(folder.parent / "same.safetensors")
        assert data.latents.values.shape == (6, 3, 16, 4, 4)
        clips = data.batches()
        for number in range(3):
            q = torch.tensor(data.latents.points[2 * number : 2 * number + 2]).float()
            assert [int(p) // 32 for p in sorted(q)] == [0, 1]
            for t, frame in enumerate(unpacked(normalised(clips[number]))):
                with torch.no_grad():
                    expected = model.analysis(yuv_to_rgb(frame, "bt709").clamp(0, 1), q)
                found = torch.from_numpy(data.latents.values[2 * number : 2 * number + 2, t].copy())
                assert torch.allclose(found.float(), expected, atol=2e-3, rtol=2e-3)

    def test_is_made_once_for_each_model(self, folder, monkeypatch):
        first = latent_folder(folder)
        with monkeypatch.context() as patch:
            patch.setattr("triode.train.latents.latents_of", lambda *_: pytest.fail("made again"))
            again = latent_folder(folder)
        assert again.latents.path == first.latents.path
        assert again.latents.points == first.latents.points
        paths = {first.latents.path, latent_folder(folder, samples=7).latents.path}
        paths |= {latent_folder(folder, seed=1).latents.path}
        save(folder.parent / "image.safetensors", seed=1)
        paths |= {latent_folder(folder).latents.path}
        assert len(paths) == 4
        first.latents.path.write_bytes(b"cut")
        save(folder.parent / "image.safetensors")
        assert len(latent_folder(folder).latents.values) == 6

    def test_travels_to_loader_processes_without_its_latents(self, folder):
        cache = latent_folder(folder).latents
        data = pickle.dumps(cache)
        assert len(data) < 1000
        assert (pickle.loads(data).values == cache.values).all()

    def test_every_clip_once_before_any_comes_again(self, folder):
        data = latent_folder(folder)
        batches = list(data.train_dataloader())
        assert [tuple(y.shape) for y, _ in batches] == [(3, 3, 16, 4, 4)] * 4
        drawn = torch.cat([q for _, q in batches]).tolist()
        assert sorted(drawn[:6]) == sorted(drawn[6:]) == sorted(map(float, data.latents.points))
        assert drawn[:6] != drawn[6:]
        for y, q in batches:
            for values, point in zip(y, q, strict=True):
                place = data.latents.points.index(int(point))
                assert np.array_equal(values.numpy(), data.latents.values[place])

    def test_validation_is_of_held_back_clips_at_four_points(self, folder):
        batches = list(latent_folder(folder).val_dataloader())
        assert [(tuple(y.shape), q.tolist()) for y, q in batches] == [
            ((2, 2, 16, 4, 4), [float(p)] * 2) for p in (8, 24, 40, 56)
        ]

    def test_photos(self, folder, photos):
        one = latent_folder(folder)
        other = latent_folder(folder, photos=str(photos), share=1.0)
        assert one.latents.path != other.latents.path
        assert one.checks.path == other.checks.path
        assert not (one.latents.values == other.latents.values).all()

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"samples": 0}, "samples"),
            ({"batch_size": 0}, "batch_size"),
            ({"stages": [{**STAGE, "until": 0.5}, STAGE]}, "one stage"),
        ],
    )
    def test_arguments(self, folder, options, message):
        with pytest.raises(ValueError, match=message):
            LatentFolder(folder=str(folder), **options)

    def test_needs_a_model_of_images(self, folder):
        path = folder.parent / "none.safetensors"
        path.write_bytes(b"none")
        with pytest.raises(ModelMismatchError, match="none"):
            latent_folder(folder, image=str(path))


class TestRates:
    def module(self, **changes: Any) -> LatentRates:
        torch.manual_seed(0)
        net = LatentRates(**{"config": {"image": asdict(TINY), **TINY_WIDTHS}, "steps": 10, "warmup": 1, **changes})
        net.model.load_image(tiny_model().state_dict())
        stir(net.model.entropy, 0.3)
        return net

    def step(self, net: LatentRates, data: Any, monkeypatch: Any) -> tuple[torch.Tensor, dict[str, float]]:
        logged: dict[str, float] = {}
        monkeypatch.setattr(
            net, "log", lambda name, value, **_: logged.update({name: float(torch.as_tensor(value).detach())})
        )
        monkeypatch.setattr(net, "optimizers", lambda: SimpleNamespace(param_groups=[{"lr": 0.5}]))
        torch.manual_seed(3)
        return net.train().training_step(data, 0), logged

    def test_are_those_of_the_pixels(self, folder, monkeypatch):
        """A step on latents has the rate of the model's own pass over the frames."""
        net, data = self.module(), latent_folder(folder)
        clips, points = data.batches()[0], torch.tensor(data.latents.points[:2]).float()
        latents = latents_of(net.model.image, clips, points)
        loss, logged = self.step(net, (latents, points), monkeypatch)
        torch.manual_seed(3)
        bits = net.model.train()(unpacked(normalised(clips)), points).bits
        bpp = (bits["y"] + bits["z"]) / 64**2
        lam = TINY.lambda_min * (TINY.lambda_max / TINY.lambda_min) ** (points / 63)
        expected = (lam**-0.4 / (lam**-0.4).mean() * bpp.mean(1)).mean()
        assert float(loss.detach()) == logged["loss"] == pytest.approx(float(expected.detach()), rel=1e-3)
        assert logged["bpp_first"] == pytest.approx(float(bpp[:, 0].mean().detach()), rel=1e-3)

    def test_a_few_steps_lower_them(self, folder, monkeypatch):
        net, data = self.module(lr=3e-3, clip=10.0), latent_folder(folder)
        batch = next(iter(data.train_dataloader()))
        optimizer = net.configure_optimizers()["optimizer"]
        losses = []
        for _ in range(8):
            loss, _ = self.step(net, batch, monkeypatch)
            losses.append(float(loss.detach()))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert losses[-1] < 0.9 * losses[0]

    def test_validation_against_frames_on_their_own(self, folder, monkeypatch):
        """Untrained, the model has the rates of the model of images exactly."""
        net, data = self.module(), latent_folder(folder)
        net.model.load_image(tiny_model().state_dict())
        net.ema.reset(net.model)
        logged: dict[str, float] = {}
        monkeypatch.setattr(
            net, "log", lambda name, value, **_: logged.update({name: float(torch.as_tensor(value).detach())})
        )
        net.eval()
        for batch in data.val_dataloader():
            net.validation_step(batch, 0)
        assert [logged[f"val/of_intra_{p}"] for p in (8, 24, 40, 56)] == pytest.approx([1] * 4, abs=1e-4)
        assert logged["val/bpp_8"] < logged["val/bpp_56"]

    def test_integer_networks_at_the_end(self, folder, monkeypatch):
        net, batch = self.module(exact_finetune=0.25), next(iter(latent_folder(folder).train_dataloader()))
        losses = []
        for done in (0.5, 0.8):
            monkeypatch.setattr(net, "progress", lambda _, done=done: done)
            losses.append(float(self.step(net, batch, monkeypatch)[0].detach()))
        assert losses[0] != losses[1]
        assert losses[0] == pytest.approx(losses[1], rel=0.02)

    def test_latents_of_another_model_of_images(self, folder):
        """The checkpoint is named twice; where the two differ, the rates would mean nothing."""
        net, data = self.module(), latent_folder(folder)
        net.model.load_image({n: t.half().float() for n, t in float_state(tiny_model()).items()})
        net.trainer = SimpleNamespace(datamodule=data)
        net.on_fit_start()
        data.image = folder.parent / "other.safetensors"
        save(data.image, seed=1)
        with pytest.raises(ModelMismatchError, match="another model of images"):
            net.on_fit_start()

    def test_models_without_rates(self):
        with pytest.raises(ValueError, match="rates of latents"):
            LatentRates(model="ssf2020", config={"N": 8, "M": 8})

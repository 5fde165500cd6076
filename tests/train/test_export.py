import importlib
import pickle
import pkgutil
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from models.tiny import TINY, smooth_image

import triode.train
from triode.codecs.image import ImageCodec
from triode.errors import ModelMismatchError
from triode.media import Picture
from triode.models.complexity import count_macs
from triode.models.weights import load_weights
from triode.train import export
from triode.train.checkpoint import load_small_checkpoint, save_small_checkpoint
from triode.train.export import export_checkpoint
from triode.train.image import RateDistortion


@pytest.mark.parametrize("kind", ["small.safetensors", "last.ckpt"])
def test_exported_weights_code_pictures(trained, tmp_path, kind):
    out = tmp_path / "mine.v1.safetensors"
    info = export_checkpoint(trained / kind, out, "mine.v1")
    assert (info.name, info.architecture, info.media) == ("mine.v1", "image-light", "image")
    assert info.config == asdict(TINY)
    assert info.training["steps"] == 4
    assert info.training["data"] == "photos"
    assert info.training["seed"] == 0
    assert info.training["seconds"] > 0
    assert info.training["settings"]["steps"] == 8
    macs = count_macs(load_weights(str(out)).model, 512, 512)
    assert (info.kmac_encode, info.kmac_decode) == (round(macs.kmac_encode, 3), round(macs.kmac_decode, 3))
    codec = ImageCodec(str(out))
    pixels = smooth_image(70, 90, seed=2)
    decoded = codec.decode(codec.encode(Picture(pixels), quality=90).data).pixels
    assert -10 * np.log10(np.square(decoded.astype(float) - pixels).mean() / 255**2) > 30


def test_both_kinds_hold_the_averaged_weights(trained, tmp_path):
    small = export_checkpoint(trained / "small.safetensors", tmp_path / "a.safetensors", "mine.v1")
    full = export_checkpoint(trained / "last.ckpt", tmp_path / "b.safetensors", "mine.v1")
    assert small.entropy_digest == full.entropy_digest
    assert small.synthesis_digest == full.synthesis_digest
    module = RateDistortion.load_from_checkpoint(trained / "last.ckpt", map_location="cpu", weights_only=True)
    average = module.ema.averages()["g_s.linear.0.weight"]
    assert not torch.equal(average, module.model.g_s.linear[0].weight)
    exported = load_weights(str(full.path)).model.g_s.linear[0].weight
    # Weights files have 11 or 12 bits for the largest of a row.
    assert torch.allclose(exported, average, rtol=1e-3, atol=float(average.abs().max()) / 2047)


def test_checkpoints_of_every_training_module_may_be_opened():
    """Lightning opens those alone whose class has been imported."""
    for found in pkgutil.iter_modules(triode.train.__path__, "triode.train."):
        importlib.import_module(found.name)
    kinds, modules = [RateDistortion], set()
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        modules.add(kind.__module__)
    own = {name for name in modules if name.startswith("triode.train.")}
    assert own - {RateDistortion.__module__} == set(export._TRAINERS)


@pytest.mark.parametrize("name", ["x.ckpt", "x.safetensors"])
@pytest.mark.parametrize("data", [b"", b"hello", b"PK\x03\x04" + bytes(100), bytes(1000)])
def test_files_that_are_no_checkpoint(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ModelMismatchError, match="x"):
        export_checkpoint(tmp_path / name, tmp_path / "out.safetensors", "mine.v1")
    assert not (tmp_path / "out.safetensors").exists()


def test_truncated_checkpoints(trained, tmp_path):
    for kind in ("small.safetensors", "last.ckpt"):
        data = (trained / kind).read_bytes()
        path = tmp_path / kind
        for length in (10, len(data) // 2, len(data) - 1):
            path.write_bytes(data[:length])
            with pytest.raises(ModelMismatchError):
                export_checkpoint(path, tmp_path / "out.v1.safetensors", "out.v1")


def test_a_pickle_runs_no_code(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.exit, ("code of a checkpoint was run",))

    torch.save({"state_dict": Bomb()}, tmp_path / "a.ckpt")
    (tmp_path / "b.ckpt").write_bytes(pickle.dumps(Bomb()))
    for name in ("a.ckpt", "b.ckpt"):
        with pytest.raises(ModelMismatchError):
            export_checkpoint(tmp_path / name, tmp_path / "out.v1.safetensors", "out.v1")


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "no-such-model"},
        {"config": {"latent": 18}},
        {"config": {"latent": "many"}},
        {"config": {"surprise": 1}},
        {"config": {"hyper": -1}},
        {"config": {"lambda_min": 0.0}},
    ],
)
def test_checkpoints_of_impossible_models(trained, tmp_path, changes):
    state, facts = load_small_checkpoint(trained / "small.safetensors")
    config = {**facts.config, **changes.get("config", {})}
    save_small_checkpoint(tmp_path / "x.safetensors", state, replace(facts, **{**changes, "config": config}))
    with pytest.raises(ModelMismatchError):
        export_checkpoint(tmp_path / "x.safetensors", tmp_path / "out.v1.safetensors", "out.v1")


@pytest.mark.parametrize("name", ["", "Mine", "a/b", "x.safetensors", "-a", "a" * 65])
def test_names(trained, tmp_path, name):
    with pytest.raises(ValueError, match="model name"):
        export_checkpoint(trained / "small.safetensors", tmp_path / "out.safetensors", name)
    assert list(tmp_path.iterdir()) == []


def test_weights_on_a_base_leave_out_what_it_has(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("TRIODE_HOME", str(tmp_path))
    whole = export_checkpoint(trained / "small.safetensors", tmp_path / "whole.v1.safetensors", "whole.v1")
    out = tmp_path / "on.v1.safetensors"
    on = export_checkpoint(trained / "small.safetensors", out, "on.v1", "whole.v1")
    assert on.bytes < whole.bytes / 2
    assert (on.entropy_digest, on.synthesis_digest) == (whole.entropy_digest, whole.synthesis_digest)
    state = load_weights(str(whole.path)).model.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in load_weights(str(out)).model.state_dict().items())
    with pytest.raises(ModelMismatchError, match=r"No weights named 'other.v1'"):
        export_checkpoint(trained / "small.safetensors", tmp_path / "x.safetensors", "x.v1", "other.v1")

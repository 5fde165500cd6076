"""The command line with the real codec, on weights that nobody trained."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli.conftest import make_photo
from PIL import Image

import triode
from triode.container import SIGNATURE

ROOT = Path(__file__).resolve().parents[2]
MODEL = "random.v1"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder of weights."""
    import torch

    from triode.models.registry import create_model
    from triode.models.weights import save_weights

    folder = tmp_path_factory.mktemp("home")
    torch.manual_seed(0)
    save_weights(create_model("image-light"), folder / f"{MODEL}.safetensors", name=MODEL, architecture="image-light")
    return folder


@pytest.fixture
def run(real_triode, home, monkeypatch):
    monkeypatch.setenv("TRIODE_HOME", str(home))
    return real_triode


def test_a_photo_through_it(run, folder, files):
    make_photo("photo.png", 70, 50, mode="RGBA")
    done = run("encode", "photo.png", "-m", MODEL, "--verify", "--json")
    assert done.code == 0, done.err
    [found] = done.objects
    assert (found["model"], found["width"], found["height"]) == (MODEL, 70, 50)
    assert found["bytes"] == (folder / "photo.tri").stat().st_size

    done = run("decode", "photo.tri", "-o", "back.png", "--json")
    assert done.code == 0, done.err
    assert done.objects[0]["quality"] == found["quality"]
    before, after = np.asarray(Image.open("photo.png")), np.asarray(Image.open("back.png"))
    assert before.shape == after.shape
    assert np.array_equal(before[:, :, 3], after[:, :, 3])

    assert run("info", "photo.tri", "--json").objects[0]["bytes"] == found["bytes"]
    assert run("verify", "photo.tri").code == 0
    assert MODEL in run("models").out
    assert files() == ["back.png", "photo.png", "photo.tri"]


def test_a_process(folder, home):
    data = make_photo("photo.png").read_bytes()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRIODE_HOME": str(home)}
    command = [sys.executable, "-m", "triode", "encode", "-", "-m", MODEL]
    done = subprocess.run(command, cwd=folder, env=environment, input=data, capture_output=True, timeout=280)
    assert (done.returncode, done.stdout[:8]) == (0, SIGNATURE), done.stderr.decode()


def test_exit_codes(run, folder):
    make_photo("photo.png")
    assert run("encode", "photo.png", "-m", MODEL, "-q", "20").code == 0
    data = (folder / "photo.tri").read_bytes()
    assert run("decode", "-", stdin=data[:-3]).code == 3
    assert run("decode", "photo.tri", "-o", "a.png", "--max-pixels", "95").code == 4
    assert run("encode", "photo.png", "-m", "none.v1", "-o", "b.tri").code == 5
    done = run("encode", "photo.png", "-m", MODEL, "--size", "1", "-o", "b.tri")
    assert (done.code, "cannot be met" in done.err) == (1, True)
    done = run("encode", "photo.png", "-m", MODEL, "--size", str(len(data)), "-o", "b.tri", "--json")
    assert done.objects[0]["bytes"] <= len(data)


def test_the_api(home, monkeypatch):
    monkeypatch.setenv("TRIODE_HOME", str(home))
    pixels = np.random.default_rng(0).integers(0, 256, (1, 1, 4), np.uint8)
    back = np.asarray(triode.decode(triode.encode(pixels, model=MODEL)))
    assert back.shape == (1, 1, 4)
    assert back[0, 0, 3] == pixels[0, 0, 3]
    assert MODEL in triode.list_models(pretrained=True)
    assert triode.create_model(MODEL, pretrained=True).training is False

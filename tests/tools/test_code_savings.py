"""What entropy coding saves against codes of fixed length, counted by hand."""

import importlib.util
import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from models.tiny_audio import TINY_SOUND, tiny_sound_model, tone
from models.tiny_vq import tiny_vq

from triode.codecs.audio import AudioCodec
from triode.entropy.context.model import ContextModel
from triode.entropy.factorized import FactorizedPrior
from triode.errors import UnsupportedError
from triode.eval.coder import create_coder
from triode.media import Sound
from triode.models.base import AudioModel
from triode.models.weights import load_weights, save_weights

TOOL = Path(__file__).resolve().parents[2] / "tools" / "code_savings.py"
NAME = "tiny-light.v1"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("code_savings", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules["code_savings"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / f"{NAME}.safetensors"
    save_weights(tiny_sound_model(), path, name=NAME, architecture="audio-light")
    return load_weights(str(path), AudioModel)


def recording(samples=12_000, channels=2):
    return Sound(np.stack([tone(samples, seed) for seed in range(channels)]), 8000)


def test_words_of_fixed_length(tool):
    symbols = {"y": [np.array([0, 1, 2, 3, 3]), np.array([7, 7, 7])], "z": [np.array([-1, 1]), np.zeros(0, int)]}
    packed, whole = tool.word_bits(symbols)
    assert packed == pytest.approx(5 * 2 + 2 * math.log2(3))
    assert whole == 5 * 2 + 2 * 2


@pytest.mark.parametrize("quality", [10, 90])
def test_symbols_are_those_of_the_file(tool, weights, quality):
    sound = recording()
    sizes = tool.measure(sound, weights, quality)
    coder = create_coder(f"triode:model={weights.info.path}", "audio")
    data = coder.encode(sound, quality)
    parts = coder.parts(data)
    assert (sizes.file_bytes, sizes.coded_bytes, sizes.seconds) == (len(data), parts["z"] + parts["y"], 1.5)
    frames = -(-12_000 // TINY_SOUND.hop)  # in two chunks, of which the last is padded to 4 frames
    padded = frames + -frames % 4
    latent = TINY_SOUND.coefficients + TINY_SOUND.envelope
    assert sizes.symbols == 2 * (padded * latent + padded // 4 * TINY_SOUND.hyper)
    assert 0 < sizes.strict <= sizes.fixed < sizes.whole
    one, both = sizes.report(), (sizes + sizes).report()
    assert both["saving"] == one["saving"] == round(1 - sizes.coded_bytes / sizes.fixed, 4)
    assert both["kbps"] == one["kbps"]
    # What the whole file saves is the same number of bytes, of more.
    assert one["file_saving"] / one["saving"] == pytest.approx(sizes.fixed / (sizes.fixed + 99), abs=0.01)


def test_sizes_that_are_known(tool):
    sizes = tool.Sizes(2.0, 100, 500, 400, 600.5, 700.0, 550.0)
    assert sizes.report() == {
        "kbps": 2.0,
        "symbols": 100,
        "file_bytes": 500,
        "coded_bytes": 400,
        "fixed_bytes": 601,
        "fixed_bytes_whole_bits": 700,
        "saving": round(1 - 400 / 600.5, 4),
        "saving_whole_bits": round(1 - 400 / 700, 4),
        "file_saving": round(1 - 500 / 700.5, 4),
        "strict_saving": round(1 - 400 / 550, 4),
    }


def test_ranges_are_those_of_the_decoded_latent(tool, weights):
    """Symbols of z, decoded by the model's own prior, have the ranges that were noted."""
    found, codec, model, seen = {}, AudioCodec(weights), weights.model, []
    data = codec.encode(recording(3000, 1)).data
    with tool.recorded(found), pytest.MonkeyPatch.context() as patch:
        inner = FactorizedPrior.decode
        patch.setattr(FactorizedPrior, "decode", lambda *a: seen.append(inner(*a)) or seen[-1])
        codec.verify(data)
    z = torch.cat([one[0].flatten(1) for one in seen], 1).numpy()
    assert np.array_equal(np.stack(found["z"]), z)
    assert len(found["y"]) == model.config.coefficients + model.config.envelope
    assert {len(values) for values in found["y"]} == {4 * z.shape[1]}


def test_nothing_stays_changed(tool, weights):
    before = ContextModel._place, FactorizedPrior.decode
    tool.measure(recording(1000), weights, 50)
    assert (ContextModel._place, FactorizedPrior.decode) == before


def test_codebooks_count_whole(tool):
    model = SimpleNamespace(
        stage_counts=lambda q: torch.tensor([2]),
        quantizer=SimpleNamespace(codebook_sizes=(1024, 1000, 8), strides=(2, 1, 1)),
    )
    number, packed, whole = tool.code_bits(model, 40, 7)
    assert number == 20 + 40
    assert packed == pytest.approx(20 * 10 + 40 * math.log2(1000))
    assert whole == 20 * 10 + 40 * 10


def test_of_a_model_with_codebooks(tool, tmp_path):
    model = tiny_vq("snac")
    path = tmp_path / "tiny-snac.v1.safetensors"
    save_weights(model, path, name="tiny-snac.v1", architecture="snac")
    weights = load_weights(str(path), AudioModel)
    sound = Sound(tone(9000, rate=model.sample_rate)[None], model.sample_rate)
    one, two = (tool.measure(Sound(np.repeat(sound.samples, n, 0), sound.rate), weights, 100) for n in (1, 2))
    sizes, strides = model.quantizer.codebook_sizes, model.quantizer.strides
    frames = -(-9000 // (model.hop * model.multiple)) * model.multiple
    assert one.symbols == two.symbols == sum(frames // n for n in strides)  # equal channels have no side
    assert one.fixed == pytest.approx(sum(frames // n * math.log2(k) for k, n in zip(sizes, strides, strict=True)) / 8)
    assert one.strict == one.fixed
    assert one.coded_bytes < one.file_bytes


def test_silence_has_no_symbols(tool, weights):
    with pytest.raises(UnsupportedError, match="no symbols"):
        tool.measure(Sound(np.zeros((1, 3000), np.float32), 8000), weights, 50)


def test_command(tool, weights, tmp_path, monkeypatch, capsys):
    soundfile = pytest.importorskip("soundfile")
    for name in "ab":
        soundfile.write(tmp_path / f"{name}.wav", recording(4000, 1).samples.T, 8000)
    (tmp_path / "notes.txt").write_text("no sound")
    monkeypatch.setattr(sys, "argv", ["x", str(tmp_path), "--model", str(weights.info.path), "--qualities", "20,80"])
    tool.main()
    found = json.loads(capsys.readouterr().out)
    assert (found["model"], found["recordings"]) == (NAME, 2)
    assert set(found["qualities"]) == {"20", "80"}
    assert found["qualities"]["80"]["kbps"] > found["qualities"]["20"]["kbps"]

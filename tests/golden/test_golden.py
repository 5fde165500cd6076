"""Golden bitstreams decode for ever: to the same symbols, and to a result no worse than when they were made."""

from __future__ import annotations

import importlib.util
import json
import sys
import zlib
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import pytest
from models.tiny_audio import tiny_sound_model

from triode.codecs.audio import AudioCodec
from triode.codecs.image import ImageCodec, verify
from triode.codecs.video import VideoCodec
from triode.models.weights import save_weights

HERE = Path(__file__).parent
GOLDEN = json.loads((HERE / "golden.json").read_text())
SOUNDS = sorted(name for name, facts in GOLDEN.items() if "rate" in facts)
CLIPS = sorted(name for name, facts in GOLDEN.items() if "frames" in facts)
PICTURES = sorted(GOLDEN.keys() - {*SOUNDS, *CLIPS})


@lru_cache
def _tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_golden", HERE.parent.parent / "tools" / "make_golden.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_golden"] = module
    spec.loader.exec_module(module)
    return module


def _read(name: str) -> bytes:
    data = (HERE / f"{name}.tri").read_bytes()
    assert len(data) == GOLDEN[name]["bytes"]
    assert zlib.crc32(data) == GOLDEN[name]["crc32"]
    return data


def test_every_case_has_its_file() -> None:
    assert _tool().due().keys() <= GOLDEN.keys()
    assert {p.stem for p in HERE.glob("*.tri")} == set(GOLDEN)


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(name: str) -> None:
    data, facts = _read(name), GOLDEN[name]
    verify(data)  # Compares the decoded symbols with the CRC in each unit.
    decoded = ImageCodec().decode(data).pixels
    assert list(decoded.shape) == facts["shape"]
    case = _tool().CASES.get(name)
    if case is not None:
        # Another machine may round pixels differently; a better synthesis may only improve them.
        assert _tool().psnr(decoded, case.picture().pixels) > facts["psnr"] - 0.05


@pytest.mark.parametrize("name", SOUNDS)
def test_sounds(name: str) -> None:
    data, facts = _read(name), GOLDEN[name]
    AudioCodec().verify(data)
    decoded = AudioCodec().decode(data)
    assert (list(decoded.samples.shape), decoded.rate) == (facts["shape"], facts["rate"])
    case = _tool().SOUND_CASES.get(name)
    if case is not None:
        assert _tool().snr(decoded.samples, case.sound()) > facts["snr"] - 0.05


@pytest.mark.parametrize("name", CLIPS)
def test_clips(name: str) -> None:
    data, facts = _read(name), GOLDEN[name]
    VideoCodec().verify(data)
    decoded = VideoCodec().decode(data).y
    assert list(decoded.shape) == facts["shape"]
    case = _tool().VIDEO_CASES.get(name)
    if case is not None:
        assert _tool().psnr(decoded, case.clip().y) > facts["psnr"] - 0.05


def test_sounds_to_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each case of sound can be made, whatever weights will be the first; here with tiny ones."""
    path = tmp_path / "tiny-light.v1.safetensors"
    save_weights(tiny_sound_model(), path, name="tiny-light.v1", architecture="audio-light")
    monkeypatch.setenv("TRIODE_HOME", str(tmp_path))
    cases = _tool().sound_cases("tiny-light.v1", 8000)
    found = {name.removeprefix("tiny-light.v1-"): _tool().encode(case)[1] for name, case in cases.items()}
    assert found["sample"]["shape"] == [1, 1]
    assert (found["stereo"]["shape"], found["stereo"]["rate"]) == ([2, 57_330], 44_100)
    assert [len(found[name]["symbols_crc32"]) for name in ("voice", "indexed")] == [3, 94]
    assert found["silence"]["shape"] == [3, 48_510]
    assert found["best"]["snr"] > found["voice"]["snr"]

"""Pairs for the ears: both are there, and ours is never the larger one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from triode.io.audio import read_sound, write_sound
from triode.media import Sound

pytest.importorskip("av")
TOOL = Path(__file__).resolve().parents[2] / "tools" / "make_samples.py"


def test_pairs(tmp_path: Path) -> None:
    t = np.arange(16000) / 16000
    noise = 0.01 * np.random.default_rng(0).normal(size=len(t))
    samples = np.float32(0.3 * np.sin(2 * np.pi * (200 + 80 * t) * t) + noise)[None]
    write_sound(tmp_path / "hum.wav", Sound(samples, 16000))
    command = [sys.executable, str(TOOL), str(tmp_path / "hum.wav"), "-o", str(tmp_path / "out"), "--kbps", "12"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    opus, ours = map(int, re.findall(r"(\d+) bytes", done.stdout))
    assert 0.8 * opus < ours <= opus
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"hum.flac", "hum-opus-12.flac", "hum-triode-12.flac"}
    assert read_sound(tmp_path / "out" / "hum-triode-12.flac").samples.shape == (1, 16000)

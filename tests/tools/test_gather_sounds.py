"""Recordings gathered for training: what is joined, cut, limited and left out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")
soundfile = pytest.importorskip("soundfile")

TOOL = Path(__file__).resolve().parents[2] / "tools" / "gather_sounds.py"
RATE = 8000


def tone(path: Path, seconds: float, *, rate: int = RATE, channels: int = 1, level: float = 0.5) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    wave = level * np.sin(np.arange(int(seconds * rate)) * 0.3)
    soundfile.write(path, np.repeat(wave[:, None], channels, 1), rate)


def gather(folder: Path, out: Path, *options: str) -> str:
    done = subprocess.run(
        [sys.executable, str(TOOL), str(folder), "-o", str(out), *options], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_joins_cuts_limits_and_leaves_out(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    for number in range(6):
        tone(folder / "short" / f"{number}.wav", 0.5)
    tone(folder / "long" / "album.flac", 60.0, channels=2)
    tone(folder / "quiet" / "hum.wav", 2.0, level=0.001)
    tone(folder / "low" / "phone.wav", 2.0, rate=4000)
    (folder / "broken").mkdir()
    (folder / "broken" / "text.wav").write_text("no sound")

    said = gather(folder, out, "--piece", "2", "--most", "0.2")

    lengths = {path.name: soundfile.info(path).duration for path in out.iterdir()}
    short = [seconds for name, seconds in lengths.items() if "short" in name]
    long = [seconds for name, seconds in lengths.items() if "long" in name]
    assert sum(short) == pytest.approx(3.0, abs=0.01)
    assert len(short) < 6
    assert len(long) == 6
    assert all(seconds == pytest.approx(2.0) for seconds in long)
    assert len(lengths) == len(short) + len(long)
    assert soundfile.info(next(out.glob("*long*"))).channels == 2
    assert "min in all" in said


def test_nothing_to_gather(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    assert gather(tmp_path / "in", tmp_path / "out") == "nothing found\n"

"""Golden files decode to their symbols on emulated other machines: other instruction sets, threads and autocast.

Every unit carries the CRC-32 of its symbols and the weights carry a known answer for the latents, so that a process
which verifies all files has decoded the same integers. Files of sound made with tiny weights go along. What such a
machine encodes, this one decodes to the symbols that the other had: choices of an encoder may differ, decoding not.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from models.tiny_audio import tiny_sound_model, tone

from triode.codecs.audio import AudioCodec
from triode.media import Sound
from triode.models.weights import save_weights

FILES = sorted(Path(__file__).parent.glob("*.tri"))
TINY = "tiny-light.v1"
VERIFY = """
import sys, contextlib, numpy, torch
from pathlib import Path
from triode.codecs.audio import AudioCodec
from triode.codecs.image import verify
from triode.codecs.video import VideoCodec
from triode.eval.items import guess_media
from triode.media import Sound
bf16, samples, out = sys.argv[1] == "bf16", Path(sys.argv[2]), Path(sys.argv[3])
check = {"image": verify, "audio": AudioCodec().verify, "video": VideoCodec().verify}
with torch.autocast("cpu", dtype=torch.bfloat16) if bf16 else contextlib.nullcontext():
    for path in map(Path, sys.argv[4:]):
        check[guess_media(path)](path.read_bytes())
    out.write_bytes(AudioCodec("tiny-light.v1", chunk_seconds=1).encode(Sound(numpy.load(samples), 11025)).data)
print("verified", len(sys.argv) - 4)
"""
MACHINES = {
    "default": {"ATEN_CPU_CAPABILITY": "default"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "avx512": {"ATEN_CPU_CAPABILITY": "avx512"},
    "onednn-sse41": {"ONEDNN_MAX_CPU_ISA": "SSE41"},
    "all-lowered": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "COMPATIBLE"},
    "one-thread": {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    "two-threads": {"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"},
    "bf16-autocast": {},
}
NEEDS = {"avx2": {"AVX2", "AVX512"}, "avx512": {"AVX512"}}
"""What a processor must be able to do to be told to."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny weights for sound, two files made with them, and samples to encode."""
    folder = tmp_path_factory.mktemp("home")
    path = folder / f"{TINY}.safetensors"
    save_weights(tiny_sound_model(), path, name=TINY, architecture="audio-light")
    np.save(folder / "samples.npy", np.stack([tone(15_000, seed) for seed in range(2)]))
    for quality in (10, 100):
        sound = Sound(np.stack([tone(20_000, seed) for seed in range(3)]), 8000)
        data = AudioCodec(str(path), chunk_seconds=1).encode(sound, quality=quality).data
        assert data is not None
        (folder / f"{quality}.tri").write_bytes(data)
    return folder


@pytest.mark.parametrize("machine", MACHINES)
def test_symbols_are_the_same(machine: str, home: Path) -> None:
    able = torch.backends.cpu.get_cpu_capability()
    if able not in NEEDS.get(machine, {able}):
        pytest.skip(f"this processor has {able}")
    mode = "bf16" if machine == "bf16-autocast" else "plain"
    files, made = [*FILES, *sorted(home.glob("??*.tri"))], home / f"{machine}.out"
    command = [sys.executable, "-c", VERIFY, mode, home / "samples.npy", made, *files]
    env = {**os.environ, **MACHINES[machine], "TRIODE_HOME": str(home)}
    done = subprocess.run([*map(str, command)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == f"verified {len(files)}"
    assert len(files) == len(FILES) + 2 > 2
    info = AudioCodec(str(home / f"{TINY}.safetensors")).verify(made.read_bytes())
    assert (info.samples, info.chunks) == (15_000, 2)

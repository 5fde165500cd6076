"""Golden files decode to their symbols on emulated other machines: other instruction sets, threads and autocast.

Every unit carries the CRC-32 of its symbols and the weights carry a known answer for the latents, so that a process
which verifies all files has decoded the same integers.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FILES = sorted(Path(__file__).parent.glob("*.tri"))
VERIFY = """
import sys, contextlib, torch
from pathlib import Path
from triode.codecs.image import verify
bf16 = sys.argv[1] == "bf16"
with torch.autocast("cpu", dtype=torch.bfloat16) if bf16 else contextlib.nullcontext():
    for name in sys.argv[2:]:
        verify(Path(name).read_bytes())
print("verified", len(sys.argv) - 2)
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


@pytest.mark.parametrize("machine", MACHINES)
def test_symbols_are_the_same(machine: str) -> None:
    mode = "bf16" if machine == "bf16-autocast" else "plain"
    command = [sys.executable, "-c", VERIFY, mode, *map(str, FILES)]
    done = subprocess.run(command, env={**os.environ, **MACHINES[machine]}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == f"verified {len(FILES)}"
    assert FILES

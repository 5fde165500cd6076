"""The same bytes decode to the same latent under other instruction sets, thread counts and autocast."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from entropy.small import small_latent, small_model, state_arrays
from reference.decoder import decode_unit

from triode.entropy.coder import RangeWriter
from triode.models.image.image_light import ImageLightConfig

TESTS = Path(__file__).resolve().parent.parent
CONFIG = ImageLightConfig(latent=64, hyper=16, fine=8, coarse=8, context=32, features=48, parameters=24)
SIZE, Q = (21, 34), 41

CHILD = """
import contextlib, hashlib, sys
import numpy as np, torch
from entropy.test_isa_matrix import CONFIG, SIZE, Q
from triode.entropy.coder import RangeReader
from triode.models.image.image_light import ImageLight

state = np.load(sys.argv[1])
model = ImageLight(CONFIG).eval()
model.export()
tensors = {name: torch.from_numpy(state[name]) for name in state if name != "payload"}
assert not model.load_state_dict(tensors, strict=False).unexpected_keys
contexts = [
    contextlib.nullcontext(),
    torch.autocast("cpu", torch.bfloat16),
    torch.inference_mode(),
]
torch.set_float32_matmul_precision("medium")
for flush in (False, True):
    torch.set_flush_denormal(flush)
    for context in contexts:
        reader = RangeReader(state["payload"].tobytes())
        with context:
            y_hat = model.decode(SIZE, torch.tensor([Q]), reader)
        print(hashlib.sha256(y_hat.numpy().tobytes()).hexdigest(), reader.crc)
print(torch.backends.cpu.get_cpu_capability(), torch.get_num_threads(), file=sys.stderr)
"""

MACHINES = {
    "as it is": {},
    "baseline": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"},
    "avx2, 2 threads": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "OMP_NUM_THREADS": "2"},
    "avx512, 1 thread": {"ATEN_CPU_CAPABILITY": "avx512", "MKL_CBWR": "AVX2", "OMP_NUM_THREADS": "1"},
    "baseline, 2 threads": {
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "OMP_NUM_THREADS": "2",
    },
}


@pytest.fixture(scope="module")
def unit(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Write state and payload; return their file and the line that every child must print."""
    model = small_model(2, CONFIG)
    writer = RangeWriter()
    y_hat = model.encode(small_latent(*SIZE, channels=CONFIG.latent), torch.tensor([Q]), writer)
    state, payload = state_arrays(model), writer.getvalue()
    path = tmp_path_factory.mktemp("isa") / "unit.npz"
    np.savez(path, payload=np.frombuffer(payload, dtype=np.uint8), **state)
    reference = decode_unit(state, CONFIG, payload, SIZE, Q)
    latent = (reference.y_hat[None] / 1024).astype(np.float32)
    assert np.array_equal(latent, y_hat.numpy())
    return path, f"{hashlib.sha256(latent.tobytes()).hexdigest()} {reference.crc}"


@pytest.mark.parametrize("machine", MACHINES)
def test_same_latent(machine: str, unit: tuple[Path, str]) -> None:
    able = torch.backends.cpu.get_cpu_capability()
    if "avx512" in machine and able != "AVX512":
        pytest.skip(f"this processor has {able}")
    path, wanted = unit
    settings = {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]), **MACHINES[machine]}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)], env={**os.environ, **settings}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == [wanted] * 6

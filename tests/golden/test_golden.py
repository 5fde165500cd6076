"""Golden bitstreams decode for ever: to the same symbols, and to pixels no worse than when they were made."""

from __future__ import annotations

import importlib.util
import json
import zlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from triode.codecs.image import ImageCodec, verify

HERE = Path(__file__).parent
GOLDEN = json.loads((HERE / "golden.json").read_text())


def _tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_golden", HERE.parent.parent / "tools" / "make_golden.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules["make_golden"] = module
    spec.loader.exec_module(module)
    return module


def test_every_case_has_its_file() -> None:
    assert set(_tool().CASES) <= set(GOLDEN)
    assert {p.stem for p in HERE.glob("*.tri")} == set(GOLDEN)


@pytest.mark.parametrize("name", sorted(GOLDEN))
def test_golden(name: str) -> None:
    data = (HERE / f"{name}.tri").read_bytes()
    facts = GOLDEN[name]
    assert len(data) == facts["bytes"]
    assert zlib.crc32(data) == facts["crc32"]
    verify(data)  # Compares the decoded symbols with the CRC in each unit.
    decoded = ImageCodec().decode(data).pixels
    assert list(decoded.shape) == facts["shape"]
    case = _tool().CASES.get(name)
    if case is not None:
        error = np.mean((decoded.astype(float) - case.picture().pixels) ** 2)
        # Another machine may round pixels differently; a better synthesis may only improve them.
        assert -10 * np.log10(max(float(error), 1e-6) / 255**2) > facts["psnr"] - 0.05

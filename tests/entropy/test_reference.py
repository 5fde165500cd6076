"""The library and the NumPy int64 decoder agree on every symbol and on the latent, to the last bit."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import reference.decoder
import torch
from entropy.small import SMALL, small_latent, small_model, state_arrays
from reference.decoder import CorruptError, decode_unit

from triode.entropy.coder import RangeReader, RangeWriter
from triode.entropy.exact.layers import to_fixed
from triode.models.image.image_light import ImageLight, ImageLightConfig


@pytest.fixture(scope="module")
def model() -> ImageLight:
    return small_model()


def compare(model: ImageLight, config: ImageLightConfig, size: tuple[int, int], q: int) -> RangeWriter:
    y, rate, writer = small_latent(*size, seed=q, channels=config.latent), torch.tensor([q]), RangeWriter()
    encoded = model.encode(y, rate, writer)
    payload = writer.getvalue()
    reader = RangeReader(payload)
    decoded = model.decode(size, rate, reader)
    unit = decode_unit(state_arrays(model), config, payload, size, q)
    assert torch.equal(decoded, encoded)
    assert unit.crc == reader.crc == writer.crc
    assert np.array_equal(unit.y_hat, to_fixed(decoded)[0].numpy())
    z = model.entropy.prior.decode(unit.z.shape, RangeReader(payload))
    assert np.array_equal(unit.z, z[0].numpy())
    return writer


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (3, 1), (4, 4), (5, 7), (13, 9)])
@pytest.mark.parametrize("q", [0, 17, 63])
def test_same_symbols(model: ImageLight, size: tuple[int, int], q: int) -> None:
    writer = compare(model, SMALL, size, q)
    hyper = SMALL.hyper * -(-size[0] // 4) * -(-size[1] // 4)
    everything = SMALL.latent * size[0] * size[1]
    assert hyper < writer.count <= hyper + everything


@pytest.mark.parametrize("size", [(1, 1), (4, 4), (5, 7), (13, 9)])
@pytest.mark.parametrize("q", [0, 17, 63])
def test_same_symbols_of_narrow_networks(size: tuple[int, int], q: int) -> None:
    config = replace(SMALL, narrow=True)
    compare(small_model(3, config), config, size, q)


def test_the_comparison_reaches_all_kinds_of_symbols(model: ImageLight) -> None:
    """Skipped, coded and escaped symbols, every step, most tables, and saturated latents occur in these tests."""
    seen: list[np.ndarray] = []

    class Spy(RangeWriter):
        def write(self, symbols, index, tables):
            last = tables.offsets[index] + tables.sizes[index] - 1
            seen.append(np.stack([index, (symbols >= last) | (symbols < tables.offsets[index])]))
            return super().write(symbols, index, tables)

    y_hat = model.encode(small_latent(13, 9, seed=17), torch.tensor([17]), Spy())
    assert len(seen) == 5
    index, escaped = np.concatenate(seen[1:], axis=1)
    assert len(np.unique(index)) > 40
    assert 0.01 < escaped.mean() < 0.5
    assert len(index) < 0.95 * y_hat.numel()
    assert y_hat.abs().max() > 8191


def test_other_widths() -> None:
    config = ImageLightConfig(latent=8, hyper=4, fine=8, coarse=8, context=12, features=20, parameters=16, anchors=2)
    compare(small_model(5, config), config, (6, 3), 33)


def test_corrupt_payload(model: ImageLight) -> None:
    outcomes = set()
    for byte in range(0, 256, 17):
        payload = bytes([byte]) * 30
        try:
            decoded = model.decode((4, 4), torch.tensor([30]), RangeReader(payload))
        except ValueError:
            outcomes.add("error")
            with pytest.raises(CorruptError):
                decode_unit(state_arrays(model), SMALL, payload, (4, 4), 30)
            continue
        outcomes.add("latent")
        unit = decode_unit(state_arrays(model), SMALL, payload, (4, 4), 30)
        assert np.array_equal(unit.y_hat, to_fixed(decoded)[0].numpy())
    assert "latent" in outcomes


def test_reference_is_independent() -> None:
    tree = ast.parse(Path(reference.decoder.__file__).read_text())
    roots = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    roots |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert roots == {
        "__future__",
        "zlib",
        "bisect",
        "collections.abc",
        "dataclasses",
        "typing",
        "numpy",
        "numpy.typing",
    }

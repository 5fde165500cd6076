"""Rate-distortion optimised quantisation: the choice is the cheaper one, and decoders need no notice of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from entropy.context.test_model import CHANNELS, SCHEDULES, Q, hyper_of, model_of

from triode.entropy.coder import CountingWriter, RangeReader, RangeWriter
from triode.entropy.exact.layers import to_fixed
from triode.entropy.gaussian import gaussian_tables
from triode.entropy.rdoq import chosen, shrink

TABLES = gaussian_tables()


def bits(symbol: int, table: int) -> float | None:
    """Return the code length of a symbol, None where it needs an escape."""
    entry = symbol - int(TABLES.offsets[table])
    if not 0 <= entry < TABLES.sizes[table] - 1:
        return None
    return float(TABLES.bits[TABLES.starts[table] + entry])


@pytest.mark.parametrize("price", [0.0, 0.5, 4.0, 1e9])
def test_each_choice_is_the_cheaper_one(price: float) -> None:
    rng = np.random.default_rng(0)
    index = rng.integers(1, 64, 3000).astype(np.uint8)
    values = rng.normal(0, 0.15, 3000) * 1.13 ** index.astype(float)
    values[:200] *= 30
    rounded = np.rint(values).astype(np.int32)
    weight = price * rng.uniform(0.5, 1.5, 3000)
    found = rounded.copy()
    shrink(values, found, index, TABLES, weight)
    for value, nearest, table, w, taken in zip(values, rounded, index, weight, found, strict=True):
        less = nearest - np.sign(nearest)
        now, then = bits(nearest, table), bits(less, table)
        if now is None or now + w * (value - nearest) ** 2 <= then + w * (value - less) ** 2:
            assert taken == nearest
        else:
            assert taken == less
    assert (found != rounded).any() == (price < 1e9)


@pytest.mark.parametrize("name", SCHEDULES)
def test_encoding_costs_less_and_decodes_as_ever(name: str) -> None:
    model, hyper = model_of(SCHEDULES[name]), to_fixed(hyper_of(6, 8))
    y = torch.randn(1, CHANNELS, 6, 8, generator=torch.Generator().manual_seed(2)) * 3
    weight = torch.linspace(0.5, 3.0, CHANNELS)
    costs = []
    for price in (None, weight):
        writer, counter = RangeWriter(), CountingWriter()
        y_hat = model.encode(y, hyper, Q, writer, (5, 7), price)
        model.encode(y, hyper, Q, counter, (5, 7), price)
        assert torch.equal(model.decode((CHANNELS, 6, 8), hyper, Q, RangeReader(writer.getvalue()), (5, 7)), y_hat)
        error = (y_hat[:, :, :5, :7] / 1024 - y[:, :, :5, :7]).square().sum((0, 2, 3))
        costs.append((counter.bits, counter.bits + float((weight * error).sum())))
    assert costs[1][0] < costs[0][0]
    assert costs[1][1] < costs[0][1]


@pytest.mark.parametrize("price", [0.0, 0.5, 4.0, 1e9])
def test_training_chooses_as_encoders_do(price: float) -> None:
    rng = np.random.default_rng(1)
    index = rng.integers(0, 50, 20_000)
    values = rng.normal(0, 0.15, 20_000) * 1.13 ** index.astype(float)
    weight = price * rng.uniform(0.5, 1.5, 20_000)
    expected = np.rint(values).astype(np.int32)
    shrink(values, expected, index.astype(np.uint8), TABLES, weight)
    expected[index == 0] = 0
    tensors = (torch.from_numpy(a).float().view(1, 100, 10, 20) for a in (values, index + 0.3, weight))
    found = chosen(*tensors).flatten().numpy()
    # In floats a tie may fall to the other side; likelihoods have a floor, far out, where nothing is saved.
    assert (found != expected).mean() < 2e-3

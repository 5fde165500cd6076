"""Codes, vectors and losses against the papers' definitions, written out in NumPy float64 from the saved state."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from triode.entropy.vq import (
    FSQ,
    FactorisedVQ,
    GroupResidualVQ,
    GumbelVQ,
    MaskedChannelResidualVQ,
    MultiScaleResidualVQ,
    PlainVQ,
    ProductVQ,
    ResidualVQ,
    SimVQ,
    VectorQuantizer,
)
from triode.entropy.vq.base import code_statistics

Array = NDArray[np.float64]
DIM, FRAMES, SIZE = 12, 10, 16
Coded = tuple[list[NDArray[np.int64]], Array, float]
"""Codes a stage, decoded vectors (F, D), loss."""


def arrays(quantizer: torch.nn.Module) -> dict[str, Array]:
    return {name: tensor.double().numpy() for name, tensor in quantizer.state_dict().items()}


def mse(a: Array, b: Array) -> float:
    return float(np.mean((a - b) ** 2))


def choose(x: Array, entries: Array) -> NDArray[np.int64]:
    distances = ((x[:, None, :] - entries[None]) ** 2).sum(2)
    return distances.argmin(1)


def unit(x: Array) -> Array:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def plain(x: Array, entries: Array, codebook: float, commitment: float) -> Coded:
    codes = choose(x, entries)
    return [codes], entries[codes], (codebook + commitment) * mse(x, entries[codes])


def linear(state: dict[str, Array], name: str, x: Array) -> Array:
    if f"{name}.weight" in state:
        weight = state[f"{name}.weight"]
    else:
        length, direction = (state[f"{name}.parametrizations.weight.original{i}"] for i in range(2))
        weight = length * unit(direction)
    return x @ weight.T + state.get(f"{name}.bias", 0)


def factorised(x: Array, state: dict[str, Array], name: str = "") -> Coded:
    low = linear(state, f"{name}project_in", x)
    entries = state[f"{name}codebook.entries"]
    codes = choose(unit(low), unit(entries))
    return [codes], linear(state, f"{name}project_out", entries[codes]), 1.25 * mse(low, entries[codes])


def compare(quantizer: VectorQuantizer, x: Tensor, expected: list[Coded]) -> None:
    out = quantizer.eval()(x)
    for b, (codes, values, loss) in enumerate(expected):
        assert len(codes) == len(out.codes)
        for code, found in zip(codes, out.codes, strict=True):
            assert np.array_equal(code, found[b].numpy())
        np.testing.assert_allclose(out.values[b].detach().numpy().T, values, atol=1e-5)
        assert float(out.loss[b].detach()) == pytest.approx(loss, rel=1e-4)


@pytest.fixture
def x() -> Tensor:
    return torch.randn(2, DIM, FRAMES, generator=torch.Generator().manual_seed(0))


def rows(x: Tensor) -> list[Array]:
    return [sample.T.double().numpy() for sample in x]


def randomise(quantizer: VectorQuantizer) -> VectorQuantizer:
    """Give codebooks the scale of the features, as training would."""
    generator = torch.Generator().manual_seed(5)
    for name, tensor in quantizer.state_dict().items():
        if name.endswith("entries"):
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.7)
    return quantizer


@pytest.mark.parametrize("ema", [True, False])
def test_plain(x: Tensor, ema: bool) -> None:
    quantizer = randomise(PlainVQ(DIM, SIZE, ema=ema, commitment=0.4))
    entries = arrays(quantizer)["codebook.entries"]
    compare(quantizer, x, [plain(row, entries, 0 if ema else 1, 0.4) for row in rows(x)])


@pytest.mark.parametrize("normalised", [True, False])
def test_factorised(x: Tensor, normalised: bool) -> None:
    quantizer = randomise(FactorisedVQ(DIM, SIZE, 4, normalised=normalised, bias=not normalised))
    compare(quantizer, x, [factorised(row, arrays(quantizer)) for row in rows(x)])


@pytest.mark.parametrize("average", [True, False])
def test_residual(x: Tensor, average: bool) -> None:
    quantizer = randomise(ResidualVQ([PlainVQ(DIM, SIZE) for _ in range(3)], average=average))
    state = arrays(quantizer)
    expected: list[Coded] = []
    for row in rows(x):
        codes, total, loss = [], np.zeros_like(row), 0.0
        for i in range(3):
            found, values, error = plain(row - total, state[f"quantizers.{i}.codebook.entries"], 0, 1)
            codes += found
            total = total + values
            loss += error / (3 if average else 1)
        expected.append((codes, total, loss))
    compare(quantizer, x, expected)


def test_group_residual(x: Tensor) -> None:
    quantizer = randomise(GroupResidualVQ(DIM, SIZE, groups=2, depth=2))
    state = arrays(quantizer)
    expected: list[Coded] = []
    for row in rows(x):
        codes, total, loss = [], np.zeros_like(row), 0.0
        for stage in range(2):  # as published: all groups of a stage, then the next stage; loss a mean over both
            parts = []
            for group in range(2):
                part = (row - total)[:, 6 * group : 6 * group + 6]
                entries = state[f"quantizers.{group}.quantizers.{stage}.codebook.entries"]
                found, values, error = plain(part, entries, 1, 0.25)
                codes += found
                parts.append(values)
                loss += error / 4
            total = total + np.concatenate(parts, 1)
        expected.append((codes, total, loss))
    compare(quantizer, x, expected)


def test_multiscale(x: Tensor) -> None:
    quantizer = randomise(MultiScaleResidualVQ(DIM, SIZE, 4, strides=(4, 2, 1)))
    state = arrays(quantizer)
    expected: list[Coded] = []
    for row in rows(x):
        codes, total, loss = [], np.zeros_like(row), 0.0
        for i, stride in enumerate((4, 2, 1)):
            residual = row - total
            means = np.array([residual[t : t + stride].mean(0) for t in range(0, FRAMES, stride)])
            found, values, error = factorised(means, state, f"quantizers.{i}.quantizer.")
            codes += found
            total = total + np.repeat(values, stride, axis=0)[:FRAMES]
            loss += error
        expected.append((codes, total, loss))
    assert [len(code) for code in expected[0][0]] == [3, 5, 10]
    compare(quantizer, x, expected)


def test_masked(x: Tensor) -> None:
    x = torch.cat([x, x[:, :1]], dim=1)  # 13 channels in thirds of 4, 4 and 5
    quantizer = randomise(MaskedChannelResidualVQ([PlainVQ(13, SIZE) for _ in range(5)]))
    state = arrays(quantizer)
    expected: list[Coded] = []
    for row in rows(x):
        codes, total, loss = [], np.zeros_like(row), 0.0
        for i in range(5):
            seen = row - total
            if i < 3:
                seen = np.zeros_like(row)
                part = slice(13 * i // 3, 13 * (i + 1) // 3)
                seen[:, part] = row[:, part]
            found, values, error = plain(seen, state[f"quantizers.{i}.codebook.entries"], 0, 1)
            codes += found
            total = total + values
            loss += error / 5
        expected.append((codes, total, loss))
    compare(quantizer, x, expected)


def test_product(x: Tensor) -> None:
    x = x[:, :, :9]  # an odd number of frames: the last one twice
    quantizer = randomise(ProductVQ(DIM, SIZE, 4, groups=5, merge=2))
    state = arrays(quantizer)
    expected: list[Coded] = []
    for row in rows(x):
        merged = np.concatenate([row, row[-1:]]).reshape(5, 2 * DIM)
        bounds = [0, 4, 8, 12, 16, 24]
        coded = [
            factorised(merged[:, bounds[g] : bounds[g + 1]], state, f"quantizer.quantizers.{g}.") for g in range(5)
        ]
        values = np.concatenate([values for _, values, _ in coded], 1).reshape(10, DIM)[:9]
        expected.append(([found[0] for found, _, _ in coded], values, sum(loss for _, _, loss in coded) / 5))
    compare(quantizer, x, expected)


def test_fsq(x: Tensor) -> None:
    levels = (8, 5, 4, 3)
    quantizer = FSQ(levels, DIM)
    state = arrays(quantizer)
    expected: list[Coded] = []
    for row in rows(x * 3):
        low = linear(state, "project_in", row)
        code, values = np.zeros(len(row), np.int64), []
        for i, level in enumerate(levels):
            reach = (level - 1) * 1.001 / 2
            offset = 0.5 if level % 2 == 0 else 0.0
            digit = np.round(np.tanh(low[:, i] + np.arctanh(offset / reach)) * reach - offset)
            assert digit.min() >= -(level // 2)
            assert digit.max() <= (level - 1) // 2
            code += (digit + level // 2).astype(np.int64) * int(np.prod(levels[:i], dtype=np.int64))
            values.append(digit / (level // 2))
        expected.append(([code], linear(state, "project_out", np.stack(values, 1)), 0.0))
    compare(quantizer, x * 3, expected)


def test_sim(x: Tensor) -> None:
    quantizer = SimVQ(DIM, SIZE, 5)
    state = arrays(quantizer)
    compare(quantizer, x, [plain(row, linear(state, "transform", state["frozen"]), 1, 0.25) for row in rows(x)])


class TestGumbel:
    def test_takes_the_nearest_in_evaluation(self, x: Tensor) -> None:
        quantizer = randomise(GumbelVQ(DIM, SIZE))
        entries = arrays(quantizer)["codebook.entries"]
        expected = [plain(row, entries, 0, 0) for row in rows(x)]
        compare(quantizer, x, expected)
        with torch.no_grad():
            compare(quantizer, x, expected)

    def test_draws_by_distance_in_training(self) -> None:
        quantizer = GumbelVQ(2, 4, restart_ratio=0)
        with torch.no_grad():
            quantizer.codebook.entries.copy_(torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [3.0, 3.0]]))
            quantizer.temperature.fill_(1.5)
        point = torch.tensor([0.4, 0.3])
        torch.manual_seed(0)
        out = quantizer(point[None, :, None].repeat(1, 1, 50_000))
        assert torch.equal(out.values, quantizer.decode(out.codes))
        distances = ((quantizer.codebook.entries.detach() - point) ** 2).sum(1).numpy()
        weights = np.exp(-1.5 * distances / np.sqrt(4))
        shares = np.bincount(out.codes[0].numpy().ravel(), minlength=4) / 50_000
        np.testing.assert_allclose(shares, weights / weights.sum(), atol=0.01)

    def test_mixes_where_asked(self, x: Tensor) -> None:
        quantizer = GumbelVQ(DIM, 4, hard=False)
        values = quantizer(x).values
        entries = quantizer.codebook.entries.detach()
        mixture = torch.linalg.lstsq(entries.T, values.detach().transpose(1, 2).reshape(-1, DIM).T).solution
        torch.testing.assert_close(mixture.sum(0), torch.ones(2 * FRAMES), atol=1e-4, rtol=1e-4)
        assert mixture.min() > -1e-4
        assert mixture.max(0).values.min() < 0.9
        assert torch.equal(quantizer.eval()(x).values, quantizer.decode(quantizer.encode(x)))


class TestStatistics:
    def test_against_counts(self) -> None:
        codes = torch.tensor([[0, 0, 3, 3], [5, 5, 5, 0]])
        usage, perplexity = code_statistics(codes, 8)
        shares = np.array([3, 2, 3]) / 8
        assert float(usage) == 3 / 8
        assert float(perplexity) == pytest.approx(2 ** -(shares * np.log2(shares)).sum())
        usage, perplexity = code_statistics(codes, 8, torch.tensor([True, False]))
        assert (float(usage), float(perplexity)) == (0.25, pytest.approx(2))
        assert [float(v) for v in code_statistics(codes, 8, torch.zeros(2, dtype=torch.bool))] == [0, 1]

    def test_bounds(self) -> None:
        everything = torch.arange(8)[None]
        assert [float(v) for v in code_statistics(everything, 8)] == [1, pytest.approx(8)]

    def test_reported_for_each_stage(self, x: Tensor) -> None:
        quantizer = ResidualVQ([GroupResidualVQ(DIM, 4), PlainVQ(DIM, 8), FSQ((3,) * DIM)])
        out = quantizer(x)
        for s, (code, size) in enumerate(zip(out.codes, quantizer.codebook_sizes, strict=True)):
            shares = np.bincount(code.numpy().ravel(), minlength=size) / code.numel()
            used = shares[shares > 0]
            assert float(out.usage[s]) == pytest.approx(len(used) / size)
            assert float(out.perplexity[s]) == pytest.approx(np.exp(-(used * np.log(used)).sum()), rel=1e-5)

"""Gaussian conditional: likelihoods beside SciPy and CompressAI, and what the ladder of scales costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from triode.entropy.gaussian import (
    SCALE_COUNT,
    SCALE_MAX,
    SCALE_MIN,
    gaussian_bits,
    gaussian_likelihood,
    gaussian_tables,
    index_to_scale,
    scale_ladder,
    scale_to_index,
)

TABLES = gaussian_tables()
REACH = 2000


def masses(scale: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mass of unit intervals around integers, (scales, values), accurate in the tails."""
    from scipy.special import erfc

    inverse = np.sqrt(0.5) / scale[:, None]
    return 0.5 * (erfc((np.abs(values) - 0.5) * inverse) - erfc((np.abs(values) + 0.5) * inverse))


def test_ladder() -> None:
    ladder = scale_ladder()
    assert (len(ladder), ladder[0]) == (SCALE_COUNT, SCALE_MIN)
    assert ladder[-1] == pytest.approx(SCALE_MAX)
    assert np.allclose(np.diff(np.log(ladder)), np.log(SCALE_MAX / SCALE_MIN) / 63)
    index = torch.arange(64, dtype=torch.float64)
    assert np.allclose(index_to_scale(index).numpy(), ladder)
    assert torch.allclose(scale_to_index(index_to_scale(index)), index)
    assert index_to_scale(torch.tensor([-5.0, 80.0])).tolist() == pytest.approx([SCALE_MIN, SCALE_MAX])
    assert scale_to_index(torch.tensor([0.0, -1.0, 0.01])).tolist() == [0, 0, 0]


def test_index_gradient_leads_back() -> None:
    index = torch.tensor([-5.0, 30.0, 80.0], requires_grad=True)
    (up,) = torch.autograd.grad(-index_to_scale(index).sum(), index)
    (down,) = torch.autograd.grad(index_to_scale(index).sum(), index)
    assert [bool(g) for g in up] == [True, True, False]
    assert [bool(g) for g in down] == [False, True, True]


def test_likelihood_beside_scipy() -> None:
    norm = pytest.importorskip("scipy.stats").norm
    generator = np.random.default_rng(0)
    value, scale = generator.normal(0, 20, 5000), np.exp(generator.uniform(np.log(0.11), np.log(256), 5000))
    magnitude = np.abs(value)
    wanted = norm.cdf(-(magnitude - 0.5) / scale) - norm.cdf(-(magnitude + 0.5) / scale)
    double = gaussian_likelihood(torch.from_numpy(value), torch.from_numpy(scale)).numpy()
    assert np.allclose(double, np.maximum(wanted, 1e-9), rtol=1e-9, atol=0)
    single = gaussian_likelihood(torch.from_numpy(value).float(), torch.from_numpy(scale).float()).numpy()
    assert np.allclose(single, np.maximum(wanted, 1e-9), rtol=1e-3, atol=1e-8)


def test_likelihood_beside_compressai() -> None:
    models = pytest.importorskip("compressai.entropy_models")
    theirs = models.GaussianConditional(None).eval()
    y, scale, mean = torch.randn(3, 4, 8, 8) * 10, torch.rand(3, 4, 8, 8) * 20, torch.randn(3, 4, 8, 8)
    y_hat, likelihood = theirs(y, scale, mean)
    residual = torch.round(y - mean)
    assert torch.allclose(y_hat, residual + mean)
    ours = gaussian_likelihood(residual, scale.clamp_min(SCALE_MIN))
    assert torch.allclose(ours, likelihood, rtol=1e-4, atol=1e-7)
    bits = gaussian_bits(residual, scale_to_index(scale))
    assert bits.shape == (3,)
    assert torch.allclose(bits, -torch.log2(likelihood).flatten(1).sum(1), rtol=1e-4)


def test_gradients_are_finite_everywhere() -> None:
    residual = torch.tensor([0.0, 0.5, -0.5, 3.0, 1e4, -1e4], requires_grad=True)
    index = torch.tensor([-9.0, 0.0, 20.0, 63.0, 0.0, 90.0], requires_grad=True)
    gaussian_bits(residual[None], index[None]).sum().backward()
    assert residual.grad.isfinite().all()
    assert index.grad.isfinite().all()


def test_tables_are_the_gaussians() -> None:
    pytest.importorskip("scipy")
    for i, scale in enumerate(scale_ladder()):
        table = TABLES.table(i)
        low = int(TABLES.offsets[i])
        values = np.arange(low, low + len(table) - 1)
        assert low == -values[-1]
        wanted = masses(np.array([scale]), values)[0]
        # A mass may be one unit off for being at least 1; the largest makes up for all others.
        units = np.full(len(values), 2.0)
        units[table[:-1].argmax()] = len(table)
        assert (np.abs(table[:-1] - wanted * 2**24) <= units + wanted * len(table)).all()
        tail = max(0.0, 1 - wanted.sum())
        assert tail < 3e-9
        assert table[-1] <= 2


def test_nearest_index_costs_little() -> None:
    pytest.importorskip("scipy")
    scales = np.exp(np.linspace(np.log(SCALE_MIN), np.log(SCALE_MAX), 500))
    values = np.arange(-REACH, REACH + 1)
    true = masses(scales, values)
    ideal = -(true * np.log2(np.maximum(true, 1e-300))).sum(1)
    index = np.round(scale_to_index(torch.from_numpy(scales)).numpy()).astype(int)
    cost = np.empty_like(ideal)
    for k in range(SCALE_COUNT):
        code = np.full(len(values), 24.0 + 5)  # An escape, at least.
        low = int(TABLES.offsets[k])
        start = int(TABLES.starts[k])
        bits = TABLES.bits[start : start + int(TABLES.sizes[k]) - 1]
        code[low + REACH : low + REACH + len(bits)] = bits
        cost[index == k] = true[index == k] @ code
    assert 0 < cost.sum() / ideal.sum() - 1 < 0.0005

"""Quantisers: values, limits and gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from triode.entropy.quantize import (
    QUANTISERS,
    add_uniform_noise,
    quantised,
    round_ste,
    sga_round,
    soft_round,
    soft_round_conditional_mean,
)

X = torch.linspace(-3.3, 3.3, 529)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_round_ste(dtype: torch.dtype) -> None:
    x = torch.cat([X * 7, torch.tensor([0.49999997, 0.5, 1.5, -2.5, 1e7, 3e4 + 0.5])]).to(dtype).requires_grad_()
    out = round_ste(x)
    assert torch.equal(out, torch.round(x))
    (grad,) = torch.autograd.grad((out * out.detach()).sum(), x)
    assert torch.equal(grad, out)


def test_noise_is_uniform_and_repeatable() -> None:
    x = torch.full((100_000,), 3.0)
    noise = add_uniform_noise(x, torch.Generator().manual_seed(1)) - x
    assert noise.min() >= -0.5
    assert noise.max() < 0.5 + 1e-6
    assert torch.allclose(torch.histc(noise, 10, -0.5, 0.5) / len(noise), torch.tensor(0.1), atol=0.005)
    assert torch.equal(add_uniform_noise(x, torch.Generator().manual_seed(1)) - x, noise)
    y = torch.zeros(3, requires_grad=True)
    assert torch.autograd.grad(add_uniform_noise(y).sum(), y)[0].tolist() == [1, 1, 1]


def test_stand_ins_for_rounding() -> None:
    torch.manual_seed(0)
    for quantiser in QUANTISERS:
        x = X.clone().requires_grad_()
        seen, rated = quantised(x, quantiser)
        assert torch.equal(seen, torch.round(X)) == (quantiser != "noise")
        assert torch.equal(rated, torch.round(X)) == (quantiser == "ste")
        assert torch.equal(seen, rated) == (quantiser != "mixed")
        for out in (seen, rated):
            assert (out - X).abs().max() <= 0.5 + 1e-6
            assert torch.autograd.grad(out.sum(), x, retain_graph=True)[0].unique().tolist() == [1]


class TestSoftRound:
    def test_is_the_identity_when_hot(self) -> None:
        assert torch.allclose(soft_round(X, 20.0), X, atol=1e-3)

    def test_rounds_when_cold(self) -> None:
        away = X[(X - X.floor() - 0.5).abs() > 0.05]
        assert torch.allclose(soft_round(away, 0.01), torch.round(away), atol=1e-3)

    @pytest.mark.parametrize("temperature", [0.05, 0.3, 1.0, 5.0])
    def test_grows_and_keeps_integers_and_halves(self, temperature: float) -> None:
        out = soft_round(X.double(), temperature)
        assert (out.diff() >= 0).all()
        fixed = torch.arange(-3, 3.5, 0.5, dtype=torch.float64)
        assert torch.allclose(soft_round(fixed, temperature), fixed)

    @pytest.mark.parametrize("temperature", [0.1, 0.3, 1.0])
    def test_conditional_mean(self, temperature: float) -> None:
        # E[X | s(X) + U = y] for X uniform: X with s(X) in y +- 1/2 are equally likely, weighted by nothing but dx.
        x = torch.linspace(-4, 4, 800_001, dtype=torch.float64)
        soft = soft_round(x, temperature)
        for y in (-1.3, -0.5, 0.01, 0.5, 0.8, 1.45):
            inside = x[(soft > y - 0.5) & (soft < y + 0.5)]
            found = soft_round_conditional_mean(torch.tensor(y, dtype=torch.float64), temperature)
            assert float(found) == pytest.approx(float(inside.mean()), abs=2e-3)

    def test_conditional_mean_inverts(self) -> None:
        x = X.double() - 0.5
        assert torch.allclose(soft_round_conditional_mean(soft_round(x, 0.4) + 0.5, 0.4), x + 0.5, atol=1e-4)


class TestSga:
    def test_stays_between_floor_and_ceiling(self) -> None:
        out = sga_round(X, 0.5, torch.Generator().manual_seed(0))
        assert (out >= X.floor()).all()
        assert (out <= X.floor() + 1).all()
        assert torch.equal(out, sga_round(X, 0.5, torch.Generator().manual_seed(0)))

    def test_rounds_when_cold(self) -> None:
        away = X[(X - X.floor() - 0.5).abs() > 0.1]
        assert torch.allclose(sga_round(away, 0.01, torch.Generator().manual_seed(0)), torch.round(away), atol=1e-4)

    def test_prefers_the_nearer_and_is_finite_at_integers(self) -> None:
        x = torch.full((20_000,), 0.3)
        share = float((sga_round(x, 0.3, torch.Generator().manual_seed(0)) > 0.5).float().mean())
        # Gumbel-max: P(ceil) = sigmoid of the difference of the logits.
        logits = (torch.atanh(torch.tensor(0.3)) - torch.atanh(torch.tensor(0.7))) / 0.3
        assert share == pytest.approx(float(torch.sigmoid(logits)), abs=0.01)
        whole = torch.tensor([-1.0, 0.0, 5.0])
        assert torch.allclose(sga_round(whole, 0.5, torch.Generator().manual_seed(0)), whole, atol=1e-2)

    def test_gradient_pulls_towards_the_chosen_side(self) -> None:
        x = torch.tensor([0.3, 0.5, 0.7], dtype=torch.float64, requires_grad=True)

        def run(values: Tensor) -> Tensor:
            return sga_round(values, 0.5, torch.Generator().manual_seed(3))

        (grad,) = torch.autograd.grad(run(x).sum(), x)
        assert (grad > 0).all()
        step = 1e-6
        numeric = (run(x.detach() + step) - run(x.detach() - step)) / (2 * step)
        assert torch.allclose(grad, numeric, rtol=1e-4)


@pytest.mark.parametrize("function", [soft_round, soft_round_conditional_mean, sga_round])
@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_temperature_must_be_positive(function: Callable[[Tensor, float], Tensor], temperature: float) -> None:
    with pytest.raises(ValueError, match="must be > 0"):
        function(X, temperature)

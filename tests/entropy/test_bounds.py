"""The clamp whose gradient leads back into the range."""

from __future__ import annotations

import torch

from triode.entropy.bounds import soft_clamp


def test_values_and_gradients() -> None:
    x = torch.tensor([-3.0, -1.0, 0.5, 2.0, 5.0], requires_grad=True)
    out = soft_clamp(x, -1.0, 2.0)
    assert out.tolist() == [-1.0, -1.0, 0.5, 2.0, 2.0]
    # A step goes against the gradient, so below the range only negative gradients pass, above only positive ones.
    for sign, passed in ((1.0, [0, 1, 1, 1, 1]), (-1.0, [1, 1, 1, 1, 0])):
        (grad,) = torch.autograd.grad(out.sum() * sign, x, retain_graph=True)
        assert (grad * sign).tolist() == passed


def test_descent_returns_into_the_range() -> None:
    x = torch.tensor([-7.0, 9.0], requires_grad=True)
    optimiser = torch.optim.SGD([x], lr=0.5)
    for _ in range(40):
        optimiser.zero_grad()
        (soft_clamp(x, -1.0, 2.0) - torch.tensor([0.5, 0.5])).square().sum().backward()
        optimiser.step()
    assert torch.allclose(x, torch.tensor(0.5), atol=1e-3)

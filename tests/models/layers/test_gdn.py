"""GDN against its formula and against CompressAI's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from triode.models.layers.gdn import GDN, gdn_analysis, gdn_synthesis


def _perturbed(inverse: bool) -> GDN:
    g = torch.Generator().manual_seed(3)
    layer = GDN(5, inverse=inverse)
    with torch.no_grad():
        layer.beta.add_(0.3 * torch.randn(5, generator=g))
        layer.gamma.add_(0.2 * torch.randn(5, 5, generator=g))  # Some fall below the bound.
    return layer


@pytest.mark.parametrize("inverse", [False, True])
def test_formula(inverse: bool) -> None:
    layer = _perturbed(inverse)
    x = np.random.default_rng(0).normal(0, 3, (2, 5, 4, 6))
    beta = np.maximum(layer.beta.detach().double().numpy(), np.sqrt(1e-6 + 2**-36)) ** 2 - 2**-36
    gamma = np.maximum(layer.gamma.detach().double().numpy(), 2**-18) ** 2 - 2**-36
    pool = np.sqrt(beta[:, None, None] + np.einsum("ij,bjhw->bihw", gamma, x**2))
    expected = x * pool if inverse else x / pool
    found = layer(torch.from_numpy(x).float()).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=2e-5)


@pytest.mark.parametrize("inverse", [False, True])
def test_equals_compressai(inverse: bool) -> None:
    theirs_class = pytest.importorskip("compressai.layers").GDN
    ours, theirs = _perturbed(inverse), theirs_class(5, inverse=inverse)
    fresh = GDN(5, inverse=inverse)
    torch.testing.assert_close(fresh.beta, theirs.beta)
    torch.testing.assert_close(fresh.gamma, theirs.gamma)
    theirs.load_state_dict(ours.state_dict(), strict=False)
    inputs = [torch.randn(2, 5, 4, 6, generator=torch.Generator().manual_seed(4)).requires_grad_() for _ in range(2)]
    outputs = [layer(x) for layer, x in zip((ours, theirs), inputs, strict=True)]
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-6, atol=1e-6)
    for out in outputs:
        out.square().sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours.beta.grad, theirs.beta.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.gamma.grad, theirs.gamma.grad, rtol=1e-4, atol=1e-4)


def test_is_computed_in_float32_under_autocast() -> None:
    layer, x = _perturbed(False), torch.randn(1, 5, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer(x), layer(x))
        found = layer(x)
        narrow = layer(x.bfloat16())
    assert torch.equal(found, layer(x))
    assert narrow.dtype == torch.bfloat16


def test_transforms_have_the_same_stride() -> None:
    x = torch.rand(2, 3, 32, 48)
    y = gdn_analysis(4, 6)(x)
    assert y.shape == (2, 6, 2, 3)
    assert gdn_synthesis(4, 6)(y).shape == x.shape

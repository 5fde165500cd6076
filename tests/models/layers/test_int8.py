"""Pointwise convolutions on 8 bits."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from triode.models.layers import int8, products, strips
from triode.models.layers.blocks import DepthwiseBlock, DepthwiseBlocks
from triode.models.layers.int8 import Int8Conv2d, has_products


def layer(inputs=12, outputs=8, limit=2.0, seed=0):
    torch.manual_seed(seed)
    made = Int8Conv2d(inputs, outputs)
    with torch.no_grad():
        made.limit.fill_(limit)
        made.bias.copy_(torch.randn(outputs))
    return made


def in_integers(made, x):
    """Compute the layer with whole numbers, sums in 64 bits."""
    step = float(made.limit) / 128
    seen = (x / step).round().clamp(-128, 127).long()
    weight, scale = made.integers()
    sums = torch.einsum("oi,bihw->bohw", weight.long(), seen)
    return sums * (step * scale.view(-1, 1, 1)) + made.bias.view(-1, 1, 1)


@pytest.mark.parametrize("inputs", [1, 7, 12])
def test_is_what_its_text_says(inputs):
    made, x = layer(inputs), torch.randn(2, inputs, 5, 3) * 2
    assert torch.allclose(made(x), in_integers(made, x), atol=1e-5)
    assert (made(x) - F.conv2d(x.clamp(-2, 2), made.weight, made.bias)).abs().max() < 0.1


@given(st.integers(1, 40), st.integers(0, 10**6))
def test_pairs_of_weights_do_not_saturate(inputs, seed):
    made = layer(inputs, 5, seed=seed)
    with torch.no_grad():
        made.weight.copy_(torch.randn_like(made.weight) ** 3)
    weight, scale = made.integers()
    pairs = F.pad(weight.abs(), (0, inputs % 2)).unflatten(1, (-1, 2)).sum(2)
    assert bool((255 * pairs < 1 << 15).all())
    assert bool((weight * scale - made.weight.flatten(1)).abs().max(1).values.le(scale.flatten() * 0.501).all())


def test_everything_learns_within_limits():
    made, x = layer(), (torch.randn(1, 12, 4, 4) * 2).requires_grad_()
    made(x).square().sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in made.parameters())
    inside = x.detach().abs() < 1.98
    assert bool((x.grad[inside] != 0).all())
    assert bool((x.grad[x.detach().abs() > 2.01] == 0).all())


@pytest.mark.skipif(not has_products(), reason="PyTorch does not multiply bytes here")
class TestProducts:
    @torch.inference_mode()
    @pytest.mark.parametrize("inputs", [8, 30, 128])
    def test_as_floats(self, inputs):
        made, rows = layer(inputs), torch.randn(50, inputs) * 2
        expected = F.linear(made._seen(rows), made._weights(), made.bias)
        assert torch.allclose(made.product(rows, made.bias), expected, atol=1e-4)
        start = torch.randn(50, 8)
        out = start.clone()
        assert made.product(rows, made.bias, out) is out
        assert torch.allclose(out, start + expected, atol=1e-4)

    @torch.inference_mode()
    def test_as_much_as_bytes_hold(self):
        made = layer(64)
        made.weight.copy_(made.weight.sign() * torch.rand_like(made.weight).round().clamp_min(1e-9))
        rows = made.weight.flatten(1).sign()[:3] * 2
        expected = F.linear(made._seen(rows), made._weights())
        assert torch.allclose(made.product(rows, None), expected, rtol=1e-5)

    def test_weights_that_change(self):
        made, rows = layer(), torch.randn(9, 12)
        with torch.inference_mode():
            before = made.product(rows, None)
        with torch.no_grad():
            made.weight.mul_(-1)
        with torch.inference_mode():
            assert torch.allclose(made.product(rows, None), -before, atol=1e-5)
        with torch.no_grad():
            made.limit.mul_(0.01)
        with torch.inference_mode():
            assert made.product(rows, None).abs().max() < before.abs().max() / 10
        made.weight = torch.nn.Parameter(torch.zeros_like(made.weight))
        with torch.inference_mode():
            assert float(made.product(rows, None).abs().max()) == 0

    @torch.inference_mode()
    def test_copies_and_inference_tensors(self):
        made, rows = layer(), torch.randn(9, 12)
        expected = made.product(rows, None)
        assert torch.equal(copy.deepcopy(made).product(rows, None), expected)

    def test_another_build_of_pytorch(self, monkeypatch):
        made, rows = layer(), torch.randn(9, 12)
        with torch.inference_mode():
            expected = made.product(rows, made.bias)
            monkeypatch.setattr(int8, "has_products", lambda: False)
            assert torch.allclose(made.product(rows, made.bias), expected, atol=1e-4)
            assert torch.allclose(made.product(rows, None, torch.ones(9, 8)), expected - made.bias + 1, atol=1e-4)


def test_no_products_without_avx(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    assert not has_products.__wrapped__()


def test_no_products_in_a_build_that_lacks_them(monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")

    def fail(*_):
        raise NotImplementedError

    monkeypatch.setattr(Int8Conv2d, "_in_bytes", fail)
    assert not has_products.__wrapped__()


LAYERS = ("expand", "project", "gate", "merge")


def block(names, channels=8):
    torch.manual_seed(0)
    made = DepthwiseBlock(channels, int8=names)
    with torch.no_grad():
        for p in made.parameters():
            p.copy_(torch.randn_like(p) * 0.3)
        for name in names:
            getattr(made, name).limit.fill_(4.0)
    return made


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("names", [LAYERS, LAYERS[:3], LAYERS[2:], LAYERS[:1], LAYERS[3:]])
def test_blocks_in_strips(monkeypatch, batch, names):
    monkeypatch.setattr(products, "_ELEMENTS", 1)
    monkeypatch.setattr(strips, "_ELEMENTS", 200)
    made = block(names)
    x = torch.randn(batch, 8, 23, 6).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        expected = made(x)
    with torch.inference_mode():
        found = made(x)
        # Sums that differ in the last digit may be rounded to the next step.
        assert (found - expected).abs().max() < 0.2
        assert (found - expected).abs().mean() < 1e-3
        inside = x.clone(memory_format=torch.channels_last)
        assert made(inside, inside) is inside
        assert torch.allclose(inside, found, atol=1e-5)


def test_layers_of_blocks():
    blocks = DepthwiseBlocks(4, 3, int8=(("gate",), LAYERS))
    kinds = [[isinstance(getattr(b, name), Int8Conv2d) for name in LAYERS] for b in blocks]
    assert kinds == [[False, False, True, False], [True] * 4, [True] * 4]
    assert all(b.merge.bias is None for b in blocks)
    assert DepthwiseBlock(4, int8=("expand", "merge")).merge.bias is not None
    x = torch.randn(1, 4, 5, 5)
    assert torch.equal(blocks(x), x)
    with pytest.raises(ValueError, match="lacks: split"):
        DepthwiseBlock(4, int8=("split",))

"""Products, affine maps and rectified convolutions in integers, against Python's own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from triode.entropy.exact.fused import ExactRateAffine, RateAffine, RectifiedConv2d
from triode.entropy.exact.layers import ACTIVATION_MAX, ExactConv2d, exact_twin, from_fixed, to_fixed
from triode.entropy.exact.product import ExactProduct, Product
from triode.entropy.exact.state import entropy_state

LARGEST = 4 * ACTIVATION_MAX


def clamp(value):
    return max(-ACTIVATION_MAX, min(ACTIVATION_MAX, value))


@given(st.lists(st.tuples(st.integers(-LARGEST, LARGEST), st.integers(-LARGEST, LARGEST)), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_product_of_integers(pairs):
    a, b = (torch.tensor(side, dtype=torch.float64) for side in zip(*pairs, strict=True))
    found = exact_twin(Product())(a, b)
    assert found.tolist() == [clamp((x * y) >> 10) for x, y in pairs]


def test_product_is_near_the_float_one():
    a, b = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    exact = from_fixed(ExactProduct()(to_fixed(a), to_fixed(b)))
    assert torch.allclose(exact, Product()(a, b), atol=1e-2)


def affine(seed=0):
    generator = torch.Generator().manual_seed(seed)
    net = RateAffine(6, 3)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return net


@given(st.integers(0, 63), st.lists(st.integers(-LARGEST, LARGEST), min_size=6, max_size=6))
@settings(max_examples=60, deadline=None)
def test_affine_of_integers(point, values):
    twin = exact_twin(affine())
    x = torch.tensor(values, dtype=torch.float64).view(1, 6, 1, 1)
    found = twin(x, torch.tensor([point])).flatten().tolist()
    gains, biases = twin.gain.gain[point].tolist(), twin.bias.bias[point].tolist()
    assert found == [clamp(((v * g) >> 16) + b) for v, g, b in zip(values, gains, biases, strict=True)]


def test_affine_is_near_the_float_one():
    net, x, q = affine(), torch.randn(2, 6, 3, 4), torch.tensor([7, 40])
    exact = from_fixed(exact_twin(net)(to_fixed(x), q))
    assert torch.allclose(exact, net(x, q.float()), atol=1e-2)
    assert torch.allclose(net(x, q.float()), net.bias(net.gain(x, q.float()), q.float()))


def test_rows_are_made_anew_when_others_are_loaded():
    one, other = exact_twin(affine(0)), exact_twin(affine(1))
    x, q = torch.full((1, 6, 1, 1), 5000.0, dtype=torch.float64), torch.tensor([20])
    before = one(x, q)
    one.load_state_dict(other.state_dict())
    assert torch.equal(one(x, q), other(x, q))
    assert not torch.equal(one(x, q), before)
    assert sorted(entropy_state(one)) == ["bias.bias", "gain.gain"]
    broken = {**other.state_dict(), "gain.gain": torch.zeros(64, 6, dtype=torch.int32)}
    with pytest.raises(ValueError, match="Gains must lie"):
        one.load_state_dict(broken)


def test_gains_that_were_kept_move_with_the_module():
    twin = exact_twin(affine())
    assert isinstance(twin, ExactRateAffine)
    twin(torch.zeros(1, 6, 1, 1, dtype=torch.float64), torch.tensor([3]))
    assert twin.to("meta").ready().device.type == "meta"


@pytest.mark.parametrize("groups", [1, 6])
def test_rectified_convolution(groups):
    torch.manual_seed(0)
    net = RectifiedConv2d(6, 6, 3, padding=1, groups=groups)
    plain = nn.Conv2d(6, 6, 3, padding=1, groups=groups)
    plain.load_state_dict(net.state_dict())
    x = torch.randn(2, 6, 5, 7)
    assert torch.equal(net(x), plain(x).relu())
    twin = exact_twin(net)
    assert isinstance(twin, ExactConv2d)
    assert torch.equal(twin(to_fixed(x)), ExactConv2d(plain)(to_fixed(x)).clamp_min(0))
    assert float(twin(to_fixed(x)).min()) == 0

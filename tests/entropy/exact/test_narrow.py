"""Integers of 12 bits: what they are, that float32 holds them, and that float64 gives the same."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from threading import Barrier

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from triode.entropy.exact import narrow
from triode.entropy.exact.layers import ACTIVATION_MAX, ExactConv2d, exact_twin, to_fixed
from triode.entropy.exact.narrow import (
    NARROW_MAX,
    FirstRateGain,
    InnerRateBias,
    NarrowConv2d,
    NarrowLeakyReLU,
    NarrowOutputConv2d,
    OutputConv2d,
    narrow_twins,
    working_type,
)
from triode.entropy.rate import RateBias, RateGain


class Net(nn.Module):
    """Everything that narrow networks are made of."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.twins = narrow_twins()
        self.gain = FirstRateGain(8)
        self.stem = nn.Conv2d(8, 12, 3, padding=1)
        self.bias = InnerRateBias(12)
        self.act = nn.LeakyReLU(0.125)
        self.spatial = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.output = OutputConv2d(12, 16, 1, groups=4)
        with torch.no_grad():
            self.bias.bias.copy_(torch.randn_like(self.bias.bias))
            self.gain.log_gain.copy_(torch.randn_like(self.gain.log_gain) * 0.3)

    def forward(self, x, q):
        t = self.act(self.bias(self.stem(self.gain(x, q)), q))
        return self.output(self.act(t + self.spatial(t)))


def integers(shape, largest, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-largest, largest + 1, shape, generator=generator).double()


def in_python(conv, x, wider):
    """Compute a pointwise twin with Python's integers."""
    weight = conv.weight.flatten(1).tolist()
    out = []
    for w, b, s in zip(weight, conv.bias.tolist(), conv.shift.tolist(), strict=True):
        sums = [sum(int(a) * c for a, c in zip(column, w, strict=True)) + b for column in x.flatten(2)[0].t().tolist()]
        assert all(abs(total) < 1 << 24 for total in sums)
        out.append([total * (1 << wider) >> s for total in sums])
    return torch.tensor(out, dtype=torch.float64)


@pytest.mark.parametrize(
    ("source", "twin", "wider"), [(nn.Conv2d, NarrowConv2d, 0), (OutputConv2d, NarrowOutputConv2d, 4)]
)
def test_against_integers(source, twin, wider):
    torch.manual_seed(0)
    conv = twin(source(20, 6, 1))
    x = integers((1, 20, 3, 5), 2 * NARROW_MAX)
    least = ACTIVATION_MAX if wider else NARROW_MAX
    expected = in_python(conv, x, wider).clamp(-least, least)
    assert torch.equal(conv(x.float()).flatten(2)[0].double(), expected)


@given(st.integers(0, 10**6), st.sampled_from([1e-4, 0.1, 3.0]), st.sampled_from([0.0, 1.0, 25.0]))
def test_sums_stay_in_24_bits(seed, spread, offset):
    torch.manual_seed(seed)
    source = nn.Conv2d(64, 4, 1)
    with torch.no_grad():
        source.weight.mul_(8 * spread)
        source.bias.copy_(torch.randn(4) * offset)
    conv = NarrowConv2d(source)
    worst = conv.weight.double().abs().flatten(1).sum(1) * 2 * NARROW_MAX + conv.bias.double().abs()
    assert bool((worst < 1 << 24).all())
    x = 2 * NARROW_MAX * conv.weight[0].double().sign().view(1, -1, 1, 1)
    plain = conv.weight.double().flatten(1) @ x.flatten(1).t() + conv.bias.double()[:, None]
    expected = (plain * 2.0 ** -conv.shift.double()[:, None]).floor().clamp(-NARROW_MAX, NARROW_MAX)
    assert torch.equal(conv(x.float()).flatten(1).double().t(), expected)


def test_as_many_bits_as_fit():
    """One bit more in a channel's weights would leave the range."""
    torch.manual_seed(0)
    source = nn.Conv2d(128, 16, 1)
    conv = NarrowConv2d(source)
    finer = source.weight.detach().double().flatten(1) * 2.0 ** (conv.shift.double()[:, None] + 1)
    bound = finer.round().abs().sum(1) * 2 * NARROW_MAX + 2 * conv.bias.double().abs() + 1
    assert bool((bound >= 1 << 24).all())


def test_weights_that_do_not_fit():
    source = nn.Conv2d(4, 1, 1)
    with torch.no_grad():
        source.bias.fill_(1e6)
    with pytest.raises(ValueError, match=r"must stay below 2\*\*24"):
        NarrowConv2d(source)
    conv = NarrowConv2d(nn.Conv2d(64, 1, 1))
    state = conv.state_dict()
    state["weight"] = torch.full_like(state["weight"], 32767)
    with pytest.raises(ValueError, match=r"must stay below 2\*\*24"):
        conv.load_state_dict(state)


@pytest.mark.parametrize("seed", range(3))
def test_follows_the_floats(seed):
    net, x, q = Net(seed).eval(), torch.randn(1, 8, 6, 7) * 2, torch.tensor([17])
    with torch.no_grad():
        floating, fixed = net(x, q), exact_twin(net)(to_fixed(x), q)
    assert (floating - fixed / 1024).abs().max() < 0.08
    assert abs(float((floating - fixed / 1024).mean())) < 0.01, "rounding has a direction"


def test_the_same_in_float64(monkeypatch):
    net, x, q = Net().eval(), to_fixed(torch.randn(2, 8, 9, 7) * 4), torch.tensor([3, 60])
    twin = exact_twin(net)
    assert working_type() == torch.float32
    single = twin(x, q)
    monkeypatch.setattr(narrow, "_is_known", lambda: False)
    assert working_type() == torch.float64
    double = twin(x, q)
    assert double.dtype == torch.float64
    assert torch.equal(single.double(), double)


def test_threads_that_meet_a_fresh_network():
    """What is made once must not be seen half made."""
    x, q = to_fixed(torch.randn(1, 8, 5, 5)), torch.tensor([9])
    expected = exact_twin(Net())(x, q)
    for _ in range(20):
        twin, ready = exact_twin(Net()), Barrier(4)

        def run(twin=twin, ready=ready):
            ready.wait()
            return twin(x, q)

        with ThreadPoolExecutor(4) as pool:
            assert all(torch.equal(task.result(), expected) for task in [pool.submit(run) for _ in range(4)])


def test_in_whatever_modes():
    """Settings that round factors of float32 products must not reach these."""
    net, x, q = Net().eval(), to_fixed(torch.randn(1, 8, 33, 65) * 4), torch.tensor([30])
    twin = exact_twin(net)
    expected = twin(x, q).double()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(twin(x, q).double(), expected)
    before = torch.get_float32_matmul_precision()
    try:
        for precision in ("high", "medium"):
            torch.set_float32_matmul_precision(precision)
            assert working_type() == torch.float64
            assert torch.equal(twin(x, q).double(), expected)
    finally:
        torch.set_float32_matmul_precision(before)
    assert working_type() == torch.float32


def test_gain_rounds_and_limits():
    gain = exact_twin(Net().gain, narrow_twins())
    gain.gain.fill_(1 << 16)
    x = (
        torch.tensor([0, 7, 8, 9, 24, -8, -9, 10**6, -(10**6)], dtype=torch.float64)
        .view(1, 1, 1, -1)
        .repeat(1, 8, 1, 1)
    )
    expected = torch.tensor([0, 0, 0, 1, 2, 0, -1, NARROW_MAX, -NARROW_MAX], dtype=torch.float32)
    assert torch.equal(gain(x, torch.tensor([0]))[0, 0, 0], expected)


@given(st.integers(1, 1 << 24), st.lists(st.integers(-ACTIVATION_MAX, ACTIVATION_MAX), min_size=1, max_size=20))
def test_gain_is_the_same_of_latents_in_either_type(factor, values):
    gain = exact_twin(FirstRateGain(1), narrow_twins())
    gain.gain.fill_(factor)
    x = torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1)
    wide = gain(x, torch.tensor([0]))
    assert torch.equal(gain(x.float(), torch.tensor([0])), wide)
    # Ours to the integer, but where the product rounded to 24 bits lies on another side of a half.
    for value, found in zip(values, wide.flatten().tolist(), strict=True):
        exact = max(-NARROW_MAX, min(NARROW_MAX, round(Fraction(value * factor, 1 << 20))))
        assert abs(found - exact) <= (Fraction(value * factor, 1 << 20) % 1 != Fraction(1, 2))


def test_gains_that_float32_does_not_hold():
    source = FirstRateGain(1)
    with torch.no_grad():
        source.log_gain.fill_(math.log(257))
    with pytest.raises(ValueError, match="Gains must lie in"):
        exact_twin(source, narrow_twins())


@pytest.mark.parametrize("kind", [RateGain, RateBias])
def test_last_gains_and_biases_are_those_of_wide_networks(kind):
    source = kind(4)
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.copy_(torch.randn_like(parameter))
    narrow_one, wide = exact_twin(source, narrow_twins()), exact_twin(source)
    x, q = integers((1, 4, 9, 9), ACTIVATION_MAX), torch.tensor([33])
    assert torch.equal(narrow_one(x.float(), q).double(), wide(x, q))
    assert narrow_one(x.float(), q).dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(narrow_one(x, q), wide(x, q))


def test_leaky_relu_rounds():
    x = torch.tensor([-12.0, -8.0, -5.0, -3.0, 0.0, 5.0])
    assert NarrowLeakyReLU(0.125)(x).tolist() == [-2.0, -1.0, -1.0, 0.0, 0.0, 5.0]
    assert torch.equal(NarrowLeakyReLU(0.125)(x), F.leaky_relu(x, 0.125).round())
    with pytest.raises(ValueError, match="power of two"):
        NarrowLeakyReLU(0.1)


def test_networks_choose_their_twins():
    net = Net()
    assert isinstance(exact_twin(net).output, NarrowOutputConv2d)
    del net.twins
    wide = exact_twin(net)
    assert type(wide.output) is ExactConv2d
    x, q = torch.randn(1, 8, 4, 4), torch.tensor([5])
    with torch.no_grad():
        assert (wide(to_fixed(x), q) / 1024 - net(x, q)).abs().max() < 0.01

"""Rate points: interpolated tables, gains and biases."""

from __future__ import annotations

import pytest
import torch

from triode.entropy.rate import RATE_POINTS, RateBias, RateGain, interpolate_anchors


def test_anchors_stand_at_even_places_and_lines_between() -> None:
    table = torch.tensor([[0.0, 5.0], [1.0, 3.0], [9.0, 3.0], [27.0, -3.0]])
    places = torch.tensor([0.0, 21.0, 42.0, 63.0, 10.5, 52.5, -4.0, 99.0])
    wanted = torch.tensor([[0.0, 5], [1, 3], [9, 3], [27, -3], [0.5, 4], [18, 0], [0, 5], [27, -3]])
    assert torch.allclose(interpolate_anchors(table, places), wanted)
    assert torch.equal(interpolate_anchors(table[:1], places), table[:1].expand(8, -1))


def test_gain() -> None:
    gain = RateGain(3, anchors=4, init=torch.tensor([1.0, 2.0, 4.0, 16.0]))
    q = torch.tensor([0.0, 10.5, 63.0])
    assert torch.allclose(gain.gain(q), torch.tensor([1.0, 2**0.5, 16.0])[:, None].expand(-1, 3))
    x = torch.randn(3, 3, 2, 5)
    assert torch.allclose(gain(x, q), x * torch.tensor([1.0, 2**0.5, 16.0])[:, None, None, None])
    assert gain(x.bfloat16(), q).dtype == torch.bfloat16
    assert torch.equal(RateGain(3)(x, q), x)


@pytest.mark.parametrize("anchors", [1, 2, 5, 8])
def test_gain_at_one_rate_point(anchors: int) -> None:
    gain = RateGain(3, anchors)
    with torch.no_grad():
        gain.log_gain.copy_(torch.randn(anchors, 3))
    for point in (0, 1, 31, 62, 63):
        found = gain.at(point)
        assert found.shape == (1, 3, 1, 1)
        assert torch.allclose(found.flatten(), gain.gain(torch.tensor([float(point)]))[0], rtol=1e-5)


def test_bias() -> None:
    bias = RateBias(2, anchors=2)
    x = torch.randn(2, 2, 3, 3)
    q = torch.tensor([0.0, 31.5])
    assert torch.equal(bias(x, q), x)
    with torch.no_grad():
        bias.bias.copy_(torch.tensor([[1.0, -1.0], [3.0, 5.0]]))
    shift = torch.tensor([[1.0, -1.0], [2.0, 2.0]])
    assert torch.allclose(bias(x, q), x + shift[:, :, None, None])


@pytest.mark.parametrize("anchors", [1, 2, 8])
def test_gradient_reaches_every_anchor(anchors: int) -> None:
    gain = RateGain(2, anchors)
    gain(torch.ones(RATE_POINTS, 2, 1, 1), torch.arange(RATE_POINTS)).sum().backward()
    assert (gain.log_gain.grad > 0).all()

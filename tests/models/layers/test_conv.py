"""Convolution helpers: sizes for every parity, and sequences that take a rate point."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from triode.entropy.exact.layers import exact_twin, from_fixed, to_fixed
from triode.models.layers.conv import RateFree, conv, deconv


@pytest.mark.parametrize(("kernel", "stride"), [(5, 2), (3, 1), (5, 1), (3, 2)])
@pytest.mark.parametrize("size", [(8, 6), (7, 5), (1, 1)])
def test_sizes(kernel: int, stride: int, size: tuple[int, int]) -> None:
    x = torch.rand(1, 2, *size)
    assert conv(2, 3, kernel, stride)(x).shape == (1, 3, *(-(-s // stride) for s in size))
    assert deconv(2, 3, kernel, stride)(x).shape == (1, 3, *(s * stride for s in size))


def test_rate_free_is_a_sequence_for_all_rates_and_for_integers() -> None:
    net = RateFree(conv(2, 4, 3, 1), nn.LeakyReLU(), deconv(4, 2)).eval()
    x, q = torch.randn(1, 2, 5, 6), torch.zeros(1)
    out = net(x, q)
    assert torch.equal(out, net(x, q + 63))
    assert torch.equal(out, nn.Sequential(*net)(x))
    twin = exact_twin(net)
    torch.testing.assert_close(from_fixed(twin(to_fixed(x), q)), out, rtol=0, atol=0.01)

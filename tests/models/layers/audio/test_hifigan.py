"""HiFi-GAN's networks: formulas, lengths and reach."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from triode.models.layers.audio.hifigan import HifiDecoder, HifiEncoder, HifiResidual, ParallelResiduals


def test_residual_block_is_its_formula():
    block = HifiResidual(3, 5, (1, 4))
    x = torch.randn(2, 3, 50)
    y = x
    for i, dilation in enumerate((1, 4)):
        first, second = block.convs1[i], block.convs2[i]
        z = F.conv1d(F.leaky_relu(y, 0.1), first.weight, first.bias, padding=2 * dilation, dilation=dilation)
        y = y + F.conv1d(F.leaky_relu(z, 0.1), second.weight, second.bias, padding=2)
    assert torch.allclose(block(x), y, atol=1e-6)


@pytest.mark.parametrize(("kernel", "dilations"), [(3, (1, 3, 5)), (7, (1, 2)), (1, (4,))])
def test_reach_is_what_convolutions_see(kernel, dilations):
    block = HifiResidual(2, kernel, dilations).double()
    x = torch.randn(1, 2, 201, dtype=torch.float64)
    other = x.clone()
    other[..., 100] += 1
    moved = ((block(other) - block(x)).abs().amax((0, 1)) > 1e-15).nonzero()[:, 0]
    assert (int(moved[0]), int(moved[-1])) == (100 - block.reach, 100 + block.reach)


def test_running_sums_are_normalised():
    parallel = ParallelResiduals(32, (3, 5), (1,), normalised=True)
    with torch.no_grad():
        for norm in parallel.norms:
            norm.weight.uniform_(0.5, 2)
            norm.bias.normal_()
    x = torch.randn(2, 32, 40)

    def normed(y, norm):
        groups = y.reshape(2, 2, -1)
        scaled = (groups - groups.mean(2, keepdim=True)) / (groups.var(2, unbiased=False, keepdim=True) + 1e-6).sqrt()
        return scaled.reshape(y.shape) * norm.weight[:, None] + norm.bias[:, None]

    first, second = parallel.blocks
    expected = normed(normed(first(x), parallel.norms[0]) + second(x), parallel.norms[1]) / 2
    assert torch.allclose(parallel(x), expected, atol=1e-5)
    plain = ParallelResiduals(8, (3, 5), (1,), normalised=False)
    x = x[:, :8]
    assert torch.allclose(plain(x), (plain.blocks[0](x) + plain.blocks[1](x)) / 2, atol=1e-6)
    assert plain.sees(10, 20) == (10 - 4, 20 + 4)


@pytest.mark.parametrize(("strides", "kernels"), [((2, 5), (4, 11)), ((3, 4), (7, 8)), ((1, 8), (1, 16))])
def test_lengths(strides, kernels):
    encoder = HifiEncoder(2, 6, strides, kernels, (3,), (1,))
    decoder = HifiDecoder(6, 8, strides[::-1], kernels[::-1], (3,), (1,))
    hop = strides[0] * strides[1]
    y = encoder(torch.randn(2, 1, 7 * hop))
    assert y.shape == (2, 6, 7)
    x = decoder(y)
    assert x.shape == (2, 1, 7 * hop)
    assert bool((decoder(100 * y).abs() <= 1).all())
    assert isinstance(encoder[-1], nn.Conv1d)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: HifiResidual(4, 4), "`kernel` must be odd"),
        (lambda: HifiEncoder(2, 6, (2, 5), (4,)), "`kernels` must hold one"),
        (lambda: HifiEncoder(2, 6, (), ()), "`kernels` must hold one"),
        (lambda: HifiDecoder(6, 8, (2,), (5,)), "as odd or even"),
        (lambda: HifiDecoder(6, 8, (4,), (2,)), "at least its stride"),
        (lambda: HifiDecoder(6, 6, (2, 2), (4, 4)), "multiple of 4, but got 6"),
    ],
)
def test_bad_arguments(build, message):
    with pytest.raises(ValueError, match=message):
        build()

"""ELIC's parameter network: what each step sees, in floats and in integers, and how often it computes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from triode.entropy.context.model import ContextModel
from triode.entropy.context.schedule import space_channel
from triode.entropy.context.space_channel import SpaceChannelParameters
from triode.entropy.exact.layers import exact_twin, to_fixed

GROUPS = (2, 3, 4)
Q = torch.zeros(1)


@pytest.fixture(scope="module")
def net() -> SpaceChannelParameters:
    torch.manual_seed(7)
    return SpaceChannelParameters(GROUPS, 8).requires_grad_(False)


def _maps(net: nn.Module, step: int, y_hat: Tensor, hyper: Tensor) -> list[tuple[Tensor, Tensor]]:
    # The features of an odd step are those of the step before.
    features = net.stage(step - step % 2, y_hat, hyper, hyper, Q)
    return net(step, y_hat, net.stage(step, y_hat, hyper, features, Q), Q)


@pytest.mark.parametrize("step", range(6))
def test_sees_what_is_decoded_and_nothing_else(net: SpaceChannelParameters, step: int) -> None:
    g = torch.Generator().manual_seed(step)
    hyper = torch.randn(1, 8, 8, 8, generator=g)
    y = torch.randn(1, 9, 8, 8, generator=g)
    decoded = torch.zeros_like(y, dtype=torch.bool)
    for earlier in net.schedule.steps[:step]:
        for entry in earlier:
            entry.view(decoded).fill_(True)
    # Within a group the checkerboard hides elements of the same step; other elements are zero when a step begins.
    y_hat = y * decoded
    maps = _maps(net, step, y_hat, hyper)
    own = y_hat.clone()
    for entry in net.schedule.steps[step]:
        entry.view(own).normal_()
    for (a, b), (c, d) in zip(maps, _maps(net, step, own, hyper), strict=True):
        assert torch.equal(a, c)
        assert torch.equal(b, d)
    if step:
        other = _maps(net, step, y * decoded * 2, hyper)
        assert not torch.equal(maps[0][0], other[0][0])
    for entry, (mean, index) in zip(net.schedule.steps[step], maps, strict=True):
        assert mean.shape == index.shape == entry.view(y).shape


def test_lattices_are_where_the_schedule_says(net: SpaceChannelParameters) -> None:
    # With features that differ at one position only, the output differs at that position only.
    hyper = torch.zeros(1, 8, 4, 4)
    changed = hyper.clone()
    changed[:, :, 1, 2] = 5  # Row and column of different parity: coded second.
    y_hat = torch.zeros(1, 9, 4, 4)
    for step, expected in ((0, []), (1, [(1, 2)])):
        out, full = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
        pairs = zip(
            net.schedule.steps[step], _maps(net, step, y_hat, hyper), _maps(net, step, y_hat, changed), strict=True
        )
        for entry, (mean, _), (other, _) in pairs:
            out[..., entry.dy :: 2, entry.dx :: 2] = mean
            full[..., entry.dy :: 2, entry.dx :: 2] = other
        assert [tuple(p) for p in (out != full).any(1)[0].nonzero().tolist()] == expected


def test_twin_agrees_with_the_floats(net: SpaceChannelParameters) -> None:
    twin = exact_twin(net)
    hyper, y_hat = torch.randn(1, 8, 4, 6), 2 * torch.randn(1, 9, 4, 6)
    for step in range(6):
        exact = _maps(twin, step, to_fixed(y_hat), to_fixed(hyper))
        for (mean, index), (fixed_mean, fixed_index) in zip(_maps(net, step, y_hat, hyper), exact, strict=True):
            assert fixed_mean.dtype == torch.float64
            assert bool((fixed_mean == fixed_mean.round()).all())
            torch.testing.assert_close((fixed_mean / 1024).float(), mean, rtol=0, atol=0.01)
            assert float((fixed_index / 1024 - index).abs().max()) < 0.6


def test_channel_context_is_computed_once_a_group(net: SpaceChannelParameters) -> None:
    calls: list[int] = []
    handles = [m.register_forward_hook(lambda *_, k=k: calls.append(k)) for k, m in enumerate(net.channel_context)]
    model = ContextModel(space_channel(GROUPS), net).eval()
    model(torch.randn(1, 9, 4, 4), torch.randn(1, 8, 4, 4), Q)
    for handle in handles:
        handle.remove()
    assert calls == [1, 2]


def test_one_group_is_a_checkerboard() -> None:
    model = ContextModel(space_channel((3,)), SpaceChannelParameters((3,), 4)).eval()
    model.export()
    out = model(torch.randn(1, 3, 4, 4), torch.randn(1, 4, 4, 4), Q)
    assert out.y_hat.shape == (1, 3, 4, 4)

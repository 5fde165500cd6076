import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from triode.models.layers.audio.conv import PaddedConv1d, PaddedConvTranspose1d, fuse_weight_norm, weight_norm
from triode.models.layers.audio.streaming import stream

MODES = {"constant": "constant", "replicate": "edge", "reflect": "reflect"}


def by_hand(conv, x, causal, mode):
    """The convolution as sums over NumPy's padding."""
    weight, bias = (p.detach().numpy() for p in (conv.weight, conv.bias))
    (kernel,), (stride,), (dilation,) = conv.kernel_size, conv.stride, conv.dilation
    reach = (kernel - 1) * dilation + 1
    pad, count = reach - stride, -(-x.shape[-1] // stride)
    left = pad if causal else pad - pad // 2
    right = pad - left + count * stride - x.shape[-1]
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (left, right)), MODES[mode])
    taps = [padded[:, :, k * dilation :: stride][:, :, :count] for k in range(kernel)]
    return sum(np.einsum("oi,bit->bot", weight[:, :, k], tap) for k, tap in enumerate(taps)) + bias[:, None]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(7, 1, 1), (3, 1, 4), (4, 2, 1), (10, 5, 1), (3, 3, 1)])
def test_is_a_padded_convolution(mode, causal, kernel, stride, dilation):
    torch.manual_seed(0)
    layer = PaddedConv1d(2, 3, kernel, stride, dilation=dilation, causal=causal, padding=mode).double()
    for length in (13, 20, 21):
        x = torch.randn(2, 2, length).double()
        with torch.no_grad():
            assert np.allclose(layer(x).numpy(), by_hand(layer.conv.conv, x, causal, mode), atol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("kernel", "stride"), [(4, 2), (10, 5), (7, 3), (3, 3)])
def test_is_a_trimmed_transposed_convolution(causal, kernel, stride):
    torch.manual_seed(0)
    layer = PaddedConvTranspose1d(2, 3, kernel, stride, causal=causal).double()
    x = torch.randn(2, 2, 6).double()
    full = torch.zeros(2, 3, 6 * stride + kernel).double()
    weight = layer.convtr.convtr.weight
    for i in range(6):
        full[:, :, i * stride : i * stride + kernel] += torch.einsum("iok,bi->bok", weight, x[:, :, i])
    first = 0 if causal else -(-(kernel - stride) // 2)
    expected = full[:, :, first : first + 6 * stride] + layer.convtr.convtr.bias[:, None]
    assert torch.allclose(layer(x), expected, atol=1e-12)


def test_a_signal_too_short_to_be_mirrored_is_extended_by_zeros():
    layer = PaddedConv1d(1, 1, 7, causal=True, norm="none").double()
    with torch.no_grad():
        layer.conv.conv.weight.copy_(torch.arange(1, 8).view(1, 1, 7))
        layer.conv.conv.bias.zero_()
        # Extended to 5 3 0 0 0 0 0, mirrored to 0 0 0 0 0 3 | 5 3.
        y = layer(torch.tensor([[[5.0, 3.0]]]).double())
    assert y.tolist() == [[[6 * 3 + 7 * 5, 5 * 3 + 6 * 5 + 7 * 3]]]


@settings(max_examples=40, deadline=None)
@given(
    length=st.integers(1, 40),
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6).filter(any),
    shape=st.tuples(st.integers(1, 7), st.integers(1, 4), st.integers(1, 3)),
    mode=st.sampled_from(sorted(MODES)),
    groups=st.sampled_from([1, 2]),
)
def test_streams(length, sizes, shape, mode, groups):
    kernel, stride, dilation = shape
    stride = min(stride, (kernel - 1) * dilation + 1)
    torch.manual_seed(length)
    down = PaddedConv1d(2, 4, kernel, stride, dilation=dilation, groups=groups, causal=True, padding=mode).double()
    up = PaddedConvTranspose1d(4, 2, max(kernel, stride), stride, causal=True).double()
    x = torch.randn(2, 2, length).double()
    pieces, at = [], 0
    while at < length:
        for size in sizes:
            pieces.append(x[..., at : at + size])
            at += size
    with torch.no_grad():
        y = torch.cat(list(stream(down, pieces)), -1)
        z = torch.cat(list(stream(up, y.split(sizes[0] or 1, -1))), -1)
        assert torch.allclose(y, down(x), atol=1e-12)
        assert torch.allclose(z, up(down(x)), atol=1e-12)
    assert y.shape[-1] == -(-length // stride)
    assert z.shape[-1] == stride * y.shape[-1]


@pytest.mark.parametrize(("kernel", "stride"), [(2, 2), (5, 4), (4, 4)])
@pytest.mark.parametrize("samples", [1, 3, 4, 5, 9, 11])
def test_streams_that_end_inside_a_short_window(assert_streams, kernel, stride, samples):
    """The end mirrors samples that no window sees any more."""
    layer = PaddedConv1d(1, 2, kernel, stride, causal=True).double()
    assert_streams(layer, torch.randn(1, 1, samples).double(), [1], 1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_causal_outputs_do_not_look_ahead(mode):
    layer = PaddedConv1d(1, 1, 8, 4, causal=True, padding=mode)
    x = torch.randn(1, 1, 40)
    other = x.clone()
    other[..., 24:] += 1
    same = (layer(x) == layer(other))[0, 0].tolist()
    assert same == [True] * 6 + [False] * 4


def test_nothing_in_nothing_out():
    layer, up = PaddedConv1d(2, 3, 4, 2), PaddedConvTranspose1d(2, 3, 4, 2)
    assert layer(torch.zeros(5, 2, 0)).shape == up(torch.zeros(5, 2, 0)).shape == (5, 3, 0)
    for causal in (PaddedConv1d(2, 3, 4, 2, causal=True), PaddedConv1d(2, 3, 4, 2, causal=True, padding="constant")):
        assert causal.flush(causal.stream_state(5)).shape == (5, 3, 0)


def test_group_norm_spans_channels_and_times():
    layer = PaddedConv1d(2, 6, 3, norm="group")
    y = layer(torch.randn(2, 2, 50) * 3 + 1)
    assert torch.allclose(y.mean((1, 2)), torch.zeros(2), atol=1e-5)
    assert torch.allclose(y.square().mean((1, 2)), torch.ones(2), atol=1e-3)


def test_old_and_fused_weights():
    torch.manual_seed(0)
    layer = PaddedConv1d(3, 4, 5)
    length, direction = torch.rand(4, 1, 1) + 0.5, torch.randn(4, 3, 5)
    bias = torch.randn(4)
    layer.load_state_dict({"conv.conv.weight_g": length, "conv.conv.weight_v": direction, "conv.conv.bias": bias})
    expected = length * direction / direction.square().sum((1, 2), keepdim=True).sqrt()
    assert torch.allclose(layer.conv.conv.weight, expected, atol=1e-6)
    x = torch.randn(1, 3, 20)
    before = layer(x)
    assert fuse_weight_norm(nn.ModuleList([layer, weight_norm(nn.Linear(2, 2)), nn.Linear(2, 2)])) == 2
    assert set(layer.state_dict()) == {"conv.conv.weight", "conv.conv.bias"}
    assert torch.allclose(layer(x), before, atol=1e-6)


@pytest.mark.parametrize(
    "build",
    [
        lambda: PaddedConv1d(1, 1, 3, 4),
        lambda: PaddedConv1d(1, 1, 3, 0),
        lambda: PaddedConvTranspose1d(1, 1, 3, 4),
        lambda: PaddedConv1d(1, 1, 3, causal=True, norm="group"),
        lambda: PaddedConvTranspose1d(1, 1, 3, 1, causal=True, norm="group"),
    ],
)
def test_bad_arguments(build):
    with pytest.raises(ValueError, match=r"Argument `(stride|norm)` must be"):
        build()

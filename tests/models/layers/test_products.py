"""Pointwise layers as products give what convolutions give."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from triode.models.layers import products, strips
from triode.models.layers.blocks import DepthwiseBlock, DepthwiseBlocks, SubpixelUp
from triode.models.layers.products import channels_last, is_multiplied, pointwise, positions


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Make products of pictures of any size, in strips of a few rows."""
    monkeypatch.setattr(products, "_ELEMENTS", 1)
    monkeypatch.setattr(strips, "_ELEMENTS", 200)


def picture(batch=1, channels=6, height=11, width=7):
    torch.manual_seed(0)
    return torch.randn(batch, channels, height, width).contiguous(memory_format=torch.channels_last)


def trained(module):
    torch.manual_seed(1)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn_like(p) * 0.3)
    return module


@torch.inference_mode()
def test_positions_are_the_same_memory():
    x = picture(2)
    rows = positions(x)
    assert torch.equal(rows[7 * 11 + 3], x[1, :, 0, 3])
    rows[0, 0] = 5.0
    assert x[0, 0, 0, 0] == 5.0
    with pytest.raises(RuntimeError):
        positions(x.contiguous())


@pytest.mark.parametrize("shape", [(1, 6, 11, 7), (2, 5, 3, 4), (1, 4, 1, 1), (1, 1, 3, 5)])
@pytest.mark.parametrize("kind", ["planar", "part", "last already"])
def test_channels_last(shape, kind):
    x = torch.randn(shape)
    if kind == "part":
        x = x[:, :, : (shape[2] + 1) // 2]
    elif kind == "last already":
        x = x.contiguous(memory_format=torch.channels_last)
    found = channels_last(x)
    assert torch.equal(found, x)
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("why", ["gradients", "autocast", "planar", "double", "small"])
def test_left_as_convolutions(why, monkeypatch):
    x = picture()
    if why == "gradients":
        assert not is_multiplied(x)
        return
    with torch.inference_mode():
        assert is_multiplied(x)
        if why == "autocast":
            with torch.autocast("cpu", dtype=torch.bfloat16):
                assert not is_multiplied(x)
        elif why == "small":
            monkeypatch.setattr(products, "_ELEMENTS", x.numel() + 1)
            assert not is_multiplied(x)
        else:
            assert not is_multiplied(x.contiguous() if why == "planar" else x.double())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batch", [1, 3])
def test_pointwise(bias, batch):
    layer, x = trained(nn.Conv2d(6, 10, 1, bias=bias)), picture(batch)
    expected = layer(x).detach()
    with torch.inference_mode():
        found = pointwise(layer, x)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(found, expected, atol=1e-5)


def test_other_layers_run_themselves():
    class Twice(nn.Conv2d):
        def forward(self, x):
            return 2 * super().forward(x)

    layer, x = trained(Twice(6, 4, 1)), picture()
    with torch.inference_mode():
        assert torch.equal(pointwise(layer, x), layer(x))
        assert torch.equal(pointwise(nn.Identity(), x), x)


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (1, 3)])
@pytest.mark.parametrize(("batch", "height", "width"), [(1, 1, 1), (1, 3, 7), (1, 11, 7), (1, 40, 1), (2, 11, 7)])
def test_blocks(gated, kernel, batch, height, width):
    block, x = trained(DepthwiseBlock(6, kernel, gated=gated)), picture(batch, 6, height, width)
    before, expected = x.clone(), block(x).detach()
    with torch.inference_mode():
        out = torch.empty_like(x)
        assert block(x, out) is out
        assert torch.allclose(out, expected, atol=1e-5)
        assert torch.allclose(block(x), expected, atol=1e-5)
    assert torch.equal(x, before)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_blocks_in_a_row_leave_their_input_alone(count):
    blocks, x = trained(DepthwiseBlocks(6, count)), picture()
    before, expected = x.clone(), blocks(x).detach()
    with torch.inference_mode():
        assert torch.allclose(blocks(x), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(x, before)


@pytest.mark.parametrize("planar", [True, False])
def test_subpixels(planar):
    layer, x = trained(SubpixelUp(6, 3, 2, planar=planar)), picture(2)
    expected = layer(x).detach()
    with torch.inference_mode():
        assert torch.allclose(layer(x), expected, atol=1e-5)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("add", [True, False])
@pytest.mark.parametrize("gained", [True, False])
def test_subpixels_written_to_memory(last, add, gained):
    layer, x = trained(SubpixelUp(6, 3, 2)), picture(2)
    bias, gain = torch.randn(12), torch.rand(3) + 0.5 if gained else None
    with torch.inference_mode():
        start = torch.randn(2, 3, 22, 14)
        out = start.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format).clone()
        layer.writer(bias=bias, gain=gain, last=last, add=add)(out, x)
        wanted = F.pixel_shuffle(
            bias[:, None, None]
            + F.conv2d(x, layer[0].weight) * (1 if gain is None else gain.repeat_interleave(4)[:, None, None]),
            2,
        )
        assert torch.allclose(out, wanted + start if add else wanted, atol=1e-5)


def test_blocks_may_write_over_what_is_spent():
    blocks, x = trained(DepthwiseBlocks(6, 2)), picture()
    expected = blocks(x).detach()
    with torch.inference_mode():
        memory = x.clone(memory_format=torch.preserve_format)
        assert blocks(memory, spent=True) is memory
        assert torch.allclose(memory, expected, rtol=1e-4, atol=1e-4)

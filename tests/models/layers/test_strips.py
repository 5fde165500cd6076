"""Layers on strips of rows give what they give on the whole picture."""

from __future__ import annotations

import contextlib

import pytest
import torch
import torch.nn.functional as F

from triode.models.image.image_light import ImageLight, ImageLightConfig
from triode.models.layers import strips
from triode.models.layers.blocks import DepthwiseBlock, DepthwiseBlocks, PlanarShuffle
from triode.models.layers.strips import is_cut, is_lean, plain_layers


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    """Cut pictures of a few rows."""
    monkeypatch.setattr(strips, "_ELEMENTS", 64)


def picture(height=11, width=4, channels=4, dtype=torch.float32):
    return torch.arange(channels * height * width, dtype=dtype).reshape(1, channels, height, width)


def trained(blocks):
    torch.manual_seed(0)
    with torch.no_grad():
        for p in blocks.parameters():
            p.copy_(torch.randn_like(p) * 0.3)
    return blocks


@torch.inference_mode()
def test_strips_and_what_is_around_them():
    cut = list(strips.strips(picture(), reach=2))
    assert [(s.own, s.around) for s in cut] == [
        (slice(0, 4), slice(0, 6)),
        (slice(2, 6), slice(2, 10)),
        (slice(2, 5), slice(6, 11)),
    ]
    assert [s.part(picture(22), 2).shape[2] for s in cut] == [8, 8, 6]


@pytest.mark.parametrize("why", ["gradients", "no gradients", "autocast", "several pictures", "small", "plain"])
def test_left_whole(why, monkeypatch):
    x = picture()
    with contextlib.ExitStack() as modes:
        if why == "no gradients":
            modes.enter_context(torch.no_grad())
        elif why != "gradients":
            modes.enter_context(torch.inference_mode())
        if why == "autocast":
            modes.enter_context(torch.autocast("cpu", dtype=torch.bfloat16))
        elif why == "several pictures":
            x = x.expand(2, -1, -1, -1)
        elif why == "small":
            monkeypatch.setattr(strips, "_ELEMENTS", x.numel())
        elif why == "plain":
            modes.enter_context(plain_layers())
        assert not is_cut(x)
        assert [s.rows for s in strips.strips(x, 2)] == [slice(0, 11)]


@pytest.mark.parametrize("height", [1, 4, 8, 11])
@torch.inference_mode()
def test_strips_cover_every_row_once(height):
    x = picture(height)
    cut = list(strips.strips(x, 2))
    assert [row for s in cut for row in range(s.rows.start, s.rows.stop)] == list(range(height))
    for s in cut:
        assert (s.around.start, s.around.stop) == (max(0, s.top - 2), min(height, s.top + s.count + 2))
        rows = torch.arange(height)
        assert torch.equal(rows[s.around][s.own], rows[s.rows])


@pytest.mark.parametrize("kernel", [(3, 3), (5, 5), (1, 3)])
@pytest.mark.parametrize("height", [1, 2, 4, 5, 8, 11])
def test_blocks(kernel, height):
    block, x = (
        trained(DepthwiseBlock(6, kernel)),
        torch.randn(1, 6, height, 7).contiguous(memory_format=torch.channels_last),
    )
    whole = block(x).detach()
    with torch.inference_mode():
        assert torch.allclose(block(x), whole, atol=1e-5)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
def test_blocks_in_a_row_leave_their_input_alone(count):
    blocks, x = trained(DepthwiseBlocks(6, count)), torch.randn(1, 6, 13, 7)
    before, expected = x.clone(), x
    for block in blocks:
        expected = block(expected).detach()
    assert torch.equal(blocks(x), expected)
    with torch.inference_mode():
        assert torch.allclose(blocks(x), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(x, before)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_planar_shuffle_is_that_of_pytorch(memory_format):
    x = torch.randn(2, 3 * 16, 5, 7).contiguous(memory_format=memory_format)
    found = PlanarShuffle(4)(x)
    assert found.is_contiguous()
    assert torch.equal(found, F.pixel_shuffle(x, 4))


def test_synthesis_of_image_light():
    """Input at two resolutions, output at 16 times that of the latent."""
    model = trained(
        ImageLight(ImageLightConfig(latent=8, hyper=4, fine=8, coarse=8, context=4, features=8, parameters=4))
    )
    y, q = 0.1 * torch.randn(1, 8, 11, 5), torch.tensor([20])
    whole = model.synthesis(y, q).detach()
    with torch.inference_mode():
        assert torch.allclose(model.synthesis(y, q), whole, rtol=1e-4, atol=1e-4 * float(whole.abs().max()))


def test_plain_layers():
    x = torch.zeros(1, 6, 40, 40)
    with torch.inference_mode():
        assert is_lean(x)
        with plain_layers():
            assert not is_lean(x)
            assert not is_cut(x)
        assert is_lean(x)

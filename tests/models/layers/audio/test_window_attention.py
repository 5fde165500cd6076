"""Window attention against a loop over places, changes of resolution against a loop over patches."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triode.models.layers.audio.window_attention import (
    FrequencyMerge,
    FrequencySplit,
    PatchEmbed,
    PatchExpand,
    WindowAttention,
    WindowBlock,
    WindowLayer,
)


def varied(module: nn.Module, seed: int = 0) -> nn.Module:
    """Give every parameter some variance, in double precision."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.double().parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return module


def attended(block: WindowBlock, x: Tensor) -> Tensor:
    """Compute the first half of a block place by place: who shares a window, counted from its shift, sees each other.

    Windows at the ends of a shifted plane are cut off there. Places up to the next multiple of the window are zeros.
    """
    attention, window, heads = block.attn, block.window, block.attn.heads
    _, height, width, channels = x.shape
    size = channels // heads
    padded = F.pad(block.norm1(x), (0, 0, 0, -width % window, 0, -height % window))
    parts = attention.qkv(padded)
    table = attention.relative_position_bias_table.reshape(2 * window - 1, 2 * window - 1, heads)
    out = torch.zeros_like(padded)
    places = [(r, c) for r in range(padded.shape[1]) for c in range(padded.shape[2])]

    def home(place: tuple[int, int]) -> tuple[int, int]:
        return (place[0] - block.shift) // window, (place[1] - block.shift) // window

    for here in places:
        near = [place for place in places if home(place) == home(here)]
        for head in range(heads):
            q, k, v = (slice(i * channels + head * size, i * channels + (head + 1) * size) for i in range(3))
            query = parts[:, here[0], here[1], q]
            keys = torch.stack([parts[:, r, c, k] for r, c in near], 1)
            values = torch.stack([parts[:, r, c, v] for r, c in near], 1)
            bias = torch.stack([table[here[0] - r + window - 1, here[1] - c + window - 1, head] for r, c in near])
            weights = ((keys * query[:, None]).sum(2) / size**0.5 + bias).softmax(1)
            out[:, here[0], here[1], head * size : (head + 1) * size] = (weights[:, :, None] * values).sum(1)
    return x + attention.proj(out)[:, :height, :width]


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(
    ("height", "width", "window"), [(8, 8, 4), (4, 8, 4), (2, 4, 4), (3, 7, 4), (4, 6, 2), (1, 1, 4)]
)
def test_block_against_a_loop(height, width, window, shifted):
    block = varied(WindowBlock(6, 2, window, shifted=shifted, ratio=1.5))
    x = torch.randn(2, height, width, 6, dtype=torch.float64)
    with torch.no_grad():
        y = attended(block, x)
        hidden = F.linear(block.norm2(y), block.mlp.linear_1.weight, block.mlp.linear_1.bias)
        expected = y + block.mlp.linear_2(0.5 * hidden * (1 + torch.erf(hidden / 2**0.5)))
        assert torch.allclose(block(x), expected, atol=1e-10)
    assert block.mlp.linear_1.out_features == 9


def test_layers_see_as_far_as_their_shifts():
    layer = varied(WindowLayer(4, 4, 2, depth=4, window=4))
    x = torch.randn(1, 4, 40, 4, dtype=torch.float64)
    changed = x.clone()
    changed[:, :, 20] += torch.randn(4)
    with torch.no_grad():
        moved = (layer(changed) - layer(x)).abs().amax((0, 1, 3)) > 1e-12
    # Window, then shifted window: from 20..23 to 18..25, 16..27 and 14..29.
    assert moved.nonzero()[:, 0].tolist() == list(range(14, 30))


def test_merge_takes_neighbours_and_split_gives_them():
    merge, split = varied(FrequencyMerge(3, 5)), varied(FrequencySplit(5, 3))
    x = torch.randn(2, 6, 4, 3, dtype=torch.float64)
    with torch.no_grad():
        y = merge(x)
        assert y.shape == (2, 3, 4, 5)
        for h in range(3):
            pair = torch.cat([x[:, 2 * h], x[:, 2 * h + 1]], -1)
            assert torch.allclose(y[:, h], merge.down(merge.norm(pair)))
        z = split(y)
        assert z.shape == x.shape
        for h in range(3):
            both = split.up(split.norm(y[:, h]))
            assert torch.allclose(z[:, 2 * h], both[..., :3])
            assert torch.allclose(z[:, 2 * h + 1], both[..., 3:])


def test_patches():
    embed, expand = varied(PatchEmbed(2, 5, (3, 2))), varied(PatchExpand(5, 2, (3, 2)))
    x = torch.randn(2, 2, 9, 8, dtype=torch.float64)
    with torch.no_grad():
        y = embed(x)
        assert y.shape == (2, 3, 4, 5)
        corner = torch.einsum("bckt,ockt->bo", x[:, :, 3:6, 4:6], embed.proj.weight) + embed.proj.bias
        assert torch.allclose(y[:, 1, 2], embed.norm(corner))
        z = expand(y)
        assert z.shape == x.shape
        places = expand.de_proj1(y.permute(0, 3, 1, 2))
        plane = torch.zeros(2, 5, 9, 8, dtype=torch.float64)
        for k in range(3):
            for t in range(2):
                first = (2 * k + t) * 5
                plane[:, :, k::3, t::2] = places[:, first : first + 5]
        assert torch.allclose(z, expand.de_proj2(plane))


@pytest.mark.parametrize("scale", ["down", "up", "none"])
def test_gradient_reaches_every_parameter(scale):
    layer = WindowLayer(4, 6 if scale != "none" else 4, 2, scale=scale)
    layer(torch.randn(1, 8, 8, 4)).square().sum().backward()
    assert [n for n, p in layer.named_parameters() if p.grad is None or not bool(p.grad.any())] == []


def test_mixed_precision():
    block = WindowBlock(4, 2, shifted=True)
    x = torch.randn(1, 4, 8, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = block(x)
    assert torch.allclose(y.float(), block(x), atol=0.1)


def test_heads_divide_the_channels():
    with pytest.raises(ValueError, match="must divide 5 channels, but got 2"):
        WindowAttention(5, 2, 4)

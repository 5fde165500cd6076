import pytest
import torch
import torch.nn.functional as F

from triode.models.layers.blocks import DepthwiseBlock, SubpixelDown, SubpixelUp


def random_block(channels=6, seed=0):
    torch.manual_seed(seed)
    block = DepthwiseBlock(channels)
    with torch.no_grad():
        for p in block.parameters():
            p.copy_(torch.randn_like(p) * 0.3)
    return block


def test_starts_as_the_identity():
    x = torch.randn(2, 6, 5, 7)
    assert torch.equal(DepthwiseBlock(6)(x), x)


def test_without_its_gated_part():
    block, x = random_block(), torch.randn(2, 6, 5, 7)
    plain = DepthwiseBlock(6, gated=False)
    plain.load_state_dict({k: v for k, v in block.state_dict().items() if not k.startswith(("gate", "merge"))})
    with torch.no_grad():
        for p in (block.merge.weight, block.merge.bias):
            p.zero_()
    assert torch.equal(plain(x), block(x))
    assert torch.equal(DepthwiseBlock(6, gated=False)(x), x)


def test_is_what_its_text_says():
    block, x = random_block(), torch.randn(2, 6, 5, 7)
    expand, project, gate, merge = (
        m.weight[:, :, 0, 0] for m in (block.expand, block.project, block.gate, block.merge)
    )

    def pointwise(weight, bias, t):
        return torch.einsum("oc,bchw->bohw", weight, t) + bias[:, None, None]

    t = pointwise(expand, block.expand.bias, x)
    t = torch.where(t > 0, t, t / 8)
    t = torch.stack(
        [
            F.conv2d(t[:, c : c + 1], block.spatial.weight[c : c + 1], block.spatial.bias[c : c + 1], padding=1)[:, 0]
            for c in range(6)
        ],
        1,
    )
    y = x + pointwise(project, block.project.bias, t)
    a, b = pointwise(gate, block.gate.bias, y).split(6, 1)
    assert torch.allclose(block(x), y + pointwise(merge, block.merge.bias, a * b.clamp_min(0)), atol=1e-5)


def test_reaches_one_position():
    block, x = random_block(), torch.randn(1, 6, 7, 7)
    other = x.clone()
    other[:, :, 3, 3] += 1
    changed = (block(x) - block(other)).abs().amax((0, 1)) > 0
    expected = torch.zeros(7, 7, dtype=torch.bool)
    expected[2:5, 2:5] = True
    assert torch.equal(changed, expected)


def test_multiplications():
    for channels in (4, 128):
        weights = sum(p.numel() for n, p in DepthwiseBlock(channels).named_parameters() if n.endswith("weight"))
        assert weights == 5 * channels**2 + 9 * channels


def test_every_parameter_learns():
    block = random_block()
    block(torch.randn(2, 6, 5, 5)).square().sum().backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in block.parameters())


@pytest.mark.parametrize("factor", [2, 4, 16])
def test_resampling_keeps_positions(factor):
    """An identity of channels shows where each goes: down gathers a square of pixels, up spreads it again."""
    down, up = SubpixelDown(3, 3 * factor**2, factor), SubpixelUp(3 * factor**2, 3, factor)
    with torch.no_grad():
        for conv in (down[1], up[0]):
            conv.weight.copy_(torch.eye(3 * factor**2)[:, :, None, None])
            conv.bias.zero_()
    x = torch.randn(2, 3, 2 * factor, 3 * factor)
    y = down(x)
    assert y.shape == (2, 3 * factor**2, 2, 3)
    assert torch.equal(y[0, :, 1, 2].reshape(3, factor, factor), x[0, :, factor:, 2 * factor :])
    assert torch.equal(up(y), x)


def test_resampling_shapes():
    assert SubpixelDown(5, 7)(torch.zeros(1, 5, 8, 6)).shape == (1, 7, 4, 3)
    assert SubpixelUp(5, 7)(torch.zeros(1, 5, 4, 3)).shape == (1, 7, 8, 6)

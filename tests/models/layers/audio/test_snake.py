import pytest
import torch
from torch import nn

from triode.models.layers.audio.snake import DownBlock, ResidualUnit, Snake1d, UpBlock


def test_snake():
    layer = Snake1d(3)
    with torch.no_grad():
        layer.alpha.copy_(torch.tensor([0.5, 1.0, 4.0]).view(1, 3, 1))
    x = torch.randn(2, 3, 20)
    for i, alpha in enumerate((0.5, 1.0, 4.0)):
        expected = x[:, i] + (1 - torch.cos(2 * alpha * x[:, i])) / (2 * alpha)
        assert torch.allclose(layer(x)[:, i], expected, atol=1e-6)
    assert layer(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("dilation", [1, 3, 9])
def test_residual_unit_keeps_its_length_and_reaches_three_taps(dilation):
    torch.manual_seed(0)
    unit = ResidualUnit(4, dilation, groups=4)
    x = torch.randn(1, 4, 70)
    other = x.clone()
    other[:, :, 35] += 1
    changed = ((unit(x) - unit(other)).abs().amax((0, 1)) > 0).nonzero()[:, 0].tolist()
    assert changed == [35 + k * dilation for k in range(-3, 4)]


@pytest.mark.parametrize("stride", [2, 3, 5, 8])
def test_lengths(stride):
    x = torch.randn(1, 4, 6 * stride)
    y = DownBlock(4, 8, stride)(x)
    assert y.shape == (1, 8, 6)
    assert UpBlock(8, 4, stride)(y).shape == (1, 4, 6 * stride - stride % 2)
    assert UpBlock(8, 4, stride, exact=True)(y).shape == x.shape


def test_names_are_those_of_the_public_weights():
    """Old weights of DAC have ``weight_g`` and ``weight_v``, SNAC's the newer form."""
    unit = {"block.0.alpha": (1, 4, 1), "block.2.alpha": (1, 4, 1)}
    for conv, taps in (("block.1", 7), ("block.3", 1)):
        unit |= {f"{conv}.bias": (4,), f"{conv}.weight_g": (4, 1, 1), f"{conv}.weight_v": (4, 4, taps)}
    down = {f"block.{i}.{name}": shape for i in range(3) for name, shape in unit.items()}
    down |= {"block.3.alpha": (1, 4, 1), "block.4.bias": (8,)}
    down |= {"block.4.weight_g": (8, 1, 1), "block.4.weight_v": (8, 4, 10)}
    DownBlock(4, 8, 5).load_state_dict({name: torch.randn(shape) for name, shape in down.items()})
    up = {f"block.{i}.{name}": shape for i in range(2, 5) for name, shape in unit.items()}
    up |= {"block.0.alpha": (1, 8, 1), "block.1.bias": (4,)}
    up |= {"block.1.weight_g": (8, 1, 1), "block.1.weight_v": (8, 4, 10)}
    UpBlock(8, 4, 5).load_state_dict({name: torch.randn(shape) for name, shape in up.items()})


def test_injected_module_comes_right_after_the_upsampling():
    block = UpBlock(8, 4, 2, injected=nn.Conv1d(4, 4, 1))
    assert block.state_dict()["block.2.weight"].shape == (4, 4, 1)
    assert isinstance(block.block[1], nn.ConvTranspose1d)
    assert block(torch.randn(1, 8, 5)).shape == (1, 4, 10)


@pytest.mark.parametrize("stride", [3, 8])
def test_equals_the_original(stride):
    layers = pytest.importorskip("snac.layers")
    torch.manual_seed(0)
    theirs, ours = layers.EncoderBlock(8, stride=stride, groups=4), DownBlock(4, 8, stride, 4)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 4, 6 * stride)
    assert torch.allclose(ours(x), theirs(x), atol=1e-6)
    theirs, ours = layers.DecoderBlock(8, 4, stride, groups=4), UpBlock(8, 4, stride, 4, exact=True)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 8, 6)
    assert torch.allclose(ours(x), theirs(x), atol=1e-6)


def test_bad_kernel():
    with pytest.raises(ValueError, match="Argument `kernel` must be odd"):
        ResidualUnit(4, kernel=6)

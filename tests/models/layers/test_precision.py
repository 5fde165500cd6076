import torch
from torch import nn

from triode.models.layers.precision import full_precision


def test_runs_in_float32_under_autocast():
    torch.manual_seed(0)
    layer, x = nn.Conv2d(3, 4, 3), torch.rand(1, 3, 8, 8)
    expected = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow, full = layer(x), full_precision(layer, x)
        assert torch.is_autocast_enabled("cpu")
    assert narrow.dtype == torch.bfloat16
    assert full.dtype == torch.float32
    assert torch.equal(full, expected)


def test_widens_its_input():
    layer = nn.Linear(3, 4)
    out = full_precision(layer, torch.rand(2, 3).bfloat16())
    assert out.dtype == torch.float32


def test_gradient_passes():
    layer, x = nn.Linear(3, 4), torch.rand(2, 3, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total = full_precision(layer, x).sum()
    total.backward()
    assert torch.allclose(x.grad, layer.weight.sum(0).expand(2, 3))

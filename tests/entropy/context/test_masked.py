"""Checkerboard convolutions: the mask, and the integer twin."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from triode.entropy.context.masked import CheckerboardConv2d
from triode.entropy.exact.layers import exact_twin, to_fixed


@pytest.mark.parametrize("kernel", [3, 5])
def test_sees_the_other_colour_only(kernel: int) -> None:
    layer = CheckerboardConv2d(2, 3, kernel)
    rows, columns = torch.meshgrid(torch.arange(9), torch.arange(9), indexing="ij")
    x = torch.randn(1, 2, 9, 9)
    same = ((rows + columns) % 2 == 0).float()  # The colour of the centre.
    changed = x + same * torch.randn(1, 2, 9, 9)
    assert torch.equal(layer(x)[..., 4, 4], layer(changed)[..., 4, 4])
    assert not torch.equal(layer(x)[..., 4, 4], layer(x + (1 - same))[..., 4, 4])


def test_mask_equals_compressai() -> None:
    theirs = pytest.importorskip("compressai.layers").CheckerboardMaskedConv2d(2, 3, kernel_size=5, padding=2)
    ours = CheckerboardConv2d(2, 3)
    ours.load_state_dict({k: v for k, v in theirs.state_dict().items() if k != "mask"})
    x = torch.randn(2, 2, 6, 7)
    torch.testing.assert_close(ours(x), theirs(x))


def test_twin_is_a_plain_integer_convolution() -> None:
    torch.manual_seed(6)
    layer = CheckerboardConv2d(2, 3)
    twin = exact_twin(layer)
    assert not bool(twin.weight[..., ::2, ::2].any())
    x = to_fixed(3 * torch.randn(1, 2, 6, 7))
    weights, scale = twin.weight.double(), torch.exp2(twin.shift.double()).view(1, -1, 1, 1)
    expected = torch.floor((F.conv2d(x, weights, padding=2) + twin.bias.double().view(1, -1, 1, 1)) / scale)
    assert torch.equal(twin(x), expected)
    torch.testing.assert_close((twin(x) / 1024).float(), layer((x / 1024).float()), rtol=0, atol=0.01)


def test_kernel_must_be_odd() -> None:
    with pytest.raises(ValueError, match="odd"):
        CheckerboardConv2d(1, 1, 4)

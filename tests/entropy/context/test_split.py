"""The parameter network of hyperpriors without context, as floats and as integers."""

from __future__ import annotations

import pytest
import torch

from triode.entropy.context.split import SplitParameters
from triode.entropy.exact.layers import exact_twin, to_fixed
from triode.entropy.gaussian import scale_to_index


@pytest.mark.parametrize("means", [False, True])
def test_scales_come_first(means: bool) -> None:
    net = SplitParameters(means=means)
    scales, centres = torch.rand(2, 3, 4, 5) * 4 + 0.2, torch.randn(2, 3, 4, 5)
    hyper = torch.cat([scales, centres], 1) if means else scales
    ((mean, index),) = net(0, torch.zeros(2, 3, 4, 5), hyper, torch.zeros(2))
    assert torch.equal(mean, centres if means else torch.zeros_like(scales))
    torch.testing.assert_close(index, scale_to_index(scales))
    ((fixed_mean, fixed_index),) = exact_twin(net)(0, torch.zeros(2, 3, 4, 5), to_fixed(hyper), torch.zeros(2))
    assert torch.equal(fixed_mean, to_fixed(mean))
    assert float((fixed_index / 1024 - index).abs().max()) <= 0.51
    assert bool((fixed_index % 1024 == 0).all())

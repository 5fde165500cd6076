"""ELIC's blocks against CompressAI's, and how far they reach."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from triode.models.layers.attention import AttentionBlock, ResidualBottleneck


def _state(block: nn.Module) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(5)
    return {k: 0.5 * torch.randn(v.shape, generator=g) for k, v in block.state_dict().items()}


@pytest.mark.parametrize("kind", ["attention", "bottleneck"])
def test_equals_compressai(kind: str) -> None:
    pytest.importorskip("compressai")
    from compressai.layers import AttentionBlock as TheirAttention
    from compressai.models.sensetime import ResidualBottleneckBlock

    ours = AttentionBlock(6) if kind == "attention" else ResidualBottleneck(6)
    theirs = TheirAttention(6) if kind == "attention" else ResidualBottleneckBlock(6, 6)
    state = _state(ours)
    ours.load_state_dict(state)
    theirs.load_state_dict(state)
    x = torch.randn(2, 6, 7, 5)
    torch.testing.assert_close(ours(x), theirs(x.clone()))


@pytest.mark.parametrize(("block", "reach"), [(AttentionBlock(6), 3), (ResidualBottleneck(6), 1)])
def test_reach(block: nn.Module, reach: int) -> None:
    block.load_state_dict(_state(block))
    # Many samples, as ReLUs cut paths.
    x = torch.rand(32, 6, 15, 15, generator=torch.Generator().manual_seed(6)).requires_grad_()
    block(x)[:, :, 7, 7].square().sum().backward()
    rows, columns = x.grad.abs().sum((0, 1)).nonzero().unbind(1)
    assert (int(rows.min()), int(rows.max())) == (7 - reach, 7 + reach)
    assert (int(columns.min()), int(columns.max())) == (7 - reach, 7 + reach)

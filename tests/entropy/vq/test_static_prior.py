"""Static code prior: counted and learned tables, shared ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from triode.entropy.coder import RangeWriter
from triode.entropy.vq.static_prior import StaticPrior


def skewed(frames: int, seed: int) -> list[torch.Tensor]:
    """Codes of two stages, 0 far more often than the others."""
    generator = torch.Generator().manual_seed(seed)
    return [(torch.rand(1, frames, generator=generator) ** power * 10).long() for power in (3, 6)]


def test_counted_tables_reach_the_entropy() -> None:
    prior = StaticPrior((10, 10))
    prior.fit([skewed(20000, 1)])
    prior.export()
    codes, writer = skewed(20000, 2), RangeWriter()
    prior.encode(codes, writer)
    entropy = 0.0
    for power in (3, 6):
        p = np.diff((np.arange(11) / 10) ** (1 / power))
        entropy -= float((p * np.log2(p)).sum())
    assert abs(8 * len(writer.getvalue()) - 20000 * entropy) < 0.01 * 20000 * entropy
    assert entropy < 0.7 * 8  # Fixed-length codes take four bits each.


def test_learning_arrives_at_the_counts() -> None:
    codes = skewed(2000, 1)
    counted, learned = StaticPrior((10, 10)), StaticPrior((10, 10))
    counted.fit([codes], smoothing=1e-3)
    optimiser = torch.optim.Adam(learned.parameters(), lr=0.1)
    for _ in range(200):
        optimiser.zero_grad()
        learned(codes).sum().backward()
        optimiser.step()
    assert float(learned(codes).detach()) == pytest.approx(float(counted(codes).detach()), rel=1e-3)


def test_stages_of_a_group_share_a_table() -> None:
    codes = skewed(300, 1)
    prior = StaticPrior((10, 7, 10), groups=("a", "b", "a"))
    assert len(prior.logits) == 2
    prior.fit([[codes[0], codes[0] % 7, codes[1]]], smoothing=1e-9)
    prior.export()
    assert len(prior.tables.get()) == 2
    both = torch.cat(codes, 1)
    counts = np.bincount(both.numpy().ravel(), minlength=10)
    masses = prior.tables.get().table(0)[:-1] / 2**24
    assert np.allclose(masses, counts / counts.sum(), atol=1e-5)
    bits = prior.stage_bits([codes[0], codes[0] % 7, codes[0]])[0]
    assert bits[0] == bits[2]


@pytest.mark.parametrize("groups", [(0, 0), (0, 1, 0), (0,)])
def test_groups_must_fit(groups: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="`groups`"):
        StaticPrior((4, 5), groups=groups)

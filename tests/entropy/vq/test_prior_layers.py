"""Parts of context priors, beside integers without torch."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from triode.entropy.exact.layers import exact_twin
from triode.entropy.vq.prior_layers import CodeOrder, LeafHead, Powers, digits, similar_order


def reference_masses(logits: list[int], limit: int) -> list[int]:
    """Masses of one table, escape last, in Python's integers, as docs/entropy.md says."""
    n = len(logits)
    top = max(logits[:limit])
    e = []
    for i, logit in enumerate(logits):
        k = (top - logit + 8) >> 4
        e.append(round(2.0 ** (24 - k / 64)) if k < 24 * 64 and i < limit else 0)
    masses = [1 + x * (2**24 - n - 1) // sum(e) for x in e] + [1]
    masses[e.index(max(e))] += 2**24 - sum(masses)
    return masses


@pytest.mark.parametrize("size", range(2, 1100, 7))
def test_digits_cover_all_codes(size: int) -> None:
    clusters, leaves = digits(size)
    assert (clusters - 1) * leaves < size <= clusters * leaves
    assert max(clusters, leaves) <= max(64, 2 * math.sqrt(size))
    assert (clusters == 1) == (size <= 64)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), rows=st.integers(1, 5), n=st.integers(1, 40), spread=st.sampled_from([0, 20, 3000, 1 << 23]))
def test_tables_are_the_reference_s(data: st.DataObject, rows: int, n: int, spread: int) -> None:
    values = st.integers(-min(spread, (1 << 23) - 1), min(spread, (1 << 23) - 1))
    logits = data.draw(st.lists(st.lists(values, min_size=n, max_size=n), min_size=rows, max_size=rows))
    limits = data.draw(st.one_of(st.none(), st.lists(st.integers(1, n), min_size=rows, max_size=rows)))
    limit = None if limits is None else torch.tensor(limits)
    tables = Powers().tables(torch.tensor(logits, dtype=torch.float64), limit)
    assert len(tables) == rows
    assert not tables.offsets.any()
    for row in range(rows):
        assert tables.table(row).tolist() == reference_masses(logits[row], n if limits is None else limits[row])


def test_tables_are_the_softmax() -> None:
    logits = torch.randn(50, 32, generator=torch.Generator().manual_seed(0)) * 3
    tables = Powers().tables(torch.round(logits.double() * 1024))
    wanted = torch.softmax(logits.double() * math.log(2), 1)
    got = torch.from_numpy(tables.masses.reshape(50, 33)[:, :32] / 2**24)
    divergence = (wanted * (wanted / got).log2()).sum(1)
    assert float(divergence.max()) < 3e-5  # bits


@pytest.mark.parametrize("size", [5, 64, 65, 70, 128])
def test_leaf_head(size: int) -> None:
    torch.manual_seed(0)
    head = LeafHead(8, size)
    with torch.no_grad():
        head.rows.weight.mul_(4)
    x = torch.round(torch.randn(1, 8, 1, 90) * 1024).double()
    cluster = torch.randint(head.clusters, (1, 90))
    floating = 1024 * head(x.float() / 1024, cluster)[0].detach()
    twin = exact_twin(head)
    exact = twin(x, cluster)[0]
    assert torch.equal(exact, exact.round())
    weight, bias, shift = (getattr(twin.rows, name).numpy().astype(object) for name in ("weight", "bias", "shift"))
    for n in range(90):
        codes = range(int(cluster[0, n]) * head.leaves, min(size, (int(cluster[0, n]) + 1) * head.leaves))
        vector = [int(v) for v in x[0, :, 0, n]]
        for leaf, code in enumerate(codes):
            terms = sum(int(w) * v for w, v in zip(weight[code].ravel(), vector, strict=True))
            assert exact[leaf, n] == (terms + bias[code]) >> shift[code]
            assert abs(float(exact[leaf, n]) - float(floating[leaf, n])) < 3
        assert bool(torch.isinf(floating[len(codes) :, n]).all())


def test_embedding_twin() -> None:
    embedding = nn.Embedding(6, 3)
    twin = exact_twin(embedding)
    codes = torch.tensor([[0, 5, 5, 2]])
    assert twin(codes).dtype == torch.float64
    assert torch.equal(twin(codes), torch.round(embedding(codes).double() * 1024))
    for value in (32.0, float("nan")):
        with torch.no_grad():
            embedding.weight[3, 1] = value
        with pytest.raises(ValueError, match="below 32"):
            exact_twin(embedding)


def test_order_must_be_a_permutation() -> None:
    order = CodeOrder(5)
    order.load_state_dict({"codes": torch.tensor([3, 0, 4, 1, 2], dtype=torch.int32)})
    codes = torch.arange(5)
    assert torch.equal(order.restore(order.ranks(codes)), codes)
    assert order.ranks(codes).tolist() == [1, 3, 4, 0, 2]
    with pytest.raises(ValueError, match="each of them once"):
        order.load_state_dict({"codes": torch.tensor([3, 1, 4, 3, 2], dtype=torch.int32)})


@pytest.mark.parametrize("count", [1, 2, 3, 37, 64])
def test_similar_vectors_come_together(count: int) -> None:
    generator = torch.Generator().manual_seed(count)
    shuffled = torch.randperm(count, generator=generator)
    line = torch.stack([shuffled.float(), -2 * shuffled.float(), torch.full((count,), 3.0)], 1)
    order = similar_order(line)
    assert sorted(order.tolist()) == list(range(count))
    places = shuffled[order]
    assert bool((places.diff() == 1).all() | (places.diff() == -1).all())
    blocks = similar_order(torch.randn(count, 5, generator=generator) + 20 * (torch.arange(count) % 4)[:, None] ** 2)
    quarters = torch.split(blocks % 4, max(count // 4, 1))
    if count == 64:
        assert all(len(set(part.tolist())) == 1 for part in quarters)

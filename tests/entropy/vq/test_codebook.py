"""Codebooks: search, k-means start, moving averages, restarts, several processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from triode.entropy.vq import Codebook, PlainVQ, ResidualVQ
from triode.entropy.vq import codebook as codebook_module
from triode.entropy.vq.codebook import kmeans, nearest


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class TestNearest:
    @settings(max_examples=30, deadline=None)
    @given(st.integers(1, 40), st.integers(2, 30), st.integers(1, 6), st.booleans(), st.integers(0, 1000))
    def test_is_the_least_distant(self, n: int, size: int, dim: int, cosine: bool, seed: int) -> None:
        samples, entries = normal(n, dim, seed=seed), normal(size, dim, seed=seed + 1)
        codes = nearest(samples, entries, cosine=cosine)
        a, b = samples.double().numpy(), entries.double().numpy()
        if cosine:
            a, b = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b))
        distances = ((a[:, None] - b[None]) ** 2).sum(2)
        np.testing.assert_allclose(distances[np.arange(n), codes.numpy()], distances.min(1), atol=1e-5)

    def test_in_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        samples, entries = normal(103, 4), normal(16, 4, seed=1)
        whole = nearest(samples, entries)
        monkeypatch.setattr(codebook_module, "_MAX_SCORES", 16 * 10)
        assert torch.equal(nearest(samples, entries), whole)


class TestKMeans:
    def clusters(self) -> tuple[Tensor, Tensor]:
        centres = torch.tensor([[10.0, 0], [0, 10], [-10, 0], [0, -10]])
        return centres, (centres[:, None] + normal(4, 100, 2) * 0.1).reshape(-1, 2)

    def test_finds_clusters(self) -> None:
        centres, samples = self.clusters()
        torch.manual_seed(0)
        entries = kmeans(samples, 12, 20)
        assert entries.shape == (12, 2)
        assert torch.cdist(centres, entries).min(1).values.max() < 0.3
        assert torch.cdist(samples, entries).min(1).values.max() < 0.4

    @pytest.mark.parametrize("cosine", [False, True])
    def test_ends_where_entries_are_means(self, cosine: bool) -> None:
        samples = normal(400, 3)
        torch.manual_seed(0)
        entries = kmeans(samples, 6, 100, cosine=cosine)
        codes = nearest(samples, entries, cosine=cosine).numpy()
        means = np.stack([samples.double().numpy()[codes == k].mean(0) for k in range(6)])
        np.testing.assert_allclose(entries.numpy(), means, atol=1e-5)

    def test_fewer_vectors_than_entries_leave_a_residual(self) -> None:
        samples = normal(40, 8)
        torch.manual_seed(0)
        entries = kmeans(samples, 64, 10)
        distances = torch.cdist(samples, entries)
        assert (distances.min(1).values < 1e-3).float().mean() < 0.2  # clusters of one vector
        assert torch.cdist(entries, entries).fill_diagonal_(1).min() > 1e-3
        assert entries.std() == pytest.approx(float(samples.std()), rel=0.3)

    def test_one_vector(self) -> None:
        samples = normal(1, 3)
        assert torch.equal(kmeans(samples, 5, 3), samples.repeat(5, 1))

    def test_repeats_with_the_seed(self) -> None:
        runs = []
        for _ in range(2):
            torch.manual_seed(4)
            runs.append(kmeans(normal(50, 4), 16, 5))
        assert torch.equal(*runs)


class TestStart:
    def test_on_the_first_training_batch_only(self) -> None:
        x = normal(4, 3, 50) + 5
        quantizer = PlainVQ(3, 8, restart_ratio=0)
        before = quantizer.codebook.entries.clone()
        quantizer.eval()(x)
        assert torch.equal(quantizer.codebook.entries, before)
        out = quantizer.train()(x)
        assert (out.values.detach() - x).square().mean() < 0.6 * x.var()
        assert int(quantizer.codebook.steps) == 1
        started = quantizer.codebook.entries.clone()
        quantizer(x + 100)
        assert (quantizer.codebook.entries - started).norm(dim=1).count_nonzero() == 1  # moved on average, not anew

    def test_may_be_left_out(self) -> None:
        quantizer = PlainVQ(3, 8, kmeans_iterations=0, restart_ratio=0, ema=False)
        before = quantizer.codebook.entries.detach().clone()
        quantizer(normal(4, 3, 50))
        assert torch.equal(quantizer.codebook.entries, before)

    def test_takes_active_samples(self) -> None:
        x = torch.cat([torch.full((1, 3, 20), 9.0), normal(1, 3, 20)])
        for active, near in (([False, True], False), ([True, True], True), ([False, False], True)):
            quantizer = PlainVQ(3, 4)
            torch.manual_seed(0)
            quantizer(x, torch.tensor(active).long())
            assert bool((quantizer.codebook.entries > 8).any()) == near

    def test_of_every_residual_stage(self) -> None:
        torch.manual_seed(0)
        x = normal(4, 6, 100)
        quantizer = ResidualVQ([PlainVQ(6, 16) for _ in range(3)])
        quantizer(x)
        quantizer.eval()
        errors = [float((quantizer(x, n).values - x).square().mean()) for n in (1, 2, 3)]
        assert 1 > errors[0] > 1.2 * errors[1] > 1.2**2 * errors[2] > 0

    def test_of_every_residual_stage_with_few_vectors(self) -> None:
        torch.manual_seed(0)
        x = normal(1, 6, 32)
        quantizer = ResidualVQ([PlainVQ(6, 64) for _ in range(3)])
        quantizer(x)
        for stage in quantizer.quantizers:
            entries = stage.codebook.entries
            assert torch.cdist(entries, entries).fill_diagonal_(1).min() > 0


class TestMovingAverage:
    def test_against_sums_and_counts(self) -> None:
        decay, steps, size = 0.8, 6, 5
        book = Codebook(size, 3, decay=decay, kmeans_iterations=0, restart_ratio=0)
        sums, counts = book.entries.double().numpy() / size, np.full(size, 1 / size)
        for step in range(steps):
            samples = normal(40 + step, 3, seed=step) + step / 5
            entries = sums / counts[:, None]
            codes = ((samples.double().numpy()[:, None] - entries[None]) ** 2).sum(2).argmin(1)
            found, values = book.assign(samples.t()[None])
            assert np.array_equal(found[0].numpy(), codes)
            np.testing.assert_allclose(values[0].numpy().T, entries[codes], atol=1e-5)
            onehot = np.eye(size)[codes]
            counts = decay * counts + (1 - decay) * onehot.mean(0)
            sums = decay * sums + (1 - decay) * onehot.T @ samples.double().numpy() / len(samples)
        np.testing.assert_allclose(book.entries.numpy(), sums / counts[:, None], atol=1e-5)
        np.testing.assert_allclose(book.usage.numpy(), counts, atol=1e-6)
        assert int(book.steps) == steps

    def test_unused_entries_stay_finite_and_where_they_are(self) -> None:
        book = Codebook(3, 2, decay=0.5, kmeans_iterations=0, restart_ratio=0)
        book.entries.copy_(torch.tensor([[0.0, 0], [50, 50], [-50, 50]]))
        for step in range(300):  # 2 ** -300 is nothing in float32
            book.assign(normal(1, 2, 20, seed=step))
        assert torch.equal(book.entries[1:], torch.tensor([[50.0, 50], [-50, 50]]))
        assert not book.usage[1:].any()
        book.assign(torch.tensor([49.0, 48]).view(1, 2, 1))
        assert torch.allclose(book.entries[1], torch.tensor([49.0, 48]))

    def test_does_not_depend_on_the_size_of_the_batch(self) -> None:
        books = []
        for repeat in (1, 7):
            torch.manual_seed(0)
            book = Codebook(8, 2, decay=0.7, kmeans_iterations=0, restart_ratio=0)
            for step in range(5):
                book.assign(normal(3, 2, 20, seed=step).repeat(repeat, 1, 1))
            books.append(book)
        torch.testing.assert_close(books[0].entries, books[1].entries)
        torch.testing.assert_close(books[0].usage, books[1].usage)

    def test_a_parameter_is_left_to_the_optimizer(self) -> None:
        book = Codebook(8, 2, ema=False, kmeans_iterations=0, restart_ratio=0)
        before = book.entries.detach().clone()
        book.assign(normal(3, 2, 20))
        assert torch.equal(book.entries, before)
        assert not torch.equal(book.usage, torch.full((8,), 1 / 8))
        assert book.entries.requires_grad


class TestSwiftStart:
    def test_averages_follow_fast_at_first(self) -> None:
        book = Codebook(2, 1, kmeans_iterations=0, restart_ratio=0.0).train()
        book.swift = True
        with torch.no_grad():
            book.entries.copy_(torch.tensor([[0.0], [10.0]]))
        usage = 0.5
        for n in range(2000):
            book.assign(torch.full((1, 1, 4), 1.0))
            decay = min(0.99, (1 + n) / (10 + n))
            usage = decay * usage + (1 - decay)
            assert float(book.usage[0]) == pytest.approx(usage, rel=1e-4)
            if n == 0:  # The share of a batch is 1, and the quotient of both averages moves by 0.9 / 0.95.
                assert float(book.entries[0, 0]) == pytest.approx(0.9 / 0.95, rel=1e-5)
        assert float(book.entries[0, 0]) == pytest.approx(1.0, abs=1e-4)
        assert float(book.entries[1, 0]) == 10.0

    def test_not_for_entries_that_have_been_learned(self) -> None:
        book = Codebook(2, 1).train()
        book.swift = True
        assert not book.started
        book.mark_started()
        assert book.started
        before = book.entries.clone()
        book.assign(torch.full((1, 1, 4), 1.0))
        nearer = int((before - 1).abs().argmin())
        # No k-means, and a step of an average with its own decay.
        usage = 0.99 * 0.5 + 0.01
        assert float(book.usage[nearer]) == pytest.approx(usage, rel=1e-5)
        step = 0.01 * (1 - float(before[nearer])) / usage
        assert float(book.entries[nearer]) == pytest.approx(float(before[nearer]) + step, rel=1e-4)


class TestRestart:
    """Two entries amid the data, two far away, whose usage falls below a tenth of the mean after two steps at 0.3."""

    def book(self, *, ema: bool = True, every: int = 3, ratio: float = 0.1, decay: float = 0.3) -> Codebook:
        book = Codebook(4, 2, ema=ema, decay=decay, kmeans_iterations=0, restart_ratio=ratio, restart_every=every)
        with torch.no_grad():
            book.entries.copy_(torch.tensor([[-1.0, 0], [1, 0], [90, 90], [-90, 90]]))
        return book

    def run(self, book: Codebook, steps: int, repeat: int = 1) -> list[int]:
        """Return how many of the far entries are left before each step's search."""
        torch.manual_seed(0)
        left = []
        for step in range(steps):
            book.assign(normal(2, 2, 20, seed=step).repeat(repeat, 1, 1))
            left.append(int((book.entries.norm(dim=1) > 50).sum()))
        return left

    @pytest.mark.parametrize("ema", [True, False])
    def test_moves_unused_entries_at_the_check(self, ema: bool) -> None:
        book = self.book(ema=ema)
        near = book.entries[:2].detach().clone()
        assert self.run(book, 3) == [2, 2, 2]
        assert torch.all(book.usage[2:] < 0.1 / 4)
        last = normal(2, 2, 20, seed=3)
        torch.manual_seed(0)
        codes, _ = book.assign(last)
        assert (book.entries.norm(dim=1) < 10).all()
        if not ema:  # entries that are in use stay, the new ones are vectors of the batch
            assert torch.equal(book.entries[:2], near)
            vectors = last.transpose(1, 2).reshape(-1, 2)
            apart = torch.cdist(book.entries[2:], vectors, compute_mode="donot_use_mm_for_euclid_dist")
            assert (apart.min(1).values == 0).all()
        assert {2, 3} <= set(codes.flatten().tolist())
        # The mean to begin with, then this step's share: time to prove itself until the next check.
        shares = torch.bincount(codes.flatten(), minlength=4) / codes.numel()
        torch.testing.assert_close(book.usage[2:], 0.3 / 4 + 0.7 * shares[2:])

    def test_does_not_depend_on_the_size_of_the_batch(self) -> None:
        expected = [2, 2, 2, 0, 0]
        assert self.run(self.book(), 5) == expected
        assert self.run(self.book(), 5, repeat=9) == expected

    def test_waits_for_the_check(self) -> None:
        assert self.run(self.book(every=5), 7) == [2, 2, 2, 2, 2, 0, 0]

    def test_goes_by_the_ratio(self) -> None:
        # Usage after n steps is 0.3 ** n of the first, which is the mean: 0.027 at the third.
        assert self.run(self.book(ratio=0.03), 4) == [2, 2, 2, 0]
        assert self.run(self.book(ratio=0.02), 4) == [2, 2, 2, 2]
        assert self.run(self.book(ratio=0.0), 40)[-1] == 2

    def test_not_in_evaluation(self) -> None:
        book = self.book(every=1)
        self.run(book, 1)
        book.usage[2:] = 0
        book.eval().assign(normal(1, 2, 5))
        assert (book.entries.norm(dim=1) > 50).sum() == 2

    def test_takes_active_samples(self) -> None:
        book = self.book(every=1)
        book.assign(normal(2, 2, 20))
        book.usage[2:] = 0
        x = torch.stack([torch.full((2, 9), 33.0), torch.full((2, 9), 7.0)])
        book.prepare(x.transpose(1, 2).reshape(-1, 2), torch.arange(18) >= 9)
        assert torch.equal(book.entries[2:], torch.full((2, 2), 7.0))

    def test_continues_after_loading(self) -> None:
        book = self.book()
        self.run(book, 2)
        other = self.book()
        self.run(other, 3)
        other.load_state_dict(book.state_dict())
        other.assign(normal(2, 2, 20))
        assert (other.entries.norm(dim=1) > 50).sum() == 2  # the third step: the check comes with the fourth
        other.assign(normal(2, 2, 20))
        assert (other.entries.norm(dim=1) > 50).sum() == 0


_WORKER = """
import sys
import torch
from torch import distributed
from triode.entropy.vq import Codebook

rank, store, parts = int(sys.argv[1]), sys.argv[2], 2
distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=parts)

def run(**options):
    torch.manual_seed(0)
    book = Codebook(8, 3, decay=0.6, **options)
    torch.manual_seed(rank)
    for step in range(6):
        x = torch.randn(4, 3, 10, generator=torch.Generator().manual_seed(step))
        book.assign(x[2 * rank : 2 * rank + 2])
    return book

exact = run(kmeans_iterations=0, restart_ratio=0)
chosen = run(kmeans_iterations=2, restart_ratio=0.5, restart_every=2)
print(repr([t.flatten().tolist() for b in (exact, chosen) for t in (b.entries, b.usage)]))
"""


def test_processes_share_one_codebook(tmp_path: Path) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER, str(rank), str(tmp_path / "store")], stdout=subprocess.PIPE, text=True
        )
        for rank in range(2)
    ]
    found = [eval(worker.communicate()[0]) for worker in workers]
    assert found[0] == found[1]
    torch.manual_seed(0)
    alone = Codebook(8, 3, decay=0.6, kmeans_iterations=0, restart_ratio=0)
    for step in range(6):
        alone.assign(normal(4, 3, 10, seed=step))
    np.testing.assert_allclose(found[0][0], alone.entries.flatten().numpy(), atol=1e-5)
    np.testing.assert_allclose(found[0][1], alone.usage.numpy(), atol=1e-6)

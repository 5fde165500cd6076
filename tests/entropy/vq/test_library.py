"""The same numbers as vector-quantize-pytorch, where it has the same thing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from triode.entropy.vq import FSQ, GroupResidualVQ, PlainVQ, ResidualVQ, SimVQ, VectorQuantizer

library = pytest.importorskip("vector_quantize_pytorch")

DIM, SIZE, DECAY = 8, 16, 0.9
OPTIONS = {
    "dim": DIM,
    "codebook_size": SIZE,
    "decay": DECAY,
    "eps": 1e-12,
    "threshold_ema_dead_code": 0,
    "rotation_trick": False,
}


@pytest.fixture
def x() -> Tensor:
    return torch.randn(3, DIM, 20, generator=torch.Generator().manual_seed(0))


def plain(dim: int = DIM) -> PlainVQ:
    return PlainVQ(dim, SIZE, decay=DECAY, commitment=0.7, kmeans_iterations=0, restart_ratio=0)


def lend(ours: PlainVQ, theirs: Any, vectors: int) -> None:
    """Give the library's codebook our state; its averages are of counts, ours of shares."""
    book, other = ours.codebook, theirs._codebook
    other.embed.data.copy_(book.entries[None])
    other.cluster_size.copy_(book.usage[None] * vectors)
    other.embed_avg.copy_(book.entries[None] * book.usage[None, :, None] * vectors)


def compare(ours: VectorQuantizer, theirs: Any, x: Tensor, theirs_loss_of: str = "sum") -> None:
    out = ours(x)
    values, codes, loss = theirs(x.transpose(1, 2))
    torch.testing.assert_close(out.values, values.transpose(1, 2))
    for stage, code in enumerate(out.codes):
        assert torch.equal(code, codes[..., stage] if codes.dim() == 3 else codes)
    torch.testing.assert_close(out.loss.mean(), getattr(loss, theirs_loss_of)())


@pytest.mark.parametrize("training", [True, False])
def test_plain(x: Tensor, training: bool) -> None:
    ours, theirs = plain().train(training), library.VectorQuantize(**OPTIONS, commitment_weight=0.7).train(training)
    lend(ours, theirs, x[:, 0].numel())
    if training:
        for step in range(4):
            compare(ours, theirs, x + step / 3)
    torch.testing.assert_close(ours.codebook.entries, theirs._codebook.embed[0])
    values, codes, _ = theirs(x.transpose(1, 2))
    out = ours(x)
    torch.testing.assert_close(out.values, values.transpose(1, 2))
    assert torch.equal(out.codes[0], codes)


def test_residual(x: Tensor) -> None:
    ours = ResidualVQ([plain() for _ in range(3)])
    theirs = library.ResidualVQ(num_quantizers=3, **OPTIONS, commitment_weight=0.7)
    for stage, layer in zip(ours.quantizers, theirs.layers, strict=True):
        assert isinstance(stage, PlainVQ)
        lend(stage, layer, x[:, 0].numel())
    for step in range(3):
        compare(ours, theirs, x + step / 3)
    # Commitment alone: through the values the library passes the gradient once a stage.
    x = x.clone().requires_grad_()
    mine, (_, _, loss) = ours.eval()(x), theirs.train()(x.transpose(1, 2), freeze_codebook=True)
    torch.testing.assert_close(*(torch.autograd.grad(total, x)[0] for total in (mine.loss.mean(), loss.sum())))


def test_group_residual(x: Tensor) -> None:
    ours = GroupResidualVQ(DIM, SIZE, 2, 2, ema=True, commitment=0.7, kmeans_iterations=0, restart_ratio=0).eval()
    theirs = library.GroupedResidualVQ(groups=2, num_quantizers=2, **OPTIONS, commitment_weight=0.7).eval()
    for group, other in zip(ours.quantizers, theirs.rvqs, strict=True):
        for stage, layer in zip(group.quantizers, other.layers, strict=True):
            lend(stage, layer, 1)
    out = ours(x)
    values, codes, _ = theirs(x.transpose(1, 2))
    torch.testing.assert_close(out.values, values.transpose(1, 2))
    for index, code in enumerate(out.codes):
        assert torch.equal(code, codes[index % 2, :, :, index // 2])


@pytest.mark.parametrize("levels", [(8, 5, 5, 5), (7, 4, 3), (8, 8, 8, 5, 5, 5)])
def test_fsq(levels: tuple[int, ...]) -> None:
    x = torch.randn(2, len(levels), 50, generator=torch.Generator().manual_seed(0)) * 2
    x.requires_grad_()
    ours, theirs = FSQ(levels), library.FSQ(list(levels))
    out = ours(x)
    values, codes = theirs(x.transpose(1, 2))
    torch.testing.assert_close(out.values, values.transpose(1, 2))
    assert torch.equal(out.codes[0], codes.long())
    torch.testing.assert_close(ours.decode(out.codes), theirs.indices_to_codes(codes).transpose(1, 2))
    grads = [torch.autograd.grad((v * v.detach()).sum(), x)[0] for v in (out.values, values)]
    torch.testing.assert_close(*grads)


def test_sim(x: Tensor) -> None:
    ours, theirs = SimVQ(DIM, SIZE, 5), library.SimVQ(DIM, SIZE, frozen_codebook_dim=5, rotation_trick=False)
    theirs.frozen_codebook.copy_(ours.frozen)
    theirs.code_transform.load_state_dict(ours.transform.state_dict())
    x.requires_grad_()
    compare(ours, theirs, x)
    mine, (values, _, loss) = ours(x), theirs(x.transpose(1, 2))
    weights = [ours.transform.weight, theirs.code_transform.weight]
    for total, weight in zip((mine.values.sum() + mine.loss.mean(), values.sum() + loss), weights, strict=True):
        total.backward(inputs=[x, weight])
    torch.testing.assert_close(weights[0].grad, weights[1].grad)

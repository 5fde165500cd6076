"""Where gradients go: straight through once, every stage's commitment to the features, nowhere else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from triode.entropy.vq import (
    FSQ,
    FactorisedVQ,
    GroupResidualVQ,
    GumbelVQ,
    MaskedChannelResidualVQ,
    PlainVQ,
    PooledVQ,
    ResidualVQ,
    SimVQ,
    VectorQuantizer,
)

DIM, FRAMES = 6, 8


def inputs(seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return features that want a gradient, and weights of the values."""
    generator = torch.Generator().manual_seed(seed)
    x, weights = torch.randn(2, 3, DIM, FRAMES, generator=generator)
    return x.requires_grad_(), weights


def plain(*, ema: bool = True) -> PlainVQ:
    return PlainVQ(DIM, 8, ema=ema, kmeans_iterations=0, restart_ratio=0)


@pytest.mark.parametrize(
    "quantizer",
    [
        plain(),
        plain(ema=False),
        SimVQ(DIM, 8),
        ResidualVQ([plain() for _ in range(4)]),
        ResidualVQ([ResidualVQ([plain(), plain()]), SimVQ(DIM, 8), plain(ema=False)]),
        GroupResidualVQ(DIM, 8, groups=2, depth=3),
        MaskedChannelResidualVQ([plain() for _ in range(5)]),
        ResidualVQ([PooledVQ(plain(), 4), PooledVQ(plain(), 2), plain()]),
    ],
    ids=["plain", "plain-gradient", "sim", "residual", "nested", "group-residual", "masked", "multiscale"],
)
@pytest.mark.parametrize("training", [True, False])
def test_values_pass_the_gradient_through_once(quantizer: VectorQuantizer, training: bool) -> None:
    x, weights = inputs()
    out = quantizer.train(training)(x)
    (grad,) = torch.autograd.grad((out.values * weights).sum(), x)
    torch.testing.assert_close(grad, weights)


def test_dropped_stages_pass_no_gradient() -> None:
    x, weights = inputs()
    out = ResidualVQ([plain() for _ in range(4)])(x, torch.tensor([0, 1, 3]))
    (grad,) = torch.autograd.grad((out.values * weights).sum(), x)
    assert torch.equal(grad, torch.cat([torch.zeros_like(weights[:1]), weights[1:]]))


def test_values_do_not_move_the_entries() -> None:
    quantizer = plain(ema=False)
    x, weights = inputs()
    values = quantizer(x).values
    assert torch.autograd.grad((values * weights).sum(), quantizer.codebook.entries, allow_unused=True) == (None,)


def test_commitment_of_every_stage_reaches_the_features() -> None:
    # facebookresearch/encodec#25: with the residual left attached, all stages but the first have a zero gradient.
    x, _ = inputs()
    quantizer = ResidualVQ([plain() for _ in range(3)]).eval()
    expected = torch.zeros_like(x)
    for count in (1, 2, 3):
        out = quantizer(x, count)
        expected = expected + 2 * (x - out.values).detach() / (DIM * FRAMES)
        (grad,) = torch.autograd.grad(out.loss.sum(), x)
        torch.testing.assert_close(grad, expected)


@pytest.mark.parametrize("average", [True, False])
def test_commitment_counts_the_stages_in_use(average: bool) -> None:
    x, _ = inputs()
    quantizer = ResidualVQ([plain() for _ in range(3)], average=average).eval()
    (grad,) = torch.autograd.grad(quantizer(x, torch.tensor([1, 2, 3])).loss.sum(), x)
    for b, count in enumerate((1, 2, 3)):
        (alone,) = torch.autograd.grad(quantizer(x[b : b + 1], count).loss.sum(), x)
        torch.testing.assert_close(grad[b], alone[b])


@pytest.mark.parametrize("quantizer", [plain(ema=False), SimVQ(DIM, 8)], ids=["plain", "sim"])
def test_codebook_loss_moves_entries_and_commitment_the_features(quantizer: PlainVQ | SimVQ) -> None:
    x, _ = inputs()
    quantizer.commitment = 0.5
    out = quantizer(x)
    difference = (out.values - x).detach() * 2 / (DIM * FRAMES)
    learned = next(quantizer.parameters())
    to_x, to_learned = torch.autograd.grad(out.loss.sum(), [x, learned])
    torch.testing.assert_close(to_x, -0.5 * difference)
    by_code = torch.zeros(8, DIM).index_add_(0, out.codes[0].flatten(), difference.transpose(1, 2).flatten(0, 1))
    # SimVQ's entries are frozen @ weight.T.
    expected = by_code.t() @ quantizer.frozen if isinstance(quantizer, SimVQ) else by_code
    torch.testing.assert_close(to_learned, expected)


class TestFactorised:
    def matrix(self, quantizer: FactorisedVQ) -> Tensor:
        down, up = quantizer.project_in, quantizer.project_out
        assert isinstance(down, nn.Linear)
        assert isinstance(up, nn.Linear)
        return (up.weight @ down.weight).detach()

    def test_gradient_is_the_chain_rule_through_all_stages(self) -> None:
        quantizer = ResidualVQ([FactorisedVQ(DIM, 8, 2) for _ in range(3)])
        x, weights = inputs()
        (grad,) = torch.autograd.grad((quantizer(x).values * weights).sum(), x)
        left = torch.eye(DIM)
        for stage in quantizer.quantizers:
            left = (torch.eye(DIM) - self.matrix(stage)) @ left
        expected = torch.einsum("ij,bit->bjt", torch.eye(DIM) - left, weights)
        torch.testing.assert_close(grad, expected)

    def test_projections_learn_from_the_values(self) -> None:
        quantizer = ResidualVQ([FactorisedVQ(DIM, 8, 2, normalised=False, bias=False) for _ in range(3)])
        x, weights = inputs()
        names, tensors = zip(*quantizer.named_parameters(), strict=True)
        grads = torch.autograd.grad((quantizer(x).values * weights).sum(), tensors, allow_unused=True)
        for name, grad in zip(names, grads, strict=True):
            assert (grad is None) == name.endswith("entries"), name

    def test_losses_see_the_residuals_detached(self) -> None:
        quantizer = ResidualVQ([FactorisedVQ(DIM, 8, 2) for _ in range(2)])
        x, _ = inputs()
        first = quantizer.quantizers[0]
        alone, both = quantizer(x, 1), quantizer(x, 2)
        assert torch.autograd.grad(both.loss.sum() - alone.loss.sum(), first.project_out.bias, allow_unused=True) == (
            None,
        )
        second = quantizer.quantizers[1]
        low = second.project_in((x - alone.values.detach()).transpose(1, 2))
        entries = second.codebook.lookup(both.codes[1]).transpose(1, 2).detach()
        expected = 0.25 * (low - entries).square().mean((1, 2)).sum()
        (wanted,) = torch.autograd.grad(expected, x)
        (found,) = torch.autograd.grad((both.loss - quantizer(x, 1).loss).sum(), x)
        torch.testing.assert_close(found, wanted)


def test_fsq_passes_rounding_alone() -> None:
    levels = (8, 5, 3)
    quantizer = FSQ(levels)
    x = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(quantizer(x).values.sum(), x)

    def bounded(values: Tensor) -> Tensor:
        return quantizer.bypass(values.detach()).sum()

    step = 1e-6
    for c in range(3):
        shift = torch.zeros_like(x)
        shift[0, c, 2] = step
        numeric = (bounded(x + shift) - bounded(x - shift)) / (2 * step)
        assert float(grad[0, c, 2]) == pytest.approx(float(numeric), rel=1e-6)


def test_gumbel_gradient_is_that_of_the_soft_assignment() -> None:
    quantizer = GumbelVQ(DIM, 8).double()
    x, weights = (tensor.double() for tensor in inputs())
    x = x.detach().requires_grad_()

    def values(hard: bool) -> Tensor:
        quantizer.hard = hard
        torch.manual_seed(0)
        return (quantizer(x).values * weights).sum()

    wanted = [x, quantizer.temperature]
    soft, hard = (torch.autograd.grad(values(hard), wanted) for hard in (False, True))
    for a, b in zip(soft, hard, strict=True):
        torch.testing.assert_close(a, b)
        assert a.any()


def test_sim_moves_its_map_alone() -> None:
    quantizer = SimVQ(DIM, 8)
    assert [name for name, _ in quantizer.named_parameters()] == ["transform.weight"]
    assert "frozen" in quantizer.state_dict()

"""Factorised prior: beside CompressAI's, and its tables beside its likelihoods."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from triode.entropy.coder import CountingWriter, RangeReader, RangeWriter
from triode.entropy.factorized import FactorizedPrior
from triode.errors import UnsupportedError


def random_prior(channels: int = 5, *, learned_medians: bool = False, init_scale: float = 10.0) -> FactorizedPrior:
    torch.manual_seed(3)
    prior = FactorizedPrior(channels, init_scale=init_scale, learned_medians=learned_medians).eval()
    with torch.no_grad():
        for parameters in (prior.matrices, prior.biases, prior.factors):
            for parameter in parameters:
                parameter.add_(torch.randn_like(parameter) * 0.4)
    return prior


def shift(prior: FactorizedPrior, by: float) -> FactorizedPrior:
    """Move all densities up by `by`."""
    with torch.no_grad():
        first = torch.nn.functional.softplus(prior.matrices[0])
        prior.biases[0].sub_(first * by)
    return prior


def test_beside_compressai() -> None:
    theirs = pytest.importorskip("compressai.entropy_models").EntropyBottleneck(5).eval()
    ours = random_prior(learned_medians=True)
    with torch.no_grad():
        for name in ("matrices", "biases", "factors"):
            for target, source in zip(getattr(theirs, name), getattr(ours, name), strict=True):
                target.copy_(source)
    theirs.update(force=True, update_quantiles=True)
    ours.update_medians()
    assert torch.allclose(ours.medians, theirs.quantiles[:, 0, 1], atol=2e-3)
    ours.medians.copy_(theirs.quantiles[:, 0, 1].detach())
    z = torch.randn(2, 5, 4, 3) * 12
    z_hat, likelihood = theirs(z)
    out = ours(z)
    assert torch.allclose(out.y_hat, z_hat, atol=1e-5)
    assert torch.allclose(ours.likelihood(z_hat), likelihood, rtol=1e-3, atol=1e-7)
    assert torch.allclose(out.bits, -torch.log2(likelihood).flatten(1).sum(1), rtol=1e-4)


def test_medians_split_the_mass() -> None:
    prior = shift(random_prior(learned_medians=True), 17.3)
    prior.update_medians()
    assert torch.allclose(prior.logits_cumulative(prior.medians.view(5, 1, 1)), torch.tensor(0.0), atol=1e-4)
    fixed = shift(random_prior(), 17.3)
    fixed.update_medians()
    assert not fixed.medians.any()


def test_density_symmetric_about_zero_has_mass_there() -> None:
    prior = FactorizedPrior(2).eval()
    with torch.no_grad():
        for bias in prior.biases:
            bias.zero_()
    likelihood = prior.likelihood(torch.arange(-400.0, 401)[:, None].expand(-1, 2))
    assert torch.allclose(likelihood.sum(0), torch.tensor(1.0), atol=1e-3)
    assert (likelihood[400] > likelihood[401] * 0.99).all()


def test_forward_in_training_is_differentiable_and_noisy() -> None:
    prior = random_prior().train()
    z = torch.randn(2, 5, 3, 3, requires_grad=True)
    out = prior(z)
    assert torch.equal(out.y_hat, torch.round(z))
    assert not torch.equal(out.bits, prior(z).bits)
    out.bits.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in (z, *prior.parameters()))
    assert z.grad.any()


@pytest.mark.parametrize("learned_medians", [False, True])
@pytest.mark.parametrize(("init_scale", "by"), [(10.0, 0.0), (0.1, -3.3), (10.0, 90.0), (60.0, 0.0)])
def test_tables_are_the_likelihoods(learned_medians: bool, init_scale: float, by: float) -> None:
    prior = shift(random_prior(learned_medians=learned_medians, init_scale=init_scale), by)
    prior.export()
    tables = prior.tables.get()
    assert len(tables) == 5
    for channel in range(5):
        table, low = tables.table(channel), int(tables.offsets[channel])
        values = torch.arange(low, low + len(table) - 1)[:, None] + prior.medians
        likelihood = prior.likelihood(values)[:, channel].detach().numpy()
        units = np.full(len(likelihood), 3.0)
        units[table[:-1].argmax()] = len(table)  # The largest mass gets what rounding leaves over.
        assert (np.abs(table[:-1] - likelihood * 2**24) <= units + likelihood * 2**24 * 2e-3).all()
        assert table[-1] / 2**24 < 2e-5


def test_density_far_out_is_all_escape() -> None:
    prior = shift(random_prior(1, init_scale=1.0), 1e6)
    prior.export()
    writer = RangeWriter()
    z = torch.full((1, 1, 2, 2), 1e6)
    symbols = prior.encode(z, writer)
    assert torch.equal(symbols, z.long())
    assert torch.equal(prior.decode((1, 2, 2), RangeReader(writer.getvalue())), symbols)


@pytest.mark.parametrize("learned_medians", [False, True])
@pytest.mark.parametrize("shape", [(5, 1, 1), (5, 3, 7), (5, 11)])
def test_round_trip(learned_medians: bool, shape: tuple[int, ...]) -> None:
    prior = shift(random_prior(learned_medians=learned_medians), 2.3)
    prior.export()
    z = torch.randn((1, *shape), generator=torch.Generator().manual_seed(0)) * 8
    z[0, 0] += 1000
    writer, counter = RangeWriter(), CountingWriter()
    symbols = prior.encode(z, writer)
    assert torch.equal(prior.encode(z, counter), symbols)
    decoded = prior.decode(shape, RangeReader(writer.getvalue()))
    assert decoded.dtype == torch.int64
    assert torch.equal(decoded, symbols)
    fixed = prior.dequantise(decoded)
    assert torch.equal(fixed, fixed.round())
    assert torch.allclose(fixed.float() / 1024, prior(z).y_hat, atol=1e-3)
    if not learned_medians:
        assert torch.equal(fixed, symbols * 1024.0)


def test_bits_agree_with_the_coder() -> None:
    prior = random_prior()
    prior.export()
    rng = np.random.default_rng(0)
    tables = prior.tables.get()
    drawn = []
    for channel, offset in enumerate(tables.offsets):
        masses = tables.table(channel)[:-1]
        drawn.append(rng.choice(len(masses), 4000, p=masses / masses.sum()) + offset)
    z = torch.from_numpy(np.stack(drawn)).float()[None]
    writer, counter = RangeWriter(), CountingWriter()
    prior.encode(z, writer)
    prior.encode(z, counter)
    estimate = float(prior(z).bits.detach())
    assert counter.bits == pytest.approx(estimate, rel=0.002)
    assert len(writer.getvalue()) * 8 == pytest.approx(counter.bits, rel=0.001)


def test_needs_export() -> None:
    with pytest.raises(UnsupportedError, match="export"):
        random_prior().encode(torch.zeros(1, 5, 1, 1), CountingWriter())
    with pytest.raises(UnsupportedError, match="export"):
        random_prior().decode((5, 1, 1), RangeReader(b""))

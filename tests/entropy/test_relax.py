"""Relaxed quantisation: decisions against brute force, slopes against NumPy, passes against the coder."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from literature import make_plausible
from models.tiny import smooth_image, tiny_model
from torch import Tensor

from triode.entropy.coder import CountingWriter, RangeReader, RangeWriter
from triode.entropy.gaussian import gaussian_likelihood, index_to_scale, scale_ladder
from triode.entropy.relax import Level, RefinableEntropy, Relaxed, SoftQuantiser, _curvatures, _slopes
from triode.models.base import ImageModel
from triode.models.registry import create_model

Q = torch.tensor([25])
SMALL = {
    "bmshj2018-factorized": {"N": 6, "M": 8},
    "bmshj2018-hyperprior": {"N": 6, "M": 8},
    "mbt2018-mean": {"N": 6, "M": 8},
    "elic2022": {"N": 6, "M": 10, "groups": (2, 3, 5)},
}


def mass(k: np.ndarray, scale: float, mean: float = 0.0) -> np.ndarray:
    """Return the mass of a rounded Gaussian on integers, as far as likelihoods go down."""
    cdf = np.vectorize(lambda x: 0.5 * math.erfc(-x / (scale * math.sqrt(2))))
    return np.maximum(cdf(k - mean + 0.5) - cdf(k - mean - 0.5), 1e-9)


def bits_of(scale: float):
    return lambda symbols: -torch.log2(gaussian_likelihood(symbols, torch.tensor(scale)))


class TestDecisions:
    @settings(max_examples=200)
    @given(st.floats(-30, 30), st.floats(0.4, 20), st.floats(4, 500))
    def test_hard_ones_are_the_cheapest(self, target, scale, curvature):
        found = SoftQuantiser(0.0).decide(torch.tensor([target]), torch.tensor(curvature), bits_of(scale), None)
        k = np.arange(-40, 41)
        costs = -np.log2(mass(k, scale)) + curvature * (k - target) ** 2
        chosen = costs[k == int(found)]
        # The search looks at four candidates in single precision.
        near = costs[np.abs(k - np.floor(target) - 0.5) < 2]
        assert chosen <= near.min() + 1e-3 * (1 + near.min())

    @given(st.floats(-5, 5), st.floats(0.5, 3), st.floats(0.1, 2))
    def test_soft_ones_are_the_expectation(self, target, scale, temperature):
        found = SoftQuantiser(temperature).decide(torch.tensor([target]), torch.tensor(3.0), bits_of(scale), None)
        k = np.floor(np.float32(target)) + np.arange(-1, 3)
        weight = 2 ** (-(-np.log2(mass(k, scale)) + 3 * (k - target) ** 2) / temperature)
        assert float(found) == pytest.approx(float((weight * k).sum() / weight.sum()), abs=1e-3)

    def test_cold_ones_are_hard_ones(self):
        target = torch.linspace(-4, 4, 999)
        cold, hard = (SoftQuantiser(t).decide(target, torch.tensor(5.0), bits_of(1.0), None) for t in (1e-3, 0.0))
        assert float((cold - hard).abs().mean()) < 0.01

    def test_values_move_by_their_share(self):
        target, value = torch.linspace(-4, 4, 99), torch.linspace(3, -3, 99)
        whole = SoftQuantiser(0.5).decide(target, torch.tensor(5.0), bits_of(1.0), value)
        part = SoftQuantiser(0.5, 0.25).decide(target, torch.tensor(5.0), bits_of(1.0), value)
        assert torch.allclose(part, value + 0.25 * (whole - value), atol=1e-6)

    def test_signs_are_signs(self):
        x = torch.zeros(3, 1000)
        signs = SoftQuantiser(0.5, signs=torch.Generator().manual_seed(1)).sign(x)
        assert signs.shape == x.shape
        assert set(signs.unique().tolist()) == {-1.0, 1.0}
        assert abs(float(signs.mean())) < 0.1


def test_slopes_are_differences_of_code_lengths():
    symbols = torch.tensor([0.0, 1.0, -2.0, 0.4, -3.7, 2.5], dtype=torch.float64)
    index = torch.tensor([12.0, 15.0, 22.0, 18.0, 25.0, 30.0], dtype=torch.float64)
    by_mean, by_index = _slopes(symbols, index)

    def length(i: int, shift: float, change: float) -> float:
        scale = float(index_to_scale(index[i : i + 1] + change))
        low, share = math.floor(symbols[i]), float(symbols[i]) % 1
        bits = -np.log2(mass(np.array([low, low + 1.0]), scale, shift))
        return float((1 - share) * bits[0] + share * bits[1])

    e = 1e-4
    for i in range(len(symbols)):
        assert float(by_mean[i]) == pytest.approx((length(i, e, 0) - length(i, -e, 0)) / (2 * e), abs=1e-4)
        assert float(by_index[i]) == pytest.approx((length(i, 0, e) - length(i, 0, -e)) / (2 * e), abs=1e-4)


@pytest.mark.parametrize("index", [15, 20, 30, 45])
def test_curvatures_are_the_fisher_information(index):
    k, e = np.arange(-2000, 2001).astype(float), 1e-3
    ladder = scale_ladder()
    of_mean, of_index = (float(c) for c in _curvatures(torch.tensor(ladder[index])))
    ratio = ladder[1] / ladder[0]
    found = []
    for mean in (0.0, 0.25, 0.5):
        p = mass(k, ladder[index], mean)
        d_mean = (mass(k, ladder[index], mean + e) - mass(k, ladder[index], mean - e)) / (2 * e)
        d_index = (mass(k, ladder[index] * ratio**e, mean) - mass(k, ladder[index] * ratio**-e, mean)) / (2 * e)
        found.append([(d_mean**2 / p).sum() / (2 * math.log(2)), (d_index**2 / p).sum() / (2 * math.log(2))])
    mean_found, index_found = np.mean(found, axis=0)
    assert of_mean == pytest.approx(mean_found, rel=0.03)
    assert of_index == pytest.approx(index_found, rel=0.05)


@pytest.fixture(scope="module", params=["image-light", *SMALL])
def model(request) -> ImageModel:
    if request.param == "image-light":
        net: ImageModel = tiny_model()
    else:
        net = make_plausible(create_model(request.param, **SMALL[request.param]))
    net.eval().requires_grad_(False)
    net.export()
    return net


def begin(model: ImageModel) -> tuple[tuple[Level, ...], tuple[int, int]]:
    """Return the levels of a picture whose latent needs padding."""
    x = torch.from_numpy(smooth_image(64 * 2, 64 * 3)).permute(2, 0, 1)[None].float() / 255
    y = model.analysis(x, Q)[:, :, :7, :10]
    targets = model.entropy.targets(model.scale(y, Q), Q, y)
    return tuple(Level(t, torch.full((1, t.shape[1], 1, 1), 8.0)) for t in targets), (7, 10)


def signs() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def relax(model: ImageModel, levels: tuple[Level, ...], valid: tuple[int, int], soft: SoftQuantiser) -> Relaxed:
    assert isinstance(model.entropy, RefinableEntropy)
    return model.entropy.relax(levels, Q, valid, soft)


class TestPasses:
    def test_hard_values_are_what_the_coder_writes(self, model):
        levels, valid = begin(model)
        with torch.no_grad():
            values = relax(model, levels, valid, SoftQuantiser(0.0)).values
        writer = RangeWriter()
        written = model.entropy.encode_values(values, Q, writer, valid)
        assert written.shape[2:] == valid
        assert torch.equal(model.decode(valid, Q, RangeReader(writer.getvalue())), written)
        # Integer networks differ from float ones in the third digit; now and then a ladder index flips to 0.
        off = (written - values[0][:, :, :7, :10]).abs()
        assert float((off < 0.05).float().mean()) > 0.98

    def test_targets_that_cost_nothing_are_rounded(self, model):
        """With errors priced above all bits, the passes give what encoding without any choice gives."""
        levels, valid = begin(model)
        dear = tuple(Level(level.target, level.curvature * 1e6) for level in levels)
        with torch.no_grad():
            values = relax(model, dear, valid, SoftQuantiser(0.0)).values
        counted = []
        for latent in (values, tuple(level.target for level in levels)):
            writer = CountingWriter()
            model.entropy.encode_values(latent, Q, writer, valid)
            counted.append(writer.bits)
        assert counted[0] == pytest.approx(counted[1], rel=0.01)

    def test_cheap_errors_save_bits(self, model):
        levels, valid = begin(model)
        counted = []
        for factor in (1e6, 1e-6):
            priced = tuple(Level(level.target, level.curvature * factor) for level in levels)
            with torch.no_grad():
                values = relax(model, priced, valid, SoftQuantiser(0.0)).values
            writer = CountingWriter()
            model.entropy.encode_values(values, Q, writer, valid)
            counted.append(writer.bits)
        # Where no context follows, only the targets near a rounding border have a choice.
        assert counted[1] < 0.99 * counted[0]

    def test_gradients_reach_every_level(self, model):
        levels, valid = begin(model)
        out = relax(model, levels, valid, SoftQuantiser(0.5, signs=signs()))
        assert len(out.offsets) == len(out.values) == len(levels)
        weight = torch.randn(out.y_hat.shape, generator=signs())
        slopes = torch.autograd.grad((out.y_hat * weight).sum(), out.offsets, retain_graph=True, materialize_grads=True)
        assert torch.equal(slopes[0], weight)
        if len(levels) == 2:
            assert all(bool(g.any()) for g in torch.autograd.grad(out.rate, out.offsets[1:], retain_graph=True))
            assert all(bool(g.any()) for g in torch.autograd.grad(out.probe, out.offsets[1:]))

    def test_padding_neither_counts_nor_moves(self, model):
        levels, valid = begin(model)
        rows, columns = levels[0].target.shape[2:]
        if (rows, columns) == valid:
            pytest.skip("this model pads nothing")
        inside = torch.zeros(1, 1, rows, columns, dtype=torch.bool)
        inside[:, :, : valid[0], : valid[1]] = True

        def pad(value: float) -> tuple[Level, ...]:
            return (Level(levels[0].target.where(inside, torch.tensor(value)), levels[0].curvature), *levels[1:])

        one, two = (relax(model, pad(value), valid, SoftQuantiser(0.5)) for value in (0.0, 50.0))
        assert torch.equal(one.values[0], two.values[0])
        assert torch.equal(one.rate, two.rate)


def test_rate_follows_the_code_length_of_fixed_symbols():
    """The slope of ``rate`` at z is that of the summed code length of y when its symbols stay as they are."""
    model = make_plausible(create_model("mbt2018-mean", **SMALL["mbt2018-mean"])).eval().requires_grad_(False)
    model.export()
    levels, valid = begin(model)
    out = relax(model, levels, valid, SoftQuantiser(0.0))
    (slope,) = torch.autograd.grad(out.rate, out.offsets[1:])
    entropy = model.entropy

    def maps(z: Tensor) -> tuple[Tensor, Tensor]:
        [(mean, index)] = entropy.context.parameter_net(0, out.values[0], entropy.h_s(z, Q), Q)
        return mean, index

    mean, index = maps(out.values[1])
    symbols = out.values[0] - mean
    coded = (index >= 0.5) & (torch.arange(index.shape[2]) < 7)[:, None] & (torch.arange(index.shape[3]) < 10)

    def length(z: Tensor) -> float:
        moved, ladder = maps(z)
        bits = -torch.log2(gaussian_likelihood((symbols - (moved - mean)).double(), index_to_scale(ladder.double())))
        return float((bits * coded).sum())

    direction = torch.randn(slope.shape, generator=signs())
    e = 1e-2
    change = (length(out.values[1] + e * direction) - length(out.values[1] - e * direction)) / (2 * e)
    assert float((slope * direction).sum()) == pytest.approx(change, rel=0.05, abs=0.5)

"""What every quantiser promises, asked of every kind."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import cache

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from triode.entropy.vq import (
    FSQ,
    FactorisedVQ,
    FoldedVQ,
    GroupResidualVQ,
    GroupVQ,
    GumbelVQ,
    MaskedChannelResidualVQ,
    MultiCodebookVQ,
    MultiScaleResidualVQ,
    PlainVQ,
    PooledVQ,
    ProductVQ,
    ResidualVQ,
    SimVQ,
    VectorQuantizer,
    draw_stage_counts,
)

DIM = 12


def plain(size: int = 16, dim: int = DIM, *, ema: bool = True) -> PlainVQ:
    return PlainVQ(dim, size, ema=ema, decay=0.9, kmeans_iterations=3, restart_every=2)


KINDS: dict[str, Callable[[], VectorQuantizer]] = {
    "plain": plain,
    "plain-gradient": lambda: plain(ema=False),
    "factorised": lambda: FactorisedVQ(DIM, 16, 4),
    "factorised-started": lambda: FactorisedVQ(DIM, 16, 4, normalised=False, kmeans_iterations=2, restart_ratio=0.1),
    "residual": lambda: ResidualVQ([plain(size) for size in (16, 8, 4)]),
    "residual-factorised": lambda: ResidualVQ([FactorisedVQ(DIM, 16, 4) for _ in range(3)], average=True),
    "residual-of-groups": lambda: ResidualVQ([GroupVQ([plain(8, 5), plain(4, 7)]), plain(8)]),
    "group": lambda: GroupVQ([ResidualVQ([plain(8, 5), plain(4, 5)]), plain(4, 4), FSQ((3, 4, 5))]),
    "group-residual": lambda: GroupResidualVQ(DIM, 8, groups=3, depth=2),
    "multiscale": lambda: MultiScaleResidualVQ(DIM, 16, 4, strides=(4, 2, 1)),
    "pooled-plain": lambda: ResidualVQ([PooledVQ(plain(), 3), plain()]),
    "masked": lambda: MaskedChannelResidualVQ([plain() for _ in range(5)]),
    "folded": lambda: FoldedVQ(ResidualVQ([plain(8, 3 * DIM), plain(8, 3 * DIM)]), 3),
    "product": lambda: ProductVQ(DIM, 16, 4, groups=5, merge=2),
    "fsq": lambda: FSQ((3,) * DIM),
    "fsq-projected": lambda: FSQ((8, 5, 5, 5), DIM),
    "residual-fsq": lambda: ResidualVQ([FSQ((7, 7), DIM), FSQ((5, 5, 5), DIM, bias=False)]),
    "sim": lambda: SimVQ(DIM, 32),
    "sim-perceptron": lambda: SimVQ(
        DIM, 32, 6, transform=nn.Sequential(nn.Linear(6, 24), nn.ReLU(), nn.Linear(24, DIM))
    ),
    "gumbel": lambda: GumbelVQ(DIM, 16),
    "multicodebook": lambda: MultiCodebookVQ(DIM, 16, codebooks=4, restart_ratio=0.1, restart_every=2),
}


def features(batch: int = 3, frames: int = 11, seed: int = 0) -> Tensor:
    """Return (B, D, F) whose channels differ in scale."""
    x = torch.randn(batch, DIM, frames, generator=torch.Generator().manual_seed(seed))
    return x * torch.linspace(0.5, 2, DIM)[:, None]


def build(name: str, steps: int = 0) -> VectorQuantizer:
    """Return a quantiser, after some steps of training."""
    torch.manual_seed(1)
    quantizer = KINDS[name]()
    for step in range(steps):
        x = features(seed=10 + step).requires_grad_()
        counts = draw_stage_counts(len(x), quantizer.stages) if step % 2 else None
        out = quantizer(x, counts)
        quantizer.zero_grad()
        (out.loss.sum() + (out.values - x).square().mean()).backward()
        with torch.no_grad():
            for parameter in quantizer.parameters():
                parameter -= 0.3 * parameter.grad
    return quantizer


def state(quantizer: VectorQuantizer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in quantizer.state_dict().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())


@pytest.fixture(params=KINDS)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@cache
def trained_once(name: str) -> VectorQuantizer:
    return build(name, steps=4).eval()


@pytest.fixture
def trained(name: str) -> VectorQuantizer:
    return deepcopy(trained_once(name))


class TestEvaluation:
    @pytest.mark.parametrize("frames", [1, 7, 12])
    def test_vectors_are_a_function_of_the_codes(self, trained: VectorQuantizer, frames: int) -> None:
        x = features(frames=frames)
        out, codes = trained(x), trained.encode(x)
        assert len(codes) == trained.stages == len(out.codes)
        for code, found, length, size in zip(
            codes, out.codes, trained.code_frames(frames), trained.codebook_sizes, strict=True
        ):
            assert torch.equal(code, found)
            assert code.dtype == torch.int64
            assert code.shape == (3, length)
            assert code.min() >= 0
            assert code.max() < size
        assert out.values.dtype == torch.float32
        assert out.values.shape == x.shape
        assert torch.equal(trained.decode(codes, frames), out.values)
        assert out.loss.shape == (3,)
        assert out.usage.shape == out.perplexity.shape == (trained.stages,)

    def test_leading_stages_are_a_lower_rate(self, trained: VectorQuantizer) -> None:
        x = features()
        codes = trained.encode(x)
        for count in range(1, trained.stages + 1):
            out = trained(x, count)
            assert len(out.codes) == count == len(out.usage)
            for found, other, code in zip(out.codes, trained.encode(x, count), codes, strict=False):
                assert torch.equal(found, code)
                assert torch.equal(other, code)
            assert torch.equal(out.values, trained.decode(codes[:count], x.shape[2]))

    def test_a_count_for_each_sample(self, trained: VectorQuantizer) -> None:
        x = features(batch=trained.stages + 1)
        counts = torch.arange(trained.stages + 1)
        out = trained(x, counts)
        assert len(out.codes) == trained.stages
        assert not out.values[0].any()
        assert out.loss[0] == 0
        for b in range(1, len(x)):
            alone = trained(x[b : b + 1], b)
            torch.testing.assert_close(out.values[b], alone.values[0], atol=1e-6, rtol=1e-5)
            torch.testing.assert_close(out.loss[b], alone.loss[0])
            for code, other in zip(alone.codes, out.codes, strict=False):
                assert torch.equal(code[0], other[b])

    def test_changes_nothing(self, name: str) -> None:
        quantizer = build(name, steps=2)
        before = state(quantizer)
        quantizer.encode(features())
        assert same(before, state(quantizer))
        quantizer.eval()(features())
        assert same(before, state(quantizer))

    def test_frames_default_to_what_the_codes_allow(self, trained: VectorQuantizer) -> None:
        x = features(frames=12)
        codes = trained.encode(x)
        assert torch.equal(trained.decode(codes), trained.decode(codes, 12))

    def test_narrow_types(self, trained: VectorQuantizer) -> None:
        x = features().bfloat16()
        expected = trained(x.float())
        with torch.autocast("cpu", torch.bfloat16):
            out, codes = trained(x), trained.encode(x)
            values = trained.decode(codes, x.shape[2])
        assert out.values.dtype == out.loss.dtype == torch.float32
        assert torch.equal(out.values, expected.values)
        assert torch.equal(out.loss, expected.loss)
        assert torch.equal(values, expected.values)
        assert torch.equal(trained(x).values, expected.values)

    def test_double(self, trained: VectorQuantizer) -> None:
        x = features().double()
        for model in (trained.double(), trained.train()):
            out = model(x)
            assert out.values.dtype == out.loss.dtype == torch.float64


class TestTraining:
    def test_gradients_reach_everything_learned(self, name: str) -> None:
        quantizer = build(name)
        x = features().requires_grad_()
        out = quantizer(x)
        (out.loss.sum() + (out.values - x.detach()).square().sum()).backward()
        for parameter, tensor in [("x", x), *quantizer.named_parameters()]:
            assert tensor.grad is not None, parameter
            assert torch.isfinite(tensor.grad).all(), parameter
            assert tensor.grad.any(), parameter

    @pytest.mark.parametrize("name", [name for name in KINDS if name != "fsq"])  # which has nothing to learn
    def test_improves(self, name: str) -> None:
        quantizer, x = build(name), features(batch=8)
        trained = build(name, steps=30)
        errors = [(model.eval()(x).values - x).square().mean() for model in (quantizer, trained)]
        assert errors[1] < errors[0]

    def test_repeats_with_the_seed(self, name: str) -> None:
        assert same(state(build(name, steps=4)), state(build(name, steps=4)))

    def test_goes_on_from_a_saved_state(self, name: str) -> None:
        quantizer = build(name, steps=3)
        other = KINDS[name]()
        other(features(seed=99))
        other.load_state_dict(load(save(state(quantizer))))
        for seed in (5, 6, 7):
            outs = []
            for model in (quantizer, other):
                torch.manual_seed(seed)
                outs.append(model.train()(features(seed=seed)).values)
            assert torch.equal(*outs)
        assert same(state(quantizer), state(other))

    def test_bypass_is_shaped_like_the_features_and_differentiable(self, name: str) -> None:
        quantizer = build(name)
        x = features().requires_grad_()
        out = quantizer.bypass(x)
        assert out.shape == x.shape
        (grad,) = torch.autograd.grad(out.square().sum(), x)
        assert grad.any()


class TestArguments:
    @pytest.mark.parametrize(
        "x",
        [torch.zeros(DIM, 5), torch.zeros(1, DIM + 1, 5), torch.zeros(1, DIM, 0), torch.zeros(1, DIM, 5).long()],
        ids=["two dimensions", "other channels", "no frames", "integers"],
    )
    def test_features(self, x: Tensor) -> None:
        for call in (plain(), plain().encode, plain().bypass):
            with pytest.raises(ValueError, match=r"`x` must be float of shape \(B, 12, F\)"):
                call(x)

    def test_not_finite(self) -> None:
        for bad in (float("nan"), float("inf")):
            with pytest.raises(ValueError, match="must be finite"):
                plain().encode(torch.full((1, DIM, 2), bad))

    @pytest.mark.parametrize("stages", [0, 4, -1])
    def test_stages(self, stages: int) -> None:
        quantizer = build("residual")
        for call in (quantizer, quantizer.encode):
            with pytest.raises(ValueError, match=r"`stages` must be in 1\.\.3, but got"):
                call(features(), stages)

    @pytest.mark.parametrize("stages", [torch.tensor([1, 2]), torch.ones(3), torch.ones(3, dtype=torch.bool)])
    def test_counts(self, stages: Tensor) -> None:
        with pytest.raises(ValueError, match="must be an integer or 3 of them"):
            build("residual")(features(), stages)

    def test_codes(self) -> None:
        quantizer = build("multiscale")
        codes = quantizer.encode(features())
        for given, message in [
            ((), "must hold 1 to 3 tensors, but got 0"),
            ((*codes, codes[0]), "must hold 1 to 3 tensors, but got 4"),
            ((codes[0].float(),), "float32 of shape"),
            ((codes[0], codes[1][:2]), "for stage 1"),
            ((codes[0][0],), "for stage 0"),
            ((codes[0] + 16,), r"stage 0 must be in 0\.\.15"),
            ((codes[0] - 16,), r"stage 0 must be in 0\.\.15"),
            ((codes[0], codes[1][:, 1:]), "do not make 11 frames"),
        ]:
            with pytest.raises(ValueError, match=message):
                quantizer.decode(given, 11)
        with pytest.raises(ValueError, match="do not make 13 frames"):
            quantizer.decode(codes, 13)

    def test_construction(self) -> None:
        cases: list[tuple[Callable[[], object], str]] = [
            (lambda: PlainVQ(0, 4), "`dim`"),
            (lambda: PlainVQ(4, 1), "`codebook_sizes`"),
            (lambda: PlainVQ(4, 4, decay=1.0), "`decay`"),
            (lambda: PlainVQ(4, 4, restart_ratio=1.0), "`restart_ratio`"),
            (lambda: PlainVQ(4, 4, restart_every=0), "`restart_every`"),
            (lambda: PlainVQ(4, 4, kmeans_iterations=-1), "`kmeans_iterations`"),
            (lambda: FactorisedVQ(4, 4, 0), "`dim`"),
            (lambda: ResidualVQ([]), "`quantizers`"),
            (lambda: ResidualVQ([plain(), plain(4, 3)]), "equal dimension"),
            (lambda: GroupVQ([]), "`quantizers`"),
            (lambda: GroupResidualVQ(DIM, 4, groups=5), "`groups`"),
            (lambda: GroupResidualVQ(DIM, 4, depth=0), "`depth`"),
            (lambda: MultiCodebookVQ(DIM, 4, 5), "`codebooks`"),
            (lambda: MaskedChannelResidualVQ([plain()], 2), "`masked`"),
            (lambda: PooledVQ(plain(), 0), "`strides`"),
            (lambda: FoldedVQ(plain(), 5), "`merge`"),
            (lambda: ProductVQ(4, groups=9), "`groups`"),
            (lambda: FSQ(()), "`levels`"),
            (lambda: FSQ((5, 2)), "`levels`"),
            (lambda: FSQ((100, 100, 105)), "`levels`"),
            (lambda: draw_stage_counts(2, 3, 1.5), "`probability`"),
            (lambda: draw_stage_counts(2, 3, fewest=4), "`fewest`"),
        ]
        for make, message in cases:
            with pytest.raises(ValueError, match=message):
                make()


def test_fixed_length_bits() -> None:
    quantizer = MultiScaleResidualVQ(DIM, 1000, 4, strides=(4, 2, 1))
    assert quantizer.code_frames(11) == (3, 6, 11)
    assert quantizer.fixed_length_bits(11) == 10 * (3 + 6 + 11)
    assert quantizer.fixed_length_bits(11, 2) == 10 * (3 + 6)
    assert FSQ((8, 5, 5, 5)).fixed_length_bits(7) == 70


class TestDropout:
    def test_distribution(self) -> None:
        counts = draw_stage_counts(40_000, 4, 0.6, generator=torch.Generator().manual_seed(0))
        shares = torch.bincount(counts, minlength=5) / len(counts)
        assert torch.allclose(shares, torch.tensor([0, 0.15, 0.15, 0.15, 0.55]), atol=0.01)
        few = draw_stage_counts(1000, 4, 1.0, fewest=3, generator=torch.Generator().manual_seed(0))
        assert set(few.tolist()) == {3, 4}
        assert (draw_stage_counts(100, 4, 0.0) == 4).all()

    def test_repeats(self) -> None:
        draws = [draw_stage_counts(50, 8, generator=torch.Generator().manual_seed(3)) for _ in range(2)]
        assert torch.equal(*draws)

    def test_stages_learn_from_the_samples_that_use_them(self) -> None:
        def learned(x: Tensor, counts: Tensor | None) -> dict[str, Tensor]:
            torch.manual_seed(0)
            quantizer = ResidualVQ([PlainVQ(DIM, 4, kmeans_iterations=0, restart_ratio=0) for _ in range(2)])
            quantizer(x, counts)
            return state(quantizer)

        x = features(batch=4)
        dropped = learned(x, torch.tensor([1, 2, 2, 1]))
        first, second = learned(x, None), learned(x[1:3], None)
        for key, tensor in dropped.items():
            expected = first if key.startswith("quantizers.0") else second
            torch.testing.assert_close(tensor, expected[key], msg=key)
        none = learned(x, torch.ones(4, dtype=torch.int64))
        torch.manual_seed(0)
        untouched = state(ResidualVQ([PlainVQ(DIM, 4) for _ in range(2)]))
        assert torch.equal(none["quantizers.1.codebook.entries"], untouched["quantizers.1.codebook.entries"])
        assert torch.equal(none["quantizers.1.codebook.usage"], untouched["quantizers.1.codebook.usage"])

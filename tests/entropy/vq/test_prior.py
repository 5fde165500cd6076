"""What every code prior promises, asked of every kind."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from entropy.vq.prior_sources import KINDS, SIZES, STRIDES, Spy, random_codes, small_context, small_static
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load, save

from triode.entropy.coder import CountingWriter, RangeReader, RangeWriter
from triode.entropy.exact.state import entropy_state
from triode.entropy.tables import CdfTables, Int32Array, IntArray
from triode.entropy.vq import FSQ, GroupResidualVQ, MultiScaleResidualVQ, PlainVQ, ResidualVQ
from triode.entropy.vq.context_prior import ContextPrior
from triode.entropy.vq.prior import CodePrior, code_vectors
from triode.entropy.vq.static_prior import StaticPrior
from triode.errors import BitstreamError, UnsupportedError

every_kind = pytest.mark.parametrize("kind", KINDS)


@cache
def exported(kind: str) -> CodePrior:
    prior = KINDS[kind]()
    prior.export()
    return prior


@st.composite
def priors(draw: st.DrawFn) -> tuple[CodePrior, int, int, int]:
    """Draw a prior, a number of frames, a number of stages, and a seed."""
    stages = draw(st.integers(1, 4))
    sizes = tuple(draw(st.sampled_from([2, 3, 31, 64, 65, 100, 300])) for _ in range(stages))
    strides = tuple(draw(st.integers(1, 5)) for _ in range(stages))
    seed = draw(st.integers(0, 1000))
    if draw(st.booleans()):
        depth, reach = draw(st.integers(1, stages)), draw(st.integers(0, 2))
        phases = tuple(draw(st.integers(1, 5)) for _ in range(stages))
        prior: CodePrior = small_context(sizes, strides, seed, depth=depth, reach=reach, phases=phases)
    else:
        prior = small_static(sizes, strides, seed)
    return prior, draw(st.integers(1, 40)), draw(st.integers(1, stages)), seed


@settings(max_examples=40, deadline=None)
@given(priors())
def test_round_trip(case: tuple[CodePrior, int, int, int]) -> None:
    prior, frames, stages, seed = case
    prior.export()
    codes = random_codes(prior, frames, stages, seed=seed)
    writer = RangeWriter()
    prior.encode(codes, writer)
    reader = RangeReader(writer.getvalue())
    decoded = prior.decode(frames, stages, reader)
    assert len(decoded) == stages
    assert all(a.dtype == torch.int64 and torch.equal(a, b) for a, b in zip(decoded, codes, strict=True))
    reader.check(writer.crc)


@every_kind
def test_bits_are_what_is_coded(kind: str) -> None:
    prior = exported(kind)
    # What noise decodes to is a sample of the model.
    noise = np.random.default_rng(0).bytes(4000)
    codes = prior.decode(400, 4, RangeReader(noise))
    counter, writer = CountingWriter(), RangeWriter()
    prior.encode(codes, counter)
    prior.encode(codes, writer)
    bits = float(prior(codes).detach())
    assert abs(counter.bits - bits) < 0.002 * bits
    assert abs(8 * len(writer.getvalue()) - bits) < 0.002 * bits + 32


@every_kind
def test_fewer_stages_are_a_prefix(kind: str) -> None:
    prior = exported(kind)
    codes = random_codes(prior, 21)
    whole = Spy()
    prior.encode(codes, whole)
    payload = whole.writer.getvalue()
    for stages in range(1, len(codes) + 1):
        part = Spy()
        prior.encode(codes[:stages], part)
        count = len(part.symbols)
        assert count > 0
        for a, b in zip(part.symbols + part.masses, whole.symbols[:count] + whole.masses[:count], strict=True):
            assert np.array_equal(a, b)
        # The bytes of all stages serve as well, and so does their beginning.
        counter = CountingWriter()
        prior.encode(codes[:stages], counter)
        for data in (payload, payload[: math.ceil(counter.bits / 8) + 8]):
            decoded = prior.decode(21, stages, RangeReader(data))
            assert all(torch.equal(a, b) for a, b in zip(decoded, codes[:stages], strict=True))


@every_kind
def test_bits_a_stage(kind: str) -> None:
    prior = KINDS[kind]()
    codes = random_codes(prior, 18, batch=3)
    bits = prior.stage_bits(codes)
    assert bits.shape == (3, len(codes))
    assert bits.dtype == torch.float32
    assert bool((bits > 0).all())
    assert torch.allclose(prior.stage_bits(codes[:2]), bits[:, :2], rtol=1e-5)
    for item in range(3):
        alone = prior.stage_bits([code[item : item + 1] for code in codes])
        assert torch.allclose(alone[0], bits[item], rtol=1e-4)
    assert torch.allclose(prior(codes), bits.sum(1))
    assert torch.allclose(prior(codes, 2), bits[:, :2].sum(1))
    counts = torch.tensor([0, 3, 4])
    wanted = torch.stack([bits[0, :0].sum(), bits[1, :3].sum(), bits[2].sum()])
    assert torch.allclose(prior(codes, counts), wanted)


@every_kind
def test_every_parameter_learns(kind: str) -> None:
    prior = KINDS[kind]().train()
    codes = random_codes(prior, 40, batch=8)
    prior(codes).mean().backward()
    # The first phase of the first stage sees nothing.
    idle = {"networks.0.first.0.weight"}
    for name, parameter in prior.named_parameters():
        assert parameter.grad is not None, name
        assert bool(parameter.grad.any()) == (name not in idle), name


@every_kind
def test_autocast_changes_nothing(kind: str) -> None:
    prior = exported(kind)
    codes = random_codes(prior, 30)
    payloads, bits = set(), []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            writer = RangeWriter()
            prior.encode(codes, writer)
            payloads.add(writer.getvalue())
            decoded = prior.decode(30, len(codes), RangeReader(writer.getvalue()))
            bits.append(prior(codes))
        assert all(torch.equal(a, b) for a, b in zip(decoded, codes, strict=True))
    assert len(payloads) == 1
    assert torch.equal(bits[0], bits[1])


@every_kind
def test_travels_by_state_dict(kind: str) -> None:
    prior, other = exported(kind), KINDS[kind]()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(-0.5)
    other.export()
    other.load_state_dict(load(save({k: v.contiguous() for k, v in prior.state_dict().items()})))
    codes = random_codes(prior, 25)
    writer = RangeWriter()
    prior.encode(codes, writer)
    decoded = other.decode(25, len(codes), RangeReader(writer.getvalue()))
    assert all(torch.equal(a, b) for a, b in zip(decoded, codes, strict=True))
    state = entropy_state(prior)
    assert state
    assert not any(t.is_floating_point() for t in state.values())


@every_kind
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda codes: [], "1 to 4 tensors"),
        (lambda codes: [*codes, codes[0]], "1 to 4 tensors"),
        (lambda codes: [codes[0] - 6, *codes[1:]], r"stage 0 must be in 0..4"),
        (lambda codes: [codes[0], codes[1] + 70], r"stage 1 must be in 0..69"),
        (lambda codes: [codes[0], codes[1].float()], "integers"),
        (lambda codes: [codes[0], codes[1] > 3], "integers"),
        (lambda codes: [codes[0][0]], "shape"),
        (lambda codes: [codes[0][:, :0]], "shape"),
        (lambda codes: [codes[0], codes[1][:, :5]], "lengths"),
        (lambda codes: [codes[0], codes[1].repeat(2, 1)], "shape"),
    ],
)
def test_bad_codes_are_refused(kind: str, change: object, message: str) -> None:
    prior = exported(kind)
    codes = change(random_codes(prior, 12))  # type: ignore[operator]
    with pytest.raises(ValueError, match=message):
        prior(codes)
    with pytest.raises(ValueError, match=message):
        prior.encode(codes, CountingWriter())


@every_kind
def test_bad_requests_are_refused(kind: str) -> None:
    prior = exported(kind)
    codes = random_codes(prior, 6, batch=2)
    with pytest.raises(ValueError, match="one item"):
        prior.encode(codes, CountingWriter())
    for frames, stages in ((0, 1), (5, 0), (5, 5)):
        with pytest.raises(ValueError, match="must be"):
            prior.decode(frames, stages, RangeReader(b""))
    for counts in (torch.tensor([1, 2, 3]), torch.tensor([1.0, 2.0]), torch.tensor(2)):
        with pytest.raises(ValueError, match="`stages`"):
            prior(codes, counts)
    with pytest.raises(ValueError, match="smoothing"):
        prior.fit([codes], smoothing=0)
    with pytest.raises(ValueError, match="stage 0 must be"):
        prior.fit([[codes[0] + 100]])


@pytest.mark.parametrize("build", [StaticPrior, ContextPrior])
@pytest.mark.parametrize(
    ("sizes", "strides"), [((), None), ((1,), None), ((1 << 16,), None), ((4, 4), (1,)), ((4, 4), (1, 0))]
)
def test_bad_configurations_are_refused(
    build: type[CodePrior], sizes: tuple[int, ...], strides: tuple[int, ...] | None
) -> None:
    with pytest.raises(ValueError, match="must"):
        build(sizes, strides)


@every_kind
def test_needs_export(kind: str) -> None:
    prior = KINDS[kind]()
    with pytest.raises(UnsupportedError, match="export"):
        prior.encode(random_codes(prior, 4), CountingWriter())
    with pytest.raises(UnsupportedError, match="export"):
        prior.decode(4, 1, RangeReader(b""))


@every_kind
@settings(max_examples=8, deadline=None)
@given(data=st.binary(max_size=60), stages=st.integers(1, 4))
def test_any_bytes_decode_to_codes_or_an_error(kind: str, data: bytes, stages: int) -> None:
    prior = exported(kind)
    try:
        decoded = prior.decode(17, stages, RangeReader(data))
    except BitstreamError:
        return
    assert [code.shape[1] for code in decoded] == list(prior.code_frames(17)[:stages])
    for code, size in zip(decoded, prior.codebook_sizes, strict=False):
        assert int(code.min()) >= 0
        assert int(code.max()) < size


class WrongReader:
    """Gives the first codes of all tables, but one symbol outside of its table in one call."""

    def __init__(self, call: int, symbol: int) -> None:
        self.call, self.symbol, self.calls = call, symbol, 0

    def read(self, index: IntArray, tables: CdfTables) -> Int32Array:
        out = np.zeros(len(index), dtype=np.int32)
        if self.calls == self.call:
            out[-1] = self.symbol
        self.calls += 1
        return out


@every_kind
def test_symbols_outside_of_tables_are_refused(kind: str) -> None:
    prior = exported(kind)
    counter = WrongReader(-1, 0)
    prior.decode(9, 4, counter)
    assert counter.calls >= 4
    for call in range(counter.calls):
        symbol = (-1, 128, 1 << 22)[call % 3]
        with pytest.raises(BitstreamError, match="no code of stage"):
            prior.decode(9, 4, WrongReader(call, symbol))


def test_codes_that_the_last_cluster_lacks_are_refused() -> None:
    # 70 codes are four clusters of 16 and one of 6.
    prior = small_context((70,), None)
    prior.export()
    state = {"call": 0}

    class Last:
        def read(self, index: IntArray, tables: CdfTables) -> Int32Array:
            state["call"] += 1
            return np.full(len(index), [4, state["leaf"]][(state["call"] - 1) % 2], dtype=np.int32)

    state["leaf"] = 5
    codes = prior.decode(3, 1, Last())
    assert bool((prior.orders[0].ranks(codes[0]) == 69).all())
    state.update(call=0, leaf=6)
    with pytest.raises(BitstreamError, match="no code of stage 0"):
        prior.decode(3, 1, Last())


@pytest.mark.parametrize("build", [lambda: StaticPrior(SIZES, STRIDES), lambda: ContextPrior(SIZES, STRIDES, depth=3)])
def test_fit_is_counting(build: object) -> None:
    prior = build()  # type: ignore[operator]
    prior.eval()
    batches = [random_codes(prior, 30, batch=4, seed=1), random_codes(prior, 8, stages=2, seed=2)]
    prior.fit(batches, smoothing=0.25)
    test = random_codes(prior, 20, seed=3)
    wanted = []
    for stage, size in enumerate(SIZES):
        seen = np.concatenate([b[stage].numpy().ravel() for b in batches if stage < len(b)])
        counts = np.array([(seen == code).sum() for code in range(size)]) + 0.25
        wanted.append(-np.log2(counts[test[stage].numpy()] / counts.sum()).sum())
    assert np.allclose(prior.stage_bits(test)[0].detach().numpy(), wanted, rtol=1e-5)


@pytest.mark.parametrize(
    "quantizer",
    [
        ResidualVQ([PlainVQ(6, 9, kmeans_iterations=0), PlainVQ(6, 4, kmeans_iterations=0)]),
        GroupResidualVQ(6, 5, groups=3, depth=2, kmeans_iterations=0),
        MultiScaleResidualVQ(6, 7, 3, strides=(4, 2, 1)),
        ResidualVQ([FSQ((3, 5), 6), FSQ((4, 3), 6)]),
    ],
    ids=["residual", "groups", "multiscale", "fsq"],
)
def test_code_vectors_add_up_to_what_is_decoded(quantizer: ResidualVQ) -> None:
    vectors = code_vectors(quantizer)
    assert [v.shape for v in vectors] == [(size, 6) for size in quantizer.codebook_sizes]
    generator = torch.Generator().manual_seed(0)
    codes = [torch.randint(size, (20, 1), generator=generator) for size in quantizer.codebook_sizes]
    zeros = quantizer.decode([torch.zeros_like(code) for code in codes], 1)
    offsets = sum(v[code[:, 0]] - v[0] for v, code in zip(vectors, codes, strict=True))
    assert torch.allclose(quantizer.decode(codes, 1)[:, :, 0], zeros[:, :, 0] + offsets, atol=1e-5)
    assert float(torch.cat(vectors).std()) > 0

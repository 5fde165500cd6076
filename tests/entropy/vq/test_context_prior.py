"""Context code prior: its integers beside a reference, its gain, its start from vectors, other machines."""

from __future__ import annotations

import copy
import hashlib
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from entropy.vq.prior_sources import MarkovSource, Spy, random_codes, small_context
from entropy.vq.test_prior_layers import reference_masses

from triode.entropy.coder import RangeReader, RangeWriter
from triode.entropy.exact.state import entropy_state
from triode.entropy.vq.context_prior import ContextPrior
from triode.entropy.vq.static_prior import StaticPrior

TESTS = Path(__file__).resolve().parent.parent.parent
CONFIG = {"width": 6, "hidden": 12, "reach": 2, "phases": (4, 2, 1, 1), "depth": 3}
SIZES, STRIDES, FRAMES = (70, 5, 300, 9), (2, 1, 1, 3), 37


class Reference:
    """The context prior of docs/entropy.md, position by position, in Python's integers."""

    def __init__(self, prior: ContextPrior) -> None:
        self.state = {k: v.numpy().astype(object) for k, v in entropy_state(prior).items()}
        self.prior = prior

    def layer(self, name: str, x: list[int], rows: slice = slice(None)) -> list[int]:
        weight, bias, shift = (self.state[f"exact.{name}.{part}"][rows] for part in ("weight", "bias", "shift"))
        top = (1 << 23) - 1
        sums = [sum(int(w) * v for w, v in zip(row.ravel(), x, strict=True)) for row in weight]
        return [max(-top, min(top, (a + int(b)) >> int(s))) for a, b, s in zip(sums, bias, shift, strict=True)]

    @staticmethod
    def leaky(x: list[int]) -> list[int]:
        return [v if v >= 0 else (v * 8192) >> 16 for v in x]

    def order(self, stage: int) -> list[tuple[int, int]]:
        """Return (phase, frame) in coding order."""
        count, length = self.prior.phases[stage], self.prior.code_frames(FRAMES)[stage]
        frames = []
        for phase in range(count):
            multiple = 2 ** (count - 1 - phase)
            frames += [(phase, t) for t in range(length) if t % multiple == 0 and (phase, t) not in frames]
        seen: set[int] = set()
        return [(p, t) for p, t in frames if t not in seen and not seen.add(t)]

    def calls(self, codes: list[torch.Tensor]) -> list[list[list[int]]]:
        """Return the tables of all calls of the context stages."""
        zero = [0] * CONFIG["width"]
        sums = [zero] * FRAMES
        calls = []
        for stage, size in enumerate(SIZES[: self.prior.depth]):
            stride = STRIDES[stage]
            ranks = [self.state[f"orders.{stage}.codes"].tolist().index(int(c)) for c in codes[stage][0]]
            clusters, leaves = (
                (1, size) if size <= 64 else (-(-size // 16), 16) if size <= 256 else (-(-size // 32), 32)
            )
            embedding = self.state.get(f"exact.{stage}.embedding.weight")
            known: dict[int, list[int]] = {}
            order = self.order(stage)
            for phase in range(self.prior.phases[stage]):
                first, second = [], []
                here = [t for p, t in order if p == phase]
                half = 2 ** (self.prior.phases[stage] - 1 - phase) if phase else 0
                offsets = sorted({*range(-CONFIG["reach"], CONFIG["reach"] + 1), -half, half})
                for t in here:
                    taps = []
                    for o in offsets:
                        inside = 0 <= t + o < len(ranks)
                        coarser = sums[(t + o) * stride] if inside else zero
                        own = known.get(t + o, zero)
                        taps.append([int(a) + int(b) for a, b in zip(coarser, own, strict=True)])
                    # Channels are ordered frame by frame.
                    x = self.leaky(self.layer(f"{stage}.first.{phase}", [v for tap in taps for v in tap]))
                    x = self.leaky(self.layer(f"{stage}.second", x))
                    cluster = ranks[t] // leaves
                    if clusters > 1:
                        first.append(reference_masses(self.layer(f"{stage}.cluster", x), clusters))
                    rows = slice(cluster * leaves, (cluster + 1) * leaves)
                    logits = self.layer(f"{stage}.leaf.rows", x, rows)
                    second.append(reference_masses(logits + [0] * (leaves - len(logits)), len(logits)))
                if embedding is not None:
                    known |= {t: embedding[ranks[t]].tolist() for t in here}
                calls += [call for call in (first, second) if call]
            for f in range(FRAMES):
                sums[f] = [int(a) + int(b) for a, b in zip(sums[f], known.get(f // stride, zero), strict=True)]
        return calls


def test_tables_are_the_reference_s() -> None:
    prior = small_context(SIZES, STRIDES, seed=4, **CONFIG)
    prior.export()
    codes, spy = random_codes(prior, FRAMES), Spy()
    prior.encode(codes, spy)
    wanted = Reference(prior).calls(codes)
    assert len(spy.masses) == len(wanted) + 1  # One call of the static stage.
    for masses, tables in zip(spy.masses, wanted, strict=False):
        assert masses.tolist() == [mass for table in tables for mass in table]
    assert len(np.unique(np.concatenate(spy.masses))) > 100


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("changed", [0, 4, 5, 6, 20])
def test_codes_depend_on_what_came_before_alone(count: int, changed: int) -> None:
    prior = small_context((8, 8), None, phases=(count,), reach=2)
    prior.export()
    before = random_codes(prior, 21)
    after = [code.clone() for code in before]
    after[0][0, changed] = (after[0][0, changed] + 1) % 8
    spies = Spy(), Spy()
    prior.encode(before, spies[0])
    prior.encode(after, spies[1])
    same = [np.array_equal(a, b) for a, b in zip(spies[0].masses, spies[1].masses, strict=True)]
    mine = next(c for c, (a, b) in enumerate(zip(spies[0].symbols, spies[1].symbols, strict=True)) if (a != b).any())
    assert all(same[: mine + 1])
    assert not all(same[count:])  # The finer stage sees it, before or after in time.
    if mine < count - 1:
        assert not same[mine + 1]


SOURCE = MarkovSource()


@cache
def trained() -> ContextPrior:
    """Train a prior on the Markov source, a second or two."""
    torch.manual_seed(0)
    prior = ContextPrior(SOURCE.sizes, width=16, hidden=32, reach=1, phases=(4, 1), dropout=0.0)
    prior.fit([SOURCE.draw(16, 200, seed=7)])
    optimiser = torch.optim.Adam(prior.parameters(), lr=0.01)
    for step in range(120):
        for group in optimiser.param_groups:
            group["lr"] = 0.02 * (1 - step / 120)
        optimiser.zero_grad()
        (prior(SOURCE.draw(16, 64, seed=step)).mean() / 64).backward()
        optimiser.step()
    prior.eval().export()
    return prior


def test_context_beats_static_beats_fixed_length() -> None:
    codes = SOURCE.draw(1, 2000, seed=1000)
    static = StaticPrior(SOURCE.sizes)
    static.fit([SOURCE.draw(16, 200, seed=7)])
    static.export()
    sizes = {}
    for name, prior in (("static", static), ("context", trained())):
        writer = RangeWriter()
        prior.encode(codes, writer)
        sizes[name] = 8 * len(writer.getvalue())
        bits = float(prior(codes).detach())
        assert abs(sizes[name] - bits) < 0.01 * bits + 32
        decoded = prior.decode(2000, 3, RangeReader(writer.getvalue()))
        assert all(torch.equal(a, b) for a, b in zip(decoded, codes, strict=True))
    fixed, entropy = 2000 * SOURCE.fixed, 2000 * SOURCE.entropy
    assert sizes["static"] < 0.85 * fixed
    assert sizes["context"] < 0.55 * sizes["static"]
    assert 0.97 * entropy < sizes["context"] < 1.15 * entropy


def test_time_of_a_stage_itself_pays() -> None:
    codes = SOURCE.draw(4, 300, seed=1001)
    bits = trained().stage_bits(codes).detach().mean(0) / 300
    assert float(bits[0]) < 0.5 * np.log2(SOURCE.sizes[0])


def lattice(batch: int, frames: int, seed: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return codes of a slow walk in a plane, quantised in two residual stages, and the stages' vectors."""
    generator = torch.Generator().manual_seed(seed)
    walk = 0.25 * torch.randn(batch, frames, 2, generator=generator).cumsum(1)
    walk = 2 * torch.sin(walk)
    books = [
        torch.cartesian_prod(*[torch.linspace(-2, 2, 10)] * 2),
        torch.cartesian_prod(*[torch.linspace(-0.2, 0.2, 3)] * 2),
    ]
    names = [torch.randperm(len(book), generator=torch.Generator().manual_seed(5)) for book in books]
    codes, residual = [], walk
    for book, name in zip(books, names, strict=True):
        nearest = torch.cdist(residual, book).argmin(2)
        codes.append(name[nearest])
        residual = residual - book[nearest]
    return codes, [book[name.argsort()] for book, name in zip(books, names, strict=True)]


def test_a_start_from_vectors_learns_faster() -> None:
    bits = {}
    for start in (False, True):
        torch.manual_seed(0)
        prior = ContextPrior((100, 9), width=8, hidden=16, reach=1, dropout=0.0)
        if start:
            prior.init_from_vectors(lattice(1, 1, 0)[1])
        prior.fit([lattice(16, 64, 1)[0]])
        optimiser = torch.optim.Adam(prior.parameters(), lr=0.01)
        for step in range(40):
            optimiser.zero_grad()
            (prior(lattice(16, 64, step)[0]).mean() / 64).backward()
            optimiser.step()
        bits[start] = float(prior.eval()(lattice(8, 200, 1000)[0]).detach().mean()) / 200
    assert bits[True] < 0.9 * bits[False]


def test_start_from_vectors_orders_and_counts() -> None:
    vectors = lattice(1, 1, 0)[1]
    prior = ContextPrior((100, 9), width=8, hidden=16, depth=1, dropout=0.0)
    prior.init_from_vectors(vectors)
    codes = lattice(8, 200, 1)[0]
    prior.fit([codes])
    static = StaticPrior((100, 9))
    static.fit([codes])
    order = prior.orders[0].codes
    assert sorted(order.tolist()) == list(range(100))
    steps = vectors[0][order.long()].diff(dim=0).norm(dim=1)
    assert float(steps.mean()) < 0.5 * float(vectors[0].diff(dim=0).norm(dim=1).mean())
    before = prior.networks[0].embedding.weight.clone()
    assert torch.allclose(torch.pdist(before), torch.pdist(vectors[0][order.long()]) / vectors[0].std(), rtol=1e-2)


@pytest.mark.parametrize(
    "vectors",
    [
        [],
        [torch.zeros(100, 2)],
        [torch.zeros(100, 2), torch.zeros(8, 2)],
        [torch.zeros(100, 2), torch.zeros(9, 3)],
        [torch.zeros(100, 2), torch.full((9, 2), float("nan"))],
    ],
)
def test_bad_vectors_are_refused(vectors: list[torch.Tensor]) -> None:
    with pytest.raises(ValueError, match="`vectors`"):
        ContextPrior((100, 9)).init_from_vectors(vectors)


@pytest.mark.parametrize(
    "options",
    [
        {"width": 0},
        {"hidden": 0},
        {"reach": -1},
        {"phases": ()},
        {"phases": (9,)},
        {"phases": (0,)},
        {"depth": 0},
        {"depth": 4},
        {"dropout": 1.0},
    ],
)
def test_bad_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"`{next(iter(options))}`"):
        ContextPrior((4, 4, 4), **options)


def test_used_priors_can_be_copied() -> None:
    prior = trained()
    codes = SOURCE.draw(1, 30, seed=1)
    clone = copy.deepcopy(prior)
    payloads = []
    for one in (prior, clone):
        writer = RangeWriter()
        one.encode(codes, writer)
        payloads.append(writer.getvalue())
    assert payloads[0] == payloads[1]


CHILD = """
import contextlib, hashlib, sys
import numpy as np, torch
from entropy.vq.test_context_prior import CONFIG, FRAMES, SIZES, STRIDES
from triode.entropy.coder import RangeReader, RangeWriter
from triode.entropy.vq.context_prior import ContextPrior

state = np.load(sys.argv[1])
prior = ContextPrior(SIZES, STRIDES, **CONFIG).eval()
prior.export()
tensors = {name: torch.from_numpy(state[name]) for name in state if name != "payload"}
assert not prior.load_state_dict(tensors, strict=False).unexpected_keys
torch.set_float32_matmul_precision("medium")
for flush in (False, True):
    torch.set_flush_denormal(flush)
    for context in (contextlib.nullcontext(), torch.autocast("cpu", torch.bfloat16), torch.inference_mode()):
        reader, writer = RangeReader(state["payload"].tobytes()), RangeWriter()
        with context:
            codes = prior.decode(FRAMES, len(SIZES), reader)
            prior.encode(codes, writer)
        assert writer.getvalue() == state["payload"].tobytes()
        print(hashlib.sha256(b"".join(code.numpy().tobytes() for code in codes)).hexdigest(), reader.crc)
"""

MACHINES = {
    "baseline, 2 threads": {
        "ATEN_CPU_CAPABILITY": "default",
        "OPENBLAS_CORETYPE": "Nehalem",
        "MKL_CBWR": "COMPATIBLE",
        "OMP_NUM_THREADS": "2",
    },
    "avx2, 1 thread": {"ATEN_CPU_CAPABILITY": "avx2", "OPENBLAS_CORETYPE": "Haswell", "OMP_NUM_THREADS": "1"},
}


@pytest.mark.parametrize("machine", MACHINES)
def test_same_codes_on_other_machines(machine: str, tmp_path: Path) -> None:
    prior = small_context(SIZES, STRIDES, seed=4, **CONFIG)
    prior.export()
    codes, writer = random_codes(prior, FRAMES), RangeWriter()
    prior.encode(codes, writer)
    state = {name: tensor.numpy() for name, tensor in entropy_state(prior).items()}
    path = tmp_path / "unit.npz"
    np.savez(path, payload=np.frombuffer(writer.getvalue(), dtype=np.uint8), **state)
    settings = {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]), **MACHINES[machine]}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path)], env={**os.environ, **settings}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    digest = hashlib.sha256(b"".join(code.numpy().tobytes() for code in codes)).hexdigest()
    assert done.stdout.splitlines() == [f"{digest} {writer.crc}"] * 6

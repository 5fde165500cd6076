import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from triode.models.layers.audio.mdct import MdctAnalysis, MdctSynthesis
from triode.models.layers.audio.spectra import make_window


def pair(size, **options):
    return MdctAnalysis(size, **options), MdctSynthesis(size, **options)


@pytest.mark.parametrize("method", ["fft", "matmul"])
@pytest.mark.parametrize("window", ["sine", "kbd"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("size", [2, 8, 50, 160])
def test_is_the_transform_of_the_textbook(size, window, causal, method):
    """``X_k = sqrt(2/N) sum_n w_n x_n cos(pi/N (n + 1/2 + N/2) (k + 1/2))`` in all frames but the first and last."""
    frames = 5
    analysis = MdctAnalysis(size, window=window, causal=causal, method=method)
    x = np.random.default_rng(size).normal(size=frames * size - analysis.left)
    padded = np.concatenate((np.zeros(analysis.left), x))
    n, k = np.arange(2 * size), np.arange(size)
    basis = np.cos(np.pi / size * (n + 0.5 + size / 2) * (k[:, None] + 0.5)) * math.sqrt(2 / size)
    y = analysis(torch.from_numpy(x).float()[None, None])[0, 0]
    assert y.shape == (size, frames)
    for i in range(1, frames - 1):
        block = padded[i * size - size // 2 :][: 2 * size] * make_window(window, 2 * size).numpy()
        assert np.allclose(y[:, i].numpy(), basis @ block, atol=2e-5)


@settings(max_examples=80, deadline=None)
@given(
    samples=st.integers(1, 100),
    half=st.integers(1, 12),
    window=st.sampled_from(["sine", "kbd"]),
    causal=st.booleans(),
    method=st.sampled_from(["fft", "matmul"]),
)
def test_reconstructs_any_length(samples, half, window, causal, method):
    analysis, synthesis = pair(2 * half, window=window, causal=causal, method=method)
    torch.manual_seed(samples)
    x = torch.randn(2, 3, samples)
    y = analysis(x)
    assert y.shape == (2, 3, 2 * half, analysis.frames(samples))
    assert analysis.frames(samples) == -(-(samples + causal * half) // (2 * half))
    assert torch.allclose(synthesis(y, samples), x, atol=1e-5)


@pytest.mark.parametrize("method", ["fft", "matmul"])
@pytest.mark.parametrize("frames", [1, 2, 7])
def test_is_orthogonal_at_the_ends_too(frames, method):
    size = 6
    analysis, synthesis = pair(size, method=method)
    unit = torch.eye(frames * size)[:, None]
    matrix = analysis(unit).transpose(-1, -2).flatten(1)
    assert matrix.shape == (frames * size, frames * size)
    assert torch.allclose(matrix @ matrix.T, torch.eye(frames * size), atol=1e-5)
    back = synthesis(unit.reshape(-1, 1, frames, size).transpose(-1, -2)).flatten(1)
    assert torch.allclose(back, matrix.T, atol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("size", [2, 6, 16])
@pytest.mark.parametrize("sizes", [[1], [3], [1, 0, 17, 4], [100]])
def test_streams(assert_streams, size, causal, sizes):
    analysis, synthesis = pair(size, causal=causal)
    for samples in (1, 5, 8, 9, 48, 65):
        y = assert_streams(analysis, torch.randn(1, 1, samples), sizes)
        assert_streams(synthesis, y + torch.randn(y.shape), sizes)


@pytest.mark.parametrize("causal", [False, True])
def test_latency_is_what_it_says(causal):
    analysis, synthesis = pair(8, causal=causal)
    assert analysis.lookahead == (0 if causal else 4)
    state, counts = analysis.stream_state(2, 3), []
    for _ in range(40):
        y, state = analysis.step(torch.randn(2, 3, 1), state)
        counts.append(y.shape[-1])
    assert [i for i, n in enumerate(counts) if n] == list(range(7 + analysis.lookahead, 40, 8))
    state, total = synthesis.stream_state(2, 3), 0
    for i in range(5):
        x, state = synthesis.step(torch.randn(2, 3, 8, 1), state)
        total += x.shape[-1]
        assert total == (i + 1) * 8 - (8 if causal else 4)


def test_autocast_leaves_it_alone():
    analysis, synthesis = pair(32, method="matmul")
    x = torch.randn(1, 1, 500)
    with torch.autocast("cpu", torch.bfloat16):
        y = analysis(x)
        z = synthesis(y, 500)
    assert y.dtype == z.dtype == torch.float32
    assert torch.allclose(x, z, atol=1e-5)


def test_gradients_reach_through_both():
    analysis, synthesis = pair(8)
    x = torch.randn(1, 1, 30, requires_grad=True)
    weights = torch.randn(30)
    (synthesis(analysis(x), 30) * weights).sum().backward()
    assert torch.allclose(x.grad[0, 0], weights, atol=1e-5)


def test_empty_signal():
    analysis, synthesis = pair(8, causal=True)
    y = analysis(torch.zeros(1, 2, 0))
    assert y.shape == (1, 2, 8, 0)
    assert synthesis(y).shape == (1, 2, 0)
    assert not analysis.state_dict()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: MdctAnalysis(7), "Argument `size` must be"),
        (lambda: MdctSynthesis(0), "Argument `size` must be"),
        (lambda: MdctAnalysis(8, window="hann"), "Argument `window` must be"),
        (lambda: MdctAnalysis(8, method="dct"), "Argument `method` must be"),
        (lambda: MdctSynthesis(8)(torch.zeros(1, 1, 8, 3), 25), r"Argument `length` must be in 0\.\.24"),
    ],
)
def test_bad_arguments(build, message):
    with pytest.raises(ValueError, match=message):
        build()

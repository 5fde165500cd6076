import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from triode.models.layers.audio.spectra import make_window
from triode.models.layers.audio.stft import StftAnalysis, StftSynthesis

SHAPES = [(16, 8), (16, 4), (15, 6), (9, 2), (640, 320)]


def pair(n_fft, hop, **options):
    return StftAnalysis(n_fft, hop, **options), StftSynthesis(n_fft, hop, **options)


@pytest.mark.parametrize("method", ["fft", "matmul"])
@pytest.mark.parametrize(("n_fft", "hop"), SHAPES)
@pytest.mark.parametrize("causal", [False, True])
def test_is_the_transform_of_torch(n_fft, hop, causal, method):
    analysis = StftAnalysis(n_fft, hop, causal=causal, normalized=False, method=method)
    x = torch.randn(2, 3, 5 * n_fft + 7)
    y = torch.view_as_complex(analysis(x).movedim(2, -1).contiguous())
    frames = analysis.framing.frames(x.shape[-1])
    padded = torch.nn.functional.pad(x, (analysis.framing.left, frames * hop + n_fft)).flatten(0, 1)
    expected = torch.stft(
        padded, n_fft, hop, window=torch.hann_window(n_fft), center=False, return_complex=True
    ).unflatten(0, (2, 3))
    assert y.shape == (2, 3, n_fft // 2 + 1, frames)
    assert torch.allclose(y, expected[..., :frames], atol=1e-4)


@pytest.mark.parametrize(("n_fft", "hop", "length"), [(16, 4, 12), (382, 80, 320), (15, 4, 10)])
@pytest.mark.parametrize("method", ["fft", "matmul"])
def test_short_window_is_that_of_torch(n_fft, hop, length, method):
    analysis, synthesis = pair(n_fft, hop, window_length=length, normalized=False, method=method)
    x = torch.randn(1, 1, 40 * hop)
    y = torch.view_as_complex(analysis(x).movedim(2, -1).contiguous())[0]
    padded = torch.nn.functional.pad(x[0], (analysis.framing.left, 2 * n_fft))
    window = torch.hann_window(length)
    expected = torch.stft(padded, n_fft, hop, length, window, center=False, return_complex=True)[..., :40]
    assert torch.allclose(y, expected, atol=1e-3)
    assert torch.allclose(synthesis(analysis(x)), x, atol=1e-4)


@settings(max_examples=60, deadline=None)
@given(
    samples=st.integers(1, 90),
    n_fft=st.integers(2, 24),
    overlap=st.sampled_from([1.5, 2, 3, 4]),
    window=st.sampled_from(["hann", "sine", "kbd"]),
    causal=st.booleans(),
    method=st.sampled_from(["fft", "matmul"]),
)
def test_reconstructs_any_length(samples, n_fft, overlap, window, causal, method):
    n_fft += n_fft % 2
    hop = max(int(n_fft / overlap), 1)
    try:
        analysis, synthesis = pair(n_fft, hop, window=window, causal=causal, method=method)
    except ValueError as error:
        assert "cannot be undone" in str(error)  # noqa: PT017
        assert n_fft <= 4 or overlap < 2
        return
    torch.manual_seed(samples)
    x = torch.randn(2, 1, samples)
    assert torch.allclose(synthesis(analysis(x), samples), x, atol=1e-4)


@pytest.mark.parametrize("samples", [1, 2, 319, 320, 321, 16000])
@pytest.mark.parametrize("window", ["hann", "sine", "kbd"])
def test_reconstructs_to_the_precision_of_floats(samples, window):
    analysis, synthesis = pair(640, 320, window=window)
    x = torch.randn(1, 2, samples)
    assert float((synthesis(analysis(x), samples) - x).abs().max()) < 5e-6


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("n_fft", "hop"), [(16, 4), (15, 6), (12, 12)])
@pytest.mark.parametrize("frames", [1, 2, 3, 9])
def test_synthesis_is_the_least_squares_solution(n_fft, hop, frames, causal):
    """Griffin and Lim's formula as loops, ends included, on spectra that no signal has."""
    rng = np.random.default_rng(frames)
    spectra = rng.normal(size=(2, n_fft // 2 + 1, frames))
    synthesis = StftSynthesis(n_fft, hop, window="sine", causal=causal, normalized=False)
    window, left = make_window("sine", n_fft).numpy(), synthesis.framing.left
    above, below = np.zeros((2, frames * hop + n_fft))
    for i in range(frames):
        frame = np.fft.irfft(spectra[0, :, i] + 1j * spectra[1, :, i], n_fft)
        above[i * hop : i * hop + n_fft] += window * frame
        below[i * hop : i * hop + n_fft] += window**2
    y = synthesis(torch.from_numpy(spectra).float()[None, None])
    length = synthesis.framing.samples(frames)
    assert y.shape == (1, 1, length)
    expected = (above[left : left + length], below[left : left + length])
    assert np.allclose(y[0, 0].numpy(), expected[0] / expected[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("n_fft", "hop"), [(16, 8), (16, 4), (15, 6), (9, 2), (5, 5)])
@pytest.mark.parametrize("sizes", [[1], [3], [1, 0, 17, 4], [100]])
def test_streams(assert_streams, n_fft, hop, causal, sizes):
    analysis, synthesis = pair(n_fft, hop, window="sine", causal=causal)
    for samples in (1, 5, 48, 65):
        y = assert_streams(analysis, torch.randn(1, 1, samples), sizes)
        assert_streams(synthesis, y + torch.randn(y.shape), sizes, 1e-4)


@pytest.mark.parametrize("causal", [False, True])
def test_latency_is_what_it_says(causal):
    """A frame comes with the last sample that it sees; a sample with the last frame that holds it."""
    analysis, synthesis = pair(16, 4, causal=causal)
    state, counts = analysis.stream_state(), []
    for _ in range(40):
        y, state = analysis.step(torch.randn(1, 1, 1), state)
        counts.append(y.shape[-1])
    ahead = analysis.framing.lookahead
    assert ahead == (0 if causal else 6)
    assert [i for i, n in enumerate(counts) if n] == list(range(3 + ahead, 40, 4))
    state, total = synthesis.stream_state(), 0
    for i in range(10):
        x, state = synthesis.step(torch.randn(1, 1, 2, 9, 1), state)
        total += x.shape[-1]
        assert total == max((i + 1) * 4 - synthesis.framing.left, 0)


def test_several_channels_stream():
    analysis, synthesis = pair(16, 8)
    x = torch.randn(2, 3, 40)
    a, s = analysis.stream_state(2, 3), synthesis.stream_state(2, 3)
    y, a = analysis.step(x, a)
    z, s = synthesis.step(torch.cat((y, analysis.flush(a)), -1), s)
    assert torch.allclose(torch.cat((z, synthesis.flush(s)), -1)[..., :40], x, atol=1e-5)


def test_scale():
    """White noise of variance v has coefficients of mean square v, whatever the window."""
    torch.manual_seed(0)
    x = 3 * torch.randn(1, 1, 100_000)
    for window in ("hann", "kbd"):
        inner = StftAnalysis(64, 32, window=window)(x)[:, :, :, 1:-1, 2:-2]
        assert math.isclose(float(inner.square().sum(2).mean()), 9, rel_tol=0.03)


def test_autocast_leaves_it_alone():
    analysis, synthesis = pair(64, 32, method="matmul")
    x = torch.randn(1, 1, 500)
    with torch.autocast("cpu", torch.bfloat16):
        y = analysis(x)
        z = synthesis(y, 500)
    assert y.dtype == z.dtype == torch.float32
    assert torch.allclose(x, z, atol=1e-5)


def test_gradients_reach_through_both():
    analysis, synthesis = pair(16, 4)
    x = torch.randn(1, 1, 30, requires_grad=True)
    weights = torch.randn(30)
    (synthesis(analysis(x), 30) * weights).sum().backward()
    assert torch.allclose(x.grad[0, 0], weights, atol=1e-5)


def test_is_not_stored():
    assert not StftAnalysis(16, 4, method="matmul").state_dict()
    assert not StftSynthesis(16, 4, method="matmul").state_dict()


def test_empty_signal():
    analysis, synthesis = pair(16, 4)
    y = analysis(torch.zeros(1, 2, 0))
    assert y.shape == (1, 2, 2, 9, 0)
    assert synthesis(y).shape == (1, 2, 0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: StftAnalysis(16, 17), "Argument `hop` must be"),
        (lambda: StftAnalysis(16, 8, window_length=17), r"`window_length` must be in 1\.\.16, but got 17"),
        (lambda: StftSynthesis(16, 8, window_length=8), "cannot be undone"),
        (lambda: StftAnalysis(16, 8, method="dft"), "Argument `method` must be"),
        (lambda: StftSynthesis(16, 8, method="dft"), "Argument `method` must be"),
        (lambda: StftSynthesis(16, 16, window="hann"), "cannot be undone"),
        (lambda: StftSynthesis(16, 15, window="hann"), "cannot be undone"),
        (lambda: StftSynthesis(16, 8)(torch.zeros(1, 1, 2, 9, 3), 25), r"Argument `length` must be in 0\.\.24"),
    ],
)
def test_bad_arguments(build, message):
    with pytest.raises(ValueError, match=message):
        build()

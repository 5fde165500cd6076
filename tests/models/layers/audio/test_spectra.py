import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from triode.models.layers.audio.spectra import Framing, expand_power, make_window, reduce_power


@pytest.mark.parametrize("length", [2, 8, 640, 1920])
@pytest.mark.parametrize("kind", ["sine", "kbd"])
def test_windows_that_cancel_aliases(kind, length):
    window = make_window(kind, length)
    assert torch.allclose(window, window.flip(0), atol=1e-15)
    first, second = window.square().chunk(2)
    assert torch.allclose(first + second, torch.ones(length // 2, dtype=torch.float64), atol=1e-14)


def test_windows_are_those_of_other_libraries():
    signal = pytest.importorskip("scipy.signal")
    assert torch.allclose(make_window("hann", 7), torch.hann_window(7, dtype=torch.float64), atol=1e-15)
    assert torch.allclose(make_window("sine", 7), torch.from_numpy(signal.windows.cosine(7)), atol=1e-15)
    kbd = torch.from_numpy(signal.windows.kaiser_bessel_derived(12, torch.pi * 4))
    assert torch.allclose(make_window("kbd", 12), kbd, atol=1e-15)


@pytest.mark.parametrize(("kind", "length"), [("kbd", 7), ("sine", 0), ("boxcar", 8)])
def test_bad_windows(kind, length):
    with pytest.raises(ValueError, match=r"Argument `(length|kind)` must be"):
        make_window(kind, length)


@pytest.mark.parametrize("power", [0.3, 0.65, 1.0])
def test_power_of_magnitudes(power):
    torch.manual_seed(0)
    z = torch.randn(50, dtype=torch.complex128) * torch.logspace(-9, 3, 50, dtype=torch.float64)
    parts = torch.view_as_real(z)
    y = reduce_power(parts, power, dim=-1)
    loud = z.abs() > 1e-5
    assert torch.allclose(torch.view_as_complex(y)[loud], z.abs()[loud] ** power * torch.exp(1j * z.angle()[loud]))
    assert torch.allclose(expand_power(y, power, dim=-1), parts, rtol=1e-10, atol=0)


@pytest.mark.parametrize("power", [0.3, 0.5])
def test_power_of_real_numbers(power):
    x = torch.linspace(-3, 3, 60, dtype=torch.float64)
    y = reduce_power(x, power)
    assert torch.allclose(y, x.sign() * x.abs() ** power, rtol=1e-12)
    assert torch.allclose(expand_power(y, power), x, rtol=1e-10)


def test_power_has_a_bounded_slope_at_silence():
    x = torch.zeros(3, 2, requires_grad=True)
    reduce_power(x, 0.3, floor=1e-4, dim=1).sum().backward()
    assert torch.allclose(x.grad, torch.full((3, 2), 1e-4**-0.7))
    x = torch.zeros(3, requires_grad=True)
    expand_power(x, 0.3).sum().backward()
    assert x.grad.isfinite().all()


@pytest.mark.parametrize(("power", "floor"), [(0.0, 1e-5), (1.1, 1e-5), (0.3, 0.0)])
def test_bad_powers(power, floor):
    for function in (reduce_power, expand_power):
        with pytest.raises(ValueError, match="Arguments `power` and `floor`"):
            function(torch.ones(2), power, floor=floor)


@settings(max_examples=100, deadline=None)
@given(window=st.integers(1, 30), hop=st.integers(1, 30), samples=st.integers(1, 100), causal=st.booleans())
def test_frames_cover_the_signal_and_no_more(window, hop, samples, causal):
    framing = Framing(window, min(hop, window), causal)
    frames = framing.frames(samples)
    assert framing.left + framing.hop + framing.lookahead == window
    assert framing.lookahead == 0 or not causal
    assert framing.samples(frames) >= samples > framing.samples(frames - 1)
    if causal:  # every frame that reaches into the signal is there
        starts = range(-framing.left, samples, framing.hop)
        assert frames == len(starts)
    else:
        assert frames == -(-samples // framing.hop)
    assert framing.frames(0) == framing.samples(0) == 0


@pytest.mark.parametrize("hop", [0, 9])
def test_bad_framing(hop):
    with pytest.raises(ValueError, match=r"Argument `hop` must be in 1\.\.8"):
        Framing(8, hop)

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triode.codecs.resample import Resampler, StreamResampler, resample

relaxed = settings(deadline=None, max_examples=40)

# By a matrix, and by the table.
SIMPLE = [(48_000, 16_000), (16_000, 48_000), (44_100, 16_000), (16_000, 44_100), (22_050, 16_000), (8000, 48_000)]
ODD = [(44_056, 16_000), (16_000, 44_056), (44_101, 16_000)]
rates = st.one_of(
    st.sampled_from([*SIMPLE, *ODD, (3, 2), (2, 3), (1, 5), (1000, 997)]),
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
)


def noise(samples, channels=1, seed=0):
    return np.random.default_rng(seed).normal(0, 0.3, (channels, samples)).astype(np.float32)


def reference(x, source, target, count):
    """Sum the filter over all inputs, output by output, as the module's text says, in float64."""
    scale = min(1.0, target / source)
    n, m = np.arange(count)[:, None], np.arange(x.shape[1])[None]
    t = n * source / target - m
    window = np.kaiser(2001, 9.62046)
    taper = np.interp(t * scale / 80, np.linspace(-1, 1, 2001), window, left=0, right=0)
    taps = scale * 0.9617 * np.sinc(scale * 0.9617 * t) * taper
    return x.astype(np.float64) @ taps.T


def decibel(x):
    return 20 * np.log10(np.abs(x).max() + 1e-12)


@pytest.mark.parametrize(("source", "target"), [*SIMPLE, *ODD])
def test_tones_below_92_percent_pass_unchanged(source, target):
    low = min(source, target) / 2
    for share in (0.013, 0.31, 0.7, 0.92):
        x, y = (np.sin(2 * np.pi * share * low * np.arange(rate // 8) / rate) for rate in (source, target))
        found = resample(x[None].astype(np.float32), source, target)[0][: len(y)]
        edge = len(y) // 4
        assert decibel(found[edge:-edge] - y[edge : len(found) - edge]) < -94


@pytest.mark.parametrize(("source", "target"), [(48_000, 16_000), (44_100, 16_000), (44_056, 16_000)])
def test_tones_above_the_nyquist_frequency_vanish(source, target):
    for share in (1.0, 1.02, 1.3, 2.0, 2.6):
        x = np.sin(2 * np.pi * share * target / 2 * np.arange(source // 8) / source + 0.5)
        found = resample(x[None].astype(np.float32), source, target)[0]
        assert decibel(found[len(found) // 4 : -len(found) // 4]) < -95


def test_images_above_the_nyquist_frequency_vanish():
    x = np.sin(2 * np.pi * 0.9 * 8000 * np.arange(8000) / 16_000)[None].astype(np.float32)
    found = resample(x, 16_000, 48_000)[0][6000:-6000]
    spectrum = np.abs(np.fft.rfft(found * np.kaiser(len(found), 20)))
    above = np.fft.rfftfreq(len(found), 1 / 48_000) > 8000
    assert decibel(spectrum[above] / spectrum.max()) < -95


@pytest.mark.parametrize(("source", "target"), [*SIMPLE, *ODD, (3, 2), (1, 4)])
def test_equals_the_sum_of_the_filter(source, target):
    x = noise(400, 2)
    expected = reference(x, source, target, -(-400 * target // source))
    # At the very ends the filter's phases are brought to pass a constant; the sum is not.
    assert np.abs(resample(x, source, target) - expected).max() < 1e-4


def test_a_constant_stays():
    for source, target in [*SIMPLE, *ODD]:
        found = resample(np.full((1, source // 10), 0.7, np.float32), source, target)[0]
        edge = len(found) // 4
        assert np.abs(found[edge:-edge] - 0.7).max() < 1e-6


def test_hours_do_not_drift():
    """The filter's centre lies where exact arithmetic says, however far from the beginning."""
    for source, target in ((44_056, 16_000), (44_100, 16_000)):
        core = Resampler(source, target)
        index = 40_000_000 * target // core.block
        for offset in (0, core.block - 1):
            n = index * core.block + offset
            start, stop = core.window(index)
            place = n * source / target - start  # of the output in its window
            x = np.sin(2 * np.pi * 0.05 * (np.arange(stop - start) - place))[None].astype(np.float32)
            assert abs(core.run(index, x)[0, offset]) < 1e-4


@relaxed
@given(rates, st.integers(0, 700), st.integers(1, 3), st.data())
def test_pieces_give_the_bits_of_the_whole(rates, samples, channels, data):
    x = noise(samples, channels, seed=samples)
    whole = resample(x, *rates)
    count = -(-samples * rates[1] // rates[0])
    assert whole.shape == (channels, count)
    stream, at, out = StreamResampler(*rates, channels), 0, []
    while at < samples:
        step = data.draw(st.integers(0, 300))
        out.append(stream.push(x[:, at : at + step]))
        at += step
        assert stream.made == sum(piece.shape[1] for piece in out) <= count
    out.append(stream.finish(count))
    assert np.array_equal(np.concatenate(out, axis=1), whole)


@relaxed
@given(rates, st.integers(1, 700), st.data())
def test_ranges_give_the_bits_of_the_whole(rates, samples, data):
    x = noise(samples, seed=samples)
    whole = resample(x, *rates)
    first = data.draw(st.integers(0, whole.shape[1] - 1))
    core = Resampler(*rates)
    start = first if rates[0] == rates[1] else max(0, core.window(first // core.block)[0])
    position = data.draw(st.integers(0, min(start, samples)))
    stream = StreamResampler(*rates, 1, first=first, position=position)
    found = np.concatenate((stream.push(x[:, position:]), stream.finish(whole.shape[1])), axis=1)
    assert np.array_equal(found, whole[:, first:])


def test_more_outputs_come_from_zeros():
    x = noise(300)
    whole = resample(np.pad(x, ((0, 0), (0, 300))), 3, 2)
    stream = StreamResampler(3, 2, 1)
    found = np.concatenate((stream.push(x), stream.finish(350)), axis=1)
    assert np.array_equal(found, whole[:, :350])
    with pytest.raises(ValueError, match="at least 350"):
        stream.finish(349)


def test_equal_rates_change_nothing():
    x = noise(1000, 2)
    assert resample(x, 7, 7) is x
    stream = StreamResampler(7, 7, 2)
    assert np.array_equal(stream.push(x), x)
    assert not stream.finish(1003).any()
    assert stream.made == 1003


def test_extreme_ratios():
    assert resample(noise(3), 1, 16_000).shape == (1, 48_000)
    found = resample(np.ones((1, 1 << 15), np.float32), 1 << 13, 1)
    assert found.shape == (1, 4)
    assert resample(noise(0), 3, 2).shape == (1, 0)


@pytest.mark.parametrize("rates", [(0, 1), (1, 0), (-1, 5)])
def test_rates_must_be_positive(rates):
    with pytest.raises(ValueError, match="positive"):
        Resampler(*rates)

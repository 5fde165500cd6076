import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triode.codecs.levels import MID_SIDE, angles, choose_rotation, gains, level_of, levels_of, rotate

relaxed = settings(deadline=None, max_examples=60)
levels = st.one_of(st.none(), st.integers(-63, 63))
rotations = st.integers(0, 63)


def noise(channels, samples, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, (channels, samples)).astype(np.float32)


def expected_gain(before, level, after, chunk):
    """Do, sample by sample, what section 5.2 of the format says."""
    ramp = chunk // 4
    for n in range(chunk):
        v = level
        if before is not None and before < level and n < ramp:
            v = before + (level - before) * (n + 0.5) / ramp
        if after is not None and after < level and n >= chunk - ramp:
            v = level + (after - level) * (n - (chunk - ramp) + 0.5) / ramp
        yield 10 ** (0.075 * v)


@relaxed
@given(levels, st.integers(-63, 63), levels, st.integers(1, 50))
def test_gains_are_those_of_the_format(before, level, after, chunk):
    assert np.allclose(gains(before, level, after, chunk), list(expected_gain(before, level, after, chunk)), rtol=1e-5)


@pytest.mark.parametrize(("one", "other"), [(0, 10), (10, 0), (-63, 63), (5, 5)])
def test_gains_go_on_from_chunk_to_chunk(one, other):
    """No step is larger than a ramp's, and loud chunks never meet the gain of quiet ones."""
    first, second = gains(None, one, other, 400), gains(one, other, None, 400)
    steps = np.abs(np.diff(20 * np.log10(np.concatenate((first, second)))))
    assert steps.max() <= 1.5 * abs(other - one) / 100 + 1e-4
    assert second.max() <= 10 ** (0.075 * other) * 1.0001
    assert first.max() <= 10 ** (0.075 * one) * 1.0001


def test_no_ramp_beside_silence():
    for beside in (gains(None, 9, None, 40), gains(9, 9, 9, 40), gains(20, 9, 20, 40)):
        assert (beside == beside[0]).all()
    assert (gains(3, None, 5, 40) == 1).all()


@relaxed
@given(rotations, rotations, st.integers(1, 60), st.integers(2, 5), st.data())
def test_rotation_is_undone(before, rotation, chunk, channels, data):
    samples = data.draw(st.integers(1, chunk))
    pairs = channels // 2
    x = noise(channels, samples)
    turned = rotate(x, (before,) * pairs, (rotation,) * pairs, chunk)
    assert np.allclose(rotate(turned, (before,) * pairs, (rotation,) * pairs, chunk, back=True), x, atol=1e-6)
    # Turning keeps energy, sample by sample.
    for pair in range(0, 2 * pairs, 2):
        assert np.allclose(np.square(turned[pair : pair + 2]).sum(0), np.square(x[pair : pair + 2]).sum(0), atol=1e-6)
    if channels % 2:
        assert np.array_equal(turned[-1], x[-1])


def test_rotation_is_that_of_the_format():
    x = noise(2, 40)
    turned = rotate(x, (4,), (20,), 40)
    for n in range(40):
        t = np.pi / 64 * (4 + 16 * (n + 0.5) / 10 if n < 10 else 20)
        a, b = turned[:, n]
        assert np.allclose([a * np.cos(t) - b * np.sin(t), a * np.sin(t) + b * np.cos(t)], x[:, n], atol=1e-6)


def test_mid_and_side():
    x = noise(2, 30)
    mid, side = rotate(x, (MID_SIDE,), (MID_SIDE,), 30)
    assert np.allclose(mid, (x[0] + x[1]) / np.sqrt(2), atol=1e-6)
    assert np.allclose(side, (x[1] - x[0]) / np.sqrt(2), atol=1e-6)
    equal = rotate(np.stack((x[0], x[0])), (MID_SIDE,), (MID_SIDE,), 30)
    assert not equal[1].any()
    assert rotate(x, (0,), (0,), 30) is x


def test_angles_turn_at_the_beginning():
    assert np.allclose(angles(0, 16, 8) * 64 / np.pi, [4, 12, 16, 16, 16, 16, 16, 16])
    assert np.allclose(angles(16, 16, 8) * 64 / np.pi, 16)


class TestLevels:
    @relaxed
    @given(st.floats(1e-4, 1e3), st.integers(0, 5))
    def test_brings_chunks_near_to_the_target(self, loudness, seed):
        x = noise(1, 1000, seed)[0] * np.float32(loudness)
        gain = 10 ** (0.075 * level_of(x))
        rms = gain * np.sqrt(np.square(x).mean())
        if loudness > 0.016:  # below, 36 dB is all that is given
            assert 0.1 * 10**-0.076 < rms < 0.1001
        assert gain <= 10 ** (0.075 * 24) * 1.001

    def test_peaks_limit_the_gain(self):
        x = np.zeros(10_000, np.float32)
        x[5] = 0.5
        assert 10 ** (0.075 * level_of(x)) * 0.5 <= 2.0

    def test_silence_and_extremes(self):
        assert level_of(np.zeros(5, np.float32)) is None
        assert level_of(np.zeros(0, np.float32)) is None
        assert level_of(np.full(5, 2.0**-24, np.float32)) is None
        assert level_of(np.full(5, 2.0**-23, np.float32)) == 24
        assert level_of(np.full(5, 65536, np.float32)) == -63

    def test_turned_pairs_share_the_lower_level(self):
        x = noise(5, 500)
        x[1] *= 0.1
        x[2] *= 0.1
        apart = levels_of(x, (0, 0))
        assert apart[1] > apart[0]
        assert levels_of(x, (16, 0)) == (apart[0], apart[0], *apart[2:])
        assert levels_of(x, (16, 16)) == (apart[0], apart[0], apart[3], apart[3], apart[4])
        x[1] = 0
        assert levels_of(x, (16, 0))[:2] == (apart[0], None)


class TestChoice:
    @staticmethod
    def never(pair, rotation):
        raise AssertionError("this was obvious")

    def test_obvious_pairs(self):
        x = noise(1, 500)[0]
        zero, other = np.zeros_like(x), noise(1, 500, 1)[0]
        assert choose_rotation(np.stack((x, x)), self.never) == MID_SIDE
        assert choose_rotation(np.stack((x, -x)), self.never) == MID_SIDE
        assert choose_rotation(np.stack((x, 0.98 * x)), self.never) == MID_SIDE
        for pair in ((x, zero), (zero, x), (zero, zero), (x, other), (x, 0.3 * x)):
            assert choose_rotation(np.stack(pair), self.never) == 0

    def test_other_pairs_go_by_their_cost(self):
        x = noise(1, 500)[0]
        pair = np.stack((x, x + 0.5 * noise(1, 500, 1)[0]))
        asked = []

        def cost(turned, rotation):
            asked.append((turned.copy(), rotation))
            return 10.0 if rotation else 10.5

        assert choose_rotation(pair, cost) == MID_SIDE
        by_rotation = {rotation: turned for turned, rotation in asked}
        assert np.array_equal(by_rotation[0], pair)
        assert np.allclose(by_rotation[MID_SIDE][0], pair.sum(0) / np.sqrt(2), atol=1e-6)
        assert choose_rotation(pair, lambda _, rotation: 10.0) == 0

"""Scales to ladder indices: the ends of the ladder, and integers against logarithms."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from triode.entropy.exact.layers import exact_twin, to_fixed
from triode.entropy.exact.scale_index import ExactScaleToIndex, ScaleToIndex
from triode.entropy.exact.state import entropy_state
from triode.entropy.gaussian import index_to_scale, scale_ladder


def test_there_and_back() -> None:
    scale = torch.exp(torch.linspace(np.log(0.11), np.log(256), 500))
    torch.testing.assert_close(index_to_scale(ScaleToIndex()(scale)), scale, rtol=2e-5, atol=0)


@pytest.mark.parametrize(
    ("scale", "index"), [(-3.0, 0.0), (0.0, 0.0), (0.05, 0.0), (0.11, 0.0), (256.0, 63.0), (1e9, 63.0)]
)
def test_ends_of_the_ladder(scale: float, index: float) -> None:
    assert float(ScaleToIndex()(torch.tensor(scale))) == pytest.approx(index, abs=1e-4)
    assert float(exact_twin(ScaleToIndex())(to_fixed(torch.tensor([scale]))) / 1024) == index


def test_steps_of_the_ladder_map_to_themselves() -> None:
    steps = torch.from_numpy(scale_ladder())
    torch.testing.assert_close(ScaleToIndex()(steps), torch.arange(64.0, dtype=torch.float64), rtol=0, atol=1e-9)
    # The lowest steps are 14 units of 2**-10 apart, so that rounding to Q13.10 leaves each nearest to itself.
    assert (ExactScaleToIndex()(to_fixed(steps)) / 1024).tolist() == list(range(64))


def test_integers_give_the_nearest_step_for_every_scale() -> None:
    fixed = np.arange(-2000, 300_000)
    nearest = np.abs(np.log(np.maximum(fixed, 1)[:, None] / 1024) - np.log(scale_ladder())[None, :]).argmin(1)
    found = ExactScaleToIndex()(torch.from_numpy(fixed).double().view(1, 2, -1))
    assert found.dtype == torch.float64
    np.testing.assert_array_equal(found.flatten().numpy(), nearest * 1024.0)


def test_thresholds_are_entropy_state() -> None:
    state = entropy_state(exact_twin(ScaleToIndex()))
    assert [(k, v.dtype, v.shape) for k, v in state.items()] == [("thresholds", torch.int32, (63,))]


def test_gradients_lead_back_onto_the_ladder() -> None:
    scale = torch.tensor([0.01, 1.0, 900.0], requires_grad=True)
    ScaleToIndex()(scale).sum().backward()
    # A descent step raises nothing: gradients that point further out do not pass.
    assert (scale.grad > 0).tolist() == [False, True, True]
    scale.grad = None
    (-ScaleToIndex()(scale)).sum().backward()
    assert (scale.grad < 0).tolist() == [True, True, False]

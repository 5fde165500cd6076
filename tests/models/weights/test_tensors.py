import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from triode.models.weights import tensors
from triode.models.weights.tensors import pack, rounded, unpack


@pytest.fixture(autouse=True, scope="module")
def _small_ones_are_packed_too():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensors, "_LEAST", 1)
        yield


def weights(rows, columns, seed, spread):
    values = np.random.default_rng(seed).standard_normal((rows, columns)) * np.float64(10) ** spread
    return torch.from_numpy(values.astype(np.float32))


@given(st.integers(1, 7), st.integers(1, 9), st.integers(0, 1000), st.integers(-6, 3))
def test_what_is_packed_comes_back_rounded_and_packs_to_the_same(rows, columns, seed, spread):
    state = {"w": weights(rows, columns, seed, spread)}
    files, shapes = pack(state)
    assert len(files["w.q12"]) == -(-rows * columns // 2) * 3
    back = unpack(files, shapes)
    assert torch.equal(back["w"], rounded(state["w"]))
    again, _ = pack(back)
    assert all(torch.equal(again[name], files[name]) for name in files)


@given(st.integers(1, 7), st.integers(1, 9), st.integers(0, 1000), st.integers(-6, 3))
def test_errors_are_below_a_step_of_the_row(rows, columns, seed, spread):
    w = weights(rows, columns, seed, spread)
    step = w.abs().amax(1, keepdim=True) / 2047
    # Half a step of its own, and at most a quarter by the rounding of the scale.
    assert bool(((rounded(w) - w).abs() <= 0.75 * step).all())


def test_extremes_and_signs():
    w = torch.tensor([[2047.0, -2047.0, 1.0], [0.0, 0.0, 0.0], [-1.0, 0.5, -0.0004]])
    assert torch.equal(rounded(w)[:2], w[:2])
    assert rounded(w)[2].tolist() == pytest.approx([-1, 0.5, -0.0004], abs=4e-4)
    files, shapes = pack({"w": w})
    assert torch.equal(unpack(files, shapes)["w"], rounded(w))


def test_the_layout_is_the_one_that_is_described():
    files, _ = pack({"w": torch.tensor([[2047.0, -1.0, 5.0]])})
    assert files["w.q12_scale"].tolist() == [1.0]
    assert files["w.q12"].tolist() == [0xFF, 0xF7, 0xFF, 0x05, 0x00, 0x00]


def test_vectors_integers_and_shapes():
    state = {
        "bias": torch.tensor([0.1, 1e-3]),
        "table": torch.arange(6, dtype=torch.int16).reshape(2, 3),
        "kernel": torch.randn(3, 2, 5, 5, generator=torch.Generator().manual_seed(0)),
    }
    files, shapes = pack(state)
    assert shapes == {"kernel": [3, 2, 5, 5]}
    assert files["bias"].dtype == torch.float16
    back = unpack(files, shapes)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], rounded(tensor)) for name, tensor in state.items())


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"w.q12": torch.zeros(5, dtype=torch.uint8)}, ValueError),
        ({"w.q12": torch.zeros(6)}, ValueError),
        ({"w.q12_scale": torch.ones(2)}, ValueError),
        ({"w.q12_scale": torch.ones(1, dtype=torch.float16)}, ValueError),
        ({"w.q12": torch.tensor([0, 0, 0, 0, 0, 16], dtype=torch.uint8)}, ValueError),
    ],
)
def test_what_does_not_fit(change, error):
    files, shapes = pack({"w": torch.tensor([[2047.0, -1.0, 5.0]])})
    with pytest.raises(error):
        unpack(files | change, shapes)


def test_a_packed_tensor_that_is_missing():
    with pytest.raises(KeyError):
        unpack({}, {"w": [1, 3]})

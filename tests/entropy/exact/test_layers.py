"""Integer layers give the integers that NumPy's int64 gives, for any input, shape and setting."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from triode.entropy.exact.layers import (
    _TWINS,
    ACTIVATION_MAX,
    ExactConv2d,
    ExactConvTranspose2d,
    ExactLeakyReLU,
    ExactRateBias,
    ExactRateGain,
    exact_twin,
    from_fixed,
    register_twin,
    to_fixed,
)
from triode.entropy.rate import RateBias, RateGain


@dataclass(frozen=True)
class Shape:
    batch: int
    groups: int
    inputs: int
    outputs: int
    kernel: int
    stride: int
    padding: int
    height: int
    width: int


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    kernel = draw(st.sampled_from([1, 3, 5]))
    kind = draw(st.sampled_from(["dense", "depthwise", "grouped", "multiplier"]))
    groups = 1 if kind == "dense" else draw(st.sampled_from([2, 4]))
    inside, outside = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    if kind == "depthwise":
        inside = outside = 1
    elif kind == "multiplier":
        inside = 1
    padding = draw(st.integers(0, kernel // 2))
    least = max(1, kernel - 2 * padding)
    return Shape(
        draw(st.integers(1, 2)),
        groups,
        groups * inside,
        groups * outside,
        kernel,
        draw(st.integers(1, 2)),
        padding,
        draw(st.integers(least, least + 6)),
        draw(st.integers(least, least + 6)),
    )


def random_state(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Integer weights of any size up to the extremes; a few sums need to be large enough to saturate."""
    limit = int(rng.choice([3, 300, 2**15]))
    return {
        "weight": rng.integers(-limit, limit, shape).astype(np.int16),
        "bias": rng.integers(-(2**40), 2**40, shape[0]),
        "shift": rng.integers(1, 31, shape[0]).astype(np.int8),
    }


def random_input(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Sums of up to four activations."""
    limit = int(rng.choice([2, 3000, 4 * ACTIVATION_MAX]))
    x = rng.integers(-limit, limit + 1, shape)
    return np.where(rng.random(shape) < 0.1, rng.choice([-limit, limit], shape), x)


def run(layer: nn.Module, state: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    layer.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    source = torch.from_numpy(x).double()
    out = layer(source)
    assert out.dtype == torch.float64
    assert np.array_equal(source.numpy(), x), "the input was changed"
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        assert torch.equal(layer(source), out)
    integers = out.numpy().astype(np.int64)
    assert np.array_equal(integers, out.numpy())
    return integers


def finish(total: np.ndarray, state: dict[str, np.ndarray]) -> np.ndarray:
    bias, shift = (state[name].astype(np.int64)[:, None, None] for name in ("bias", "shift"))
    return np.clip((total + bias) >> shift, -ACTIVATION_MAX, ACTIVATION_MAX)


@given(shapes(), st.integers(0, 2**32))
@settings(max_examples=120, deadline=None)
def test_conv(s: Shape, seed: int) -> None:
    rng = np.random.default_rng(seed)
    layer = ExactConv2d(nn.Conv2d(s.inputs, s.outputs, s.kernel, s.stride, s.padding, groups=s.groups))
    state = random_state(rng, (s.outputs, s.inputs // s.groups, s.kernel, s.kernel))
    x = random_input(rng, (s.batch, s.inputs, s.height, s.width))

    padded = np.pad(x, ((0, 0), (0, 0), (s.padding,) * 2, (s.padding,) * 2))
    height, width = ((n - s.kernel) // s.stride + 1 for n in padded.shape[2:])
    total = np.zeros((s.batch, s.outputs, height, width), dtype=np.int64)
    for b, o, row, column in np.ndindex(total.shape):
        first = o // (s.outputs // s.groups) * (s.inputs // s.groups)
        top, left = row * s.stride, column * s.stride
        window = padded[b, first : first + s.inputs // s.groups, top : top + s.kernel, left : left + s.kernel]
        total[b, o, row, column] = (window * state["weight"][o].astype(np.int64)).sum()
    assert np.array_equal(run(layer, state, x), finish(total, state))


@given(shapes(), st.integers(0, 1), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_transposed_conv(s: Shape, extra: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    extra = min(extra, s.stride - 1)
    conv = nn.ConvTranspose2d(s.inputs, s.outputs, s.kernel, s.stride, s.padding, extra)
    layer = ExactConvTranspose2d(conv)
    state = random_state(rng, (s.outputs, s.inputs, s.kernel, s.kernel))
    x = random_input(rng, (s.batch, s.inputs, s.height, s.width))

    height, width = ((n - 1) * s.stride + s.kernel + extra for n in x.shape[2:])
    total = np.zeros((s.batch, s.outputs, height, width), dtype=np.int64)
    for row, column in np.ndindex(s.height, s.width):
        top, left = row * s.stride, column * s.stride
        spread = np.einsum("bi,oikl->bokl", x[:, :, row, column], state["weight"].astype(np.int64))
        total[:, :, top : top + s.kernel, left : left + s.kernel] += spread
    total = total[:, :, s.padding : height - s.padding, s.padding : width - s.padding]
    assert conv(torch.zeros(x.shape)).shape == total.shape
    assert np.array_equal(run(layer, state, x), finish(total, state))


@pytest.mark.parametrize("slope", [0.0, 0.01, 0.125, 0.2, 1.0])
def test_leaky_relu(slope: float) -> None:
    x = np.concatenate([np.arange(-3000, 3000), [-4 * ACTIVATION_MAX, 4 * ACTIVATION_MAX, -ACTIVATION_MAX]])
    factor = round(slope * 65536)
    wanted = np.where(x < 0, x * factor >> 16, x)
    source = torch.from_numpy(x).double()
    assert np.array_equal(ExactLeakyReLU(slope)(source).numpy(), wanted)
    assert np.array_equal(source.numpy(), x)


@pytest.mark.parametrize("slope", [-0.1, 1.1, float("nan")])
def test_leaky_relu_refuses(slope: float) -> None:
    with pytest.raises(ValueError, match=r"must be in \[0, 1\]"):
        ExactLeakyReLU(slope)


def test_rate_gain() -> None:
    torch.manual_seed(0)
    source = RateGain(3, 4, torch.tensor([0.002, 0.7, 1.0, 2000.0]))
    with torch.no_grad():
        source.log_gain.sub_(torch.rand_like(source.log_gain))
    layer = ExactRateGain(source)
    x = random_input(np.random.default_rng(0), (2, 3, 9, 9))
    for q in range(64):
        rates = torch.tensor([q, 63 - q])
        out = layer(torch.from_numpy(x).double(), rates)
        table = layer.gain.numpy().astype(np.int64)[rates.numpy()][:, :, None, None]
        assert np.array_equal(out.numpy(), np.clip(x * table >> 16, -ACTIVATION_MAX, ACTIVATION_MAX))
        assert torch.allclose(layer.gain[q] / 65536, source.gain(torch.tensor([q]))[0], atol=2**-16)


@pytest.mark.parametrize("gain", [1e-9, 3000.0, float("inf"), float("nan")])
def test_rate_gain_refuses(gain: float) -> None:
    with pytest.raises(ValueError, match="Gains must lie in"):
        ExactRateGain(RateGain(2, 1, torch.tensor([gain])))


def test_rate_gain_is_checked_when_loaded() -> None:
    layer = ExactRateGain(RateGain(2))
    with pytest.raises(ValueError, match="Gains must lie in"):
        layer.load_state_dict({"gain": torch.full((64, 2), 2**27 + 1, dtype=torch.int32)})


def test_rate_bias() -> None:
    source = RateBias(3, 4)
    with torch.no_grad():
        source.bias.copy_(torch.randn(4, 3) * 100)
        source.bias[0, 0] = 1e6
    layer = ExactRateBias(source)
    x = random_input(np.random.default_rng(0), (2, 3, 9, 9))
    for q in range(0, 64, 7):
        out = layer(torch.from_numpy(x).double(), torch.tensor([q, q]))
        table = layer.bias.numpy().astype(np.int64)[q][:, None, None]
        assert np.array_equal(out.numpy(), np.clip(x + table, -ACTIVATION_MAX, ACTIVATION_MAX))
    assert torch.allclose(layer.bias[63] / 1024, source.bias[-1], atol=2**-11)
    assert layer.bias[0, 0] == ACTIVATION_MAX
    with torch.no_grad():
        source.bias[1, 1] = float("nan")
    with pytest.raises(ValueError, match="finite"):
        ExactRateBias(source)


def test_fixed_point() -> None:
    x = torch.tensor([0.0, 0.5, -0.5 / 1024, 1.5 / 1024, 1e9, -1e9, 3.14159])
    fixed = to_fixed(x)
    assert fixed.dtype == torch.float64
    assert fixed.tolist() == [0, 512, 0, 2, ACTIVATION_MAX, -ACTIVATION_MAX, 3217]
    assert torch.equal(to_fixed(from_fixed(fixed)), fixed)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(24, 16, 3, padding=1),
        nn.Conv2d(24, 24, 3, padding=1, groups=24),
        nn.Conv2d(24, 48, 1, groups=4),
        nn.Conv2d(24, 16, 5, 2, 2, bias=False),
        nn.ConvTranspose2d(24, 16, 5, 2, 2, 1),
    ],
    ids=["3x3", "depthwise", "grouped", "strided", "transposed"],
)
def test_error_of_quantised_weights_is_small(conv: nn.Conv2d | nn.ConvTranspose2d) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        conv.weight.mul_(torch.exp(torch.randn_like(conv.weight)))
    twin, x = exact_twin(conv), to_fixed(torch.randn(1, 24, 12, 12) * 3)
    wanted = conv.double()(x / 1024)
    # Half a step of the weights for each input, half a step of the bias, half a step of the output.
    with torch.no_grad():
        half = torch.exp2(-twin.shift.double() - 1)
        conv.weight.copy_(half.view(1, -1, 1, 1) if isinstance(conv, nn.ConvTranspose2d) else half.view(-1, 1, 1, 1))
        if conv.bias is not None:
            conv.bias.copy_(half / 1024)
        bound = conv((x / 1024).abs()) + 0.5 / 1024
    error = (twin(x) / 1024 - wanted).abs()
    assert (error <= bound * (1 + 1e-9)).all()
    assert error.mean() < 1 / 1024


class TestRefusals:
    def test_sums_beyond_53_bits(self) -> None:
        conv = nn.Conv2d(4096, 1, 5)
        nn.init.ones_(conv.weight)
        with pytest.raises(ValueError, match=r"may reach 2\*\*55\.\d; it must stay below 2\*\*53"):
            ExactConv2d(conv)

    def test_sums_of_loaded_weights(self) -> None:
        layer = ExactConv2d(nn.Conv2d(1, 1, 1))
        state = layer.state_dict()
        state["bias"] = torch.tensor([2**53])
        with pytest.raises(ValueError, match="must stay below"):
            layer.load_state_dict(state)

    @pytest.mark.parametrize("shift", [0, 31, -3])
    def test_shifts_of_loaded_weights(self, shift: int) -> None:
        layer = ExactConv2d(nn.Conv2d(1, 1, 1))
        with pytest.raises(ValueError, match="Shifts must be in"):
            layer.load_state_dict({**layer.state_dict(), "shift": torch.tensor([shift], dtype=torch.int8)})

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), 16_384.0])
    def test_weights_and_biases(self, value: float) -> None:
        conv = nn.Conv2d(2, 2, 1)
        nn.init.constant_(conv.weight[1:], value)
        with pytest.raises(ValueError, match="Weights must be finite"):
            ExactConv2d(conv)
        conv = nn.Conv2d(2, 2, 1)
        nn.init.constant_(conv.bias[1:], value * 1e9)
        with pytest.raises(ValueError, match=r"Biases must be finite|must stay below"):
            ExactConv2d(conv)

    @pytest.mark.parametrize(
        "conv",
        [
            nn.Conv2d(1, 1, 3, dilation=2),
            nn.Conv2d(1, 1, 3, padding="same"),
            nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"),
            nn.ConvTranspose2d(2, 2, 3, groups=2),
            nn.ConvTranspose2d(2, 2, 3, dilation=2),
        ],
        ids=str,
    )
    def test_settings(self, conv: nn.Module) -> None:
        with pytest.raises(ValueError, match="needs"):
            exact_twin(conv)

    @pytest.mark.parametrize("leaf", [nn.Sigmoid(), nn.GELU(), nn.BatchNorm2d(3), nn.Linear(2, 2)])
    def test_leaves_without_twin(self, leaf: nn.Module) -> None:
        with pytest.raises(ValueError, match=f"{type(leaf).__name__} has no integer twin"):
            exact_twin(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Sequential(leaf)))


def test_zero_weights_are_fine() -> None:
    conv = nn.Conv2d(2, 3, 1)
    nn.init.zeros_(conv.weight)
    nn.init.constant_(conv.bias, 63.0)
    assert (ExactConv2d(conv)(torch.full((1, 2, 1, 1), 5000.0).double()) == 63 * 1024).all()


def test_cached_weights_follow_changes() -> None:
    layer = ExactConv2d(nn.Conv2d(1, 1, 1))
    x = torch.full((1, 1, 1, 1), 1024.0, dtype=torch.float64)
    before = layer(x).item()
    state = layer.state_dict()
    state["weight"] = state["weight"] // 2
    layer.load_state_dict(state)
    assert layer(x).item() != before
    layer.to("meta")
    assert layer._ready is None


class Net(nn.Module):
    """Attributes, containers, and a forward with arithmetic."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = 3
        self.order = [1, 0]
        self.parts = nn.ModuleList([nn.Conv2d(2, 4, 1), nn.Conv2d(2, 4, 3, padding=1)])
        self.tail = nn.Sequential(
            nn.LeakyReLU(0.125), nn.PixelShuffle(2), nn.ReLU(), nn.Identity(), nn.PixelUnshuffle(2)
        )
        self.gain, self.bias = RateGain(4), RateBias(4)

    def forward(self, x: Tensor, q: Tensor) -> Tensor:
        a, b = (self.parts[i](x) for i in self.order)
        return self.gain(self.bias(self.tail(a + b), q), q) * self.scale


class TestTwin:
    def test_same_structure_and_code(self) -> None:
        net = Net()
        twin = exact_twin(net)
        assert type(twin) is Net
        assert (twin.scale, twin.order) == (3, [1, 0])
        assert list(dict(twin.named_modules())) == list(dict(net.named_modules()))
        assert not list(twin.parameters())
        assert not any(module.training for module in twin.modules())
        assert isinstance(twin.parts[0], ExactConv2d)

    def test_leaves_the_source_alone(self) -> None:
        net = Net().train()
        before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
        x, q = torch.randn(2, 2, 4, 4), torch.tensor([5, 63])
        twin = exact_twin(net)
        found = from_fixed(twin(to_fixed(x), q))
        assert torch.allclose(found, net(x, q), atol=0.02)
        assert net.training
        assert all(p.requires_grad for p in net.parameters())
        assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())
        assert isinstance(net.parts[0], nn.Conv2d)

    def test_batch_makes_no_difference(self) -> None:
        twin = exact_twin(Net())
        x, q = to_fixed(torch.randn(5, 2, 6, 4) * 50), torch.tensor([0, 9, 9, 40, 63])
        together = twin(x, q)
        assert torch.equal(together, torch.cat([twin(x[i : i + 1], q[i : i + 1]) for i in range(5)]))

    def test_own_parameters_have_no_twin(self) -> None:
        class Odd(nn.Sequential):
            def __init__(self) -> None:
                super().__init__(nn.Identity())
                self.own = nn.Parameter(torch.ones(1))

        with pytest.raises(ValueError, match="Odd has no integer twin"):
            exact_twin(Odd())

    def test_registered_twin(self) -> None:
        class Negate(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return -x

        with pytest.raises(ValueError, match="Negate has no integer twin"):
            exact_twin(Negate())
        register_twin(Negate, lambda source: source)
        try:
            assert exact_twin(nn.Sequential(Negate()))(torch.ones(1)).item() == -1
        finally:
            del _TWINS[Negate]

import math

import pytest
import torch
import torch.nn.functional as F

from triode.errors import UnsupportedError
from triode.models.layers.audio.convnext import ConvNeXtBackbone, ConvNeXtBlock


def randomised(module, spread=0.4):
    torch.manual_seed(0)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn_like(p) * spread)
    return module


@pytest.mark.parametrize("frames", [5, 40])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("norm", ["layer", "none"])
def test_block_is_what_its_text_says(norm, causal, frames):
    block = randomised(ConvNeXtBlock(6, 10, kernel=5, causal=causal, norm=norm))
    x = torch.randn(2, 6, frames)
    padded = F.pad(x, (4, 0) if causal else (2, 2))
    y = sum(block.dwconv.weight[:, 0, k, None] * padded[:, :, k : k + frames] for k in range(5))
    y = y + block.dwconv.bias[:, None]
    if norm == "layer":
        y = (y - y.mean(1, keepdim=True)) / torch.sqrt(y.var(1, keepdim=True, correction=0) + 1e-6)
        y = y * block.norm.weight[:, None] + block.norm.bias[:, None]
    y = torch.einsum("hd,bdf->bhf", block.pwconv1.weight, y) + block.pwconv1.bias[:, None]
    y = y * 0.5 * (1 + torch.erf(y / math.sqrt(2)))
    y = torch.einsum("dh,bhf->bdf", block.pwconv2.weight, y) + block.pwconv2.bias[:, None]
    assert torch.allclose(block(x), x + block.gamma[:, None] * y, atol=1e-4)


def test_names_are_those_of_vocos():
    names = set(ConvNeXtBackbone(20, 8, 1).state_dict())
    block = ["dwconv.weight", "dwconv.bias", "norm.weight", "norm.bias", "gamma"]
    block += [f"pwconv{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")]
    around = ["embed.weight", "embed.bias", "norm.weight", "norm.bias"]
    around += ["final_layer_norm.weight", "final_layer_norm.bias"]
    assert names == {*around, *(f"convnext.0.{name}" for name in block)}
    conditioned = ConvNeXtBackbone(20, 8, 1, conditions=4).state_dict()
    assert conditioned["norm.scale.weight"].shape == conditioned["convnext.0.norm.shift.weight"].shape == (4, 8)


@pytest.mark.parametrize("frames", [12, 40])
@pytest.mark.parametrize("causal", [False, True])
def test_reach(causal, frames):
    net = randomised(ConvNeXtBackbone(3, 4, 2, kernel=3, embed_kernel=5, causal=causal), 0.6).double()
    assert net.reach == ((8, 0) if causal else (4, 4))
    x = torch.randn(1, 3, frames).double()
    other = x.clone()
    other[:, :, 6] += 1
    changed = (net(x) - net(other)).abs().amax((0, 1)) > 0
    before, after = net.reach
    assert changed.nonzero()[:, 0].tolist() == list(range(6 - after, min(6 + before + 1, frames)))


@pytest.mark.parametrize("sizes", [[1], [3], [16], [1, 0, 30, 4], [100]])
@pytest.mark.parametrize("norm", ["layer", "none"])
@pytest.mark.parametrize("kernel", [1, 4, 7])
def test_streams(assert_streams, sizes, norm, kernel):
    net = ConvNeXtBackbone(5, 8, 3, kernel=kernel, embed_kernel=kernel, causal=True, norm=norm)
    randomised(net, 0.3).double()
    assert_streams(net, torch.randn(2, 5, 50).double(), sizes, 1e-10)
    assert_streams(net.convnext[0], torch.randn(2, 8, 50).double(), sizes, 1e-10)


def test_conditions_choose_scale_and_shift():
    net = randomised(ConvNeXtBackbone(5, 8, 2, conditions=3, causal=True))
    plain = ConvNeXtBackbone(5, 8, 2, causal=True)
    x = torch.randn(2, 5, 20)
    y = net(x, torch.tensor([2, 0]))
    for i, condition in enumerate((2, 0)):
        state = {k: v for k, v in net.state_dict().items() if "scale" not in k and "shift" not in k}
        for where in ("", "convnext.0.", "convnext.1."):
            state[f"{where}norm.weight"] = net.state_dict()[f"{where}norm.scale.weight"][condition]
            state[f"{where}norm.bias"] = net.state_dict()[f"{where}norm.shift.weight"][condition]
        plain.load_state_dict(state)
        assert torch.allclose(y[i : i + 1], plain(x[i : i + 1]), atol=1e-4)
    state = net.stream_state(2, torch.tensor([2, 0]))
    first, state = net.step(x[..., :7], state)
    second, _ = net.step(x[..., 7:], state)
    assert torch.allclose(torch.cat((first, second), -1), y, atol=1e-4)
    with pytest.raises(ValueError, match="Argument `condition` must be given"):
        net(x)


def test_starts_near_the_identity():
    """Small weights and a layer scale of one over the number of blocks keep a deep network trainable."""
    torch.manual_seed(0)
    block = ConvNeXtBackbone(16, 16, 8).convnext[0]
    assert torch.equal(block.gamma, torch.full((16,), 1 / 8))
    x = torch.randn(1, 16, 30)
    assert float((block(x) - x).detach().std()) < 0.05


@pytest.mark.parametrize("frames", [5, 40])
def test_trains_under_autocast(frames):
    net = ConvNeXtBackbone(5, 8, 2, hidden=12)
    with torch.autocast("cpu", torch.bfloat16):
        y = net(torch.randn(2, 5, frames))
    y.float().square().sum().backward()
    assert y.shape == (2, 8, frames)
    assert all(float(p.grad.abs().sum()) > 0 for name, p in net.named_parameters() if name != "final_layer_norm.bias")


def test_without_scale():
    assert ConvNeXtBlock(4, scale=None).gamma is None
    assert ConvNeXtBlock(4, scale=None)(torch.randn(1, 4, 20)).shape == (1, 4, 20)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ConvNeXtBlock(4, kernel=6), "Argument `kernel` must be odd"),
        (lambda: ConvNeXtBackbone(4, 4, 1, embed_kernel=2), "Argument `embed_kernel` must be odd"),
        (lambda: ConvNeXtBlock(4, norm="none", conditions=2), "Argument `conditions` must be 0"),
    ],
)
def test_bad_arguments(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_what_looks_ahead_is_refused():
    for module in (ConvNeXtBackbone(4, 4, 1), ConvNeXtBlock(4)):
        with pytest.raises(UnsupportedError, match="is not causal"):
            module.stream_state()

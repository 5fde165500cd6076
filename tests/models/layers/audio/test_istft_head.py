import math

import pytest
import torch

from triode.models.layers.audio.istft_head import IstftHead, MdctHead
from triode.models.layers.audio.mdct import MdctAnalysis
from triode.models.layers.audio.spectra import reduce_power
from triode.models.layers.audio.stft import StftAnalysis


def copying(head):
    """Let the head's features be the outputs of its pointwise layer."""
    with torch.no_grad():
        head.out.weight.copy_(torch.eye(len(head.out.weight)))
        head.out.bias.zero_()
    return head


@pytest.mark.parametrize("channels", [1, 2])
def test_log_magnitudes_and_phases_give_the_signal(channels):
    x = torch.randn(3, channels, 83)
    spectra = StftAnalysis(16, 8)(x)
    polar = torch.view_as_complex(spectra.movedim(2, -1).contiguous())
    features = torch.stack((polar.abs().log(), polar.angle() + 2 * math.pi), 2).flatten(1, 3)
    head = copying(IstftHead(features.shape[1], 16, 8, channels=channels))
    assert torch.allclose(head.spectra(features), spectra, atol=1e-4)
    assert torch.allclose(head(features, 83), x, atol=1e-4)
    assert head(features).shape == (3, channels, 88)


def test_magnitudes_are_bounded():
    head = copying(IstftHead(18, 16, 8, most=100.0))
    x = torch.full((1, 18, 4), 1000.0)
    assert torch.allclose(head.spectra(x).square().sum(2).sqrt(), torch.tensor(100.0))


@pytest.mark.parametrize("curve", ["linear", "symexp", "power"])
@pytest.mark.parametrize("channels", [1, 2])
def test_coefficients_give_the_signal(curve, channels):
    x = torch.randn(3, channels, 83)
    coefficients = MdctAnalysis(8)(x)
    values = {
        "linear": coefficients,
        "symexp": coefficients.sign() * torch.log1p(coefficients.abs()),
        "power": reduce_power(coefficients, 0.5),
    }[curve]
    features = values.flatten(1, 2)
    head = copying(MdctHead(features.shape[1], 8, channels=channels, curve=curve, power=0.5))
    assert torch.allclose(head.coefficients(features), coefficients, atol=1e-4)
    assert torch.allclose(head(features, 83), x, atol=1e-4)


def test_symexp_is_bounded():
    head = copying(MdctHead(8, 8, curve="symexp", most=50.0))
    x = torch.tensor([1000.0, -1000.0]).repeat(4).view(1, 8, 1)
    assert torch.allclose(head.coefficients(x).flatten(), torch.tensor([50.0, -50.0]).repeat(4))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sizes", [[1], [3], [1, 0, 7], [100]])
def test_streams(assert_streams, causal, sizes):
    torch.manual_seed(0)
    x = torch.randn(2, 5, 20)
    assert_streams(IstftHead(5, 16, 4, channels=2, causal=causal), x, sizes)
    assert_streams(MdctHead(5, 8, channels=2, causal=causal), x, sizes)


def test_heads_keep_float32_and_learn_under_autocast():
    for head in (IstftHead(5, 16, 4), MdctHead(5, 8), MdctHead(5, 8, curve="symexp")):
        with torch.autocast("cpu", torch.bfloat16):
            y = head(torch.randn(2, 5, 6))
        assert y.dtype == torch.float32
        y.square().sum().backward()
        assert float(head.out.weight.grad.abs().sum()) > 0
        assert set(head.state_dict()) == {"out.weight", "out.bias"}


def test_bad_curve():
    with pytest.raises(ValueError, match="Argument `curve` must be"):
        MdctHead(4, 8, curve="log")

import pytest
import torch

from triode.models.layers.audio.local_attention import LocalAttention


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return LocalAttention(12, window=5, head=4).double()


def rotated(vector, place):
    """Turn pairs (i, i + d/2) of a vector by place * 10000**(-2 i / d), as complex numbers."""
    half = len(vector) // 2
    pairs = torch.complex(vector[:half], vector[half:])
    angles = place * 10000.0 ** (-2 * torch.arange(half, dtype=torch.float64) / len(vector))
    turned = pairs * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((turned.real, turned.imag))


def test_equals_the_definition(layer):
    x = torch.randn(2, 12, 15, dtype=torch.float64)
    qkv = layer.to_qkv(torch.nn.functional.layer_norm(x.transpose(1, 2), (12,)))
    expected = torch.zeros(2, 15, 12, dtype=torch.float64)
    for b in range(2):
        for start in range(0, 15, 5):
            for head in range(3):
                q, k, v = (qkv[b, start : start + 5, 12 * i + 4 * head : 12 * i + 4 * head + 4] for i in range(3))
                q = torch.stack([rotated(row, i) for i, row in enumerate(q)])
                k = torch.stack([rotated(row, i) for i, row in enumerate(k)])
                weights = torch.softmax(q @ k.t() / 2, 1)
                expected[b, start : start + 5, 4 * head : 4 * head + 4] = weights @ v
    expected = x + layer.to_out(expected).transpose(1, 2)
    assert torch.allclose(layer(x), expected, atol=1e-6)  # Turns are kept in single precision.


def test_windows_do_not_mix(layer):
    x = torch.randn(1, 12, 15, dtype=torch.float64)
    other = x.clone()
    other[..., 7] += torch.randn(12, dtype=torch.float64)
    changed = (layer(x) - layer(other)).abs().amax((0, 1)) > 1e-9
    assert changed.tolist() == [False] * 5 + [True] * 5 + [False] * 5
    assert layer.sees(6, 8) == (5, 9)
    assert layer.sees(4, 5) == (0, 9)
    assert layer.sees(-1, 0) == (-5, 4)


def test_equals_the_original():
    attention = pytest.importorskip("snac.attention")
    torch.manual_seed(0)
    theirs, ours = attention.LocalMHA(128, 8), LocalAttention(128, 8)
    missing, extra = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert (missing, extra) == ([], ["rel_pos.inv_freq"])
    x = torch.randn(2, 128, 24)
    assert torch.allclose(ours(x), theirs(x), atol=1e-5)


def test_bad_arguments(layer):
    for head in (0, 3, 8):
        with pytest.raises(ValueError, match="`head` must be even and divide 12 channels"):
            LocalAttention(12, head=head)
    with pytest.raises(ValueError, match="`window` must be at least 1"):
        LocalAttention(12, window=0, head=4)
    with pytest.raises(ValueError, match="a multiple of 5 long, but got 14"):
        layer(torch.randn(1, 12, 14, dtype=torch.float64))

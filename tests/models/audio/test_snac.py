"""`snac`: published sizes, seams with attention in windows, noise while training alone."""

from __future__ import annotations

import pytest
import torch
from models.tiny_audio import tone
from models.tiny_vq import tiny_vq

from triode.models.audio.snac import SNAC_32K, SNAC_44K, NoiseBlock, Snac, SnacConfig
from triode.models.layers.audio.local_attention import LocalAttention


@pytest.mark.parametrize(
    ("config", "millions", "kbps"),
    [(SnacConfig(), 19.843, 0.984), (SNAC_32K, 54.546, 1.875), (SNAC_44K, 54.546, 2.584)],
)
def test_sizes_are_as_published(config, millions, kbps):
    with torch.device("meta"):
        model = Snac(config)
    own = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in model.prior.parameters())
    assert own / 1e6 == pytest.approx(millions, abs=0.001)
    bits = model.quantizer.fixed_length_bits(8) / 8
    assert bits * config.sample_rate / model.hop / 1000 == pytest.approx(kbps, abs=0.001)


def test_frames_come_in_windows_and_strides():
    assert tiny_vq("snac").multiple == 8
    assert tiny_vq("snac", window=0).multiple == 4
    assert tiny_vq("snac", window=6).multiple == 12
    assert not any(isinstance(m, LocalAttention) for m in tiny_vq("snac", window=0).modules())


@pytest.mark.parametrize("window", [0, 8])
@pytest.mark.parametrize("depthwise", [True, False])
def test_seams(window, depthwise):
    """A chunk with its halo, rounded up to whole windows, gives inside what the whole gives."""
    model = tiny_vq("snac", window=window, depthwise=depthwise).double()
    hop, chunk = model.hop, 2 * model.multiple

    def rounded(halo):
        return halo + -halo % model.multiple

    start = rounded(max(model.analysis_halo, model.synthesis_halo))
    x = torch.from_numpy(tone((2 * start + chunk) * hop)).double()[None, None]
    with torch.no_grad():
        halo = rounded(model.analysis_halo)
        whole = model.features(x)[..., start : start + chunk]
        part = model.features(x[..., (start - halo) * hop : (start + chunk + halo) * hop])
        assert torch.allclose(part[..., halo : halo + chunk], whole, atol=1e-12)
        halo, y = rounded(model.synthesis_halo), torch.randn(1, model.quantizer.dim, 2 * start + chunk).double()
        whole = model.sound(y)[..., start * hop : (start + chunk) * hop]
        part = model.sound(y[..., start - halo : start + chunk + halo])
        assert torch.allclose(part[..., halo * hop : (halo + chunk) * hop], whole, atol=1e-12)


def test_noise_is_for_training():
    model = tiny_vq("snac")
    y = torch.randn(1, model.quantizer.dim, 8)
    with torch.no_grad():
        assert torch.equal(model.sound(y), model.sound(y))
        model.train()
        assert not torch.allclose(model.sound(y), model.sound(y), atol=1e-4)
    quiet = tiny_vq("snac", noise=False).train()
    with torch.no_grad():
        assert torch.equal(quiet.sound(y), quiet.sound(y))


def test_noise_has_one_value_a_time():
    torch.manual_seed(0)
    block, x = NoiseBlock(6), torch.randn(2, 6, 400)
    with torch.no_grad():
        ratio = (block(x) - x) / block.linear(x)
    assert torch.allclose(ratio, ratio[:, :1].expand_as(ratio), atol=1e-3)
    assert float(ratio[:, 0].std()) == pytest.approx(1, abs=0.1)


def test_slow_stages_come_first():
    model = tiny_vq("snac")
    codes = model.codes(torch.from_numpy(tone(16 * model.hop))[None, None])
    assert [code.shape[1] for code in codes] == [4, 8, 16]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": -1}, "`window` must be at least 0"),
        ({"decoder": 36}, "a multiple of 8"),
        ({"strides": ()}, "positive"),
    ],
)
def test_bad_widths(changes, message):
    with pytest.raises(ValueError, match=message):
        SnacConfig(**{"encoder": 4, "strides": (2, 4, 5), "decoder": 32, **changes})


def test_heads_must_divide_the_channels():
    with pytest.raises(ValueError, match="divide 32 channels"):
        tiny_vq("snac", head=12)

"""`hifi-codec`: published sizes and rates, seams, groups of channels that are coded apart."""

from __future__ import annotations

import pytest
import torch
from models.audio.seams import seam_errors
from models.tiny_audio import tone
from models.tiny_vq import CONFIGS, tiny_vq
from torch import nn

from triode.models.audio.hifi_codec import HIFI_CODEC_16K, HIFI_CODEC_24K_240, HifiCodec, HifiCodecConfig


@pytest.mark.parametrize(
    ("config", "frames", "kbps"), [(HifiCodecConfig(), 75, 3), (HIFI_CODEC_24K_240, 100, 4), (HIFI_CODEC_16K, 50, 2)]
)
def test_rates_are_as_published(config, frames, kbps):
    model = HifiCodec(config)
    assert config.sample_rate / model.hop == frames
    assert model.quantizer.fixed_length_bits(frames) == 1000 * kbps
    assert model.rates == (2, 4)
    own = sum(p.numel() for n, p in model.named_parameters() if not n.startswith("prior."))
    assert own / 1e6 == pytest.approx(63.6, abs=0.1)


def test_decoder_has_exact_seams():
    model = tiny_vq("hifi-codec")
    assert seam_errors(model)[1] < 1e-12
    assert seam_errors(model, -1)[1] > 1e-9


def test_encoder_has_exact_seams_but_for_its_norms():
    model = tiny_vq("hifi-codec")
    assert seam_errors(model)[0] > 1e-3
    for module in model.modules():
        if hasattr(module, "norms"):
            module.norms = nn.ModuleList(nn.Identity() for _ in module.norms)
    assert seam_errors(model)[0] < 1e-12
    assert seam_errors(model, -1)[0] > 1e-9


def test_the_lower_rate_has_the_first_code_of_each_group():
    model = tiny_vq("hifi-codec")
    x = torch.from_numpy(tone(12 * model.hop))[None, None]
    codes = model.codes(x)
    first = model.quantizer.decode(codes[:2])
    entries = [model.quantizer.quantizers[g].quantizers[0].codebook.entries for g in range(2)]
    expected = torch.cat([entries[g][codes[g][0]].t() for g in range(2)])
    assert torch.equal(first[0], expected)
    assert [model.rate_point(n) for n in (2, 4)] == [0, 32]
    with pytest.raises(ValueError, match=r"one of \(2, 4\), but got 3"):
        model.rate_point(3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strides": (5, 4)}, "`kernels` must hold one"),
        ({"kernels": (10, 8, 4)}, "as odd or even"),
        ({"groups": 5}, "divisor"),
        ({"dilations": ()}, "must be positive"),
        ({"filters": 0}, "must be positive"),
    ],
)
def test_bad_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_vq("hifi-codec", **changes)


def test_lists_become_tuples():
    config = HifiCodecConfig(strides=[5, 4, 2], kernels=[11, 8, 4])
    assert config.strides == CONFIGS["hifi-codec"].strides
    assert isinstance(config.kernels, tuple)

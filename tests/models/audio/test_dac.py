"""`dac`: published sizes, seams, lengths for odd strides."""

from __future__ import annotations

import pytest
import torch
from models.tiny_audio import tone
from models.tiny_vq import tiny_vq

from triode.models.audio.dac import DAC_16K, DAC_24K, Dac, DacConfig


@pytest.mark.parametrize(
    ("config", "millions", "hop", "kbps"),
    [(DacConfig(), 76.65, 512, 7.75), (DAC_24K, 74.7, 320, 24), (DAC_16K, 74.18, 320, 6)],
)
def test_sizes_are_as_published(config, millions, hop, kbps):
    with torch.device("meta"):
        model = Dac(config)
    own = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in model.prior.parameters())
    assert own / 1e6 == pytest.approx(millions, abs=0.01)
    assert model.hop == hop
    assert model.quantizer.fixed_length_bits(1) * config.sample_rate / hop / 1000 == pytest.approx(kbps, abs=0.01)


@pytest.mark.parametrize("strides", [(2, 4), (3, 5), (5,)])
def test_gives_as_many_samples_as_it_takes(strides):
    model = tiny_vq("dac", strides=strides, decoder_strides=())
    x = torch.from_numpy(tone(7 * model.hop))[None, None]
    features = model.features(x)
    assert features.shape == (1, 4 << len(strides), 7)
    assert model.sound(features).shape == x.shape


class TestSeams:
    """A chunk with its halo gives inside what the whole gives, and one frame less would not do."""

    FRAMES, START, CHUNK = 60, 24, 8

    def test_features(self):
        model = tiny_vq("dac").double()
        x = torch.from_numpy(tone(self.FRAMES * model.hop)).double()[None, None]
        with torch.no_grad():
            whole = model.features(x)[..., self.START : self.START + self.CHUNK]
            errors = []
            for halo in (model.analysis_halo, model.analysis_halo - 1):
                window = x[..., (self.START - halo) * model.hop : (self.START + self.CHUNK + halo) * model.hop]
                errors.append(float((model.features(window)[..., halo : halo + self.CHUNK] - whole).abs().max()))
        assert errors[0] < 1e-12 < 1e-9 < errors[1]

    def test_samples(self):
        model = tiny_vq("dac").double()
        y = torch.randn(1, model.quantizer.dim, self.FRAMES, dtype=torch.float64)
        hop = model.hop
        with torch.no_grad():
            whole = model.sound(y)[..., self.START * hop : (self.START + self.CHUNK) * hop]
            errors = []
            for halo in (model.synthesis_halo, model.synthesis_halo - 1):
                part = model.sound(y[..., self.START - halo : self.START + self.CHUNK + halo])
                errors.append(float((part[..., halo * hop : (halo + self.CHUNK) * hop] - whole).abs().max()))
        assert errors[0] < 1e-12 < 1e-9 < errors[1]

    def test_ends_are_those_of_the_whole(self):
        model = tiny_vq("dac").double()
        x = torch.from_numpy(tone(self.FRAMES * model.hop)).double()[None, None]
        size = 10 + model.analysis_halo
        with torch.no_grad():
            whole = model.features(x)
            first, last = model.features(x[..., : size * model.hop]), model.features(x[..., -size * model.hop :])
        assert torch.allclose(whole[..., :10], first[..., :10], atol=1e-12)
        assert torch.allclose(whole[..., -10:], last[..., -10:], atol=1e-12)


def test_starts_small():
    """Weights of a standard deviation of 0.02, through the weight norm, and biases of zero."""
    torch.manual_seed(0)
    model = Dac(DacConfig(encoder=16, decoder=64, strides=(2, 4)))
    first, last = model.encoder.block[0], model.encoder.block[-1]
    assert float(last.weight.detach().std()) == pytest.approx(0.02, rel=0.1)
    assert not bool(first.bias.any())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoder": 36}, "a multiple of 8 for 3 strides, but got 36"),
        ({"decoder_strides": (2, 4, 6)}, "equal products"),
        ({"strides": ()}, "must be positive"),
        ({"strides": (2, 0, 4)}, "must be positive"),
        ({"encoder": 0}, "must be positive"),
    ],
)
def test_bad_widths(changes, message):
    with pytest.raises(ValueError, match=message):
        DacConfig(**{"encoder": 4, "strides": (2, 4, 5), "decoder": 32, **changes})


def test_lists_serve_as_tuples():
    """Configurations come back from files with lists."""
    assert DacConfig(strides=[2, 4, 8, 8], decoder_strides=[8, 8, 4, 2]) == DacConfig()

"""`encodec`: published sizes, seams, what the warm-up of layers without a bound is worth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from models.tiny_audio import tone
from models.tiny_vq import RATE, tiny_vq

from triode.codecs.audio import AudioCodec
from triode.media import Sound
from triode.models.audio.encodec import ENCODEC_48K, Encodec, EncodecConfig
from triode.models.weights import save_weights

FRAMES, START, CHUNK = 160, 80, 8


@pytest.mark.parametrize(("config", "millions", "kbps"), [(EncodecConfig(), 14.85, 24), (ENCODEC_48K, 14.856, 24)])
def test_sizes_are_as_published(config, millions, kbps):
    with torch.device("meta"):
        model = Encodec(config)
    own = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in model.prior.parameters())
    assert own / 1e6 == pytest.approx(millions, abs=0.01)
    assert model.quantizer.fixed_length_bits(1) * config.sample_rate / model.hop / 1000 == kbps


def seam_errors(model: Encodec, halo_change: int = 0) -> tuple[float, float]:
    """Return how far features and samples of a chunk with its halo are from those of the whole, over their spread."""
    model.double()
    hop, errors = model.hop, []
    x = torch.from_numpy(tone(FRAMES * hop)).double()[None, None]
    with torch.no_grad():
        whole, halo = model.features(x), model.analysis_halo + halo_change
        part = model.features(x[..., (START - halo) * hop : (START + CHUNK + halo) * hop])
        wrong = (part[..., halo : halo + CHUNK] - whole[..., START : START + CHUNK]).abs().max()
        errors.append(float(wrong / whole.std()))
        y, halo = torch.randn(1, model.quantizer.dim, FRAMES).double(), model.synthesis_halo + halo_change
        whole = model.sound(y)
        part = model.sound(y[..., START - halo : START + CHUNK + halo])[..., halo * hop : (halo + CHUNK) * hop]
        errors.append(float((part - whole[..., START * hop : (START + CHUNK) * hop]).abs().max() / whole.std()))
    return errors[0], errors[1]


@pytest.mark.parametrize("causal", [True, False])
def test_convolutions_have_exact_seams(causal):
    model = tiny_vq("encodec", lstm=0, causal=causal, warmup=3)
    assert max(seam_errors(model)) < 1e-12
    model = tiny_vq("encodec", lstm=0, causal=causal)
    assert min(seam_errors(model, -1)) > 1e-9


def test_an_lstm_forgets_with_the_warmup():
    errors = [max(seam_errors(tiny_vq("encodec", warmup=warmup))) for warmup in (0, 8, 60)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_parts_are_those_of_the_whole_where_nothing_is_bounded(tmp_path):
    model, path = tiny_vq("encodec", norm="group", causal=False, channels=2), tmp_path / "tiny-vq.v1.safetensors"
    save_weights(model, path, name="tiny-vq.v1", architecture="encodec")
    codec, samples = AudioCodec(str(path), chunk_seconds=0.1), tone(RATE)[None]
    data = codec.encode(Sound(samples, RATE), quality=100).data
    whole = codec.decode(data).samples
    for start, stop in ((0, 700), (2345, 4567), (7999, 8000)):
        assert np.array_equal(codec.decode(data, start=start, stop=stop).samples, whole[:, start:stop])


def test_warmup_widens_the_halos_where_it_is_needed():
    plain, warm = tiny_vq("encodec", warmup=0), tiny_vq("encodec", warmup=7)
    assert warm.analysis_halo == plain.analysis_halo + 7
    assert warm.synthesis_halo == plain.synthesis_halo + 7
    bounded = tiny_vq("encodec", warmup=7, lstm=0)
    assert (bounded.analysis_halo, bounded.synthesis_halo) == (plain.analysis_halo, plain.synthesis_halo)


def test_causal_features_do_not_look_ahead():
    model = tiny_vq("encodec")
    x = torch.from_numpy(tone(20 * model.hop))[None, None]
    other = x.clone()
    other[..., 12 * model.hop :] += 0.1
    with torch.no_grad():
        assert torch.equal(model.features(x)[..., :12], model.features(other)[..., :12])
        assert not torch.allclose(model.features(x)[..., 12], model.features(other)[..., 12], atol=1e-4)


def test_two_channels_hear_the_same_and_are_averaged():
    model = tiny_vq("encodec", channels=2, norm="group", causal=False, input_gain=10.0)
    x = torch.from_numpy(tone(12 * model.hop))[None, None]
    with torch.no_grad():
        features = model.features(x)
        assert torch.equal(features, model.encoder(10 * x.expand(-1, 2, -1)))
        both = model.decoder(features)
        assert both.shape == (1, 2, x.shape[-1])
        assert torch.allclose(model.sound(features)[:, 0], (both[:, 0] + both[:, 1]) / 20, atol=1e-6)


def test_codebooks_start_from_data_and_follow_it():
    model = tiny_vq("encodec").train()
    before = [stage.codebook.entries.clone() for stage in model.quantizer.quantizers]
    model.quantised(torch.from_numpy(tone(100 * model.hop))[None, None])
    moved = [stage.codebook.entries.clone() for stage in model.quantizer.quantizers]
    assert all(not torch.equal(a, b) for a, b in zip(before, moved, strict=True))
    model.eval().quantised(torch.from_numpy(tone(RATE // 40 * 40, 1))[None, None])
    assert all(torch.equal(a, s.codebook.entries) for a, s in zip(moved, model.quantizer.quantizers, strict=True))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 3}, "`channels` must be 1 or 2"),
        ({"norm": "batch"}, "'weight', 'group' or 'none'"),
        ({"warmup": -1}, "`warmup` must be at least 0"),
        ({"strides": ()}, "must be positive"),
    ],
)
def test_bad_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_vq("encodec", **changes)


def test_group_norm_is_never_causal():
    with pytest.raises(ValueError, match="causal"):
        tiny_vq("encodec", norm="group")

"""`language-codec`: published sizes and rates, seams, masked channels."""

from __future__ import annotations

import pytest
import torch
from models.audio.seams import seam_errors
from models.tiny_audio import tone
from models.tiny_vq import tiny_vq

from triode.models.audio.language_codec import LanguageCodec


def test_sizes_and_rates_are_as_published():
    model = LanguageCodec()
    assert sum(p.numel() for p in model.encoder.parameters()) == 7_425_792  # EnCodec's encoder.
    # Vocos with 12 blocks of 384 channels and 1152 inside, without norms of four conditions.
    block = 384 * 7 + 384 + 2 * 384 + 2 * 384 * 1152 + 1152 + 384 + 384
    around = 128 * 384 * 7 + 384 + 2 * 2 * 384 + 384 * 1282 + 1282
    assert sum(p.numel() for p in model.decoder.parameters()) == 12 * block + around
    assert model.sample_rate / model.hop == 75
    assert model.quantizer.fixed_length_bits(75) == 6000
    assert model.decoder.head.synthesis.framing.window == 1280


def test_decoder_has_exact_seams():
    model = tiny_vq("language-codec")
    assert seam_errors(model)[1] < 1e-12
    assert seam_errors(model, -1)[1] > 1e-9


def test_encoder_has_exact_seams_but_for_its_lstm():
    errors = [seam_errors(tiny_vq("language-codec", warmup=warmup))[0] for warmup in (0, 8, 60)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert seam_errors(tiny_vq("language-codec", lstm=0))[0] < 1e-12
    assert seam_errors(tiny_vq("language-codec", lstm=0), -1)[0] > 1e-9


def test_no_rate_leaves_out_a_part_of_the_channels():
    model = tiny_vq("language-codec")
    assert model.rates == (3, 4, 5)
    assert model.stage_counts(torch.tensor([0, 21, 22, 43, 63])).tolist() == [3, 3, 4, 5, 5]
    with pytest.raises(ValueError, match=r"in 3\.\.5.*but got 2"):
        model.rate_point(2)


def test_first_codes_see_a_third_of_the_channels_each():
    model = tiny_vq("language-codec")
    y = model.features(torch.from_numpy(tone(12 * model.hop))[None, None]).detach()
    codes = model.quantizer.encode(y)
    for part in range(3):
        masked = torch.zeros_like(y)
        masked[:, 3 * part : 3 * part + 3] = y[:, 3 * part : 3 * part + 3]
        entries = model.quantizer.quantizers[part].codebook.entries
        distances = torch.cdist(masked[0].t(), entries)
        assert torch.equal(codes[part][0], distances.argmin(1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"warmup": -1}, "`warmup` not negative"),
        ({"decoder_blocks": 0}, "must be positive"),
        ({"spectrum_hops": 1}, "at least 2"),
        ({"masked": 6}, r"`masked` must be in 1\.\.5"),
        ({"strides": ()}, "must be positive"),
    ],
)
def test_bad_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_vq("language-codec", **changes)

"""`esc`: published sizes and rates, seams, streams across scales, training without quantisers."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from models.audio.seams import seam_errors
from models.tiny_audio import tone
from models.tiny_vq import tiny_vq

from triode.entropy.vq.context_prior import ContextPrior
from triode.entropy.vq.prior import code_vectors
from triode.models.audio.esc import ESC_LARGE, Esc, EscConfig, pack, unpack


def sound(model: Esc, frames: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(tone(frames * model.hop, seed))[None, None]


@pytest.mark.parametrize(("config", "parameters"), [(EscConfig(), 8_736_581), (ESC_LARGE, 15_580_931)])
def test_sizes_and_rates_are_as_published(config, parameters):
    model = Esc(config)
    # Published: 15.58 million for the large network; 8.39 for the base one, whose code has 8.74.
    assert sum(p.numel() for n, p in model.named_parameters() if not n.startswith("prior.")) == parameters
    assert model.sample_rate / model.hop == 50
    assert model.rates == (3, 6, 9, 12, 15, 18)
    assert [model.quantizer.fixed_length_bits(50, stages) for stages in model.rates] == list(range(1500, 9001, 1500))
    widths = [(q.dim, q.quantizer.quantizers[0].codebook.dim) for q in model.quantizer.scales.quantizers]
    dims = [768, 768, 768, 1152, 1536, 2304]
    assert widths == list(zip(dims, config.codebook_dims, strict=True))


@pytest.mark.parametrize("changes", [{}, {"depth": 4}, {"depth": 3, "window": 2}, {"depth": 1, "merge": 1}])
def test_seams_are_exact(changes):
    model = tiny_vq("esc", **changes)
    assert max(seam_errors(model)) < 1e-13
    assert min(seam_errors(model, -model.multiple)) > 1e-12


def test_states_are_of_one_chunk():
    """The decoder climbs through each chunk on its own, so the encoder knows its states to the last one."""
    model = tiny_vq("esc")
    y = model.features(sound(model, 24)).detach()
    codes = model.quantizer.encode(y[..., :12])
    alone = model.quantizer.decode(codes)
    assert torch.equal(alone, model.quantizer(y[..., :12]).values)
    assert not torch.allclose(alone, model.quantizer.decode(model.quantizer.encode(y))[..., :12], atol=1e-4)


def test_each_stream_codes_what_the_state_lacks():
    model = tiny_vq("esc")
    quantizer, planes = model.quantizer, model.config.planes
    y = model.features(sound(model, 12)).detach()
    codes = quantizer.encode(y)
    features = unpack(y, [h * w for h, w in planes], 2)
    state, states = torch.zeros_like(features[0]), []
    for stream, product in enumerate(quantizer.scales.quantizers):
        place = max(stream - 1, 0)
        mine = codes[2 * stream : 2 * stream + 2]
        found = product.encode(features[place] - state)
        assert all(torch.equal(a, b) for a, b in zip(found, mine, strict=True))
        state = state + product.decode(mine, 24)
        if stream:
            states.append(state)
        if 0 < stream < 2:
            height, width = planes[stream - 1]
            plane = state.reshape(1, width, height, 24).permute(0, 2, 3, 1)
            state = quantizer.steps[stream - 1](plane).permute(0, 3, 1, 2).reshape(1, -1, 24)
    assert torch.allclose(quantizer.decode(codes), pack(states, 2), atol=1e-6)
    part = quantizer.decode(codes[:4])
    assert torch.allclose(part[:, : 24 * 2], pack(states[:1], 2), atol=1e-6)
    assert not torch.allclose(part[:, 24 * 2 :], pack(states[1:], 2), atol=1e-3)


def test_decoder_takes_the_finest_scale_alone():
    model = tiny_vq("esc")
    y = torch.randn(1, model.quantizer.dim, 8)
    other = y.clone()
    other[:, : 2 * 24] += 1
    assert torch.equal(model.sound(y), model.sound(other))


def test_without_quantisers_all_but_codebooks_learn():
    model = tiny_vq("esc").train()
    x = torch.cat([sound(model, 12, i) for i in range(2)])
    (model.unquantised(x) - x).square().mean().backward()
    idle = {n for n, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())}
    assert idle == {n for n, _ in model.named_parameters() if n.startswith("prior.") or n.endswith(".entries")}


def test_prior_starts_from_the_entries():
    model = tiny_vq("esc", prior="context", prior_width=4, prior_hidden=6)
    vectors = code_vectors(model.quantizer)
    assert [tuple(v.shape) for v in vectors] == [(16, 2 * (4 + 3 + 2))] * 6
    assert torch.equal(torch.cat(vectors, 1).abs().sum(1) > 0, torch.ones(16, dtype=torch.bool))
    # Streams have dimensions of their own.
    assert not any(bool((a.abs().sum(0) * b.abs().sum(0)).any()) for a, b in pairwise(vectors))
    assert isinstance(model.prior, ContextPrior)
    model.prior.init_from_vectors(vectors)


def test_pack_and_unpack():
    features = [torch.randn(2, dim, 12) for dim in (3, 5)]
    packed = pack(features, 4)
    assert packed.shape == (2, 32, 3)
    assert torch.equal(packed[:, :3, 1], features[0][:, :, 4])
    assert torch.equal(packed[:, 12 + 5 : 12 + 10, 2], features[1][:, :, 9])
    for a, b in zip(unpack(packed, (3, 5), 4), features, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_fft": 44}, "must make a multiple of 12 frequencies, but makes 23"),
        ({"heads": (2,)}, "one shorter than"),
        ({"codebook_dims": (4, 3)}, "as long as"),
        ({"window": 3}, "`window` must be even"),
        ({"heads": (4, 2)}, "must divide 6 channels"),
        ({"depth": 0}, "must be positive"),
    ],
)
def test_bad_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_vq("esc", **changes)

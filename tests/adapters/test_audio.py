"""Public weights of EnCodec, DAC and SNAC in our models: the same codes and samples; bad state dicts refused."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import types
from pathlib import Path

import pytest
import torch
from models.tiny_audio import tone
from models.tiny_vq import tiny_vq
from torch import nn

from triode.adapters.audio import from_dac, from_encodec, from_snac
from triode.errors import ModelMismatchError

READERS = {"encodec": from_encodec, "dac": from_dac, "snac": from_snac}
SPELLING = {
    # Ours to theirs, the older form of weight norms included; written down apart from the rules that lead back.
    "encodec": (
        ("parametrizations.weight.original0", "weight_g"),
        ("parametrizations.weight.original1", "weight_v"),
        (r"quantizer\.quantizers\.(\d+)\.codebook\.entries", r"quantizer.vq.layers.\1._codebook.embed"),
        (r"quantizer\.quantizers\.(\d+)\.codebook\.usage", r"quantizer.vq.layers.\1._codebook.cluster_size"),
    ),
    "dac": (
        ("parametrizations.weight.original0", "weight_g"),
        ("parametrizations.weight.original1", "weight_v"),
        ("project_in", "in_proj"),
        ("project_out", "out_proj"),
        (r"codebook\.entries", "codebook.weight"),
    ),
    "snac": (
        (r"quantizers\.(\d+)\.quantizer\.", r"quantizers.\1."),
        ("project_in", "in_proj"),
        ("project_out", "out_proj"),
        (r"codebook\.entries", "codebook.weight"),
    ),
}
CONFIGS = {
    "encodec": {"warmup": 24},
    "dac": {},
    "snac": {"window": 32, "noise": True},
}


def foreign(name, **changes):
    """Return one of our models, and its state dict as the original's package would spell it."""
    model = tiny_vq(name, **{**CONFIGS[name], **changes})
    state = {}
    for key, value in model.state_dict().items():
        if key.startswith("prior.") or key.endswith(".steps") or (name != "encodec" and key.endswith(".usage")):
            continue
        for pattern, target in SPELLING[name]:
            key = re.sub(pattern, target, key)
        projection = "_proj." in key and value.dim() == 2
        state[key] = value[..., None].clone() if projection else value.clone()
        if key.endswith("embed"):
            state[key + "_avg"], state[key.replace("embed", "inited")] = value.clone(), torch.ones(1)
        if key.endswith("to_qkv.weight"):
            state[key.replace("to_qkv.weight", "rel_pos.inv_freq")] = torch.ones(model.config.head // 2)
    return model, state


@pytest.mark.parametrize("name", sorted(READERS))
class TestStateDicts:
    def test_returns_where_it_came_from(self, name):
        model, state = foreign(name)
        found = READERS[name]({f"module.{key}": value for key, value in state.items()}, sample_rate=8000)
        assert found.config == model.config
        assert not found.training
        x = torch.from_numpy(tone(32 * model.hop))[None, None]
        with torch.no_grad():
            assert torch.equal(found.quantised(x).x_hat, model.quantised(x).x_hat)

    def test_changes_what_weights_do_not_tell(self, name):
        _, state = foreign(name)
        found = READERS[name](state, sample_rate=16000, prior="context", prior_width=4, prior_hidden=4)
        assert (found.sample_rate, type(found.prior).__name__) == (16000, "ContextPrior")

    def test_training_goes_on_from_the_codebooks(self, name):
        _, state = foreign(name)
        model = READERS[name](state, sample_rate=8000)
        before = [m.entries.detach().clone() for m in model.modules() if hasattr(m, "entries")]
        model.train().quantised(torch.from_numpy(tone(64 * model.hop))[None, None])
        after = [m.entries.detach() for m in model.modules() if hasattr(m, "entries")]
        assert all(float((a - b).abs().max()) < 0.1 for a, b in zip(after, before, strict=True))

    def test_refuses_what_does_not_fit(self, name):
        _, state = foreign(name)
        read, some = READERS[name], sorted(state)[0]
        for broken, message in (
            ({"state_dict": state}, "give its 'state_dict' entry"),
            ({**state, "unknown": torch.ones(1)}, "1 entries like 'unknown'"),
            ({**state, some: state[some][None]}, "must have the shape"),
            ({**state, some: state[some].long()}, "no tensor of floats"),
            ({**state, some: state[some] * float("nan")}, "not finite"),
            ({k: v for k, v in state.items() if k != some}, "1 tensors missing"),
            ({}, "lacks layers"),
            ({**state, "encoder.more.weight": torch.ones(1)}, "1 too many"),
        ):
            with pytest.raises(ModelMismatchError, match=message):
                read(broken, sample_rate=8000)


def test_variants_of_snac():
    for changes in (
        {"window": 0, "head": 64},
        {"noise": False},
        {"depthwise": False},
        {"vq_strides": (2, 1)},
        {"head": 8},
    ):
        model, state = foreign("snac", **changes)
        assert from_snac(state, sample_rate=8000).config == model.config


def test_encodec_without_a_norm():
    model, state = foreign("encodec", norm="none", lstm=0, residual_layers=2)
    assert from_encodec(state, sample_rate=8000).config == model.config


@torch.no_grad()
def assert_equal(theirs, ours, x, quantise):
    """Compare features, codes, vectors and samples; return the samples of both."""
    features = theirs.encoder(x)
    assert torch.allclose(ours.encoder(x), features, atol=1e-4)
    values, codes = quantise(features)
    found = ours.quantizer.encode(features)
    assert all(torch.equal(a, b) for a, b in zip(found, codes, strict=True))
    assert torch.allclose(ours.quantizer.decode(found), values, atol=1e-4)
    return theirs.decoder(values), ours.decoder(values)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize(
    ("channels", "norm", "rate"), [(1, "weight_norm", 24000), (2, "time_group_norm", 48000)], ids=["24k", "48k"]
)
def test_equals_encodec(channels, norm, rate):
    encodec = pytest.importorskip("encodec")
    torch.manual_seed(0)
    shape = {"channels": channels, "norm": norm, "causal": channels == 1, "n_filters": 4, "dimension": 16}
    encoder, decoder = (
        getattr(encodec.modules, f"SEANet{part}")(**shape, ratios=[5, 4, 2]) for part in ("Encoder", "Decoder")
    )
    quantizer = encodec.quantization.ResidualVectorQuantizer(dimension=16, n_q=4, bins=32)
    theirs = encodec.EncodecModel(encoder, decoder, quantizer, [1.0], rate, channels).eval()
    for name, buffer in theirs.named_buffers():
        if name.endswith("embed"):
            buffer.normal_(0, 0.3)
    ours = from_encodec(theirs, sample_rate=rate)
    assert (ours.config.causal, ours.config.channels, ours.config.lstm) == (channels == 1, channels, 2)
    assert (ours.config.strides, ours.config.input_gain) == ((2, 4, 5), 1.0 if channels == 1 else 10.0)

    def quantise(features):
        codes = theirs.quantizer.vq.encode(features)
        return theirs.quantizer.decode(codes), list(codes)

    expected, found = assert_equal(theirs, ours, 0.3 * torch.randn(1, channels, 40 * 50), quantise)
    assert torch.allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("variant", [{}, {"attn_window_size": None}, {"depthwise": False, "vq_strides": [2, 1]}])
def test_equals_snac(variant):
    package = pytest.importorskip("snac")
    torch.manual_seed(0)
    shape = {"encoder_dim": 16, "encoder_rates": [2, 3, 4], "decoder_dim": 128, "decoder_rates": [4, 3, 2]}
    theirs = package.SNAC(sampling_rate=16000, codebook_size=32, **shape, **variant).eval()
    ours = from_snac(theirs, sample_rate=16000)
    assert (ours.config.window, ours.config.noise) == (0 if "attn_window_size" in variant else 32, True)
    for module in theirs.modules():  # Whose noise has no seed.
        if type(module).__name__ == "NoiseBlock":
            module.register_forward_hook(lambda module, inputs, output: inputs[0])
    expected, found = assert_equal(theirs, ours, 0.3 * torch.randn(1, 1, 24 * 64), theirs.quantizer)
    assert torch.allclose(found, expected, atol=1e-4)


@pytest.fixture
def dac_class(monkeypatch):
    """Return DAC's class without what its package needs for other things: bare modules stand in for those."""
    spec = importlib.util.find_spec("dac")
    if spec is None or spec.origin is None:
        pytest.skip("could not import 'dac'")
    tools, learning = types.ModuleType("audiotools"), types.ModuleType("audiotools.ml")
    learning.BaseModel, tools.ml, tools.AudioSignal = nn.Module, learning, object
    monkeypatch.setitem(sys.modules, "audiotools", tools)
    monkeypatch.setitem(sys.modules, "audiotools.ml", learning)
    for name in [n for n in sys.modules if n == "dac" or n.startswith("dac.")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("dac", "dac.nn", "dac.model"):
        bare = types.ModuleType(name)
        bare.__path__ = [str(Path(spec.origin).parent.joinpath(*name.split(".")[1:]))]
        monkeypatch.setitem(sys.modules, name, bare)
    yield importlib.import_module("dac.model.dac").DAC
    for name in [n for n in sys.modules if n.startswith("dac.")]:
        sys.modules.pop(name)


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("strides", [[2, 4, 8], [2, 4, 5]])
def test_equals_dac(dac_class, strides):
    torch.manual_seed(0)
    theirs = dac_class(
        encoder_dim=4,
        encoder_rates=strides,
        decoder_dim=32,
        decoder_rates=strides[::-1],
        n_codebooks=3,
        codebook_size=32,
    ).eval()
    ours = from_dac(theirs, sample_rate=44100)
    x = 0.3 * torch.randn(1, 1, 40 * ours.hop)

    def quantise(features):
        values, codes, *_ = theirs.quantizer(features)
        return values, list(codes.unbind(1))

    expected, found = assert_equal(theirs, ours, x, quantise)
    if strides[-1] % 2 == 0:
        assert torch.allclose(found, expected, atol=1e-4)
        return
    # Each odd stride takes a sample off the end there, which is then missing from the filters' sums around it.
    assert found.shape == x.shape
    assert x.shape[-1] - expected.shape[-1] == 8
    inside = x.shape[-1] - ours.synthesis_halo * ours.hop
    assert torch.allclose(found[..., :inside], expected[..., :inside], atol=1e-4)

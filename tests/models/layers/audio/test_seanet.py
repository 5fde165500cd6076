import copy

import pytest
import torch

from triode.errors import UnsupportedError
from triode.models.layers.audio.conv import fuse_weight_norm
from triode.models.layers.audio.seanet import ResidualLstm, SeanetConfig, SeanetDecoder, SeanetEncoder, SeanetResidual

SMALL = SeanetConfig(dimension=6, filters=4, strides=(2, 3), residual_layers=2, lstm=1)


def test_encodec_at_24_khz_has_its_size_and_names():
    encoder, decoder = SeanetEncoder().state_dict(), SeanetDecoder().state_dict()
    # The published model has 14,851,810 parameters around its quantiser, which has none that are trained.
    assert sum(p.numel() for p in encoder.values()) == 7_425_792
    assert sum(p.numel() for p in decoder.values()) == 7_426_018
    length, direction = "parametrizations.weight.original0", "parametrizations.weight.original1"
    expected = {
        f"model.0.conv.conv.{direction}": (32, 1, 7),
        f"model.0.conv.conv.{length}": (32, 1, 1),
        f"model.1.block.1.conv.conv.{direction}": (16, 32, 3),
        f"model.1.block.3.conv.conv.{direction}": (32, 16, 1),
        f"model.1.shortcut.conv.conv.{direction}": (32, 32, 1),
        f"model.3.conv.conv.{direction}": (64, 32, 4),
        f"model.12.conv.conv.{direction}": (512, 256, 16),
        "model.13.lstm.weight_ih_l1": (2048, 512),
        f"model.15.conv.conv.{direction}": (128, 512, 7),
    }
    assert {name: tuple(encoder[name].shape) for name in expected} == expected
    expected = {
        f"model.0.conv.conv.{direction}": (512, 128, 7),
        "model.1.lstm.weight_hh_l0": (2048, 512),
        f"model.3.convtr.convtr.{direction}": (512, 256, 16),
        f"model.3.convtr.convtr.{length}": (512, 1, 1),
        f"model.4.block.1.conv.conv.{direction}": (128, 256, 3),
        f"model.12.convtr.convtr.{direction}": (64, 32, 4),
        f"model.15.conv.conv.{direction}": (1, 32, 7),
    }
    assert {name: tuple(decoder[name].shape) for name in expected} == expected


def test_encodec_at_48_khz_has_group_norms():
    encoder = SeanetEncoder(SeanetConfig(channels=2, causal=False, norm="group")).state_dict()
    assert sum(p.numel() for p in encoder.values()) == 7_428_336
    assert encoder["model.0.conv.norm.weight"].shape == (32,)
    assert encoder["model.0.conv.conv.weight"].shape == (32, 2, 7)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"causal": True}, SeanetConfig(dimension=8, filters=4)),
        (
            {"causal": False, "norm": "time_group_norm", "channels": 2},
            SeanetConfig(2, 8, 4, causal=False, norm="group"),
        ),
        (
            {"causal": True, "pad_mode": "constant", "true_skip": True, "n_residual_layers": 3, "lstm": 0},
            SeanetConfig(1, 8, 4, residual_layers=3, lstm=0, true_skip=True, padding="constant"),
        ),
    ],
)
def test_equals_the_original(theirs, ours):
    modules = pytest.importorskip("encodec.modules")
    torch.manual_seed(0)
    encoder = modules.SEANetEncoder(dimension=8, n_filters=4, **theirs)
    decoder = modules.SEANetDecoder(dimension=8, n_filters=4, **theirs)
    our_encoder, our_decoder = SeanetEncoder(ours), SeanetDecoder(ours)
    our_encoder.load_state_dict(encoder.state_dict())
    our_decoder.load_state_dict(decoder.state_dict())
    for samples in (1, 320, 1111):
        x = torch.randn(2, ours.channels, samples)
        y = encoder(x)
        assert torch.allclose(our_encoder(x), y, atol=1e-6)
        assert torch.allclose(our_decoder(y), decoder(y), atol=1e-6)


@pytest.mark.parametrize("padding", ["reflect", "constant", "replicate"])
@pytest.mark.parametrize("sizes", [[1], [7], [1, 0, 20]])
@pytest.mark.parametrize("samples", [1, 6, 41])
def test_streams(assert_streams, padding, sizes, samples):
    torch.manual_seed(0)
    config = SeanetConfig(1, 6, 4, (2, 3), residual_layers=2, lstm=1, padding=padding)
    encoder, decoder = SeanetEncoder(config).double(), SeanetDecoder(config).double()
    y = assert_streams(encoder, torch.randn(2, 1, samples).double(), sizes, 1e-12)
    assert y.shape == (2, 6, -(-samples // 6))
    x = assert_streams(decoder, y, sizes, 1e-12)
    assert x.shape == (2, 1, 6 * y.shape[-1])


def test_true_skips_stream(assert_streams):
    config = SeanetConfig(1, 6, 4, (2, 3), true_skip=True)
    assert_streams(SeanetEncoder(config).double(), torch.randn(1, 1, 50).double(), [4], 1e-12)


def test_causal_frames_do_not_look_ahead():
    encoder = SeanetEncoder(SMALL).double()
    x = torch.randn(1, 1, 60).double()
    other = x.clone()
    other[..., 42:] += 1
    same = (encoder(x) == encoder(other)).all(1)[0].tolist()
    assert same == [True] * 7 + [False] * 3


def test_decoder_mirrors_the_encoder():
    assert SMALL.hop == 6
    for network in (SeanetEncoder(SMALL), SeanetDecoder(SMALL)):
        blocks = [m.block[1].conv.conv for m in network.modules() if isinstance(m, SeanetResidual)]
        assert [conv.dilation for conv in blocks] == [(1,), (2,), (1,), (2,)]
    strides = [m.stride for m in SeanetDecoder(SMALL).modules() if hasattr(m, "overlap")]
    assert strides == [3, 2]


def test_fused_weights_give_the_same():
    encoder = SeanetEncoder(SMALL)
    fused = copy.deepcopy(encoder)
    assert fuse_weight_norm(fused) == 2 + 2 + 2 * 2 * 3
    x = torch.randn(1, 1, 50)
    assert torch.allclose(encoder(x), fused(x), atol=1e-6)
    assert not any("parametrizations" in name for name in fused.state_dict())


def test_lstm_adds_to_its_input():
    torch.manual_seed(0)
    layer = ResidualLstm(4)
    x = torch.randn(2, 4, 9)
    y, _ = layer.lstm(x.permute(2, 0, 1))
    assert torch.allclose(layer(x), x + y.permute(1, 2, 0), atol=1e-6)
    assert layer(x[..., :0]).shape == (2, 4, 0)


def test_every_parameter_learns():
    encoder, decoder = SeanetEncoder(SMALL), SeanetDecoder(SMALL)
    decoder(encoder(torch.randn(2, 1, 100))).square().sum().backward()
    for p in (*encoder.parameters(), *decoder.parameters()):
        assert float(p.grad.abs().sum()) > 0


def test_what_looks_ahead_is_refused():
    with pytest.raises(UnsupportedError, match="is not causal"):
        SeanetEncoder(SeanetConfig(1, 6, 4, (2, 3), causal=False)).stream_state()


@pytest.mark.parametrize("options", [{"strides": ()}, {"strides": (2, 0)}, {"filters": 1}, {"lstm": -1}])
def test_bad_config(options):
    with pytest.raises(ValueError, match="Channels and strides must be positive"):
        SeanetConfig(**options)

"""How far networks see, against what changes when an input does."""

from __future__ import annotations

import pytest
import torch
from models.tiny_vq import tiny_vq
from torch import nn

from triode.models.audio.reach import decoder_reach, encoder_reach, seen
from triode.models.layers.audio.conv import PaddedConv1d, PaddedConvTranspose1d
from triode.models.layers.audio.local_attention import LocalAttention
from triode.models.layers.audio.seanet import SeanetConfig, SeanetDecoder, SeanetEncoder
from triode.models.layers.audio.snake import DownBlock, ResidualUnit, Snake1d, UpBlock

LENGTH, MIDDLE = 240, 120
SEANET = SeanetConfig(filters=4, dimension=4, strides=(2, 3), lstm=0, residual_layers=2)


def dependence(layer: nn.Module, channels: int, first: int, last: int) -> tuple[int, int]:
    """Find by gradients which inputs of `LENGTH` the outputs depend on."""
    x = torch.randn(1, channels, LENGTH, dtype=torch.float64, requires_grad=True)
    layer.double()(x)[..., first : last + 1].square().sum().backward()
    found = x.grad.abs().sum((0, 1)).nonzero()[:, 0]
    return int(found[0]), int(found[-1])


@pytest.mark.parametrize(
    ("layer", "channels", "scale"),
    [
        (nn.Conv1d(1, 2, 7, padding=3), 1, 1),
        (nn.Conv1d(1, 2, 5, stride=2, dilation=3, padding=4), 1, 0.5),
        (nn.Conv1d(1, 2, 4), 1, 1),
        (nn.ConvTranspose1d(1, 2, 6, stride=3, padding=2), 1, 3),
        (nn.ConvTranspose1d(1, 2, 3, stride=3), 1, 3),
        (PaddedConv1d(1, 2, 7, dilation=2), 1, 1),
        (PaddedConv1d(1, 2, 6, 3), 1, 1 / 3),
        (PaddedConv1d(1, 2, 6, 3, causal=True), 1, 1 / 3),
        (PaddedConvTranspose1d(1, 2, 6, 3), 1, 3),
        (PaddedConvTranspose1d(1, 2, 5, 2), 1, 2),
        (PaddedConvTranspose1d(1, 2, 6, 3, causal=True), 1, 3),
        (ResidualUnit(2, 3), 2, 1),
        (DownBlock(2, 4, 5), 2, 0.2),
        (UpBlock(4, 2, 5, exact=True), 4, 5),
        (SeanetEncoder(SEANET), 1, 1 / 6),
        (SeanetDecoder(SEANET), 4, 6),
        (LocalAttention(8, 24, 4), 8, 1),
        (nn.Sequential(nn.Conv1d(8, 8, 3, padding=1), Snake1d(8), LocalAttention(8, 24, 4), nn.Tanh()), 8, 1),
    ],
)
@pytest.mark.parametrize("count", [1, 7])
def test_is_what_outputs_depend_on(layer, channels, scale, count):
    torch.manual_seed(0)
    first = round(MIDDLE * scale)
    for start in (first, first + 1):
        assert seen(layer, start, start + count - 1) == dependence(layer, channels, start, start + count - 1)


@pytest.mark.parametrize("name", ["dac", "encodec", "snac"])
def test_frames_beyond_a_run(name):
    model = tiny_vq(name)
    model.double()
    run, hop = model.multiple, model.hop
    encoder, decoder = encoder_reach(model.encoder, hop, run=run), decoder_reach(model.decoder, hop, run=run)
    assert encoder_reach(model.encoder, hop, run=run, warmup=5) == encoder + 5
    assert decoder_reach(model.decoder, hop, run=run, warmup=5) == decoder + 5
    margin = 40 + -40 % run
    if name == "encodec":  # Its LSTM, which is not bounded, left out.
        model.encoder.model = nn.Sequential(*(m for m in model.encoder.model if type(m).__name__ != "ResidualLstm"))
        model.decoder.model = nn.Sequential(*(m for m in model.decoder.model if type(m).__name__ != "ResidualLstm"))
    frames = 2 * margin + run
    x = torch.randn(1, 1, frames * hop, dtype=torch.float64, requires_grad=True)
    model.encoder(x)[..., margin : margin + run].square().sum().backward()
    touched = x.grad.view(frames, hop).abs().sum(1).nonzero()[:, 0]
    assert max(margin - int(touched[0]), int(touched[-1]) - margin - run + 1) == encoder
    y = torch.randn(1, model.quantizer.dim, frames, dtype=torch.float64, requires_grad=True)
    model.decoder(y)[..., margin * hop : (margin + run) * hop].square().sum().backward()
    touched = y.grad.abs().sum((0, 1)).nonzero()[:, 0]
    assert max(margin - int(touched[0]), int(touched[-1]) - margin - run + 1) == decoder


def test_unknown_layers_are_refused():
    with pytest.raises(TypeError, match="how far a GRU sees"):
        seen(nn.Sequential(nn.Tanh(), nn.GRU(1, 1)), 0, 0)

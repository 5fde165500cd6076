"""Residual coding across scales, with linear layers for a decoder."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from triode.entropy.vq import CrossScaleVQ, PlainVQ, ProductVQ, VectorQuantizer

DIMS = (8, 8, 6, 4)
FRAMES = 9


class Decoder(nn.Module):
    """Climbs from scale to scale; the first two streams are of one scale."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.layers = nn.ModuleList([nn.Identity(), nn.Conv1d(8, 6, 1), nn.Conv1d(6, 4, 1)])
        self.calls: list[int] = []

    def forward(self, stream: int, state: Tensor) -> Tensor:
        self.calls.append(stream)
        return torch.tanh(self.layers[stream](state))


def product(dim: int) -> VectorQuantizer:
    return ProductVQ(dim, 8, 3, groups=2, merge=2)


def plain(dim: int) -> VectorQuantizer:
    return PlainVQ(dim, 8, kmeans_iterations=2)


@pytest.fixture(params=[product, plain])
def quantizer(request: pytest.FixtureRequest) -> CrossScaleVQ:
    torch.manual_seed(0)
    return CrossScaleVQ([request.param(dim) for dim in DIMS])


@pytest.fixture
def features() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(3, dim, FRAMES, generator=generator) for dim in DIMS]


@pytest.fixture
def decoder() -> Decoder:
    return Decoder()


def by_hand(
    quantizer: CrossScaleVQ, features: list[Tensor], expand: Callable[[int, Tensor], Tensor], stages: int
) -> tuple[list[Tensor], Tensor]:
    state = torch.zeros_like(features[0])
    codes: list[Tensor] = []
    for i, (feature, inner) in enumerate(zip(features, quantizer.quantizers, strict=True)):
        if len(codes) < stages:
            found = inner.encode(feature - state, min(inner.stages, stages - len(codes)))
            codes += found
            state = state + inner.decode(found, FRAMES)
        if i < 3:
            state = expand(i, state)
    return codes, state


@pytest.mark.parametrize("share", [0.2, 0.25, 0.375, 0.5, 0.75, 0.875, 1.0])
def test_against_the_recursion(quantizer: CrossScaleVQ, features: list[Tensor], decoder: Decoder, share: float) -> None:
    quantizer(features, decoder)  # starts the codebooks
    quantizer.eval()
    stages = math.ceil(share * quantizer.stages)
    codes, state = by_hand(quantizer, features, decoder, stages)
    out = quantizer(features, decoder, stages)
    encoded = quantizer.encode(features, decoder, stages)
    assert len(out.codes) == len(encoded) == len(codes) == stages
    for a, b, c in zip(out.codes, encoded, codes, strict=True):
        assert torch.equal(a, c)
        assert torch.equal(b, c)
    assert torch.equal(out.values, state)
    decoder.calls.clear()
    assert torch.equal(quantizer.decode(encoded, decoder, FRAMES), out.values)
    assert decoder.calls == [0, 1, 2]
    assert len(out.usage) == len(codes)


def test_a_count_for_each_sample(quantizer: CrossScaleVQ, features: list[Tensor], decoder: Decoder) -> None:
    quantizer(features, decoder)
    quantizer.eval()
    counts = (1, quantizer.stages, quantizer.stages // 2 + 1)
    out = quantizer(features, decoder, torch.tensor(counts))
    assert len(out.codes) == quantizer.stages
    for b, stages in enumerate(counts):
        alone = quantizer([feature[b : b + 1] for feature in features], decoder, stages)
        torch.testing.assert_close(out.values[b], alone.values[0])
        torch.testing.assert_close(out.loss[b], alone.loss[0])


def test_learns_end_to_end(quantizer: CrossScaleVQ, features: list[Tensor], decoder: Decoder) -> None:
    features = [feature.requires_grad_() for feature in features]
    out = quantizer(features, decoder)
    (out.values.square().sum() + out.loss.sum()).backward()
    for tensor in [*features, *quantizer.parameters(), *decoder.parameters()]:
        assert tensor.grad is not None
        assert tensor.grad.any()
    for parameter in (*quantizer.parameters(), *decoder.parameters()):
        parameter.grad = None
    quantizer.bypass(features, decoder).square().sum().backward()
    for parameter in decoder.parameters():
        assert parameter.grad is not None
    for name, parameter in quantizer.named_parameters():
        assert (parameter.grad is None) == name.endswith("entries"), name


def test_bypass_of_plain_quantisers_is_the_last_feature(features: list[Tensor], decoder: Decoder) -> None:
    torch.testing.assert_close(CrossScaleVQ([plain(dim) for dim in DIMS]).bypass(features, decoder), features[-1])


def test_arguments(quantizer: CrossScaleVQ, features: list[Tensor], decoder: Decoder) -> None:
    with pytest.raises(ValueError, match="`quantizers`"):
        CrossScaleVQ([])
    with pytest.raises(ValueError, match="`features` must hold 4"):
        quantizer(features[1:], decoder)
    with pytest.raises(ValueError, match=r"`stages` must be in 1\.\.\d, but got 9"):
        quantizer(features, decoder, 9)
    with pytest.raises(ValueError, match=r"`stages` must be in 1\.\.\d, but got 0"):
        quantizer.encode(features, decoder, 0)
    codes = quantizer.encode(features, decoder)
    for given in ([], [*codes, codes[0]]):
        with pytest.raises(ValueError, match="`codes` must hold 1 to"):
            quantizer.decode(given, decoder, FRAMES)

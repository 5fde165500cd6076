"""Integer networks in training: the same integers as the exporter's, gradients of the floats, no trace afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from literature import make_plausible, picture
from models.tiny import TINY, smooth_image, tiny_model
from torch import Tensor

import triode.entropy.context.model as context_model
from triode.entropy.coder import CountingWriter
from triode.entropy.exact.layers import exact_twin, from_fixed, to_fixed
from triode.models.base import ImageModel
from triode.models.registry import create_model
from triode.train.exact import exact_networks, integer_networks

POINTS = (0, 17, 40, 63)


def test_networks_give_what_their_twins_give() -> None:
    model = tiny_model()
    hyper, parameters = exact_networks(model)
    assert (hyper, parameters) == (model.entropy.h_s, model.entropy.context.parameter_net)
    twins = exact_twin(hyper), exact_twin(parameters)
    generator = torch.Generator().manual_seed(0)
    q = torch.tensor(POINTS)
    z = torch.randint(-20, 21, (4, model.config.hyper, 2, 3), generator=generator).float()
    y = (torch.randn(4, model.config.latent, 8, 12, generator=generator) * 30 * 1024).round() / 1024
    with torch.no_grad(), integer_networks(model):
        features = hyper(z, q.float())
        assert torch.equal(features, from_fixed(twins[0](to_fixed(z), q)))
        for step in range(4):
            maps = parameters(step, y, features, q.float())
            expected = twins[1](step, to_fixed(y), to_fixed(features), q)
            for (mean, index), (mean_exact, index_exact) in zip(maps, expected, strict=True):
                assert torch.equal(mean, from_fixed(mean_exact))
                assert torch.equal(index, from_fixed(index_exact))
    with torch.no_grad():
        floating = hyper(z, q.float())
    assert not torch.equal(floating, features)
    assert torch.allclose(floating, features, atol=0.05)


@pytest.mark.parametrize(("name", "config"), [("mbt2018-mean", {}), ("elic2022", {"groups": (4, 12)})])
def test_models_of_the_literature(name: str, config: dict[str, Any]) -> None:
    """Among them one whose parameter network shares features between steps."""
    model = make_plausible(create_model(name, N=8, M=16, **config)).eval()
    x, q = picture(64, 64), torch.zeros(1)
    with torch.no_grad():
        floating = model(x, q)
        with integer_networks(model):
            exact = model(x, q)
    for part in floating.bits:
        assert float(exact.bits[part]) == pytest.approx(float(floating.bits[part]), rel=0.02)
    assert not torch.equal(exact.bits["y"], floating.bits["y"])


def coded_indices(model: ImageModel, x: Tensor, q: Tensor, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Indices that the coder uses, in the order of the steps."""
    found: list[Tensor] = []
    maps = context_model.ContextModel._exact_maps

    def record(self: context_model.ContextModel, *arguments: object) -> list[tuple[Tensor, Tensor]]:
        out = maps(self, *arguments)
        found.extend(index.flatten() for _, index in out)
        return out

    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(context_model.ContextModel, "_exact_maps", record)
        model.encode(model.analysis(x, q), q, CountingWriter())
    return torch.cat(found).numpy()


def trained_indices(model: ImageModel, x: Tensor, q: Tensor, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Indices of the differentiable pass, rounded as the coder rounds."""
    found: list[Tensor] = []
    bits = context_model.gaussian_bits

    def record(residual: Tensor, index: Tensor) -> Tensor:
        found.append(torch.floor(index.double() + 0.5).clamp(0, 63).flatten())
        return bits(residual, index)

    with monkeypatch.context() as patch, torch.no_grad():
        patch.setattr(context_model, "gaussian_bits", record)
        model(x, q)
    return torch.cat(found).numpy()


def test_the_whole_pass_uses_the_indices_that_the_coder_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    differ = 0
    for seed, point in ((0, 40), (1, 63)):
        model = tiny_model(seed)
        model.rdoq = 0.0
        model.export()
        x = torch.from_numpy(smooth_image(256, 256, seed=seed)).permute(2, 0, 1)[None] / 255
        q = torch.tensor([point])
        coded = coded_indices(model, x, q, monkeypatch)
        assert coded.min() > 0, "what is not coded takes its mean, where training rounds"
        with integer_networks(model):
            assert np.array_equal(trained_indices(model, x, q, monkeypatch), coded)
        differ += int((trained_indices(model, x, q, monkeypatch) != coded).sum())
    assert differ > 0


def test_gradients_are_those_of_the_floats() -> None:
    model = tiny_model().train()
    x = torch.from_numpy(smooth_image(64, 64)).permute(2, 0, 1)[None] / 255
    gradients = []
    for exact in (False, True):
        model.zero_grad()
        torch.manual_seed(0)
        if exact:
            with integer_networks(model):
                out = model(x, torch.tensor([30.0]))
        else:
            out = model(x, torch.tensor([30.0]))
        (out.bits["y"] + out.bits["z"] + (out.x_hat - x).square().sum()).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for n in exact_networks(model) for p in n.parameters()]))
    floating, exact = gradients
    assert floating.any()
    assert float(torch.cosine_similarity(floating, exact, 0)) > 0.99


def instance_methods(model: ImageModel) -> Iterator[str]:
    for network in exact_networks(model):
        yield from network.__dict__.keys() & {"forward", "stage"}


def test_networks_are_floats_again_afterwards() -> None:
    model = tiny_model()
    with integer_networks(model):
        assert len(list(instance_methods(model))) == 2
    assert list(instance_methods(model)) == []
    with pytest.raises(RuntimeError, match="stop"), integer_networks(model):
        raise RuntimeError("stop")
    assert list(instance_methods(model)) == []


def test_narrow_integers_are_refused() -> None:
    model = tiny_model(config=replace(TINY, narrow=True))
    with pytest.raises(ValueError, match="Narrow integers"), integer_networks(model):
        pass
    assert list(instance_methods(model)) == []


def test_weights_that_an_export_would_refuse() -> None:
    model = tiny_model()
    with torch.no_grad():
        model.entropy.h_s.stem.weight[0, 0, 0, 0] = 1e6
    with pytest.raises(ValueError, match="Weights must be finite"), integer_networks(model):
        pass
    assert list(instance_methods(model)) == []

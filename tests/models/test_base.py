import inspect

import pytest
import torch
from models.tiny import tiny_model

from triode.models.base import ImageModel, Output


class Mirror(ImageModel):
    """A model of one convolution, with nothing but what the contract asks for."""

    stride = multiple = 1
    analysis_halo = synthesis_halo = 0

    def forward(self, x, q):
        return Output(x, {"y": x.new_zeros(len(x))})

    def rate_lambda(self, q):
        return torch.ones_like(q)

    def analysis(self, x, q):
        return x

    def encode(self, y, q, writer):
        return y

    def decode(self, shape, q, reader):
        return torch.zeros(1, 3, *shape)

    def synthesis(self, y, q):
        return y

    def export(self):
        pass


def test_optional_parts_have_defaults():
    model, y, q = Mirror(), torch.rand(1, 3, 4, 5), torch.tensor([7])
    assert model.dequantise(y, q) is y
    model.init_from_data(iter(()))


@pytest.mark.parametrize("name", sorted(ImageModel.__abstractmethods__))
def test_every_other_part_is_needed(name):
    parts = {k: v for k, v in vars(Mirror).items() if inspect.isfunction(v) and k != name}
    with pytest.raises(TypeError, match=name):
        type("Partial", (ImageModel,), parts)()


def test_output_is_frozen():
    out = tiny_model()(torch.rand(1, 3, 64, 64), torch.tensor([3.0]))
    with pytest.raises(AttributeError):
        out.x_hat = None

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from models.tiny import TINY, tiny_model
from models.tiny_vq import tiny_vq
from torch import nn

from triode.entropy.coder import CountingWriter
from triode.entropy.exact.layers import exact_twin
from triode.models.base import ImageModel, Output
from triode.models.complexity import Complexity, count_macs, count_sound_macs
from triode.models.layers import products
from triode.models.layers.gdn import GDN
from triode.models.registry import create_model
from triode.models.restoration import Restoration


class Counted(ImageModel):
    """A model whose every multiplication can be counted by hand."""

    stride = multiple = 4
    analysis_halo = synthesis_halo = 0

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(3, 8, 5, stride=4, padding=2)
        self.gdn = GDN(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.up = nn.ConvTranspose2d(8, 3, 4, stride=4)
        self.linear = nn.Linear(8, 8)
        self.net = nn.Conv2d(8, 2, 1)

    def forward(self, x, q):
        return Output(x, {})

    def rate_lambda(self, q):
        return q

    def analysis(self, x, q):
        return self.depthwise(self.gdn(self.down(x)))

    def encode(self, y, q, writer):
        self.exact(y.double().round())
        return y

    def decode(self, shape, q, reader):
        self.exact(torch.zeros(1, 8, *shape, dtype=torch.float64))
        return torch.zeros(1, 8, *shape)

    def synthesis(self, y, q):
        return self.up(self.linear(y.movedim(1, -1)).movedim(-1, 1))

    def export(self):
        self.exact = exact_twin(self.net)


@pytest.mark.parametrize(("height", "width"), [(8, 12), (64, 64), (6, 9)])
def test_counts_what_a_hand_counts(height, width):
    positions = -(-height // 4) * -(-width // 4)
    analysis = positions * (5 * 5 * 3 * 8 + 8 * 8 + 9 * 8)
    entropy = positions * 8 * 2
    synthesis = positions * (8 * 8 + 8 * 3 * 4 * 4)
    pixels = 1000 * height * width
    found = count_macs(Counted(), height, width)
    assert found.kmac_encode == pytest.approx((analysis + entropy) / pixels)
    assert found.kmac_decode == pytest.approx((entropy + synthesis) / pixels)
    assert found.parameters == sum(p.numel() for p in Counted().parameters())


def test_transposed_exact_twin_counts_as_its_source():
    class Transposed(Counted):
        def __init__(self):
            super().__init__()
            self.net = nn.ConvTranspose2d(8, 2, 5, stride=2, padding=2, output_padding=1)

    per_position = 8 * 2 * 25
    difference = count_macs(Transposed(), 8, 8).kmac_decode - count_macs(Counted(), 8, 8).kmac_decode
    assert difference == pytest.approx(4 * (per_position - 16) / 64_000)


def test_image_light_is_within_its_budget():
    found = count_macs(create_model("image-light"), 256, 256)
    assert 1 < found.kmac_encode <= 25
    assert 1 < found.kmac_decode <= 15
    assert found.kmac_decode < found.kmac_encode
    assert found.parameters < 8_000_000  # 16 MB in float16.


def test_image_light_by_hand():
    """Without its entropy networks, a tiny model's analysis and synthesis."""
    model, c = tiny_model(), TINY
    block = 5 * 64 + 9 * 8
    analysis = 768 * c.latent + 4 * (3 * 64 * c.fine + block) + (4 * c.fine * c.coarse + block + c.coarse * c.latent)
    synthesis = 768 * c.latent + (c.latent * c.coarse + block + c.coarse * 4 * c.fine) + 4 * (block + c.fine * 192)
    found = count_macs(model, 128, 128)
    exported = copy.deepcopy(model)
    exported.export()
    macs = {"a": 0, "s": 0}

    def count(part):
        def hook(layer, _, output):
            macs[part] += output.shape[2] * output.shape[3] * layer.weight.numel()

        return hook

    for part, net in (("a", exported.g_a), ("s", exported.g_s)):
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d):
                layer.register_forward_hook(count(part))
    x, q = torch.rand(1, 3, 128, 128), torch.tensor([1])
    with torch.no_grad():
        exported.synthesis(exported.analysis(x, q), q)
    assert (macs["a"] / 64, macs["s"] / 64) == (analysis, synthesis)
    # Both paths run the same integer networks; encoding adds the hyper-analysis.
    entropy = found.kmac_decode * 1000 * 256 - synthesis
    hyper_analysis = found.kmac_encode * 1000 * 256 - analysis - entropy
    by_hand = c.latent * c.parameters + (4 * c.parameters**2 + 9 * c.parameters) / 4 + 4 * c.parameters * c.hyper / 16
    assert hyper_analysis == pytest.approx(by_hand)
    assert entropy > 0


def test_the_model_stays_as_it_is():
    model = tiny_model().train()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    count_macs(model, 64, 64)
    assert model.training
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(not m._forward_hooks for m in model.modules())
    assert model.entropy.h_s_exact is None


def test_exported_and_fresh_models_count_alike():
    model = tiny_model()
    fresh = count_macs(model, 64, 128)
    model.export()
    model.analysis(torch.rand(1, 3, 64, 64), torch.tensor([0]))
    model.encode(torch.rand(1, 16, 4, 4), torch.tensor([0]), CountingWriter())
    assert count_macs(model, 64, 128) == fresh
    assert isinstance(fresh, Complexity)


@pytest.mark.parametrize(("height", "width"), [(0, 5), (5, 0), (-1, 64)])
def test_sides_must_be_positive(height, width):
    with pytest.raises(ValueError, match=">= 1"):
        count_macs(tiny_model(), height, width)


def test_products_are_counted(monkeypatch):
    """What large pictures go through in inference is no call of a module."""
    model = tiny_model(config=replace(TINY, restored=True))
    expected = count_macs(model, 128, 128)
    monkeypatch.setattr(products, "_ELEMENTS", 1)
    assert count_macs(model, 128, 128) == expected


def test_padding_counts():
    assert count_macs(tiny_model(), 1, 1).kmac_encode > 100 * count_macs(tiny_model(), 64, 64).kmac_encode
    assert np.isfinite(count_macs(tiny_model(), 1, 1).kmac_decode)


def test_counts_recurrent_layers():
    """An LSTM of H channels has two matrices of 4 H x H a layer, and each sees every frame."""
    plain, two = (count_sound_macs(tiny_vq("encodec", lstm=layers), 4000) for layers in (0, 2))
    expected = 2 * 2 * 4 * 32 * 32 / 40 / 1000
    assert two.kmac_encode - plain.kmac_encode == pytest.approx(expected)
    assert two.kmac_decode - plain.kmac_decode == pytest.approx(expected)


def test_a_restoration_is_counted_on_both_sides():
    plain, restored = (tiny_model(config=replace(TINY, restored=flag)) for flag in (False, True))
    restored.restoration.clip.fill_(100)
    a, b = (count_macs(model, 128, 128) for model in (plain, restored))
    assert b.kmac_decode - a.kmac_decode == pytest.approx(Restoration.macs / 1000)
    # Four windows of 8 x 8 latent elements are the whole picture, which is decoded once more.
    synthesis = b.kmac_decode - Restoration.macs / 1000
    assert a.kmac_encode + 0.5 * synthesis < b.kmac_encode < a.kmac_encode + synthesis
    assert restored.restoration.tables.sizes.numel() == 0

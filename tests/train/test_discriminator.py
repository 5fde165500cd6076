"""The discriminator: its size, its bound, and the losses."""

from __future__ import annotations

import pytest
import torch

from triode.train.discriminator import PatchDiscriminator, critic_loss, generator_loss


def test_is_small_and_judges_patches() -> None:
    net = PatchDiscriminator()
    assert 0.45e6 < sum(p.numel() for p in net.parameters()) < 0.55e6
    x = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        scores = net(x, torch.tensor([0.0, 63.0]))
    assert scores.shape == (2, 1, 8, 12)
    assert scores.dtype == torch.float32


def test_each_score_sees_38_pixels() -> None:
    net = PatchDiscriminator(4).eval()
    x = torch.rand(1, 3, 96, 96, requires_grad=True)
    net(x, torch.zeros(1))[0, 0, 6, 6].backward()
    rows = x.grad.abs().sum((0, 1, 3)).nonzero()
    assert int(rows[-1] - rows[0]) == 37


def test_spectral_norms_bound_what_a_pixel_can_do() -> None:
    torch.manual_seed(0)
    net = PatchDiscriminator(4).train()
    with torch.no_grad():
        for layer in net.layers:
            layer.parametrizations.weight.original.mul_(100)
        for _ in range(30):  # The norms are found by power iteration, a step a pass.
            net(torch.rand(1, 3, 32, 32), torch.zeros(1))
        norms = [float(torch.linalg.matrix_norm(layer.weight.flatten(1), 2)) for layer in net.layers]
    assert norms == pytest.approx([1.0] * 4, rel=0.05)


def test_rate_points_shift_what_it_says() -> None:
    torch.manual_seed(0)
    net = PatchDiscriminator(4).eval()
    x = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        before = net(x, torch.tensor([10.0]))
        assert torch.equal(net(x, torch.tensor([60.0])), before)
        net.rate_bias[1].bias[-1] = 1.0
        assert torch.equal(net(x, torch.tensor([10.0])), before)
        assert not torch.equal(net(x, torch.tensor([60.0])), before)


def test_losses() -> None:
    real, fake = torch.full((2, 1, 3, 3), 0.25), torch.full((2, 1, 3, 3), -3.0)
    fake[1] = 0.5
    assert float(critic_loss(real, fake)) == pytest.approx(0.75 + 0.75)
    assert float(critic_loss(0 * real, 0 * fake)) == 2.0
    assert generator_loss(fake).tolist() == pytest.approx([3.0, -0.5])


def test_width_must_be_positive() -> None:
    with pytest.raises(ValueError, match="width"):
        PatchDiscriminator(0)

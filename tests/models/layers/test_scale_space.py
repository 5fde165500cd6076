"""Scale-space warping: what is looked up where, and how blurred it is."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F

from triode.models.layers.scale_space import scale_space, scale_space_warp

LEVELS = 3


def noise(height=32, width=48):
    return torch.rand(1, 2, height, width, generator=torch.Generator().manual_seed(0))


def sharp(volume):
    """The scale at which the first level is looked up alone: the middle of it."""
    levels = volume.shape[2]
    return torch.full((1, 1, *volume.shape[3:]), (0.5 / levels) * 2 - 1)


class TestLevels:
    def test_first_is_the_picture_and_the_others_blur_more_and_more(self):
        x = noise()
        volume = scale_space(x, 1.5, LEVELS)
        assert volume.shape == (1, 2, LEVELS + 1, 32, 48)
        assert torch.equal(volume[:, :, 0], x)
        spreads = [float(volume[:, :, level].std()) for level in range(LEVELS + 1)]
        assert all(after < 0.7 * before for before, after in pairwise(spreads))
        assert torch.allclose(volume.mean((3, 4)), x.mean((2, 3))[:, :, None], atol=0.03)

    def test_blur_is_gaussian(self):
        """A point becomes a bell: against the formula, normalised over a window of three deviations."""
        x = torch.zeros(1, 1, 32, 32)
        x[0, 0, 12, 20] = 1
        level = scale_space(x, 1.5, 1)[0, 0, 1]
        ramp = torch.arange(-5, 6).double()
        bell = torch.exp(-(ramp**2) / (2 * 1.5**2))
        bell = bell / bell.sum()
        assert torch.allclose(level[7:18, 15:26].double(), bell[:, None] * bell, atol=1e-7)
        assert float(level.sum()) == pytest.approx(1, abs=1e-5)

    def test_flat_stays_flat(self):
        assert torch.allclose(scale_space(torch.full((1, 1, 16, 16), 0.3), 1.5, 5), torch.tensor(0.3), atol=1e-6)

    def test_sides(self):
        with pytest.raises(ValueError, match="multiples of 4"):
            scale_space(noise(30, 32), 1.5, LEVELS)


class TestWarp:
    def test_standing_still(self):
        volume = scale_space(noise(), 1.5, LEVELS)
        out = scale_space_warp(volume, torch.zeros(1, 2, 32, 48), sharp(volume))
        assert torch.allclose(out, volume[:, :, 0], atol=1e-4)

    def test_flow_is_in_halves_of_the_sides(self):
        volume = scale_space(noise(), 1.5, LEVELS)
        flow = torch.zeros(1, 2, 32, 48)
        flow[:, 0], flow[:, 1] = 3 / 24, -2 / 16
        out = scale_space_warp(volume, flow, sharp(volume))
        assert torch.allclose(out[:, :, 2:, :-3], volume[:, :, 0, :-2, 3:], atol=1e-4)
        assert torch.allclose(out[:, :, :2, :-3], volume[:, :, 0, :1, 3:].expand(-1, -1, 2, -1), atol=1e-4)

    def test_scale_blends_neighbouring_levels(self):
        volume = scale_space(noise(), 1.5, LEVELS)
        still, middle = torch.zeros(1, 2, 32, 48), torch.zeros(1, 1, 32, 48)
        out = scale_space_warp(volume, still, middle)
        assert torch.allclose(out, (volume[:, :, 1] + volume[:, :, 2]) / 2, atol=1e-4)
        assert torch.allclose(scale_space_warp(volume, still, middle + 9), volume[:, :, LEVELS], atol=1e-4)

    def test_gradients(self):
        volume = scale_space(noise(16, 16), 1.5, 1)
        flow, scale = (
            torch.full((1, 2, 16, 16), 0.01, requires_grad=True),
            torch.zeros(1, 1, 16, 16, requires_grad=True),
        )
        F.mse_loss(scale_space_warp(volume, flow, scale), volume[:, :, 0]).backward()
        assert float(flow.grad.abs().sum()) > 0
        assert float(scale.grad.abs().sum()) > 0

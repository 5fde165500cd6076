"""Looked up is interpolated: against `grid_sample`, in the plane, at its border and beyond."""

import pytest
import torch
from models.video.pictures import picture

from triode.models.video.subsamples import Subsamples
from triode.models.video.vectors import QUARTERS, fetch


def interpolated(planes, x, y):
    height, width = planes.shape[2:]
    places = torch.stack([(2 * x / QUARTERS + 1) / width - 1, (2 * y / QUARTERS + 1) / height - 1], -1)
    return fetch(planes, places, "bicubic")[:, 0]


def looked_up(planes, x, y):
    """Return single samples."""
    return Subsamples(planes, 1)(x, y, torch.zeros(1, dtype=torch.int32))[..., 0]


@pytest.mark.parametrize("size", [(16, 48), (33, 17)])
def test_is_cubic_interpolation(size):
    planes = torch.rand((2, 1, *size), generator=torch.Generator().manual_seed(0))
    height, width = size
    x = torch.arange(-40, 4 * width + 40).view(1, 1, -1).expand(2, -1, -1)
    y = torch.arange(-40, 4 * height + 40).view(1, -1, 1).expand(2, -1, -1)
    x, y = torch.broadcast_tensors(x, y)
    samples = Subsamples(planes, 3)
    place = torch.arange(3)
    got = samples(x, y, samples.offsets(place, place[:, None]))
    assert got.shape == (*x.shape, 9)
    for down in range(3):
        for across in range(3):
            expected = interpolated(planes, x + 4.0 * across, y + 4.0 * down)
            assert torch.allclose(got[..., 3 * down + across], expected, atol=2e-5)


def test_whole_samples_are_those_of_the_plane():
    plane = picture(32, 32)
    x, y = 4 * torch.arange(32).view(1, 1, -1), 4 * torch.arange(32).view(1, -1, 1)
    assert torch.equal(looked_up(plane, *torch.broadcast_tensors(x, y))[0], plane[0, 0])


@pytest.mark.parametrize("far", [10**6, -(10**6)])
def test_far_away_is_the_corner(far):
    plane = picture(32, 32)
    place = torch.tensor([[far]])
    corner = plane[0, 0, -1, -1] if far > 0 else plane[0, 0, 0, 0]
    assert torch.allclose(looked_up(plane, place, place), corner)

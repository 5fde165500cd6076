import numpy as np
import pytest
import torch
from models.tiny import smooth_image

from triode.models.layers.pca import principal_components


@pytest.fixture(scope="module")
def images():
    return [smooth_image(60, 80, seed=i) for i in range(4)]


def test_components_are_orthonormal(images):
    components, deviations = principal_components(images, 8, 24)
    flat = components.flatten(1)
    assert components.shape == (24, 3, 8, 8)
    assert components.dtype == deviations.dtype == torch.float32
    assert torch.allclose(flat @ flat.t(), torch.eye(24), atol=1e-5)


def test_components_are_dealt_in_turn(images):
    _, deviations = principal_components(images, 8, 24)
    groups = deviations.reshape(4, 6)
    assert bool((groups[:, :-1] >= groups[:, 1:]).all())  # Falling inside each group,
    dealt = groups.t().flatten()
    assert bool((dealt[:-1] >= dealt[1:]).all())  # and the strongest four first in each.


def test_leading_components_hold_the_most_energy(images):
    rng = np.random.default_rng(1)
    blocks = []
    for image in images:
        for _ in range(50):
            top, left = rng.integers(0, 52), rng.integers(0, 72)
            blocks.append(image[top : top + 8, left : left + 8].transpose(2, 0, 1).reshape(-1) / 255 - 0.5)
    x = torch.tensor(np.array(blocks), dtype=torch.float32)
    errors = []
    for count in (4, 12, 48, 192):
        flat = principal_components(images, 8, count)[0].flatten(1)
        errors.append(float((x - x @ flat.t() @ flat).square().mean()))
    assert errors == sorted(errors, reverse=True)
    assert errors[1] < 0.02 * float(x.square().mean())
    assert errors[-1] < 1e-10  # All of them are a basis.


def test_deviations_are_those_of_the_projections(images):
    flat_image = [np.full((40, 40, 3), 255, dtype=np.uint8)]
    components, deviations = principal_components(flat_image, 4, 4)
    # A constant 0.5 in each of 48 values is one component of length sqrt(48) / 2.
    assert float(deviations.max()) == pytest.approx(np.sqrt(48) / 2, rel=1e-5)
    assert sorted(deviations.tolist())[:3] == pytest.approx([0, 0, 0], abs=1e-6)
    strongest = components[int(deviations.argmax())]
    assert torch.allclose(strongest.abs(), torch.full_like(strongest, 48**-0.5), atol=1e-6)


def test_is_reproducible(images):
    one, two, other = (principal_components(images, 8, 8, seed=s)[0] for s in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_small_images_are_passed_over(images):
    small = [np.zeros((7, 100, 3), dtype=np.uint8), np.zeros((100, 7, 3), dtype=np.uint8)]
    expected = principal_components(images, 8, 8)[0]
    assert torch.equal(principal_components([*small, *images], 8, 8)[0], expected)
    principal_components([images[0][:8, :8]], 8, 8)
    for none in (small, []):
        with pytest.raises(ValueError, match="at least 8 x 8"):
            principal_components(none, 8, 8)


@pytest.mark.parametrize("count", [0, -4, 6, 196, 1000])
def test_count(images, count):
    with pytest.raises(ValueError, match="multiple of 4"):
        principal_components(images, 8, count)


def test_takes_an_iterator(images):
    assert torch.equal(principal_components(iter(images), 8, 8)[0], principal_components(images, 8, 8)[0])

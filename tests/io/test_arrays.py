import numpy as np
import pytest
import torch
from PIL import Image

from triode.io.arrays import to_picture
from triode.media import Picture

PIXELS = np.random.default_rng(3).integers(0, 256, (5, 7, 4), np.uint8)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_every_kind_of_object_gives_the_same(channels):
    pixels = PIXELS[:, :, :channels]
    chw = torch.from_numpy(pixels.copy()).permute(2, 0, 1)
    objects = [
        pixels,
        np.asfortranarray(pixels),
        Image.fromarray(np.ascontiguousarray(pixels[:, :, 0] if channels == 1 else pixels)),
        chw,
        chw.float() / 255,
        (chw.double() / 255).requires_grad_(),
        Picture(np.ascontiguousarray(pixels)),
    ]
    for image in objects:
        picture = to_picture(image)
        assert np.array_equal(picture.pixels, pixels)
        assert picture.pixels.flags.c_contiguous


def test_grey_without_an_axis():
    assert to_picture(PIXELS[:, :, 0]).pixels.shape == (5, 7, 1)


def test_half_precision():
    assert to_picture(torch.full((3, 2, 2), 0.5, dtype=torch.bfloat16)).pixels.ravel()[0] == 128


@pytest.mark.parametrize("shape", [(4,), (0, 4, 3), (4, 0), (4, 4, 5), (1, 4, 4, 3)])
def test_wrong_array_shapes(shape):
    with pytest.raises(ValueError, match=r"\(H, W"):
        to_picture(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("shape", [(4, 4), (5, 4, 4), (3, 0, 4), (1, 3, 4, 4)])
def test_wrong_tensor_shapes(shape):
    with pytest.raises(ValueError, match=r"\(C, H, W\)"):
        to_picture(torch.zeros(shape))


@pytest.mark.parametrize("value", [-0.01, 1.01, 255.0, float("nan")])
def test_floats_outside_0_to_1(value):
    with pytest.raises(ValueError, match="clamp"):
        to_picture(torch.full((3, 2, 2), value))


@pytest.mark.parametrize(
    "image", [np.zeros((2, 2), np.float32), np.zeros((2, 2), np.uint16), torch.zeros(3, 2, 2).int()]
)
def test_wrong_numbers(image):
    with pytest.raises(TypeError, match="uint8"):
        to_picture(image)


@pytest.mark.parametrize("image", [None, "photo.png", b"bytes", [[1]]])
def test_wrong_objects(image):
    with pytest.raises(TypeError, match=f"got {type(image).__name__}"):
        to_picture(image)


def test_strip():
    assert to_picture(Picture(PIXELS, icc=b"profile"), strip=True).icc is None
    assert to_picture(Picture(PIXELS, icc=b"profile")).icc == b"profile"

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageCms

from triode.errors import UnsupportedError
from triode.io.pil import picture_from_pil, picture_to_pil
from triode.media import Picture

RNG = np.random.default_rng(7)
DIRECT = {"1": 1, "L": 1, "LA": 2, "La": 2, "P": 3, "PA": 4, "RGB": 3, "RGBX": 3, "RGBA": 4, "RGBa": 4}
CONVERTED = {"CMYK": 3, "YCbCr": 3, "LAB": 3, "HSV": 3, "I": 1, "F": 1, "I;16": 1, "I;16L": 1, "I;16B": 1, "I;16N": 1}
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def noise(height, width, channels, dtype=np.uint8):
    shape = (height, width) if channels == 1 else (height, width, channels)
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def test_every_mode_of_pillow_is_known():
    assert {*Image.MODES} <= {*DIRECT, *CONVERTED}


@pytest.mark.parametrize(("mode", "channels"), DIRECT.items())
def test_modes_that_are_taken_as_they_are(mode, channels):
    picture = picture_from_pil(Image.new(mode, (5, 3)))
    assert picture.pixels.shape == (3, 5, channels)
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels.flags.c_contiguous


@pytest.mark.parametrize(("mode", "channels"), CONVERTED.items())
def test_modes_that_are_converted_on_request(mode, channels):
    image = Image.new(mode, (5, 3))
    with pytest.raises(UnsupportedError, match="--convert"):
        picture_from_pil(image)
    assert picture_from_pil(image, convert=True).pixels.shape == (3, 5, channels)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_pixels_arrive(channels):
    pixels = noise(7, 9, channels)
    found = picture_from_pil(Image.fromarray(pixels)).pixels
    assert np.array_equal(found, pixels.reshape(7, 9, channels))


def test_bands_of_large_images_join(monkeypatch):
    monkeypatch.setattr("triode.io.pil._BAND_PIXELS", 20)
    for shape in ((7, 9), (11, 40), (1, 1)):
        pixels = noise(*shape, 3)
        assert np.array_equal(picture_from_pil(Image.fromarray(pixels)).pixels, pixels)


def test_one_bit_is_black_and_white():
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    assert picture_from_pil(image).pixels.ravel().tolist() == [0, 255]


class TestTransparency:
    @pytest.mark.parametrize(("key", "alpha"), [(None, []), (b"\x80\xff", [128, 255]), (1, [255, 0])])
    def test_palette(self, key, alpha):
        image = Image.new("P", (2, 1))
        image.putpalette([10, 20, 30, 40, 50, 60])
        image.putpixel((1, 0), 1)
        if key is not None:
            image.info["transparency"] = key
        pixels = picture_from_pil(image).pixels
        assert pixels[..., :3].tolist() == [[[10, 20, 30], [40, 50, 60]]]
        assert pixels[..., 3:].ravel().tolist() == alpha

    @pytest.mark.parametrize(("mode", "key", "other"), [("L", 7, 8), ("RGB", (1, 2, 3), (1, 2, 4)), ("1", 0, 1)])
    def test_colour_key(self, mode, key, other):
        image = Image.new(mode, (2, 1), key)
        image.putpixel((1, 0), other)
        image.info["transparency"] = key
        picture = picture_from_pil(image)
        assert picture.has_alpha
        assert picture.pixels[0, :, -1].tolist() == [0, 255]

    def test_colour_key_of_16_bits(self):
        image = Image.fromarray(np.array([[300, 301]], np.uint16))
        image.info["transparency"] = 300
        assert picture_from_pil(image, convert=True).pixels[..., 1].tolist() == [[0, 255]]

    def test_premultiplied(self):
        image = Image.new("RGBA", (1, 1), (200, 100, 50, 255)).convert("RGBa")
        assert picture_from_pil(image).pixels.tolist() == [[[200, 100, 50, 255]]]


class TestConversion:
    @pytest.mark.parametrize("mode", ["I;16", "I;16B", "I"])
    def test_16_bits_are_rounded(self, mode):
        values = np.array([[0, 127, 128, 129, 257 * 5, 257 * 254 + 129, 65535]])
        dtype = {"I;16": "<u2", "I;16B": ">u2", "I": "<i4"}[mode]
        image = Image.frombytes(mode, (7, 1), values.astype(dtype).tobytes())
        assert picture_from_pil(image, convert=True).pixels.ravel().tolist() == [0, 0, 0, 1, 5, 255, 255]

    def test_floats_of_0_to_1(self):
        image = Image.fromarray(np.array([[0, 0.5, 1]], np.float32))
        assert picture_from_pil(image, convert=True).pixels.ravel().tolist() == [0, 128, 255]

    @pytest.mark.parametrize("value", [-0.1, 1.5, float("nan"), float("inf")])
    def test_other_floats_are_refused(self, value):
        with pytest.raises(UnsupportedError, match=r"0\.\.1"):
            picture_from_pil(Image.fromarray(np.array([[0, value]], np.float32)), convert=True)

    @pytest.mark.parametrize("value", [-1, 65536])
    def test_other_integers_are_refused(self, value):
        with pytest.raises(UnsupportedError, match=r"0\.\.65535.*" + str(value)):
            picture_from_pil(Image.fromarray(np.array([[0, value]], np.int32)), convert=True)

    def test_cmyk_loses_its_profile(self):
        image = Image.new("CMYK", (2, 2), (0, 255, 255, 0))
        image.info["icc_profile"] = b"no profile at all"
        picture = picture_from_pil(image, convert=True)
        assert picture.icc is None
        assert picture.pixels[0, 0].tolist() == [255, 0, 0]

    def test_lab_is_colour_managed(self):
        picture = picture_from_pil(Image.new("LAB", (1, 1), (255, 128, 128)), convert=True)
        assert picture.pixels.min() > 250

    def test_ycbcr(self):
        picture = picture_from_pil(Image.new("RGB", (1, 1), (200, 100, 50)).convert("YCbCr"), convert=True)
        assert np.abs(picture.pixels.astype(int).ravel() - [200, 100, 50]).max() <= 2


class TestMetadata:
    def test_kept_and_stripped(self):
        image = Image.new("RGB", (2, 2))
        image.info |= {"icc_profile": SRGB, "exif": b"Exif\0\0II*\0" + bytes(8), "xmp": b"<x/>"}
        picture = picture_from_pil(image)
        assert (picture.icc, picture.exif, picture.xmp) == (SRGB, b"II*\0" + bytes(8), b"<x/>")
        picture = picture_from_pil(image, strip=True)
        assert (picture.icc, picture.exif, picture.xmp) == (None, None, None)

    def test_orientation_is_applied_even_when_stripped(self):
        exif = Image.Exif()
        exif[0x0112] = 6
        image = Image.new("RGB", (5, 3))
        image.info["exif"] = exif.tobytes()
        assert picture_from_pil(image, strip=True).pixels.shape == (5, 3, 3)

    def test_a_profile_of_another_colour_space_is_dropped(self):
        image = Image.new("L", (2, 2))
        image.info["icc_profile"] = SRGB
        assert picture_from_pil(image).icc is None
        image.info["icc_profile"] = SRGB[:16] + b"GRAY" + SRGB[20:]
        assert picture_from_pil(image).icc is not None
        rgb = Image.new("RGB", (2, 2))
        rgb.info["icc_profile"] = image.info["icc_profile"]
        assert picture_from_pil(rgb).icc is None

    def test_text_becomes_bytes(self):
        image = Image.new("L", (2, 2))
        image.info["XML:com.adobe.xmp"] = "<x>é</x>"
        assert picture_from_pil(image).xmp == "<x>é</x>".encode()


def test_animations_are_refused_and_single_frames_are_not():
    frames = [Image.new("L", (4, 4), shade) for shade in (0, 80, 160)]
    file = io.BytesIO()
    frames[0].save(file, "GIF", save_all=True, append_images=frames[1:])
    with Image.open(file) as image, pytest.raises(UnsupportedError, match=r"animated \(3 frames\)"):
        picture_from_pil(image)
    assert picture_from_pil(frames[0]).height == 4


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4))))
def test_round_trip(pixels):
    picture = Picture(pixels, icc=b"profile", exif=b"II*\0" + bytes(8), xmp=b"<x/>")
    again = picture_from_pil(picture_to_pil(picture))
    assert np.array_equal(again.pixels, pixels)
    assert (again.icc, again.exif, again.xmp) == (picture.icc, picture.exif, picture.xmp)

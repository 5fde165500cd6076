import io

import numpy as np
import pytest
from eval.anchors.pictures import (
    check_curve,
    check_damage,
    check_facts,
    check_refusals,
    check_sizes,
    photo,
    psnr,
)
from PIL import AvifImagePlugin, Image, JpegImagePlugin, features

from triode.errors import CodecError, UnsupportedError
from triode.eval.bdrate import RatePoint, bd_rate
from triode.eval.coder import create_coder

CODERS = {
    "jpeg": ("libjpeg-turbo", (-1, 101, 50.5, float("nan"))),
    "webp": ("libwebp", (-1, 101)),
    "avif": ("libavif", (-1, 101, 50.5)),
    "jpeg2000": ("openjpeg", (-1, 0, 101)),
}


def coder_of(spec):
    if spec.startswith("avif") and not features.check("avif"):
        pytest.skip("Pillow without AVIF")
    return create_coder(spec, "image")


@pytest.mark.parametrize("name", CODERS)
class TestEvery:
    def test_codes_better_with_more_bytes(self, name):
        check_curve(coder_of(name))

    def test_codes_every_size(self, name):
        coder = coder_of(name)
        check_sizes(coder, coder.qualities[-1])

    def test_refuses_what_is_not_valid(self, name):
        check_refusals(coder_of(name), CODERS[name][1])

    def test_damage(self, name):
        coder = coder_of(name)
        check_damage(coder, coder.qualities[3])

    def test_facts(self, name):
        assert coder_of(name).name == name
        assert check_facts(coder_of(name), CODERS[name][0], "pillow").kind == "classical"

    def test_another_format_is_not_decoded(self, name):
        with pytest.raises(CodecError):
            coder_of(name).decode(png(photo(8, 8)))

    def test_without_its_library(self, name, monkeypatch):
        monkeypatch.setattr(features, "check", lambda feature: False)
        with pytest.raises(UnsupportedError, match=name):
            create_coder(name, "image")


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "kind", "options", "qualities"),
    [
        ("jpeg", "JPEG", {"optimize": True}, (5, 10, 20, 35, 50, 65, 80, 90, 95)),
        ("webp", "WEBP", {"method": 6}, (1, 10, 30, 50, 70, 85, 95)),
        ("avif", "AVIF", {"speed": 6, "subsampling": "4:4:4", "max_threads": 1}, (15, 30, 45, 60, 75, 85, 92)),
    ],
)
def test_is_what_plain_pillow_makes(name, kind, options, qualities):
    coder, pixels = coder_of(name), photo()
    assert coder.qualities == qualities
    for quality in qualities[::3]:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, kind, quality=quality, **options)
        data = coder.encode(pixels, quality)
        assert data == file.getvalue()
        np.testing.assert_array_equal(coder.decode(data), np.asarray(Image.open(file).convert("RGB")))


@pytest.mark.parametrize("spec", ["jpeg:progressive=yes", "jpeg:optimize=no", "webp:method=0", "avif:speed=10"])
def test_option_changes_the_file(spec):
    changed, usual = coder_of(spec), coder_of(spec.partition(":")[0])
    assert changed.encode(photo(), 50) != usual.encode(photo(), 50)
    assert changed.facts().options != usual.facts().options


@pytest.mark.parametrize(("subsampling", "code"), [("4:4:4", 0), ("4:2:2", 1), ("4:2:0", 2)])
def test_jpeg_subsampling(subsampling, code):
    data = create_coder(f"jpeg:subsampling={subsampling}", "image").encode(photo(), 80)
    assert JpegImagePlugin.get_sampling(Image.open(io.BytesIO(data))) == code


def test_avif_tuned_for_psnr_needs_fewer_bytes_for_it():
    """Its default is a perceptual tuning."""
    pixels, curves = photo(192, 192), []
    for spec in ("avif", "avif:tune=psnr"):
        coder = coder_of(spec)
        files = [coder.encode(pixels, quality) for quality in (30, 50, 70, 85)]
        curves.append([RatePoint(len(data), psnr(coder.decode(data), pixels)) for data in files])
    assert bd_rate(*curves).percent < 0


def test_avif_threads_are_set_while_decoding_only(monkeypatch):
    coder, seen = coder_of("avif:threads=3"), []
    data = coder.encode(photo(16, 16), 50)
    original = AvifImagePlugin._get_default_max_threads
    monkeypatch.setattr(AvifImagePlugin, "_get_default_max_threads", lambda: seen.append(original()) or seen[-1])
    coder.decode(data)
    assert seen == [3]
    assert AvifImagePlugin.DEFAULT_MAX_THREADS == 0


class TestJpeg2000:
    def test_reaches_the_psnr_that_is_asked_for(self):
        coder, pixels = create_coder("jpeg2000", "image"), photo(128, 192)
        for target in (30, 38):
            assert abs(psnr(coder.decode(coder.encode(pixels, target)), pixels) - target) < 1

    def test_reaches_the_rate_that_is_asked_for(self):
        coder, pixels = create_coder("jpeg2000:mode=rates", "image"), photo(128, 192)
        check_curve(coder, coder.qualities[1:], pixels)
        for rate in (0.4, 1.7):
            assert 8 * len(coder.encode(pixels, rate)) / (128 * 192) == pytest.approx(rate, rel=0.05)

    def test_wavelets(self):
        files = [create_coder(f"jpeg2000:irreversible={w}", "image").encode(photo(), 36) for w in ("yes", "no")]
        transformations = [data[data.index(b"\xff\x52") + 13] for data in files]  # COD marker: 0 is 9/7, 1 is 5/3
        assert transformations == [0, 1]


@pytest.mark.parametrize(("name", "mark"), [("webp", b"VP8 "), ("avif", b"mdat"), ("jpeg2000", b"jp2c")])
def test_payload_is_the_coded_picture(name, mark):
    """Its size stands beside the mark: after it in RIFF, before it in boxes, where the last box may say 0."""
    coder = coder_of(name)
    data = coder.encode(photo(), coder.qualities[2])
    at = data.index(mark)
    if name == "webp":
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        assert coder.payload_bytes(data) - size in (0, 1)  # chunks are padded to even sizes
    else:
        size = int.from_bytes(data[at - 4 : at], "big")
        assert coder.payload_bytes(data) == (size or len(data) - at + 4) - 8
    assert coder.parts(data)["header"] == len(data) - coder.payload_bytes(data)


def test_jpeg_has_no_parts():
    coder = create_coder("jpeg", "image")
    data = coder.encode(photo(16, 16), 50)
    assert (coder.payload_bytes(data), coder.parts(data)) == (len(data), {})


@pytest.mark.parametrize(("name", "width"), [("jpeg", 65536), ("webp", 16384)])
def test_too_large_for_the_format(name, width):
    with pytest.raises(CodecError, match=f"{width} x 1"):
        create_coder(name, "image").encode(np.zeros((1, width, 3), np.uint8), 50)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("jpeg:quality=5", "it has: optimize, progressive, subsampling"),
        ("jpeg:subsampling=4:1:1", "one of 4:4:4, 4:2:2, 4:2:0, but got '4:1:1'"),
        ("jpeg:optimize=1", "one of no, yes"),
        ("webp:method=7", "integer in 0..6"),
        ("webp:method=fast", "integer in 0..6, but got 'fast'"),
        ("avif:threads=0", "integer in 1..64"),
        ("jpeg2000:mode=bpp", "one of dB, rates"),
    ],
)
def test_options_are_checked(spec, message):
    with pytest.raises(ValueError, match=message):
        coder_of(spec)

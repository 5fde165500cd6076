import io
import sys

import numpy as np
import pytest
from eval.anchors.pictures import check_curve, check_damage, check_facts, check_refusals, check_sizes, photo

from triode.errors import UnsupportedError
from triode.eval.coder import create_coder

pillow_heif = pytest.importorskip("pillow_heif")
if not pillow_heif.libheif_info()["HEIF"]:
    pytest.skip("pillow-heif without an HEVC encoder", allow_module_level=True)

FAST = "heic:preset=ultrafast"


def test_codes_better_with_more_bytes():
    check_curve(create_coder("heic", "image"))


def test_codes_every_size():
    check_sizes(create_coder(FAST, "image"), 55)


def test_refuses_what_is_not_valid():
    check_refusals(create_coder(FAST, "image"), (-1, 101, 50.5))


def test_damage():
    check_damage(create_coder(FAST, "image"), 45)


def test_facts():
    facts = check_facts(create_coder(FAST, "image"), "libheif", "encoder", "decoder", "pillow-heif")
    assert facts.options == {"preset": "ultrafast", "tune": "ssim", "subsampling": "4:4:4", "threads": 1}
    assert "x265" in facts.versions["encoder"]


def test_payload_is_the_media_data():
    coder = create_coder(FAST, "image")
    data = coder.encode(photo(), 35)
    at = data.index(b"mdat")
    size = int.from_bytes(data[at - 4 : at], "big") or len(data) - at + 4
    assert coder.parts(data) == {"header": len(data) - size + 8, "payload": size - 8}


def test_another_reader_sees_the_same_and_the_chroma_that_was_asked_for():
    pixels = photo()
    for subsampling, code in (("4:4:4", 444), ("4:2:0", 420)):
        coder = create_coder(f"{FAST},subsampling={subsampling}", "image")
        data = coder.encode(pixels, 45)
        file = pillow_heif.open_heif(io.BytesIO(data))
        assert file.info["chroma"] == code
        np.testing.assert_array_equal(coder.decode(data), np.asarray(file))


@pytest.mark.parametrize("option", ["tune=psnr", "preset=slow"])
def test_option_changes_the_file(option):
    assert create_coder(f"heic:{option}", "image").encode(photo(), 35) != create_coder(FAST, "image").encode(
        photo(), 35
    )


def test_decoding_threads_are_set_back():
    before = pillow_heif.options.DECODE_THREADS
    coder = create_coder(f"{FAST},threads=2", "image")
    coder.decode(coder.encode(photo(16, 16), 35))
    assert before == pillow_heif.options.DECODE_THREADS


def test_options_are_checked():
    for spec, message in (("heic:preset=best", "one of ultrafast"), ("heic:speed=1", "it has: subsampling, preset")):
        with pytest.raises(ValueError, match=message):
            create_coder(spec, "image")


def test_without_the_package_or_its_encoder(monkeypatch):
    monkeypatch.setattr(pillow_heif, "libheif_info", lambda: {"HEIF": ""})
    with pytest.raises(UnsupportedError, match="no HEVC encoder"):
        create_coder("heic", "image")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UnsupportedError, match=r"triode\[bench\]"):
        create_coder("heic", "image")

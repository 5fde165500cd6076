"""The Pillow plug-in, over a stand-in for the codec."""

import io
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from abuse import corrupt
from cli import fake_codec
from PIL import Image, UnidentifiedImageError

import triode.adapters.pillow  # noqa: F401
from triode.container import SIGNATURE

ROOT = Path(__file__).resolve().parents[2]
PIXELS = np.random.default_rng(2).integers(0, 256, (6, 9, 4), np.uint8)


@pytest.fixture(autouse=True)
def codec(monkeypatch):
    monkeypatch.setitem(sys.modules, "triode.codecs.image", fake_codec)


def saved(image, **options):
    file = io.BytesIO()
    image.save(file, "TRIODE", **options)
    return file.getvalue()


def photo(channels=3):
    return Image.fromarray(PIXELS[:, :, 0] if channels == 1 else np.ascontiguousarray(PIXELS[:, :, :channels]))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sanity(tmp_path, channels):
    image = photo(channels)
    image.save(tmp_path / "a.tri", quality=60)
    with Image.open(tmp_path / "a.tri") as found:
        assert (found.format, found.size, found.mode) == ("TRIODE", (9, 6), image.mode)
        assert found.get_format_mimetype() == "image/x-triode"
        assert np.array_equal(found, image)
        assert np.array_equal(found.copy(), image), "it can be used again"
    assert fake_codec.ImageCodec().info((tmp_path / "a.tri").read_bytes()).rate_points == (38,)


def test_not_registered_before_it_is_imported(tmp_path):
    photo().save(tmp_path / "a.tri")
    code = (
        "import triode, PIL.Image as I\n"
        "try:\n    I.open('a.tri')\nexcept I.UnidentifiedImageError:\n    print('unknown')\n"
        "import triode.adapters.pillow\n"
        "print(I.open('a.tri').size)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("unknown\n(9, 6)\n", "")


def test_opening_decodes_nothing(monkeypatch):
    data = saved(photo())
    monkeypatch.setattr(fake_codec.ImageCodec, "decode", lambda *args: pytest.fail("decoded"))
    with Image.open(io.BytesIO(data)) as image:
        assert image.size == (9, 6)
    with Image.open(io.BytesIO(data[:-9])) as image:
        assert image.mode == "RGB"


def test_works_after_the_file_was_only_borrowed():
    file = io.BytesIO(saved(photo()))
    with Image.open(file) as image:
        image.load()
    assert not file.closed


@pytest.mark.filterwarnings("error::ResourceWarning")
def test_closes_files_that_it_opened(tmp_path):
    photo().save(tmp_path / "a.tri")
    image = Image.open(tmp_path / "a.tri")
    image.load()
    del image


class TestMetadata:
    TAGS = Image.Exif()
    TAGS[0x010F], TAGS[0x0112] = "Maker", 6

    def test_from_info(self):
        image = photo()
        image.info |= {"icc_profile": b"profile", "exif": self.TAGS.tobytes(), "xmp": b"<x/>"}
        with Image.open(io.BytesIO(saved(image))) as found:
            assert found.size == (6, 9), "upright"
            assert (found.info["icc_profile"], found.info["xmp"]) == (b"profile", b"<x/>")
            assert dict(found.getexif()) == {0x010F: "Maker", 0x0112: 1}
        assert image.info["icc_profile"] == b"profile", "saving changes nothing"

    def test_by_option(self):
        found = Image.open(io.BytesIO(saved(photo(), exif=self.TAGS, icc_profile=b"mine", xmp=b"<y/>")))
        assert (found.size, found.info["icc_profile"], found.info["xmp"]) == ((6, 9), b"mine", b"<y/>")

    def test_left_out(self):
        image = photo()
        image.info |= {"icc_profile": b"profile", "exif": self.TAGS.tobytes()}
        found = Image.open(io.BytesIO(saved(image, icc_profile=None, exif=b"")))
        assert (found.info, found.size) == ({}, (9, 6))


class TestSaving:
    def test_modes(self):
        assert Image.open(io.BytesIO(saved(photo().convert("P")))).mode == "RGB"
        assert Image.open(io.BytesIO(saved(Image.new("1", (2, 2))))).mode == "L"
        with pytest.raises(OSError, match="CMYK"):
            saved(Image.new("CMYK", (2, 2)))
        assert Image.open(io.BytesIO(saved(Image.new("CMYK", (2, 2)), convert=True))).mode == "RGB"

    def test_errors_leave_no_file(self, tmp_path):
        with pytest.raises(OSError, match=r"missing\.v1"):
            photo().save(tmp_path / "a.tri", model="missing.v1")
        assert list(tmp_path.iterdir()) == []

    def test_targets(self):
        with pytest.raises(OSError, match="99 bytes cannot be met"):
            saved(photo(), size=99)
        with pytest.raises(ValueError, match="at most one"):
            saved(photo(), quality=5, bpp=1)


class TestBroken:
    def test_not_ours(self):
        for data in (b"", b"hello world, this is text", SIGNATURE[:7], b"\x89TRI\n\x1a\n" + bytes(40)):
            with pytest.raises(UnidentifiedImageError):
                Image.open(io.BytesIO(data), formats=["TRIODE"])

    def test_every_cut_is_an_oserror(self):
        data = saved(photo(), xmp=b"<x/>")
        for name, damaged in corrupt.truncations(data):
            with pytest.raises(OSError):  # noqa: PT011  # also UnidentifiedImageError
                pytest.fail(f"{name}: {Image.open(io.BytesIO(damaged)).load()}")

    def test_every_flip_is_an_oserror(self):
        data = saved(photo(), xmp=b"<x/>")
        for name, damaged in corrupt.bit_flips(data):
            with pytest.raises(OSError):  # noqa: PT011
                pytest.fail(f"{name}: {Image.open(io.BytesIO(damaged)).load()}")

    def test_random_bytes_behind_the_signature(self):
        for seed in range(100):
            with pytest.raises(OSError, match="cannot open this Triode file"):
                Image.open(io.BytesIO(SIGNATURE + random.Random(seed).randbytes(200)))

    def test_bombs(self, monkeypatch):
        data = saved(Image.new("L", (300, 300)))
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300 * 300 // 2 - 1)
        with pytest.raises(Image.DecompressionBombError):
            Image.open(io.BytesIO(data))

import contextlib
import io
import random
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from triode.errors import (
    BitstreamError,
    CodecError,
    LimitExceededError,
    TruncatedError,
    UnsupportedError,
)
from triode.io.image import WRITABLE, _refuse_deep, find_format, read_picture, write_picture
from triode.media import Picture

RNG = np.random.default_rng(11)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY = SRGB[:16] + b"GRAY" + SRGB[20:]
XMP = b'<?xpacket?><x:xmpmeta xmlns:x="adobe:ns:meta/"/>'
SMOOTH = np.add.outer(np.arange(16) * 5, np.arange(24) * 3).astype(np.uint8)
LOSSLESS = {"PNG", "WEBP", "TIFF", "PPM", "BMP"}


def exif(**more):
    tags = Image.Exif()
    tags[0x010F] = "Maker"
    for tag, value in more.items():
        tags[int(tag[1:], 16)] = value
    return tags.tobytes()[6:]


def saved(image, fmt, **options):
    file = io.BytesIO()
    image.save(file, fmt, **options)
    return file.getvalue()


def picture(channels, **metadata):
    planes = [SMOOTH, SMOOTH // 2, 255 - SMOOTH][: 1 if channels <= 2 else 3]
    if channels in (2, 4):
        planes.append(RNG.integers(0, 256, SMOOTH.shape, np.uint8))
    return Picture(np.stack(planes, 2), **metadata)


def read(data, **options):
    return read_picture(io.BytesIO(data), **options)


class TestRead:
    def test_path_file_and_pipe(self, tmp_path):
        class Pipe(io.BytesIO):
            def seekable(self):
                return False

        path = tmp_path / "no suffix"
        pixels = RNG.integers(0, 256, (5, 4, 3), np.uint8)
        path.write_bytes(saved(Image.fromarray(pixels), "PNG"))
        for source in (path, io.BytesIO(path.read_bytes()), Pipe(path.read_bytes())):
            assert np.array_equal(read_picture(source).pixels, pixels)

    @pytest.mark.parametrize("fmt", ["PNG", "JPEG", "WEBP", "AVIF", "GIF", "TIFF", "BMP", "PPM", "TGA", "JPEG2000"])
    def test_one_pixel(self, fmt):
        assert read(saved(Image.new("RGB", (1, 1), (9, 9, 9)), fmt)).pixels.shape[:2] == (1, 1)

    @pytest.mark.parametrize("fmt", ["PNG", "WEBP", "TIFF", "JPEG", "AVIF"])
    @pytest.mark.parametrize("how", range(1, 9))
    def test_orientation(self, fmt, how):
        tags = Image.Exif()
        tags[0x0112], tags[0x010F] = how, "Maker"
        options = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100}}.get(fmt, {})
        data = saved(Image.fromarray(picture(3).pixels), fmt, exif=tags, **options)
        with Image.open(io.BytesIO(data)) as image:
            expected = np.asarray(ImageOps.exif_transpose(image))
        found = read(data)
        assert np.array_equal(found.pixels, expected)
        assert found.pixels.shape == ((16, 24, 3) if how < 5 else (24, 16, 3))
        kept = Image.Exif()
        kept.load(found.exif)
        assert kept[0x010F] == "Maker"
        assert kept.get(0x0112, 1) == 1

    def test_orientation_by_xmp_alone(self):
        xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="6"/>'
        found = read(saved(Image.fromarray(picture(3).pixels), "WEBP", lossless=True, xmp=xmp))
        assert found.pixels.shape == (24, 16, 3)
        assert found.xmp == xmp.replace(b"6", b"1")

    def test_maker_notes_stay_byte_for_byte(self):
        block = exif(x0112=6) + b"behind everything: the maker's notes"
        found = read(saved(Image.new("RGB", (4, 4)), "PNG", exif=b"Exif\0\0" + block))
        assert found.exif.endswith(b"maker's notes")
        assert len(found.exif) == len(block)

    def test_exif_of_tiff_has_no_storage_tags(self):
        tags = Image.Exif()
        tags[0x010F], tags[0x8769] = "Maker", {0x829A: 0.5}
        tags.load(tags.tobytes())
        found = read(saved(Image.new("RGB", (4, 4)), "TIFF", exif=tags))
        kept = Image.Exif()
        kept.load(found.exif)
        assert set(kept) == {0x010F, 0x8769}
        assert kept.get_ifd(0x8769)[0x829A] == 0.5
        assert read(saved(Image.new("RGB", (4, 4)), "TIFF")).exif is None

    @pytest.mark.parametrize(
        ("fmt", "options"),
        [("GIF", {}), ("PNG", {}), ("WEBP", {}), ("AVIF", {}), ("TIFF", {})],
    )
    def test_several_frames(self, fmt, options):
        frames = [Image.new("RGB", (16, 16), (shade, 0, 0)) for shade in (0, 120, 250)]
        data = saved(frames[0], fmt, save_all=True, append_images=frames[1:], **options)
        with pytest.raises(UnsupportedError, match="3 pages" if fmt == "TIFF" else r"animated \(3 frames\)"):
            read(data)

    def test_the_first_picture_of_a_phone_photo(self):
        main, gain = Image.new("RGB", (16, 16), (200, 0, 0)), Image.new("RGB", (8, 8))
        data = saved(main, "MPO", save_all=True, append_images=[gain])
        assert read(data).pixels.shape == (16, 16, 3)

    def test_deep_colour_is_converted_on_request(self):
        rows = np.array([[[0, 257, 65535], [128 * 257, 1, 2]]], ">u2")
        tiff = saved(Image.new("RGB", (2, 1)), "TIFF")  # only its layout matters
        assert read(tiff).pixels.shape == (1, 2, 3)
        deep = _png16(rows)
        with pytest.raises(UnsupportedError, match=r"16-bit.*--convert"):
            read(deep)
        assert read(deep, convert=True).pixels.tolist() == [[[0, 1, 255], [128, 0, 0]]]

    @pytest.mark.parametrize("fmt", ["TIFF", "PNG", "PPM"])
    def test_deep_grey(self, fmt):
        data = saved(Image.fromarray(np.full((2, 2), 257 * 9, np.uint16)), fmt)
        with pytest.raises(UnsupportedError, match="--convert"):
            read(data)
        assert read(data, convert=True).pixels.ravel().tolist() == [9] * 4

    def test_deep_jpeg_2000(self):
        data = saved(Image.fromarray(np.full((8, 8), 257 * 9, np.uint16)), "JPEG2000")
        with pytest.raises(UnsupportedError, match="--convert"):
            read(data)
        assert read(data, convert=True).pixels.ravel()[0] == 9

    def test_deep_avif(self):
        data = bytearray(saved(Image.new("RGB", (16, 16)), "AVIF"))
        assert read(bytes(data)).pixels.shape == (16, 16, 3)
        # Pillow writes 8 bits only, and libavif refuses a file in which this bit alone says otherwise.
        data[data.index(b"av1C") + 6] |= 0x40
        with pytest.raises(UnsupportedError, match="more than 8 bits"):
            _refuse_deep(io.BytesIO(data), "AVIF")

    def test_cmyk_jpeg(self):
        data = saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", icc_profile=b"x" * 200)
        with pytest.raises(UnsupportedError, match="CMYK"):
            read(data)
        found = read(data, convert=True)
        assert found.icc is None
        assert found.pixels[0, 0, 0] > 240


def _png16(rows):
    """Write a PNG of 16-bit RGB, which Pillow only reads."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, _ = rows.shape
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b"")


class TestLimits:
    def test_bound(self):
        data = saved(Image.new("1", (20, 10)), "PNG")
        assert read(data, max_pixels=200).width == 20
        with pytest.raises(LimitExceededError, match=r"20 x 10 = 200 pixels.*max_pixels=199"):
            read(data, max_pixels=199)
        with pytest.raises(LimitExceededError):
            read(data, max_pixels=50)

    def test_pillows_bound_is_lifted_for_the_call_only(self, monkeypatch):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
        data = saved(Image.new("1", (20, 10)), "PNG")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert read(data).width == 20
            assert read(data, max_pixels=None).width == 20
        with pytest.raises(UnsupportedError):
            read(b"not an image")
        assert Image.MAX_IMAGE_PIXELS == 30
        with pytest.raises(Image.DecompressionBombError):
            Image.open(io.BytesIO(data))

    def test_100_megapixels(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = read(saved(Image.new("1", (10_000, 10_000), 1), "PNG"))
        assert found.pixels.shape == (10_000, 10_000, 1)
        assert found.pixels.min() == 255

    def test_memory(self, monkeypatch):
        def load(self):
            raise MemoryError

        monkeypatch.setattr("PIL.ImageFile.ImageFile.load", load)
        with pytest.raises(LimitExceededError, match="memory"):
            read(saved(Image.new("L", (2, 2)), "PNG"))


FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "AVIF", "TIFF", "BMP", "PPM", "JPEG2000")


@pytest.mark.filterwarnings("ignore")
class TestBroken:
    @pytest.mark.parametrize("fmt", FORMATS)
    def test_cut(self, fmt):
        data = saved(Image.fromarray(RNG.integers(0, 256, (12, 12, 3), np.uint8)), fmt, exif=exif())
        refused = 0
        for end in [*range(64), *range(64, len(data), 1 + len(data) // 60)]:
            try:
                read(data[:end])
            except CodecError:
                refused += 1
        assert refused > 60

    @pytest.mark.parametrize("fmt", FORMATS)
    def test_changed(self, fmt):
        data = saved(Image.fromarray(RNG.integers(0, 256, (12, 12, 3), np.uint8)), fmt, exif=exif())
        random_ = random.Random(5)
        for _ in range(150):
            damaged = bytearray(data)
            for _ in range(random_.randint(1, 3)):
                damaged[random_.randrange(min(len(data), 400))] = random_.randrange(256)
            with contextlib.suppress(CodecError):
                assert read(bytes(damaged), max_pixels=1 << 20).pixels.ndim == 3

    def test_random(self):
        for seed in range(40):
            with pytest.raises(UnsupportedError, match="it begins with"):
                read(b"\x13" + random.Random(seed).randbytes(300))

    def test_messages(self):
        png = saved(Image.fromarray(RNG.integers(0, 256, (12, 12, 3), np.uint8)), "PNG")
        with pytest.raises(TruncatedError, match="empty"):
            read(b"")
        with pytest.raises(TruncatedError, match="PNG image is cut short"):
            read(png[:-40])
        with pytest.raises(TruncatedError, match="image is cut short"):
            read(png[:20])
        with pytest.raises(BitstreamError, match="PNG image is damaged"):
            read(png[:12] + b"JUNK" + png[16:])
        with pytest.raises(BitstreamError, match="damaged"):
            read(png[:60] + b"\0\0\0\0" + png[64:])
        with pytest.raises(UnsupportedError, match="not an image of a known format: it begins with 68 65 6c 6c 6f"):
            read(b"hello")

    def test_formats_that_start_programs(self):
        eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
        with pytest.raises(UnsupportedError, match="EPS files hold no pixels"):
            read(eps)

    def test_errors_of_the_system_stay(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            read_picture(tmp_path / "none.png")

        class Disk(io.BytesIO):
            def read(self, size=-1):
                if self.tell() > 50:
                    raise OSError(5, "Input/output error")
                return super().read(size)

        data = saved(Image.fromarray(RNG.integers(0, 256, (99, 99, 3), np.uint8)), "PNG")
        with pytest.raises(OSError, match="Input/output"):
            read_picture(Disk(data))


class TestWrite:
    @pytest.mark.parametrize("suffix", [suffix for kind in WRITABLE for suffix in kind.suffixes if suffix != ".pgm"])
    @pytest.mark.parametrize("channels", [1, 2, 3, 4])
    def test_round_trip(self, tmp_path, suffix, channels):
        original, kind = picture(channels), find_format(suffix)
        path = tmp_path / f"a{suffix}"
        if original.has_alpha and not kind.alpha:
            with pytest.raises(UnsupportedError, match=f"{kind.name} has no alpha"):
                write_picture(original, path)
            assert list(tmp_path.iterdir()) == []
            return
        write_picture(original, path)
        found = read_picture(path).pixels.astype(int)
        expected = original.pixels
        if original.is_grey and found.shape[2] > expected.shape[2]:  # WebP has no grey, nor has .ppm
            alpha = expected[:, :, 1:]
            expected = np.concatenate([np.repeat(expected[:, :, :1], 3, axis=2), alpha], axis=2)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= (0 if kind.name in LOSSLESS else 24)

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".avif", ".tif"])
    def test_metadata(self, tmp_path, suffix):
        original = picture(3, icc=SRGB, exif=exif(x0112=1), xmp=XMP)
        write_picture(original, tmp_path / f"a{suffix}")
        found = read_picture(tmp_path / f"a{suffix}")
        assert (found.icc, found.xmp) == (SRGB, XMP)
        kept = Image.Exif()
        kept.load(found.exif)
        assert kept[0x010F] == "Maker"

    def test_grey_profile(self, tmp_path):
        write_picture(picture(1, icc=GREY), tmp_path / "a.png")
        assert read_picture(tmp_path / "a.png").icc == GREY

    def test_storage_tags_do_not_spoil_a_tiff(self, tmp_path):
        write_picture(picture(3, exif=exif(x0100=9999, x0101=9999, x0111=1)), tmp_path / "a.tif")
        assert np.array_equal(read_picture(tmp_path / "a.tif").pixels, picture(3).pixels)

    def test_damaged_exif(self, tmp_path):
        original = picture(3, exif=b"XX not a TIFF header")
        with pytest.warns(UserWarning, match="EXIF block cannot be read"):
            write_picture(original, tmp_path / "a.tif")
        write_picture(original, tmp_path / "a.png")
        assert read_picture(tmp_path / "a.png").exif == original.exif

    def test_too_much_for_jpeg(self, tmp_path):
        original = picture(3, exif=exif() + bytes(70_000), xmp=XMP + b" " * 70_000)
        with pytest.warns(UserWarning, match="do not fit into a JPEG") as caught:
            write_picture(original, tmp_path / "a.jpg")
        assert len(caught) == 2
        found = read_picture(tmp_path / "a.jpg")
        assert (found.exif, found.xmp) == (None, None)

    def test_to_files_and_pipes(self):
        class Pipe(io.RawIOBase):
            data = b""

            def writable(self):
                return True

            def write(self, data):
                Pipe.data += bytes(data)
                return len(data)

        file = io.BytesIO()
        for fmt in ("png", "tif"):
            Pipe.data = b""
            write_picture(picture(3), Pipe(), fmt)
            assert np.array_equal(read(Pipe.data).pixels, picture(3).pixels)
        write_picture(picture(3), file)
        assert file.getvalue().startswith(b"\x89PNG")

    def test_same_input_same_bytes(self):
        first, second = io.BytesIO(), io.BytesIO()
        for file in (first, second):
            write_picture(picture(3, icc=SRGB, exif=exif(), xmp=XMP), file)
        assert first.getvalue() == second.getvalue()

    def test_pgm_and_ppm(self, tmp_path):
        write_picture(picture(1), tmp_path / "a.pgm")
        assert (tmp_path / "a.pgm").read_bytes().startswith(b"P5")
        write_picture(picture(1), tmp_path / "a.ppm")
        assert (tmp_path / "a.ppm").read_bytes().startswith(b"P6")
        write_picture(picture(1), tmp_path / "a.pnm")
        assert (tmp_path / "a.pnm").read_bytes().startswith(b"P5")
        with pytest.raises(UnsupportedError, match="ppm"):
            write_picture(picture(3), tmp_path / "b.pgm")

    @pytest.mark.parametrize("name", ["gif", ".GIF", "tri", "x"])
    def test_unknown_formats(self, name):
        with pytest.raises(UnsupportedError, match=r"known are \.png \.jpg"):
            find_format(name)

    def test_formats_are_found(self):
        assert find_format("").name == find_format("PNG").name == find_format(".png").name == "PNG"
        assert find_format("jpeg").name == find_format(".JPG").name == "JPEG"

    def test_no_partial_file(self, tmp_path, monkeypatch):
        def save(self, file, *args, **options):
            file.write(b"half")
            raise OSError(28, "No space left on device")

        (tmp_path / "a.png").write_bytes(b"old")
        monkeypatch.setattr(Image.Image, "save", save)
        with pytest.raises(OSError, match="No space"):
            write_picture(picture(3), tmp_path / "a.png")
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]

    def test_what_pillow_cannot_write(self, tmp_path):
        wide = Picture(np.zeros((1, 70_000, 3), np.uint8))
        with pytest.raises(UnsupportedError, match="cannot be written as JPEG"):
            write_picture(wide, tmp_path / "a.jpg")
        assert list(Path(tmp_path).iterdir()) == []

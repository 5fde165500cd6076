import io
from typing import get_args

import numpy as np
import pytest
from cli.conftest import make_photo
from cli.fake_codec import ImageCodec
from PIL import Image

FIELDS = {
    "input": str,
    "output": str,
    "media": str,
    "model": str,
    "quality": float,
    "rate_point": int,
    "bytes": int,
    "payload_bytes": int,
    "bpp": float,
    "width": int,
    "height": int,
    "seconds": float,
}


def test_json_schema(triode, photo):
    [found] = triode("encode", photo, "--json", "-q", "60").objects
    assert {key: type(value) for key, value in found.items()} == FIELDS | {"effort": str}
    size = photo.with_suffix(".tri").stat().st_size
    assert found["bytes"] == size > found["payload_bytes"]
    assert found["bpp"] == round(8 * size / 96, 6)
    assert (found["width"], found["height"], found["rate_point"]) == (12, 8, 38)
    [found] = triode("decode", photo.with_suffix(".tri"), "-o", "back.png", "--json").objects
    assert {key: type(value) for key, value in found.items()} == FIELDS
    assert found["bytes"] == size


@pytest.mark.parametrize("effort", ["none", "low", "high"])
def test_effort_reaches_the_codec(triode, photo, monkeypatch, effort):
    asked = []
    encode = ImageCodec.encode
    monkeypatch.setattr(ImageCodec, "encode", lambda *a, **k: asked.append(k["effort"]) or encode(*a, **k))
    [found] = triode("encode", photo, "--json", "--effort", effort).objects
    assert [found["effort"]] == asked == [effort]


def test_unknown_effort(triode, photo, files):
    result = triode("encode", photo, "--effort", "extreme")
    assert (result.code, "'extreme'" in result.err, files()) == (2, True, ["photo.png"])


def test_efforts_are_those_of_the_codec():
    from triode.cli.encode import Effort
    from triode.codecs.refine import SCHEDULES

    assert set(get_args(Effort)) == {"none", *SCHEDULES}


def test_psnr_is_told_when_it_was_searched(triode, photo):
    [found] = triode("encode", photo, "--json", "--psnr", "35").objects
    assert found["psnr"] == 35.25


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_there_and_back(triode, folder, mode):
    photo = make_photo("photo.png", mode=mode)
    assert triode("encode", photo, "--verify").code == 0
    assert triode("decode", "photo.tri", "-o", "back.png").code == 0
    before, after = Image.open(photo), Image.open("back.png")
    assert before.mode == after.mode == mode
    assert np.array_equal(before, after)


def test_metadata_is_kept_or_stripped(triode, folder):
    tags = Image.Exif()
    tags[0x010F], tags[0x0112] = "Maker", 6
    make_photo("photo.png", exif=tags)
    assert triode("encode", "photo.png", "--verify").code == 0
    assert triode("decode", "photo.tri", "-o", "back.png").code == 0
    with Image.open("back.png") as back:
        assert back.size == (8, 12)
        assert dict(back.getexif()) == {0x010F: "Maker", 0x0112: 1}
    assert triode("encode", "photo.png", "-f", "--strip").code == 0
    assert ImageCodec().info((folder / "photo.tri").read_bytes()).metadata == ()


@pytest.mark.parametrize(("limit", "code"), [("95", 4), ("96", 0), ("0.1k", 0)])
def test_max_pixels(triode, photo, limit, code):
    assert triode("encode", photo, "--max-pixels", limit).code == code


def test_strict_limits(triode, folder):
    Image.new("1", (6000, 6000)).save("large.png")
    assert triode("encode", "large.png", "--strict-limits").code == 4
    result = triode("encode", "large.png", "--strict-limits", "--max-pixels", "36M", "-o", "large.tri")
    assert result.code == 0
    assert triode("decode", "large.tri", "-o", "back.png", "--strict-limits").code == 4
    assert triode("info", "large.tri", "--strict-limits").code == 4
    assert triode("verify", "large.tri", "--strict-limits").code == 4


class TestFailuresLeaveNothing:
    @pytest.mark.parametrize(
        ("model", "code"),
        [("crash.v1", 1), ("missing.v1", 5), ("memory.v1", 4), ("interrupt.v1", 130)],
    )
    @pytest.mark.parametrize("force", [True, False])
    def test_in_the_codec(self, triode, photo, files, model, code, force):
        if force:
            (photo.parent / "photo.tri").write_bytes(b"old")
        before = files()
        result = triode("encode", photo, "-m", model, *(["-f"] if force else []))
        assert result.code == code
        assert files() == before
        if force:
            assert (photo.parent / "photo.tri").read_bytes() == b"old"

    def test_in_verification(self, triode, folder, files):
        make_photo("photo.png", mode="RGBA")
        assert triode("encode", "photo.png", "-m", "liar.v1", "--verify").code == 6
        assert files() == ["photo.png"]
        result = triode("encode", "photo.png", "-m", "liar.v1", "--verify", "-o", "-")
        assert (result.code, result.data) == (6, b"")

    def test_on_a_full_disk(self, triode, photo, files, monkeypatch):
        class Full(io.BytesIO):
            def write(self, data):
                raise OSError(28, "No space left on device")

        real = type(photo).open

        def open_(self, mode="r", *args, **options):
            if "w" not in mode:
                return real(self, mode, *args, **options)
            self.touch()
            return Full()

        monkeypatch.setattr(type(photo), "open", open_)
        result = triode("encode", photo)
        assert (result.code, "No space left" in result.err) == (1, True)
        assert files() == ["photo.png"]

    def test_when_the_disk_cannot_be_written(self, triode, photo):
        result = triode("encode", photo, "-o", "missing/photo.tri")
        assert (result.code, result.err) == (1, f"triode: {photo}: missing: No such file or directory\n")


class TestStandardStreams:
    def test_pipes(self, triode, photo):
        encoded = triode("encode", "-", stdin=photo.read_bytes())
        assert encoded.code == 0
        decoded = triode("decode", "-", stdin=encoded.data)
        assert np.array_equal(Image.open(io.BytesIO(decoded.data)), Image.open(photo))
        assert "standard input -> standard output" in decoded.err

    def test_to_a_file(self, triode, photo, files):
        [found] = triode("encode", "-", "-o", "x.tri", "--json", stdin=photo.read_bytes()).objects
        assert (found["input"], found["output"]) == ("-", "x.tri")
        assert files() == ["photo.png", "x.tri"]

    def test_formats(self, triode, photo):
        encoded = triode("encode", photo, "-o", "-", "--quiet")
        assert encoded.err == ""
        for fmt, start in (("ppm", b"P6"), (".JPG", b"\xff\xd8"), ("png", b"\x89PNG")):
            assert triode("decode", "-", "--format", fmt, stdin=encoded.data).data.startswith(start)

    def test_terminals(self, triode, photo):
        assert triode("encode", "-", stdin_terminal=True).code == 2
        assert triode("decode", "-", stdin_terminal=True).code == 2
        result = triode("encode", photo, "-o", "-", terminal=True)
        assert (result.code, result.data) == (2, b"")
        assert triode("encode", photo, "-m", "crash.v1", "-o", "-", terminal=True).code == 2, "refused before the work"

    def test_endless_input(self, triode, monkeypatch):
        monkeypatch.setattr("triode.cli.common._PIPE_BYTES", 1000)
        assert triode("encode", "-", stdin=bytes(1001)).code == 4
        result = triode("decode", "-", stdin=bytes(1001))
        assert (result.code, "not a Triode file" in result.err) == (3, True)

    def test_nothing(self, triode):
        assert triode("encode", "-").code == 3
        assert triode("decode", "-").code == 3
        assert triode("info", "-").code == 3


def test_media_by_content_not_by_name(triode, photo):
    photo.rename("photo.jpg")
    assert triode("encode", "photo.jpg").code == 0


@pytest.mark.parametrize(
    ("start", "kind"), [(b"\x1a\x45\xdf\xa3" + bytes(40), "Matroska"), (b"\0\0\0\x20ftypisom" + bytes(40), "MPEG-4")]
)
def test_other_media(triode, folder, start, kind):
    (folder / "media").write_bytes(start)
    result = triode("encode", "media")
    assert (result.code, "not video of a known format" in result.err) == (1, True), kind


def test_same_input_same_bytes(triode, photo):
    assert triode("encode", photo, "-o", "-").data == triode("encode", photo, "-o", "-").data

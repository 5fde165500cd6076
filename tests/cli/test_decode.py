import numpy as np
import pytest
from cli.conftest import make_photo
from PIL import Image


@pytest.fixture
def coded(triode, photo):
    assert triode("encode", photo).code == 0
    photo.unlink()
    return photo.with_suffix(".tri")


@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "bmp", "ppm", "jpg", "avif"])
def test_format_by_suffix(triode, coded, suffix):
    assert triode("decode", coded, "-o", f"back.{suffix}").code == 0
    with Image.open(f"back.{suffix}") as image:
        assert image.size == (12, 8)
        assert image.format.lower().startswith({"tif": "tiff", "jpg": "jpeg"}.get(suffix, suffix))


def test_format_option(triode, coded, files):
    assert triode("decode", coded, "--format", "webp").code == 0
    assert files() == ["photo.tri", "photo.webp"]
    assert triode("decode", coded, "--format", "png", "-o", "odd.name").code == 0
    assert Image.open("odd.name").format == "PNG"
    assert triode("decode", coded, "--format", "gif").code == 2


def test_names(triode, coded, files):
    coded.rename("photo.jpg.tri")
    assert triode("decode", "photo.jpg.tri").code == 0
    (coded.parent / "photo.jpg.tri").rename("noext")
    assert triode("decode", "noext").code == 0
    assert files() == ["noext", "noext.png", "photo.jpg.png"]


def test_tree(triode, folder, files):
    for name in ("in/a.png", "in/sub/b.png"):
        make_photo(name)
    assert triode("encode", "-r", "in", "--output-dir", "tri").code == 0
    assert triode("decode", "-r", "tri", "--output-dir", "out").code == 0
    assert [name for name in files() if name.startswith("out")] == ["out/a.png", "out/sub/b.png"]
    assert np.array_equal(Image.open("out/sub/b.png"), Image.open("in/sub/b.png"))


def test_every_cut_fails_with_3_and_leaves_nothing(triode, coded, files):
    data = coded.read_bytes()
    for end in range(0, len(data), 7):
        (coded.parent / "cut.tri").write_bytes(data[:end])
        result = triode("decode", "cut.tri", "-o", "cut.png")
        assert (result.code, result.data) == (3, b"")
    assert files() == ["cut.tri", "photo.tri"]


def test_a_broken_file_does_not_stop_the_others(triode, coded, files):
    data = coded.read_bytes()
    (coded.parent / "a.tri").write_bytes(data[:30])
    (coded.parent / "b.tri").write_bytes(data)
    result = triode("decode", "a.tri", "b.tri", "--json", "--output-dir", "out")
    assert result.code == 1
    first, second = result.objects
    assert (first["exit_code"], first["kind"], first["output"]) == (3, "TruncatedError", "out/a.png")
    assert second["output"] == "out/b.png"
    assert files() == ["a.tri", "b.tri", "out/b.png", "photo.tri"]


def test_symbols_that_do_not_match(triode, coded):
    data = coded.read_bytes()
    from abuse.samples import chunk, split

    chunks = split(data)
    broken = [
        (kind, bytes([payload[0], payload[1] ^ 1]) + payload[2:] if kind == b"DATA" else payload)
        for kind, payload in chunks
    ]
    coded.write_bytes(data[:8] + b"".join(chunk(kind, payload) for kind, payload in broken))
    result = triode("verify", coded)
    assert (result.code, "checksum" in result.err) == (3, True)
    assert triode("decode", coded).code == 3

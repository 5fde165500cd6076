import io

import numpy as np
import pytest
from eval.anchors.pictures import check_curve, check_facts, check_refusals, check_sizes, photo, psnr

from triode.errors import BitstreamError, CodecError, UnsupportedError
from triode.eval.anchors import vvc
from triode.eval.anchors.ffmpeg import has_decoder, has_encoder, run_ffmpeg
from triode.eval.anchors.vvc import from_yuv420, to_yuv420
from triode.eval.coder import create_coder

pytest.importorskip("imageio_ffmpeg")
if not (has_encoder("libvvenc") and has_decoder("vvc")):
    pytest.skip("FFmpeg without VVC", allow_module_level=True)

FAST = "vvc:preset=faster"


def flat(colour, height=16, width=16):
    return np.full((height, width, 3), colour, np.uint8)


class TestConversion:
    def test_greys_come_back(self):
        pixels = np.repeat(np.arange(256, dtype=np.uint8), 16).reshape(16, 256)[..., None].repeat(3, 2)
        np.testing.assert_array_equal(from_yuv420(to_yuv420(pixels), 16, 256), pixels)

    @pytest.mark.parametrize(
        ("colour", "expected"),
        [  # Rec. ITU-R BT.709-6, items 3.2 and 3.3, on full range of 10 bits, by hand
            ((0, 0, 0), (0, 512, 512)),
            ((255, 255, 255), (1023, 512, 512)),
            ((255, 0, 0), (217, 395, 1023)),
            ((0, 255, 0), (732, 118, 47)),
            ((0, 0, 255), (74, 1023, 465)),
        ],
    )
    def test_known_colours(self, colour, expected):
        samples = np.frombuffer(to_yuv420(flat(colour)), "<u2")
        found = samples[0], samples[256], samples[320]
        np.testing.assert_allclose(found, expected, atol=1)

    def test_flat_colours_come_back(self):
        rng = np.random.default_rng(0)
        for colour in rng.integers(0, 256, (50, 3)):
            found = from_yuv420(to_yuv420(flat(colour)), 16, 16).astype(int)
            assert np.abs(found - colour).max() <= 1

    def test_luma_is_that_of_another_converter(self):
        pixels = photo(64, 96)
        if not run_ffmpeg(["-h", "filter=zscale"]).startswith(b"Filter zscale"):
            pytest.skip("FFmpeg without zimg")
        source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "96x64", "-i", "pipe:0"]
        convert = ["-vf", "zscale=matrixin=gbr:rangein=full:matrix=709:range=full,format=yuv444p10le"]
        raw = run_ffmpeg([*source, *convert, "-f", "rawvideo", "pipe:1"], pixels.tobytes())
        theirs = np.frombuffer(raw, "<u2")[: 64 * 96].astype(int)
        ours = np.frombuffer(to_yuv420(pixels), "<u2")[: 64 * 96].astype(int)
        assert np.abs(theirs - ours).max() <= 1

    def test_smaller_chroma_bounds_the_quality(self):
        pixels = photo(128, 192)
        assert 35 < psnr(from_yuv420(to_yuv420(pixels), 128, 192), pixels) < 60

    def test_size_must_fit(self):
        with pytest.raises(BitstreamError, match="must have 768 bytes, but has 766"):
            from_yuv420(bytes(766), 16, 16)


def test_codes_better_with_more_bytes():
    coder = create_coder(FAST, "image")
    assert sorted(coder.qualities, reverse=True) == list(coder.qualities)
    check_curve(coder)


def test_codes_every_size():
    check_sizes(create_coder(FAST, "image"), 22)


def test_refuses_what_is_not_valid():
    check_refusals(create_coder(FAST, "image"), (-1, 64, 22.5))
    with pytest.raises(CodecError, match="65536 x 1"):
        create_coder(FAST, "image").encode(np.zeros((1, 65536, 3), np.uint8), 32)


def test_odd_sizes_stand_in_front():
    coder = create_coder(FAST, "image")
    assert coder.encode(photo(32, 48), 42).startswith(b"\0\0\0\1")
    assert coder.encode(photo(33, 47), 42).startswith(b"\0\x2f\0\x21\0\0\0\1")


def test_parts_are_those_of_the_byte_stream():
    """Delimiter (20), sequence and picture parameter sets (15, 16), then filters (17) and the slice of an IDR frame."""
    coder = create_coder(FAST, "image")
    data = coder.encode(photo(), 27)
    units = [unit.rstrip(b"\0") for unit in data.split(b"\0\0\1")[1:]]
    kinds = [unit[1] >> 3 for unit in units]
    assert kinds[:3] == [20, 15, 16]
    assert set(kinds[3:-1]) <= {17}
    assert kinds[-1] in (7, 8)
    header = sum(len(unit) + 3 for unit in units[:3])
    assert 0 <= coder.parts(data)["header"] - header <= 3  # start codes of four bytes
    assert coder.payload_bytes(data) == coder.parts(data)["picture"]
    odd = coder.encode(photo(33, 47), 42)
    assert coder.parts(odd)["header"] - 4 == pytest.approx(coder.parts(data)["header"], abs=8)


def test_another_decoder_sees_the_same():
    av = pytest.importorskip("av")
    if "vvc" not in av.codecs_available:
        pytest.skip("PyAV without VVC")
    coder, pixels = create_coder(FAST, "image"), photo(64, 80)
    data = coder.encode(pixels, 27)
    with av.open(io.BytesIO(data), format="vvc") as file:
        frame = next(file.decode(video=0))
    assert (frame.format.name, frame.width, frame.height) == ("yuv420p10le", 80, 64)
    planes = (np.frombuffer(p, "<u2").reshape(p.height, -1)[:, : p.width].tobytes() for p in frame.planes)
    np.testing.assert_array_equal(coder.decode(data), from_yuv420(b"".join(planes), 64, 80))


def test_damage():
    coder = create_coder(FAST, "image")
    data = coder.encode(photo(33, 47), 32)
    for bad in (b"", b"abc", b"\0\0\0\0abcdef", bytes(100), data[:30], data[:4], b"\1\0\1\0" + data[4:]):
        with pytest.raises(BitstreamError):
            coder.decode(bad)


def test_presets_and_perceptual_quantisation_change_the_file():
    pixels = photo(64, 64)
    files = {create_coder(f"vvc{o}", "image").encode(pixels, 32) for o in (":preset=faster", "", ":qpa=yes")}
    assert len(files) == 3


def test_facts():
    facts = check_facts(create_coder(FAST, "image"), "libvvenc", "ffmpeg")
    assert (facts.options["preset"], facts.options["qpa"]) == ("faster", False)
    assert facts.options["pixel_format"] == "yuv420p10le"


def test_options_are_checked():
    for spec, message in (("vvc:preset=best", "one of faster, fast"), ("vvc:crf=3", "it has: preset, qpa, threads")):
        with pytest.raises(ValueError, match=message):
            create_coder(spec, "image")


def test_without_the_encoder(monkeypatch):
    monkeypatch.setattr(vvc, "has_encoder", lambda name: False)
    with pytest.raises(UnsupportedError, match="no encoder libvvenc"):
        create_coder("vvc", "image")

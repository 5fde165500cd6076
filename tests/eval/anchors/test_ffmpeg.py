import sys

import pytest

from triode.errors import CodecError, UnsupportedError
from triode.eval.anchors import ffmpeg
from triode.eval.anchors.ffmpeg import (
    ffmpeg_binary,
    ffmpeg_version,
    has_decoder,
    has_encoder,
    has_filter,
    run_ffmpeg,
    vvenc_version,
)

pytest.importorskip("imageio_ffmpeg")
RAW = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", "4x2"]


def test_passes_bytes_through():
    data = bytes(range(24)) * 3
    assert run_ffmpeg([*RAW, "-i", "pipe:0", "-f", "rawvideo", "pipe:1"], data) == data


def test_failure_says_why():
    with pytest.raises(CodecError, match=r"status \d+: .*Invalid data"):
        run_ffmpeg(["-i", "pipe:0", "-f", "null", "-"], b"no video")


def test_no_output_is_a_failure():
    with pytest.raises(CodecError, match="wrote nothing"):
        run_ffmpeg(["-version", "pipe:1"])


def test_what_it_has():
    assert (has_encoder("libx264"), has_decoder("h264"), has_filter("scale")) == (True, True, True)
    assert (has_encoder("h264"), has_decoder("libx264"), has_filter("h264")) == (False, False, False)
    assert (has_encoder("="), has_decoder("="), has_filter("=")) == (False, False, False)  # legends


def test_versions():
    assert ffmpeg_version() in run_ffmpeg(["-version"]).decode()
    assert ffmpeg_version() != "unknown"
    if has_encoder("libvvenc"):
        assert vvenc_version()[0].isdigit()


def test_what_libvvenc_prints_is_not_in_the_file():
    """It warns on the standard output that every frame is an intra frame."""
    if not has_encoder("libvvenc"):
        pytest.skip("FFmpeg without libvvenc")
    source = ["-f", "lavfi", "-i", "color=gray:size=64x64:rate=1,format=yuv420p10le", "-frames:v", "1"]
    code = ["-c:v", "libvvenc", "-preset", "faster", "-threads", "1", "-f", "vvc"]
    assert b"warning" not in run_ffmpeg([*source, *code, "pipe:1"])
    assert b"warning" in run_ffmpeg([*source, *code, "-"])


@pytest.mark.parametrize("missing", ["package", "program"])
def test_without_ffmpeg(missing, monkeypatch):
    import imageio_ffmpeg

    def nothing():
        raise RuntimeError("No ffmpeg exe could be found")

    ffmpeg_binary.cache_clear()
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", nothing)
    if missing == "package":
        monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UnsupportedError, match=r"triode\[bench\]"):
        ffmpeg.run_ffmpeg(["-version"])

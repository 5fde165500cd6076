import contextlib
import io
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from triode.errors import BitstreamError, CodecError, LimitExceededError, TruncatedError, UnsupportedError
from triode.io.video import ClipReader, frame_to_planes, planes_to_frame, read_clip, write_clip
from triode.media import Clip

av = pytest.importorskip("av")
NTSC = Fraction(30000, 1001)


def noise(width=64, height=48, frames=8, rate=NTSC, matrix="bt709", full=False):
    rng = np.random.default_rng(width * height + frames)
    shapes = [(frames, height, width), *[(frames, (height + 1) // 2, (width + 1) // 2)] * 2]
    y, u, v = (rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes)
    return Clip(y, u, v, rate, matrix, full)


def written(clip, fmt="mkv"):
    file = io.BytesIO()
    write_clip(file, clip, fmt)
    return file.getvalue()


def assert_same(one, other, *, matrix=True):
    for name in "yuv":
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (one.rate, one.full_range) == (other.rate, other.full_range)
    assert one.matrix == other.matrix or not matrix


def part(clip, start, stop):
    return Clip(clip.y[start:stop], clip.u[start:stop], clip.v[start:stop], clip.rate, clip.matrix, clip.full_range)


def encode(frames, codec, fmt, pix_fmt, rate=25, **options):
    """Write frames of PyAV with any of its encoders."""
    file = io.BytesIO()
    with av.open(file, "w", format=fmt) as out:
        stream = out.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = frames[0].width, frames[0].height, pix_fmt
        stream.options = options
        if frames[0].colorspace != 2:
            stream.codec_context.colorspace = frames[0].colorspace
        for number, frame in enumerate(frames):
            frame.pts, frame.time_base = number, 1 / Fraction(rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return file.getvalue()


def plain(pix_fmt, values, width=32, height=24, dtype=np.uint8):
    """Make a frame of one colour."""
    frame = av.VideoFrame(width, height, pix_fmt)
    size = np.dtype(dtype).itemsize
    for plane, value in zip(frame.planes, values, strict=True):
        samples = np.frombuffer(plane, dtype).reshape(plane.height, plane.line_size // size)
        row = np.resize(np.asarray(value, dtype), plane.width * np.size(value))
        samples[:, : row.size] = row
    return frame


class TestRoundTrip:
    @pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 1), (63, 47), (64, 48), (130, 66)])
    @pytest.mark.parametrize("fmt", ["mkv", "y4m"])
    def test_planes_come_back_as_they_were(self, tmp_path, fmt, size):
        clip = noise(*size, frames=3, full=size[0] % 2 == 0)
        write_clip(tmp_path / f"a.{fmt}", clip)
        assert_same(read_clip(tmp_path / f"a.{fmt}"), clip, matrix=fmt == "mkv")

    @pytest.mark.parametrize("rate", [NTSC, Fraction(25), Fraction(24000, 1001), Fraction(25, 2), Fraction(120)])
    @pytest.mark.parametrize(("matrix", "full"), [("bt709", True), ("bt601", False)])
    def test_rate_and_colours(self, rate, matrix, full):
        clip = noise(16, 16, 3, rate, matrix, full)
        assert_same(read_clip(io.BytesIO(written(clip))), clip)

    @pytest.mark.parametrize("fmt", ["mp4", "y4m"])
    def test_shape_of_pixels(self, fmt):
        clip = replace(noise(6, 4, 1), aspect=Fraction(16, 11))
        assert read_clip(io.BytesIO(written(clip, fmt))).aspect == Fraction(16, 11)

    def test_y4m_is_what_its_description_says(self):
        clip = noise(5, 3, 2, full=True)
        head, _, rest = written(clip, "y4m").partition(b"\n")
        assert head == b"YUV4MPEG2 W5 H3 F30000:1001 Ip A1:1 C420mpeg2 XCOLORRANGE=FULL"
        size = 15 + 6 + 6
        assert len(rest) == 2 * (6 + size)
        for number in range(2):
            frame = rest[number * (6 + size) :][: 6 + size]
            planes = (clip.y[number], clip.u[number], clip.v[number])
            assert frame == b"FRAME\n" + b"".join(plane.tobytes() for plane in planes)

    @pytest.mark.parametrize("fmt", ["mkv", "y4m"])
    def test_parts_make_the_same_file_as_the_whole(self, fmt):
        clip = noise()
        parts = (part(clip, start, start + 3) for start in range(0, 8, 3))
        assert written(parts, fmt) == written(clip, fmt)

    def test_frames_for_encoders(self):
        clip = noise(7, 5, 2, full=True)
        frame = planes_to_frame(clip, 1)
        assert (frame.pts, frame.time_base, frame.color_range, frame.colorspace) == (1, 1 / NTSC, 2, 1)
        for plane, name in zip(frame_to_planes(frame), "yuv", strict=True):
            np.testing.assert_array_equal(plane, getattr(clip, name)[1])


class TestReading:
    def test_a_part(self):
        clip = noise()
        data = written(clip)
        assert_same(read_clip(io.BytesIO(data), 2, 5), part(clip, 2, 5))
        assert_same(read_clip(io.BytesIO(data), 6), part(clip, 6, 8))
        assert_same(read_clip(io.BytesIO(data), 6, 99), part(clip, 6, 8))
        with pytest.raises(UnsupportedError, match="8 frames, and none at 8"):
            read_clip(io.BytesIO(data), 8)
        for start, stop in ((-1, None), (3, 3), (3, 2)):
            with pytest.raises(ValueError, match="start < stop"):
                read_clip(io.BytesIO(data), start, stop)

    def test_a_few_frames_at_a_time(self):
        clip = noise()
        with ClipReader(io.BytesIO(written(clip))) as reader:
            assert (reader.width, reader.height, reader.rate, reader.matrix) == (64, 48, NTSC, "bt709")
            assert not reader.full_range
            assert_same(reader.read(3), part(clip, 0, 3))
            assert reader.skip(2) == 2
            assert_same(next(iter(reader)), part(clip, 5, 6))
            assert_same(reader.read(9), part(clip, 6, 8))
            assert reader.read(1) is None
            assert reader.skip(1) == 0
            with pytest.raises(ValueError, match="positive"):
                reader.read(0)
        with pytest.raises(ValueError, match="closed"):
            reader.read(1)

    def test_a_pipe(self):
        clip = noise(16, 16, 2)

        class Pipe(io.BytesIO):
            def seekable(self):
                return False

        assert_same(read_clip(Pipe(written(clip))), clip)

    def test_order_of_display(self):
        clip = Clip(*(np.empty((8, s, s), np.uint8) for s in (64, 32, 32)), Fraction(25))
        for number in range(8):
            clip.y[number], clip.u[number], clip.v[number] = 30 + 20 * number, 128, 128
        frames = [planes_to_frame(clip, number) for number in range(8)]
        data = encode(frames, "libx264", "mp4", "yuv420p", bf="3", crf="10", **{"x264-params": "b-adapt=0"})
        with av.open(io.BytesIO(data)) as file:
            order = [packet.pts for packet in file.demux(video=0) if packet.size]
        assert order != sorted(order)
        with ClipReader(io.BytesIO(data)) as reader:
            assert reader.frames == 8
            found = [float(one.y.mean()) for one in reader]
        np.testing.assert_allclose(found, [30 + 20 * number for number in range(8)], atol=2)

    def test_elementary_streams(self):
        frames = [planes_to_frame(noise(frames=1), 0)]
        data = encode(frames, "libx264", "h264", "yuv420p", qp="0")
        assert_same(part(noise(frames=1, rate=Fraction(25)), 0, 1), read_clip(io.BytesIO(data), form="h264"))

    def test_limits(self, monkeypatch):
        data = written(noise(16, 16, 4))
        assert read_clip(io.BytesIO(data), max_bytes=4 * 384).frames == 4
        with pytest.raises(LimitExceededError, match="max_bytes"):
            read_clip(io.BytesIO(data), max_bytes=4 * 384 - 1)
        monkeypatch.setattr("triode.io.video.MAX_PIXELS", 255)
        with pytest.raises(LimitExceededError, match="256 pixels"):
            read_clip(io.BytesIO(data))


class TestConversion:
    def test_rgb_becomes_bt709(self):
        red, green, blue = 0x30, 0x70, 0xC0
        data = encode([plain("bgr0", [(blue, green, red, 0)])], "ffv1", "matroska", "bgr0")
        clip = read_clip(io.BytesIO(data))
        luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
        cb, cr = (blue - luma) / (2 - 2 * 0.0722), (red - luma) / (2 - 2 * 0.2126)
        expected = (16 + 219 / 255 * luma, 128 + 224 / 255 * cb, 128 + 224 / 255 * cr)
        assert (clip.matrix, clip.full_range) == ("bt709", False)
        for name, value in zip("yuv", expected, strict=True):
            plane = getattr(clip, name)
            assert np.ptp(plane) == 0
            assert plane.flat[0] == pytest.approx(value, abs=1)

    @pytest.mark.parametrize(
        ("pix_fmt", "values", "dtype", "full"),
        [
            ("yuv444p", (90, 170, 60), np.uint8, False),
            ("yuv422p", (90, 170, 60), np.uint8, False),
            ("yuv420p10le", (4 * 90, 4 * 170, 4 * 60), np.uint16, False),
            ("yuv444p", (90, 170, 60), np.uint8, True),
        ],
    )
    def test_other_samplings_and_depths_keep_their_values(self, pix_fmt, values, dtype, full):
        frame = plain(pix_fmt, values, dtype=dtype)
        frame.color_range = 2 if full else 1
        data = encode([frame], "ffv1", "matroska", pix_fmt, color_range="pc" if full else "tv")
        with ClipReader(io.BytesIO(data)) as reader:
            assert reader.format.endswith(pix_fmt)
            clip = reader.read(1)
        assert clip.full_range == full
        for name, value in zip("yuv", (90, 170, 60), strict=True):
            assert np.all(np.abs(getattr(clip, name).astype(int) - value) <= 1)

    @pytest.mark.parametrize(("pix_fmt", "scale", "dtype"), [("gray", 1, np.uint8), ("gray10le", 4, np.uint16)])
    @pytest.mark.parametrize(("code", "name"), [(1, "tv"), (2, "pc")])
    def test_grey(self, pix_fmt, scale, dtype, code, name):
        frame = plain(pix_fmt, (77 * scale,), 31, 23, dtype)
        frame.color_range = code
        clip = read_clip(io.BytesIO(encode([frame], "ffv1", "matroska", pix_fmt, color_range=name)))
        # Of deeper samples libswscale makes 8 bits by ordered dither.
        assert np.all(np.abs(clip.y.astype(int) - 77) <= (scale > 1))
        assert [int(np.unique(plane).item()) for plane in (clip.u, clip.v)] == [128, 128]
        assert clip.full_range == (code == 2)

    @pytest.mark.parametrize(("height", "matrix"), [(576, "bt601"), (578, "bt709")])
    def test_matrix_where_the_file_names_none(self, height, matrix):
        data = encode([plain("yuv420p", (90, 128, 128), 32, height)], "ffv1", "matroska", "yuv420p")
        assert read_clip(io.BytesIO(data)).matrix == matrix

    def test_other_matrices_are_refused(self):
        frame = plain("yuv420p", (90, 128, 128), 64, 64)
        frame.colorspace = 9
        data = encode([frame], "ffv1", "matroska", "yuv420p")
        with pytest.raises(UnsupportedError, match=r"matrix 9 of H\.273"):
            read_clip(io.BytesIO(data))

    @pytest.mark.parametrize("angle", [90, 180, 270])
    def test_rotation_as_ffmpeg_applies_it(self, tmp_path, angle):
        program = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()

        def ffmpeg(*args):
            done = subprocess.run([program, "-y", "-loglevel", "error", *map(str, args)], capture_output=True)
            if b"display_rotation" in done.stderr:
                pytest.skip("this FFmpeg sets no rotation")
            assert done.returncode == 0, done.stderr

        clip = noise(64, 48, 1, Fraction(25))
        frames = [planes_to_frame(clip, 0)]
        (tmp_path / "a.mp4").write_bytes(encode(frames, "libx264", "mp4", "yuv420p", qp="0"))
        ffmpeg("-display_rotation", angle, "-i", tmp_path / "a.mp4", "-c", "copy", tmp_path / "b.mp4")
        ffmpeg("-i", tmp_path / "b.mp4", tmp_path / "c.y4m")
        with ClipReader(tmp_path / "b.mp4") as reader:
            turned = reader.read(1)
            assert (reader.width, reader.height) == (turned.width, turned.height)
        assert (turned.width, turned.height) == ((64, 48) if angle == 180 else (48, 64))
        assert_same(turned, read_clip(tmp_path / "c.y4m"), matrix=False)


class TestDamage:
    @pytest.mark.parametrize(
        ("data", "error"),
        [
            (b"", TruncatedError),
            (b"garbage" * 20, UnsupportedError),
            (b"\x1a\x45\xdf\xa3" + bytes(100), UnsupportedError),
            (b"YUV4MPEG2 W64 H48 F25:1\nFRAME\n" + bytes(100), BitstreamError),
            (b"#EXTM3U\n#EXTINF:1,\n/etc/passwd\n", UnsupportedError),
        ],
    )
    def test_error_by_kind(self, data, error):
        with pytest.raises(error):
            read_clip(io.BytesIO(data))

    def test_sound_alone(self):
        from triode.io.audio import write_sound
        from triode.media import Sound

        file = io.BytesIO()
        write_sound(file, Sound(np.zeros((1, 800), np.float32), 8000))
        with pytest.raises(UnsupportedError, match="no video"):
            read_clip(file)

    def test_damaged_frames(self):
        clip = noise(64, 64, 4)
        frames = [planes_to_frame(clip, number) for number in range(4)]
        data = bytearray(encode(frames, "libx264", "matroska", "yuv420p"))
        data[3000:3020] = bytes(20)
        with pytest.raises(BitstreamError, match="damaged"):
            read_clip(io.BytesIO(bytes(data)))

    @pytest.mark.parametrize("fmt", ["mkv", "y4m"])
    def test_flipped_bytes(self, fmt):
        data = written(noise(32, 16, 2), fmt)
        rng = np.random.default_rng(0)
        for number in range(40):
            damaged = bytearray(data)
            for place in rng.integers(0, len(data) if number % 2 else 60, 3):
                damaged[place] = rng.integers(256)
            with contextlib.suppress(CodecError):
                read_clip(io.BytesIO(bytes(damaged)), max_bytes=1 << 24)

    def test_sizes_that_change(self):
        data = b"".join(
            encode([planes_to_frame(noise(size, size, 1), 0)], "libx264", "h264", "yuv420p") for size in (32, 64)
        )
        with pytest.raises(UnsupportedError, match="change"):
            read_clip(io.BytesIO(data), form="h264")


class TestWriting:
    def test_wrong_parts(self, tmp_path):
        with pytest.raises(ValueError, match="empty"):
            write_clip(tmp_path / "a.mkv", [])
        for other in (noise(32), noise(rate=Fraction(25)), noise(full=True), noise(matrix="bt601")):
            for fmt in ("mkv", "y4m"):
                with pytest.raises(ValueError, match="agree"):
                    write_clip(tmp_path / f"a.{fmt}", [noise(), other])
        assert list(tmp_path.iterdir()) == []

    def test_other_formats(self, tmp_path):
        with pytest.raises(UnsupportedError, match=r"'\.avi'; known are \.mkv \.mp4 \.y4m"):
            write_clip(tmp_path / "a.avi", noise())

    def test_failure_keeps_what_was_there(self, tmp_path):
        target = tmp_path / "a.mkv"
        target.write_bytes(b"old")

        def parts():
            yield noise()
            raise RuntimeError("stop")

        with pytest.raises(RuntimeError):
            write_clip(target, parts())
        assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_missing_package(monkeypatch):
    data = written(noise(16, 16, 1))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UnsupportedError, match=r"triode\[video\]"):
        read_clip(io.BytesIO(data))
    with pytest.raises(UnsupportedError, match=r"triode\[video\]"):
        written(noise())
    assert written(noise(16, 16, 1), "y4m").startswith(b"YUV4MPEG2 ")

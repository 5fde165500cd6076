import hashlib
import io
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import triode
from triode.errors import BitstreamError, UnsupportedError
from triode.eval.items import find_items, guess_media, item_facts, load_item, unique_names
from triode.io.audio import write_sound
from triode.io.video import write_clip
from triode.media import Clip, Sound

RNG = np.random.default_rng(5)
RGB = RNG.integers(0, 256, (12, 17, 3), dtype=np.uint8)


def save(path, image, **options):
    image.save(path, **options)
    return path


def sound(frames=800):
    return Sound((RNG.integers(-9999, 9999, (2, frames)) / 32768).astype(np.float32), 8000)


def clip(frames=3):
    planes = (RNG.integers(0, 256, (frames, *size), dtype=np.uint8) for size in ((15, 22), (8, 11), (8, 11)))
    return Clip(*planes, Fraction(25), "bt601")


class TestImages:
    def test_colour(self, tmp_path):
        np.testing.assert_array_equal(load_item(save(tmp_path / "a.png", Image.fromarray(RGB))), RGB)

    def test_grey_is_repeated(self, tmp_path):
        item = load_item(save(tmp_path / "a.png", Image.fromarray(RGB[:, :, 0])))
        np.testing.assert_array_equal(item, np.repeat(RGB[:, :, :1], 3, axis=2))
        assert item.flags.writeable
        assert item.flags.c_contiguous

    def test_alpha_is_dropped(self, tmp_path):
        alpha = RNG.integers(0, 256, (12, 17), dtype=np.uint8)
        image = Image.fromarray(np.dstack([RGB, alpha]))
        np.testing.assert_array_equal(load_item(save(tmp_path / "a.png", image)), RGB)
        grey = Image.merge("LA", (image.getchannel(0), image.getchannel(3)))
        np.testing.assert_array_equal(load_item(save(tmp_path / "b.png", grey))[:, :, 1], RGB[:, :, 0])

    def test_deep_samples_are_rounded(self, tmp_path):
        deep = Image.fromarray(RGB[:, :, 0].astype(np.uint16) * 257)
        np.testing.assert_array_equal(load_item(save(tmp_path / "a.png", deep))[:, :, 2], RGB[:, :, 0])

    def test_turned_upright(self, tmp_path):
        tags = Image.Exif()
        tags[0x0112] = 6
        item = load_item(save(tmp_path / "a.png", Image.fromarray(RGB), exif=tags))
        np.testing.assert_array_equal(item, np.rot90(RGB, -1))

    @pytest.mark.parametrize("shape", [(12, 17), (12, 17, 3), (12, 17, 4)])
    def test_tri(self, tmp_path, shape):
        pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
        path = tmp_path / "a.tri"
        path.write_bytes(triode.encode(pixels, quality=20))
        expected = np.asarray(triode.decode(path.read_bytes()).convert("RGB"))
        np.testing.assert_array_equal(load_item(path), expected)
        np.testing.assert_array_equal(load_item(path, "image"), expected)
        assert guess_media(path) == "image"
        with pytest.raises(UnsupportedError, match="holds image, where audio"):
            load_item(path, "audio")

    def test_damage(self, tmp_path):
        path = save(tmp_path / "a.png", Image.fromarray(RGB))
        path.write_bytes(path.read_bytes()[:60])
        with pytest.raises(BitstreamError):
            load_item(path)


class TestSoundAndVideo:
    def test_sound(self, tmp_path):
        pytest.importorskip("soundfile")
        given_ = sound()
        write_sound(tmp_path / "a.flac", given_)
        item = load_item(tmp_path / "a.flac")
        assert item.rate == 8000
        np.testing.assert_array_equal(item.samples, given_.samples)

    def test_clip(self, tmp_path):
        pytest.importorskip("av")
        given_ = clip()
        write_clip(tmp_path / "a.mkv", given_)
        item = load_item(tmp_path / "a.mkv")
        assert (item.rate, item.matrix) == (25, "bt601")
        np.testing.assert_array_equal(item.y, given_.y)
        np.testing.assert_array_equal(item.v, given_.v)

    def test_a_video_s_sound(self, tmp_path):
        av = pytest.importorskip("av")
        with av.open(str(tmp_path / "a.mkv"), "w") as out:
            stream = out.add_stream("pcm_s16le", rate=8000, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.arange(100, dtype=np.int16)[None], "s16", "mono")
            frame.sample_rate = 8000
            out.mux(stream.encode(frame))
        item = load_item(tmp_path / "a.mkv", "audio")
        np.testing.assert_array_equal(item.samples[0] * 32768, np.arange(100))
        with pytest.raises(UnsupportedError, match="no video"):
            load_item(tmp_path / "a.mkv")


class TestGuess:
    @pytest.mark.parametrize(
        ("name", "media"), [("a.PNG", "image"), ("a.wav", "audio"), ("a.y4m", "video"), ("a.webp", "image")]
    )
    def test_by_suffix(self, tmp_path, name, media):
        (tmp_path / name).write_bytes(b"anything")
        assert guess_media(tmp_path / name) == media

    @pytest.mark.parametrize("fmt", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF"])
    def test_images_by_content(self, tmp_path, fmt):
        Image.fromarray(RGB).save(tmp_path / "file", fmt)
        assert guess_media(tmp_path / "file") == "image"
        assert load_item(tmp_path / "file").shape == RGB.shape

    @pytest.mark.parametrize("fmt", ["WAV", "FLAC", "OGG", "AIFF", "AU", "CAF", "RF64"])
    def test_sound_by_content(self, tmp_path, fmt):
        soundfile = pytest.importorskip("soundfile")
        soundfile.write(tmp_path / "file", sound().samples.T, 8000, format=fmt)
        assert guess_media(tmp_path / "file") == "audio"
        assert load_item(tmp_path / "file").samples.shape == (2, 800)

    @pytest.mark.parametrize("fmt", ["matroska", "mp4", "avi"])
    def test_video_by_content(self, tmp_path, fmt):
        av = pytest.importorskip("av")
        with av.open(str(tmp_path / "file"), "w", format=fmt) as out:
            stream = out.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
            out.mux(stream.encode(av.VideoFrame(16, 16, "yuv420p")))
            out.mux(stream.encode(None))
        assert guess_media(tmp_path / "file") == "video"
        assert isinstance(load_item(tmp_path / "file"), Clip)

    def test_y4m_by_content(self, tmp_path):
        write_clip(tmp_path / "file", clip(), "y4m")
        assert guess_media(tmp_path / "file") == "video"

    def test_sound_in_mp4(self, tmp_path):
        (tmp_path / "file").write_bytes(b"\0\0\0\x1cftypM4A \0\0\0\0")
        assert guess_media(tmp_path / "file") == "audio"

    def test_unknown(self, tmp_path):
        (tmp_path / "file").write_bytes(b"some text")
        with pytest.raises(UnsupportedError, match="what medium"):
            load_item(tmp_path / "file")
        with pytest.raises(ValueError, match="one of image, audio, video"):
            load_item(tmp_path / "file", "text")
        with pytest.raises(FileNotFoundError):
            load_item(tmp_path / "none")


class TestFind:
    @pytest.fixture
    def folder(self, tmp_path):
        for name in ("b.png", "a.JPG", "sub/c.webp", "sub/d.wav", "e.mkv", ".hidden.png", ".git/f.png", "notes.txt"):
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.touch()
        return tmp_path

    def names(self, folder, paths):
        return [path.relative_to(folder).as_posix() for path in paths]

    def test_by_medium_at_any_depth(self, folder):
        assert self.names(folder, find_items([folder], "image")) == ["a.JPG", "b.png", "sub/c.webp"]
        assert self.names(folder, find_items([folder], "audio")) == ["sub/d.wav"]
        assert self.names(folder, find_items([folder], "video")) == ["e.mkv"]

    def test_order_and_repetition(self, folder):
        found = find_items([folder / "sub", folder / "notes.txt", folder, folder / "sub" / ".." / "b.png"], "image")
        assert self.names(folder, found) == ["sub/c.webp", "notes.txt", "a.JPG", "b.png"]

    def test_nothing_found(self, folder):
        for paths in ([folder / "none"], [], [folder / ".git"], [folder / "sub", folder / ".git"]):
            with pytest.raises(FileNotFoundError):
                find_items(paths, "video")
        with pytest.raises(ValueError, match="media"):
            find_items([folder], "pictures")


class TestNames:
    def test_plain(self):
        paths = [Path(name) for name in ("k/kodim01.png", "k/kodim02.png", "x/kodim02.png", "x/kodim02.jpg")]
        assert unique_names(paths) == ["kodim01", "k-kodim02", "x-kodim02.png", "x-kodim02.jpg"]

    def test_numbers_are_the_last_resort(self):
        paths = [Path(name) for name in ("a/x/1.png", "b/x/1.png", "b/x/1-2.png")]
        assert unique_names(paths) == ["x-1.png", "x-1.png-2", "1-2"]

    @given(st.lists(st.tuples(*[st.sampled_from(["a", "b", "a-2", "a-b"])] * 2, st.sampled_from([".png", ".x"]))))
    def test_unique(self, parts):
        paths = [Path(folder, name + suffix) for folder, name, suffix in parts]
        names = unique_names(paths)
        assert len(set(names)) == len(names) == len(paths)


class TestFacts:
    def test_of_each_medium(self, tmp_path):
        path = tmp_path / "some.name.bin"
        path.write_bytes(b"content")
        digest = hashlib.sha256(b"content").hexdigest()
        facts = item_facts(path, RGB)
        assert (facts.name, facts.sha256) == ("some.name", digest)
        assert (facts.units, facts.shape, facts.raw_bytes) == (204, (17, 12), 612)
        facts = item_facts(path, sound(), "other")
        assert (facts.name, facts.units, facts.shape, facts.raw_bytes) == ("other", 0.1, (2, 8000), 3200)
        facts = item_facts(path, clip())
        assert (facts.units, facts.shape, facts.raw_bytes) == (0.12, (22, 15, 3), 3 * (330 + 88 + 88))


def test_pictures_come_from_the_reader_that_encoding_uses(tmp_path):
    """A CMYK file is converted, not refused."""
    file = io.BytesIO()
    Image.fromarray(RGB).convert("CMYK").save(file, "JPEG", quality=95)
    (tmp_path / "a.jpg").write_bytes(file.getvalue())
    assert load_item(tmp_path / "a.jpg").shape == RGB.shape

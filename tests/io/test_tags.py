import io

import numpy as np
import pytest

from triode.io.audio import read_sound, write_sound
from triode.io.tags import KEYS, info_chunk, read_info_chunk, to_tags
from triode.media import Sound

TAGS = (
    ("TITLE", "Über den Wolken"),
    ("ARTIST", "Somebody"),
    ("ALBUM", "One"),
    ("TRACKNUMBER", "7"),
    ("DATE", "1974"),
    ("GENRE", "Speech"),
    ("COMMENT", "two\nlines"),
    ("COPYRIGHT", "none"),
    ("LICENSE", "CC0"),
)


def test_which_are_kept_and_in_which_order():
    found = {
        "comment": " c ",
        "Title": "t",
        "encoder": "Lavf",
        "software": "x",
        "track": "3",
        "artist": "",
        "mood": "m",
    }
    assert to_tags(found) == (("TITLE", "t"), ("TRACKNUMBER", "3"), ("COMMENT", "c"))
    assert to_tags({"comment": "x" * 4097, "title": "x" * 4096}) == (("TITLE", "x" * 4096),)


@pytest.mark.parametrize(("fmt", "lost"), [("wav", {"LICENSE"}), ("flac", set())])
def test_files_keep_them(fmt, lost):
    pytest.importorskip("soundfile")
    file = io.BytesIO()
    sound = Sound(np.zeros((1, 100), np.float32), 8000, TAGS)
    write_sound(file, sound, fmt=fmt)
    assert read_sound(file).tags == tuple(tag for tag in TAGS if tag[0] not in lost)


def test_ffmpeg_reads_them():
    av = pytest.importorskip("av")
    file = io.BytesIO()
    with av.open(file, "w", format="ipod") as out:
        stream = out.add_stream("aac", rate=16000, layout="mono")
        out.metadata.update({"title": "t", "track": "3", "encoder": "x"})
        for _ in range(3):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.rate = 16000
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    assert read_sound(file).tags == (("TITLE", "t"), ("TRACKNUMBER", "3"))


def test_info_chunk():
    assert info_chunk(()) == info_chunk((("LICENSE", "CC0"),)) == b""
    chunk = info_chunk((("TITLE", "ab"), ("ALBUM", "abc")))
    assert chunk == b"LIST\x1c\0\0\0INFOINAM\x03\0\0\0ab\0\0IPRD\x04\0\0\0abc\0"
    assert read_info_chunk(chunk[8:]) == (("TITLE", "ab"), ("ALBUM", "abc"))
    assert [read_info_chunk(chunk[8 : 8 + n]) for n in range(4)] == [()] * 4
    assert read_info_chunk(b"adtl" + chunk[12:]) == ()


def test_keys_are_distinct():
    assert len(set(KEYS)) == len(KEYS) == 9

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models.tiny_sound import smooth_sound, tiny_sound

from triode.codecs.audio import AudioCodec
from triode.codecs.tags import pack_tags, unpack_tags
from triode.container import ContainerReader, ContainerWriter, MetadataKind
from triode.errors import BitstreamError
from triode.media import Sound

TAGS = (("TITLE", "Ä title"), ("COMMENT", "two\n\n lines="), ("X_1", ""))
KEYS = st.from_regex(r"[A-Z][A-Z0-9_]{0,31}", fullmatch=True)
SHOWN = st.text(st.one_of(st.characters(exclude_categories=("C", "Z")), st.sampled_from(" \n=")))


@given(st.lists(st.tuples(KEYS, SHOWN)).map(tuple))
def test_there_and_back(tags):
    assert unpack_tags(pack_tags(tags)) == tags


def test_text():
    assert pack_tags(TAGS) == "TITLE=Ä title\nCOMMENT=two\n \n  lines=\nX_1=".encode()
    assert pack_tags(()) == b""
    assert unpack_tags(None) == ()


@given(st.binary())
def test_any_text_gives_tags_that_can_be_shown(text):
    for key, value in unpack_tags(b"TITLE=" + text):
        assert key.isascii()
        assert all(c == "\n" or c.isprintable() for c in value)


def test_nothing_moves_the_cursor():
    assert unpack_tags(b"TITLE=a\x1b[2Jb\rc\xff") == (("TITLE", "a[2Jbc\ufffd"),)


@pytest.mark.parametrize("key", ["", "title", "A B", "A=", "1A", "X" * 33])
def test_wrong_keys(key):
    with pytest.raises(ValueError, match="A-Z"):
        pack_tags(((key, "x"),))


class TestFiles:
    codec = AudioCodec(tiny_sound(), chunk_seconds=0.2)
    sound = Sound(smooth_sound(1, 1000), 1000, TAGS)

    def test_are_kept(self):
        data = self.codec.encode(self.sound).data
        assert self.codec.decode(data).tags == self.codec.info(data).tags == TAGS
        assert self.codec.decode(data, start=100, stop=300).tags == TAGS
        assert dict(self.codec.info(data).metadata) == {"text": len(pack_tags(TAGS))}

    def test_are_left_out_or_replaced(self):
        plain = self.codec.encode(Sound(self.sound.samples, 1000))
        assert self.codec.encode(self.sound, tags=()).data == plain.data
        assert self.codec.decode(self.codec.encode(self.sound, tags=(("TITLE", "b"),)).data).tags == (("TITLE", "b"),)

    def test_count_for_the_size(self):
        with_tags, without = (self.codec.encode(self.sound, tags=tags, size=500) for tags in (TAGS, ()))
        assert max(with_tags.bytes, without.bytes) <= 500
        assert with_tags.payload_bytes < without.payload_bytes

    def test_damage_to_them_does_not_keep_the_sound_from_being_salvaged(self):
        data = bytearray(self.codec.encode(self.sound).data)
        data[data.index(b"TITLE")] ^= 1
        with pytest.raises(BitstreamError):
            self.codec.decode(bytes(data))
        found = self.codec.decode(bytes(data), conceal=True)
        assert found.tags == ()
        assert np.array_equal(found.samples, self.codec.decode(self.codec.encode(self.sound).data).samples)

    def test_other_text_is_none(self):
        reader, out = ContainerReader(io.BytesIO(self.codec.encode(self.sound, tags=()).data)), io.BytesIO()
        with ContainerWriter(out, reader.head) as writer:
            writer.metadata(MetadataKind.TEXT, b"just a note\nTITLE=t")
            for unit in reader.units():
                writer.unit(unit)
        assert self.codec.decode(out.getvalue()).tags == (("TITLE", "t"),)

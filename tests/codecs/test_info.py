"""What a file says of itself, without a model: the same as codecs say, for all media."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from triode.codecs.audio import AudioCodec
from triode.codecs.image import ImageCodec
from triode.codecs.info import AudioInfo, ImageInfo, VideoInfo, read_info
from triode.codecs.video import VideoCodec
from triode.container import DecodeLimits
from triode.errors import BitstreamError, LimitExceededError

GOLDEN = Path(__file__).parent.parent / "golden"
FILES = {
    "image-light.v2-alpha": (ImageCodec, ImageInfo),
    "audio-light-speech.v1-stereo": (AudioCodec, AudioInfo),
    "image-light.v2-clip": (VideoCodec, VideoInfo),
}


class Pipe(io.BytesIO):
    def seekable(self):
        return False


@pytest.mark.parametrize("name", FILES)
def test_is_what_the_codec_says(name):
    codec, kind = FILES[name]
    data = (GOLDEN / f"{name}.tri").read_bytes()
    found = read_info(data)
    assert isinstance(found, kind)
    assert found == codec().info(data) == read_info(Pipe(data))
    assert found.bytes == len(data)


@pytest.mark.parametrize("name", FILES)
def test_damage_and_limits(name):
    data = (GOLDEN / f"{name}.tri").read_bytes()
    with pytest.raises(BitstreamError):
        read_info(data[:-7])
    with pytest.raises(BitstreamError):
        read_info(b"no such file")
    with pytest.raises(LimitExceededError):
        read_info(data, DecodeLimits(max_chunks=1))

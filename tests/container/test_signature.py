import io

import pytest

from triode.container import SIGNATURE, ContainerReader, identify
from triode.container.chunks import ByteSource
from triode.container.signature import check_signature
from triode.errors import BitstreamError, TruncatedError

FOREIGN = {
    "PNG": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    "JPEG image": b"\xff\xd8\xff\xe0\0\x10JFIF\0",
    "GIF": b"GIF89a\1\0\1\0\0\0\0\0\0\0",
    "WebP": b"RIFF\x24\0\0\0WEBPVP8 ",
    "WAV": b"RIFF\x24\0\0\0WAVEfmt ",
    "AVI video": b"RIFF\x24\0\0\0AVI LIST",
    "AVIF": b"\0\0\0\x20ftypavif\0\0\0\0",
    "HEIF": b"\0\0\0\x20ftypheic\0\0\0\0",
    "MPEG-4 audio": b"\0\0\0\x20ftypM4A \0\0\0\0",
    "MPEG-4 or QuickTime": b"\0\0\0\x20ftypisom\0\0\0\0",
    "JPEG XL": b"\0\0\0\x0cJXL \r\n\x87\n\0\0\0\x14",
    "JPEG 2000": b"\0\0\0\x0cjP  \r\n\x87\n\0\0\0\x14",
    "TIFF": b"II*\0\x08\0\0\0",
    "FLAC": b"fLaC\0\0\0\x22",
    "Ogg": b"OggS\0\2\0\0",
    "MP3": b"ID3\4\0\0\0\0",
    "Matroska": b"\x1a\x45\xdf\xa3\xa3\x42\x86\x81",
    "YUV4MPEG2": b"YUV4MPEG2 W176 H144",
    "EnCodec": b"ECDC\0\0\0\0\x40",
    "ZIP": b"PK\x03\x04\x14\0\0\0",
    "BMP": b"BM\x36\0\0\0\0\0\0\0",
}


@pytest.mark.parametrize(("name", "start"), FOREIGN.items())
def test_foreign_files_are_named(name, start):
    assert name in identify(start)
    with pytest.raises(BitstreamError, match=f"not a Triode file: this is .*{name}"):
        ContainerReader(io.BytesIO(start + bytes(40)))


def test_unknown_files_show_their_first_bytes():
    assert identify(b"unknown bytes...") is None
    with pytest.raises(BitstreamError, match="begins with 00 01 02 03 04 05 06 07;"):
        check_signature(ByteSource(io.BytesIO(bytes(range(20)))))
    with pytest.raises(BitstreamError, match="begins with 68 69;"):
        check_signature(ByteSource(io.BytesIO(b"hi")))


@pytest.mark.parametrize("length", range(8))
def test_cut_signature(length):
    with pytest.raises(TruncatedError, match=f"after {length} of the 8"):
        check_signature(ByteSource(io.BytesIO(SIGNATURE[:length])))


@pytest.mark.parametrize(
    "damaged",
    [
        SIGNATURE.replace(b"\r\n", b"\n"),
        SIGNATURE.replace(b"\n", b"\r\n"),
        bytes([SIGNATURE[0] & 0x7F]) + SIGNATURE[1:],
    ],
)
def test_text_mode_damage_is_named(damaged):
    with pytest.raises(BitstreamError, match="transfer that changes text"):
        check_signature(ByteSource(io.BytesIO(damaged + b"HEAD")))


def test_signature():
    source = ByteSource(io.BytesIO(SIGNATURE + b"HEAD"))
    check_signature(source)
    assert source.position == 8

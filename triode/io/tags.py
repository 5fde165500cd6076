"""Tags of sound files: which are kept, and how WAV holds them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from triode.media import Tags

__all__ = ["KEYS", "info_chunk", "read_info_chunk", "to_tags"]

KEYS: Final = ("TITLE", "ARTIST", "ALBUM", "TRACKNUMBER", "DATE", "GENRE", "COMMENT", "COPYRIGHT", "LICENSE")
"""Keys that are kept, in the order of the tags. The program that wrote a file is left out: it is true no more."""

_OTHER_NAMES: Final = MappingProxyType({"TRACK": "TRACKNUMBER"})
_INFO: Final = MappingProxyType(
    {
        "TITLE": b"INAM",
        "ARTIST": b"IART",
        "ALBUM": b"IPRD",
        "TRACKNUMBER": b"ITRK",
        "DATE": b"ICRD",
        "GENRE": b"IGNR",
        "COMMENT": b"ICMT",
        "COPYRIGHT": b"ICOP",
    }
)
_LONGEST: Final = 4096


def to_tags(found: Mapping[str, str]) -> Tags:
    """Return the tags that are kept of those that a file has; values of more than 4096 characters are not.

    Args:
        found: Keys, of either case, and values.
    """
    upper = {key.upper(): value.strip() for key, value in found.items()}
    named = {_OTHER_NAMES.get(key, key): value for key, value in upper.items()}
    return tuple((key, named[key]) for key in KEYS if 0 < len(named.get(key, "")) <= _LONGEST)


def info_chunk(tags: Tags) -> bytes:
    """Return the `LIST` chunk of a WAV file that holds tags; nothing where there are none that it can hold."""
    body = b"INFO"
    for key, value in tags:
        if key in _INFO:
            text = value.encode("utf-8", "replace") + b"\0"
            body += _INFO[key] + len(text).to_bytes(4, "little") + text + b"\0" * (len(text) % 2)
    return b"" if body == b"INFO" else b"LIST" + len(body).to_bytes(4, "little") + body


def read_info_chunk(body: bytes) -> Tags:
    """Return the tags in the content of a `LIST` chunk, whatever it is; they may be damaged."""
    names = {code: key for key, code in _INFO.items()}
    found: dict[str, str] = {}
    at = 4 if body.startswith(b"INFO") else len(body)
    while at + 8 <= len(body):
        size = int.from_bytes(body[at + 4 : at + 8], "little")
        text = body[at + 8 : at + 8 + size].split(b"\0")[0]
        if body[at : at + 4] in names:
            found[names[body[at : at + 4]]] = text.decode("utf-8", "replace")
        at += 8 + size + size % 2
    return to_tags(found)

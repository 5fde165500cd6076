"""Tags of a recording as text: what its `text` chunk holds."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from triode.media import Tags

__all__ = ["pack_tags", "unpack_tags"]

_KEY: Final = re.compile(r"[A-Z][A-Z0-9_]{0,31}")
_LINE: Final = re.compile(rf"({_KEY.pattern})=(.*)")
_CONTINUED: Final = " "


def pack_tags(tags: Tags) -> bytes:
    """Return tags as UTF-8, a line ``KEY=value`` each; where a value goes on in a new line, that begins with a space.

    Raises:
        ValueError: If a key is not 1 to 32 capital letters, digits and underscores, the first a letter.
    """
    lines = []
    for key, value in tags:
        if not _KEY.fullmatch(key):
            raise ValueError(f"A tag is named by 1 to 32 characters of A-Z 0-9 _, but got {key!r}")
        lines.append(f"{key}={_clean(value)}".replace("\n", f"\n{_CONTINUED}"))
    return "\n".join(lines).encode("utf-8", "replace")


def unpack_tags(text: bytes | None) -> Tags:
    """Return the tags in a text, in their order; lines that are none are left out, as is what cannot be shown."""
    tags: list[tuple[str, str]] = []
    for line in (text or b"").decode("utf-8", "replace").split("\n"):
        if line.startswith(_CONTINUED) and tags:
            key, value = tags[-1]
            tags[-1] = (key, f"{value}\n{_clean(line[1:])}")
        elif match := _LINE.fullmatch(line):
            tags.append((match[1], _clean(match[2])))
    return tuple(tags)


def _clean(text: Iterable[str]) -> str:
    """Leave out control characters, which could move the cursor of a terminal."""
    return "".join(c for c in text if c == "\n" or c.isprintable())

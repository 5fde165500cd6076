"""Kinds of media."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Media"]


class Media(IntEnum):
    """Kinds of media. This release reads images and audio; the other codes are reserved for a later minor version."""

    IMAGE = 1
    AUDIO = 2
    VIDEO = 3

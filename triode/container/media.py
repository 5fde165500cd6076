"""Kinds of media."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Media"]


class Media(IntEnum):
    """Kinds of media; the other codes are reserved."""

    IMAGE = 1
    AUDIO = 2
    VIDEO = 3

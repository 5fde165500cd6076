"""Colour matrices of video, by the codes of ITU-T H.273."""

from __future__ import annotations

from typing import Final

from triode.errors import UnsupportedError

__all__ = ["MATRICES", "matrix_name"]

MATRICES: Final = {"bt709": 1, "bt601": 6}
"""The code that a matrix is written with."""
_NAMES: Final = {1: "bt709", 5: "bt601", 6: "bt601"}


def matrix_name(code: int) -> str:
    """Return the name of a matrix of ITU-T H.273.

    Raises:
        UnsupportedError: If it is another than those of BT.709 and BT.601.
    """
    if code not in _NAMES:
        raise UnsupportedError(f"the file has the colour matrix {code} of H.273; this release decodes 1, 5 and 6")
    return _NAMES[code]

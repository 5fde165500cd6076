"""Versions of PyAV and of the encoders inside its wheel, asked of the libraries themselves where they can say."""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from triode.io.pyav import import_av

__all__ = ["pyav_versions"]

_FUNCTIONS: Final = MappingProxyType(
    {
        "libopus": "opus_get_version_string",
        "libmp3lame": "get_lame_version",
        "libSvtAv1Enc": "svt_av1_get_version",
        "libdav1d": "dav1d_version",
    }
)
_VARIABLES: Final = MappingProxyType({"libx265": "x265_version_str"})


def pyav_versions(*libraries: str) -> Mapping[str, str]:
    """Return versions by name, of PyAV, FFmpeg's libavcodec, and libraries that PyAV brings.

    Args:
        *libraries: Such as ``libopus``; one that cannot be asked is left out.

    Raises:
        UnsupportedError: If PyAV is missing.
    """
    av = import_av("video")
    found = {"PyAV": str(av.__version__), "libavcodec": ".".join(map(str, av.library_versions["libavcodec"]))}
    for name in libraries:
        version = _ask(str(Path(str(av.__file__)).parent), name)
        if version:
            found[name] = version
    return found


@functools.cache
def _ask(package: str, name: str) -> str | None:
    """Return what a shared library of the wheel says of itself; None where it is linked in or has no such function."""
    folders = (Path(package).with_name("av.libs"), Path(package, ".dylibs"))
    for path in sorted(file for folder in folders for file in folder.glob(f"{name}[-.]*")):
        try:
            library = ctypes.CDLL(str(path))  # PyAV has loaded it; this is another handle
            if name in _VARIABLES:
                text = ctypes.c_char_p.in_dll(library, _VARIABLES[name]).value
            else:
                function = getattr(library, _FUNCTIONS[name])
                function.argtypes, function.restype = [], ctypes.c_char_p
                text = function()
        except (OSError, AttributeError, KeyError, ValueError):
            continue
        if text:
            return text.decode("ascii", "replace")
    return None

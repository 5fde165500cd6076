"""FFmpeg as a program: the static binary of the package imageio-ffmpeg, never a library that we link to."""

from __future__ import annotations

import functools
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from triode.errors import CodecError, UnsupportedError

__all__ = [
    "ffmpeg_binary",
    "ffmpeg_version",
    "has_decoder",
    "has_encoder",
    "has_filter",
    "run_ffmpeg",
    "vvenc_version",
]


@functools.cache
def ffmpeg_binary() -> str:
    """Return the path of the FFmpeg that imageio-ffmpeg brings; ``$IMAGEIO_FFMPEG_EXE`` names another one.

    Raises:
        UnsupportedError: If there is none.
    """
    try:
        import imageio_ffmpeg
    except ImportError as error:
        raise UnsupportedError("This needs FFmpeg's program: pip install 'triode[bench]'") from error
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError as error:
        raise UnsupportedError(f"imageio-ffmpeg finds no FFmpeg; pip install 'triode[bench]': {error}") from error


def run_ffmpeg(args: Sequence[str], stdin: bytes = b"") -> bytes:
    """Run FFmpeg and return what it writes.

    Args:
        args: Arguments after ``ffmpeg -hide_banner -y -loglevel error``. ``pipe:0`` stands for ``stdin``, ``pipe:1``
            for what is returned (name its format by ``-f``); without ``pipe:1`` the standard output is returned.
        stdin: What it reads.

    Returns:
        Its output. What encoders print, as libvvenc does to the standard output, is not in it where ``pipe:1`` is used.

    Raises:
        UnsupportedError: If there is no FFmpeg.
        CodecError: If it fails; the message ends with the last lines of what it said.
    """
    with tempfile.TemporaryDirectory(prefix="triode-") as folder:
        output = Path(folder, "output")
        done = _run(["-loglevel", "error", *(str(output) if a == "pipe:1" else a for a in args)], stdin)
        if done.returncode:
            said = " | ".join(done.stderr.decode("utf-8", "replace").strip().splitlines()[-3:])
            raise CodecError(f"FFmpeg failed with status {done.returncode}: {said or 'it said nothing'}")
        if "pipe:1" not in args:
            return done.stdout
        if not output.exists():
            raise CodecError("FFmpeg wrote nothing")
        return output.read_bytes()


def _run(args: Sequence[str], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    command = [ffmpeg_binary(), "-hide_banner", "-y", *args]
    return subprocess.run(command, input=stdin, capture_output=True, check=False)  # noqa: S603


@functools.cache
def ffmpeg_version() -> str:
    """Return the version in the binary's own words, such as ``n9.0.2-17-g2a571b6068-20260930``."""
    words = run_ffmpeg(["-version"]).decode("utf-8", "replace").split()
    return words[2] if words[:2] == ["ffmpeg", "version"] else "unknown"


@functools.cache
def vvenc_version() -> str:
    """Return the version of libvvenc in the binary, such as ``1.14.0``: what it says when it codes a grey frame."""
    source = ["-f", "lavfi", "-i", "color=gray:size=64x64:rate=1,format=yuv420p10le", "-frames:v", "1"]
    said = _run(["-loglevel", "verbose", *source, "-c:v", "libvvenc", "-preset", "faster", "-f", "null", "-"]).stderr
    found = re.search(rb"libvvenc version: (\S+)", said)
    return found[1].decode("ascii", "replace") if found else "unknown"


@functools.cache
def _listed(what: str) -> frozenset[str]:
    """Return the second word of every line that ``-encoders``, ``-decoders`` or ``-filters`` prints."""
    lines = run_ffmpeg([what]).decode("utf-8", "replace").splitlines()
    return frozenset(words[1] for words in map(str.split, lines) if len(words) > 2) - {"="}  # the legend has these


def has_encoder(name: str) -> bool:
    """Return whether the binary has an encoder, such as ``libvvenc``."""
    return name in _listed("-encoders")


def has_decoder(name: str) -> bool:
    """Return whether the binary has a decoder, such as ``vvc``."""
    return name in _listed("-decoders")


def has_filter(name: str) -> bool:
    """Return whether the binary has a filter, such as ``libvmaf``."""
    return name in _listed("-filters")

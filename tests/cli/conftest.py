"""Runs the command line in this process, on small images, usually with the stand-in for the codec."""

import io
import json
import logging
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from abuse.samples import chunk, split
from cli import fake_codec
from models.movies import movie
from models.tiny import save_tiny
from models.tiny_audio import tiny_sound_model, tone
from models.tiny_video import moving_clip
from PIL import Image

from triode.cli.main import main
from triode.io.audio import write_sound
from triode.io.video_writing import write_clip
from triode.media import Sound
from triode.models.weights import save_weights

SOUND_MODEL = "tiny-light.v1"
SOUND_RATE = 8000
IMAGE_MODEL = "tiny.v1"
"""Weights for images, which code clips frame by frame."""


class Stream(io.TextIOWrapper):
    """A standard stream of bytes that are kept when it is closed."""

    def __init__(self, data=b"", *, terminal=False, pipe=False):
        class Raw(io.BytesIO):
            def seekable(self):
                return not pipe

            def close(self):
                self.kept = self.getvalue()

        self.raw_bytes, self.terminal = Raw(data), terminal
        super().__init__(self.raw_bytes, encoding="utf-8", write_through=True)

    def isatty(self):
        return self.terminal


@dataclass(frozen=True)
class Result:
    code: int
    data: bytes
    err: str

    @property
    def out(self):
        return self.data.decode()

    @property
    def objects(self):
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def triode(real_triode, monkeypatch):
    """Return a function that runs the command line with the stand-in."""
    monkeypatch.setitem(sys.modules, "triode.codecs.image", fake_codec)
    return real_triode


@pytest.fixture
def real_triode(folder, monkeypatch):
    """Return a function that runs the command line."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(logging.getLogger("triode"), "handlers", [])
    monkeypatch.setenv("COLUMNS", "100")

    def run(*words, stdin=b"", terminal=False, stdin_terminal=False):
        out, err = Stream(terminal=terminal), Stream()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdin", Stream(stdin, terminal=stdin_terminal, pipe=True))
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            code = main([str(word) for word in words])
        return Result(code, out.raw_bytes.getvalue(), err.raw_bytes.getvalue().decode())

    return run


@pytest.fixture(scope="session")
def sound_home(tmp_path_factory):
    """A folder with weights for sound and for images, which nobody trained."""
    folder = tmp_path_factory.mktemp("sound-home")
    save_weights(
        tiny_sound_model(), folder / f"{SOUND_MODEL}.safetensors", name=SOUND_MODEL, architecture="audio-light"
    )
    save_tiny(folder, name=IMAGE_MODEL)
    return folder


@pytest.fixture
def sounds(triode, sound_home, monkeypatch):
    """Return a function that runs the command line with weights for sound in reach; images have the stand-in."""
    monkeypatch.setenv("TRIODE_HOME", str(sound_home))
    return triode


def make_talk(path, seconds=0.5, channels=1, rate=SOUND_RATE, tags=(), fmt=None):
    """Write a small recording and return its path."""
    count = round(seconds * rate)
    samples = np.stack([tone(max(count, 1), seed, rate)[:count] for seed in range(channels)])
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_sound(Path(path), Sound(samples, rate, tags), fmt=fmt)
    return Path(path)


def make_film(path, frames=8, **options):
    """Write a small video and return its path: y4m of 35 x 21 pixels, or else with sound, of 48 x 32."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".y4m":
        write_clip(path, moving_clip(frames, **options))
    else:
        fmt = {".mkv": "matroska"}.get(path.suffix, path.suffix[1:])
        path.write_bytes(movie(frames, fmt=fmt, **{"seconds": 0.2, **options}))
    return path


def break_unit(path, *indices):
    """Change a byte in the middle of some units of a file of several; the container's checksums do not fit any more."""
    data = bytearray(path.read_bytes())
    at = 8
    for kind, payload in split(bytes(data)):
        size = len(chunk(kind, payload))
        if kind == b"DATA":
            if 0 in indices:
                data[at + size // 2] ^= 0x55
            indices = [index - 1 for index in indices]
        at += size
    path.write_bytes(data)


def make_photo(path, width=12, height=8, mode="RGB", **options):
    """Write a small image and return its path."""
    channels = len(mode)
    pixels = np.arange(height * width * channels, dtype=np.uint8).reshape(height, width, channels)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[:, :, 0] if channels == 1 else pixels).save(path, **options)
    return Path(path)


@pytest.fixture
def photo(folder):
    """An image `photo.png` of 12 x 8 pixels."""
    return make_photo(folder / "photo.png")


@pytest.fixture
def files(folder):
    """Return a function that lists the files in the folder."""
    return lambda: sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())

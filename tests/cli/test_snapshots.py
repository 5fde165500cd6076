"""What the command prints, word for word, with numbers and paths masked.

`TRIODE_UPDATE_SNAPSHOTS=1 python -m pytest tests/cli/test_snapshots.py` writes the snapshots anew: read the difference.
"""

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cli.conftest import IMAGE_MODEL, SOUND_MODEL, break_unit, make_film, make_photo, make_talk
from cli.fake_codec import ImageCodec
from models.tiny_audio import tone
from models.tiny_video import moving_clip
from PIL import Image

from triode.codecs.audio import AudioCodec
from triode.codecs.video import VideoCodec
from triode.io.pil import picture_from_pil
from triode.media import Sound
from triode.version import __version__

SNAPSHOTS = Path(__file__).resolve().parent / "snapshots"


@dataclass(frozen=True)
class Case:
    words: str
    make: tuple = ("photo.png",)
    stdin: str | None = None
    terminal: bool = False
    exact: bool = False
    options: dict = field(default_factory=dict)


CASES = {
    "no-arguments": Case("", exact=True),
    "version": Case("--version", exact=True),
    "unknown-option": Case("encode photo.png --fast", exact=True),
    "no-input": Case("encode", exact=True),
    "quality-out-of-range": Case("encode photo.png -q 101", exact=True),
    "quality-no-number": Case("encode photo.png -q high", exact=True),
    "size-no-number": Case("encode photo.png --size 20x", exact=True),
    "bpp-zero": Case("encode photo.png --bpp 0", exact=True),
    "jobs-zero": Case("encode photo.png -j 0", exact=True),
    "two-targets": Case("encode photo.png -q 50 --bpp 1", exact=True),
    "encode": Case("encode photo.png"),
    "encode-effort": Case("encode photo.png --effort low --json"),
    "encode-json": Case("encode photo.png --json"),
    "encode-psnr-json": Case("encode photo.png --psnr 35 --json"),
    "encode-quiet": Case("encode photo.png --quiet"),
    "encode-exists": Case("encode photo.png", make=("photo.png", "photo.tri")),
    "encode-force": Case("encode photo.png -f", make=("photo.png", "photo.tri")),
    "encode-several": Case("encode a.png b.png --output-dir out --json", make=("a.png", "b.png")),
    "encode-some-fail": Case("encode a.png missing.png cmyk.tif --output-dir out --json", make=("a.png", "cmyk.tif")),
    "encode-all-fail-alike": Case("encode x.png y.png"),
    "encode-missing": Case("encode missing.png"),
    "encode-collision": Case("encode photo.png photo.jpg", make=("photo.png", "photo.jpg"), exact=True),
    "encode-onto-input": Case("encode photo.png -o photo.png -f", exact=True),
    "encode-twice-one-output": Case("encode a.png b.png -o c.tri", make=("a.png", "b.png"), exact=True),
    "encode-folder": Case("encode in", make=("in/a.png",), exact=True),
    "encode-empty-folder": Case("encode -r in", make=("in/notes.txt",), exact=True),
    "encode-tree": Case("encode -r in --output-dir out", make=("in/a.png", "in/sub/b.jpg", "in/sub/notes.txt")),
    "encode-stdin-to-folder": Case("encode - --output-dir out", stdin="photo.png", exact=True),
    "encode-to-terminal": Case("encode photo.png -o -", terminal=True),
    "encode-json-and-data": Case("encode photo.png -o - --json", exact=True),
    "encode-missing-model": Case("encode photo.png -m missing.v1"),
    "encode-bug": Case("encode photo.png -m crash.v1"),
    "encode-memory": Case("encode photo.png -m memory.v1"),
    "encode-verify-fails": Case("encode photo.png -m liar.v1 --verify", make=("photo.png:RGBA",)),
    "encode-animation": Case("encode film.gif", make=("film.gif",), exact=True),
    "encode-cmyk": Case("encode cmyk.tif", make=("cmyk.tif",), exact=True),
    "encode-cmyk-convert": Case("encode cmyk.tif --convert", make=("cmyk.tif",)),
    "encode-sound": Case("encode sound.wav", make=("sound.wav",), exact=True),
    "encode-text": Case("encode notes.txt", make=("notes.txt",)),
    "encode-tri": Case("encode photo.tri -o other.tri", make=("photo.tri",), exact=True),
    "encode-truncated": Case("encode cut.png", make=("cut.png",)),
    "encode-too-large": Case("encode photo.png --max-pixels 95", exact=True),
    "encode-target-not-reached": Case("encode photo.png --size 99"),
    "decode": Case("decode photo.tri", make=("photo.tri",)),
    "decode-json": Case("decode photo.tri -o a.webp --json", make=("photo.tri",)),
    "decode-unknown-format": Case("decode photo.tri -o a.gif", make=("photo.tri",), exact=True),
    "decode-png": Case("decode photo.png -o a.png"),
    "decode-cut": Case("decode cut.tri --json", make=("cut.tri",)),
    "decode-too-large": Case("decode photo.tri --max-pixels 95", make=("photo.tri",), exact=True),
    "decode-unknown-model": Case("decode photo.tri", make=("photo.tri@unknown.v1",), exact=True),
    "decode-alpha-to-jpeg": Case("decode photo.tri -o a.jpg", make=("photo.tri:RGBA",), exact=True),
    "decode-stdin-text": Case("decode -", stdin="notes.txt", make=("notes.txt",)),
    "info": Case("info photo.tri", make=("photo.tri:RGBA",)),
    "info-json": Case("info photo.tri --json", make=("photo.tri",)),
    "info-missing": Case("info a.tri photo.tri", make=("photo.tri",)),
    "verify": Case("verify photo.tri", make=("photo.tri",)),
    "verify-json": Case("verify photo.tri cut.tri --json", make=("photo.tri", "cut.tri")),
    "compare": Case("compare photo.png photo.tri", make=("photo.png", "photo.tri")),
    "compare-json": Case("compare photo.png photo.tri --json", make=("photo.png", "photo.tri")),
    "compare-one-file": Case("compare photo.png", exact=True),
    "compare-sizes-differ": Case("compare photo.png tall.png", make=("photo.png", "tall.png"), exact=True),
    "audio-encode": Case("encode talk.wav -m tiny-light.v1", make=("talk.wav",)),
    "audio-encode-json": Case("encode talk.wav -m tiny-light.v1 --kbps 60 --json", make=("talk.wav",)),
    "audio-encode-mixed": Case(
        "encode -r in --output-dir out -m tiny-light.v1", make=("in/talk.wav", "in/photo.png", "in/sub/talk.wav")
    ),
    "audio-encode-bpp": Case("encode talk.wav --bpp 1", make=("talk.wav",), exact=True),
    "audio-encode-two-targets": Case("encode talk.wav --kbps 6 -q 50", make=("talk.wav",), exact=True),
    "audio-decode": Case("decode talk.tri", make=("talk.tri",)),
    "audio-decode-json": Case("decode talk.tri -o a.wav --json --range 0.1s:2000", make=("talk.tri",)),
    "audio-decode-partial": Case("decode talk-broken.tri --partial", make=("talk-broken.tri",)),
    "audio-decode-broken": Case("decode talk-broken.tri", make=("talk-broken.tri",)),
    "audio-decode-cut": Case("decode talk-cut.tri --json", make=("talk-cut.tri",)),
    "audio-decode-nothing": Case("decode talk.tri --range 3s:", make=("talk.tri",)),
    "audio-decode-range": Case("decode talk.tri --range 3", make=("talk.tri",), exact=True),
    "audio-decode-mp3": Case("decode talk.tri -o talk.mp3", make=("talk.tri",), exact=True),
    "audio-decode-png": Case("decode talk.tri -o talk.png", make=("talk.tri",), exact=True),
    "audio-info": Case("info talk.tri", make=("talk.tri",)),
    "audio-info-json": Case("info talk.tri --json", make=("talk.tri",)),
    "audio-verify": Case("verify talk.tri", make=("talk.tri",)),
    "audio-verify-json": Case("verify talk.tri talk-cut.tri --json", make=("talk.tri", "talk-cut.tri")),
    "video-encode": Case("encode clip.mp4 -m tiny.v1", make=("clip.mp4",)),
    "video-encode-json": Case("encode clip.y4m -m tiny.v1 --kbps 200 --gop 3 --resume --json", make=("clip.y4m",)),
    "video-encode-bpp": Case("encode clip.y4m --bpp 1", make=("clip.y4m",), exact=True),
    "video-encode-cut": Case("encode clip-cut.y4m -m tiny.v1", make=("clip-cut.y4m",)),
    "video-encode-engine": Case("encode clip.y4m --ray-address auto", make=("clip.y4m",), exact=True),
    "video-encode-gop": Case("encode clip.y4m --gop 70000", make=("clip.y4m",), exact=True),
    "video-encode-resume-pipe": Case("encode clip.y4m -m tiny.v1 --resume -o -", make=("clip.y4m",), exact=True),
    "video-decode": Case("decode clip.tri", make=("clip.tri",)),
    "video-decode-json": Case("decode clip.tri -o a.y4m --json --range 2:160ms", make=("clip.tri",)),
    "video-decode-range-json": Case("decode clip.tri -o a.y4m --json --range 2:4", make=("clip.tri",)),
    "video-decode-nothing": Case("decode clip.tri --range 3s:", make=("clip.tri",)),
    "video-decode-partial": Case("decode clip-broken.tri --partial", make=("clip-broken.tri",)),
    "video-decode-broken": Case("decode clip-broken.tri", make=("clip-broken.tri",)),
    "video-decode-cut": Case("decode clip-cut.tri --json", make=("clip-cut.tri",)),
    "video-decode-mp4": Case("decode clip.tri -o clip.mp4", make=("clip.tri",)),
    "video-decode-png": Case("decode clip.tri -o clip.png", make=("clip.tri",), exact=True),
    "video-info": Case("info clip.tri", make=("clip.tri",)),
    "video-info-json": Case("info clip.tri --json", make=("clip.tri",)),
    "video-verify": Case("verify clip.tri clip-broken.tri", make=("clip.tri", "clip-broken.tri")),
    "video-verify-json": Case("verify clip.tri --json", make=("clip.tri",)),
    "image-kbps": Case("encode photo.png --kbps 6", exact=True),
    "image-range": Case("decode photo.tri --range 1s:2s", make=("photo.tri",), exact=True),
    "export-suffix": Case("export a.ckpt -o weights.pt", make=(), exact=True),
    "export-missing": Case("export a.ckpt -o a.v1.safetensors", make=(), exact=True),
}


def make(spec):
    """Make a file: `name[:mode][@model]`."""
    spec, _, model = spec.partition("@")
    name, _, mode = spec.partition(":")
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    match path.name:
        case "notes.txt":
            path.write_text("This is no picture.")
        case "sound.wav":
            path.write_bytes(b"RIFF\x24\0\0\0WAVEfmt ")
        case "cut.png":
            whole = make_photo("whole.png")
            path.write_bytes(whole.read_bytes()[:-30])
            whole.unlink()
        case "film.gif":
            frames = [Image.new("L", (8, 8), shade) for shade in (0, 90, 180)]
            frames[0].save(path, save_all=True, append_images=frames[1:])
        case "tall.png":
            make_photo(path, height=9)
        case "cmyk.tif":
            Image.new("CMYK", (8, 8)).save(path)
        case "talk.wav":
            make_talk(path, 0.25)
        case "clip.mp4" | "clip.y4m":
            make_film(path, 4)
        case "clip-cut.y4m":
            path.write_bytes(make_film("whole.y4m", 2).read_bytes()[:-100])
            Path("whole.y4m").unlink()
        case _ if path.suffix == ".tri" and path.stem.startswith("clip"):
            data = VideoCodec(IMAGE_MODEL, gop=2).encode(moving_clip(5)).data
            if "cut" in name:
                data = data[:-9]
            path.write_bytes(data)
            if "broken" in name:
                break_unit(path, 1)
        case _ if path.suffix == ".tri" and path.stem.startswith("talk"):
            sound = Sound(tone(24_000)[None], 8000, (("TITLE", "A talk"),))
            data = bytearray(AudioCodec(SOUND_MODEL).encode(sound).data)
            if "broken" in name:
                data[len(data) // 4] ^= 1
            path.write_bytes(data[:-9] if "cut" in name else data)
        case _ if path.suffix == ".tri":
            image = Image.new(mode or "RGB", (12, 8), 7)
            image.info["xmp"] = b"<x/>"
            data = ImageCodec(model or None).encode(picture_from_pil(image)).data
            path.write_bytes(data[:-9] if "cut" in name else data)
        case _:
            make_photo(path, mode=mode or "RGB")


def mask(text, folder, *, exact):
    text = text.replace(str(folder), "FOLDER").replace(__version__, "VERSION")
    text = text if exact else re.sub(r"\b[0-9a-f]{8}\b", "#", text)  # digests and CRCs
    return text if exact else re.sub(r"(?<![\w.])(?<!exit_code\": )\d+(\.\d+)?", "#", text)


@pytest.mark.parametrize("name", CASES)
def test_snapshot(name, sounds, folder, files):
    case = CASES[name]
    for spec in case.make:
        make(spec)
    if case.stdin == "photo.png":
        make("photo.png")
    stdin = Path(case.stdin).read_bytes() if case.stdin else b""
    result = sounds(*case.words.split(), stdin=stdin, terminal=case.terminal)
    parts = {
        "command": f"triode {case.words}".strip(),
        "exit": str(result.code),
        "stdout": mask(result.out, folder, exact=case.exact),
        "stderr": mask(result.err, folder, exact=case.exact),
        "files": " ".join(files()),
    }
    found = "".join(
        f"--- {title}\n{text}" + ("" if text.endswith("\n") or not text else "\n") for title, text in parts.items()
    )
    path = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("TRIODE_UPDATE_SNAPSHOTS"):
        path.write_text(found)
    assert found == path.read_text()


def test_no_snapshot_is_left_over():
    assert {path.stem for path in SNAPSHOTS.glob("*.txt")} == set(CASES)

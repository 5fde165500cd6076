"""Photos out of packages: the named wallpapers, and what lies in Qt resource files."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

from models.tiny import smooth_image
from PIL import Image

TOOL = Path(__file__).resolve().parents[2] / "tools" / "gather_photos.py"


def webp(height: int, width: int, alpha: int | None = None) -> bytes:
    data, image = io.BytesIO(), Image.fromarray(smooth_image(height, width))
    if alpha is not None:
        image.putalpha(alpha)
    image.save(data, "WEBP", quality=30)
    return data.getvalue()


def test_what_is_taken_and_how_large(tmp_path: Path) -> None:
    package = tmp_path / "package"
    shares = package / "usr" / "share" / "wallpapers" / "Dune" / "contents"
    for name, size in (("images/400x300.png", (300, 400)), ("images/1800x900.png", (900, 1800))):
        (shares / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(smooth_image(*size)).save(shares / name)
    Image.fromarray(smooth_image(2000, 2000)).save(shares / "screenshot.png")
    other = package / "usr" / "share" / "wallpapers" / "Drawn" / "1800x900.png"
    other.parent.mkdir()
    Image.fromarray(smooth_image(90, 180)).save(other)
    junk = b"qres" + b"RIFF\xff\xff\xff\x7fWEBP" + b"RIFF\x04\0\0\0WEBP" + b"RIFFxx"
    pictures = [webp(400, 600), webp(700, 1400), webp(310, 900), webp(200, 600), webp(400, 600, 100)]
    (package / "animals.rcc").write_bytes(junk + b"\0".join(pictures) + b"RIFF")
    (package / "babyshapes.rcc").write_bytes(webp(400, 600))
    command = [sys.executable, str(TOOL), str(package), "-o", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    sizes = {}
    for path in (tmp_path / "out").iterdir():
        with Image.open(path) as image:
            sizes[path.name] = image.size
    assert sizes == {"Dune.png": (1200, 600), "animals_0.png": (390, 260), "animals_1.png": (700, 350)}
    assert done.stdout.startswith("3 photos, 1.1 megapixels")

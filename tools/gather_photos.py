"""Gather photos for training from extracted Debian packages.

    python tools/gather_photos.py FOLDER [FOLDER ...] -o PHOTOS/extra

Get them by `apt-get download PACKAGE; dpkg -x PACKAGE_*.deb FOLDER`:

- plasma-workspace-wallpapers, mate-backgrounds, lomiri-wallpapers-16.04, lomiri-wallpapers-20.04: the photos among
  them, which `WALLPAPERS` names; the rest is drawn. They are shrunk by 1.5 or more, to at most 2048 pixels a side.
- gcompris-qt-data: photos of animals, monuments and instruments, WebP inside of Qt resource files (.rcc). These are
  coded at some 0.6 bits a pixel: they are shrunk to a half, those of under 1400 pixels to 0.65, so that little is left
  of what coding did to them. Pictures with transparency, small ones and the groups in `DRAWN` are left out.

Training never holds back what lies in a folder `extra`. Licences are in the packages. Writes PNG; prints what it found.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, UnidentifiedImageError

WALLPAPERS = frozenset(
    [
        "Aqua",
        "Blinds",
        "Bridge_by_Sander_Klootwijk",
        "ColdRipple",
        "ColorfulCups",
        "DarkestHour",
        "Dragonfly_by_Bolly",
        "Dune",
        "EveningGlow",
        "FallenLeaf",
        "FreshFlower",
        "Garden",
        "GreenMeadow",
        "Grey",
        "Kite",
        "Kleiber_by_Lukas_Baubkus",
        "LadyBird",
        "OneStandsOut",
        "Path",
        "Picture_0B_by_freespace",
        "Picture_1A_by_freespace",
        "RainDrops",
        "TwoWings",
        "Volna",
        "Wine_by_Jakkub_Mede",
        "Wood",
        "YellowFlower",
        "aitzgorri_by_Aitzol_Berasategi",
        "free_by_Peter_Nerlich",
        "friends_by_Aitzol_Berasategi",
        "greentock_by_Peter_Nerlich",
        "life_by_Aitzol_Berasategi",
        "picosdeeuropa_by_Aitzol_Berasategi",
        "seeding_by_Clements_Engelhardt",
        "summer_1am",
        "sunset_by_Aitzol_Berasategi",
    ]
)
"""Stems of files, or names of folders below `wallpapers`."""
DRAWN = ("babyshapes", "categorization")
"""Groups of GCompris whose pictures are cut out or drawn."""
_SHORTEST, _SMALLEST = 300, 256


def wallpapers(folder: Path) -> Iterator[tuple[str, Image.Image]]:
    """Yield name and picture of the wallpapers that are photos, the largest file of each."""
    best: dict[str, Path] = {}
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in {".jpg", ".jpeg", ".png"} and p.is_file()):
        parts = path.relative_to(folder).parts
        below = parts[parts.index("wallpapers") + 1] if "wallpapers" in parts[:-1] else ""
        for name in WALLPAPERS & {path.stem, below}:
            if "screenshot" not in path.name and "images_dark" not in parts:
                best[name] = max(best.get(name, path), path, key=lambda p: p.stat().st_size)
    for name, path in sorted(best.items()):
        with Image.open(path) as image:
            picture = image.convert("RGB")
        longer = max(picture.size)
        yield name, shrunk(picture, 1 / max(1.5, longer / 2048) if longer > 1600 else 1.0)


def resources(folder: Path) -> Iterator[tuple[str, Image.Image]]:
    """Yield name and picture of the photos inside of Qt resource files."""
    for path in sorted(folder.rglob("*.rcc")):
        if path.stem in DRAWN:
            continue
        data, at, number = path.read_bytes(), 0, 0
        while (at := data.find(b"RIFF", at)) >= 0:
            size = int.from_bytes(data[at + 4 : at + 8], "little") + 8
            if data[at + 8 : at + 12] != b"WEBP" or at + size > len(data):
                at += 4
                continue
            try:
                with Image.open(io.BytesIO(data[at : at + size])) as image:
                    if min(image.size) >= _SHORTEST and "A" not in image.getbands():
                        factor = max(0.5 if image.width >= 1400 else 0.65, _SMALLEST / min(image.size))
                        if factor <= 0.8:
                            yield f"{path.stem}_{number}", shrunk(image.convert("RGB"), factor)
                        number += 1
            except (UnidentifiedImageError, OSError):
                pass  # bytes that look like the start of a picture
            at += size


def shrunk(picture: Image.Image, factor: float) -> Image.Image:
    """Return a picture scaled by a factor of at most 1."""
    if factor == 1:
        return picture
    size = (round(picture.width * factor), round(picture.height * factor))
    return picture.resize(size, Image.Resampling.LANCZOS)


def main() -> None:
    """Gather."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    Image.MAX_IMAGE_PIXELS = None
    options.out.mkdir(parents=True, exist_ok=True)
    count = pixels = 0
    for folder in options.folders:
        for find in (wallpapers, resources):
            for name, picture in find(folder):
                picture.save(options.out / f"{name}.png", compress_level=1)
                count, pixels = count + 1, pixels + picture.width * picture.height
    print(f"{count} photos, {pixels / 1e6:.1f} megapixels")


if __name__ == "__main__":
    main()

"""A photo for tests of image coders, and the checks that all of them pass."""

import json
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from triode.errors import BitstreamError
from triode.eval.coder import Coder

PHOTO = Path(__file__).parents[3] / "examples" / "kodim23.png"


@lru_cache
def _photo():
    with Image.open(PHOTO) as image:
        return np.array(image.convert("RGB"))


def photo(height=96, width=128):
    """Cut a piece with an edge and texture in colour."""
    return _photo()[180 : 180 + height, 160 : 160 + width].copy()


def psnr(a, b):
    return 10 * np.log10(255**2 / max(np.mean((a.astype(float) - b) ** 2), 1e-6))


def check_curve(coder: Coder, qualities=None, pixels=None, tolerance=0.0):
    """Each quality costs more bytes and is closer to the original than the one before."""
    pixels = photo() if pixels is None else pixels
    sizes, values = [], []
    for quality in qualities or coder.qualities:
        data = coder.encode(pixels, quality)
        assert isinstance(data, bytes)
        decoded = coder.decode(data)
        assert (decoded.shape, decoded.dtype) == (pixels.shape, np.uint8)
        check_parts(coder, data)
        sizes.append(len(data))
        values.append(psnr(decoded, pixels))
    assert all(a < b for a, b in pairwise(sizes)), sizes
    assert all(a < b + tolerance for a, b in pairwise(values)), values
    return sizes, values


def check_parts(coder, data):
    parts = coder.parts(data)
    assert 0 < coder.payload_bytes(data) <= len(data)
    assert not parts or sum(parts.values()) == len(data)
    assert all(size >= 0 for size in parts.values())


def check_sizes(coder, quality, least=20.0, sizes=((1, 1), (1, 7), (9, 1), (33, 17))):
    """Every size comes back, near enough that nothing is shifted or cut at the wrong end."""
    for height, width in sizes:
        pixels = photo(height, width)
        decoded = coder.decode(coder.encode(pixels, quality))
        assert decoded.shape == pixels.shape
        assert psnr(decoded, pixels) > least, (height, width)


def check_refusals(coder, bad_qualities):
    for item in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((4, 4, 4), np.uint8), "picture"):
        with pytest.raises(ValueError, match=r"array .H, W, 3. of uint8"):
            coder.encode(item, coder.qualities[0])
    with pytest.raises(ValueError, match="at least one pixel"):
        coder.encode(np.zeros((0, 4, 3), np.uint8), coder.qualities[0])
    for quality in bad_qualities:
        with pytest.raises(ValueError, match=f"Quality .*{quality}"):
            coder.encode(photo(8, 8), quality)


def check_damage(coder, quality):
    """What is no file, or not all of one, is refused as such; nothing else may come out than pixels or that error."""
    data = coder.encode(photo(40, 48), quality)
    for bad in (b"", b"no picture at all", data[: len(data) // 4]):
        with pytest.raises(BitstreamError):
            coder.decode(bad)


def check_facts(coder, *versions):
    facts = coder.facts()
    assert facts.kind in ("classical", "learned")
    assert facts.title
    assert json.loads(json.dumps(dict(facts.options))) == dict(facts.options)
    assert set(versions) <= facts.versions.keys()
    assert all(v and v != "None" for v in facts.versions.values())
    assert coder.media == "image"
    assert len(coder.qualities) > 0
    return facts

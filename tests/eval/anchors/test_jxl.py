import io
import sys

import numpy as np
import pytest
from eval.anchors.pictures import check_curve, check_damage, check_facts, check_refusals, check_sizes, photo
from PIL import Image

from triode.errors import UnsupportedError
from triode.eval.coder import create_coder

pytest.importorskip("pillow_jxl")


def test_codes_better_with_more_bytes():
    check_curve(create_coder("jxl", "image"))


def test_codes_every_size():
    check_sizes(create_coder("jxl", "image"), 90)


def test_refuses_what_is_not_valid():
    check_refusals(create_coder("jxl", "image"), (-1, 100, 101))


def test_damage():
    check_damage(create_coder("jxl", "image"), 60)


def test_facts():
    facts = check_facts(create_coder("jxl:effort=3", "image"), "pillow-jxl-plugin")
    assert (facts.options["effort"], facts.options["threads"]) == (3, 1)


def test_is_what_the_plug_in_makes():
    coder, pixels, file = create_coder("jxl", "image"), photo(), io.BytesIO()
    Image.fromarray(pixels).save(file, "JXL", quality=60, effort=7)
    data = coder.encode(pixels, 60)
    assert data == file.getvalue()
    assert data.startswith(b"\xff\x0a")  # a bare codestream
    np.testing.assert_array_equal(coder.decode(data), np.asarray(Image.open(file).convert("RGB")))


def test_effort_and_threads():
    pixels, coders = photo(), [create_coder(f"jxl:{o}", "image") for o in ("effort=1", "effort=7", "threads=2")]
    fast, usual, parallel = (coder.encode(pixels, 75) for coder in coders)
    assert fast != usual == parallel


def test_options_are_checked():
    for spec, message in (("jxl:effort=11", "integer in 1..10"), ("jxl:distance=1", "it has: effort, threads")):
        with pytest.raises(ValueError, match=message):
            create_coder(spec, "image")


def test_without_the_plug_in(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    with pytest.raises(UnsupportedError, match=r"triode\[bench\]"):
        create_coder("jxl", "image")

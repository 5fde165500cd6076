"""Samples: which are chosen, that they are lossless, and that a page stays small."""

from __future__ import annotations

import base64
import io
import wave
from dataclasses import replace

import numpy as np
import pytest
from eval.report.make_report import HEIGHT, ITEMS, RATE, WIDTH, make_results
from PIL import Image

from triode.eval.report import samples as module
from triode.eval.report.samples import collect_samples

LARGE = 10_000_000


def decoded(sample):
    return base64.b64decode(sample.uri.partition(",")[2])


@pytest.fixture
def folder(tmp_path):
    return tmp_path


def test_levels_follow_the_subject_and_take_the_nearest_rate(folder):
    results = make_results(folder)
    found = collect_samples(results, folder, subject=0, budget=LARGE)
    assert (found.kind, [group.item for group in found.groups], found.notes) == ("image", list(ITEMS), ())
    group = found.groups[0]
    ours = sorted(results.rate(m) for m in results.measurements if m.codec == "ours" and m.item == "one" and m.sample)
    assert [level.name for level in group.levels] == ["low", "mid", "high"]
    assert [level.target for level in group.levels] == [ours[0], ours[1], ours[2]]
    for level in group.levels:
        assert [one.codec for one in level.shown] == [0, 1, 2, 3, 4]
        for one in level.shown:
            codec = results.codecs[one.codec].name
            others = [m for m in results.measurements if (m.item, m.codec) == ("one", codec) and m.sample]
            best = min(others, key=lambda m: abs(np.log(results.rate(m) / level.target)))
            assert results.measurements[one.row] == best


def test_pictures_are_lossless_and_embedded_once(folder):
    results = make_results(folder)
    group = collect_samples(results, folder, subject=0, budget=LARGE).groups[0]
    assert group.embedded[0].row is None
    assert len({sample.id for sample in group.embedded}) == len(group.embedded)
    assert {one.id for level in group.levels for one in level.shown} == {sample.id for sample in group.embedded[1:]}
    for sample in group.embedded:
        path = results.samples["one"] if sample.row is None else results.measurements[sample.row].sample
        assert sample.uri.startswith("data:image/webp;base64,")
        with Image.open(io.BytesIO(decoded(sample))) as shown, Image.open(folder / path) as original:
            np.testing.assert_array_equal(np.asarray(shown.convert("RGB")), np.asarray(original))
    assert (group.width, group.height, group.cut) == (WIDTH, HEIGHT, "")


def test_large_pictures_are_cropped_alike_and_items_left_out(folder, monkeypatch):
    monkeypatch.setattr(module, "SIDES", (16, 32, 64))
    results = make_results(folder)
    whole = sum(
        len(s.uri) for g in collect_samples(results, folder, subject=0, budget=LARGE).groups for s in g.embedded
    )
    for budget in (whole // 2, whole // 8, 20_000, 100):
        found = collect_samples(results, folder, subject=0, budget=budget)
        assert sum(len(s.uri) for g in found.groups for s in g.embedded) <= budget
        assert len(found.groups) == 3 or "left out" in found.notes[-1]
        for group in found.groups:
            assert group.cut == f"{group.width}\u00d7{group.height} pixels from the middle"
            sizes = {Image.open(io.BytesIO(decoded(sample))).size for sample in group.embedded}
            assert sizes == {(group.width, group.height)}
    assert collect_samples(results, folder, subject=0, budget=100).groups == ()


def test_nothing_outside_the_folder_is_read(folder):
    inside = folder / "inside"
    results = make_results(inside)
    (folder / "secret.png").write_bytes((inside / "samples" / "0.png").read_bytes())
    (inside / "samples" / "link.png").symlink_to(folder / "secret.png")
    for path in ("../secret.png", str(folder / "secret.png"), "samples/link.png", "samples", "none.png", "a\0b"):
        found = collect_samples(replace(results, samples={"one": path}), inside, subject=0, budget=LARGE)
        assert found.groups == ()
        assert found.notes == ("The sample of one is missing.",)


def test_broken_and_unlike_samples_are_noted(folder):
    results = make_results(folder)
    (folder / "samples" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(20))
    Image.new("RGB", (8, 8)).save(folder / "samples" / "1-1-0.png")
    (folder / "samples" / "2.png").rename(folder / "samples" / "2.mp4")
    results = replace(results, samples={**results.samples, "three": "samples/2.mp4"})
    found = collect_samples(results, folder, subject=0, budget=LARGE)
    assert found.groups == ()
    assert len(found.notes) == 3
    assert "kind" in found.notes[0]
    assert "1-1-0.png is not of the same size as 1.png" in found.notes[2]


def test_subject_without_samples(folder):
    results = make_results(folder)
    rows = tuple(replace(m, sample=None) if m.codec == "ours" else m for m in results.measurements)
    group = collect_samples(replace(results, measurements=rows), folder, subject=0, budget=LARGE).groups[0]
    assert [one.codec for one in group.levels[0].shown] == [1, 2, 3, 4]
    none = tuple(replace(m, sample=None) for m in rows)
    assert collect_samples(replace(results, measurements=none), folder, subject=0, budget=LARGE).groups == ()


@pytest.mark.parametrize("flac", [False, True])
def test_sound_is_lossless_and_cut_from_the_start(folder, monkeypatch, flac):
    if flac:
        soundfile = pytest.importorskip("soundfile")
    else:
        monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    monkeypatch.setattr(module, "SECONDS", (0.5, 1.0))
    results = make_results(folder, "audio")
    found = collect_samples(results, folder, subject=0, budget=LARGE)
    assert found.kind == "audio"
    group = found.groups[0]
    assert group.cut == "the first 1.0 s"
    for sample in group.embedded:
        path = results.samples["one"] if sample.row is None else results.measurements[sample.row].sample
        with wave.open(str(folder / path)) as file:
            expected = np.frombuffer(file.readframes(RATE), "<i2")
        if flac:
            assert sample.uri.startswith("data:audio/flac;")
            samples, _ = soundfile.read(io.BytesIO(decoded(sample)), dtype="int16")
        else:
            assert sample.uri.startswith("data:audio/wav;")
            with wave.open(io.BytesIO(decoded(sample))) as file:
                samples = np.frombuffer(file.readframes(10**6), "<i2")
        np.testing.assert_array_equal(samples, expected)

"""Published curves: what ships, where it comes from, and that it says what the literature says."""

from __future__ import annotations

import json
from importlib import resources

import pytest
from eval.make_results import make_results

from triode.eval.bdrate import RatePoint, bd_rate
from triode.eval.published import list_datasets, list_published, published
from triode.eval.results import Results

FOLDER = resources.files("triode.eval").joinpath("curves")


def points(name, metric="psnr", dataset="kodak"):
    [curve] = published(name, dataset)
    return [RatePoint(*point) for point in curve.points[metric]]


def test_what_there_is():
    assert set(list_datasets()) == {"kodak", "clic2020-mobile", "clic2020-professional"}
    for dataset in list_datasets():
        names = list_published("image", dataset)
        assert len(set(names)) == len(names)
        assert {f"compressai-{name}" for name in ("jpeg", "webp", "jpeg2000", "bpg", "av1", "vtm", "hm")} <= set(names)
        assert [curve.name for curve in published("*", dataset)] == list(names)
    assert list_published("image", "tecnick") == list_published("audio") == list_datasets("audio") == ()


def test_patterns():
    assert [curve.name for curve in published("compressai-webp")] == ["compressai-webp"]
    assert len(published("compressai-*-mse")) == len(published("compressai-*-ms-ssim")) == 6


@pytest.mark.parametrize("dataset", list_datasets())
def test_points_are_sane_and_all_different(dataset):
    seen = set()
    for curve in published("*", dataset):
        assert set(curve.points) <= {"psnr", "ms-ssim"}
        for metric, pairs in curve.points.items():
            rates = [rate for rate, _ in pairs]
            assert rates == sorted(set(rates))
            assert len(rates) >= 6
            assert all(0.02 < rate < 8 for rate in rates)
            assert all(20 < value < 51 if metric == "psnr" else 0.5 < value < 1 for _, value in pairs)
            assert [value for _, value in pairs] == sorted(value for _, value in pairs)
            assert (metric, pairs) not in seen, f"{curve.name} repeats another"
            seen.add((metric, pairs))


def test_each_has_source_and_licence():
    for file in FOLDER.iterdir():
        if not file.name.endswith(".json"):
            continue
        data = json.loads(file.read_text())
        assert "BSD-3-Clause-Clear" in data["licence"]
        assert len(file.read_text()) < 20_000
        for curve in published("*", data["dataset"]):
            assert curve.source.startswith("https://github.com/InterDigitalInc/CompressAI/blob/master/results/image/")
            assert (curve.licence, curve.dataset) == (data["licence"], data["dataset"])
    assert "Clear" not in (text := FOLDER.joinpath("LICENSE-CompressAI.txt").read_text())
    assert "InterDigital Communications, Inc" in text
    assert "Redistributions in binary form must reproduce the above copyright notice" in " ".join(text.split())


def test_figures_are_those_of_the_literature():
    """Ballé 2018 reports its hyperprior near BPG, Minnen 2018 about 8 % below it; VTM leads all of them but ELIC."""
    bpg = points("compressai-bpg")
    assert bd_rate(bpg, points("compressai-jpeg")).percent > 100
    assert abs(bd_rate(bpg, points("compressai-bmshj2018-hyperprior-mse")).percent) < 8
    assert -15 < bd_rate(bpg, points("compressai-mbt2018-mse")).percent < -5
    vtm = points("compressai-vtm")
    assert all(bd_rate(vtm, points(c.name)).percent > 0 for c in published("compressai-*-mse"))
    assert bd_rate(vtm, points("paper-elic2022-mse")).percent < 0
    # Models trained for MS-SSIM are the better ones there, and there alone.
    for metric, sign in (("ms-ssim", -1), ("psnr", 1)):
        mse, other = (points(f"compressai-mbt2018-mean-{loss}", metric) for loss in ("mse", "ms-ssim"))
        assert sign * bd_rate(mse, other).percent > 15


def test_they_travel_with_results():
    from dataclasses import replace

    results = replace(make_results(), published=published("compressai-*"))
    assert Results.from_json(results.to_json()).published == results.published


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nokia-*",), "compressai-jpeg, "),
        (("*", "tecnick"), "curves are clic2020-mobile, clic"),
        (("*", "kodak", "audio"), "are none"),
    ],
)
def test_unknown_names(words, message):
    with pytest.raises(ValueError, match=message):
        published(*words)

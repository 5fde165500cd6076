"""What the page shows, and the data in it."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from eval.report.make_report import CODECS, EVIL, make_results

from triode.eval.report import data as module
from triode.eval.report.data import make_view, page_data, to_script
from triode.eval.results import Results
from triode.eval.summary import bd_summary


@pytest.fixture(scope="module")
def view():
    return make_view(make_results())


def test_every_pair_is_compared_as_directly(view):
    results, names = view.results, list(CODECS)
    pairs = {(one.anchor, one.test): one for one in view.comparisons["psnr"]}
    assert len(pairs) == len(names) * (len(names) - 1)
    for anchor, test in ((0, 1), (1, 0), (2, 4), (4, 2), (3, 1)):
        one, direct = pairs[anchor, test], bd_summary(results, names[anchor], names[test], "psnr")
        expected = dict(direct.per_item)
        assert one.items == tuple(pytest.approx(expected.get(item.name), abs=1e-6) for item in results.items)
        assert (one.mean, one.low, one.high) == tuple(
            pytest.approx(v, abs=1e-6) for v in (direct.percent, direct.low, direct.high)
        )


def test_many_items_are_compared_fully_by_the_main_metric_only(monkeypatch):
    monkeypatch.setattr(module, "FULL_MATRIX", 0)
    found = make_view(make_results()).comparisons
    assert len(found["psnr"]) == 20
    assert {(one.anchor, one.test) for one in found["ms-ssim"]} == {(0, n) for n in range(1, 5)} | {
        (n, 0) for n in range(1, 5)
    }


def test_totals_breakdown_and_defaults(view):
    ours = view.totals[0]
    assert ours.failed == 1
    done = [m for m in view.results.measurements if m.codec == "ours" and m.error is None]
    assert ours.encode == pytest.approx(sum(m.encode_seconds for m in done) / (len(done) * 96 * 64 / 1e6))
    assert ours.peak == 1 << 20
    assert [one.codec for one in view.breakdowns] == [0]
    quality, sizes = view.breakdowns[0].rows[1]
    assert (quality, view.breakdowns[0].names) == (30.0, ("header", "z", "y"))
    assert sum(sizes) == pytest.approx(240)
    assert (view.subject, view.anchor, view.speed_unit) == (0, 1, "s/MP")
    assert view.title == "Image compression: rate and distortion of ours"
    assert make_view(make_results(media="audio"), "Mine").title == "Mine"


def test_metrics_know_their_kind(view):
    psnr, ms_ssim = view.metrics
    assert (psnr.title, psnr.unit, psnr.up, psnr.digits) == ("PSNR (RGB)", "dB", True, 2)
    assert (ms_ssim.unit, ms_ssim.digits) == ("", 4)
    own = make_view(make_results(metrics=("my metric",))).metrics[0]
    assert (own.title, own.up, own.source) == ("my metric", True, "")


def test_page_data_holds_the_results_in_full():
    results = make_results(metrics=("psnr", "nothing finite"))
    few = replace(results.measurements[0], metrics={"psnr": 30.0})
    results = replace(results, measurements=(few, *results.measurements[1:]))
    view = make_view(results)
    found = json.loads(to_script(page_data(view, ())))
    measurements = []
    for item, codec, quality, size, payload, encode, decode, memory, values, parts, error, sample in found["rows"]:
        entry = {
            "item": view.results.items[item].name,
            "codec": view.results.codecs[codec].name,
            "quality": quality,
            "bytes": size,
            "payload_bytes": payload,
            "encode_seconds": encode,
            "decode_seconds": decode,
            "peak_memory_bytes": memory,
            "metrics": {n: v for n, v in zip(view.results.metrics, values, strict=True) if v != ""},
            "parts": parts,
            "error": error,
            "sample": sample,
        }
        measurements.append({name: value for name, value in entry.items() if value not in (None, {})})
    again = {**found["results"], "measurements": measurements}
    assert again == results.to_json()
    assert Results.from_json(again).codecs == view.results.codecs
    assert found["mean"]["psnr"][1][0] == pytest.approx([0.2735, 25, 10, 3], abs=1e-3)
    assert found["mean"]["nothing finite"] == [[], [], [], [], []]
    assert found["equal"]["nothing finite"]["target"] is None


def test_data_cannot_end_its_element():
    text = to_script({"a": f"</script><!--{EVIL}&\u2028"})
    assert not set("<>&\u2028") & set(text)
    assert json.loads(text) == {"a": f"</script><!--{EVIL}&\u2028"}
    with pytest.raises(ValueError, match="JSON"):
        to_script({"a": math.inf})


def test_many_published_curves_start_hidden():
    results = make_results()
    curves = tuple(replace(results.published[0], name=f"p{n}") for n in range(6))
    view = make_view(replace(results, published=curves))
    assert view.hidden == ("p3", "p4", "p5")
    assert page_data(view, ())["hide"] == "p3,p4,p5"


@pytest.mark.parametrize("field", ["codecs", "metrics"])
def test_nothing_to_report(field):
    with pytest.raises(ValueError, match=field[:-1]):
        make_view(replace(make_results(), measurements=(), **{field: ()}))

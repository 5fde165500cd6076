"""Results: the file and its schema, refusals of bad files, rates and curves."""

from __future__ import annotations

import copy
import json
import math
import re
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from eval.make_results import make_results
from hypothesis import given, settings
from hypothesis import strategies as st

from triode.errors import CodecError
from triode.eval import results as module
from triode.eval.bdrate import RatePoint
from triode.eval.plain import from_plain, to_plain
from triode.eval.results import SCHEMA, Measurement, Results, ResultsError

SCHEMA_FILE = Path(module.__file__).with_name("results.schema.json")
RESULTS = make_results()


def changed(change):
    """Return the JSON data of results after a change."""
    data = json.loads(json.dumps(RESULTS.to_json()))
    change(data)
    return data


class TestFile:
    def test_comes_back(self, tmp_path):
        RESULTS.save(tmp_path / "results.json")
        found = Results.load(tmp_path / "results.json")
        assert found.to_json() == RESULTS.to_json()
        assert found == Results.from_json(RESULTS.to_json())
        assert (found.items, found.provenance, found.samples) == (RESULTS.items, RESULTS.provenance, RESULTS.samples)
        assert [path.name for path in tmp_path.iterdir()] == ["results.json"]

    def test_rounding_is_done_once(self):
        found = Results.from_json(RESULTS.to_json())
        assert Results.from_json(found.to_json()) == found

    def test_numbers_are_short_and_whole_ones_are_integers(self):
        m = Measurement("a", "b", 50.0, 10, 9, 0.123456789, 12.3456789, metrics={"psnr": 34.123456789})
        found = to_plain(m)
        assert (found["encode_seconds"], found["decode_seconds"]) == (0.1235, 12.35)
        assert found["metrics"] == {"psnr": 34.12346}
        assert isinstance(found["quality"], int)
        empty = {"peak_memory_bytes", "parts", "error", "sample", "frame_bytes", "frame_psnr"}
        assert set(found) == {f.name for f in fields(m)} - empty

    def test_numbers_of_numpy_are_numbers(self):
        m = Measurement("a", "b", np.float32(0.5), np.int64(10), metrics={"x": np.float64(1.25), "y": np.float32(2)})
        assert from_plain(Measurement, json.loads(json.dumps(to_plain(m)))) == replace(
            m, quality=0.5, bytes=10, metrics={"x": 1.25, "y": 2.0}
        )

    @pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
    def test_no_infinity_and_no_nan_in_the_file(self, tmp_path, value):
        first = replace(RESULTS.measurements[0], metrics={"psnr": value})
        replace(RESULTS, measurements=(first,)).save(tmp_path / "r.json")
        text = (tmp_path / "r.json").read_text()
        assert '"psnr": null' in text
        json.loads(text, parse_constant=pytest.fail)
        [found] = Results.load(tmp_path / "r.json").measurements
        assert math.isnan(found.metrics["psnr"])

    def test_one_measurement_a_line_in_order(self, tmp_path):
        backwards = replace(RESULTS, measurements=RESULTS.measurements[::-1])
        backwards.save(tmp_path / "a.json")
        RESULTS.save(tmp_path / "b.json")
        text = (tmp_path / "a.json").read_text()
        assert text == (tmp_path / "b.json").read_text()
        assert sum('"item": ' in line for line in text.splitlines()) == len(RESULTS.measurements)

    def test_names_that_are_no_unicode(self, tmp_path):
        item = replace(RESULTS.items[0], name="bild\udce4")
        first = replace(RESULTS.measurements[0], item=item.name)
        odd = replace(RESULTS, items=(item,), measurements=(first,), samples={})
        odd.save(tmp_path / "r.json")
        assert Results.load(tmp_path / "r.json").items[0].name == item.name

    def test_replaces_and_leaves_nothing_behind(self, tmp_path):
        path = tmp_path / "r.json"
        path.write_text("old")
        with pytest.raises(ResultsError, match="not among the codecs"):
            replace(RESULTS, codecs=RESULTS.codecs[:1]).save(path)
        assert (path.read_text(), len(list(tmp_path.iterdir()))) == ("old", 1)
        RESULTS.save(path)
        assert Results.load(path).media == "image"

    @pytest.mark.parametrize(
        "data",
        [b"", b"[1]", b"{", b"\xff\xfe", b'{"schema": NaN}', b"[" * 200_000, b'{"schema": "triode-bench/0"}', b"null"],
        ids=repr,
    )
    def test_refuses_other_files(self, tmp_path, data):
        path = tmp_path / "r.json"
        path.write_bytes(data)
        with pytest.raises(ResultsError, match=r"r\.json|schema"):
            Results.load(path)


BAD = {
    "schema": lambda d: d.update(schema="triode-bench/9"),
    "lacks the field 'items'": lambda d: d.pop("items"),
    "unknown field 'remarks'": lambda d: d.update(remarks=""),
    "items[1] lacks the field 'units'": lambda d: d["items"][1].pop("units"),
    "measurements[0].bytes must be an integer, but is 1.5": lambda d: d["measurements"][0].update(bytes=1.5),
    "measurements[0].bytes must be an integer, but is True": lambda d: d["measurements"][0].update(bytes=True),
    "measurements[0].bytes must be 0 or more": lambda d: d["measurements"][0].update(bytes=-1),
    "measurements[0].encode_seconds must be 0": lambda d: d["measurements"][0].update(encode_seconds=-0.5),
    "encode_seconds must be a finite number": lambda d: d["measurements"][0].update(encode_seconds=math.inf),
    "quality must be a finite number": lambda d: d["measurements"][0].update(quality=10**400),
    "measurements[0].metrics['psnr'] must be a number": lambda d: d["measurements"][0]["metrics"].update(
        {"psnr": "34"}
    ),
    "measurements[0] has no bytes, and no error": lambda d: d["measurements"][0].update(bytes=0),
    "measurements[0].item is 'x'": lambda d: d["measurements"][0].update(item="x"),
    "measurements must be a list": lambda d: d.update(measurements={}),
    "measurements has ('a', 'jpeg', 10.0) twice": lambda d: d["measurements"].append(d["measurements"][0]),
    "codecs has 'jpeg' twice": lambda d: d["codecs"].append(d["codecs"][0]),
    "media must be one of": lambda d: d.update(media="smell"),
    "provenance must be an object, but is None": lambda d: d.update(provenance=None),
    "published[0].points['psnr'][0] must have 2 entries": lambda d: d["published"][0]["points"].update(
        {"psnr": [[1, 2, 3]]}
    ),
    "the units of item 'a' must be positive": lambda d: d["items"][0].update(units=0),
    **{
        f"sample must be a path inside the folder of the results, but is {path!r}": lambda d, path=path: d[
            "measurements"
        ][0].update(sample=path)
        for path in ("../x.png", "/etc/x", "a/../../x", ".", "", "C:/x", "..\\x", "a\0b")
    },
    "samples['a'] must be a path inside": lambda d: d.update(samples={"a": "/x"}),
}


class TestRefusals:
    @pytest.mark.parametrize("message", BAD)
    def test_says_what_is_wrong(self, message):
        with pytest.raises(ResultsError) as caught:
            Results.from_json(changed(BAD[message]))
        assert message in str(caught.value)
        assert isinstance(caught.value, CodecError)

    @settings(max_examples=60, deadline=None)
    @given(data=st.data())
    def test_any_json_is_read_or_refused(self, data):
        """Put an arbitrary value at an arbitrary place."""
        values = (
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.just([]) | st.just({})
        )
        whole = node = copy.deepcopy(RESULTS.to_json())
        while True:
            key = data.draw(st.sampled_from(list(node) if isinstance(node, dict) else range(len(node))))
            if not (isinstance(node[key], (dict, list)) and node[key]) or data.draw(st.integers(0, 3)) == 0:
                node[key] = data.draw(values)
                break
            node = node[key]
        try:
            found = Results.from_json(whole)
        except ResultsError:
            return
        assert Results.from_json(found.to_json()).to_json() == found.to_json()


class TestSchema:
    @pytest.fixture
    def validator(self):
        jsonschema = pytest.importorskip("jsonschema")
        schema = json.loads(SCHEMA_FILE.read_text())
        jsonschema.Draft202012Validator.check_schema(schema)
        return jsonschema.Draft202012Validator(schema)

    def test_results_are_valid(self, validator):
        assert list(validator.iter_errors(json.loads(json.dumps(RESULTS.to_json())))) == []

    @pytest.mark.parametrize("message", [message for message in BAD if "lacks" in message or "unknown" in message])
    def test_sees_wrong_fields(self, validator, message):
        assert list(validator.iter_errors(changed(BAD[message])))

    def test_has_the_fields_of_the_dataclasses(self):
        """Each object of the schema has the fields of its dataclass, and requires those without a default."""
        schema = json.loads(SCHEMA_FILE.read_text())
        assert schema["properties"]["schema"]["const"] == SCHEMA
        kinds = {
            "item": module.ItemFacts,
            "codec": module.CodecResult,
            "facts": module.CoderFacts,
            "measurement": module.Measurement,
            "curve": module.PublishedCurve,
            "provenance": module.Provenance,
        }
        for name, kind in kinds.items():
            assert is_dataclass(kind)
            assert set(schema["$defs"][name]["properties"]) == {field.name for field in fields(kind)}
        assert {*schema["properties"]} - {"schema"} == {field.name for field in fields(Results)}


class TestCurves:
    def test_rate_is_of_the_file_or_of_the_payload(self):
        [first] = RESULTS.curve("jpeg", "a", "psnr")[:1]
        m = RESULTS.measurements[0]
        assert (m.bytes, m.payload_bytes, RESULTS.items[0].units) == (1000, 900, 10_000)
        assert first == RatePoint(0.8, m.metrics["psnr"])
        assert RESULTS.curve("jpeg", "a", "psnr", payload=True)[0].rate == pytest.approx(0.72)
        assert RESULTS.rate_unit == "bpp"

    def test_rate_of_sound_is_in_kilobits(self):
        sound = replace(RESULTS, media="audio", items=(replace(RESULTS.items[0], units=2.0), *RESULTS.items[1:]))
        assert (sound.rate(sound.measurements[0]), sound.rate_unit) == (4.0, "kb/s")

    def test_goes_by_rate_and_leaves_out_what_failed(self):
        rates = [point.rate for point in RESULTS.curve("jpeg", "b", "psnr")]
        assert rates == sorted(rates)
        assert (len(rates), len(RESULTS.curve("learned", "b", "psnr"))) == (5, 4)
        assert any(m.error for m in RESULTS.measurements if (m.item, m.codec) == ("b", "learned"))
        odd = [replace(m, metrics={"psnr": math.nan}) if m.quality == 10 else m for m in RESULTS.measurements]
        assert len(replace(RESULTS, measurements=tuple(odd)).curve("jpeg", "b", "psnr")) == 4

    @pytest.mark.parametrize("names", [("x", "a", "psnr"), ("jpeg", "x", "psnr"), ("jpeg", "a", "x")])
    def test_refuses_unknown_names(self, names):
        with pytest.raises(ValueError, match="'x'; there are "):
            RESULTS.curve(*names)


def test_the_example_in_the_docs(tmp_path, monkeypatch, capsys):
    page = (Path(__file__).resolve().parents[2] / "docs" / "results.md").read_text()
    [code] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    RESULTS.save(tmp_path / "results.json")
    exec(compile(code, "results.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == sum(m.error is None for m in RESULTS.measurements)
    assert lines[0].startswith("a jpeg 10 0.8 {'psnr': ")

"""The journal of a bench: nothing that was measured is lost, and nothing that was not is believed."""

import dataclasses
import json
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from triode.eval.journal import JOURNAL, BusyError, Journal, digest_of
from triode.eval.results import Measurement


def measurement(number, sample=None, error=None):
    if error is not None:
        return Measurement(f"item{number}", "codec", 3.0, error=error)
    return Measurement(
        f"item{number}",
        "codec",
        3.0,
        bytes=100 + number,
        payload_bytes=90,
        encode_seconds=0.5,
        decode_seconds=0.25,
        metrics={"psnr": 30.5},
        parts={"header": 10, "y": 90 + number},
        sample=sample,
    )


def test_measurements_come_back(tmp_path):
    with Journal(tmp_path) as journal:
        assert journal.find("a", None) is None
        journal.add("a", measurement(1), ["a note"])
        assert journal.find("a", None) == measurement(1)
    with Journal(tmp_path) as journal:
        assert journal.find("a", None) == measurement(1)
        assert (journal.notes("a"), journal.notes("b"), journal.find("b", None)) == (("a note",), (), None)


def test_what_is_added_is_given_back_as_it_is_read(tmp_path):
    long = dataclasses.replace(measurement(1), encode_seconds=1 / 3, metrics={"psnr": float("inf")})
    with Journal(tmp_path) as journal:
        added = journal.add("a", long)
        assert (added.encode_seconds, str(added.metrics["psnr"])) == (0.3333, "nan")
    with Journal(tmp_path) as journal:
        assert repr(journal.find("a", None)) == repr(added)


def test_failures_are_tried_again(tmp_path):
    with Journal(tmp_path) as journal:
        journal.add("a", measurement(1, error="no luck"))
    with Journal(tmp_path) as journal:
        assert journal.find("a", None) is None
        journal.add("a", measurement(1))
    with Journal(tmp_path) as journal:
        assert journal.find("a", None) == measurement(1)


class TestSamples:
    def test_must_be_there(self, tmp_path):
        path = "samples/x/codec/3.png"
        with Journal(tmp_path) as journal:
            journal.add("a", measurement(1, path), (), b"png")
            assert (tmp_path / path).read_bytes() == b"png"
            assert journal.find("a", path) == measurement(1, path)
            assert journal.find("a", None) is not None, "a sample too many does no harm"
            journal.add("b", measurement(2))
            assert journal.find("b", "samples/y/codec/3.png") is None, "a sample is wanted now"
            (tmp_path / path).unlink()
            assert journal.find("a", path) is None

    def test_are_those_of_the_last_that_wrote_there(self, tmp_path):
        path = "samples/x/codec/3.png"
        with Journal(tmp_path) as journal:
            journal.add("old setting", measurement(1, path), (), b"old")
            journal.add("new setting", measurement(1, path), (), b"new")
        with Journal(tmp_path) as journal:
            assert journal.find("old setting", path) is None
            assert journal.find("new setting", path) is not None

    def test_go_when_all_is_begun_anew(self, tmp_path):
        path, outside = "samples/x/codec/3.png", tmp_path / "outside.png"
        outside.write_bytes(b"mine")
        folder = tmp_path / "out"
        folder.mkdir()
        with Journal(folder) as journal:
            journal.add("a", measurement(1, path), (), b"png")
            journal.add("b", measurement(2, "../outside.png"))
        with Journal(folder, anew=True) as journal:
            assert journal.find("a", None) is None
        assert not (folder / path).exists()
        assert outside.exists()
        with Journal(folder) as journal:
            assert journal.find("a", None) is None


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_journal_cut_anywhere_goes_on(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("cut")
    with Journal(folder) as journal:
        for number in range(3):
            journal.add(str(number), measurement(number))
    path = folder / JOURNAL
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole)))
    path.write_bytes(whole[:at])
    complete = whole[:at].count(b"\n") - 1
    with Journal(folder) as journal:
        assert [journal.find(str(number), None) is not None for number in range(3)] == [
            number < complete for number in range(3)
        ]
        journal.add("new", measurement(9))
    with Journal(folder) as journal:
        assert journal.find("new", None) == measurement(9)
        assert journal.find("2", None) == (measurement(2) if complete == 3 else None)


@pytest.mark.parametrize(
    "line",
    [
        b"not json",
        b"[1]",
        b"{}",
        b'{"key": "x", "measurement": {}}',
        b'{"key": "x", "measurement": 5}',
        b"\xff",
        b"[" * 9999,
    ],
)
def test_damaged_lines_are_passed_over(tmp_path, line):
    with Journal(tmp_path) as journal:
        journal.add("a", measurement(1))
    with (tmp_path / JOURNAL).open("ab") as file:
        file.write(line + b"\n")
    with Journal(tmp_path) as journal:
        journal.add("b", measurement(2))
    with Journal(tmp_path) as journal:
        assert (journal.find("a", None), journal.find("b", None)) == (measurement(1), measurement(2))


def test_lines_are_json_and_complete_when_add_returns(tmp_path):
    with Journal(tmp_path) as journal:
        journal.add("a", measurement(1), ["a note"])
        first, second = map(json.loads, (tmp_path / JOURNAL).read_text().splitlines())
    assert first == {"journal": "triode-bench/1"}
    assert (second["key"], second["notes"], second["measurement"]["bytes"]) == ("a", ["a note"], 101)


def test_two_benches_in_one_folder(tmp_path):
    code = (
        "import sys, pathlib\nfrom triode.eval.journal import BusyError, Journal\n"
        "try:\n    Journal(pathlib.Path(sys.argv[1]), anew=True)\n"
        "except BusyError as error:\n    print('busy:', error)"
    )
    with Journal(tmp_path) as journal:
        journal.add("a", measurement(1))
        with pytest.raises(BusyError, match="another bench"):
            Journal(tmp_path)
        command = [sys.executable, "-c", code, str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert (
            done.stdout == f"busy: another bench is writing to {tmp_path.name}; wait for it, or take another folder\n"
        )
        assert journal.find("a", None) is not None
    with Journal(tmp_path) as journal:
        assert journal.find("a", None) == measurement(1), "who was refused changed nothing"


def test_digests_do_not_depend_on_order():
    assert digest_of({"a": 1, "b": [2.5, None]}) == digest_of({"b": [2.5, None], "a": 1})
    assert digest_of([1, 2]) != digest_of([2, 1])

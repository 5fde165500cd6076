"""The bench as a whole: what it takes, what it refuses, what it reuses, and that a kill loses and repeats nothing."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
from eval.bench_codecs import CODEC, Bits, photo
from PIL import Image

import triode.eval
from triode.errors import BitstreamError, UnsupportedError
from triode.eval import CodecReference, FunctionCoder, bench
from triode.eval.coder import register_coder
from triode.eval.journal import JOURNAL, BusyError, Journal
from triode.eval.provenance import make_provenance, shown_command
from triode.eval.results import Results
from triode.eval.sources import source_digest

ROOT = Path(__file__).resolve().parents[2]
ITEMS = [("a", photo(0)), ("b", photo(1))]


def measure(codecs=None, items=ITEMS, **options):
    options = {"metrics": ["psnr"], "report": False, **options}
    return bench("image", items, [Bits()] if codecs is None else codecs, **options)


@pytest.fixture
def calls(tmp_path):
    """Count how often items were coded whole since the last question."""
    log = tmp_path / "calls"

    class Calls:
        path = log

        def __call__(self):
            lines = log.read_text().splitlines() if log.exists() else []
            log.unlink(missing_ok=True)
            return sum(line.startswith("whole") for line in lines)

    return Calls()


class TestResults:
    def test_of_arrays_without_a_folder(self):
        statuses = []
        results = measure(on_progress=statuses.append)
        assert [(m.item, m.quality) for m in results.measurements] == [
            (name, quality) for name in "ab" for quality in (2, 4, 6)
        ]
        assert {m.error for m in results.measurements} == {None}
        assert (results.media, results.metrics, results.samples) == ("image", ("psnr",), {})
        assert [item.shape for item in results.items] == [(300, 40)] * 2
        assert (results.items[0].units, results.items[0].raw_bytes) == (12000, 36000)
        assert results.items[0].sha256 != results.items[1].sha256
        [codec] = results.codecs
        assert (codec.name, codec.qualities, codec.facts.title) == ("bits", (2, 4, 6), "bits by zlib")
        assert results.provenance.engine == "serial"
        assert results.provenance.versions.keys() >= {"python", "numpy", "torch", "pillow", "zlib"}
        assert results.provenance.command == "triode.eval.bench('image', [2 items], [bits])"
        assert [status.done for status in statuses] == list(range(7))
        assert statuses[-1].seconds_left == 0

    def test_in_a_folder(self, tmp_path):
        results = measure(out=tmp_path / "new" / "out", samples=1)
        folder = tmp_path / "new" / "out"
        assert Results.load(folder / "results.json") == results
        assert results.samples == {"a": "samples/a/original.png"}
        samples = {m.sample for m in results.measurements if m.item == "a"}
        assert samples == {f"samples/a/bits/{quality}.png" for quality in (2, 4, 6)}
        assert {m.sample for m in results.measurements if m.item == "b"} == {None}
        assert all(Image.open(folder / path).size == (300, 40) for path in (*samples, *results.samples.values()))

    def test_names_cannot_lead_out_of_the_folder(self, tmp_path):
        items = [("../../a b", photo(0)), ("..", photo(1)), ("a_b" * 99, photo(2))]
        results = measure(items=items, out=tmp_path / "out", samples=3)
        folders = [Path(path).parent.name for path in results.samples.values()]
        assert len(set(folders)) == 3
        assert {path.name for path in (tmp_path / "out" / "samples").iterdir()} == set(folders)
        assert {path.name for path in tmp_path.iterdir()} == {"out"}

    def test_failures_are_listed(self):
        results = measure([Bits(trouble="raise")])
        assert [m.error for m in results.measurements] == [None, "RuntimeError: no luck at all", None] * 2

    def test_files_are_found_and_named(self, tmp_path):
        for name in ("x/a.png", "y/a.png", "b.png"):
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(photo(len(name))).save(path)
        results = measure(items=[tmp_path, ("c", photo(3))])
        assert [item.name for item in results.items] == ["b", "x-a", "y-a", "c"]
        assert len(measure(items=[tmp_path], limit=2).items) == 2

    def test_qualities(self):
        first, second = Bits("one"), Bits("two")
        assert [codec.qualities for codec in measure([first, second], qualities=[3, 5]).codecs] == [(3, 5), (3, 5)]
        found = measure([first, second], qualities={"two": [7]}).codecs
        assert [codec.qualities for codec in found] == [(2, 4, 6), (7,)]

    def test_references(self, tmp_path):
        (tmp_path / "mine.py").write_text("from eval.bench_codecs import Bits\nCODEC = Bits('from-a-file')\n")
        codecs = [
            CodecReference("eval.bench_codecs:CODEC"),
            CodecReference("eval.bench_codecs:make"),
            CodecReference("eval.bench_codecs:Bits"),
            CodecReference("mine.py:CODEC", str(tmp_path)),
        ]
        names = [codec.name for codec in measure(codecs, limit=1).codecs]
        assert names == ["referred", "made", "bits", "from-a-file"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"engine": "cloud"}, "`engine` must be one of serial, process, ray"),
            ({"jobs": 0}, "`jobs` must be at least 1"),
            ({"samples": -1}, "`samples` must be at least 0"),
            ({"metrics": ["psnr", "beauty"]}, "Unknown metric 'beauty' for image; there are .*psnr"),
            ({"metrics": ["si-sdr"]}, "Unknown metric 'si-sdr' for image"),
            ({"metrics": []}, "one or more different names"),
            ({"metrics": ["psnr", "psnr"]}, "one or more different names"),
            ({"qualities": []}, "Qualities of 'bits' must be one or more different numbers"),
            ({"qualities": [1, 1]}, "Qualities of 'bits'"),
            ({"qualities": [float("nan")]}, "Qualities of 'bits'"),
            ({"qualities": {"jpeg": [1]}}, "given for 'jpeg', but the codecs are bits"),
            ({"codecs": []}, "at least one codec"),
            ({"codecs": [Bits(), Bits()]}, "Two codecs are named 'bits'"),
            ({"codecs": [Bits("../x")]}, "made of letters"),
            ({"codecs": [FunctionCoder("f", bytes, bytes, [1], media="audio")]}, "'f' is for audio, but .* image"),
            ({"codecs": [CodecReference("eval.bench_codecs")]}, "MODULE:OBJECT"),
            ({"codecs": [CodecReference("eval.bench_codecs:Missing")]}, "cannot be had: AttributeError"),
            ({"codecs": [CodecReference("eval.bench_codecs:NotACoder")]}, "but is NotACoder"),
            ({"codecs": [CodecReference("missing_module:x")]}, "cannot be had: ModuleNotFoundError"),
            ({"codecs": [CodecReference("missing.py:x")]}, "no Python file missing.py"),
            ({"items": [("a", photo()), ("a", photo())]}, "Two items are named 'a'"),
            ({"items": [("a", photo()[..., 0])]}, "must be an array"),
        ],
        ids=lambda given: "-".join(given) if isinstance(given, dict) else "",
    )
    def test_of_arguments(self, tmp_path, options, message):
        with pytest.raises(ValueError, match=message):
            measure(out=tmp_path / "out", **options)
        assert not (tmp_path / "out" / "results.json").exists()

    def test_of_media(self):
        with pytest.raises(ValueError, match="`media` must be one of image, audio, video"):
            bench("smell", ITEMS, [Bits()])

    def test_of_unknown_codecs(self):
        with pytest.raises(ValueError, match=r"Unknown codec 'wobp' for image; there are .*jpeg"):
            measure(["wobp"])

    def test_of_items(self, tmp_path):
        with pytest.raises(FileNotFoundError):
            measure(items=[tmp_path / "missing.png"])
        with pytest.raises(FileNotFoundError):
            measure(items=[tmp_path])
        with pytest.raises(FileNotFoundError):
            measure(items=[])
        Image.fromarray(photo()).save(tmp_path / "cut.png")
        (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:-50])
        with pytest.raises(BitstreamError, match="cut: "):
            measure(items=[tmp_path])

    def test_missing_packages_are_all_named_before_any_work(self, monkeypatch, tmp_path):
        def build(options):
            raise UnsupportedError("pip install nothing-yet")

        monkeypatch.setattr("triode.eval.coder._CODERS", dict(triode.eval.coder._CODERS))
        for name in ("absent1", "absent2"):
            register_coder(name, "image")(build)
        with pytest.raises(UnsupportedError, match=r"absent1: pip install nothing-yet; absent2: pip"):
            measure(["absent1", Bits(), "absent2"], out=tmp_path / "out")
        assert not (tmp_path / "out").exists()
        results = measure(["absent1", Bits(), "absent2"], skip_missing=True, limit=1)
        assert [codec.name for codec in results.codecs] == ["bits"]
        with pytest.raises(ValueError, match=r"at least one codec \(absent1"):
            measure(["absent1"], skip_missing=True)

    def test_of_a_metric_whose_package_is_missing(self, monkeypatch):
        monkeypatch.setattr("triode.eval.plan.package_version", lambda name: None)
        with pytest.raises(UnsupportedError, match=r"'lite0' needs the package .*pip install"):
            measure(metrics=["lite0"])
        assert "lite0" not in measure(metrics=None, limit=1).metrics

    def test_of_results_of_another_origin(self, tmp_path):
        (tmp_path / "results.json").write_text("mine")
        with pytest.raises(FileExistsError):
            measure(out=tmp_path)
        assert (tmp_path / "results.json").read_text() == "mine"
        measure(out=tmp_path, anew=True)
        measure(out=tmp_path)

    def test_of_a_folder_in_use(self, tmp_path):
        with Journal(tmp_path), pytest.raises(BusyError):
            measure(out=tmp_path)


class TestReuse:
    def test_of_all(self, tmp_path, calls):
        codec = Bits(log=calls.path)
        first = measure([codec], out=tmp_path / "out", samples=1)
        assert calls() == 6
        statuses = []
        second = measure([codec], out=tmp_path / "out", samples=1, on_progress=statuses.append)
        assert calls() == 0
        assert (second.measurements, second.samples) == (first.measurements, first.samples)
        assert [(status.done, status.reused) for status in statuses] == [(6, 6)]
        assert second.provenance.engine == "serial; 6 of 6 measurements are of earlier runs"

    @pytest.mark.parametrize(
        ("change", "again"),
        [
            ({"qualities": [2, 4, 6, 7]}, 2),
            ({"items": [ITEMS[0], ("b", photo(5))]}, 3),
            ({"items": [ITEMS[0], ("renamed", ITEMS[1][1])]}, 0),
            ({"items": [ITEMS[0]]}, 0),
            ({"metrics": ["psnr", "mse"]}, 6),
            ({"seed": 1}, 6),
            ({"options": {"level": 9}}, 6),
            ({"samples": 2}, 3),
            ({"samples": 0}, 0),
            ({"anew": True}, 6),
        ],
        ids=lambda change: "-".join(change) if isinstance(change, dict) else str(change),
    )
    def test_what_is_measured_again(self, tmp_path, calls, change, again):
        base = {"out": tmp_path / "out", "samples": 1}
        measure([Bits(log=calls.path)], **base)
        calls()
        change = dict(change)
        codec = Bits(log=calls.path, options=change.pop("options", None))
        results = measure([codec], **{**base, **change})
        assert calls() == again
        assert Results.load(tmp_path / "out" / "results.json") == results
        assert {m.item for m in results.measurements} == {name for name, _ in change.get("items", ITEMS)}

    def test_failures_are_tried_again(self, tmp_path, calls):
        measure([Bits(log=calls.path, trouble="raise")], out=tmp_path / "out")
        calls()
        results = measure([Bits(log=calls.path)], out=tmp_path / "out")
        assert calls() == 2
        assert {m.error for m in results.measurements} == {None}

    def test_version_and_processor_count(self, tmp_path, calls, monkeypatch):
        codec = Bits(log=calls.path)
        measure([codec], out=tmp_path / "out")
        for name, value in (("__version__", "99"), ("processor", lambda: "another")):
            calls()
            monkeypatch.setattr(f"triode.eval.plan.{name}", value)
            measure([codec], out=tmp_path / "out")
            assert calls() == 6

    def test_the_text_of_a_codec_counts(self, tmp_path):
        text = "from triode.eval import FunctionCoder\n\n\ndef make():\n    return FunctionCoder('x', f, f, [1])\n\n\n"
        digests = []
        for place, body in enumerate(("return b'1'", "return b'2'", "return b'1'")):
            path = tmp_path / f"codec{place}.py"
            path.write_text(f"{text}def f(*given):\n    {body}\n")
            digests.append(source_digest(CodecReference(f"{path.name}:make", str(tmp_path)).load()))
        assert digests[0] == digests[2] != digests[1]
        assert "" not in digests
        assert source_digest(CODEC) == source_digest(Bits())

    def test_notes_are_told_again(self, tmp_path, caplog):
        for _ in range(2):
            caplog.clear()
            measure(metrics=["psnr", "ms-ssim"], out=tmp_path / "out")
            [message] = [record.getMessage() for record in caplog.records]
            assert message.startswith("ms-ssim is not measured: ")
            assert message.endswith("(6 of 6 measurements)")


SLOW_JPEG = """
import io, hashlib, pathlib, time
import numpy as np
from PIL import Image
from triode.eval import FunctionCoder


def encode(pixels, quality):
    if pixels.shape[1] > 256:  # not the piece to warm up with
        with pathlib.Path(__file__).with_name("calls").open("a") as file:
            file.write(f"{hashlib.sha256(pixels).hexdigest()} {quality:g}\\n")
        time.sleep(0.25)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=int(quality))
    return file.getvalue()


def decode(data):
    return np.array(Image.open(io.BytesIO(data)))


CODEC = FunctionCoder("slow-jpeg", encode, decode, qualities=(30, 70, 90))
"""


def test_a_killed_bench_goes_on(tmp_path):
    """Two photos, JPEG twice: killed half-way, started again, nothing is lost and nothing repeated."""
    (tmp_path / "mine.py").write_text(SLOW_JPEG)
    (tmp_path / "photos").mkdir()
    for seed in range(2):
        Image.fromarray(photo(seed)).save(tmp_path / "photos" / f"{seed}.png")
    words = "bench image photos -o out --models none --codec mine.py:CODEC --anchors jpeg --metrics psnr --no-report"
    command = [sys.executable, "-m", "triode", *words.split(), "--qualities", "jpeg=30,70", "--json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    options = {"cwd": tmp_path, "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}

    process = subprocess.Popen([*command, "--engine", "process", "-j", "1"], **options)
    journal = tmp_path / "out" / JOURNAL
    while not journal.exists() or journal.read_bytes().count(b'"slow-jpeg"') < 2:
        assert process.poll() is None, process.stderr.read().decode()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before = journal.read_bytes()
    kept = [json.loads(line)["measurement"] for line in before.splitlines()[1:] if line.endswith(b"}")]
    assert 2 <= len(kept) < 10
    assert not (tmp_path / "out" / "results.json").exists()

    done = subprocess.run([*command, "--engine", "serial"], **options, check=False)
    assert done.returncode == 0, done.stderr.decode()
    results = Results.load(tmp_path / "out" / "results.json")
    assert Results.from_json(json.loads(done.stdout)) == results
    assert f"{len(kept)} of 10 are measured already".encode() in done.stderr
    assert {m.error for m in results.measurements} == {None}
    plain = results.to_json()["measurements"]
    assert all(found in plain for found in kept), "what was measured is as it was, timings included"

    calls = (tmp_path / "calls").read_text().splitlines()
    digests = [hashlib.sha256(photo(seed)).hexdigest() for seed in range(2)]
    assert set(calls) == {f"{digest} {quality}" for digest in digests for quality in (30, 70, 90)}
    slow = [f"{digests[int(m['item'])]} {m['quality']}" for m in kept if m["codec"] == "slow-jpeg"]
    assert [calls.count(call) for call in slow] == [1] * len(slow)
    assert len(calls) <= 7, "at most the task that was under way at the kill was begun twice"

    codecs = [CodecReference("mine.py:CODEC", str(tmp_path)), "jpeg"]
    whole = bench("image", [tmp_path / "photos"], codecs, metrics=["psnr"], qualities={"jpeg": [30, 70]})
    for found, expected in zip(results.measurements, whole.measurements, strict=True):
        assert (found.item, found.codec, found.quality) == (expected.item, expected.codec, expected.quality)
        assert found.bytes == expected.bytes
        assert found.metrics == {"psnr": pytest.approx(expected.metrics["psnr"], rel=1e-6)}


def test_the_codec_of_the_guide_joins_a_bench(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "bench.md").read_text()
    codec, call = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len([line for line in codec.splitlines() if line and not line.startswith(("import", "from"))]) <= 10
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    report = types.ModuleType("triode.eval.report")
    report.write_report = lambda results, folder: None  # it has tests of its own
    monkeypatch.setitem(sys.modules, "triode.eval.report", report)
    Path("my_codec.py").write_text(codec)
    Path("photos").mkdir()
    Image.fromarray(photo()).save("photos/a.png")
    exec(compile(call, "docs/bench.md", "exec"), {"__name__": "__main__"})
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert {words[1] for words in printed} == {"truncation", "jpeg", "webp"}
    assert {words[-1] for words in printed} == {"None"}
    by_quality = {float(words[2]): float(words[4]) for words in printed if words[1] == "truncation"}
    assert sorted(by_quality.values()) == [value for _, value in sorted(by_quality.items())]
    pixels = photo().astype(float)
    error = np.mean((pixels - (pixels // 16 * 16)) ** 2)
    assert by_quality[4] == pytest.approx(10 * np.log10(255**2 / error), abs=1e-3)


class TestProvenance:
    @pytest.mark.parametrize(
        ("words", "shown"),
        [
            (["triode", "bench", "image", "/home/ann/kodak", "-o", "out"], "triode bench image kodak -o out"),
            (["bench", "/home/ann/kodak/", "../shared/x.png"], "bench kodak ../shared/x.png"),
            (["--codec", "/home/ann/my.py:CODEC"], "--codec my.py:CODEC"),
            (["--anchor=triode:model=/a/b/w.safetensors"], "--anchor=triode:model=w.safetensors"),
            (["--models", "/a/b.safetensors,/c/d.safetensors"], "--models b.safetensors,d.safetensors"),
            (["--ray-address", "ray://host:1"], "--ray-address ADDRESS"),
            (["--ray-address=ray://host:1"], "--ray-address=ADDRESS"),
            (["C:\\Users\\ann\\kodak", "~/photos"], "kodak photos"),
            (["a b.png"], "'a b.png'"),
        ],
    )
    def test_commands_name_no_places(self, words, shown):
        assert shown_command(words) == shown

    def test_machine(self):
        found = make_provenance("x", "serial", 3, {"libx": "1"}, ["pytest", "not-a-package"])
        assert found.machine.keys() >= {"processor", "cores", "system"}
        assert found.versions.keys() >= {"libx", "pytest", "python"}
        assert "not-a-package" not in found.versions
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", found.created)
        assert os.uname().nodename not in " ".join(found.machine.values()).split()


def test_public_names_load_lazily():
    code = "import sys, triode.eval; print('torch' in sys.modules, sorted(triode.eval.__all__) == dir(triode.eval))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False True\n"
    assert all(getattr(triode.eval, name) is not None for name in triode.eval.__all__)
    with pytest.raises(AttributeError):
        _ = triode.eval.nothing

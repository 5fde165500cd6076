"""`triode bench`: its arguments, what it prints, what it writes, and how it ends."""

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
from cli.conftest import make_photo
from PIL import Image

from triode.eval.results import Results

ROOT = Path(__file__).resolve().parents[2]
WORDS = ("-o", "out", "--models", "none", "--engine", "serial", "--metrics", "psnr")
CODEC = """
import time
from pathlib import Path

import numpy as np

from triode.eval import FunctionCoder


def encode(pixels, quality):
    if quality == 3 and pixels.shape[1] > 256:
        if Path("wait").exists():
            Path("started").touch()
            time.sleep(60)
        raise RuntimeError("no luck")
    return np.array(pixels.shape, "<u2").tobytes() + pixels.tobytes()


def decode(data):
    return np.frombuffer(data[6:], np.uint8).reshape(np.frombuffer(data[:6], "<u2"))


CODEC = FunctionCoder("raw", encode, decode, [1, 3])
"""


@pytest.fixture
def bench(real_triode, folder, monkeypatch):
    """Return a function that runs the command; it makes no report unless the test says so."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")  # the command sets them; this sets them back
    report = types.ModuleType("triode.eval.report")
    report.write_report = lambda results, out: (out / "report.html").write_text(results.provenance.command)
    monkeypatch.setitem(sys.modules, "triode.eval.report", report)
    Path("photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (24, 300, 3), np.uint8)
    Image.fromarray(pixels).resize((300, 24)).save("photos/a.png")
    make_photo("photos/b.png")
    Path("mine.py").write_text(CODEC)
    return lambda *words: real_triode("bench", *words)


class TestArguments:
    @pytest.mark.parametrize(
        ("words", "message"),
        [
            ("", "the first argument is one of image, audio, video"),
            ("smell photos -o out", "the first argument is one of image, audio, video, got smell"),
            ("image", "name files or folders"),
            ("image photos", "name a folder for the results with -o"),
            ("image photos -o out --engine cloud", "--engine is one of serial, process, ray, got 'cloud'"),
            ("image photos -o out --ray-address auto", "--ray-address belongs to --engine ray"),
            ("image photos -o out -j 0", "must be an integer above 0"),
            ("image photos -o out --samples -1", "samples"),
            ("image photos -o out --qualities a,b", "--qualities takes numbers"),
            ("image photos -o out --qualities 1,2 --qualities 3", "given twice"),
            ("image photos -o out --qualities =3", "given twice for the same codecs, or for none"),
            ("image photos -o out --qualities 1 --qualities jpeg=3", "leave out one of them"),
            ("image photos -o out --qualities wobp=3", "given for 'wobp', but the codecs are jpeg"),
            ("image photos -o out --anchors wobp", "Unknown codec 'wobp' for image; there are"),
            ("image photos -o out --anchors jpeg,jpeg", "Two codecs are named 'jpeg'"),
            ("image photos -o out --anchor jpeg:speed=4", "speed"),
            ("image photos -o out --anchors none", "at least one codec"),
            ("image photos -o out --codec mine.py", "MODULE:OBJECT"),
            ("image photos -o out --metrics beauty", "Unknown metric 'beauty' for image; there are"),
            ("image photos -o out --published mars", "no published curves of 'mars' for image; there are of: .*kodak"),
            ("image photos -o out --published kodak:mars*", "No published curve of 'kodak' is named 'mars\\*'"),
            ("image photos -o out --report-only out", "--report-only DIR takes neither files nor -o"),
        ],
    )
    def test_that_are_wrong(self, bench, files, words, message):
        before = files()
        extra = ["--models", "none"] if "image photos -o" in words and "report" not in words else []
        result = bench(*words.split(), *extra)
        assert (result.code, result.out) == (2, ""), result.err
        assert re.search(message, result.err)
        assert result.err.startswith("triode: ")
        assert files() == before

    def test_missing_files(self, bench):
        result = bench("image", "nothing", *WORDS)
        assert (result.code, result.err) == (1, "triode: nothing: No such file or directory\n")
        assert not Path("out").exists()

    def test_results_of_another_origin_stay(self, bench):
        Path("out").mkdir()
        Path("out/results.json").write_text("mine")
        result = bench("image", "photos", *WORDS)
        assert (result.code, result.err) == (2, "triode: out/results.json exists; -f overwrites it\n")
        assert bench("image", "photos", *WORDS, "-f", "--anchors", "jpeg").code == 0


class TestRuns:
    def test_tell_what_they_measured(self, bench):
        codecs = ("--anchors", "jpeg", "--anchor", "jpeg:subsampling=4:4:4", "--qualities", "20,40,60,80")
        words = ("photos", *WORDS, *codecs)
        result = bench("image", *words)
        assert result.code == 0, result.err
        assert "2 items, 2 codecs, 16 measurements, none failed" in result.out
        assert "| " in result.out
        assert result.err.splitlines()[-1] == "triode: 16 of 16, 0:00 left"
        results = Results.load(Path("out/results.json"))
        assert [codec.name for codec in results.codecs] == ["jpeg", "jpeg-subsampling-4-4-4"]
        assert results.codecs[1].facts.options["subsampling"] == "4:4:4"
        assert results.provenance.command.startswith("triode bench image photos -o out --models none")
        assert Path("out/report.html").read_text() == results.provenance.command
        again = bench("image", *words, "--json", "--published", "kodak:compressai-jpeg")
        assert again.err == "triode: 16 of 16 are measured already; -f starts anew\n"
        [found] = again.objects
        assert found["measurements"] == json.loads(Path("out/results.json").read_text())["measurements"]
        assert [curve["name"] for curve in found["published"]] == ["compressai-jpeg"]
        assert bench("image", *words, "--quiet").err == ""

    def test_failures_are_told_and_counted(self, bench):
        words = ("photos", *WORDS, "--anchors", "none", "--codec", "mine.py:CODEC", "--no-report")
        result = bench("image", *words, "-v")
        assert result.code == 1
        assert "triode: a, raw at 3: failed: RuntimeError: no luck\n" in result.err
        assert "triode: a, raw at 1: 21606 bytes, " in result.err
        assert "RuntimeError: no luck" in result.out
        assert not Path("out/report.html").exists()

    def test_a_report_again(self, bench):
        bench("image", "photos", *WORDS, "--anchors", "jpeg", "--no-report")
        result = bench("--report-only", "out")
        assert result.code == 0
        assert "2 items, 1 codec" in result.out
        assert Path("out/report.html").exists()
        assert bench("image", "--report-only", "out").code == 0
        assert "are of image, not of audio" in bench("audio", "--report-only", "out").err
        Path("out/results.json").write_text("{}")
        assert bench("--report-only", "out").code == 1

    def test_default_codecs(self, bench, monkeypatch):
        calls = []
        runner = types.ModuleType("triode.eval.runner")

        def measure(media, items, codecs, **options):
            calls.append((media, items, codecs))
            raise ValueError("enough")

        runner.bench = measure
        monkeypatch.setitem(sys.modules, "triode.eval.runner", runner)
        for media in ("image", "audio", "video"):
            assert bench(media, "x", "-o", "out").code == 2
        words = "image x -o out --models a.v1,b.v2 --anchors jxl --anchor vvc:q=1"
        assert bench(*words.split()).code == 2
        assert calls[0] == ("image", [Path("x")], ["triode:model=image-light.v5", "jpeg", "webp", "avif"])
        assert calls[1][2][-3:] == ["opus", "aac", "mp3"]
        assert calls[2][2][-2:] == ["x264", "x265"]
        assert calls[3][2] == ["triode:model=a.v1", "triode:model=b.v2", "jxl", "vvc:q=1"]


def test_interrupted(bench, folder):
    Path("wait").touch()
    words = "bench image photos/a.png -o out --models none --anchors jpeg --codec mine.py:CODEC --metrics psnr -j 1"
    process = subprocess.Popen(
        [sys.executable, "-m", "triode", *words.split()],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        # Shells start background jobs with SIGINT ignored, which children inherit.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        stderr=subprocess.PIPE,
    )
    while not Path("started").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=240)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert err.endswith(b"triode: interrupted\n")
    done = len(Path("out/journal.jsonl").read_text().splitlines()) - 1
    Path("wait").unlink()
    result = bench(*words.split()[1:-2], "--engine", "serial")
    assert f"{done} of 11 are measured already" in result.err
    assert result.code == 1, "the codec fails at one of its qualities"

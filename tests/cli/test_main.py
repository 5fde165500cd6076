"""The program from outside: processes, signals, imports; and what is left of `main`."""

import json
import os
import signal
import subprocess
import sys
import time
import types
from dataclasses import dataclass
from pathlib import Path

import pytest
from cli.conftest import make_photo

ROOT = Path(__file__).resolve().parents[2]
INJECT = Path(__file__).resolve().parent / "inject"
COMMANDS = ("encode", "decode", "info", "verify", "compare", "bench", "models", "export")


def environment(folder):
    path = os.pathsep.join((str(INJECT), str(ROOT)))
    return {**os.environ, "PYTHONPATH": path, "FAKE_CODEC_STARTED": str(folder / ".started")}


def start(folder, *words, **options):
    command = [sys.executable, "-m", "triode", *map(str, words)]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    # Shells start background jobs with SIGINT ignored, which children inherit: a test of Ctrl-C needs the default.
    options = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **pipes, **options}
    return subprocess.Popen(command, cwd=folder, env=environment(folder), **options)


def finish(process, stdin=b""):
    out, err = process.communicate(stdin, timeout=240)
    return process.returncode, out, err.decode()


class TestHelp:
    @pytest.mark.parametrize(
        "words", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)], ids=" ".join
    )
    def test_loads_neither_torch_nor_numpy(self, words):
        code = (
            "import sys\nfrom triode.cli.main import main\n"
            f"code = main({words!r})\n"
            "heavy = {'torch', 'numpy', 'PIL', 'tqdm', 'constriction', 'lightning'} & set(sys.modules)\n"
            "print('LOADED', code, sorted(heavy))"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=240)
        assert done.stdout.endswith("LOADED 0 []\n")

    @pytest.mark.parametrize("name", ["image-light.v2-photo", "audio-light-speech.v1-voice", "image-light.v2-clip"])
    def test_info_loads_no_torch(self, name):
        code = (
            "import sys\nfrom triode.cli.main import main\n"
            f"code = main(['info', '--json', 'tests/golden/{name}.tri'])\n"
            "print('LOADED', code, sorted({'torch', 'PIL', 'constriction'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=240)
        assert done.stdout.endswith("LOADED 0 []\n"), done.stderr

    @pytest.mark.parametrize("command", COMMANDS)
    def test_says_what_it_is_for(self, triode, command):
        result = triode(command, "--help")
        assert (result.code, result.err) == (0, "")
        assert result.out.startswith(f"usage: triode {command}")
        assert "--json" in result.out

    def test_lists_commands_and_exit_codes(self, triode):
        out = triode("--help").out
        assert all(f"\n    {name} " in out for name in (*COMMANDS, "train"))
        assert "5 model missing or mismatched" in out

    def test_unknown_commands(self, triode):
        result = triode("compress", "photo.png")
        assert (result.code, "'compress'" in result.err, "encode" in result.err) == (2, True, True)


def test_pipeline_of_processes(folder):
    photo = make_photo("photo.png")
    code, encoded, err = finish(start(folder, "encode", "-"), photo.read_bytes())
    assert (code, encoded[:4]) == (0, b"\x89TRI"), err
    code, decoded, err = finish(start(folder, "decode", "-", "--format", "ppm"), encoded)
    assert (code, decoded[:2]) == (0, b"P6"), err


def test_a_reader_that_leaves(folder):
    make_photo("photo.png")
    process = start(folder, "encode", "photo.png", "--json")
    process.stdout.close()
    assert process.wait(240) == 1
    assert b"Traceback" not in process.stderr.read()
    process.stdin.close()
    process.stderr.close()


class TestWorkers:
    def test_results_come_in_order(self, folder, files):
        names = [f"{name}.png" for name in "abcd"]
        for name in names:
            make_photo(name)
        code, out, err = finish(
            start(folder, "encode", *names, "missing.png", "-j", "2", "--output-dir", "out", "--json")
        )
        objects = [json.loads(line) for line in out.splitlines()]
        assert [found["input"] for found in objects] == [*names, "missing.png"]
        assert (code, objects[-1]["exit_code"], err) == (1, 1, "triode: missing.png: No such file or directory\n")
        assert files() == [*names, *(f"out/{name}.tri" for name in "abcd")]

    def test_a_worker_that_dies(self, folder, files):
        make_photo("a.png")
        make_photo("b.png")
        code, out, err = finish(start(folder, "encode", "a.png", "b.png", "-j", "2", "-m", "die.v1"))
        assert (code, out) == (1, b"")
        assert err.count("a worker process died") == 2
        assert files() == ["a.png", "b.png"]

    def test_standard_streams_are_not_shared(self, triode, folder):
        make_photo("a.png")
        result = triode("encode", "a.png", "-", "-j", "2")
        assert (result.code, "-j works on files" in result.err) == (2, True)


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("jobs", [1, 2])
def test_signals_leave_nothing(folder, files, sign, code, jobs):
    make_photo("a.png")
    make_photo("b.png")
    process = start(folder, "encode", "a.png", "b.png", "-m", "slow.v1", "-j", str(jobs), "--output-dir", "out")
    while not (folder / ".started").exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    begin = time.monotonic()
    process.send_signal(sign)
    found, out, err = finish(process)
    assert (found, out) == (code, b""), err
    assert "Traceback" not in err
    assert time.monotonic() - begin < 55, "it must not wait for the work to end"
    assert files() == [".started", "a.png", "b.png"]


@dataclass(frozen=True)
class Weights:
    name: str = "image-light.v2"
    media: str = "image"
    parameters: int = 1_234_567
    kmac_encode: float = 21.5
    kmac_decode: float = 14.25
    entropy_digest: str = "0123456789abcdef"
    path: Path = Path("w.safetensors")
    bytes: int = 2_500_000


def replace_module(monkeypatch, name, **members):
    module = types.ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)


def test_models(triode, monkeypatch):
    replace_module(
        monkeypatch, "triode.models.weights", list_weights=lambda: (Weights(), Weights("tiny.v2", bytes=999))
    )
    lines = triode("models").out.splitlines()
    assert [line.split()[0] for line in lines] == ["name", "image-light.v2", "tiny.v2"]
    assert "2.5 MB" in lines[1]
    first, second = triode("models", "--json").objects
    assert (first["name"], first["kmac_decode"], first["path"], second["bytes"]) == (
        "image-light.v2",
        14.25,
        "w.safetensors",
        999,
    )


class TestExport:
    @pytest.fixture
    def exported(self, folder, monkeypatch):
        Path("a.ckpt").write_bytes(b"checkpoint")
        calls = []

        def export_checkpoint(checkpoint, output, name, base):
            calls.append((checkpoint, name))
            assert output.suffix == ".safetensors"
            output.write_bytes(b"half")
            if name == "bad":
                raise ValueError("no such name")
            return Weights(name, path=output, bytes=4)

        replace_module(monkeypatch, "triode.train.export", export_checkpoint=export_checkpoint)
        return calls

    def test_name_of_the_file(self, triode, exported, files):
        [found] = triode("export", "a.ckpt", "-o", "mine.v3.safetensors", "--json").objects
        assert (found["name"], found["path"]) == ("mine.v3", "mine.v3.safetensors")
        assert exported == [(Path("a.ckpt"), "mine.v3")]
        assert files() == ["a.ckpt", "mine.v3.safetensors"]

    def test_no_overwriting(self, triode, exported):
        assert triode("export", "a.ckpt", "-o", "w.safetensors", "-n", "mine.v1").code == 0
        assert triode("export", "a.ckpt", "-o", "w.safetensors").code == 2
        assert len(exported) == 1
        assert triode("export", "a.ckpt", "-o", "w.safetensors", "-f").code == 0

    def test_failures_leave_nothing(self, triode, exported, files):
        assert triode("export", "a.ckpt", "-o", "w.safetensors", "-n", "bad").code == 1
        assert files() == ["a.ckpt"]


class TestTrain:
    def test_arguments_are_passed_on(self, triode, monkeypatch):
        calls = []
        replace_module(monkeypatch, "triode.train.cli", train=calls.append)
        assert triode("train", "fit", "--config", "x.yaml", "-v", "--help").code == 0
        assert calls == [["fit", "--config", "x.yaml", "-v", "--help"]]

    def test_its_exit_code_counts(self, triode, monkeypatch):
        def train(args):
            raise SystemExit(2)

        replace_module(monkeypatch, "triode.train.cli", train=train)
        assert triode("train", "fit").code == 2

    def test_missing_packages_are_named(self, triode, monkeypatch):
        monkeypatch.setitem(sys.modules, "lightning", None)
        monkeypatch.setitem(sys.modules, "lightning.pytorch", None)
        monkeypatch.setitem(sys.modules, "lightning.pytorch.cli", None)
        monkeypatch.delitem(sys.modules, "triode.train.cli", raising=False)
        result = triode("train", "fit")
        assert (result.code, "pip install 'triode[train]'" in result.err) == (1, True)


class TestTalk:
    def test_warnings_are_one_line(self, triode, photo, monkeypatch):
        import warnings

        from cli import fake_codec

        def info(self, source):
            warnings.warn("the synthesis weights differ from the encoder's", stacklevel=2)
            return real(self, source)

        real = fake_codec.ImageCodec.info
        monkeypatch.setattr(fake_codec.ImageCodec, "info", info)
        assert triode("encode", photo).code == 0
        line = "triode: warning: the synthesis weights differ from the encoder's\n"
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            assert line in triode("decode", "photo.tri", "-o", "a.png").err
            assert line not in triode("decode", "photo.tri", "-o", "b.png", "--quiet").err

    def test_verbose_shows_where_a_bug_is(self, triode, photo):
        assert "Traceback" not in triode("encode", photo, "-m", "crash.v1").err
        assert "Traceback" in triode("encode", photo, "-m", "crash.v1", "-v").err

    def test_progress_only_on_a_terminal(self, folder, photo, monkeypatch):
        import io

        from triode.cli.progress import Progress

        class Terminal(io.StringIO):
            def isatty(self):
                return True

        for stream, quiet, shows in (
            (Terminal(), False, True),
            (Terminal(), True, False),
            (io.StringIO(), False, False),
        ):
            monkeypatch.setattr(sys, "stderr", stream)
            monkeypatch.setattr("triode.cli.progress._DELAY_SECONDS", 0)
            with Progress(2, quiet=quiet) as bar:
                bar.part(0.5)
                bar.part(0.25)
                bar.advance()
                bar.say("one is done")
                bar.part(7)
                bar.advance()
            assert "one is done" in stream.getvalue()
            assert ("|" in stream.getvalue()) == shows

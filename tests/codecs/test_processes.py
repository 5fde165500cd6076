"""Worker processes: how many threads they compute in, and when they end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import pytest

from triode.codecs.processes import THREADS, belong_to_parent, one_thread_each

PARENT = """
import multiprocessing, time
from triode.codecs.processes import belong_to_parent

def work():
    belong_to_parent()
    print(multiprocessing.current_process().pid, flush=True)
    time.sleep(300)

if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=work)
    child.start()
    child.join()
"""


def test_the_environment_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(THREADS[0], "7")
    monkeypatch.delenv(THREADS[1], raising=False)
    with one_thread_each():
        assert [os.environ[name] for name in THREADS] == ["1"] * len(THREADS)
    assert os.environ[THREADS[0]] == "7"
    assert THREADS[1] not in os.environ


def _facts() -> tuple[str, object]:
    belong_to_parent()
    return os.environ[THREADS[0]], signal.getsignal(signal.SIGINT)


def test_workers_have_one_thread_and_leave_interrupts_to_the_parent() -> None:
    with one_thread_each(), ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(_facts).result() == ("1", signal.SIG_IGN)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="POSIX only")
def test_a_worker_ends_with_its_parent(tmp_path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(600):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        if _is_zombie(worker):  # Nobody may be there to take note of its end.
            return
        time.sleep(0.05)
    os.kill(worker, signal.SIGKILL)
    raise AssertionError("the worker outlived its parent")


def _is_zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return False

"""The journal of a bench: what is measured is on disk at once, so that a bench that was stopped goes on from there."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self

from triode.errors import CodecError
from triode.eval.plain import from_plain, to_plain
from triode.eval.results import Measurement
from triode.io.files import atomic_write

__all__ = ["JOURNAL", "BusyError", "Journal", "digest_of"]

JOURNAL: Final = "journal.jsonl"
_FORMAT: Final = {"journal": "triode-bench/1"}
_LOCK_AT: Final = 1 << 62


class BusyError(CodecError):
    """Another bench writes to the same folder."""


def digest_of(facts: Any) -> str:
    """Return a SHA-256 of JSON data, whatever the order of keys."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()


class Journal:
    """Measurements of a folder: JSON lines, one a task, appended and synced as soon as it is done.

    A last line that was torn by a crash is dropped; a line that cannot be read is passed over. While it is open, no
    other process can open the same journal. To be used in a `with` statement.

    Args:
        folder: Folder of the results, which exists.
        anew: Whether to forget what was measured, and to remove its samples.

    Raises:
        BusyError: If another process has it open.
        OSError: If it cannot be read or written.
    """

    def __init__(self, folder: Path, *, anew: bool = False) -> None:
        self._folder = folder
        self._file: BinaryIO = (folder / JOURNAL).open("a+b")
        self._found: dict[str, Measurement] = {}
        self._notes: dict[str, tuple[str, ...]] = {}
        self._writers: dict[str, str] = {}
        try:
            self._lock()
            self._read()
            if anew:
                self._forget()
            if not self._size():
                self._append(_FORMAT)
        except BaseException:
            self._file.close()
            raise

    def find(self, key: str, sample: str | None) -> Measurement | None:
        """Return what was measured under a key; None where nothing was, it failed, or the sample wanted is not there.

        Args:
            key: Digest of everything that the result depends on.
            sample: Path of the sample, relative to the folder; None if none is wanted.
        """
        found = self._found.get(key)
        if found is None or found.error is not None:
            return None
        if sample is None:
            return found
        there = found.sample == sample and self._writers.get(sample) == key and (self._folder / sample).is_file()
        return found if there else None

    def notes(self, key: str) -> tuple[str, ...]:
        """Return what could not be measured under a key."""
        return self._notes.get(key, ())

    def add(
        self, key: str, measurement: Measurement, notes: Sequence[str] = (), sample: bytes | None = None
    ) -> Measurement:
        """Write a measurement, after its sample; both are on disk when this returns.

        Returns:
            The measurement as it is read back: with as many digits as results have.
        """
        if sample is not None and measurement.sample is not None:
            self.write_sample(measurement.sample, sample)
        plain = to_plain(measurement)
        self._append({"key": key, **({"notes": list(notes)} if notes else {}), "measurement": plain})
        return self._keep(key, from_plain(Measurement, plain), notes)

    def write_sample(self, path: str, data: bytes) -> None:
        """Write a sample, whole or not at all, at a path relative to the folder."""
        target = self._folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(target, overwrite=True) as file:
            file.write(data)

    def close(self) -> None:
        """Close the file, and let others open it."""
        self._file.close()

    def __enter__(self) -> Self:
        """Return this object."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()

    def _keep(self, key: str, measurement: Measurement, notes: Sequence[str]) -> Measurement:
        self._found[key] = measurement
        self._notes[key] = tuple(str(note) for note in notes)
        if measurement.sample is not None:
            self._writers[measurement.sample] = key  # an older measurement may have had the same path
        return measurement

    def _append(self, entry: Any) -> None:
        self._file.write(json.dumps(entry, allow_nan=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self) -> None:
        self._file.seek(0)
        lines = self._file.read().splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            self._file.truncate(self._size() - len(lines.pop()))
        for line in lines:
            try:
                entry = json.loads(line)
                found = from_plain(Measurement, entry["measurement"])
                self._keep(str(entry["key"]), found, entry.get("notes", ()))
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                continue  # the first line, or damage: its task is done again

    def _forget(self) -> None:
        for path in self._writers:
            target = (self._folder / path).resolve()
            if self._folder.resolve() in target.parents:
                target.unlink(missing_ok=True)
        self._found.clear()
        self._writers.clear()
        self._file.truncate(0)

    def _size(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def _lock(self) -> None:
        """Lock the file until it is closed, also by the death of this process."""
        try:
            import fcntl
        except ImportError:
            self._lock_on_windows()
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise self._busy() from None
            # This file system has no locks, as some that are shared in a network; then nothing watches over it.

    def _lock_on_windows(self) -> None:
        import msvcrt

        locking: Any = vars(msvcrt).get("locking")  # not known to type checkers elsewhere
        try:
            self._file.seek(_LOCK_AT)
            locking(self._file.fileno(), vars(msvcrt)["LK_NBLCK"], 1)
        except OSError:
            raise self._busy() from None

    def _busy(self) -> BusyError:
        return BusyError(f"another bench is writing to {self._folder.name}; wait for it, or take another folder")

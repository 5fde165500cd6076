"""Samples and units that wait, in memory as long as they are few, else in a temporary file."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import IO, Final, Self

import numpy as np
from numpy.typing import NDArray

from triode.container import Unit

__all__ = ["SampleSpool", "UnitSpool"]

Samples = NDArray[np.float32]

_IN_MEMORY: Final = 1 << 26
_UNIT: Final = struct.Struct("<IBII")


class _Spool:
    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  # closed by `__exit__`

    def __enter__(self) -> Self:
        """Return this object."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the file."""
        self._file.close()


class SampleSpool(_Spool):
    """Keeps the samples of a sound, to go through them again.

    Args:
        channels: Number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self._channels = channels
        self.samples = 0

    def fill(self, blocks: Iterable[Samples]) -> None:
        """Keep samples (C, T)."""
        for x in blocks:
            self._file.write(np.ascontiguousarray(x.T).tobytes())
            self.samples += x.shape[1]

    def blocks(self, count: int) -> Iterator[Samples]:
        """Yield all samples from the beginning, `count` at a time."""
        self._file.seek(0)
        while data := self._file.read(4 * self._channels * count):
            yield np.frombuffer(data, dtype=np.float32).reshape(-1, self._channels).T


class UnitSpool(_Spool):
    """Keeps units until it is known how many there are."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def append(self, unit: Unit) -> None:
        """Keep the next unit."""
        self._file.write(_UNIT.pack(unit.index, unit.rate_point, unit.symbols_crc32, len(unit.payload)) + unit.payload)
        self.count += 1

    def units(self) -> Iterator[Unit]:
        """Yield all units from the beginning."""
        self._file.seek(0)
        while start := self._file.read(_UNIT.size):
            index, point, crc, length = _UNIT.unpack(start)
            yield Unit(index, point, crc, self._file.read(length))

"""Reading other people's weights without running anything that lies in them.

PyTorch's own files (``.pth``, ``.pt``) are pickles: programs for a small stack machine that may call any function. This
module reads the few of its instructions that a dictionary of tensors takes, with the standard library's disassembler,
which executes nothing, and refuses every file that asks for more. No name in a file is ever imported or called.
"""

from __future__ import annotations

import io
import math
import pickletools
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from triode.errors import UnsupportedError

__all__ = ["read_state"]

_DTYPES: Final[Mapping[str, torch.dtype]] = {
    "torch BFloat16Storage": torch.bfloat16,
    "torch BoolStorage": torch.bool,
    "torch ByteStorage": torch.uint8,
    "torch CharStorage": torch.int8,
    "torch DoubleStorage": torch.float64,
    "torch FloatStorage": torch.float32,
    "torch HalfStorage": torch.float16,
    "torch IntStorage": torch.int32,
    "torch LongStorage": torch.int64,
    "torch ShortStorage": torch.int16,
}
_MAGIC: Final = 0x1950A86A20F9469CFC6C
_PROTOCOL: Final = 1001
_MARK: Final = object()
_VALUES: Final = frozenset(
    {"BINFLOAT", "BININT", "BININT1", "BININT2", "BINSTRING", "BINUNICODE", "GLOBAL", "LONG1", "SHORT_BINSTRING"}
)
_CONSTANTS: Final[Mapping[str, Callable[[], Any]]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "MARK": lambda: _MARK,
    "NEWFALSE": lambda: False,
    "NEWTRUE": lambda: True,
    "NONE": lambda: None,
}


@dataclass(frozen=True, slots=True)
class _Storage:
    """A run of numbers that tensors are views of: its type, key and length."""

    dtype: torch.dtype
    key: str
    length: int


@dataclass(frozen=True, slots=True)
class _View:
    """A tensor before its storage is read."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _Machine:
    """The part of the stack machine that a dictionary of tensors takes."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, file: IO[bytes]) -> Any:
        """Read one pickle, leave the file behind its end, and return what it holds."""
        for op, argument, _ in pickletools.genops(file):
            self._step(op.name, argument)
        (result,) = self.stack
        return result

    def _step(self, name: str, argument: Any) -> None:
        if name in _VALUES:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name]())
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            self.stack.append(self.memo[argument])
        elif name not in ("PROTO", "STOP"):
            step: Callable[[], None] | None = getattr(self, f"_op_{name.lower()}", None)
            if step is None:
                raise ValueError(f"it takes the instruction {name}")
            step()

    def _to_mark(self) -> list[Any]:
        at = max(i for i, item in enumerate(self.stack) if item is _MARK)
        items = self.stack[at + 1 :]
        del self.stack[at:]
        return items

    def _op_tuple(self) -> None:
        self.stack.append(tuple(self._to_mark()))

    def _op_tuple1(self) -> None:
        self.stack[-1:] = [tuple(self.stack[-1:])]

    def _op_tuple2(self) -> None:
        self.stack[-2:] = [tuple(self.stack[-2:])]

    def _op_tuple3(self) -> None:
        self.stack[-3:] = [tuple(self.stack[-3:])]

    def _op_append(self) -> None:
        item = self.stack.pop()
        self.stack[-1].append(item)

    def _op_appends(self) -> None:
        items = self._to_mark()
        self.stack[-1].extend(items)

    def _op_setitem(self) -> None:
        key, value = self.stack[-2:]
        del self.stack[-2:]
        self.stack[-1][key] = value

    def _op_setitems(self) -> None:
        items = self._to_mark()
        self.stack[-1].update(zip(items[::2], items[1::2], strict=True))

    def _op_build(self) -> None:
        self.stack.pop()  # attributes of the dictionary, such as _metadata: of no use here

    def _op_binpersid(self) -> None:
        kind, dtype, key, _device, length, *_ = self.stack.pop()
        if kind != "storage":
            raise ValueError(f"it refers to {kind!r}")
        self.stack.append(_Storage(_DTYPES[dtype], key, length))

    def _op_reduce(self) -> None:
        function, arguments = self.stack[-2:]
        del self.stack[-2:]
        if function == "collections OrderedDict":
            self.stack.append(dict(*arguments))
        elif function == "torch._utils _rebuild_tensor_v2":
            storage, offset, size, stride, *_ = arguments
            self.stack.append(_View(storage, offset, size, stride))
        elif function == "torch._utils _rebuild_parameter":
            self.stack.append(arguments[0])
        else:
            raise ValueError(f"it calls {function!r}")


def _numbers(data: bytes, storage: _Storage) -> Tensor:
    if len(data) != storage.length * storage.dtype.itemsize:
        raise ValueError(f"a storage has {len(data)} bytes in place of {storage.length} numbers")
    return torch.frombuffer(bytearray(data), dtype=storage.dtype) if data else torch.empty(0, dtype=storage.dtype)


def _views(state: Any, prefix: str) -> dict[str, _View]:
    if not isinstance(state, dict) or not all(isinstance(k, str) and isinstance(v, _View) for k, v in state.items()):
        raise ValueError("it holds more than tensors by name")
    views = {name: view for name, view in state.items() if name.startswith(prefix)}
    for name, view in views.items():
        if math.prod(view.size) > view.storage.length:
            raise ValueError(f"{name} has more numbers than its storage")
    return views


def _read_zip(path: Path, prefix: str) -> tuple[dict[str, _View], dict[str, Tensor]]:
    with zipfile.ZipFile(path) as archive:
        (program,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        folder = program.removesuffix("data.pkl")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("it is compressed")
        if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
            raise ValueError("its bytes are not in little-endian order")
        with archive.open(program) as file:
            views = _views(_Machine().run(file), prefix)
        storages = {view.storage.key: view.storage for view in views.values()}
        return views, {key: _numbers(archive.read(f"{folder}data/{key}"), s) for key, s in storages.items()}


def _read_legacy(path: Path, prefix: str) -> tuple[dict[str, _View], dict[str, Tensor]]:
    """Read the layout before PyTorch 1.6: five pickles, then every storage, its length first."""
    numbers = {}
    with path.open("rb") as file:
        if _Machine().run(file) != _MAGIC or _Machine().run(file) != _PROTOCOL:
            raise ValueError("it lacks the marks of PyTorch")
        if not _Machine().run(file)["little_endian"]:
            raise ValueError("its bytes are not in little-endian order")
        state, keys = _Machine().run(file), _Machine().run(file)
        views = _views(state, prefix)
        wanted = {view.storage.key for view in views.values()}
        storages = {view.storage.key: view.storage for view in state.values()}
        left = path.stat().st_size - file.tell()
        for key in keys:
            (length,) = struct.unpack("<q", file.read(8))
            size = length * storages[key].dtype.itemsize
            left -= 8 + size
            if length != storages[key].length or length < 0 or left < 0:
                raise ValueError(f"a storage says to have {length} numbers")
            if key in wanted:
                numbers[key] = _numbers(file.read(size), storages[key])
            else:
                file.seek(size, io.SEEK_CUR)
    return views, numbers


def read_state(path: str | Path, prefix: str = "") -> dict[str, Tensor]:
    """Read a dictionary of tensors from a file of safetensors or of PyTorch, and run nothing that lies in it.

    Args:
        path: A ``.safetensors`` file, or what ``torch.save(module.state_dict(), path)`` wrote, of today or before 1.6.
        prefix: Only tensors whose names begin so are read.

    Returns:
        Tensors on the CPU, by name.

    Raises:
        UnsupportedError: If there is no such file, or it is damaged, or it holds more than tensors.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, "pt") as file:
                return {name: file.get_tensor(name) for name in file.keys() if name.startswith(prefix)}  # noqa: SIM118
        views, numbers = (_read_zip if zipfile.is_zipfile(path) else _read_legacy)(path, prefix)
        return {k: numbers[v.storage.key].as_strided(v.size, v.stride, v.offset) for k, v in views.items()}
    except OSError as error:
        raise UnsupportedError(f"Weights cannot be read from {path}: {error.strerror or error}") from error
    except (
        # Whatever a damaged file can do to the machine above, which has run nothing that lies in it.
        *(
            AttributeError,
            EOFError,
            IndexError,
            KeyError,
            MemoryError,
            OverflowError,
            RuntimeError,
            TypeError,
            ValueError,
        ),
        *(struct.error, zipfile.BadZipFile, safetensors.SafetensorError),
    ) as error:
        raise UnsupportedError(f"Weights cannot be read from {path}: {error}") from error

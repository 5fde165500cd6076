"""Frozen dataclasses to plain JSON data and back, with every field checked."""

from __future__ import annotations

import dataclasses
import math
import numbers
import types
import typing
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, TypeVar

from triode.errors import CodecError

__all__ = ["ResultsError", "from_plain", "to_plain"]

T = TypeVar("T")

_EXACT_INTEGERS: Final = 2**53
_KINDS: Final = {str: "text", int: "an integer", float: "a number", bool: "true or false"}


class ResultsError(CodecError, ValueError):
    """Not valid results: not JSON, of another schema, or with a field that is missing, unknown or wrong."""


def to_plain(record: Any) -> dict[str, Any]:
    """Turn a dataclass into what JSON can hold.

    Fields that have a default are left out where they are None or empty. Numbers are rounded to as many significant
    digits as the field's metadata says under ``digits``, whole ones become integers, and those that are not finite
    become None. Values that JSON does not know become text.

    Args:
        record: An instance of a dataclass, which may hold others in tuples and mappings.
    """
    found = {}
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        empty = value is None or (isinstance(value, (Mapping, tuple)) and not value)
        if not (empty and _has_default(field)):
            found[field.name] = _plain(value, field.metadata.get("digits"))
    return found


def _plain(value: Any, digits: int | None) -> Any:
    match value:
        case None | bool():
            return value
        case str():
            return str(value)
        case numbers.Integral():
            return int(value)
        case numbers.Real():
            return _number(float(value), digits)
        case Mapping():
            return {str(key): _plain(entry, digits) for key, entry in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(entry, digits) for entry in value]
    if dataclasses.is_dataclass(value):
        return to_plain(value)
    return _plain(value.tolist(), digits) if hasattr(value, "tolist") else str(value)


def _number(value: float, digits: int | None) -> float | None:
    if not math.isfinite(value):
        return None
    if digits is not None:
        value = float(f"{value:.{digits}g}")
    return int(value) if value.is_integer() and abs(value) < _EXACT_INTEGERS else value


def from_plain(cls: type[T], data: Any, where: str = "") -> T:
    """Make a dataclass of what :func:`to_plain` made of it.

    Args:
        cls: The dataclass. Fields may be text, numbers, other dataclasses, tuples, mappings from text, or optional. In
            a mapping to numbers, null stands for a value that is not finite, and becomes NaN.
        data: What JSON gave.
        where: What the data are, for messages.

    Raises:
        ResultsError: If a field is missing, not known, or of the wrong kind; the message says which.
    """
    if not isinstance(data, Mapping):
        raise _wrong(where, "an object", data)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = [name for name in data if name not in fields]
    missing = [name for name, field in fields.items() if name not in data and not _has_default(field)]
    for names, what in ((unknown, "has an unknown field"), (missing, "lacks the field")):
        if names:
            raise ResultsError(f"{where or 'the file'} {what} {names[0]!r}")
    prefix = f"{where}." if where else ""
    hints = _hints(typing.cast("Any", cls))
    return cls(**{name: _read(hints[name], entry, prefix + name) for name, entry in data.items()})


def _read(hint: Any, data: Any, where: str) -> Any:
    if hint is Any:
        return data
    if dataclasses.is_dataclass(hint):
        return from_plain(typing.cast("type[Any]", hint), data, where)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return None if data is None else _read(args[0], data, where)
    if origin is tuple:
        return _read_tuple(args, data, where)
    if origin is not None:
        if not isinstance(data, Mapping):
            raise _wrong(where, "an object", data)
        return {key: _read_entry(args[1], entry, f"{where}[{key!r}]") for key, entry in data.items()}
    accepted = (int, float) if hint is float else hint
    if not isinstance(data, accepted) or (isinstance(data, bool) and hint is not bool):
        raise _wrong(where, _KINDS[hint], data)
    if hint is not float:
        return data
    try:
        value = float(data)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise ResultsError(f"{where} must be a finite number")
    return value


def _read_entry(hint: Any, data: Any, where: str) -> Any:
    return math.nan if data is None and hint is float else _read(hint, data, where)


def _read_tuple(args: tuple[Any, ...], data: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(data, (list, tuple)):
        raise _wrong(where, "a list", data)
    hints = [args[0]] * len(data) if args[-1] is Ellipsis else args
    if len(hints) != len(data):
        raise ResultsError(f"{where} must have {len(hints)} entries, but has {len(data)}")
    return tuple(
        _read(hint, entry, f"{where}[{place}]") for place, (hint, entry) in enumerate(zip(hints, data, strict=True))
    )


def _wrong(where: str, wanted: str, data: Any) -> ResultsError:
    found = repr(data)
    return ResultsError(f"{where or 'the file'} must be {wanted}, but is {found[:60]}{'...' * (len(found) > 60)}")


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


@lru_cache(maxsize=64)
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)

"""Options of a codec's specification: strings in, checked values out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

__all__ = ["Options"]


class Options:
    """Reads options one by one; :meth:`done` refuses what nobody asked for.

    Args:
        coder: Name of the codec, for messages.
        given: Options as :func:`triode.eval.coder.create_coder` passes them; ``media`` is left out.
    """

    def __init__(self, coder: str, given: Mapping[str, str]) -> None:
        self._coder = coder
        self._given = {key: value for key, value in given.items() if key != "media"}
        self._known: list[str] = []

    def _take(self, key: str) -> str | None:
        self._known.append(key)
        return self._given.get(key)

    def _refuse(self, key: str, value: str, valid: str) -> ValueError:
        return ValueError(f"Option `{key}` of {self._coder} must be {valid}, but got {value!r}")

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        """Return an integer option.

        Raises:
            ValueError: If it is no integer in ``low..high``.
        """
        value = self._take(key)
        if value is None:
            return default
        try:
            number = int(value)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise self._refuse(key, value, f"an integer in {low}..{high}")
        return number

    def number(self, key: str, default: float, low: float, high: float) -> float:
        """Return a real option.

        Raises:
            ValueError: If it is no number in ``low..high``.
        """
        value = self._take(key)
        if value is None:
            return default
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not low <= number <= high:
            raise self._refuse(key, value, f"a number in {low:g}..{high:g}")
        return number

    def choice(self, key: str, default: str, choices: Sequence[str]) -> str:
        """Return one of several words.

        Raises:
            ValueError: If it is none of them.
        """
        value = self._take(key)
        if value is None:
            return default
        if value not in choices:
            raise self._refuse(key, value, f"one of {', '.join(choices)}")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """Return an option that is ``yes`` or ``no``.

        Raises:
            ValueError: If it is neither.
        """
        return self.choice(key, "yes" if default else "no", ("no", "yes")) == "yes"

    def text(self, key: str, default: str) -> str:
        """Return an option as it stands.

        Raises:
            ValueError: If it is empty.
        """
        value = self._take(key)
        if value == "":
            raise self._refuse(key, value, "a word")
        return default if value is None else value

    def done(self) -> None:
        """End the reading.

        Raises:
            ValueError: If an option was given that no method asked for.
        """
        unknown = sorted(self._given.keys() - self._known)
        if unknown:
            valid = ", ".join(self._known) or "none"
            raise ValueError(f"Codec {self._coder} has no option {unknown[0]!r}; it has: {valid}")

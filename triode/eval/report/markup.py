"""HTML from Python with nothing unescaped by mistake, and numbers as the page prints them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

__all__ = [
    "DASH",
    "MINUS",
    "THIN",
    "TIMES",
    "Html",
    "bytes_text",
    "el",
    "fixed",
    "join",
    "percent",
    "plus",
    "significant",
    "table",
]

_VOID: Final = frozenset({"img", "br"})
DASH: Final = "\u2013"
MINUS: Final = "\u2212"
THIN: Final = "\u2009"
TIMES: Final = "\u00d7"


class Html(str):
    """Markup that is safe to put into a page as it is."""

    __slots__ = ()


def el(name: str, /, *children: str | None, **attributes: str | float | bool | None) -> Html:
    """Make an element.

    Args:
        name: Of the tag.
        *children: Text, which is escaped, or :class:`Html`; None is left out.
        **attributes: A trailing underscore is dropped and the others become hyphens. True is an attribute without
            value; None and False are left out.
    """
    found = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        name_of = key.rstrip("_").replace("_", "-")
        found.append(f" {name_of}" if value is True else f' {name_of}="{escape(str(value))}"')
    start = f"<{name}{''.join(found)}>"
    return Html(start if name in _VOID else f"{start}{join(children)}</{name}>")


def join(children: Iterable[str | None], between: str = "") -> Html:
    """Put markup and text, which is escaped, one after the other."""
    return Html(between.join(c if isinstance(c, Html) else escape(c, quote=False) for c in children if c is not None))


def table(heads: Sequence[Html], rows: Iterable[Html], label: str, *, class_: str | None = None) -> Html:
    """Make a table that scrolls by itself where the page is narrow."""
    head = el("thead", el("tr", *heads))
    inner = el("table", el("caption", label, class_="hush"), head, el("tbody", *rows), class_=class_)
    return el("div", inner, class_="wide", tabindex=0, role="region", aria_label=label)


def fixed(value: float | None, digits: int) -> str:
    """Write a number with some decimals, with a real minus sign; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return DASH
    text = f"{value:.{digits}f}"
    return text.replace("-", MINUS) if text.strip("-0.") else text.removeprefix("-")


def plus(value: float | None, digits: int) -> str:
    """Write a number with its sign, whether above or below zero."""
    text = fixed(value, digits)
    return f"+{text}" if value is not None and value > 0 and text.strip(f"0.{DASH}") else text


def significant(value: float | None, digits: int = 3) -> str:
    """Write a number to some significant digits without exponent; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return DASH
    if value == 0:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return fixed(value, min(places, 9)) if places > 0 else fixed(round(value), 0)


def percent(value: float | None, digits: int = 1) -> str:
    """Write a signed percentage; a dash where there is none."""
    if value is None or not math.isfinite(value):
        return DASH
    return f"{plus(value, digits)}{THIN}%"


def bytes_text(value: float) -> str:
    """Write a size in B, kB or MB."""
    if value < 1e4:
        return f"{round(value):,}{THIN}B"
    return f"{significant(value / 1e3)}{THIN}kB" if value < 1e6 else f"{significant(value / 1e6)}{THIN}MB"

"""Colours and markers of the page and of the figures, and the page's style sheet.

The eight colours of each theme were searched for in OKLab such that all pairs stay apart with normal sight and with
simulated protanopia, deuteranopia and tritanopia (Machado, Oliveira and Fernandes, 2009) and each has contrast with
the background; tests hold them to that. Markers tell curves apart without any colour.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from importlib import resources
from typing import Final

__all__ = ["DARK", "LIGHT", "MARKERS", "PALETTE", "PALETTE_DARK", "asset", "digest", "style_sheet"]

PALETTE: Final = ("#2b64c3", "#d66919", "#41a083", "#a83876", "#4c5a09", "#a87eeb", "#5b161c", "#2b1980")
PALETTE_DARK: Final = ("#63adf6", "#f0ad15", "#4ce3a0", "#eb6f9a", "#f2f469", "#906fc5", "#bb6e20", "#badbfe")
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "p", "*")
"""Markers of matplotlib; ``chart.js`` and ``svg.py`` draw the same."""

LIGHT: Final[Mapping[str, str]] = {
    "page": "#ffffff",
    "panel": "#f6f7f9",
    "ink": "#1b2027",
    "soft": "#59636f",
    "rule": "#e4e8ed",
    "edge": "#c3cad3",
    "accent": PALETTE[0],
    "less": "#8fb4ee",
    "more": "#f0bf95",
}
DARK: Final[Mapping[str, str]] = {
    "page": "#14171c",
    "panel": "#1b2027",
    "ink": "#e6e9ed",
    "soft": "#a0aab6",
    "rule": "#2a3039",
    "edge": "#454e5a",
    "accent": PALETTE_DARK[0],
    "less": "#2c5288",
    "more": "#85511c",
}


def _variables(theme: Mapping[str, str], palette: tuple[str, ...]) -> str:
    colours = {**theme, **{f"c{place}": colour for place, colour in enumerate(palette)}}
    return " ".join(f"--{name}: {value};" for name, value in colours.items())


def style_sheet() -> str:
    """Return the page's style: the themes, then the package's ``report.css``. Paper is always light."""
    light, dark = _variables(LIGHT, PALETTE), _variables(DARK, PALETTE_DARK)
    series = "\n".join(f".c{place} {{ --c: var(--c{place}); }}" for place in range(len(PALETTE)))
    return f"""
:root {{ color-scheme: light; {light} }}
@media screen and (prefers-color-scheme: dark) {{ :root:not([data-theme="light"]) {{ color-scheme: dark; {dark} }} }}
@media screen {{ :root[data-theme="dark"] {{ color-scheme: dark; {dark} }} }}
{series}
{asset("report.css")}"""


def asset(name: str) -> str:
    """Return a text file of this package."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def digest(text: str) -> str:
    """Return the source expression of a content security policy that allows just this inline text."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

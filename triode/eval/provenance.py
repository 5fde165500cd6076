"""How results came about: versions, machine and command line, without what would name a person or a place."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from triode.eval.engines import cores
from triode.eval.results import Provenance
from triode.version import __version__

__all__ = ["make_provenance", "package_version", "processor", "shown_command"]

_PACKAGES: Final = ("numpy", "pillow", "scipy", "torch")
# Folders that lead to a file, absolute or in a home: at the beginning of a word, or of what follows = : or a comma.
_FOLDERS: Final = re.compile(r"(?P<before>^|[=:,])(?:[A-Za-z]:[\\/]|~[^\\/]*/|/)(?:[^\\/=:,]*[\\/])*")
_HIDDEN: Final = ("--ray-address",)


def make_provenance(
    command: str, engine: str, seed: int, versions: Mapping[str, str], packages: Iterable[str]
) -> Provenance:
    """Describe the run that is going on.

    Args:
        command: The command line, or the call.
        engine: ``serial``, ``process`` or ``ray``, with the number of workers.
        seed: Seed of all random choices.
        versions: Versions that codecs state.
        packages: Names of packages whose versions matter besides.
    """
    found = {"python": platform.python_version()}
    for name in dict.fromkeys((*_PACKAGES, *packages)):
        version = package_version(name)
        if version is not None:
            found[name] = version
    return Provenance(
        command=command,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        triode=__version__,
        machine=_machine(),
        versions={**versions, **found},
        engine=engine,
        seed=seed,
    )


def package_version(name: str) -> str | None:
    """Return the version of an installed package, None where it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def shown_command(words: Sequence[str]) -> str:
    """Return a command line as it may be published: absolute folders and addresses of machines are left out.

    ``/home/ann/kodak`` becomes ``kodak``; relative paths stay as they are.
    """
    shown = []
    for place, word in enumerate(words):
        name, equals, _ = word.partition("=")
        if place and words[place - 1] in _HIDDEN:
            word = "ADDRESS"
        elif name in _HIDDEN and equals:
            word = f"{name}=ADDRESS"
        shown.append(_FOLDERS.sub(r"\g<before>", word.rstrip("/") or "/"))
    return shlex.join(shown)


def processor() -> str:
    """Return the name of the processor."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    names = re.findall(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return names[0].strip() if names else platform.processor() or platform.machine() or "unknown"


def _machine() -> dict[str, str]:
    found = {
        "processor": processor(),
        "architecture": platform.machine(),
        "cores": str(cores()),
        "system": f"{platform.system()} {platform.release()}".strip(),
    }
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows
        return found
    return {**found, "memory": f"{memory / 2**30:.0f} GiB"}

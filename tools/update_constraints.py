"""Rewrite constraints.txt: the exact version of every package that any extra of the project brings in.

`python tools/update_constraints.py` adds the pins of new requirements and keeps every pin that stands.
`python tools/update_constraints.py NAME...` also lets the named packages move to their newest fitting version, and
`--all` lets every package move. The packages are resolved by installing them into a temporary environment.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONSTRAINTS = ROOT / "constraints.txt"
HEADER = """\
# The exact versions that the project is built and tested with, for Python 3.11.
# Made by `make constraints`; change pyproject.toml and run it again. A version has no local tag, so that
# `torch==2.13.0` takes a CPU build where the index offers one and the index's own build elsewhere.
"""


def canonical(name: str) -> str:
    """Return a project name as the package index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements() -> list[str]:
    """List what the project asks for: its build back end, its core, and every extra."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = pyproject["project"]
    extras = [item for extra in project["optional-dependencies"].values() for item in extra]
    return sorted({*pyproject["build-system"]["requires"], *project["dependencies"], *extras})


def kept_pins(released: set[str]) -> list[str]:
    """List the pins in force, except those of the released packages."""
    if not CONSTRAINTS.exists():
        return []
    lines = [line.strip() for line in CONSTRAINTS.read_text().splitlines()]
    return [line for line in lines if "==" in line and canonical(line.partition("==")[0]) not in released]


def resolve(pins: list[str]) -> list[str]:
    """Install the requirements under the pins into a fresh environment and list what it then holds, sorted."""
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run([sys.executable, "-m", "venv", scratch], check=True)
        python = str(Path(scratch, "bin", "python"))
        pinned = Path(scratch, "pins.txt")
        pinned.write_text("\n".join(pins))
        subprocess.run([python, "-m", "pip", "install", "-q", "-c", pinned, *requirements()], check=True)
        subprocess.run([python, "-m", "pip", "check"], check=True)
        freeze = [python, "-m", "pip", "freeze", "--all", "--exclude", "pip"]
        frozen = subprocess.run(freeze, check=True, capture_output=True, text=True).stdout
    return sorted((re.sub(r"\+.*", "", line) for line in frozen.splitlines()), key=str.lower)


def main() -> None:
    """Resolve, and write the file."""
    parser = argparse.ArgumentParser(description="Rewrite constraints.txt from pyproject.toml.")
    parser.add_argument("names", nargs="*", help="packages that may move to a newer version")
    parser.add_argument("--all", action="store_true", help="let every package move")
    args = parser.parse_args()
    pins = [] if args.all else kept_pins({canonical(name) for name in args.names})
    CONSTRAINTS.write_text(HEADER + "\n".join(resolve(pins)) + "\n")


if __name__ == "__main__":
    main()

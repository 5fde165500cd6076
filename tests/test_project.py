"""The project's own files agree: versions, pins, targets, sizes, and what may stand in a public tree."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from triode.version import __version__

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MEBIBYTE = 2**20
WEIGHTS = "triode/models/weights/"

# The brackets keep this line from matching itself.
FOREIGN = re.compile(r"(?<![\w.])/(?:work|tmp)/|pypi[.]org|pythonhosted[.]org|npmjs[.]|debian[.]org")


def files_of_the_tree() -> list[str]:
    """List the tracked files, and the new ones that git would track."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted(name for name in set(listing.split("\0")) if name and (ROOT / name).is_file())


def requirements() -> list[Requirement]:
    project = PYPROJECT["project"]
    extras = [item for extra in project["optional-dependencies"].values() for item in extra]
    return [Requirement(text) for text in [*PYPROJECT["build-system"]["requires"], *project["dependencies"], *extras]]


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def test_core_is_six_packages() -> None:
    core = {Requirement(text).name for text in PYPROJECT["project"]["dependencies"]}
    assert core == {"constriction", "numpy", "pillow", "safetensors", "torch", "tqdm"}


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_requirement_is_pinned(requirement: Requirement, pins: dict[str, str]) -> None:
    assert canonicalize_name(requirement.name) in pins, "run `make constraints`"
    assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)])


def test_pins_are_exact_and_without_local_tags(pins: dict[str, str]) -> None:
    assert [name for name, version in pins.items() if Version(version).local or "*" in version] == []


def test_version_is_stated_once_and_in_the_changelog() -> None:
    assert PYPROJECT["tool"]["hatch"]["version"]["path"] == "triode/version.py"
    assert "version" in PYPROJECT["project"]["dynamic"]
    newest = re.findall(r"^## \[([^\]]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    version = Version(__version__)
    assert newest == ("Unreleased" if version.is_devrelease else str(version))


def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    shown = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert targets is not None
    assert {line.split()[0] for line in shown.splitlines()} == set(targets[1].split())
    assert {"setup", "demo", "test", "lint", "bench", "gpu-pack", "golden", "help"} <= set(targets[1].split())


def test_zoo_packages_work_beside_this_torch() -> None:
    code = (
        "import torch, torchaudio, torchvision, compressai.ans;"
        "boxes = torch.tensor([[0.0, 0, 10, 10], [1, 1, 10, 10], [20, 20, 30, 30]]);"
        "print(torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[0, 2]\n", done.stderr[-2000:]


def test_no_file_names_a_build_machine_or_a_registry() -> None:
    found = []
    for name in files_of_the_tree():
        try:
            lines = (ROOT / name).read_text().splitlines()
        except UnicodeDecodeError:
            continue  # not a text file
        found += [
            f"{name}:{number}: {line.strip()[:80]}" for number, line in enumerate(lines, 1) if FOREIGN.search(line)
        ]
    assert found == []


def test_files_are_small_and_weights_are_safetensors() -> None:
    sizes = {name: (ROOT / name).stat().st_size for name in files_of_the_tree()}
    weights = {name: size for name, size in sizes.items() if name.startswith(WEIGHTS) and name.endswith(".safetensors")}
    assert {name: size for name, size in weights.items() if size > 16 * MEBIBYTE} == {}
    assert sum(weights.values()) <= 48 * MEBIBYTE
    # Small checkpoints let the next training run go on; they stay out of the wheel.
    trained = {name for name in sizes if name.startswith("checkpoints/") and name.endswith(".safetensors")}
    assert {name: sizes[name] for name in trained if sizes[name] > 16 * MEBIBYTE} == {}
    assert {n: size for n, size in sizes.items() if n not in {*weights, *trained} and size > 2 * MEBIBYTE} == {}
    assert [name for name in sizes if name.endswith((".pt", ".pth", ".ckpt", ".pkl", ".pickle"))] == []

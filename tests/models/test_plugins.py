"""Models from outside of the package."""

from __future__ import annotations

import os
import sys
from importlib.metadata import EntryPoint

import pytest

from triode.errors import ModelMismatchError
from triode.models import plugins, registry

SOURCE = """
from dataclasses import dataclass
from torch import nn
from triode.models.registry import register_model

@dataclass(frozen=True)
class Config:
    width: int = 3

@register_model("{name}", Config)
def build(config):
    return nn.Linear(config.width, config.width)
"""


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    """Leave neither models nor modules behind."""
    registry.list_architectures()  # The package's own are imported once, and must not go with the copy.
    monkeypatch.setattr(registry, "_MODELS", dict(registry._MODELS))
    modules = set(sys.modules)
    for part in (plugins._installed, plugins._named):
        part.cache_clear()
    yield
    for name in set(sys.modules) - modules:
        if name.startswith("mine_"):
            del sys.modules[name]
    for part in (plugins._installed, plugins._named):
        part.cache_clear()


def source(folder, name):
    path = folder / f"mine_{name}.py"
    path.write_text(SOURCE.format(name=name))
    return path


def test_files_and_modules(tmp_path, monkeypatch):
    first, second = source(tmp_path, "first"), source(tmp_path, "second")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(plugins.VARIABLE, os.pathsep.join((str(first), second.stem)))
    assert {"first", "second", "image-light"} <= set(registry.list_architectures())
    assert registry.create_model("first", width=5).in_features == 5
    assert registry.list_architectures("fir*") == ["first"]  # and not registered twice


def test_relative_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(plugins.VARIABLE, source(tmp_path, "near").name)
    assert "near" in registry.list_architectures()


@pytest.mark.parametrize("broken", ["no_such_module", "no/such/file.py", "wrong", "taken", "shadow"])
def test_what_cannot_be_imported(tmp_path, monkeypatch, broken):
    path = tmp_path / "mine_wrong.py"
    path.write_text("import no_such_module")
    names = {"wrong": str(path), "taken": str(source(tmp_path, "image-light")), "shadow": str(tmp_path / "json.py")}
    (tmp_path / "json.py").write_text("")
    monkeypatch.setenv(plugins.VARIABLE, names.get(broken, broken))
    for _ in range(2):  # Failing once does not hide it.
        with pytest.raises(ModelMismatchError, match=r"TRIODE_MODELS names .* cannot be imported"):
            registry.list_architectures()
    assert "mine_wrong" not in sys.modules


def test_installed_packages(tmp_path, monkeypatch):
    source(tmp_path, "installed")
    monkeypatch.syspath_prepend(tmp_path)
    points = [EntryPoint(n, n, plugins.GROUP) for n in ("mine_installed", "no_such_module")]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == plugins.GROUP else [])
    with pytest.warns(UserWarning, match="Models of no_such_module are left out"):
        names = registry.list_architectures()
    assert "installed" in names

"""Models from outside of the package: installed ones by entry point, a user's own by an environment variable.

Files never name code: a stream names weights, weights name an architecture, and that is looked up among those that are
registered.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import warnings
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

from triode.errors import ModelMismatchError

__all__ = ["GROUP", "VARIABLE", "load_plugins"]

GROUP: Final = "triode.models"
"""Entry points of installed packages; each names a module that registers models when it is imported."""
VARIABLE: Final = "TRIODE_MODELS"
"""Modules, or paths of ``.py`` files, that do the same, with the separator of ``PATH`` between them."""


def load_plugins() -> None:
    """Import what registers models from outside, once; a package whose entry point fails is warned of and left out.

    Raises:
        ModelMismatchError: If what the environment variable names cannot be imported.
    """
    _installed()
    _named(os.environ.get(VARIABLE, ""))


@lru_cache
def _installed() -> None:
    for point in entry_points(group=GROUP):
        try:
            point.load()
        except Exception as error:  # Anything may go wrong in it, and it is not ours.
            warnings.warn(f"Models of {point.value} are left out: {error}", stacklevel=2)


@lru_cache
def _named(names: str) -> None:
    for name in filter(None, names.split(os.pathsep)):
        try:
            _import(name)
        except Exception as error:
            raise ModelMismatchError(f"{VARIABLE} names {name}, which cannot be imported: {error}") from error


def _import(name: str) -> None:
    path = Path(name)
    if path.suffix != ".py":
        importlib.import_module(name)
        return
    if path.stem in sys.modules:
        raise ImportError(f"there is a module named {path.stem} already")
    spec = importlib.util.spec_from_file_location(path.stem, path.resolve(strict=True))
    if spec is None or spec.loader is None:
        raise ImportError("it is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise

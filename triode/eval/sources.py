"""Where a bench has its items and codecs from: what is sent to worker processes, and made into objects there."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from triode.eval.coder import Coder, create_coder
from triode.eval.items import item_facts, load_item
from triode.eval.results import ItemFacts
from triode.media import Clip, Sound

__all__ = ["CodecReference", "CodecSource", "ItemSource", "check_item", "source_digest"]

_PACKAGE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class CodecReference:
    """A codec in a module: ``MODULE:OBJECT``, the module a dotted name or the path of a ``.py`` file.

    Attributes:
        text: As it was given. The object is a ``Coder``, or a class or function without arguments that makes one.
        folder: Where modules are looked for besides where Python looks.
    """

    text: str
    folder: str = ""

    def load(self) -> Coder:
        """Import the module, and return the object, or what it makes.

        Raises:
            ValueError: If the text is of another form, the module cannot be imported, or the object is no coder.
        """
        where, _, name = self.text.rpartition(":")
        if not where or not name:
            raise ValueError(f"A codec of one's own is named MODULE:OBJECT or FILE.py:OBJECT, but got {self.text!r}")
        try:
            found: Any = self._import(where)
            for part in name.split("."):
                found = getattr(found, part)
            if not isinstance(found, Coder) and callable(found):
                found = found()
        except Exception as error:  # a stranger's code may raise anything
            raise ValueError(f"The codec {self.text!r} cannot be had: {type(error).__name__}: {error}") from error
        if not isinstance(found, Coder):
            raise ValueError(f"{self.text!r} must be a triode.eval.Coder or make one, but is {type(found).__name__}")
        return found

    def _import(self, where: str) -> ModuleType:
        if not where.endswith(".py"):
            if self.folder not in sys.path:
                sys.path.insert(0, self.folder)
            return importlib.import_module(where)
        path = Path(self.folder, where).resolve()
        # Two files of one name are two modules.
        name = f"{path.stem}_{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"
        if name in sys.modules:
            return sys.modules[name]
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None or not path.is_file():
            raise FileNotFoundError(f"there is no Python file {path.name} there")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module


@dataclass(frozen=True, slots=True)
class CodecSource:
    """A codec of a bench.

    Attributes:
        given: Specification for ``create_coder``, reference to an object, or the object itself.
        media: ``image``, ``audio`` or ``video``.
        name: Its name in the results; empty for the coder's own.
    """

    given: str | CodecReference | Coder
    media: str
    name: str = ""

    def create(self) -> Coder:
        """Return the coder.

        Raises:
            ValueError: If there is none of this name, option or reference, or it codes another medium.
            UnsupportedError: If a package that it needs is missing.
        """
        if isinstance(self.given, str):
            return create_coder(self.given, self.media)
        coder = self.given.load() if isinstance(self.given, CodecReference) else self.given
        if coder.media != self.media:
            raise ValueError(f"The codec {coder.name!r} is for {coder.media}, but this bench is of {self.media}")
        return coder

    @property
    def is_made_here(self) -> bool:
        """Whether :meth:`create` makes a coder of its own, which is then to be closed."""
        return not isinstance(self.given, Coder)


@dataclass(frozen=True, slots=True, eq=False)
class ItemSource:
    """An item of a bench.

    Attributes:
        name: Its name in the results.
        media: ``image``, ``audio`` or ``video``.
        path: Its file; None where `item` is given.
        item: The item itself.
    """

    name: str
    media: str
    path: Path | None = None
    item: Any = None

    def load(self) -> Any:
        """Return the item.

        Raises:
            CodecError: If the file is damaged, or not of this medium.
            OSError: If it cannot be opened.
        """
        return self.item if self.path is None else load_item(self.path, self.media)

    def facts(self, item: Any) -> ItemFacts:
        """Describe the item, which :meth:`load` returned; the digest is of the file, or of the samples.

        Raises:
            ValueError: If the item is empty.
        """
        if self.path is not None:
            facts = item_facts(self.path, item, self.name)
        else:  # the same facts as of a file, but for the digest
            facts = replace(item_facts(Path(os.devnull), item, self.name), sha256=_digest(item))
        if facts.units <= 0:
            raise ValueError(f"The item {self.name!r} is empty")
        return facts


def check_item(item: Any, media: str) -> None:
    """Check that an object is an item of a medium.

    Raises:
        ValueError: If it is not pixels (H, W, 3) uint8 with H, W >= 1, a ``Sound``, or a ``Clip``.
    """
    if media == "image":
        if not (isinstance(item, np.ndarray) and item.dtype == np.uint8 and item.ndim == 3 and item.shape[2] == 3):
            found = f"{item.shape} {item.dtype}" if isinstance(item, np.ndarray) else type(item).__name__
            raise ValueError(f"An image must be an array (H, W, 3) uint8, but is {found}")
        if item.size == 0:
            raise ValueError(f"An image must have H, W >= 1, but is {item.shape}")
    elif not isinstance(item, wanted := Sound if media == "audio" else Clip):
        raise ValueError(f"An item of {media} must be a triode.media.{wanted.__name__}, but is {type(item).__name__}")


def _digest(item: Any) -> str:
    arrays: list[NDArray[Any]]
    if isinstance(item, Sound):
        arrays, text = [item.samples], f"{item.rate}"
    elif isinstance(item, Clip):
        arrays, text = [item.y, item.u, item.v], f"{item.rate} {item.matrix} {item.full_range}"
    else:
        arrays, text = [item], ""
    found = hashlib.sha256(text.encode())
    for array in arrays:
        found.update(f"{array.shape} {array.dtype}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()


def source_digest(coder: Coder) -> str:
    """Return a digest of the Python files that a coder's own class and functions are written in.

    Files of this package are left out: its version stands for them. Empty where there are no others.
    """
    objects = [type(coder), *vars(coder).values()] if hasattr(coder, "__dict__") else [type(coder)]
    files = set()
    for found in objects:
        if inspect.isclass(found) or inspect.isroutine(found):
            try:
                name = inspect.getsourcefile(found)
            except TypeError:  # built in
                continue
            path = Path(name).resolve() if name else None
            if path is not None and path.is_file() and _PACKAGE not in path.parents:
                files.add(path)
    if not files:
        return ""
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(files))).hexdigest()

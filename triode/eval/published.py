"""Rate-distortion curves that others published, shipped as data to be drawn beside measured ones.

Each file in ``curves/`` holds the curves of one data set, with where they come from and under which licence.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import resources

from triode.eval.plain import from_plain
from triode.eval.results import PublishedCurve

__all__ = ["list_datasets", "list_published", "published"]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A curve as the file has it."""

    name: str
    title: str
    file: str
    points: dict[str, tuple[tuple[float, float], ...]]


@dataclass(frozen=True, slots=True)
class _Collection:
    """A file of curves."""

    media: str
    dataset: str
    rate_unit: str
    repository: str
    retrieved: str
    licence: str
    notes: str
    curves: tuple[_Entry, ...]


@lru_cache(maxsize=1)
def _collections() -> tuple[_Collection, ...]:
    folder = resources.files("triode.eval").joinpath("curves")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".json")), key=lambda file: file.name)
    return tuple(from_plain(_Collection, json.loads(file.read_text("utf-8")), file.name) for file in files)


def list_datasets(media: str = "image") -> tuple[str, ...]:
    """Return the names of the data sets with published curves, such as ``kodak``."""
    return tuple(found.dataset for found in _collections() if found.media == media)


def list_published(media: str = "image", dataset: str = "kodak") -> tuple[str, ...]:
    """Return the names of the published curves of a data set; none where there are none.

    Args:
        media: ``image``, ``audio`` or ``video``.
        dataset: Such as ``kodak``; see :func:`list_datasets`.
    """
    matching = (found for found in _collections() if (found.media, found.dataset) == (media, dataset))
    return tuple(curve.name for found in matching for curve in found.curves)


def published(pattern: str, dataset: str = "kodak", media: str = "image") -> tuple[PublishedCurve, ...]:
    """Return published curves by name.

    Args:
        pattern: A name, such as ``compressai-jpeg``, or a shell pattern, such as ``compressai-*-mse``.
        dataset: The data set that they were measured on; their points mean nothing beside those of another.
        media: ``image``, ``audio`` or ``video``.

    Raises:
        ValueError: If no curve of this data set has such a name.
    """
    found = tuple(
        PublishedCurve(
            curve.name,
            curve.title,
            dataset,
            f"{group.repository}/blob/master/{curve.file}",
            curve.points,
            group.licence,
        )
        for group in _collections()
        if (group.media, group.dataset) == (media, dataset)
        for curve in group.curves
        if fnmatchcase(curve.name, pattern)
    )
    if not found:
        known = ", ".join(list_published(media, dataset)) or f"none; data sets with curves are {_known(media)}"
        raise ValueError(f"No published curve of {dataset!r} is named {pattern!r}; there are {known}")
    return found


def _known(media: str) -> str:
    return ", ".join(list_datasets(media)) or "none"

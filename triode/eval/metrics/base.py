"""What every metric says of itself, the class twin that averages over items, and the list of metrics by name."""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

__all__ = ["Metric", "MetricInfo", "RegisteredMetric", "list_metrics", "metric", "register_metric"]

_MODULES: Final = ("psnr", "msssim", "deep", "signal", "spectral", "speech", "video")
_METRICS: dict[str, RegisteredMetric] = {}


@dataclass(frozen=True, slots=True)
class MetricInfo:
    """What a metric is.

    Attributes:
        name: As in ``--metrics`` and in results: lower case, digits and hyphens.
        title: For people, such as ``PSNR (RGB)``.
        unit: ``dB``, or empty where it has none.
        media: The media that it measures: of ``image``, ``audio``, ``video``.
        higher_is_better: Direction.
        low: Least possible value; -inf where there is none.
        high: Greatest possible value; inf where there is none.
        source: Paper or standard that defines it.
        requires: Package beyond the core that it needs, as pip names it; empty where it needs none.
    """

    name: str
    title: str
    unit: str
    media: tuple[str, ...]
    higher_is_better: bool
    low: float
    high: float
    source: str
    requires: str = ""


@dataclass(frozen=True, slots=True)
class RegisteredMetric:
    """A metric that the bench can take.

    Attributes:
        info: What it is.
        measure: Takes what was decoded and the original, two objects of the same medium as the bench holds them
            (pixels (H, W, 3) uint8, a ``Sound`` or a ``Clip``), and returns the value.
    """

    info: MetricInfo
    measure: Callable[[Any, Any], float]


class Metric(ABC):
    """Class twin of a metric: ``update`` with batches, ``compute`` the mean over all items seen, ``reset``.

    Attributes:
        info: What the metric is.
    """

    info: ClassVar[MetricInfo]

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all items."""
        self._sum, self._count = 0.0, 0

    def update(self, preds: Any, target: Any) -> None:
        """Take a batch of distorted items and their originals, as the function twin takes them."""
        for value in self.values(preds, target):
            self._sum += value
            self._count += 1

    @abstractmethod
    def values(self, preds: Any, target: Any) -> list[float]:
        """Return one value an item of the batch."""

    def compute(self) -> float:
        """Return the mean over items; NaN before the first."""
        return self._sum / self._count if self._count else math.nan


def register_metric(info: MetricInfo) -> Callable[[Callable[[Any, Any], float]], Callable[[Any, Any], float]]:
    """Register the decorated function as the way in which the bench measures ``info``.

    Raises:
        ValueError: If the name is taken.
    """

    def register(measure: Callable[[Any, Any], float]) -> Callable[[Any, Any], float]:
        if info.name in _METRICS:
            raise ValueError(f"A metric named {info.name!r} is registered already")
        _METRICS[info.name] = RegisteredMetric(info, measure)
        return measure

    return register


def _load() -> None:
    for module in _MODULES:
        importlib.import_module(f"triode.eval.metrics.{module}")


def metric(name: str) -> RegisteredMetric:
    """Return a metric by name.

    Raises:
        ValueError: If there is none of this name.
    """
    _load()
    if name not in _METRICS:
        raise ValueError(f"Unknown metric {name!r}; there are {', '.join(sorted(_METRICS))}")
    return _METRICS[name]


def list_metrics(media: str | None = None) -> list[MetricInfo]:
    """Return the metrics of a medium, or all, sorted by name."""
    _load()
    found = (m.info for m in _METRICS.values() if media is None or media in m.info.media)
    return sorted(found, key=lambda info: info.name)

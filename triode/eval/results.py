"""Results of a bench: what was measured, on what, by what; written as JSON and read back.

``docs/results.md`` describes the file, and ``results.schema.json`` beside this module is its JSON Schema. The pieces of
it, such as one :class:`Measurement`, are written and read by ``triode.eval.plain``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Final

from triode.eval.bdrate import RatePoint
from triode.eval.coder import CoderFacts
from triode.eval.plain import ResultsError, from_plain, to_plain
from triode.io.files import atomic_write

__all__ = [
    "SCHEMA",
    "CodecResult",
    "ItemFacts",
    "Measurement",
    "Provenance",
    "PublishedCurve",
    "Results",
    "ResultsError",
]

SCHEMA: Final = "triode-bench/1"
_MEDIA: Final = ("image", "audio", "video")
_SECONDS: Final = {"digits": 4}
_VALUES: Final = {"digits": 7}
_DECIBELS: Final = {"digits": 5}


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """An item of the bench.

    Attributes:
        name: File name without folder and ending, made unique where two are alike.
        sha256: Digest of the file, in hexadecimal.
        units: What rates are divided by: pixels of an image, seconds of a recording or clip.
        shape: Width and height; channels and sample rate; width, height and frames.
        raw_bytes: Size of the decoded item.
    """

    name: str
    sha256: str
    units: float
    shape: tuple[int, ...]
    raw_bytes: int


@dataclass(frozen=True, slots=True)
class CodecResult:
    """A codec of the bench.

    Attributes:
        name: Unique in the results.
        facts: What it is.
        qualities: Operating points that were asked for.
    """

    name: str
    facts: CoderFacts
    qualities: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One item through one codec at one quality.

    Attributes:
        item: Name of the item.
        codec: Name of the codec.
        quality: The codec's own setting.
        bytes: Size of the file.
        payload_bytes: Size without container, header and metadata where the codec can tell.
        encode_seconds: Wall time of one thread, process start and loading excluded.
        decode_seconds: The same.
        peak_memory_bytes: Most resident memory while coding, less what was resident before; None where not measured.
        metrics: Values by name of the metric; NaN where one is not finite, as the PSNR of a lossless decoding.
        parts: Bytes of the file by part; empty where the codec cannot tell.
        error: Why there is no result, else None. A failed measurement has zero bytes and seconds, and no metrics.
        sample: Path, relative to the results, of what was decoded (a crop of it, or all), if kept.
        frame_bytes: Coded bytes of each frame of a clip, in the order of display; empty where the codec cannot tell.
        frame_psnr: PSNR of the luma of each frame in dB, at most 100; of clips only.
    """

    item: str
    codec: str
    quality: float
    bytes: int = 0
    payload_bytes: int = 0
    encode_seconds: float = field(default=0.0, metadata=_SECONDS)
    decode_seconds: float = field(default=0.0, metadata=_SECONDS)
    peak_memory_bytes: int | None = None
    metrics: Mapping[str, float] = field(default_factory=dict, metadata=_VALUES)
    parts: Mapping[str, int] = field(default_factory=dict)
    error: str | None = None
    sample: str | None = None
    frame_bytes: tuple[int, ...] = ()
    frame_psnr: tuple[float, ...] = field(default=(), metadata=_DECIBELS)


@dataclass(frozen=True, slots=True)
class PublishedCurve:
    """A curve that somebody else measured, shown as published.

    Attributes:
        name: Short name, unique in the results.
        title: For people.
        dataset: What it was measured on, such as ``kodak``.
        source: Where it was published.
        points: For each metric, pairs of rate and value from the lowest rate to the highest.
        licence: What the numbers may be used under, as their source says.
    """

    name: str
    title: str
    dataset: str
    source: str
    points: Mapping[str, tuple[tuple[float, float], ...]] = field(metadata=_VALUES)
    licence: str = ""


@dataclass(frozen=True, slots=True)
class Provenance:
    """How the results came about.

    Attributes:
        command: The command line, or the call.
        created: UTC time in ISO 8601.
        triode: Version of this library.
        machine: Processor, cores, memory, operating system, by name; no host name, no user.
        versions: Versions of Python and of the packages that matter, by name.
        engine: ``serial``, ``process`` or ``ray``, with the number of workers.
        seed: Seed of all random choices.
    """

    command: str
    created: str
    triode: str
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    engine: str
    seed: int


@dataclass(frozen=True, slots=True)
class Results:
    """All of a bench.

    Attributes:
        media: ``image``, ``audio`` or ``video``.
        metrics: Names of the metrics, the main one first.
        items: What was coded.
        codecs: What coded, in the order of the report; the first learned codec is the one compared with the others.
        measurements: One for each item, codec and quality, failures included.
        published: Curves of others, drawn beside.
        provenance: How it came about.
        samples: Path of an item's original (or crop), relative to the results, by item; only items with samples.
        notes: What could not be measured and why, each with the number of measurements that it concerns.
    """

    media: str
    metrics: tuple[str, ...]
    items: tuple[ItemFacts, ...]
    codecs: tuple[CodecResult, ...]
    measurements: tuple[Measurement, ...]
    provenance: Provenance
    published: tuple[PublishedCurve, ...] = ()
    samples: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def rate_unit(self) -> str:
        """Return ``bpp`` (bits per pixel of an image) or ``kb/s`` (thousands of bits per second)."""
        return "bpp" if self.media == "image" else "kb/s"

    def rate(self, measurement: Measurement, *, payload: bool = False) -> float:
        """Return the rate of a measurement in :attr:`rate_unit`.

        Args:
            measurement: One of these results.
            payload: Whether to count what carries the medium alone, and not the whole file.

        Raises:
            ValueError: If its item is not among the items.
        """
        units = next((item.units for item in self.items if item.name == measurement.item), None)
        if units is None:
            raise ValueError(f"Unknown item {measurement.item!r}; there are {_names(self.items)}")
        size = measurement.payload_bytes if payload else measurement.bytes
        return 8 * size / units / (1 if self.media == "image" else 1000)

    def curve(self, codec: str, item: str, metric: str, *, payload: bool = False) -> list[RatePoint]:
        """Return the rate-distortion curve of one item through one codec.

        Args:
            codec: Name of the codec.
            item: Name of the item.
            metric: Name of the metric, whose values are the points' quality as they are, whatever its direction; see
                ``triode.eval.summary.oriented``.
            payload: Whether to count what carries the medium alone, and not the whole file.

        Returns:
            Points from the lowest rate to the highest; failures, and values that are not finite, are left out.

        Raises:
            ValueError: If there is no such codec, item or metric.
        """
        for name, known in ((codec, self.codecs), (item, self.items)):
            if all(entry.name != name for entry in known):
                raise ValueError(f"Unknown name {name!r}; there are {_names(known)}")
        if metric not in self.metrics:
            raise ValueError(f"Unknown metric {metric!r}; there are {', '.join(self.metrics)}")
        found = (
            RatePoint(self.rate(m, payload=payload), m.metrics[metric])
            for m in self.measurements
            if m.codec == codec and m.item == item and math.isfinite(m.metrics.get(metric, math.nan))
        )
        return sorted(found, key=lambda point: (point.rate, point.quality))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data of schema :data:`SCHEMA`.

        Measurements are sorted by item, codec and quality. Fields with a default are left out where they are None or
        empty (``error``, ``sample``, ``parts``, ``published``, ...); metrics that are not finite are None; seconds
        have 4 significant digits, metrics 7.
        """
        items = {item.name: place for place, item in enumerate(self.items)}
        codecs = {codec.name: place for place, codec in enumerate(self.codecs)}

        def place(m: Measurement) -> tuple[int, int, float]:
            return items.get(m.item, len(items)), codecs.get(m.codec, len(codecs)), m.quality

        in_order = replace(self, measurements=tuple(sorted(self.measurements, key=place)))
        return {"schema": SCHEMA, **to_plain(in_order)}

    @classmethod
    def from_json(cls, data: Any) -> Results:
        """Return the results that :meth:`to_json` wrote.

        Raises:
            ResultsError: If the data are not of schema :data:`SCHEMA`, a field is missing, unknown or of the wrong
                kind, or the parts do not fit together.
        """
        schema = data.get("schema") if isinstance(data, Mapping) else None
        if schema != SCHEMA:
            raise ResultsError(f"results must have the schema {SCHEMA!r}, but these have {schema!r}")
        results = from_plain(cls, {name: value for name, value in data.items() if name != "schema"})
        _check(results)
        return results

    def save(self, path: Path) -> None:
        """Write the results as a JSON file with one measurement a line, whole or not at all.

        Args:
            path: Name of the file, replaced if it exists.

        Raises:
            ResultsError: If they could not be read back.
            OSError: If the file cannot be written.
        """
        data = self.to_json()
        Results.from_json(data)
        with atomic_write(path, overwrite=True) as file:
            file.write(_text(data).encode("ascii"))

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read the results that :meth:`save` wrote.

        Raises:
            ResultsError: If the file is not one of results.
            OSError: If it cannot be read.
        """
        try:
            data = json.loads(path.read_bytes(), parse_constant=_refuse)
        except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested too deeply
            raise ResultsError(f"{path} is not a JSON file of results: {error}") from None
        try:
            return cls.from_json(data)
        except ResultsError as error:
            raise ResultsError(f"{path}: {error}") from None


def _names(entries: tuple[ItemFacts, ...] | tuple[CodecResult, ...]) -> str:
    return ", ".join(entry.name for entry in entries) or "none"


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is no JSON number")


def _check(results: Results) -> None:
    """Raise :class:`ResultsError` where the parts of results do not fit together."""
    if results.media not in _MEDIA:
        raise ResultsError(f"media must be one of {', '.join(_MEDIA)}, but is {results.media!r}")
    for what, names in (
        ("metrics", results.metrics),
        ("items", tuple(item.name for item in results.items)),
        ("codecs", tuple(codec.name for codec in results.codecs)),
        ("published", tuple(curve.name for curve in results.published)),
        ("measurements", tuple((m.item, m.codec, m.quality) for m in results.measurements)),
    ):
        seen: set[Any] = set()
        for name in names:
            if name in seen:
                raise ResultsError(f"{what} has {name!r} twice")
            seen.add(name)
    for item in results.items:
        if not (math.isfinite(item.units) and item.units > 0):
            raise ResultsError(f"the units of item {item.name!r} must be positive, but are {item.units}")
    items, codecs = {item.name for item in results.items}, {codec.name for codec in results.codecs}
    for place, m in enumerate(results.measurements):
        _check_measurement(m, f"measurements[{place}]", items, codecs)
    for name, sample in results.samples.items():
        _check_sample(sample, f"samples[{name!r}]")


def _check_measurement(m: Measurement, where: str, items: set[str], codecs: set[str]) -> None:
    for what, name, known in (("item", m.item, items), ("codec", m.codec, codecs)):
        if name not in known:
            raise ResultsError(f"{where}.{what} is {name!r}, which is not among the {what}s")
    for field_name in ("bytes", "payload_bytes", "encode_seconds", "decode_seconds", "peak_memory_bytes"):
        value = getattr(m, field_name)
        if value is not None and not (math.isfinite(value) and value >= 0):
            raise ResultsError(f"{where}.{field_name} must be 0 or more, but is {value}")
    if m.error is None and m.bytes == 0:
        raise ResultsError(f"{where} has no bytes, and no error that says why")
    if m.sample is not None:
        _check_sample(m.sample, f"{where}.sample")


def _check_sample(path: str, where: str) -> None:
    """Refuse paths that lead out of the folder of the results, which a report would copy from."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    if not parts or parts[0] == "/" or ".." in parts or ":" in parts[0] or "\0" in path:
        raise ResultsError(f"{where} must be a path inside the folder of the results, but is {path!r}")


def _text(data: Mapping[str, Any]) -> str:
    """Set JSON such that differences are readable: an entry a line of the lists and objects at the top."""
    lines = []
    for name, value in data.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            text = "[\n" + ",\n".join(f"  {_compact(entry)}" for entry in value) + "\n ]"
        elif isinstance(value, dict):
            text = "{\n" + ",\n".join(f"  {_compact(key)}: {_compact(value[key])}" for key in value) + "\n }"
        else:
            text = _compact(value)
        lines.append(f" {_compact(name)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _compact(value: Any) -> str:
    # ASCII, because names of files may hold bytes that are no UTF-8.
    return json.dumps(value, allow_nan=False, separators=(", ", ": "))

"""What a bench is asked for, checked and made complete before any work: codecs, metrics, items, tasks."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from triode.errors import CodecError, UnsupportedError
from triode.eval.coder import Coder
from triode.eval.items import MEDIA, find_items, unique_names
from triode.eval.journal import digest_of
from triode.eval.metrics import MetricInfo, RegisteredMetric, list_metrics, metric
from triode.eval.plain import to_plain
from triode.eval.provenance import package_version, processor
from triode.eval.results import CodecResult, ItemFacts
from triode.eval.samples import SAMPLE_SUFFIX, sample_bytes
from triode.eval.sources import CodecReference, CodecSource, ItemSource, check_item, source_digest
from triode.eval.task import Task
from triode.version import __version__

__all__ = [
    "MEDIA",
    "Given",
    "Planned",
    "PlannedItem",
    "Qualities",
    "choose_metrics",
    "plan_codecs",
    "plan_items",
    "plan_tasks",
    "sample_path",
]

Given = str | CodecReference | Coder
Qualities = Sequence[float] | Mapping[str, Sequence[float]] | None

_DEFAULT_METRICS: Final = {
    "image": ("psnr", "ms-ssim", "ms-ssim-db", "lite0"),
    "audio": ("mel", "mr-stft", "si-sdr"),
    "video": ("psnr-yuv611", "video-psnr-y", "ms-ssim-y", "vmaf"),
}
_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_LONGEST_FOLDER: Final = 80


@dataclass(frozen=True, slots=True)
class Planned:
    """A codec that will be measured.

    Attributes:
        source: What workers make it of.
        coder: The coder itself.
        result: What the results say of it.
        identity: Digest of all that tells it from others.
    """

    source: CodecSource
    coder: Coder
    result: CodecResult
    identity: str


def plan_codecs(given: Iterable[Given], media: str, qualities: Qualities, *, skip_missing: bool) -> list[Planned]:
    """Make the coders, and name them.

    Args:
        given: Specifications for ``create_coder``, references, or coders.
        media: ``image``, ``audio`` or ``video``.
        qualities: For all codecs, or by the name of a codec; where there are none, the codec's own.
        skip_missing: Whether to leave out codecs of which a package is missing.

    Raises:
        ValueError: If a name, option or quality is not valid, two codecs have one name, or there are no codecs.
        UnsupportedError: If packages are missing; the message says which.
    """
    made: list[tuple[Given, Coder]] = []
    missing: list[str] = []
    for one in given:
        try:
            made.append((one, CodecSource(one, media).create()))
        except UnsupportedError as error:
            missing.append(f"{one}: {error}")
    if missing and not skip_missing:
        raise UnsupportedError("; ".join(missing))
    if not made:
        raise ValueError("A bench needs at least one codec" + f" ({'; '.join(missing)})" * bool(missing))
    planned: dict[str, Planned] = {}
    for one, coder in made:
        name = _name_of(one, coder, planned)
        planned[name] = _planned(one, coder, name, media, _qualities_of(coder, name, qualities))
    if isinstance(qualities, Mapping):
        unknown = [name for name in qualities if name not in planned]
        if unknown:
            raise ValueError(f"Qualities are given for {unknown[0]!r}, but the codecs are {', '.join(planned)}")
    return list(planned.values())


def _name_of(given: Given, coder: Coder, taken: Mapping[str, Any]) -> str:
    name = coder.name
    options = given.partition(":")[2] if isinstance(given, str) else ""
    if name in taken and options:
        name = f"{name}-{re.sub(r'[^A-Za-z0-9.]+', '-', options).strip('-')}"
    if name in taken:
        raise ValueError(f"Two codecs are named {coder.name!r}; names must be unique in a bench")
    if not _NAME.fullmatch(name):
        raise ValueError(f"Names of codecs are made of letters, digits, '.', '_' and '-', but one is {name!r}")
    return name


def _qualities_of(coder: Coder, name: str, qualities: Qualities) -> tuple[float, ...]:
    asked = qualities.get(name) if isinstance(qualities, Mapping) else qualities
    found = tuple(float(quality) for quality in (coder.qualities if asked is None else asked))
    if not found or len(set(found)) != len(found) or not all(math.isfinite(quality) for quality in found):
        raise ValueError(f"Qualities of {name!r} must be one or more different numbers, but got {list(found)}")
    return found


def _planned(given: Given, coder: Coder, name: str, media: str, qualities: tuple[float, ...]) -> Planned:
    facts = coder.facts()
    spec = given if isinstance(given, str) else ""
    identity = digest_of([name, media, spec, to_plain(facts), source_digest(coder)])
    return Planned(CodecSource(given, media, name), coder, CodecResult(name, facts, qualities), identity)


def choose_metrics(names: Sequence[str] | None, media: str) -> list[RegisteredMetric]:
    """Return the metrics of these names, or the default ones of a medium, of which missing packages are forgiven.

    Raises:
        ValueError: If there is none of a name for this medium, a name stands twice, or there are no names.
        UnsupportedError: If a metric needs a package that is not installed.
    """
    known = {info.name: info for info in list_metrics(media)}
    if names is None:
        return [metric(name) for name in _DEFAULT_METRICS[media] if name in known and _is_there(known[name])]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"Metrics must be one or more different names, but got {', '.join(names) or 'none'}")
    for name in names:
        if name not in known:
            raise ValueError(f"Unknown metric {name!r} for {media}; there are {', '.join(known)}")
        if not _is_there(known[name]):
            package = known[name].requires
            raise UnsupportedError(f"the metric {name!r} needs the package {package}: pip install {package}")
    return [metric(name) for name in names]


def _is_there(info: MetricInfo) -> bool:
    return not info.requires or package_version(info.requires) is not None


@dataclass(frozen=True, slots=True)
class PlannedItem:
    """An item that will be coded.

    Attributes:
        source: What workers load it from.
        facts: What the results say of it.
        original: Contents of the file that samples are compared with; None if no samples are kept.
    """

    source: ItemSource
    facts: ItemFacts
    original: bytes | None


def plan_items(
    given: Iterable[str | Path | tuple[str, Any]], media: str, *, limit: int | None, samples: int
) -> list[PlannedItem]:
    """Find, load and describe the items.

    Args:
        given: Files, folders, or pairs of a name and an item.
        media: ``image``, ``audio`` or ``video``.
        limit: Most items that are taken; None for all.
        samples: Number of items, from the first on, of which samples are kept.

    Raises:
        FileNotFoundError: If a path does not exist, or there are no items.
        ValueError: If an item is not of the medium, or empty, or two have one name.
        CodecError: If a file cannot be read as such an item; the message names it.
        OSError: If a file cannot be opened.
    """
    paths: list[Path] = []
    sources: list[ItemSource] = []
    for one in given:
        if isinstance(one, tuple):
            check_item(one[1], media)
            sources.append(ItemSource(one[0], media, item=one[1]))
        else:
            paths.append(Path(one))
    if paths or not sources:
        files = find_items(paths, media)
        found = zip(unique_names(files), files, strict=True)
        sources = [*(ItemSource(name, media, path.resolve()) for name, path in found), *sources]
    names = [source.name for source in sources]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise ValueError(f"Two items are named {name!r}; names must be unique in a bench")
    planned = []
    for place, source in enumerate(sources[:limit]):
        try:
            item = source.load()
        except CodecError as error:
            raise type(error)(f"{source.name}: {error}") from error
        facts = source.facts(item)
        original = None
        if place < samples:
            try:
                original = sample_bytes(item, item)
            except UnsupportedError:
                original = None  # the workers say so
        planned.append(PlannedItem(source, facts, original))
    return planned


def plan_tasks(
    items: Sequence[PlannedItem], codecs: Sequence[Planned], metrics: Sequence[RegisteredMetric], seed: int
) -> list[Task]:
    """Return a task for every item, codec and quality.

    The key of a task is a digest of the item's contents, the codec's name, specification, options, versions and
    weights, the quality, the metrics, the version of this package, the processor and the seed: whatever of these
    changes is measured again.
    """
    common = [[found.info.name for found in metrics], __version__, processor(), seed]
    return [
        Task(
            item=i,
            codec=c,
            quality=quality,
            sample=None if item.original is None else sample_path(item, quality, codec.result.name),
            key=digest_of([item.facts.sha256, codec.identity, quality, *common]),
        )
        for i, item in enumerate(items)
        for c, codec in enumerate(codecs)
        for quality in codec.result.qualities
    ]


def sample_path(item: PlannedItem, quality: float | None = None, codec: str = "") -> str:
    """Return where a sample lies, relative to the results; without a codec, that of the original."""
    folder = f"samples/{_folder(item.facts.name)}"
    suffix = SAMPLE_SUFFIX[item.source.media]
    return f"{folder}/original{suffix}" if quality is None else f"{folder}/{codec}/{quality:.15g}{suffix}"


def _folder(name: str) -> str:
    """Return a name that every file system takes; where that changes it, it stays unique."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", name)[:_LONGEST_FOLDER].lstrip(".")
    if safe == name:
        return safe
    return f"{safe}-{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"

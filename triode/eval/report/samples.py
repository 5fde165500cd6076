"""Which decoded samples the page embeds, at matched rates: pictures as lossless WebP, sound as FLAC or WAV."""

from __future__ import annotations

import base64
import io
import math
import wave
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from PIL import Image

from triode.eval.report.markup import TIMES
from triode.eval.results import Measurement, Results

__all__ = ["Embedded", "Group", "Level", "Samples", "Shown", "collect_samples"]

PICTURES: Final = frozenset({".png", ".webp", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg", ".ppm"})
SOUNDS: Final = frozenset({".wav", ".flac"})
LEVELS: Final = (("low", 0.0), ("mid", 0.4), ("high", 0.8))
"""Name of a level and where its rate lies among the rates of the codec that the report is about."""
WANTED_ITEMS: Final = 4
SIDES: Final = (256, 320, 384, 512, 768, 1024, 2048)
SECONDS: Final = (4.0, 6.0, 8.0, 10.0, 15.0, 30.0)
_BROKEN: Final = (OSError, ValueError, SyntaxError, EOFError, wave.Error, Image.DecompressionBombError)

Kind = Literal["image", "audio"]


@dataclass(frozen=True, slots=True)
class Embedded:
    """A sample in the page.

    Attributes:
        id: Of the element that holds it.
        row: Place of its measurement in the results; None for an original.
        uri: The sample as a data URI.
    """

    id: str
    row: int | None
    uri: str


@dataclass(frozen=True, slots=True)
class Shown:
    """What one codec shows at a level: its place among the codecs, its measurement's place, and the element's id."""

    codec: int
    row: int
    id: str


@dataclass(frozen=True, slots=True)
class Level:
    """A rate at which codecs are shown side by side.

    Attributes:
        name: ``low``, ``mid`` or ``high``.
        target: The rate wanted, in the unit of the results.
        shown: For each codec with samples, the measurement whose rate is nearest.
    """

    name: str
    target: float
    shown: tuple[Shown, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """The samples of one item.

    Attributes:
        item: Name of the item.
        width: Of the pictures, in pixels; 0 for sound.
        height: The same.
        cut: What part of the sample it is, for people; empty for all of it.
        embedded: The original first, then each sample that a level shows, once.
        levels: From the lowest rate to the highest.
    """

    item: str
    width: int
    height: int
    cut: str
    embedded: tuple[Embedded, ...]
    levels: tuple[Level, ...]


@dataclass(frozen=True, slots=True)
class Samples:
    """All samples in the page.

    Attributes:
        kind: What they are.
        groups: By item.
        notes: What was left out, and why.
    """

    kind: Kind
    groups: tuple[Group, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Plan:
    item: str
    original: Path
    levels: tuple[tuple[str, float, tuple[tuple[int, int], ...]], ...]
    files: dict[int, Path]


@dataclass(frozen=True, slots=True)
class _Cut:
    """Encoded bytes with their type, and the size of what they hold."""

    data: bytes
    type: str
    width: int
    height: int
    text: str


def collect_samples(results: Results, folder: Path, *, subject: int, budget: int) -> Samples:
    """Choose and encode the samples that a page can hold.

    Args:
        results: Whose samples lie in ``folder``; paths that lead out of it are not followed.
        folder: Of the results.
        subject: Place of the codec whose rates the levels follow.
        budget: Most bytes of data URIs.

    Returns:
        Samples of as many items as fit, in order; crops or cuts where whole samples of at least four items do not fit.
    """
    notes: list[str] = []
    plans = [plan for item in results.samples if (plan := _plan(results, folder, item, subject, notes)) is not None]
    kind: Kind = "audio" if plans and plans[0].original.suffix.lower() in SOUNDS else "image"
    endings = SOUNDS if kind == "audio" else PICTURES
    others = [plan for plan in plans if plan.original.suffix.lower() not in endings]
    notes += [f"The samples of {plan.item} are of a kind that the page cannot show." for plan in others]
    plans = [plan for plan in plans if plan not in others]
    cut: Callable[[Path, float], _Cut] = _cut_sound if kind == "audio" else _cut_picture
    extents: Sequence[float] = SECONDS if kind == "audio" else SIDES
    groups: list[Group] = []
    extent: float | None = None
    left = budget
    for place, plan in enumerate(plans):
        try:
            group = _group(plan, cut, extent or extents[0], place)
            if extent is None:
                extent = _extent(group, extents, budget / min(WANTED_ITEMS, len(plans)), picture=kind == "image")
                group = group if extent == extents[0] else _group(plan, cut, extent, place)
        except _BROKEN as error:
            notes.append(f"The samples of {plan.item} cannot be shown: {error}")
            continue
        size = sum(len(sample.uri) for sample in group.embedded)
        if size > left:
            notes.append(f"Samples of {len(plans) - place} more items are left out to keep the page small.")
            break
        left -= size
        groups.append(group)
    return Samples(kind, tuple(groups), tuple(notes))


def _inside(folder: Path, name: str) -> Path | None:
    """Return the file of that name if it is one and lies in the folder."""
    try:
        path = (folder / name).resolve()
        return path if path.is_relative_to(folder.resolve()) and path.is_file() else None
    except (OSError, ValueError):  # such as a name with a zero byte
        return None


def _plan(results: Results, folder: Path, item: str, subject: int, notes: list[str]) -> _Plan | None:
    """Choose levels for an item, and for each level the measurement of each codec that is nearest in rate."""
    original = _inside(folder, results.samples[item])
    if original is None:
        notes.append(f"The sample of {item} is missing.")
        return None
    by_codec: dict[int, list[tuple[float, int]]] = {}
    files: dict[int, Path] = {}
    places = {codec.name: place for place, codec in enumerate(results.codecs)}
    for row, m in enumerate(results.measurements):
        path = _sample_of(folder, m) if m.item == item and m.error is None else None
        if path is not None and m.bytes > 0:
            files[row] = path
            by_codec.setdefault(places[m.codec], []).append((results.rate(m), row))
    if not by_codec:
        return None
    rates = sorted(rate for rate, _ in by_codec.get(subject, next(iter(by_codec.values()))))
    chosen: dict[float, str] = {}
    for name, share in LEVELS:
        chosen.setdefault(rates[round(share * (len(rates) - 1))], name)
    levels = tuple(
        (
            name,
            target,
            tuple(
                (codec, min(found, key=lambda pair: abs(math.log(pair[0] / target)))[1])
                for codec, found in sorted(by_codec.items())
            ),
        )
        for target, name in chosen.items()
    )
    return _Plan(item, original, levels, files)


def _sample_of(folder: Path, m: Measurement) -> Path | None:
    return None if m.sample is None else _inside(folder, m.sample)


def _group(plan: _Plan, cut: Callable[[Path, float], _Cut], extent: float, place: int) -> Group:
    """Encode what the plan shows.

    Raises:
        ValueError: If a sample's size is not the original's.
        OSError: If a file cannot be read.
    """
    first = cut(plan.original, extent)
    embedded = [Embedded(f"s{place}", None, _uri(first))]
    ids: dict[int, str] = {}
    for _, _, shown in plan.levels:
        for _, row in shown:
            if row in ids:
                continue
            ids[row] = f"s{place}-{row}"
            found = cut(plan.files[row], extent)
            if (found.width, found.height) != (first.width, first.height):
                raise ValueError(f"{plan.files[row].name} is not of the same size as {plan.original.name}")
            embedded.append(Embedded(ids[row], row, _uri(found)))
    levels = tuple(
        Level(name, target, tuple(Shown(codec, row, ids[row]) for codec, row in shown))
        for name, target, shown in plan.levels
    )
    return Group(plan.item, first.width, first.height, first.text, tuple(embedded), levels)


def _uri(cut: _Cut) -> str:
    return f"data:{cut.type};base64,{base64.b64encode(cut.data).decode('ascii')}"


def _extent(group: Group, extents: Sequence[float], budget: float, *, picture: bool) -> float:
    """Return the largest extent at which an item probably fits into a budget, judging from one at the least extent."""
    size = sum(len(sample.uri) for sample in group.embedded)
    fitting = (e for e in extents if size * (e / extents[0]) ** (2 if picture else 1) <= 0.9 * budget)
    return max(fitting, default=extents[0])


def _cut_picture(path: Path, side: float) -> _Cut:
    with Image.open(path) as image:
        whole = image.convert("RGB")
    width, height = min(whole.width, int(side)), min(whole.height, int(side))
    x, y = (whole.width - width) // 2, (whole.height - height) // 2
    crop = whole.crop((x, y, x + width, y + height))
    text = "" if crop.size == whole.size else f"{width}{TIMES}{height} pixels from the middle"
    out = io.BytesIO()
    crop.save(out, "WEBP", lossless=True, quality=60, method=4)
    return _Cut(out.getvalue(), "image/webp", width, height, text)


def _cut_sound(path: Path, seconds: float) -> _Cut:
    """Cut the start out of a recording: by soundfile as FLAC, else by the standard library as WAV."""
    try:
        import soundfile
    except ImportError:
        whole = path.suffix.lower() == ".flac"
        return _Cut(path.read_bytes(), "audio/flac", 0, 0, "") if whole else _cut_wave(path, seconds)
    try:
        with soundfile.SoundFile(path) as file:
            total, rate, subtype = file.frames, file.samplerate, file.subtype
            samples = file.read(min(total, round(seconds * rate)), dtype="int32", always_2d=True)
        out = io.BytesIO()
        soundfile.write(out, samples, rate, "PCM_16" if subtype == "PCM_16" else "PCM_24", format="FLAC")
    except soundfile.SoundFileError as error:
        raise ValueError(f"{path.name}: {error}") from None
    return _Cut(out.getvalue(), "audio/flac", 0, 0, _cut_text(len(samples), total, rate))


def _cut_wave(path: Path, seconds: float) -> _Cut:
    with wave.open(str(path), "rb") as file:
        total, rate = file.getnframes(), file.getframerate()
        frames = file.readframes(min(total, round(seconds * rate)))
        kept = len(frames) // (file.getsampwidth() * file.getnchannels())
        out = io.BytesIO()
        with wave.open(out, "wb") as cut:
            cut.setparams(file.getparams())
            cut.writeframes(frames)
    return _Cut(out.getvalue(), "audio/wav", 0, 0, _cut_text(kept, total, rate))


def _cut_text(kept: int, total: int, rate: int) -> str:
    return "" if kept >= total else f"the first {kept / rate:.1f} s"

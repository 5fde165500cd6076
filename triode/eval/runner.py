"""The bench: items through codecs at qualities, measured by metrics, in one process or many; resumable."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from triode.eval import engines
from triode.eval.journal import JOURNAL, Journal
from triode.eval.metrics import RegisteredMetric
from triode.eval.plan import (
    MEDIA,
    Given,
    Planned,
    PlannedItem,
    Qualities,
    choose_metrics,
    plan_codecs,
    plan_items,
    plan_tasks,
    sample_path,
)
from triode.eval.provenance import make_provenance
from triode.eval.results import Measurement, PublishedCurve, Results
from triode.eval.schedule import Schedule
from triode.eval.task import Setup, Task

__all__ = ["REPORT", "RESULTS", "Status", "bench"]

RESULTS: Final = "results.json"
REPORT: Final = "report.html"
_SAMPLES: Final = 4
_MOST_NOTES: Final = 10

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Status:
    """How far a bench is.

    Attributes:
        done: Tasks that are done, those of an earlier run included.
        total: All tasks.
        reused: Tasks that an earlier run did.
        failed: Tasks that failed.
        seconds_left: How long the rest will take; None while nothing is known.
        latest: What was measured last; None at the beginning.
    """

    done: int
    total: int
    reused: int
    failed: int
    seconds_left: float | None
    latest: Measurement | None


def bench(
    media: str,
    items: Iterable[str | Path | tuple[str, Any]],
    codecs: Iterable[Given],
    *,
    metrics: Sequence[str] | None = None,
    qualities: Qualities = None,
    out: str | Path | None = None,
    engine: str = "serial",
    jobs: int | None = None,
    ray_address: str | None = None,
    samples: int | None = None,
    limit: int | None = None,
    published: Sequence[PublishedCurve] = (),
    seed: int = 0,
    anew: bool = False,
    skip_missing: bool = False,
    report: bool = True,
    command: str | None = None,
    on_progress: Callable[[Status], None] | None = None,
) -> Results:
    """Measure codecs: every item through every codec at every quality, as real bytes, decoded again.

    Args:
        media: ``image``, ``audio`` or ``video``.
        items: Files, folders, or pairs of a name and an item: pixels (H, W, 3) uint8, a ``Sound`` or a ``Clip``.
        codecs: Names with options, such as ``jpeg`` or ``avif:speed=4``, coders, such as a ``FunctionCoder``, or
            references to coders in modules; the report has them in this order.
        metrics: Names, the main one first; None for the usual ones of the medium.
        qualities: For all codecs, or by the name of a codec; None for the codecs' own.
        out: Folder for results, journal, samples and report, made if it is missing; None to return the results only.
        engine: ``serial``, ``process`` or ``ray``.
        jobs: Number of worker processes; None for one a processor core.
        ray_address: Where a Ray cluster is; None to start one on this machine.
        samples: Number of items of which samples are kept; None for 4 if there is a folder.
        limit: Most items that are taken; None for all.
        published: Curves of others, to be drawn beside.
        seed: Seed of all random choices.
        anew: Whether to forget what an earlier run into the same folder measured; otherwise it is used again.
        skip_missing: Whether to leave out codecs of which a package is missing.
        report: Whether to write ``report.html`` and figures.
        command: What the results state as the command; None for this call.
        on_progress: Is told how far the bench is, once at the beginning and after every task.

    Returns:
        The results; with `out` also written there. A measurement that failed says why, and never ends the bench.

    Raises:
        ValueError: If an argument is not valid; nothing is measured then.
        UnsupportedError: If a package is missing.
        BusyError: If another bench writes to the same folder.
        FileExistsError: If the folder has results of another origin, and `anew` is not set.
        CodecError: If an item cannot be read.
        OSError: If a file cannot be read or written.
    """
    _check_arguments(media, engine, jobs, samples, limit)
    chosen = choose_metrics(metrics, media)
    planned = plan_codecs(codecs, media, qualities, skip_missing=skip_missing)
    with ExitStack() as stack:
        for codec in planned:
            if codec.source.is_made_here:
                stack.callback(codec.coder.close)
        folder = None if out is None else Path(out)
        if folder is not None:
            _check_folder(folder, anew=anew)
        kept = (_SAMPLES if samples is None else samples) if folder is not None else 0
        found = plan_items(items, media, limit=limit, samples=kept)
        journal = None if folder is None else stack.enter_context(_open_journal(folder, anew=anew))
        run = _Run(found, planned, chosen, seed, journal, on_progress)
        workers = run.measure(engine, jobs, ray_address)
        originals = run.write_originals()
        versions: dict[str, str] = {}
        for codec in planned:
            versions |= codec.result.facts.versions
        results = Results(
            media=media,
            metrics=tuple(one.info.name for one in chosen),
            items=tuple(item.facts for item in found),
            codecs=tuple(codec.result for codec in planned),
            measurements=run.measurements(),
            provenance=make_provenance(
                command or _call(media, len(found), planned),
                workers,
                seed,
                versions,
                [one.info.requires for one in chosen if one.info.requires],
            ),
            published=tuple(published),
            samples=originals,
            notes=run.notes(),
        )
        if folder is not None:
            results.save(folder / RESULTS)
            if report:
                from triode.eval.report import write_report

                write_report(results, folder)
    return results


def _check_arguments(media: str, engine: str, jobs: int | None, samples: int | None, limit: int | None) -> None:
    for name, value, valid in (("media", media, MEDIA), ("engine", engine, engines.ENGINES)):
        if value not in valid:
            raise ValueError(f"Argument `{name}` must be one of {', '.join(valid)}, but got {value!r}")
    for name, number, least in (("jobs", jobs, 1), ("limit", limit, 1), ("samples", samples, 0)):
        if number is not None and number < least:
            raise ValueError(f"Argument `{name}` must be at least {least}, but got {number}")


def _check_folder(folder: Path, *, anew: bool) -> None:
    results = folder / RESULTS
    if results.exists() and not (folder / JOURNAL).exists() and not anew:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(results))


def _open_journal(folder: Path, *, anew: bool) -> Journal:
    folder.mkdir(parents=True, exist_ok=True)
    return Journal(folder, anew=anew)


def _call(media: str, count: int, planned: Sequence[Planned]) -> str:
    names = ", ".join(codec.result.name for codec in planned)
    return f"triode.eval.bench({media!r}, [{count} items], [{names}])"


class _Run:
    """The tasks of a bench, and what came of them.

    Args:
        items: What is coded.
        codecs: What codes.
        metrics: What is measured.
        seed: Seed of all random choices.
        journal: Where measurements are kept; None for nowhere.
        on_progress: Is told how far it is.
    """

    def __init__(
        self,
        items: Sequence[PlannedItem],
        codecs: Sequence[Planned],
        metrics: Sequence[RegisteredMetric],
        seed: int,
        journal: Journal | None,
        on_progress: Callable[[Status], None] | None,
    ) -> None:
        self._items, self._codecs, self._metrics, self._seed = items, codecs, metrics, seed
        self._journal, self._on_progress = journal, on_progress
        self._tasks = plan_tasks(items, codecs, metrics, seed)
        self._found: dict[Task, Measurement] = {}
        self._notes: Counter[str] = Counter()
        self._reuse()

    def measure(self, engine: str, jobs: int | None, ray_address: str | None) -> str:
        """Do what is left to do; return the engine with its number of workers, for the results."""
        waiting = [task for task in self._tasks if task not in self._found]
        schedule = Schedule(waiting, [item.facts.units for item in self._items])
        reused, failed = len(self._found), 0
        with _started(engine, jobs, ray_address, idle=not waiting) as workers:
            name = engine if engine == "serial" else f"{engine}, {workers} worker{'s' * (workers > 1)}"
            self._tell(reused, failed, None, None)
            outcomes = engines.run(engine, self._setup(engine), schedule, workers)
            with contextlib.closing(outcomes):
                for task, outcome in outcomes:
                    schedule.done(task, outcome.seconds)
                    found = outcome.measurement
                    if self._journal is not None:
                        found = self._journal.add(task.key, found, outcome.notes, outcome.sample)
                    self._found[task] = found
                    self._notes.update(outcome.notes)
                    failed += found.error is not None
                    self._tell(reused, failed, schedule.seconds_left(workers), found)
        notes = self.notes()
        for note in notes[:_MOST_NOTES]:
            logger.warning("%s", note)
        if len(notes) > _MOST_NOTES:
            logger.warning("and %d more such notes, all in %s", len(notes) - _MOST_NOTES, JOURNAL)
        return f"{name}; {reused} of {len(self._tasks)} measurements are of earlier runs" if reused else name

    def measurements(self) -> tuple[Measurement, ...]:
        """Return what was measured, by item, codec and quality."""
        return tuple(self._found[task] for task in self._tasks)

    def notes(self) -> tuple[str, ...]:
        """Return what could not be measured, most frequent first."""
        total = len(self._tasks)
        return tuple(f"{note} ({count} of {total} measurements)" for note, count in self._notes.most_common())

    def write_originals(self) -> dict[str, str]:
        """Write the originals that samples are compared with; return their paths by item."""
        found = {}
        for item in self._items:
            if item.original is not None and self._journal is not None:
                found[item.facts.name] = sample_path(item)
                self._journal.write_sample(sample_path(item), item.original)
        return found

    def _reuse(self) -> None:
        for task in self._tasks:
            found = self._journal.find(task.key, task.sample) if self._journal is not None else None
            if found is None or self._journal is None:
                continue
            item, codec = self._items[task.item].facts.name, self._codecs[task.codec].result.name
            self._found[task] = replace(found, item=item, codec=codec, sample=task.sample)
            self._notes.update(self._journal.notes(task.key))

    def _setup(self, engine: str) -> Setup:
        # Metrics of this package go by name, for some are closures.
        metrics = (one.info.name if _is_ours(one) else one for one in self._metrics)
        sources = (
            replace(codec.source, given=codec.coder) if engine == "serial" else codec.source for codec in self._codecs
        )
        return Setup(tuple(item.source for item in self._items), tuple(sources), tuple(metrics), self._seed)

    def _tell(self, reused: int, failed: int, left: float | None, latest: Measurement | None) -> None:
        if self._on_progress is not None:
            self._on_progress(Status(len(self._found), len(self._tasks), reused, failed, left, latest))


def _is_ours(found: RegisteredMetric) -> bool:
    return str(getattr(found.measure, "__module__", "")).partition(".")[0] == "triode"


def _started(engine: str, jobs: int | None, address: str | None, *, idle: bool) -> AbstractContextManager[int]:
    """Start what an engine needs; give the number of workers."""
    if engine == "ray" and not idle:
        from triode.eval.ray_engine import ray_cluster

        return ray_cluster(address, jobs)
    return contextlib.nullcontext(1 if engine == "serial" else jobs or engines.cores())

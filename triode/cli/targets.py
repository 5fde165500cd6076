"""Which files are worked on, and where their results go."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from triode.cli.common import SPOOL_BYTES, STDIO, UsageError, copy_to_stdout, flowing_stdout, refuse_terminal

__all__ = ["Job", "plan"]


@dataclass(frozen=True, slots=True)
class Job:
    """One input and its output.

    Attributes:
        source: Path, or `-` for standard input.
        target: Path, or `-` for standard output; empty where there is no output.
        folder: Folder of the output, to be made if it is missing.
    """

    source: str
    target: str
    folder: str | None = None

    def claim(self, *, overwrite: bool) -> None:
        """Refuse an output that cannot be written, before the work that makes it.

        Raises:
            OSError: The output exists and `overwrite` is not set, or it has no folder.
            UsageError: The output is standard output, and that is a terminal.
        """
        from triode.io.files import check_target

        if self.target == STDIO:
            refuse_terminal()
            return
        if self.folder is not None:
            Path(self.folder).mkdir(parents=True, exist_ok=True)
        check_target(Path(self.target), overwrite=overwrite)

    @contextmanager
    def writing(self, *, overwrite: bool, flow: bool = False) -> Iterator[BinaryIO]:
        """Open the output, which gets what is written to it when the block ends without an exception, and then whole.

        Args:
            overwrite: Whether a file that exists may be replaced.
            flow: Whether standard output gets it at once: for what is long, and made for pipes.

        Yields:
            A binary file, which can seek unless the output is a pipe with a name, or `flow` is set.
        """
        from triode.io.files import atomic_write

        if self.target != STDIO:
            with atomic_write(Path(self.target), overwrite=overwrite) as file:
                yield file
            return
        if flow:
            with flowing_stdout() as out:
                yield out
            return
        with tempfile.SpooledTemporaryFile(SPOOL_BYTES) as spool:
            yield cast(BinaryIO, spool)
            spool.seek(0)
            copy_to_stdout(cast(BinaryIO, spool))


def plan(
    inputs: Sequence[str],
    *,
    output: str | None,
    output_dir: str | None,
    recursive: bool,
    rename: Callable[[Path], Path],
    wanted: Callable[[Path], bool],
) -> list[Job]:
    """Pair every input with its output.

    Args:
        inputs: Files, folders (if `recursive`) and `-`, as they were given.
        output: Output of the only input.
        output_dir: Folder of all outputs; below it, what lies in a folder keeps its place relative to that folder.
        recursive: Whether folders are walked.
        rename: Makes the output's name from the input's path.
        wanted: Says which files of a folder are inputs.

    Returns:
        Jobs in the order of the inputs, those of a folder sorted.

    Raises:
        UsageError: Two inputs have the same output, an output is an input, a folder comes without `recursive` or has
            no file that is wanted, or the options do not fit the inputs.
    """
    jobs: list[Job] = []
    for source, within in _sources(inputs, recursive=recursive, wanted=wanted):
        target = _target(source, within, output, output_dir, rename)
        jobs.append(Job(source, target, None if output_dir is None else str(Path(target).parent)))
    if output is not None and len(jobs) != 1:
        raise UsageError(f"-o names one output, but there are {len(jobs)} inputs; use --output-dir")
    if output is not None and recursive and Path(inputs[0]).is_dir():
        raise UsageError("-o names one output; use --output-dir with folders")
    _refuse_collisions(jobs)
    return jobs


def _sources(
    inputs: Sequence[str], *, recursive: bool, wanted: Callable[[Path], bool]
) -> Iterator[tuple[str, Path | None]]:
    """Yield every input file, with the folder that it was found in."""
    if inputs.count(STDIO) > 1:
        raise UsageError("standard input can be read once, but - is given twice")
    for name in inputs:
        folder = Path(name)
        if name == STDIO or not folder.is_dir():
            yield name, None
            continue
        if not recursive:
            raise UsageError(f"{name} is a folder; -r takes the files in it")
        found = 0
        for path in _walk(folder):
            if wanted(path):
                found += 1
                yield str(path), folder
        if not found:
            raise UsageError(f"there is nothing to work on in the folder {name}")


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder in a fixed order; links to folders are not followed."""
    for root, folders, files in os.walk(folder):
        folders.sort()
        yield from (Path(root, name) for name in sorted(files))


def _target(
    source: str, within: Path | None, output: str | None, output_dir: str | None, rename: Callable[[Path], Path]
) -> str:
    if output is not None:
        if output != STDIO and Path(output).is_dir():
            raise UsageError(f"{output} is a folder; use --output-dir")
        return output
    if source == STDIO:
        if output_dir is not None:
            raise UsageError("what comes from standard input has no name for --output-dir; use -o")
        return STDIO
    path = Path(source)
    name = rename(path)
    if output_dir is None:
        return str(name)
    if Path(output_dir).exists() and not Path(output_dir).is_dir():
        raise UsageError(f"--output-dir {output_dir} is not a folder")
    place = path.parent.relative_to(within) if within is not None else Path()
    return str(Path(output_dir) / place / name.name)


def _refuse_collisions(jobs: Sequence[Job]) -> None:
    sources = {Path(job.source).resolve(): job.source for job in jobs if job.source != STDIO}
    taken: dict[Path, str] = {}
    for job in jobs:
        if job.target == STDIO:
            continue
        target = Path(job.target).resolve()
        if target in sources or _same_file(job):
            raise UsageError(f"the output {job.target} of {job.source} is an input itself")
        if target in taken:
            raise UsageError(
                f"{taken[target]} and {job.source} have the same output {job.target}; "
                "convert them in two runs with different --output-dir"
            )
        taken[target] = job.source


def _same_file(job: Job) -> bool:
    """Say whether the output exists and is the input under another name."""
    try:
        return job.source != STDIO and Path(job.target).samefile(job.source)
    except OSError:
        return False

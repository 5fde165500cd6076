"""A report of results to publish: one page that needs nothing else, and figures for papers."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from triode.eval.report.data import make_view
from triode.eval.report.page import make_page
from triode.eval.report.samples import Samples, collect_samples
from triode.eval.results import Results

__all__ = ["write_report"]

PAGE_LIMIT: Final = 8_000_000
"""Size that the page's samples keep it under, in bytes."""
CAPTIONS: Final = 200_000
"""Room for what the page says of samples."""


def write_report(results: Results, out: Path, *, title: str | None = None) -> Path:
    """Write ``report.html`` and the folder ``figures`` (SVG and PNG) of results.

    The page is one file: data, style, script and samples are inside it, and it opens no connection. Without JavaScript
    it shows the same, but for the charts beyond the first.

    Args:
        results: Of at least one codec and metric. Samples are looked for in ``out``.
        out: Folder, made if it is not there. Files of an earlier report are replaced.
        title: Of the page; by default the media and the codec that is compared.

    Returns:
        The path of the page.

    Raises:
        ValueError: If there is no codec or no metric, or the parts of the results do not fit together.
        UnsupportedError: If SciPy or matplotlib is missing.
        OSError: If a file cannot be written.
    """
    from triode.eval.report.figures import write_figures
    from triode.io.files import atomic_write

    view = make_view(results, title)
    out.mkdir(parents=True, exist_ok=True)
    write_figures(view, out / "figures")
    bare = _encode(make_page(view, Samples("image", (), ())))
    samples = collect_samples(view.results, out, subject=view.subject, budget=PAGE_LIMIT - CAPTIONS - len(bare))
    path = out / "report.html"
    with atomic_write(path, overwrite=True) as file:
        file.write(_encode(make_page(view, samples)))
    return path


def _encode(page: str) -> bytes:
    return page.encode("utf-8", "backslashreplace")  # names of files may hold halves of surrogate pairs

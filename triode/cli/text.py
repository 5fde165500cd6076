"""Numbers and tables as people read them."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["size_text", "table", "time_text"]


def size_text(count: int) -> str:
    """Write a number of bytes with a unit: `999 B`, `20.5 kB`, `1.25 MB`; powers of 1000."""
    if count < 1000:
        return f"{count} B"
    for unit in ("kB", "MB"):
        count_in_unit = count / 1000 ** ("kB", "MB").index(unit) / 1000
        if count_in_unit < 999.5:
            return f"{count_in_unit:.3g} {unit}"
    return f"{count / 1e9:.3g} GB"


def time_text(seconds: float) -> str:
    """Write a duration with a unit: `0.25 s`, `59.9 s`, `1:00.0`, `2:03:04`."""
    if round(seconds, 1) < 60:
        return f"{seconds:.3g} s" if round(seconds, 2) < 10 else f"{seconds:.1f} s"
    if round(seconds) < 3600:
        tenths = round(seconds * 10)
        return f"{tenths // 600}:{tenths % 600 / 10:04.1f}"
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def table(rows: Sequence[Sequence[str]], right: str) -> str:
    """Set rows in columns two spaces apart.

    Args:
        rows: Equally many cells each.
        right: A letter a column, `r` where it is set flush right and `l` where left.
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(right))]
    lines = (
        "  ".join(
            cell.rjust(width) if side == "r" else cell.ljust(width)
            for cell, width, side in zip(row, widths, right, strict=True)
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)

"""Turn the log of a training run into the JSON of an experiment: what was changed, what it cost, what came of it.

    python tools/experiment_log.py RUN_DIR -o results/experiments/MODEL/NAME.json --note "what was tried"

RUN_DIR is a version folder of Lightning's CSV logger, with ``metrics.csv`` and ``hparams.yaml``. Losses of the training
split are means over the last tenth of the logged steps; those of the held-back split are as logged. Wall time is the
``seconds`` column, or the time between the first and the last write of the log where an older run has none.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import yaml


def column(rows: list[dict[str, str]], name: str) -> list[tuple[int, float]]:
    """Return the steps and values of a column where it is filled."""
    return [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]


def rows_of(run: Path) -> list[dict[str, str]]:
    """Return the rows of a run's log."""
    with (run / "metrics.csv").open() as f:
        return list(csv.DictReader(f))


def read(run: Path, note: str) -> dict[str, Any]:
    """Read a run."""
    hparams, metrics = run / "hparams.yaml", run / "metrics.csv"
    settings = yaml.safe_load(hparams.read_text())
    rows = rows_of(run)
    loss, held = column(rows, "loss"), column(rows, "val/loss")
    if not loss:
        raise SystemExit(f"{metrics} has no losses")
    steps, seconds = loss[-1][0] + 1, column(rows, "seconds")
    wall = seconds[-1][1] if seconds else metrics.stat().st_mtime - hparams.stat().st_mtime
    # A resumed run counts its steps on, but not its seconds.
    between = len(seconds) > 1 and (seconds[-1][1] - seconds[0][1]) / (seconds[-1][0] - seconds[0][0])
    tail = [value for _, value in loss[-max(1, len(loss) // 10) :]]
    for name in ("folder", "photos", "image", "cache_dir", "init"):
        if settings.get(name):
            settings[name] = Path(settings[name]).name
    return {
        "note": note,
        "settings": settings,
        "steps": steps,
        "seconds": round(wall),
        "seconds_per_step": round(between or wall / steps, 3),
        "training_loss": round(sum(tail) / len(tail), 4),
        "held_back_loss": [{"step": step + 1, "loss": round(value, 4)} for step, value in held],
        "skipped_steps": int(column(rows, "skipped")[-1][1]) if column(rows, "skipped") else 0,
    }


def main() -> None:
    """Read a run, write its JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--note", required=True)
    a = parser.parse_args()
    found = read(a.run, a.note)
    a.output.parent.mkdir(parents=True, exist_ok=True)
    a.output.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{a.output}: {found['steps']} steps, {found['seconds']} s, held back {found['held_back_loss'][-1:]}")


if __name__ == "__main__":
    main()

"""Run a list of training experiments at equal wall time, one after the other, and write a JSON for each.

    python tools/experiments.py results/experiments/image-light/plan.yaml --folder PHOTOS --work DIR [--only NAME ...]

The plan names a configuration, arguments that all experiments share, the seconds each may take, and experiments with
a note and arguments of their own (``model.init_args.`` stands before those that begin with neither ``data`` nor
``trainer`` nor ``seed``). The length of a run is its time, not its steps, so that what costs more must gain more; give
it cores that do nothing else. An experiment whose JSON is there already is left alone, so that a plan goes on after a
stop and grows by new lines. At the end, the BD-rate of each over the plan's first experiment, on the held-back split,
from the estimated rate and PSNR of averaged weights: negative is better. An experiment with one rate point is compared
at that point: its rate over that of the first experiment at the same PSNR.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import experiment_log
import yaml

from triode.eval.bdrate import RatePoint, bd_rate, rate_at

ENDLESS = 1_000_000


@dataclass(frozen=True, slots=True)
class Experiment:
    """One line of a plan.

    Attributes:
        name: Name of its JSON.
        note: What was tried.
        arguments: Arguments of ``triode train fit``, without those of the folders.
    """

    name: str
    note: str
    arguments: tuple[str, ...]


def arguments_of(settings: dict[str, Any]) -> list[str]:
    """Return settings as arguments of the trainer's command line."""
    found = []
    for key, value in settings.items():
        top = key.split(".")[0]
        name = key if top in ("data", "trainer", "seed_everything") else f"model.init_args.{key}"
        found += [f"--{name}", value if isinstance(value, str) else json.dumps(value)]
    return found


def read_plan(path: Path) -> tuple[str, list[Experiment]]:
    """Read a plan; return the path of its configuration and its experiments.

    Raises:
        SystemExit: If it says something that is not known.
    """
    plan = yaml.safe_load(path.read_text())
    if extra := set(plan) - {"config", "seconds", "shared", "experiments"}:
        raise SystemExit(f"{path} has unknown keys: {', '.join(sorted(extra))}")
    # Lightning wants settings of one name to agree between model and data.
    endless = dict.fromkeys(("steps", "trainer.max_steps", "data.init_args.steps"), ENDLESS)
    shared = {"seconds": plan["seconds"]} | endless
    shared |= plan.get("shared", {})
    experiments = []
    for name, entry in plan["experiments"].items():
        own = dict(entry)
        note = own.pop("note")
        experiments.append(Experiment(name, note, tuple(arguments_of(shared | own))))
    return plan["config"], experiments


def run(experiment: Experiment, config: str, folder: Path, work: Path) -> Path:
    """Train; return the folder of the log.

    Raises:
        SystemExit: If the training fails.
    """
    out = work / experiment.name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    command = [sys.executable, "-m", "triode", "train", "fit", "--config", config]
    command += ["--data.init_args.folder", str(folder), "--data.init_args.cache_dir", str(work / "cache")]
    command += ["--trainer.logger.init_args.save_dir", str(out), "--trainer.logger.init_args.name", "run"]
    command += ["--trainer.callbacks", "[]", "--trainer.enable_checkpointing", "false", *experiment.arguments]
    with (out / "log.txt").open("w") as log:
        code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode
    if code:
        raise SystemExit(
            f"{experiment.name} failed; the end of {out / 'log.txt'}:\n{(out / 'log.txt').read_text()[-2000:]}"
        )
    return out / "run" / "version_0"


def curve(record: dict[str, Any]) -> list[RatePoint]:
    """Return rate and PSNR of an experiment's last validation, rising."""
    held = record["held_back"]
    points = sorted({name.rsplit("_", 1)[1] for name in held if name.startswith("val/bpp_")}, key=float)
    return [RatePoint(held[f"val/bpp_{p}"], held[f"val/psnr_{p}"]) for p in points]


def difference(first: dict[str, Any], record: dict[str, Any]) -> float:
    """Return by how many percent an experiment spends more than the first one at equal PSNR."""
    low, high = record["settings"].get("rate_range", (0, 63))
    if low < high:
        return bd_rate(curve(first), curve(record)).percent
    held = record["held_back"]
    return 100 * (held[f"val/bpp_{low:g}"] / rate_at(curve(first), held[f"val/psnr_{low:g}"]) - 1)


def last_validation(run_folder: Path) -> dict[str, float]:
    """Return all columns of the last validation of a run."""
    rows = experiment_log.rows_of(run_folder)
    last = [row for row in rows if row.get("val/loss")][-1]
    return {name: round(float(value), 5) for name, value in last.items() if name.startswith("val/") and value}


def main() -> None:
    """Run a plan."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("plan", type=Path)
    parser.add_argument("--folder", type=Path, required=True, help="training data")
    parser.add_argument("--work", type=Path, required=True, help="where caches and logs go")
    parser.add_argument("--only", nargs="*", default=[], help="names of experiments; all when absent")
    a = parser.parse_args()
    config, experiments = read_plan(a.plan)
    if unknown := set(a.only) - {e.name for e in experiments}:
        raise SystemExit(f"{a.plan} has no {', '.join(sorted(unknown))}")
    for experiment in experiments:
        target = a.plan.parent / f"{experiment.name}.json"
        if target.exists() or (a.only and experiment.name not in a.only):
            continue
        folder = run(experiment, config, a.folder.resolve(), a.work.resolve())
        record = experiment_log.read(folder, experiment.note) | {"held_back": last_validation(folder)}
        target.write_text(json.dumps(record, indent=1) + "\n")
        print(
            f"{experiment.name}: {record['steps']} steps, held back {record['held_back']['val/loss']:.4f}", flush=True
        )
    done = {e.name: a.plan.parent / f"{e.name}.json" for e in experiments}
    records = {name: json.loads(path.read_text()) for name, path in done.items() if path.exists()}
    if experiments[0].name in records:
        first = records[experiments[0].name]
        for name, record in records.items():
            try:
                more = f"{difference(first, record):+7.2f} %"
            except ValueError:
                more = "apart    "  # the curves hardly overlap
            print(f"{more}  {record['steps']:6} steps  {name}: {record['note']}")


if __name__ == "__main__":
    main()

"""Pack what a training run on a GPU machine without a network needs.

    python tools/gpu_pack.py --photos DIR [--checkpoint FILE.safetensors] [--python 3.12] [-o .gpu-pack]

The pack holds the photos, the wheels that such a machine lacks, the last checkpoint and ``train.sh``. Carry it beside
the source tree and run ``bash .gpu-pack/train.sh OUT SECONDS`` there: it trains until the time is up and leaves the
averaged weights, their facts and the log in OUT. ``bash .gpu-pack/train.sh OUT 60 cpu`` tries the same without a GPU.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path

from triode.train.checkpoint import load_small_checkpoint

ROOT = Path(__file__).parent.parent
WHEELS = ("constriction", "jsonargparse", "docstring-parser", "typeshed-client", "importlib-resources")
PLATFORMS = (*tuple(f"manylinux_2_{n}_x86_64" for n in (17, 24, 27, 28, 31, 34)), "manylinux2014_x86_64")
LIMIT = 55 << 20

SCRIPT = """#!/usr/bin/env bash
# Train image-light: train.sh OUT SECONDS [cpu]. Needs python3 with torch, lightning, safetensors, numpy, pillow.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
mkdir -p "$1"
out=$(cd "$1" && pwd) seconds=$2 mode=${3:-gpu}
work=$(mktemp -d)
cd "$here/.."
if ! python3 -c 'import constriction, jsonargparse' 2>/dev/null; then
  python3 -m pip install -q --no-index --no-deps --no-compile --target "$work/site" "$here"/wheels/*.whl
fi
export PYTHONPATH="$PWD:$work/site:${PYTHONPATH:-}" PYTHONUNBUFFERED=1
extra=()
if [ "$mode" = gpu ]; then extra+=(--data.init_args.batch_size 32 --data.init_args.workers 12); fi
if [ -f "$here/checkpoint.safetensors" ]; then
  extra+=(--model.init_args.init "$here/checkpoint.safetensors" --model.init_args.config "$(cat "$here/config.json")")
fi
# Time, not steps, ends the run: the learning rate falls over the last part of the seconds.
exec python3 -m triode train fit --config triode/train/configs/image-light.yaml \\
  --data.init_args.folder "$here/photos" --data.init_args.cache_dir "$work/cache" --data.init_args.steps 1000000 \\
  --model.init_args.steps 1000000 --model.init_args.seconds "$seconds" --trainer.max_steps 1000000 \\
  --trainer.val_check_interval 1000000 --trainer.logger.init_args.save_dir "$out" \\
  --trainer.callbacks.init_args.path "$out/small.safetensors" "${extra[@]}"
"""


def wheels(folder: Path, python: str) -> None:
    """Download the wheels, pinned by the constraints, for another Python on x86-64 Linux."""
    folder.mkdir(parents=True, exist_ok=True)
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    pins = {k.lower().replace("_", "-"): v for k, v in pins.items()}
    names = [f"{n}=={pins[n]}" for n in WHEELS if n in pins]
    tags = [part for p in PLATFORMS for part in ("--platform", p)]
    base = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(folder)]
    subprocess.run([*base, "--python-version", python, "--implementation", "cp", *tags, *names], check=True)


def main() -> None:
    """Make the pack."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="training photos")
    parser.add_argument("--checkpoint", type=Path, help="checkpoint to start from")
    parser.add_argument("--python", default="3.12", help="Python version of the GPU machine")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / ".gpu-pack")
    a = parser.parse_args()
    shutil.rmtree(a.output, ignore_errors=True)
    shutil.copytree(a.photos, a.output / "photos")
    wheels(a.output / "wheels", a.python)
    if a.checkpoint:
        shutil.copyfile(a.checkpoint, a.output / "checkpoint.safetensors")
        # Its widths may differ from the defaults.
        (a.output / "config.json").write_text(json.dumps(load_small_checkpoint(a.checkpoint)[1].config))
    (a.output / "train.sh").write_text(SCRIPT)
    size = sum(p.stat().st_size for p in a.output.rglob("*") if p.is_file())
    print(f"{a.output}: {size / 2**20:.1f} MiB")
    if size > LIMIT:
        raise SystemExit(f"The pack is larger than {LIMIT >> 20} MiB: give it fewer photos")


if __name__ == "__main__":
    main()

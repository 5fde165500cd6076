"""Append zero-initialised residual blocks to the networks of a small checkpoint, or take off its last ones.

    python tools/grow_checkpoint.py CHECKPOINT -o OUT decoder_fine=4 decoder_coarse=3 ...

A new block's last products are zero, so the grown model computes what the small one does. With blocks taken off it
does not, and has to be trained on. Only counts of blocks can change; a changed width is refused, as the tensors no
longer fit.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import replace
from pathlib import Path

import torch

from triode.models.registry import create_model
from triode.train.checkpoint import float_state, load_small_checkpoint, save_small_checkpoint


def main() -> None:
    """Read, grow, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("changes", nargs="+", help="FIELD=NUMBER of the model's configuration")
    a = parser.parse_args()
    state, facts = load_small_checkpoint(a.checkpoint)
    config = {**facts.config, **{k: int(v) for k, v in (change.split("=") for change in a.changes)}}
    torch.manual_seed(0)
    grown = float_state(create_model(facts.model, **config))
    gone = {n for n in state if n not in grown and re.search(r"\.\d+\.", n)}
    state = {n: t for n, t in state.items() if n not in gone}
    misfits = [n for n, t in state.items() if n not in grown or grown[n].shape != t.shape]
    if misfits:
        parser.error(f"these tensors do not fit the new configuration: {', '.join(misfits[:5])}")
    save_small_checkpoint(a.output, {**grown, **state}, replace(facts, config=config))
    print(f"{a.output}: {len(grown) - len(state)} new tensors, {len(gone)} gone")


if __name__ == "__main__":
    main()

"""Give the model of a small checkpoint another range of lambdas, so that a longer run starts where its rates should be.

    python tools/shift_rates.py CHECKPOINT -o OUT --lambda-min 100 --lambda-max 1300

Rate point q has the weight ``lambda_min * (lambda_max / lambda_min) ** (q / 63)`` of the distortion. Each anchor of a
rate gain or bias moves to where the old ones, interpolated, had its lambda; beyond the ends the last two go on.
What the model does at a lambda stays the same but for the interpolation between anchors.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from triode.entropy.rate import RateBias, RateGain
from triode.models.registry import create_model
from triode.train.checkpoint import load_small_checkpoint, save_small_checkpoint


def moved(table: Tensor, shares: Tensor) -> Tensor:
    """Return rows of a table (A, C) at shares (A,) of its length, beyond 0 and 1 by its first and last two rows."""
    last = len(table) - 1
    place = shares * last
    low = place.floor().clamp(0, last - 1).long()
    fraction = (place - low)[:, None]
    return table[low] * (1 - fraction) + table[low + 1] * fraction


def main() -> None:
    """Read, shift, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--lambda-min", type=float, required=True)
    parser.add_argument("--lambda-max", type=float, required=True)
    a = parser.parse_args()
    if not 0 < a.lambda_min < a.lambda_max:
        parser.error("lambdas must be positive and grow")
    state, facts = load_small_checkpoint(a.checkpoint)
    old_min, old_max = facts.config["lambda_min"], facts.config["lambda_max"]
    count = 0
    for name, part in create_model(facts.model, **facts.config).named_modules():
        key = {RateGain: "log_gain", RateBias: "bias"}.get(type(part))
        if key is None:
            continue
        table = state[f"{name}.{key}"]
        if len(table) < 2:
            continue
        lambdas = a.lambda_min * (a.lambda_max / a.lambda_min) ** torch.linspace(0, 1, len(table))
        shares = (lambdas / old_min).log() / math.log(old_max / old_min)
        state[f"{name}.{key}"] = moved(table, shares)
        count += 1
    config = {**facts.config, "lambda_min": a.lambda_min, "lambda_max": a.lambda_max}
    save_small_checkpoint(a.output, state, replace(facts, config=config))
    print(f"{a.output}: {count} tables of rate points moved")


if __name__ == "__main__":
    main()

"""Prepare a small checkpoint of an image-light for a synthesis in 8 bits, which is then trained on.

    python tools/int8_checkpoint.py CHECKPOINT PHOTOS -o OUT

Looks at what the pointwise layers of the synthesis see of photos (the middle 768 x 512 of one in so many; those held
back from training left out) at the middle of each group of rate points. Channels are then scaled so that all have the
same root mean square where 8 bits are taken of them, and each layer gets a limit at so many times that. Biases of the
last layers of blocks go to where blocks in 8 bits have them. Before they are rounded, networks compute what they did.
Entropy networks become narrow (:mod:`triode.entropy.exact.narrow`), which takes no preparation.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from fit_statistics import middle
from torch import Tensor, nn

from triode.models.image.image_light import ImageLight
from triode.models.layers.blocks import DepthwiseBlock
from triode.models.registry import create_model
from triode.train.checkpoint import float_state, load_float_state, load_small_checkpoint, save_small_checkpoint
from triode.train.holdout import held_back
from triode.train.symbols import chosen_latent

_POINTS = [8 * group + 4 for group in range(8)]
_STREAM = 7.0
_HIDDEN = {"coarse": 9.0, "fine": 13.0}
"""Limits over root mean squares: of what runs along the blocks, and of what is inside of them."""
_GATED = 27.0
"""The same of products, whose tails are long."""
_LEAST = 1e-2
"""Root mean square of a channel over that of all; those below are all but dead."""


def scale_outputs(conv: nn.Module, factor: Tensor) -> None:
    """Multiply the output channels of a convolution by factors (O,)."""
    layer = cast(nn.Conv2d, conv)
    layer.weight.mul_(factor[:, None, None, None])
    cast(Tensor, layer.bias).mul_(factor)


def scale_inputs(conv: nn.Module, factor: Tensor) -> None:
    """Multiply what a pointwise convolution weighs its input channels with by factors (I,)."""
    cast(nn.Conv2d, conv).weight.mul_(factor[None, :, None, None])


def mean_squares(model: ImageLight, photos: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return the mean square of the input channels of the synthesis's pointwise layers, by name."""
    total: dict[str, Tensor] = {}

    def look(name: str, _: nn.Module, inputs: tuple[Any, ...]) -> None:
        square = inputs[0].double().square().mean((0, 2, 3))
        total[name] = total.get(name, torch.zeros_like(square)) + square

    layers = [(n, m) for n, m in model.g_s.named_modules() if isinstance(m, nn.Conv2d) and m.groups == 1]
    handles = [layer.register_forward_pre_hook(partial(look, name)) for name, layer in layers]
    count = 0
    for x in photos:
        for point in _POINTS:
            q = torch.tensor([float(point)])
            model.synthesis(model.dequantise(chosen_latent(model, x, q).out.y_hat, q), q)
            count += 1
    for handle in handles:
        handle.remove()
    return {name: t / count for name, t in total.items()}


def equalise(model: ImageLight, seen: dict[str, Tensor]) -> dict[str, float]:
    """Scale the channels of the synthesis; return the limit of each layer in 8 bits, by name."""
    limits: dict[str, float] = {}
    synthesis = model.g_s
    up = cast(nn.Conv2d, synthesis.up[0])
    for name, after in (("coarse", up), ("fine", synthesis.tail[0])):
        blocks = [(f"{name}.{k}", cast(DepthwiseBlock, b)) for k, b in enumerate(synthesis.get_submodule(name))]  # type: ignore[arg-type]
        for prefix, block in blocks:
            square = seen[f"{prefix}.project"]
            scale = square.mean().sqrt()
            shape = (square.sqrt() / scale).clamp_min(_LEAST).float()
            scale_outputs(block.spatial, 1 / shape)
            scale_inputs(block.project, shape)
            limits[f"{prefix}.project"] = _HIDDEN[name] * float(scale)
            square = seen[f"{prefix}.merge"]
            scale = square.mean().sqrt()
            shape = (square.sqrt() / scale).clamp_min(_LEAST).float()
            # The half of the gate that is no switch.
            scale_outputs(block.gate, torch.cat([1 / shape, torch.ones_like(shape)]))
            scale_inputs(block.merge, shape)
            limits[f"{prefix}.merge"] = _GATED * float(scale)
        sites = [f"{prefix}.{layer}" for prefix, _ in blocks for layer in ("expand", "gate")]
        # What runs along the blocks has one scale a channel, and grows from block to block: limits make up for that.
        shape = torch.stack([seen[s] / seen[s].mean() for s in sites]).mean(0).sqrt().float()
        if name == "coarse":
            scale_outputs(synthesis.head, 1 / shape)
        else:
            scale_outputs(up, (1 / shape).repeat_interleave(4))
        for _, block in blocks:
            scale_outputs(block.project, 1 / shape)
            scale_outputs(block.merge, 1 / shape)
            scale_inputs(block.expand, shape)
            scale_inputs(block.gate, shape)
        scale_inputs(after, shape)
        limits |= {s: _STREAM * float((seen[s].float() / shape.square()).mean().sqrt()) for s in sites}
    return limits


def move_bias(block: DepthwiseBlock) -> None:
    """Add the bias of a block's last layer where the gate sees it, and take it off what the gate makes of it."""
    last = cast(Tensor, block.merge.bias)
    cast(Tensor, block.project.bias).add_(last)
    cast(Tensor, block.gate.bias).sub_(block.gate.weight.flatten(1) @ last)
    last.zero_()


@torch.no_grad()
def main() -> None:
    """Look, scale, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--every", type=int, default=20, help="take one in so many of the photos")
    parser.add_argument("-o", "--output", type=Path, required=True)
    a = parser.parse_args()
    names = sorted(str(p.relative_to(a.photos)) for p in a.photos.rglob("*") if p.is_file())
    away = set(held_back(names, 20, "extra"))
    chosen = [a.photos / name for k, name in enumerate(names) if k not in away][:: a.every]
    photos = (torch.from_numpy(middle(path)).permute(2, 0, 1)[None].float() / 255 for path in chosen)
    photos = (x[:, :, : x.shape[2] // 64 * 64, : x.shape[3] // 64 * 64] for x in photos)
    state, facts = load_small_checkpoint(a.checkpoint)
    model = cast(ImageLight, create_model(facts.model, **facts.config))
    load_float_state(model, state)
    model.eval()
    limits = equalise(model, mean_squares(model, photos))
    config = {**facts.config, "decoder_int8": True, "narrow": True}
    rounded = cast(ImageLight, create_model(facts.model, **config))
    for name, block in rounded.g_s.named_modules():
        if isinstance(block, DepthwiseBlock) and block.merge.bias is None:
            move_bias(cast(DepthwiseBlock, model.g_s.get_submodule(name)))
    wanted, state = float_state(rounded), float_state(model)
    state |= {f"g_s.{name}.limit": torch.tensor(limit) for name, limit in limits.items()}
    state = {name: state[name] for name in wanted}
    load_float_state(rounded, state)
    save_small_checkpoint(a.output, state, replace(facts, config=config))
    for name in wanted:
        if name.endswith(".limit"):
            print(f"{name}: {float(state[name]):.3f}")


if __name__ == "__main__":
    main()

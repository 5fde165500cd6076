"""Public weights of EnCodec, DAC and SNAC, in our models.

Their packages are not needed: what is read are tensors and their names. The weights stay under the terms of who
published them. They are pickles; ``read_state`` takes the tensors out of them and runs nothing:

>>> from triode.adapters.audio import from_encodec
>>> from triode.io.statefile import read_state
>>> state = read_state("encodec_24khz-d7cc33bc.th")  # doctest: +SKIP
>>> model = from_encodec(state, sample_rate=24000)  # doctest: +SKIP

The prior of the codes starts without any knowledge: ``model.fit_prior(sounds)``, then
:func:`~triode.models.weights.save_weights` makes a file that ``triode encode --model`` takes. Files are not
interchangeable with those of the original programs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from triode.adapters.state import Rule, filled, renamed, rules
from triode.entropy.vq.codebook import Codebook
from triode.errors import ModelMismatchError
from triode.models.audio.dac import Dac
from triode.models.audio.encodec import Encodec
from triode.models.audio.snac import Snac
from triode.models.audio.vq_codec import VqCodec

__all__ = ["WEIGHT_NORM", "from_dac", "from_encodec", "from_snac", "loadable"]

Source = Mapping[str, Tensor] | nn.Module

_NORMED = "parametrizations.weight.original"
WEIGHT_NORM = (
    (r"((?:encoder|decoder)\..+)\.weight_g", rf"\1.{_NORMED}0"),
    (r"((?:encoder|decoder)\..+)\.weight_v", rf"\1.{_NORMED}1"),
)
"""Rules for the older spelling of weight norms; the newer one is ours."""
_ENCODEC = rules(
    *WEIGHT_NORM,
    (r"((?:encoder|decoder)\..+)", r"\1"),
    (r"quantizer\.vq\.layers\.(\d+)\._codebook\.embed", r"quantizer.quantizers.\1.codebook.entries"),
    (r"quantizer\.vq\.layers\.(\d+)\._codebook\.cluster_size", r"quantizer.quantizers.\1.codebook.usage"),
    (r"quantizer\.vq\.layers\.\d+\._codebook\.(inited|embed_avg)", None),
)


def _factorised(inside: str) -> tuple[Rule, ...]:
    """Return the rules of DAC and SNAC, whose stages stand in ours under a name."""
    part, stage = r"quantizer\.quantizers\.(\d+)", rf"quantizer.quantizers.\1.{inside}"
    return rules(
        *WEIGHT_NORM,
        (r".+\.rel_pos\.inv_freq", None),
        (r"((?:encoder|decoder)\..+)", r"\1"),
        (rf"{part}\.(in|out)_proj\.weight_g", rf"{stage}project_\2.{_NORMED}0"),
        (rf"{part}\.(in|out)_proj\.weight_v", rf"{stage}project_\2.{_NORMED}1"),
        (rf"{part}\.(in|out)_proj\.(.+)", rf"{stage}project_\2.\3"),
        (rf"{part}\.codebook\.weight", rf"{stage}codebook.entries"),
    )


_DAC, _SNAC = _factorised(""), _factorised("quantizer.")


def from_encodec(source: Source, *, sample_rate: int, **changes: Any) -> Encodec:
    """Build our model with the weights of an EnCodec model (package ``encodec``).

    Args:
        source: Its state dict, or the model itself.
        sample_rate: Samples per second, which the weights do not tell: 24000 or 48000 of those published.
        changes: Changes to the configuration, by field, where it is not as published: weights with a group norm are
            taken to be not causal, and to want sound of a root mean square of 1.

    Returns:
        The model, float32, in evaluation mode.

    Raises:
        ModelMismatchError: If a tensor is missing, unknown or of the wrong shape.
    """
    tensors = renamed(_state(source), _ENCODEC)
    for name in [n for n in tensors if n.endswith(".usage")]:
        tensors[name] = tensors[name] / tensors[name].sum().clamp_min(1e-12)
    first = _shape(tensors, "encoder.model.0.conv.conv", "encodec")
    convs = _ordered(tensors, r"encoder\.model\.(\d+)\.conv\.conv")
    group = "encoder.model.0.conv.norm.weight" in tensors
    normed = f"encoder.model.0.conv.conv.{_NORMED}1" in tensors
    residuals = _ordered(tensors, r"encoder\.model\.(\d+)\.block\.1\.conv\.conv")
    strides = tuple(shape[2] // 2 for shape in convs[1:-1])
    books = _ordered(tensors, r"quantizer\.quantizers\.(\d+)\.codebook\.entries")
    _need(books and strides, "encodec")
    found = {
        "channels": first[1],
        "filters": first[0],
        "dimension": convs[-1][0],
        "strides": strides,
        "residual_layers": len(residuals) // len(strides),
        "lstm": sum(bool(re.fullmatch(r"encoder\.model\.\d+\.lstm\.weight_ih_l\d+", n)) for n in tensors),
        "causal": not group,
        "norm": "group" if group else "weight" if normed else "none",
        "input_gain": 1 / VqCodec.level if group else 1.0,
        "stages": len(books),
        "codebook_size": books[0][0],
    }
    if group:
        found["warmup"] = 64
    return cast(Encodec, _filled("encodec", found, sample_rate, changes, tensors))


def from_dac(source: Source, *, sample_rate: int, **changes: Any) -> Dac:
    """Build our model with the weights of a DAC model (package ``descript-audio-codec``).

    Args:
        source: Its state dict (``"state_dict"`` in the files published), or the model itself.
        sample_rate: Samples per second, which the weights do not tell: 16000, 24000 or 44100 of those published.
        changes: Changes to the configuration, by field.

    Returns:
        The model, float32, in evaluation mode.

    Raises:
        ModelMismatchError: If a tensor is missing, unknown or of the wrong shape.
    """
    tensors = _linear(renamed(_state(source), _DAC))
    found = _body(tensors, "quantizer.quantizers.0.", "dac")
    return cast(Dac, _filled("dac", found, sample_rate, changes, tensors))


def from_snac(source: Source, *, sample_rate: int, **changes: Any) -> Snac:
    """Build our model with the weights of a SNAC model (package ``snac``).

    Args:
        source: Its state dict, or the model itself.
        sample_rate: Samples per second, which the weights do not tell: 24000, 32000 or 44100 of those published.
        changes: Changes to the configuration, by field, where it is not as published: stages are taken to halve their
            strides down to 1, and attention to have windows of 32 frames.

    Returns:
        The model, float32, in evaluation mode; its noise blocks do nothing in it.

    Raises:
        ModelMismatchError: If a tensor is missing, unknown or of the wrong shape.
    """
    state = _state(source)
    tensors = _linear(renamed(state, _SNAC))
    found = _body(tensors, "quantizer.quantizers.0.quantizer.", "snac")
    turns = [v for n, v in state.items() if str(n).endswith("rel_pos.inv_freq") and isinstance(v, Tensor)]
    found["window"] = 32 if any(n.endswith(".to_qkv.weight") for n in tensors) else 0
    if turns:
        found["head"] = 2 * turns[0].numel()
    found["noise"] = any(n.startswith("decoder.model.") and ".linear." in n for n in tensors)
    found["depthwise"] = _ordered(tensors, r"encoder\.block\.(\d+)")[-1][1] == 1
    found["vq_strides"] = tuple(1 << n for n in reversed(range(found.pop("stages"))))
    return cast(Snac, _filled("snac", found, sample_rate, changes, tensors))


def loadable(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of one of our models that public weights have, by name: all but the prior and counters."""
    tensors: dict[str, Tensor] = {n: p for n, p in model.named_parameters() if not n.startswith("prior.")}
    for name, module in model.named_modules():
        if isinstance(module, Codebook) and module.ema:
            tensors |= {f"{name}.{key}": value for key, value in module.named_buffers() if key != "steps"}
    return tensors


def _filled(
    name: str, found: Mapping[str, Any], sample_rate: int, changes: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> nn.Module:
    model = filled(name, {**found, "sample_rate": sample_rate, **changes}, tensors, loadable)
    for module in model.modules():
        if isinstance(module, Codebook):
            module.mark_started()
    return model


def _state(source: Source) -> Mapping[str, Any]:
    return source.state_dict() if isinstance(source, nn.Module) else source


def _linear(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Make linear layers of the projections, which are convolutions of one tap there."""
    return {n: t.squeeze(-1) if ".project_" in n and t.dim() == 3 else t for n, t in tensors.items()}


def _body(tensors: Mapping[str, Tensor], stage: str, called: str) -> dict[str, Any]:
    """Read what DAC and SNAC have in common from the shapes; `stage` is where the first stage stands."""
    down = _ordered(tensors, r"encoder\.block\.(\d+)\.block\.4")
    up = _ordered(tensors, r"decoder\.model\.(\d+)\.block\.1")
    books = _ordered(tensors, r"quantizer\.quantizers\.(\d+)\.(?:quantizer\.)?codebook\.entries")
    _need(down and up and books and f"{stage}codebook.entries" in tensors, called)
    return {
        "encoder": down[0][1],
        "strides": tuple(shape[2] // 2 for shape in down),
        "decoder": up[0][0],
        "decoder_strides": tuple(shape[2] // 2 for shape in up),
        "stages": len(books),
        "codebook_size": books[0][0],
        "codebook_dim": books[0][1],
    }


def _ordered(tensors: Mapping[str, Tensor], pattern: str) -> list[torch.Size]:
    """Return the shapes of the weights (or tensors) whose layer matches, in order of the number in its name."""
    weight = rf"\.(?:weight|{re.escape(_NORMED)}1)"
    found = [(m, t) for n, t in tensors.items() if (m := re.fullmatch(rf"{pattern}(?:{weight})?", n))]
    wanted = [(int(m[1]), t.shape) for m, t in found if t.dim() == (2 if pattern.endswith("entries") else 3)]
    return [shape for _, shape in sorted(wanted, key=lambda pair: pair[0])]


def _shape(tensors: Mapping[str, Tensor], layer: str, called: str) -> torch.Size:
    shapes = _ordered(tensors, re.escape(layer).replace("0", "(0)", 1))
    _need(shapes, called)
    return shapes[0]


def _need(there: object, called: str) -> None:
    if not there:
        raise ModelMismatchError(f"The state dict lacks layers that every {called} has")

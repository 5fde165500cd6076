"""Public weights of HiFi-Codec, Language-Codec and ESC, which come with research code, in our models.

What is read are tensors and their names, as that code spells them: the AcademiCodec repository (``hificodec``), the
Languagecodec repository and the efficient-speech-codec repository (``csvq+swinT``), of 2024 each. They are pickles; see
:mod:`triode.adapters.audio` for how to open them, how to give the prior its knowledge, and on whose terms.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, cast

from torch import Tensor, nn

from triode.adapters.audio import loadable
from triode.adapters.state import Rule, filled, renamed, rules
from triode.entropy.vq.codebook import Codebook
from triode.errors import ModelMismatchError
from triode.models.audio.esc import Esc
from triode.models.audio.hifi_codec import HifiCodec
from triode.models.audio.language_codec import LanguageCodec

__all__ = ["from_esc", "from_hifi_codec", "from_language_codec"]

State = Mapping[str, Any]

_NORMED = "parametrizations.weight.original"
_NORMS = ((r"(.+)\.weight_g", rf"\1.{_NORMED}0"), (r"(.+)\.weight_v", rf"\1.{_NORMED}1"))
_ENCODER = r"feature_extractor\.encodec\.encoder\."
_STAGE = r"feature_extractor\.encodec\.quantizer\.vq\.layers\.(\d+)\._codebook\."
_LANGUAGE = rules(
    *((rf"{_ENCODER}{old}", f"encoder.{new}") for old, new in _NORMS),
    (rf"{_ENCODER}(.+)", r"encoder.\1"),
    (rf"{_STAGE}embed", r"quantizer.quantizers.\1.codebook.entries"),
    (rf"{_STAGE}cluster_size", r"quantizer.quantizers.\1.codebook.usage"),
    (rf"{_STAGE}(inited|embed_avg)", None),
    (r"backbone\.(.+)\.(scale|shift)\.weight", r"decoder.backbone.\1.\2"),
    (r"backbone\.(.+)", r"decoder.backbone.\1"),
    (r"head\.out\.(.+)", r"decoder.head.out.\1"),
    # The encoder's counterpart is not in use; discriminators and losses come with a checkpoint of training.
    (r"feature_extractor\.encodec\.decoder\..+", None),
    (r"(?!feature_extractor\.|backbone\.).+", None),
)
_ESC = rules(
    (r".+\.relative_position_index", None),
    (r"i?ft\.window", None),
    (r"(encoder\..+)", r"\1"),
    (r"decoder\.(post_nn\..+|patch_deembed\..+|blocks\..+)", r"decoder.\1"),
    (r"quantizers\.(\d+)\.vqs\.(\d+)\.embedding\.weight", r"quantizer.scales.quantizers.\1.\2.codebook.entries"),
    (r"quantizers\.(\d+)\.down_projs\.(\d+)\.weight", r"quantizer.scales.quantizers.\1.\2.project_in.weight"),
    (r"quantizers\.(\d+)\.up_projs\.(\d+)\.weight", r"quantizer.scales.quantizers.\1.\2.project_out.weight"),
)


def from_hifi_codec(
    encoder: State, quantizer: State, generator: State, *, sample_rate: int, **changes: Any
) -> HifiCodec:
    """Build our model with the weights of a HiFi-Codec model.

    Args:
        encoder: State dict of its encoder: the entry of that name in the files published, like the others.
        quantizer: State dict of its quantiser.
        generator: State dict of its generator.
        sample_rate: Samples per second, which the weights do not tell: 16000 or 24000 of those published.
        changes: Changes to the configuration, by field, where it is not as published: strides are taken to be half of
            their kernels, rounded down, and dilations 1, 3 and 5.

    Returns:
        The model, float32, in evaluation mode.

    Raises:
        ModelMismatchError: If a tensor is missing, unknown or of the wrong shape.
    """
    count = len({match[1] for name in generator if (match := re.match(r"(?:module\.)?ups\.(\d+)\.", str(name)))})
    groups = len({match[1] for name in quantizer if (match := re.search(r"quantizer_modules\.(\d+)\.", str(name)))})
    blocks = {match[1] for name in generator if (match := re.match(r"(?:module\.)?resblocks\.(\d+)\.", str(name)))}
    if not count or not groups or not blocks or len(blocks) % count:
        raise ModelMismatchError("The state dicts lack layers that every hifi-codec has")
    each = len(blocks) // count
    state = {f"quantizer.{str(name).removeprefix('module.')}": value for name, value in quantizer.items()}
    state |= {f"encoder.{str(name).removeprefix('module.')}": value for name, value in encoder.items()}
    state |= {f"decoder.{str(name).removeprefix('module.')}": value for name, value in generator.items()}
    tensors = renamed(state, rules(*_NORMS, (r"(.+)", r"\1")))
    tensors = renamed(tensors, _hifi_rules(count, each))
    first, last = _shape(tensors, f"encoder.0.{_NORMED}1"), _shape(tensors, f"encoder.{3 * count + 2}.weight")
    taps = [_shape(tensors, f"decoder.{3 * i + 2}.{_NORMED}1") for i in range(count)]
    residuals = [_shape(tensors, f"decoder.3.blocks.{j}.convs1.0.{_NORMED}1") for j in range(each)]
    books = [n for n in tensors if n.startswith("quantizer.quantizers.0.")]
    found = {
        "filters": first[0],
        "dimension": last[0],
        "channels": taps[0][0],
        "strides": tuple(shape[2] // 2 for shape in taps),
        "kernels": tuple(shape[2] for shape in taps),
        "residual_kernels": tuple(shape[2] for shape in residuals),
        "groups": groups,
        "depth": len(books),
        "codebook_size": _shape(tensors, books[0])[0] if books else 0,
    }
    return cast(HifiCodec, _filled("hifi-codec", {**found, "sample_rate": sample_rate, **changes}, tensors))


def from_language_codec(state: State, *, condition: int = 0, **changes: Any) -> LanguageCodec:
    """Build our model with the weights of a Language-Codec model, 24 kHz.

    Args:
        state: State dict of its checkpoint (``"state_dict"`` in the file published); discriminators are passed over.
        condition: Which of the decoder's norms to take, of which it has one for each of four bandwidths: 0 in the
            published instructions.
        changes: Changes to the configuration, by field, where it is not as published: three stages see a part of the
            channels each.

    Returns:
        The model, float32, in evaluation mode.

    Raises:
        ModelMismatchError: If a tensor is missing, unknown or of the wrong shape.
        ValueError: If there is no such condition.
    """
    tensors = renamed(state, _LANGUAGE)
    for name in [n for n in tensors if n.endswith(".usage")]:
        tensors[name] = tensors[name] / tensors[name].sum().clamp_min(1e-12)
    for name in [n for n in tensors if n.startswith("decoder.backbone.") and n.endswith((".scale", ".shift"))]:
        table = tensors.pop(name)
        if not 0 <= condition < len(table):
            raise ValueError(f"Argument `condition` must be in 0..{len(table) - 1}, but got {condition}")
        tensors[name.replace(".scale", ".weight").replace(".shift", ".bias")] = table[condition]
    convs = _numbered(tensors, rf"encoder\.model\.(\d+)\.conv\.conv\.{re.escape(_NORMED)}1")
    residuals = _numbered(tensors, rf"encoder\.model\.(\d+)\.block\.1\.conv\.conv\.{re.escape(_NORMED)}1")
    books = _numbered(tensors, r"quantizer\.quantizers\.(\d+)\.codebook\.entries")
    blocks = _numbered(tensors, r"decoder\.backbone\.convnext\.(\d+)\.pwconv1\.weight")
    if len(convs) < 3 or not books or not blocks:
        raise ModelMismatchError("The state dict lacks layers that every language-codec has")
    strides = tuple(shape[2] // 2 for shape in convs[1:-1])
    found = {
        "dimension": convs[-1][0],
        "filters": convs[0][0],
        "strides": strides,
        "residual_layers": len(residuals) // len(strides),
        "lstm": sum(bool(re.fullmatch(r"encoder\.model\.\d+\.lstm\.weight_ih_l\d+", n)) for n in tensors),
        "stages": len(books),
        "codebook_size": books[0][0],
        "decoder": blocks[0][1],
        "decoder_hidden": blocks[0][0],
        "decoder_blocks": len(blocks),
        "spectrum_hops": (_shape(tensors, "decoder.head.out.weight")[0] - 2) // math.prod(strides),
    }
    return cast(LanguageCodec, _filled("language-codec", {**found, **changes}, tensors))


def from_esc(state: State, **changes: Any) -> Esc:
    """Build our model with the weights of an ESC model with window attention, 16 kHz.

    Our spectra lie half a hop, 2.5 ms, later; codes of the same sound differ as those of sounds so far apart do.

    Args:
        state: Its state dict.
        changes: Changes to the configuration, by field, where it is not as published: windows of 20 ms, a hop of 5 ms,
            two patches a frame.

    Returns:
        The model, float32, in evaluation mode.

    Raises:
        ModelMismatchError: If a tensor is missing, unknown or of the wrong shape.
    """
    tensors = renamed(state, _ESC)
    downs = _numbered(tensors, r"encoder\.blocks\.(\d+)\.subsample\.down\.weight")
    tables = _numbered(tensors, r"encoder\.blocks\.(\d+)\.swint_blocks\.0\.attn\.relative_position_bias_table")
    books = _numbered(tensors, r"quantizer\.scales\.quantizers\.(\d+)\.0\.codebook\.entries")
    groups = len(_numbered(tensors, r"quantizer\.scales\.quantizers\.0\.(\d+)\.codebook\.entries"))
    if not downs or len(tables) != len(downs) or not books or not groups:
        raise ModelMismatchError("The state dict lacks layers that every esc has")
    patch = _shape(tensors, "encoder.patch_embed.proj.weight")
    merge, widths = changes.get("merge", 2), (patch[0], *(shape[0] for shape in downs))
    deepest = sum(_shape(tensors, f"quantizer.scales.quantizers.0.{g}.project_in.weight")[1] for g in range(groups))
    bins = deepest // (merge * widths[-1]) * (patch[2] << len(downs))
    found = {
        "n_fft": 2 * (bins - 1),
        "patch": (patch[2], patch[3]),
        "widths": widths,
        "heads": tuple(shape[1] for shape in tables),
        "depth": len(_numbered(tensors, r"encoder\.pre_nn\.swint_blocks\.(\d+)\.norm1\.weight")),
        "window": (math.isqrt(tables[0][0]) + 1) // 2,
        "ratio": _shape(tensors, "encoder.pre_nn.swint_blocks.0.mlp.linear_1.weight")[0] / widths[0],
        "groups": groups,
        "codebook_size": books[0][0],
        "codebook_dims": tuple(shape[1] for shape in books),
    }
    last = len(downs) - 1
    placed = rules(
        (rf"decoder\.blocks\.{last}\.(.+)", r"decoder.block.\1"),
        (r"decoder\.blocks\.(\d+)\.(.+)", r"quantizer.steps.\1.\2"),
        (r"(quantizer\.scales\.quantizers\.\d+)\.(\d+\..+)", r"\1.quantizer.quantizers.\2"),
        (r"(.+)", r"\1"),
    )
    return cast(Esc, _filled("esc", {**found, **changes}, renamed(tensors, placed)))


def _hifi_rules(count: int, each: int) -> tuple[Rule, ...]:
    """Return where layers stand in our chains: of `count` rates with `each` residual blocks."""
    pairs: list[tuple[str, str | None]] = []
    for side in ("encoder", "decoder"):
        pairs += [
            (rf"{side}\.conv_pre\.(.+)", rf"{side}.0.\1"),
            (rf"{side}\.conv_post\.(.+)", rf"{side}.{3 * count + 2}.\1"),
        ]
        for i in range(count):
            pairs.append((rf"{side}\.ups\.{i}\.(.+)", rf"{side}.{3 * i + 2}.\1"))
            for j in range(each):
                block, ours = i * each + j, f"{side}.{3 * i + 3}"
                pairs.append((rf"{side}\.resblocks\.{block}\.(.+)", rf"{ours}.blocks.{j}.\1"))
                pairs.append((rf"{side}\.normalize\.{block}\.(.+)", rf"{ours}.norms.{j}.\1"))
    for depth, name in enumerate(("quantizer_modules", "quantizer_modules2")):
        target = rf"quantizer.quantizers.\1.quantizers.{depth}.codebook.entries"
        pairs.append((rf"quantizer\.{name}\.(\d+)\.embedding\.weight", target))
    return rules(*pairs)


def _filled(name: str, found: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> nn.Module:
    model = filled(name, found, tensors, loadable)
    for module in model.modules():
        if isinstance(module, Codebook):
            module.mark_started()
    return model


def _numbered(tensors: Mapping[str, Tensor], pattern: str) -> list[Any]:
    """Return the shapes of the tensors whose names match, in order of the number in them."""
    found = [(int(match[1]), tensor.shape) for n, tensor in tensors.items() if (match := re.fullmatch(pattern, n))]
    return [shape for _, shape in sorted(found, key=lambda pair: pair[0])]


def _shape(tensors: Mapping[str, Tensor], name: str) -> Any:
    if name not in tensors:
        raise ModelMismatchError(f"The state dict lacks {name}, in our spelling")
    return tensors[name].shape

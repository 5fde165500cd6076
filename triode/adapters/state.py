"""State dicts from elsewhere, under our names and in our models."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from triode.errors import ModelMismatchError
from triode.models.registry import create_model

__all__ = ["Rule", "filled", "renamed", "rules"]

Rule = tuple[re.Pattern[str], str | None]
"""What a name must match as a whole, and what it becomes; None to leave the entry out."""


def rules(*pairs: tuple[str, str | None]) -> tuple[Rule, ...]:
    """Compile patterns and their replacements; the first that matches counts."""
    return tuple((re.compile(pattern), target) for pattern, target in pairs)


def renamed(state: Mapping[str, Any], rules: Sequence[Rule]) -> dict[str, Tensor]:
    """Return the entries that rules keep, under their new names.

    Args:
        state: State dict; what ``DataParallel`` puts in front of names is dropped.
        rules: See :func:`rules`.

    Raises:
        ModelMismatchError: If no rule matches an entry, or one that is kept is no tensor of floats.
    """
    tensors: dict[str, Tensor] = {}
    unknown = []
    for key, value in state.items():
        name = str(key).removeprefix("module.")
        for pattern, target in rules:
            match = pattern.fullmatch(name)
            if match is None:
                continue
            if target is not None:
                if not isinstance(value, Tensor) or not value.is_floating_point():
                    raise ModelMismatchError(f"Entry {key!r} of the state dict is no tensor of floats")
                tensors[match.expand(target)] = value
            break
        else:
            unknown.append(str(key))
    if unknown:
        hint = "; give its 'state_dict' entry" if "state_dict" in unknown else ""
        raise ModelMismatchError(
            f"This is no state dict that we know: {len(unknown)} entries like {unknown[0]!r}{hint}"
        )
    return tensors


def filled(
    name: str,
    changes: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    loadable: Callable[[nn.Module], dict[str, Tensor]],
    called: str | None = None,
) -> nn.Module:
    """Build one of our models and fill it.

    Args:
        name: Registered name.
        changes: Changes to its default configuration.
        tensors: Tensors by our names.
        loadable: Returns the tensors of a model that must be given, by name.
        called: What messages call the architecture; the name when absent.

    Returns:
        The model, float32, in evaluation mode.

    Raises:
        ModelMismatchError: If there is no such model, or a tensor is missing, too many, of the wrong shape or not
            finite.
    """
    called = called or name
    try:
        # Without memory at first: shapes are checked before a model of a made-up size is allocated.
        with torch.device("meta"):
            expected = loadable(create_model(name, **changes))
    except ValueError as error:
        raise ModelMismatchError(f"The weights are of no possible {called}: {error}") from error
    _compare(tensors, expected, called)
    model = create_model(name, **changes)
    with torch.no_grad():
        for key, target in loadable(model).items():
            target.copy_(tensors[key])
    return model.eval()


def _compare(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], called: str) -> None:
    missing, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or extra:
        raise ModelMismatchError(
            f"The weights do not fit {called}: {len(missing)} tensors missing ({', '.join(missing[:3])}), "
            f"{len(extra)} too many ({', '.join(extra[:3])})"
        )
    for name, tensor in tensors.items():
        if tensor.shape != expected[name].shape:
            raise ModelMismatchError(
                f"The weights do not fit {called}: {name} must have the shape {tuple(expected[name].shape)}, "
                f"but has {tuple(tensor.shape)}"
            )
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise ModelMismatchError(f"The weights hold numbers that are not finite, in {name}")

"""Weights trained with CompressAI, in our models.

CompressAI itself is not needed: what is read are tensors and their names. Trained weights stay under the terms of who
published them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from triode.adapters.state import filled, renamed, rules
from triode.errors import ModelMismatchError, UnsupportedError
from triode.models.base import ImageModel

_NETWORK = "entropy.context.parameter_net"
_RULES = rules(
    # Bounds, masks and integer tables; ours are made anew, at construction and at export.
    (r"(.+\.)?gaussian_conditional\..+", None),
    (r".+\.(beta_reparam|gamma_reparam|likelihood_lower_bound)\..+", None),
    (r".+\.(_offset|_quantized_cdf|_cdf_length|target|mask)", None),
    (r"(g_[as]\..+)", r"\1"),
    (r"(?:latent_codec\.hyper\.)?(h_[as]\..+)", r"entropy.\1"),
    # The three spellings of the prior's parameters, from the newest to the oldest.
    (r"(?:latent_codec\.hyper\.)?entropy_bottleneck\.(matrices|biases|factors)\.(\d)", r"entropy.prior.\1.\2"),
    (r"(?:latent_codec\.hyper\.)?entropy_bottleneck\._(matrices|biases|factors)\.(\d)", r"entropy.prior.\1.\2"),
    (r"(?:latent_codec\.hyper\.)?entropy_bottleneck\._matrix(\d)", r"entropy.prior.matrices.\1"),
    (r"(?:latent_codec\.hyper\.)?entropy_bottleneck\._bias(\d)", r"entropy.prior.biases.\1"),
    (r"(?:latent_codec\.hyper\.)?entropy_bottleneck\._factor(\d)", r"entropy.prior.factors.\1"),
    (r"(?:latent_codec\.hyper\.)?entropy_bottleneck\.quantiles", "entropy.prior.medians"),
    (r"latent_codec\.y\.channel_context\.y(\d+)\.(.+)", rf"{_NETWORK}.channel_context.\1.\2"),
    (r"latent_codec\.y\.latent_codec\.y(\d+)\.entropy_parameters\.(.+)", rf"{_NETWORK}.aggregation.\1.\2"),
    (r"latent_codec\.y\.latent_codec\.y(\d+)\.context_prediction\.(.+)", rf"{_NETWORK}.spatial_context.\1.\2"),
)


@dataclass(frozen=True, slots=True)
class _Source:
    """How an architecture shows its widths.

    Attributes:
        name: Our name of the architecture.
        latent: The layer of ``g_a`` whose outputs are y.
        grouped: Whether y is coded in channel groups.
    """

    name: str
    latent: str
    grouped: bool = False


_SOURCES = {
    "bmshj2018-factorized": _Source("bmshj2018-factorized", "g_a.6.weight"),
    "bmshj2018-hyperprior": _Source("bmshj2018-hyperprior", "g_a.6.weight"),
    "mbt2018-mean": _Source("mbt2018-mean", "g_a.6.weight"),
    "elic2022": _Source("elic2022", "g_a.13.weight", grouped=True),
    "elic2022-official": _Source("elic2022", "g_a.13.weight", grouped=True),
}


def from_compressai(
    source: Mapping[str, Tensor] | nn.Module, architecture: str, *, lmbda: float | None = None
) -> ImageModel:
    """Build one of our models with the weights of a CompressAI model.

    The published files are pickles; ``read_state`` takes the tensors out of them and runs nothing:

    >>> from triode.adapters.compressai import from_compressai
    >>> from triode.io.statefile import read_state
    >>> state = read_state("mbt2018-mean-4-6dba02a3.pth.tar")  # doctest: +SKIP
    >>> model = from_compressai(state, "mbt2018-mean", lmbda=0.013)  # doctest: +SKIP

    A checkpoint of CompressAI's training script holds more than tensors, which ``read_state`` refuses: load it with
    PyTorch (``weights_only=True``) and give its ``"state_dict"``.

    Args:
        source: State dict, in any of the spellings that CompressAI has had, or the CompressAI model itself.
        architecture: ``bmshj2018-factorized``, ``bmshj2018-hyperprior``, ``mbt2018-mean``, ``elic2022`` or, as
            CompressAI calls it, ``elic2022-official``. The widths follow from the shapes.
        lmbda: Weight of the distortion in training, which the weights do not tell; only further training uses it.

    Returns:
        The model, float32, in evaluation mode. Its ``forward`` gives CompressAI's bits and reconstruction. Call
        ``export()`` before ``encode`` and ``decode``; files are not interchangeable with CompressAI's.

    Raises:
        UnsupportedError: If we have no such architecture.
        ModelMismatchError: If a tensor is missing, unknown or of the wrong shape.
    """
    if architecture not in _SOURCES:
        raise UnsupportedError(
            f"No counterpart of {architecture!r} here; there is one of: {', '.join(sorted(_SOURCES))}"
        )
    state = source.state_dict() if isinstance(source, nn.Module) else source
    tensors = _rename(state)
    changes = _widths(tensors, _SOURCES[architecture])
    if lmbda is not None:
        changes["lmbda"] = lmbda
    return cast(ImageModel, filled(_SOURCES[architecture].name, changes, tensors, _loadable, architecture))


def load_compressai_checkpoint(path: str | Path, architecture: str, *, lmbda: float | None = None) -> ImageModel:
    """Build one of our models with the weights of a CompressAI state dict saved as safetensors.

    Args:
        path: A ``.safetensors`` file. For a published ``.pth.tar`` see :func:`from_compressai`.
        architecture: See :func:`from_compressai`.
        lmbda: See :func:`from_compressai`.

    Returns:
        See :func:`from_compressai`.

    Raises:
        UnsupportedError: If the file is not safetensors by its name, or we have no such architecture.
        ModelMismatchError: If the file is damaged, or a tensor is missing, unknown or of the wrong shape.
        OSError: If the file cannot be read.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise UnsupportedError(
            f"{path} is no .safetensors file. Read a pickled checkpoint with PyTorch (weights_only=True) and give the "
            "state dict to from_compressai"
        )
    with path.open("rb"):  # A missing or unreadable file stays an OSError.
        pass
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise ModelMismatchError(f"{path} is no valid safetensors file: {error}") from error
    return from_compressai(state, architecture, lmbda=lmbda)


def _rename(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors that we keep under our names."""
    tensors = renamed(state, _RULES)
    medians = tensors.get("entropy.prior.medians")
    if medians is not None:
        # Quantiles are (C, 1, 3): lower tail, median, upper tail.
        if medians.dim() != 3 or medians.shape[1:] != (1, 3):
            raise ModelMismatchError(f"Quantiles must have the shape (C, 1, 3), but have {tuple(medians.shape)}")
        tensors["entropy.prior.medians"] = medians[:, 0, 1]
    return tensors


def _widths(tensors: Mapping[str, Tensor], source: _Source) -> dict[str, Any]:
    """Read the configuration from the shapes."""
    for name in ("g_a.0.weight", source.latent):
        if name not in tensors or tensors[name].dim() != 4:
            raise ModelMismatchError(f"The state dict has no convolution {name!r}, which every {source.name} has")
    changes: dict[str, Any] = {"N": tensors["g_a.0.weight"].shape[0], "M": tensors[source.latent].shape[0]}
    if source.grouped:
        names = [n for n in tensors if re.fullmatch(rf"{re.escape(_NETWORK)}\.spatial_context\.\d+\.weight", n)]
        ordered = sorted(names, key=lambda n: int(n.split(".")[-2]))
        changes["groups"] = tuple(tensors[n].shape[1] if tensors[n].dim() == 4 else 0 for n in ordered)
    return changes


def _loadable(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and medians of one of our models by name."""
    medians = ((n, b) for n, b in model.named_buffers() if n == "entropy.prior.medians")
    return {**dict(model.named_parameters()), **dict(medians)}

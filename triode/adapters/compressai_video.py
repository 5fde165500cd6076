"""Weights of video models trained with CompressAI, in ours; see :mod:`triode.adapters.compressai`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from torch import Tensor, nn

from triode.adapters.state import filled, renamed, rules
from triode.errors import ModelMismatchError, UnsupportedError
from triode.models.base import VideoModel

__all__ = ["video_from_compressai"]

_BRANCHES: Final = ("img", "motion", "res")
_BOTTLENECK: Final = r"(img|motion|res)_hyperprior\.entropy_bottleneck\."
_PRIOR: Final = r"\1.entropy.prior."
_RULES: Final = rules(
    # Bounds and integer tables; ours are made anew, at construction and at export.
    (r".+\.gaussian_conditional\..+", None),
    (r".+\.likelihood_lower_bound\..+", None),
    (r".+\.(_offset|_quantized_cdf|_cdf_length|target)", None),
    (r"(img|motion|res)_(encoder|decoder)\.(.+)", r"\1.\2.\3"),
    (r"(img|motion|res)_hyperprior\.hyper_encoder\.(.+)", r"\1.entropy.h_a.\2"),
    (r"(img|motion|res)_hyperprior\.hyper_decoder_mean\.(.+)", r"\1.entropy.h_s.mean.\2"),
    (r"(img|motion|res)_hyperprior\.hyper_decoder_scale\.deconv1\.(.+)", r"\1.entropy.h_s.scale.0.\2"),
    (r"(img|motion|res)_hyperprior\.hyper_decoder_scale\.deconv2\.(.+)", r"\1.entropy.h_s.scale.2.\2"),
    (r"(img|motion|res)_hyperprior\.hyper_decoder_scale\.deconv3\.(.+)", r"\1.entropy.h_s.scale.4.\2"),
    # The three spellings of the prior's parameters, from the newest to the oldest.
    (_BOTTLENECK + r"(matrices|biases|factors)\.(\d)", _PRIOR + r"\2.\3"),
    (_BOTTLENECK + r"_(matrices|biases|factors)\.(\d)", _PRIOR + r"\2.\3"),
    (_BOTTLENECK + r"_matrix(\d)", _PRIOR + r"matrices.\2"),
    (_BOTTLENECK + r"_bias(\d)", _PRIOR + r"biases.\2"),
    (_BOTTLENECK + r"_factor(\d)", _PRIOR + r"factors.\2"),
    (_BOTTLENECK + r"quantiles", _PRIOR + "medians"),
)


def video_from_compressai(
    source: Mapping[str, Tensor] | nn.Module, architecture: str = "ssf2020", *, lmbda: float | None = None
) -> VideoModel:
    """Build one of our video models with the weights of a CompressAI model.

    The published files are pickles, which this library does not open; let PyTorch do so, without running code, as
    :func:`~triode.adapters.compressai.from_compressai` shows.

    Args:
        source: State dict, in any of the spellings that CompressAI has had, or the CompressAI model itself.
        architecture: ``ssf2020``. The widths follow from the shapes.
        lmbda: Weight of the distortion in training, which the weights do not tell; only further training uses it.

    Returns:
        The model, float32, in evaluation mode. Its ``forward`` gives CompressAI's bits and reconstruction. Call
        ``export()`` before ``encode`` and ``decode``; files are not interchangeable with CompressAI's.

    Raises:
        UnsupportedError: If we have no such architecture.
        ModelMismatchError: If a tensor is missing, unknown or of the wrong shape.
    """
    if architecture != "ssf2020":
        raise UnsupportedError(f"No counterpart of {architecture!r} here; there is one of: ssf2020")
    state = source.state_dict() if isinstance(source, nn.Module) else source
    tensors = renamed(state, _RULES)
    for branch in _BRANCHES:
        name = f"{branch}.entropy.prior.medians"
        medians = tensors.get(name)
        if medians is not None:
            # Quantiles are (C, 1, 3): lower tail, median, upper tail.
            if medians.dim() != 3 or medians.shape[1:] != (1, 3):
                raise ModelMismatchError(f"Quantiles must have the shape (C, 1, 3), but have {tuple(medians.shape)}")
            tensors[name] = medians[:, 0, 1]
    changes: dict[str, Any] = {} if lmbda is None else {"lmbda": lmbda}
    for width, name in (("N", "img.encoder.0.weight"), ("M", "img.encoder.6.weight")):
        if name not in tensors or tensors[name].dim() != 4:
            raise ModelMismatchError(f"The state dict has no convolution {name!r}, which every ssf2020 has")
        changes[width] = tensors[name].shape[0]
    return cast(VideoModel, filled("ssf2020", changes, tensors, _loadable))


def _loadable(model: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and medians of one of our models by name."""
    medians = ((n, b) for n, b in model.named_buffers() if n.endswith(".prior.medians"))
    return {**dict(model.named_parameters()), **dict(medians)}

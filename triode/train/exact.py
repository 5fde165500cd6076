"""Integer entropy networks inside of training: what the coder will compute, with gradients of the float networks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from triode.entropy.context.model import ContextModel
from triode.entropy.exact.layers import exact_twin, from_fixed, to_fixed
from triode.entropy.hyperprior import Hyperprior

_METHODS = ("forward", "stage")


def exact_networks(model: nn.Module) -> list[nn.Module]:
    """Return the networks of a model that an export turns into integers."""
    found = (
        part.h_s if isinstance(part, Hyperprior) else part.parameter_net if isinstance(part, ContextModel) else None
        for part in model.modules()
    )
    return [network for network in found if network is not None]


@contextmanager
def integer_networks(model: nn.Module) -> Iterator[None]:
    """Let the entropy networks give, for the length of a block, exactly what their integer twins give.

    The twins are made from the present weights by the exporter's own code, so weights, biases, tables and activations
    are on its grid (int16 weights, Q13.10 activations). Gradients are those of the float networks at the same inputs
    (straight-through; Jacob et al., CVPR 2018).

    Args:
        model: Model whose forward pass gets rate points that are whole numbers: integer tables have no others.

    Raises:
        ValueError: If a network has no integer twin, weights that an export would refuse, or integers of its own
            (:mod:`triode.entropy.exact.narrow`), which are not on the grid of the others.
    """
    if any(hasattr(network, "twins") for network in exact_networks(model)):
        raise ValueError("Narrow integers have no place in training yet; their export costs next to nothing")
    with ExitStack() as stack:
        for network in exact_networks(model):
            twin = _twin(network)
            for method in _METHODS:
                if hasattr(network, method):
                    both = _straight_through(getattr(network, method), getattr(twin, method))
                    setattr(network, method, both)
                    stack.callback(delattr, network, method)
        yield


def _twin(network: nn.Module) -> nn.Module:
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    if device.type == "cpu":
        return exact_twin(network)
    return exact_twin(copy.deepcopy(network).cpu()).to(device)  # The exporter works on CPUs.


class _Replace(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, out: Tensor, values: Tensor) -> Tensor:
        return from_fixed(values)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0], None


def _straight_through(floating: Callable[..., Any], exact: Callable[..., Any]) -> Callable[..., Any]:
    def both(*arguments: Any) -> Any:
        *inputs, q = arguments
        with torch.no_grad():
            values = exact(*(to_fixed(i) if isinstance(i, Tensor) else i for i in inputs), q)
        return _replace(floating(*arguments), values)

    return both


def _replace(out: Any, values: Any) -> Any:
    """Put integers, Q13.10, in the place of floats in a tensor, or in sequences of them; gradients pass."""
    if isinstance(out, Tensor):
        return _Replace.apply(out, values)  # type: ignore[no-untyped-call]
    return [_replace(o, v) for o, v in zip(out, values, strict=True)]

"""Running causal layers on a stream: explicit states that go in and come out, no hidden memory.

The idea of a state object for every layer is that of Moshi's streaming modules (Kyutai, 2024). Here states are values:
a step leaves the state it was given as it is, so that a decoder can keep one and go back to it after a lost packet.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from triode.errors import UnsupportedError

__all__ = ["ChainState", "Pointwise", "StreamChain", "StreamModule", "require_causal", "stream"]

S = TypeVar("S")


class StreamModule(nn.Module, ABC, Generic[S]):
    """A module that can take its input in pieces of any length.

    Time is the last axis of input and output. What the steps and the flush give, put together, is what one call on the
    whole input gives, up to rounding: ``cat(step(x1), step(x2), ..., flush()) == module(cat(x1, x2, ...))``. Outputs
    come as soon as their last input is there; a piece, even an empty one, may give none, which is a tensor with no
    elements along time.
    """

    @abstractmethod
    def stream_state(self, batch: int = 1) -> S:
        """Return the state before the first sample, on the device and in the type of the module's weights.

        Args:
            batch: Signals that run side by side.

        Raises:
            UnsupportedError: If the module looks ahead without bound: it is not causal.
        """

    @abstractmethod
    def step(self, x: Tensor, state: S) -> tuple[Tensor, S]:
        """Take the next piece.

        Args:
            x: (B, ..., t) continuation of the input, t >= 0.
            state: Where the stream stands; it can be used again.

        Returns:
            The outputs that are now complete, (B, ..., f) with f >= 0, and the state after them.
        """

    @abstractmethod
    def flush(self, state: S) -> Tensor:
        """Return the outputs that are left when the input ends here, (B, ..., f) with f >= 0."""


class Pointwise(nn.Module):
    """Mark of modules whose output at a time depends on the input at that time alone, and has its shape."""


_POINTWISE = (Pointwise, nn.ELU, nn.GELU, nn.Identity, nn.LeakyReLU, nn.ReLU, nn.SiLU, nn.Tanh)


@dataclass(frozen=True, slots=True, eq=False)
class ChainState:
    """State of a :class:`StreamChain`.

    Attributes:
        layers: The layers' states in order; None where a layer has none.
    """

    layers: tuple[Any, ...]


class StreamChain(nn.Sequential, StreamModule[ChainState]):
    """A sequence of layers, each a :class:`StreamModule` or an activation, which streams if all of its layers do."""

    def stream_state(self, batch: int = 1) -> ChainState:
        """Return the states of all layers before the first sample; see :meth:`StreamModule.stream_state`."""
        return ChainState(tuple(_state_of(layer, batch) for layer in self))

    def step(self, x: Tensor, state: ChainState) -> tuple[Tensor, ChainState]:
        """Take the next piece; see :meth:`StreamModule.step`."""
        after = []
        for layer, held in zip(self, state.layers, strict=True):
            if isinstance(layer, StreamModule):
                x, held = layer.step(x, held)
            else:
                x = layer(x)
            after.append(held)
        return x, ChainState(tuple(after))

    def flush(self, state: ChainState) -> Tensor:
        """Return what is left: each layer ends once it has seen the end of the layer before."""
        x: Tensor | None = None
        for layer, held in zip(self, state.layers, strict=True):
            if not isinstance(layer, StreamModule):
                x = x if x is None else layer(x)
            elif x is None:
                x = layer.flush(held)
            else:
                y, held = layer.step(x, held)
                x = torch.cat((y, layer.flush(held)), -1)
        if x is None:
            raise UnsupportedError("A chain of activations alone has nothing to flush")
        return x


def _state_of(layer: nn.Module, batch: int) -> object:
    if isinstance(layer, StreamModule):
        return layer.stream_state(batch)
    if isinstance(layer, _POINTWISE):
        return None
    raise UnsupportedError(f"{type(layer).__name__} cannot run on a stream")


def require_causal(module: nn.Module, causal: bool) -> None:
    """Refuse to stream a module that looks ahead.

    Args:
        module: The module that is asked for a state.
        causal: Whether it is causal.

    Raises:
        UnsupportedError: If it is not.
    """
    if not causal:
        raise UnsupportedError(f"{type(module).__name__} is not causal: build it with causal=True to stream")


def stream(module: StreamModule[S], pieces: Iterable[Tensor]) -> Iterator[Tensor]:
    """Run a module over pieces of one input.

    Args:
        module: Any streaming module.
        pieces: (B, ..., t) each, equal but for t; at least one.

    Yields:
        The outputs of each step, then those of the flush.
    """
    state: S | None = None
    for piece in pieces:
        state = module.stream_state(piece.shape[0]) if state is None else state
        y, state = module.step(piece, state)
        yield y
    if state is not None:
        yield module.flush(state)

"""Products of two activations: how a network in integers weighs one by another."""

from __future__ import annotations

from torch import Tensor, nn

from triode.entropy.exact.layers import ACTIVATION_MAX, FRACTION_BITS, register_twin


class Product(nn.Module):
    """Multiplies two activations, element by element."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the product of tensors of one shape."""
        return a * b


class ExactProduct(nn.Module):
    """Integer twin of :class:`Product`: ``floor(a * b * 2**-10)``.

    Activations are below 2**23, sums of four of them below 2**25: products stay below 2**50, exact in float64.
    """

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Multiply float64 integers in Q13.10."""
        return (a * b * 2.0**-FRACTION_BITS).floor_().clamp_(-ACTIVATION_MAX, ACTIVATION_MAX)


register_twin(Product, lambda _: ExactProduct())

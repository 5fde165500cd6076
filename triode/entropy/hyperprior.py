"""Hyperprior: side information z, coded first, from which the distribution of y follows (Ballé et al., ICLR 2018)."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triode.entropy.coder import SymbolReader, SymbolWriter
from triode.entropy.context.model import ContextModel
from triode.entropy.exact.layers import exact_twin, from_fixed
from triode.entropy.factorized import FactorizedPrior
from triode.entropy.outputs import HyperOutput
from triode.entropy.relax import Level, Relaxed, SoftQuantiser, relax_context, relax_prior
from triode.errors import UnsupportedError


class Hyperprior(nn.Module):
    """A prior for z, a hyper-analysis and hyper-synthesis pair, and a conditional model for y.

    Methods take a ``past``, what is known before y is coded (latents of the frame before), from models whose networks
    look at it: ``h_a(y, past, q)`` and ``h_s(z_hat, past, q)``.

    Args:
        h_a: Hyper-analysis, called as ``h_a(y, q)``.
        h_s: Hyper-synthesis, called as ``h_s(z_hat, q)``; converted to integers at export.
        prior: Entropy model of z.
        context: Entropy model of y given the features of ``h_s``.
        stride: How many elements of y one element of z spans: each way, or rows and columns.
    """

    def __init__(
        self,
        h_a: nn.Module,
        h_s: nn.Module,
        prior: FactorizedPrior,
        context: ContextModel,
        stride: int | tuple[int, int],
    ) -> None:
        super().__init__()
        self.h_a, self.h_s, self.prior, self.context = h_a, h_s, prior, context
        self.strides = stride if isinstance(stride, tuple) else (stride, stride)
        self.h_s_exact: nn.Module | None = None

    def forward(
        self,
        y: Tensor,
        q: Tensor,
        side: Tensor | None = None,
        past: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> HyperOutput:
        """Quantise y and estimate the rate.

        Args:
            y: (B, M, h, w) float; h and w multiples of the stride.
            q: (B,) rate points.
            side: What ``h_a`` sees instead of y, same shape.
            past: (B, P, h, w) float.
            weight: (B, M) price of a squared error in each channel, in bits; see :meth:`ContextModel.forward`.

        Returns:
            Quantised latent and bits of ``"y"`` and ``"z"``.
        """
        known = () if past is None else (past,)
        z = self.prior(self.h_a(y if side is None else side, *known, q))
        out = self.context(y, self.h_s(z.y_hat, *known, q), q, weight)
        return HyperOutput(out.y_hat, {"y": out.bits, "z": z.bits})

    def export(self) -> None:
        """Freeze integer networks and tables."""
        self.prior.export()
        self.context.export()
        self.h_s_exact = exact_twin(self.h_s)

    def _features(self, symbols: Tensor, q: Tensor, past: Tensor | None = None) -> Tensor:
        if self.h_s_exact is None:
            raise UnsupportedError("This entropy model has no integer networks yet: export the model, or load weights")
        known = () if past is None else (self._pad(past),)
        return cast(Tensor, self.h_s_exact(self.prior.dequantise(symbols), *known, q))

    @torch.no_grad()
    def encode(
        self,
        y: Tensor,
        q: Tensor,
        writer: SymbolWriter,
        side: Tensor | None = None,
        weight: Tensor | None = None,
        past: Tensor | None = None,
    ) -> Tensor:
        """Write one latent: z, then y.

        Args:
            y: (1, M, h, w) float, any size.
            q: (1,) integer rate point.
            writer: Where the symbols go.
            side: What ``h_a`` sees instead of y, same shape.
            weight: (M,) price of a squared error in each channel, in bits; see :meth:`ContextModel.encode`.
            past: (1, P, h, w) float64 integers, Q13.10.

        Returns:
            (1, M, h, w) float32: the quantised latent, exactly what :meth:`decode` returns.
        """
        return self._write(*self.targets(y, q, side, past), q, writer, (y.shape[2], y.shape[3]), weight, past)

    def targets(
        self, y: Tensor, q: Tensor, side: Tensor | None = None, past: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return y, padded to a multiple of the stride, and z; arguments as in :meth:`encode`."""
        known = () if past is None else (from_fixed(self._pad(past)),)
        return self._pad(y), self.h_a(self._pad(y if side is None else side), *known, q)

    def relax(self, levels: tuple[Level, ...], q: Tensor, valid: tuple[int, int], soft: SoftQuantiser) -> Relaxed:
        """Quantise y and z softly.

        Args:
            levels: y, padded, and z.
            q: (1,) rate point.
            valid: (h, w) of y without padding.
            soft: How to decide.

        Returns:
            The pass; its rate is that of y, as no symbol of z changes another's code length.
        """
        z, offset = relax_prior(self.prior, levels[1], soft)
        out = relax_context(self.context, levels[0], self.h_s(z, q), q, valid, soft)
        return Relaxed(out.y_hat, out.rate, out.probe, (*out.offsets, offset), (*out.values, z.detach()))

    @torch.no_grad()
    def encode_values(
        self, values: tuple[Tensor, ...], q: Tensor, writer: SymbolWriter, valid: tuple[int, int]
    ) -> Tensor:
        """Write y (padded) and z, rounding to nearest around the exact means; see :meth:`encode`."""
        y, z = values
        return self._write(y, z, q, writer, valid, None)

    def _write(
        self,
        y: Tensor,
        z: Tensor,
        q: Tensor,
        writer: SymbolWriter,
        valid: tuple[int, int],
        weight: Tensor | None,
        past: Tensor | None = None,
    ) -> Tensor:
        features = self._features(self.prior.encode(z, writer), q, past)
        y_hat = self.context.encode(y, features, q, writer, valid, weight)
        return from_fixed(y_hat[:, :, : valid[0], : valid[1]])

    @torch.no_grad()
    def decode(self, shape: tuple[int, int], q: Tensor, reader: SymbolReader, past: Tensor | None = None) -> Tensor:
        """Read one latent.

        Args:
            shape: (h, w) of the latent.
            q: (1,) integer rate point.
            reader: Where the symbols come from.
            past: (1, P, h, w) float64 integers, Q13.10.

        Returns:
            (1, M, h, w) float32.
        """
        small = tuple(-(-s // stride) for s, stride in zip(shape, self.strides, strict=True))
        symbols = self.prior.decode((self.prior.channels, *small), reader)
        features = self._features(symbols, q, past)
        full = (self.context.schedule.channels, small[0] * self.strides[0], small[1] * self.strides[1])
        y_hat = self.context.decode(full, features, q, reader, shape)
        return from_fixed(y_hat[:, :, : shape[0], : shape[1]])

    def _pad(self, y: Tensor) -> Tensor:
        bottom, right = -y.shape[2] % self.strides[0], -y.shape[3] % self.strides[1]
        return F.pad(y, (0, right, 0, bottom), mode="replicate") if bottom or right else y

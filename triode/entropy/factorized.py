"""Fully factorised prior: one learned univariate density a channel (Ballé et al., ICLR 2018, appendix 6.1)."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from triode.entropy.bounds import soft_clamp
from triode.entropy.coder import SymbolReader, SymbolWriter
from triode.entropy.exact.layers import ACTIVATION_MAX, FRACTION_BITS, to_fixed
from triode.entropy.exact.state import ExactModule, TableBuffer
from triode.entropy.outputs import LatentOutput
from triode.entropy.quantize import Quantiser, quantised
from triode.entropy.tables import CdfTables, Int32Array

_LIKELIHOOD_MIN = 1e-9
_TAIL = 1e-7
_MAX_REACH = 4096


class FixedMedians(ExactModule):
    """Medians as decoders add them, (C,) int32 in Q13.10: frozen at export, so that the entropy digest covers them.

    Args:
        channels: Number of channels C.
    """

    value: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("value", torch.zeros(channels, dtype=torch.int32))


class FactorizedPrior(nn.Module):
    """Density of each channel as the derivative of a monotone network of its value; no dependence between elements.

    Args:
        channels: Number of channels C.
        filters: Widths of the hidden layers of each channel's cumulative network.
        init_scale: Width of the initial density.
        learned_medians: Quantise around a learned median a channel; around zero otherwise, which keeps the quantised
            latent an integer.
    """

    quantiser: Quantiser = "mixed"
    """Stand-in for rounding while training; evaluation rounds."""
    medians: Tensor

    def __init__(
        self,
        channels: int,
        filters: tuple[int, ...] = (3, 3, 3, 3),
        init_scale: float = 10.0,
        *,
        learned_medians: bool = False,
    ) -> None:
        super().__init__()
        self.channels = channels
        self.learned_medians = learned_medians
        widths = (1, *filters, 1)
        scale = init_scale ** (1 / (len(filters) + 1))
        self.matrices, self.biases, self.factors = nn.ParameterList(), nn.ParameterList(), nn.ParameterList()
        for i, (fan_in, fan_out) in enumerate(pairwise(widths)):
            init = float(np.log(np.expm1(1 / scale / fan_out)))
            self.matrices.append(torch.full((channels, fan_out, fan_in), init))
            self.biases.append(torch.rand(channels, fan_out, 1) - 0.5)
            if i < len(filters):
                self.factors.append(torch.zeros(channels, fan_out, 1))
        self.register_buffer("medians", torch.zeros(channels))
        self.fixed_medians = FixedMedians(channels) if learned_medians else None
        self.tables = TableBuffer()

    def logits_cumulative(self, x: Tensor) -> Tensor:
        """Evaluate the logit of each channel's cumulative distribution.

        Args:
            x: (C, 1, N) float.

        Returns:
            (C, 1, N) logits, increasing in ``x``.
        """
        for i, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            x = F.softplus(matrix) @ x + bias
            if i < len(self.factors):
                x = x + torch.tanh(self.factors[i]) * torch.tanh(x)
        return x

    def likelihood(self, z: Tensor) -> Tensor:
        """Mass on the unit interval around each value.

        Args:
            z: (B, C, ...) float.

        Returns:
            Probability like ``z``, in [1e-9, 1].
        """
        values = z.float().transpose(0, 1).reshape(self.channels, 1, -1)
        lower, upper = self.logits_cumulative(values - 0.5), self.logits_cumulative(values + 0.5)
        # Evaluate on the side of the tail, where the difference of two sigmoids keeps its digits.
        sign = torch.where(lower + upper > 0, -1.0, 1.0)
        mass = (torch.sigmoid(sign * upper) - torch.sigmoid(sign * lower)).abs()
        shape = (z.shape[1], z.shape[0], *z.shape[2:])
        return soft_clamp(mass.reshape(shape).transpose(0, 1), _LIKELIHOOD_MIN, 1.0)

    def _centre(self, z: Tensor) -> Tensor:
        return self.medians.view(1, -1, *([1] * (z.dim() - 2)))

    def forward(self, z: Tensor) -> LatentOutput:
        """Quantise and estimate the rate.

        Args:
            z: (B, C, ...) float.

        Returns:
            Quantised latent and (B,) bits.
        """
        centre = self._centre(z)
        seen, rated = quantised(z - centre, self.quantiser if self.training else "ste")
        bits = -torch.log2(self.likelihood(rated + centre))
        return LatentOutput(seen + centre, bits.flatten(1).sum(1))

    @torch.no_grad()
    def update_medians(self, steps: int = 60) -> None:
        """Set the medians to where the cumulative distributions cross one half, by bisection."""
        if not self.learned_medians:
            return
        low = torch.full((self.channels, 1, 1), -1e3)
        high = -low
        for _ in range(steps):
            mid = (low + high) / 2
            above = self.logits_cumulative(mid) > 0
            low, high = torch.where(above, low, mid), torch.where(above, mid, high)
        self.medians.copy_(((low + high) / 2).flatten())

    @torch.no_grad()
    def export(self) -> None:
        """Freeze the integer tables and medians that :meth:`encode` and :meth:`decode` use.

        Medians that were set before (by training, by import from another library) stay as they are: whatever reads the
        quantised latent was made for them. Where all are zero still, they are searched for now.
        """
        if not bool(self.medians.any()):
            self.update_medians()
        if self.fixed_medians is not None:
            self.fixed_medians.value.copy_(to_fixed(self.medians))
        reach = 64
        while True:
            values = torch.arange(-reach, reach + 1, dtype=torch.float32)[:, None] + self.medians
            pmf = self.likelihood(values).double().t()
            if float(1 - pmf.sum(1).min()) < 10 * _TAIL or reach >= _MAX_REACH:
                break
            reach *= 2
        pmfs, offsets = [], []
        for row in pmf.numpy():
            likely = np.flatnonzero(row > _TAIL)
            low, high = (int(likely[0]), int(likely[-1])) if len(likely) else (reach, reach)
            inside = row[low : high + 1]
            pmfs.append(np.append(inside, max(0.0, 1.0 - float(inside.sum()))))
            offsets.append(low - reach)
        self.tables.set(CdfTables.from_pmfs(pmfs, offsets))

    def dequantise(self, symbols: Tensor) -> Tensor:
        """Add the medians to decoded symbols.

        Args:
            symbols: (B, C, ...) integers of any type.

        Returns:
            (B, C, ...) float64 integers, Q13.10.
        """
        values = symbols.double() * (1 << FRACTION_BITS)
        if self.fixed_medians is not None:
            values += self.fixed_medians.value.double().view(1, -1, *([1] * (values.dim() - 2)))
        return values.clamp_(-ACTIVATION_MAX, ACTIVATION_MAX)

    def _table_index(self, shape: tuple[int, ...]) -> Int32Array:
        plane = math.prod(shape[1:])
        return np.repeat(np.arange(shape[0], dtype=np.int32), plane)

    def encode(self, z: Tensor, writer: SymbolWriter) -> Tensor:
        """Write one latent, channel by channel.

        Args:
            z: (1, C, ...) float.
            writer: Where the symbols go.

        Returns:
            (1, C, ...) int64 symbols; the quantised latent is these plus the medians.

        Raises:
            UnsupportedError: If the prior was not exported.
        """
        wanted = torch.round(z - self._centre(z)).to(torch.int64)[0].cpu().numpy().reshape(-1)
        symbols = writer.write(wanted, self._table_index(tuple(z.shape[1:])), self.tables.get())
        return torch.from_numpy(symbols.astype(np.int64)).reshape(z.shape)

    def decode(self, shape: tuple[int, ...], reader: SymbolReader) -> Tensor:
        """Read back what :meth:`encode` wrote.

        Args:
            shape: (C, ...) shape of one latent.
            reader: Where the symbols come from.

        Returns:
            (1, C, ...) int64 symbols.
        """
        symbols = reader.read(self._table_index(shape), self.tables.get())
        return torch.from_numpy(symbols.astype(np.int64)).reshape(1, *shape)

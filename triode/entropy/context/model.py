"""The coding loop of every conditional Gaussian entropy model; the schedule and the parameter network vary."""

from __future__ import annotations

from typing import Any, Protocol, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from triode.entropy.coder import SymbolReader, SymbolWriter
from triode.entropy.context.schedule import Entry, Schedule
from triode.entropy.exact.layers import ACTIVATION_MAX, FRACTION_BITS, exact_twin
from triode.entropy.exact.state import TableBuffer
from triode.entropy.gaussian import SCALE_COUNT, gaussian_bits, gaussian_tables
from triode.entropy.outputs import LatentOutput
from triode.entropy.quantize import Quantiser, quantised
from triode.entropy.rdoq import chosen, shrink
from triode.entropy.tables import CdfTables, Int32Array
from triode.errors import UnsupportedError

_ONE = 1 << FRACTION_BITS


class ParameterNetwork(Protocol):
    """Predicts the distribution of the elements of one step; a module that :func:`exact_twin` can convert."""

    def __call__(self, step: int, y_hat: Tensor, hyper: Tensor, q: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Return a (mean, ladder index) pair of maps for each entry of the step.

        Args:
            step: Number of the step.
            y_hat: (B, M, h, w) elements decoded so far, zero elsewhere.
            hyper: (B, H, h, w) features of the hyper-decoder.
            q: (B,) rate points.
        """
        ...


class StagedNetwork(ParameterNetwork, Protocol):
    """A parameter network of which several steps in a row share a costly part."""

    def stage(self, step: int, y_hat: Tensor, hyper: Tensor, features: Tensor, q: Tensor) -> Tensor:
        """Return what the network gets as ``hyper`` in this step; called once before each step.

        Args:
            step: Number of the step.
            y_hat: (B, M, h, w) elements decoded so far, zero elsewhere.
            hyper: (B, H, h, w) features of the hyper-decoder.
            features: What this function returned for the step before; ``hyper`` for the first.
            q: (B,) rate points.
        """
        ...


def stage_features(
    net: nn.Module | None, step: int, y_hat: Tensor, hyper: Tensor, features: Tensor, q: Tensor
) -> Tensor:
    """Return the features of a step: the network's own where it makes any, else the hyper-decoder's."""
    if not hasattr(net, "stage"):
        return hyper
    return cast(StagedNetwork, net).stage(step, y_hat, hyper, features, q)


class ContextModel(nn.Module):
    """Codes a latent step by step, each step Gaussian given the hyper-features and all steps before.

    Elements whose ladder index is 0 (standard deviation 0.11: one in 200,000 is not zero) are not coded at all: their
    residual is zero by definition, which saves the coder most of its work at low rates.

    Args:
        schedule: The coding order.
        parameters: The :class:`ParameterNetwork`.
    """

    quantiser: Quantiser = "mixed"
    """Stand-in for rounding while training; evaluation rounds."""
    fitted: CdfTables | None = None
    """Tables to export in place of Gaussians: what symbols were met with at each index of the ladder."""

    def __init__(self, schedule: Schedule, parameters: nn.Module) -> None:
        super().__init__()
        self.schedule = schedule
        self.parameter_net = parameters
        self.exact: nn.Module | None = None
        self.tables = TableBuffer()

    def forward(self, y: Tensor, hyper: Tensor, q: Tensor, weight: Tensor | None = None) -> LatentOutput:
        """Quantise around the means and estimate the rate.

        Args:
            y: (B, M, h, w) float; h and w multiples of ``schedule.multiple``.
            hyper: (B, H, h, w) float.
            q: (B,) rate points.
            weight: (B, M) price of a squared error of one unit in each channel, in bits. When given, symbols are those
                that :meth:`encode` chooses by it, not those of the quantiser; the latent moves with the means.

        Returns:
            Quantised latent and (B,) bits.
        """
        net = cast(ParameterNetwork, self.parameter_net)
        y_hat = torch.zeros_like(y)
        bits = torch.zeros(y.shape[0], device=y.device)
        features = hyper
        for number, step in enumerate(self.schedule.steps):
            features = stage_features(self.parameter_net, number, y_hat, hyper, features, q)
            maps = net(number, y_hat, features, q)
            y_hat = y_hat.clone()
            for entry, (mean, index) in zip(step, maps, strict=True):
                residual = entry.view(y).float() - mean.float()
                if weight is None:
                    seen, rated = quantised(residual, self.quantiser if self.training else "ste")
                else:
                    price = weight[:, entry.start : entry.stop, None, None]
                    seen = chosen(residual.detach(), index.detach(), price)
                    rated = residual + (seen - residual).detach()
                bits = bits + gaussian_bits(rated, index)
                entry.view(y_hat).copy_(mean.float() + seen)
        return LatentOutput(y_hat, bits)

    def export(self) -> None:
        """Freeze the integer twin of the parameter network and the tables."""
        self.exact = exact_twin(self.parameter_net)
        self.tables.set(gaussian_tables() if self.fitted is None else self.fitted)

    def _exact_maps(self, step: int, y_hat: Tensor, hyper: Tensor, q: Tensor) -> list[tuple[Tensor, Tensor]]:
        if self.exact is None:
            raise UnsupportedError("This entropy model has no integer networks yet: export the model, or load weights")
        means, indices = zip(*cast(ParameterNetwork, self.exact)(step, y_hat, hyper, q), strict=True)
        # All entries at once: calls cost more than what they compute.
        joined = torch.cat(indices, 1).add_(_ONE // 2).mul_(2.0**-FRACTION_BITS).clamp_(0, SCALE_COUNT - 1)
        joined = joined.to(torch.uint8)  # Which cuts off the fraction.
        return list(zip(means, torch.split(joined, [i.shape[1] for i in indices], 1), strict=True))

    @torch.no_grad()
    def encode(
        self,
        y: Tensor,
        hyper: Tensor,
        q: Tensor,
        writer: SymbolWriter,
        valid: tuple[int, int],
        weight: Tensor | None = None,
    ) -> Tensor:
        """Write one latent.

        Args:
            y: (1, M, h, w) float.
            hyper: (1, H, h, w) integers, Q13.10, in float64; in float32 of narrow networks.
            q: (1,) integer rate point.
            writer: Where the symbols go.
            valid: Rows and columns that carry data; elements outside are padding and take their means.
            weight: (M,) what a squared error of one unit costs in each channel, in bits. When given, a symbol moves one
                step towards zero where that saves more bits than it costs; the decoder needs no notice of it.

        Returns:
            (1, M, h, w) integers, Q13.10, of the type of ``hyper``: the quantised latent.
        """
        y_hat = torch.zeros(y.shape, dtype=hyper.dtype)
        source, features = y.double(), hyper
        for number, step in enumerate(self.schedule.steps):
            features = stage_features(self.exact, number, y_hat, hyper, features, q)
            maps = self._exact_maps(number, y_hat, features, q)
            wanted = [
                _crop(entry.view(source) - m * 2.0**-FRACTION_BITS, entry, valid)
                for entry, (m, _) in zip(step, maps, strict=True)
            ]
            index = _flatten([_crop(i, e, valid) for e, (_, i) in zip(step, maps, strict=True)])
            coded = np.flatnonzero(index != 0)  # Of Booleans, which NumPy has a quick way for.
            symbols = np.zeros(len(index), dtype=np.int32)
            values = np.clip(_flatten(wanted)[coded], -(2.0**30), 2.0**30)
            rounded = np.rint(values).astype(np.int32)
            if weight is not None:
                pairs = zip(step, wanted, strict=True)
                costs = [weight[entry.start : entry.stop, None, None].expand_as(w[0]) for entry, w in pairs]
                shrink(values, rounded, index[coded], self.tables.get(), _flatten(costs)[coded])
            symbols[coded] = writer.write(rounded, index[coded], self.tables.get())
            self._place(y_hat, step, maps, symbols, valid)
        return y_hat

    @torch.no_grad()
    def decode(
        self, shape: tuple[int, int, int], hyper: Tensor, q: Tensor, reader: SymbolReader, valid: tuple[int, int]
    ) -> Tensor:
        """Read back what :meth:`encode` wrote; arguments as there, ``shape`` being (M, h, w)."""
        y_hat, features = torch.zeros((1, *shape), dtype=hyper.dtype), hyper
        for number, step in enumerate(self.schedule.steps):
            features = stage_features(self.exact, number, y_hat, hyper, features, q)
            maps = self._exact_maps(number, y_hat, features, q)
            index = _flatten([_crop(i, e, valid) for e, (_, i) in zip(step, maps, strict=True)])
            coded = np.flatnonzero(index != 0)  # Of Booleans, which NumPy has a quick way for.
            symbols = np.zeros(len(index), dtype=np.int32)
            symbols[coded] = reader.read(index[coded], self.tables.get())
            self._place(y_hat, step, maps, symbols, valid)
        return y_hat

    @staticmethod
    def _place(
        y_hat: Tensor,
        step: tuple[Entry, ...],
        maps: list[tuple[Tensor, Tensor]],
        symbols: Int32Array,
        valid: tuple[int, int],
    ) -> None:
        """Set the elements of a step to mean plus symbol, saturating at Q13.10."""
        # Exact in float32, too: 24 bits and a power of two; sums beyond 24 bits are limited anyway.
        values = torch.from_numpy(symbols).to(y_hat.dtype).mul_(float(_ONE))
        start = 0
        for entry, (mean, _) in zip(step, maps, strict=True):
            rows, columns = entry.valid(*valid)
            count = mean.shape[1] * rows * columns
            target, inner = entry.view(y_hat), mean[:, :, :rows, :columns]
            if inner.shape != mean.shape:
                target.copy_(mean)
            part = values[start : start + count].view(inner.shape)
            torch.add(inner, part, out=target[:, :, :rows, :columns])
            start += count
        y_hat.clamp_(-ACTIVATION_MAX, ACTIVATION_MAX)


def _crop(x: Tensor, entry: Entry, valid: tuple[int, int]) -> Tensor:
    rows, columns = entry.valid(*valid)
    return x[:, :, :rows, :columns]


def _flatten(parts: list[Tensor]) -> NDArray[Any]:
    flat: NDArray[Any] = torch.cat([p.reshape(-1) for p in parts]).numpy()
    return flat
